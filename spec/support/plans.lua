--- support/plans - plans that are run over support/fake_world, and what became of them.
---
---   local L, world, journal, kinds = plans.given(defaults)    an empty ledger over it
---   plans.fails(world, "loop1", ...)                          whatever removes these effects fails, before it does anything
---   local report = plans.execute(L, "vm/pod/ctr", "stop")     "delete" when no goal is told; a fourth is more of the plan
---   plans.outcomes(report)["disk-4"]                          "done", "gone", "failed", "skipped"
---   plans.names(L:all())                                      of receipts
---   plans.reloaded(journal)                                   the ledger as another process would find it
local fake = require "support.fake_world"
local journal = require "moonshim.journal"
local ledger = require "moonshim.ledger"
local plan = require "moonshim.plan"
local task = require "moonshim.task"

local plans = {}

function plans.given(defaults)
  local world, j = fake.new(), journal.memory()
  local kinds = fake.kinds(defaults)
  local L = ledger.open { journal = j, world = world, kinds = kinds, log = task.log() }
  return L, world, j, kinds
end

function plans.reloaded(j)
  return ledger.open { journal = journal.memory(j:bytes()), world = fake.new(), kinds = fake.kinds(), log = task.log() }
end

function plans.execute(L, owner, goal, extra)
  local spec = { owner = owner, goal = goal or "delete", order = fake.ORDER }
  for k, v in pairs(extra or {}) do spec[k] = v end
  return plan.execute(L, spec)
end

function plans.fails(world, ...)
  local names = {}
  for i = 1, select("#", ...) do names[select(i, ...)] = true end
  function world.fault(_, op, name)
    return op ~= "make" and names[name] and "before" or nil
  end
end

function plans.outcomes(report)
  local t = {}
  for _, line in ipairs(report.steps) do t[line.name] = line.outcome end
  return t
end

function plans.names(list)
  local t = {}
  for i, r in ipairs(list) do t[i] = r.name end
  return t
end

return plans

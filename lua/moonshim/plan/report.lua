--- plan/report - what became of a plan: a line for every step, and whether it came to its aim.
--
-- Always  1. a report is made when nothing runs any more: each step has come to an outcome.
--         2. the error is what failed first by itself; a step that was only kept back by another is named when none did.
--         3. a debt is a success, except of the whole VM: nobody is left to owe it. A hook fails a plan only when it says so.
-- Who joined the run of a parent gets the part that concerns him, with an outcome and an error of its own.

local Book = require "moonshim.ledger.book"
local err = require "moonshim.err"
local task = require "moonshim.task"

local report = {}

---@class moonshim.Report
---@field ok boolean nothing is left of what the plan was for, except debts that the VM has taken over
---@field owner string
---@field goal string
---@field steps { name: string, kind: string, owner: string, outcome: string, ms: integer, attempts: integer, error: moonshim.Err? }[]
---outcome: done, gone, failed, skipped, debt
---@field error moonshim.Err? what failed first
---@field debts string[] receipts that the VM owes now
---@field ms integer
---@field fallback moonshim.Err? why the edits were not used (plan.execute)

-- Of a report whose lines are there.
local function conclude(it, whole_vm)
  local failure, consequence
  it.debts = {}
  for _, line in ipairs(it.steps) do
    if line.outcome == "debt" then
      it.debts[#it.debts + 1] = line.name
    end
    local bad
    if line.kind == "hook" then
      bad = line.outcome == "failed" and line.on_failure == "stop"
    else
      bad = line.outcome == "failed" or line.outcome == "skipped" or (line.outcome == "debt" and whole_vm)
    end
    if bad and line.attempts > 0 then
      failure = failure or line
    elseif bad then
      consequence = consequence or line
    end
  end
  local line = failure or consequence
  it.ok = line == nil
  it.error = line and err.wrap(line.error, line.name)
  return it
end

---@param p moonshim.Plan
---@param states table<moonshim.Step, { outcome: string, ms: integer, attempts: integer, error: moonshim.Err? }>
---@param started integer when its run began
---@return moonshim.Report
function report.of(p, states, started)
  local it = { owner = p.owner, goal = p.goal, steps = {}, ms = task.now() - started }
  for i, step in ipairs(p.steps) do
    local state = states[step]
    it.steps[i] = {
      name = step.name, kind = step.kind, owner = step.owner, outcome = state.outcome, ms = state.ms, attempts = state.attempts,
      error = state.error, on_failure = step.on_failure,
    }
  end
  return conclude(it, not p.owner:find("/", 1, true))
end

---The part of a report that concerns `owner`: for those who joined the run of a parent.
---@param it moonshim.Report
---@param owner string
---@return moonshim.Report
function report.below(it, owner)
  if it.owner == owner or not Book.is_below(owner, it.owner) then
    return it
  end
  local part = { owner = owner, goal = it.goal, steps = {}, ms = it.ms, fallback = it.fallback }
  for _, line in ipairs(it.steps) do
    if Book.is_below(line.owner, owner) then
      part.steps[#part.steps + 1] = line
    end
  end
  return conclude(part, false)
end

return report

--- plan - how things go away. Stop, delete, roll-back, crash clean-up and retry are one act: derive a plan from what is
--- still held, look at it, edit it within safe limits, run it.
--
--   local p = plan.derive(ledger, { owner = "vm/pod/web", goal = "stop", order = teardown.order })
--   print(p)                                            -- deriving and printing change nothing
--   p:before("scratch", { name = "flush", within = "5s", on_failure = "continue", run = flush })
--   p:tune("layer", { retries = 3, backoff = "200ms", on_failure = "debt" })
--   local report = p:run()
--
-- Words   goal = delete (release what is left, never signal), stop (the ladder, then delete), roll_back (delete of what a
--         failed create had reached), crash (nobody else lives: end the VM first, then what the host still holds).
--         hook = a step that an edit added. debt = a receipt that the VM owes from now on.
-- Order   What needs a receipt goes before it; nothing else is mandatory. Where that leaves a choice, the order list of
--         kinds decides (kinds it does not know go first), then the younger goes before the older.
-- Failure of a step, after its retries:
--         stop      nothing that depends on it starts, nor anything else of the same container; the plan fails
--         continue  the receipt stays, the rest runs, the plan fails
--         debt      the VM owes it, and whatever it still needs; the plan succeeds, later operations retry
--         Ending the VM asks for completion, not success, of what comes before it: a failure never keeps a VM alive. What
--         dies with it is settled by that; what failed or was skipped before, and does not, gets one more go.
-- Parts   plan/graph.lua order · plan/edit.lua before, after, tune, order · plan/check.lua validate · plan/print.lua ·
--         plan/run.lua the engine · plan/attempt.lua one step · plan/report.lua what became of all.
--         This file: what a plan is made of, and who may run one.

local Book = require "moonshim.ledger.book"
local check = require "moonshim.plan.check"
local edit = require "moonshim.plan.edit"
local err = require "moonshim.err"
local graph = require "moonshim.plan.graph"
local print_plan = require "moonshim.plan.print"
local reports = require "moonshim.plan.report"
local run_plan = require "moonshim.plan.run"
local task = require "moonshim.task"

local plan = {}

---@class moonshim.Step
---@field name string of the receipt, or of the hook
---@field kind string "hook" for hooks
---@field owner string
---@field after string[] steps that must have ended before this one may start
---@field soft table<string, true> those of `after` whose failure does not matter
---@field within integer milliseconds for all attempts together
---@field retries integer
---@field backoff integer milliseconds before the first retry; doubles
---@field on_failure string "stop", "continue" or "debt"
---@field args table goes to release: the ladder of a process, what an operator tuned
---@field hook boolean
---@field ends_world boolean it ends the VM: see Failure
---@field receipt moonshim.Receipt?
---@field refusal moonshim.Err? why this program cannot release it (unknown kind or version)

---@class moonshim.Plan
---@field owner string
---@field goal string
---@field reason string?
---@field steps moonshim.Step[] in the printed order
---@field settled table<string, string> receipts without a step of their own, and what they die with
local Plan = {}
Plan.__index = Plan

local GOALS = { delete = true, stop = true, roll_back = true, crash = true }

-- A kind says `stop` unless it has a reason; these goals have nobody to come back for the rest.
local INSTEAD_OF_STOP = { crash = "continue", roll_back = "debt" }

local DEFAULT_LADDER = { { "TERM", wait = 10000 }, { "KILL", wait = 10000 } }

-- ---------------------------------------------------------------------------------------------------------------
-- Which receipts

local function root_of(owner)
  return owner:match("^[^/]+")
end

-- spec.include as a predicate.
local function wanted(include)
  if type(include) == "function" then
    return include
  end
  return function(r)
    for _, entry in ipairs(include) do
      if r.name == entry or Book.is_below(r.owner, entry) then
        return true
      end
    end
    return false
  end
end

-- Everything that goes: what is below the owner, what the caller includes, and debts of the VM that stand on one of these.
local function gather(ledger, spec)
  local set, queue = {}, ledger:under(spec.owner)
  local also = spec.include and wanted(spec.include)
  for _, r in ipairs(also and ledger:all() or {}) do
    if also(r) then
      queue[#queue + 1] = r
    end
  end
  for _, r in ipairs(queue) do
    set[r] = true
  end
  local i = 1
  while queue[i] do
    for _, other in ipairs(ledger:needed_by(queue[i])) do
      local debt = other.state == "owed" and other.owner == root_of(spec.owner)
      if debt and not set[other] and not ledger:killer(other, set) then
        set[other] = true
        queue[#queue + 1] = other
      end
    end
    i = i + 1
  end
  return set
end

local function refuse_outside(ledger, set, spec)
  for r in pairs(set) do
    for _, other in ipairs(ledger:needed_by(r)) do
      if not set[other] and not (other.state == "owed" and ledger:killer(other, set)) then
        err.raise("failed_precondition", "cannot %s %s: %s of %s needs %s", spec.goal, spec.owner, other.name, other.owner, r.name)
      end
    end
  end
end

-- ---------------------------------------------------------------------------------------------------------------
-- Which steps, and what comes before what

local function step_of(ledger, r, spec)
  local goal = spec.goal
  local step = {
    name = r.name, kind = r.kind, owner = r.owner, after = {}, soft = {}, hook = false, receipt = r, seq = r.seq, args = {},
    ends_world = false,
  }
  local k, refusal = ledger:kind_of(r)
  if not k then
    step.refusal, step.within, step.retries, step.backoff = refusal, 0, 0, 0
    step.on_failure = goal == "crash" and "continue" or "debt"
    return step
  end
  local d = k.defaults
  step.within, step.retries, step.backoff = d.within, d.retries, d.backoff
  step.on_failure = d.on_failure == "stop" and INSTEAD_OF_STOP[goal] or d.on_failure
  step.ends_world = k.ends_world
  if step.ends_world and step.on_failure == "debt" then
    step.on_failure = "continue"
  elseif goal ~= "crash" and r.state == "owed" and not Book.is_below(r.owner, spec.owner) then
    step.on_failure = "debt" -- taken along: the VM owes it already
  end
  for key, value in pairs(d.args) do
    step.args[key] = value
  end
  if r.kind == "process" and step.args.ladder == nil then
    step.args.ladder = goal == "stop" and DEFAULT_LADDER or {}
    step.within = math.max(step.within, edit.ladder_time(step.args.ladder))
  end
  return step
end

-- The mandatory order is reverse `needs`. Into what ends the world, and into what a receipt dies with, an edge asks for
-- completion only; where `needs` leads there already (nearly always: by the bridge), none is added. `steps` are oldest
-- first, so what a receipt needs has been looked at before it.
local function connect(ledger, steps, by_name)
  local deadly, leads_to = {}, {}
  for _, step in ipairs(steps) do
    for _, name in ipairs(step.receipt.dies_with) do
      deadly[name] = true
    end
  end
  for _, step in ipairs(steps) do
    local ends = {} -- deadly ones that come after this step, whatever the way
    leads_to[step.name] = ends
    for _, name in ipairs(step.receipt.needs) do
      local needed = by_name[name]
      if needed then
        graph.add(needed, step.name, needed.ends_world or ledger:killer(step.receipt, { [needed.receipt] = true }) ~= nil)
        ends[name] = deadly[name]
        for other in pairs(leads_to[name] or {}) do
          ends[other] = true
        end
      end
    end
    for _, name in ipairs(step.receipt.dies_with) do
      if by_name[name] and not ends[name] then
        graph.add(by_name[name], step.name, true)
        ends[name] = true
      end
    end
  end
end

-- The VM goes last, whatever the receipts say of it: it waits for all that nobody else waits for.
local function vm_last(steps, by_name)
  local waited_for = {}
  for _, step in ipairs(steps) do
    for _, name in ipairs(step.after) do
      waited_for[name] = true
    end
  end
  for _, vm in ipairs(steps) do
    for _, step in ipairs(vm.ends_world and steps or {}) do
      if not step.ends_world and not waited_for[step.name] and not graph.reaches(by_name, vm.name, step.name) then
        graph.add(vm, step.name, true)
      end
    end
  end
end

-- After a crash nobody answers for the guest: the VM ends first, and all else is what the host still holds.
local function vm_first(steps)
  for _, vm in ipairs(steps) do
    if vm.ends_world then
      vm.after, vm.soft = {}, {}
      for _, step in ipairs(steps) do
        if not step.ends_world then
          graph.add(step, vm.name, true)
        end
      end
    end
  end
end

---Derives the plan. Changes nothing and asks nobody but the ledger.
---@param ledger moonshim.Ledger
---@param spec { owner: string, goal: string, order: string[]?, reason: string?, include: string[]|function|nil }
---include: owners or receipt names (or a predicate) that go along although they are not below `owner`.
---@return moonshim.Plan
function plan.derive(ledger, spec)
  if not GOALS[spec.goal] then
    err.raise("invalid_argument", "no such goal: %s (delete, stop, roll_back, crash)", tostring(spec.goal))
  end
  local set = gather(ledger, spec)
  refuse_outside(ledger, set, spec)

  local self = setmetatable({
    owner = spec.owner, goal = spec.goal, reason = spec.reason, ledger = ledger, steps = {}, by_name = {}, settled = {},
    preference = edit.copy_list(spec.order or {}), preferences = {},
  }, Plan)
  for r in pairs(set) do
    local end_of_it = spec.goal == "crash" and ledger:killer(r, set)
    if end_of_it then
      self.settled[r.name] = end_of_it.name
    else
      local step = step_of(ledger, r, spec)
      self.steps[#self.steps + 1] = step
      self.by_name[step.name] = step
    end
  end
  table.sort(self.steps, function(a, b)
    return a.seq < b.seq
  end)
  connect(ledger, self.steps, self.by_name)
  if spec.goal == "crash" then
    vm_first(self.steps)
  else
    vm_last(self.steps, self.by_name)
  end
  self:arrange()
  return self
end

---Puts the steps into the printed order, which is total.
function Plan:arrange()
  self.steps = graph.sort(self.steps, self.by_name, self.preference, self.preferences)
end

-- Edits: see plan/edit.lua.
Plan.before, Plan.after, Plan.tune, Plan.order, Plan.only = edit.before, edit.after, edit.tune, edit.order, edit.only

---Raises, with the reason, unless the plan is one that may run: every receipt has its step, every `needs` its order,
---no cycle, every limit is sane.
---@return boolean true
Plan.validate = check.validate

---The plan as a table for people, as JSON for machines.
---@return string
Plan.table, Plan.json, Plan.__tostring = print_plan.table, print_plan.json, print_plan.table

---Runs the plan in the current task; needs nobody's leave, so most callers want plan.execute. A cancel starts no further
---step and lets the running ones finish.
---@async
---@param opts { width: integer?, again_within: integer?, on_step: function?, ctx: any }? width: steps at once within a container,
---default 1; again_within: milliseconds that a step gets which has one more go after the end of the VM, at most.
---on_step(step, what, detail): what is start, retry, done, gone, failed, skipped, debt or again. ctx goes to hooks.
---@return moonshim.Report
Plan.run = run_plan.run

-- ---------------------------------------------------------------------------------------------------------------
-- Who runs it

-- The run that covers `owner`: its own or that of a parent.
local function covering(ledger, owner)
  local path = owner
  while path do
    if ledger.runs[path] then
      return ledger.runs[path]
    end
    path = path:match("^(.*)/[^/]*$")
  end
end

local function below(ledger, owner)
  local jobs = {}
  for path, job in pairs(ledger.runs) do
    if path ~= owner and Book.is_below(path, owner) then
      jobs[#jobs + 1] = job
    end
  end
  return jobs
end

local function ends_world(ledger, owner)
  for _, r in ipairs(owner:find("/", 1, true) and {} or ledger:under(owner)) do
    local k = ledger:kind_of(r)
    if k and k.ends_world then
      return true
    end
  end
  return false
end

-- The run of a parent takes over from the runs below: they begin nothing more. Their running steps are waited for, except
-- by a plan that ends the VM: a guest that is silent must not keep it, and each receipt has its lock.
local function take_over(ledger, owner)
  local patient = not ends_world(ledger, owner)
  local jobs = below(ledger, owner)
  while jobs[1] do
    for _, job in ipairs(jobs) do
      job.gave_way = true
      if job.engine then
        run_plan.give_way(job.engine)
      end
    end
    if not patient then
      return
    end
    jobs[1].over:wait()
    jobs = below(ledger, owner)
  end
end

-- A script that fails must not block a delete: the plan without edits runs then, and the report says so.
local function edited(ledger, spec)
  local p = plan.derive(ledger, spec)
  if not spec.edit or spec.goal == "crash" then
    return p
  end
  local ok, e = pcall(function()
    spec.edit(p)
    p:validate()
  end)
  if ok then
    return p
  elseif err.is(e, "cancelled") then
    error(e, 0)
  end
  ledger.log:warn("the edits of a plan failed; the default plan runs", { owner = spec.owner, goal = spec.goal, error = e })
  return plan.derive(ledger, spec), err.from(e)
end

local function carry_out(ledger, spec, job)
  take_over(ledger, spec.owner)
  ledger:settle(spec.owner)
  local p, fallback = edited(ledger, spec)
  local report = p:run {
    width = spec.width, again_within = spec.again_within, on_step = spec.on_step, ctx = spec.ctx,
    on_engine = function(engine)
      job.engine = engine
      if job.gave_way then -- before it had begun
        run_plan.give_way(engine)
      end
    end,
  }
  report.fallback = fallback
  return report
end

local function start(ledger, spec)
  local job = { over = task.signal(), goal = spec.goal }
  ledger.runs[spec.owner] = job
  ledger:close_owner(spec.owner)
  -- A task of its own: who asked may stop waiting, the run goes on.
  task.detach(function()
    local ok, result = xpcall(carry_out, err.traceback, ledger, spec, job)
    ledger:reopen_owner(spec.owner)
    ledger.runs[spec.owner] = nil
    job.over:fire(ok, result)
  end)
  return job
end

-- What a delete cannot do, since it signals nobody.
local MORE_THAN_DELETE = { stop = true, roll_back = true }

---Derives and runs: one run per owner and everything below it. Whoever comes second joins the run that is going on and
---gets its outcome; its own deadline or cancel ends only its own wait. The run of a parent takes over from those below it,
---whose callers get its outcome. A stop that joined a delete goes on by itself when that came to nothing. While a run goes
---on its owner is closing; what was being acquired is settled first.
---@async
---@param ledger moonshim.Ledger
---@param spec table owner, goal, order, reason, include, edit, width, again_within, on_step, ctx
---as for derive and run; edit(p) changes the plan before it runs.
---@return moonshim.Report
function plan.execute(ledger, spec)
  local joined = covering(ledger, spec.owner)
  local job = joined or start(ledger, spec)
  local ok, result = job.over:wait()
  if not ok then
    error(result, 0)
  end
  local report = reports.below(result, spec.owner)
  if report.ok then
    return report
  elseif job.gave_way or joined and job.goal == "delete" and MORE_THAN_DELETE[spec.goal] then
    return plan.execute(ledger, spec)
  end
  return report
end

---Retries what the VM owes, as far as nothing else stands on it. What fails again stays owed.
---@async
---@param spec { owner: string, order: string[]?, on_step: function? } owner: the VM
---@return moonshim.Report? nil when nothing is owed
function plan.retry_debts(ledger, spec)
  local function owed(r)
    return r.state == "owed" and ledger:kind_of(r) ~= nil
  end
  local function free(r)
    for _, other in ipairs(ledger:needed_by(r)) do
      if not (owed(other) and free(other)) then
        return false
      end
    end
    return owed(r)
  end
  local any = false
  for _, r in ipairs(ledger:debts()) do
    any = any or free(r)
  end
  if not any then
    return nil
  end
  return plan.execute(ledger, {
    owner = spec.owner .. "/(debts)", goal = "delete", order = spec.order, reason = "what is owed", include = free,
    on_step = spec.on_step,
    edit = function(p)
      for _, step in ipairs(p.steps) do
        step.on_failure = step.ends_world and "continue" or "debt"
      end
    end,
  })
end

return plan

--- plan/run - the engine: starts the steps that may start, believes what comes back, and writes it down.
--
-- Always  1. a step starts only when what it waits for has ended well (a soft edge: has ended) and nothing that is left in
--            the ledger needs its receipt.
--         2. every step is shielded and has its own deadline; a cancelled run starts nothing more and waits for the rest.
--         3. a receipt leaves the ledger only here, on the word of its release: done, gone, or (check_release) verified.
--         4. a run that gives way (to that of a parent) starts nothing more; what it has not begun is the other's.
-- At most `width` steps of one container run at once, and LIMIT in all. What a pod or the VM holds itself has its turn
-- when nothing below it is left to do, unless everything else waits for just that. What gets one more go after the end of
-- the VM is the host's alone, and in nobody's way: all of it runs at once, each step for at most `again_within`.

local attempt = require "moonshim.plan.attempt"
local err = require "moonshim.err"
local report = require "moonshim.plan.report"
local task = require "moonshim.task"

local run_plan = {}

local LIMIT = 64

-- vm/pod/container/exec counts as the container's.
local function group_of(owner)
  return owner:match("^[^/]+/[^/]+/[^/]+") or owner
end

local function tell(self, step, what, detail)
  if self.on_step then
    local ok, e = pcall(self.on_step, step, what, detail)
    if not ok then
      self.ledger.log:error("on_step failed", { step = step.name, error = e })
    end
  end
end

-- ---------------------------------------------------------------------------------------------------------------
-- What an outcome means for the others

-- state.outcome is nil until the step has its turn, then "running", then what it came to.
local function went_well(state)
  return state.outcome == "done" or state.outcome == "gone"
end

local function went_badly(state)
  return state.outcome == "failed" or state.outcome == "skipped" or state.outcome == "debt"
end

-- The steps that may be looked at, in the printed order.
local function make_ready(self, step)
  local ready, index = self.ready, self.state[step].index
  local low, high = 1, #ready + 1
  while low < high do
    local middle = (low + high) // 2
    if self.state[ready[middle]].index < index then
      low = middle + 1
    else
      high = middle
    end
  end
  table.insert(ready, low, step)
end

-- A step has come to its end, or (not over any more) is to be done again.
local function count(self, step, change)
  for _, follower in ipairs(self.followers[step.name] or {}) do
    local state = self.state[follower]
    state.waits = state.waits + change
    if change < 0 and state.waits == 0 and state.outcome == nil then
      make_ready(self, follower)
    end
  end
end

-- Steps that are not over, by owner: its own, and all below it.
local function tally(self, step, change)
  local path = step.owner
  self.own[path] = (self.own[path] or 0) + change
  while path do
    self.all[path] = (self.all[path] or 0) + change
    path = path:match("^(.*)/[^/]*$")
  end
end

local function come_to(self, step, outcome, e)
  local state = self.state[step]
  local first = not went_well(state) and not went_badly(state)
  state.outcome, state.error = outcome, e
  if first then
    tally(self, step, -1)
    count(self, step, -1)
  end
end

-- The receipt is out: so are those that died with it. When that was the end of the VM, what failed or never had its turn
-- gets one more go, since there is no guest left to say no.
local function left_the_ledger(self, step, how)
  for _, r in ipairs(self.ledger:released(step.receipt, how)) do
    local other = self.plan.by_name[r.name]
    if other and went_badly(self.state[other]) then
      come_to(self, other, "gone")
      tell(self, other, "gone", "with " .. step.name)
    end
  end
  if not step.ends_world then
    return
  end
  self.halted = {}
  local again = {}
  for _, other in ipairs(self.plan.steps) do
    local state = self.state[other]
    if other.receipt and went_badly(state) and not state.again then
      state.again, state.outcome, state.error = true, nil, nil
      tally(self, other, 1)
      count(self, other, 1)
      again[#again + 1] = other
    end
  end
  for _, other in ipairs(again) do
    tell(self, other, "again", step.name .. " has ended")
    if self.state[other].waits == 0 then
      make_ready(self, other)
    end
  end
end

local function owe(self, step, e, attempts)
  self.ledger:failed(step.receipt, e, attempts, self.root)
  come_to(self, step, "debt", e)
  tell(self, step, "debt", e)
end

local function failed(self, step, e, attempts)
  if step.on_failure == "debt" then
    return owe(self, step, e, attempts)
  elseif step.receipt then
    self.ledger:failed(step.receipt, e, attempts)
  end
  if step.on_failure == "stop" and not self.state[step].again then
    self.halted[group_of(step.owner)] = step
  end
  come_to(self, step, "failed", e)
  tell(self, step, "failed", e)
end

local function finished(self, step, outcome, attempts, e)
  local state = self.state[step]
  state.ms, state.attempts = state.ms + task.now() - state.since, state.attempts + attempts
  if step.receipt and self.ledger:get(step.name) ~= step.receipt then
    outcome = outcome == "done" and outcome or "gone" -- it left while we were at it: with the VM
  elseif outcome == "failed" then
    return failed(self, step, e, attempts)
  elseif step.receipt then
    left_the_ledger(self, step, outcome)
  end
  come_to(self, step, outcome)
  tell(self, step, outcome)
end

-- ---------------------------------------------------------------------------------------------------------------
-- Which step next

-- Why a step whose predecessors have all ended may not start after all, and whether that makes it a debt; nil = it may.
local function obstacle(self, step)
  for _, name in ipairs(step.after) do
    local state = self.state[self.plan.by_name[name]]
    if not went_well(state) and not step.soft[name] then
      local word = state.outcome == "debt" and "is owed" or state.outcome == "failed" and "failed" or "was not done"
      return ("%s %s"):format(name, word), state.outcome == "debt"
    end
  end
  if step.ends_world then
    return nil
  end
  local halted = self.halted[group_of(step.owner)]
  if halted and halted ~= step then
    return ("%s failed"):format(halted.name), false
  end
  for _, other in ipairs(step.receipt and self.ledger:needed_by(step.receipt) or {}) do
    local settled = other.state == "owed" and self.ledger:killer(other, self.included)
    if not step.soft[other.name] and not settled then
      return ("%s needs it"):format(other.name), other.state == "owed"
    end
  end
end

local function skip(self, step, why, as_debt)
  local e = err.new("failed_precondition", why)
  if as_debt and step.receipt then
    return owe(self, step, e, 0)
  end
  come_to(self, step, "skipped", e)
  tell(self, step, "skipped", e)
end

local function perform(self, step, group)
  local outcome, attempts, e
  if step.receipt then
    outcome, attempts, e = attempt.release(self.ledger, step, {
      goal = self.plan.goal, within = self.state[step].again and math.min(step.within, self.again_within) or step.within,
      stopping = function() return self.stopping end,
      on_retry = function(failure) tell(self, step, "retry", failure) end,
    })
  else
    outcome, attempts, e = attempt.hook(step, self.ctx)
  end
  self.running = self.running - 1
  self.busy[group] = self.busy[group] - 1
  finished(self, step, outcome, attempts, e)
end

local function start(self, step)
  local state, group = self.state[step], group_of(step.owner)
  state.outcome, state.since = "running", task.now()
  self.running = self.running + 1
  self.busy[group] = (self.busy[group] or 0) + 1
  tell(self, step, "start")
  task.spawn(function()
    task.shield(function()
      local ok, bug = xpcall(perform, err.traceback, self, step, group)
      self.wake:put(ok or { bug })
    end)
  end)
end

local function has_turn(self, step)
  local owner, group = step.owner, group_of(step.owner)
  return self.state[step].again or (self.busy[group] or 0) < self.width and (owner:find("/.*/") or self.all[owner] == self.own[owner])
end

-- Starts or skips what can be; returns whether anything changed. What becomes ready meanwhile is for the next look.
local function look(self)
  if self.stopping then
    return false
  end
  local ready, kept, changed = self.ready, {}, false
  self.ready = {}
  for i, step in ipairs(ready) do
    local state = self.state[step]
    if self.running >= LIMIT then
      table.move(ready, i, #ready, #kept + 1, kept)
      break
    elseif state.outcome == nil and state.waits == 0 then
      local why, as_debt = obstacle(self, step)
      if why then
        skip(self, step, why, as_debt)
        changed = true
      elseif has_turn(self, step) then
        start(self, step)
        changed = true
      else
        kept[#kept + 1] = step
      end
    end
  end
  local fresh = self.ready
  self.ready = kept
  for _, step in ipairs(fresh) do
    make_ready(self, step)
  end
  if not changed and self.running == 0 and kept[1] then -- a container's step waits for one of its pod or of the VM
    start(self, table.remove(kept, 1))
    changed = true
  end
  return changed
end

-- ---------------------------------------------------------------------------------------------------------------
-- The whole

-- What a run that gave way did not begin.
local function leave_to_others(self)
  for _, step in ipairs(self.plan.steps) do
    if self.state[step].outcome == nil then
      come_to(self, step, "skipped", err.new("aborted", "another plan has taken over"))
      tell(self, step, "skipped", self.state[step].error)
    end
  end
end

local function drive(self)
  for _, step in ipairs(self.plan.steps) do
    if self.state[step].waits == 0 then
      make_ready(self, step)
    end
  end
  while true do
    repeat until not look(self)
    if self.running == 0 then
      return
    end
    local fine = self.wake:get()
    if fine ~= true then
      error(fine[1], 0)
    end
  end
end

local function engine(p, opts)
  local self = {
    plan = p, ledger = p.ledger, width = opts.width or 1, again_within = opts.again_within or math.huge, on_step = opts.on_step,
    ctx = opts.ctx, root = p.owner:match("^[^/]+"),
    state = {}, followers = {}, included = {}, ready = {}, halted = {}, busy = {}, own = {}, all = {}, running = 0,
    wake = task.queue(2 * #p.steps + 2),
  }
  for i, step in ipairs(p.steps) do
    self.state[step] = { index = i, waits = #step.after, ms = 0, attempts = 0 }
    self.included[step.receipt or step] = true
    tally(self, step, 1)
    for _, name in ipairs(step.after) do
      self.followers[name] = self.followers[name] or {}
      table.insert(self.followers[name], step)
    end
  end
  return self
end

-- A run that is cancelled, or met a bug, starts nothing more and waits for what is running.
local function wind_up(self)
  self.stopping = true
  task.shield(function()
    while self.running > 0 do
      self.wake:get()
    end
  end)
end

---Makes a run start nothing more; it ends when its running steps have.
---@param running table what opts.on_engine got
function run_plan.give_way(running)
  running.stopping = true
end

function run_plan.run(p, opts)
  local ledger = p.ledger
  if ledger.dry then
    err.raise("failed_precondition", "a plan over a dry ledger is for printing")
  elseif p.ran then
    err.raise("failed_precondition", "this plan has run; derive again")
  end
  p.ran = true
  local started = task.now()
  ledger:close_owner(p.owner)
  local self
  local ok, e = xpcall(function()
    ledger:settle(p.owner)
    p:validate()
    self = engine(p, opts or {})
    if opts and opts.on_engine then
      opts.on_engine(self)
    end
    drive(self)
    leave_to_others(self)
  end, err.traceback)
  if not ok and self then
    pcall(wind_up, self)
  end
  ledger:reopen_owner(p.owner)
  if not ok then
    error(e, 0)
  end
  return report.of(p, self.state, started)
end

return run_plan

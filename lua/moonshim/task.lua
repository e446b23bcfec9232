--- task - coroutines over libuv, or over virtual time.
--
-- Words   run = one call of task.run; root = its first task; wait = one parked `await`.
-- Always  1. a task owns the tasks it starts: it is done only when they are, and they are cancelled when its function ends.
--         2. a wait is answered once; what comes later is dropped. `resume` says whether it was taken.
--         3. user code runs on its own task only. A luv callback that calls `resume` merely puts the task in the queue.
--         4. a cancel and an expired deadline stay: every further wait raises again, until the task (or the deadline's
--            function) ends. Inside `shield` both are held back.
--         5. an error in a task that nobody joins goes to the log of the run.
-- The tasks of a run share one Lua state and switch only at waits, so data needs no locks.

local clock = require "moonshim.clock"
local err = require "moonshim.err"
local loop = require "moonshim.task.loop"

local task = {}

---So often a task that was told to end may go on waiting; then it is given up.
local MAX_REFUSED = 1000

---@class moonshim.Task
local Task = {}
Task.__index = Task

-- Which run and which task go on is a fact of the whole Lua state, so it is not anybody's field.
local here = { run = nil, task = nil }
local in_order = loop.in_order

local function me(what)
  if not here.task then
    err.raise("failed_precondition", "%s: only inside task.run", what)
  elseif coroutine.running() ~= here.task.co then
    err.raise("failed_precondition", "%s: called in a coroutine that is not a task", what)
  end
  return here.task
end

-- The innermost deadline that holds here: the earliest above the last shield.
local function deadline_of(t)
  local due, limit
  for i = #t.scopes, 1, -1 do
    local scope = t.scopes[i]
    if scope.shield then
      break
    elseif not due or scope.due < due then
      due, limit = scope.due, scope.ms
    end
  end
  return due, limit
end

local function shielded(t)
  for i = #t.scopes, 1, -1 do
    if t.scopes[i].shield then
      return true
    end
  end
  return false
end

local function too_late(limit)
  return err.new("deadline_exceeded", ("no answer within %s"):format(clock.text(limit)))
end

-- Why this task may not wait (any more), or nil.
local function interruption(t)
  if t.cancelled and not shielded(t) then
    return t.cancelled
  end
  local due, limit = deadline_of(t)
  if due and t.run.clock.now() >= due then
    return too_late(limit)
  end
end

local function answer(wait, ok, ...)
  if wait.done then
    return false
  end
  wait.done, wait.ok, wait.values = true, ok, table.pack(...)
  if wait.parked then
    loop.ready(wait.task.run, wait.task)
  end
  return true
end

local function interrupt(wait, e)
  if answer(wait, false, e) then
    wait.interrupted = true
  end
end

local Resume = {
  __call = function(self, ...)
    return answer(self.wait, true, ...)
  end,
}

local abandon

-- A task that catches its own cancel and waits again must neither spin without ever letting the others run, nor keep its
-- parent from ending.
local function refuse(t, e)
  t.refused = (t.refused or 0) + 1
  if t.refused > MAX_REFUSED then
    abandon(t, e)
  elseif t.refused > 1 and coroutine.isyieldable() then
    loop.ready(t.run, t)
    coroutine.yield()
  end
  error(e, 0)
end

---Waits for one answer. `start(resume)` begins something and may return a function that cancels it. `resume(...)`
---makes `await` return those values, `resume.fail(e)` makes it raise; both return false when they came too late. When
---the task is cancelled or its deadline passes, the cancel function runs once, then `cancelled` or `deadline_exceeded` is raised.
---@async
---@param start fun(resume: function): function?
function task.await(start)
  local t = me "task.await"
  if not coroutine.isyieldable() then
    err.raise("failed_precondition", "cannot wait here: inside a sort, gsub, metamethod or another call that C made")
  end
  local e = interruption(t)
  if e then
    refuse(t, e)
  end
  local wait = { task = t }
  local resume = setmetatable({ wait = wait }, Resume)
  function resume.fail(why)
    return answer(wait, false, why)
  end
  local ok, cancel = xpcall(start, err.traceback, resume)
  if not ok then
    wait.done = true
    error(cancel, 0)
  end
  if not wait.done then
    e = interruption(t) -- `start` may have cancelled its own task
    if e then
      interrupt(wait, e)
    end
  end
  if not wait.done then
    local run = t.run
    local due, limit = deadline_of(t)
    local timer = due and run.timers:set(due, function()
      interrupt(wait, too_late(limit))
    end)
    t.wait, wait.parked = wait, true
    coroutine.yield()
    t.wait = nil
    if timer then
      run.timers:drop(timer)
    end
  end
  if wait.interrupted and cancel then
    local fine, why = xpcall(cancel, err.traceback)
    if not fine then
      t.run.log:error("cancelling a wait failed", { task = t.name, error = why })
    end
  end
  if not wait.ok then
    error(wait.values[1], 0)
  end
  return table.unpack(wait.values, 1, wait.values.n)
end

-- ---------------------------------------------------------------------------------------------------------------
-- The life of a task

local function finish(t, ok, values)
  t.state, t.ok, t.values = "done", ok, values
  t.run.live[t] = nil
  if t.parent then
    t.parent.children[t] = nil
  end
  local claimed = t.claimed or t.run.root == t
  for _, joiner in ipairs(t.joiners) do
    claimed = joiner() or claimed
  end
  if t.on_finish then
    t.on_finish(t)
  elseif not ok and not claimed and not (t.cancelled and err.is(values[1], "cancelled")) then
    t.run.log:error("a task failed and nobody waits for it", { task = t.name, error = values[1] })
  end
end

-- Waits for `child`, but does not raise what it raised.
local function settled(child)
  if child.state == "done" then
    return
  end
  task.await(function(resume)
    local joiners = child.joiners
    joiners[#joiners + 1] = resume
    return function()
      for i = #joiners, 1, -1 do
        if joiners[i] == resume then
          table.remove(joiners, i)
        end
      end
    end
  end)
end

local function end_children(t)
  t.scopes = { { shield = true } }
  while next(t.children) do
    local children = in_order(t.children)
    for i = #children, 1, -1 do
      children[i]:cancel("the task that started it has ended")
    end
    for _, child in ipairs(children) do
      settled(child)
    end
  end
end

-- The coroutine is left where it is and never resumed.
function abandon(t, e)
  t.run.log:error("a task that was told to end goes on and on; it is abandoned", { task = t.name, error = e })
  end_children(t)
  finish(t, false, table.pack(e))
  while true do
    coroutine.yield()
  end
end

local function body(t, fn, args)
  local result
  if t.cancelled then
    result = table.pack(false, t.cancelled)
  else
    result = table.pack(xpcall(fn, err.traceback, table.unpack(args, 1, args.n)))
  end
  end_children(t)
  finish(t, result[1], table.pack(table.unpack(result, 2, result.n)))
end

local function new(run, parent, fn, args, fields)
  run.count = run.count + 1
  local where = type(fn) == "function" and debug.getinfo(fn, "S") or { short_src = tostring(fn), linedefined = 0 }
  local t = setmetatable({
    run = run, parent = parent, id = run.count, state = "ready", scopes = {}, children = {}, joiners = {},
    name = ("#%d %s:%d"):format(run.count, where.short_src, where.linedefined),
  }, Task)
  for k, v in pairs(fields or {}) do
    t[k] = v
  end
  t.co = coroutine.create(function()
    body(t, fn, args)
  end)
  if parent then
    parent.children[t] = true
  end
  run.live[t] = true
  loop.ready(run, t)
  return t
end

---Starts a child of the current task. It gets no deadline of its own; it is cancelled and awaited when the current
---task's function ends before it.
---@return moonshim.Task
function task.spawn(fn, ...)
  local t = me "task.spawn"
  return new(t.run, t, fn, table.pack(...))
end

---Starts a task that lives until the root's function ends (watchers, servers). The one way to start a task from a luv callback.
---@return moonshim.Task
function task.detach(fn, ...)
  if not here.run then
    err.raise("failed_precondition", "task.detach: only while task.run runs")
  end
  return new(here.run, here.run.root, fn, table.pack(...))
end

---Waits until the task is done; returns what its function returned or raises what it raised.
---@async
function Task:join()
  if self == me "join" then
    err.raise("failed_precondition", "a task cannot wait for itself")
  end
  settled(self)
  self.claimed = true
  if not self.ok then
    error(self.values[1], 0)
  end
  return table.unpack(self.values, 1, self.values.n)
end

---Asks the task to end: its wait, and every later wait outside a shield, raises `cancelled`. Does not wait for it.
---@param reason string|moonshim.Err|nil
function Task:cancel(reason)
  if self.state == "done" or self.cancelled then
    return
  end
  self.cancelled = err.is(reason) and reason or err.new("cancelled", reason or "cancelled")
  if self.wait and not shielded(self) then
    interrupt(self.wait, self.cancelled)
  end
end

function Task:done()
  return self.state == "done"
end

---The task that runs now, or nil.
---@return moonshim.Task?
function task.current()
  return here.task
end

---Names of all tasks of the run that are not done, oldest first; empty when nothing runs.
---@return string[]
function task.names()
  local names = {}
  for _, t in ipairs(here.run and in_order(here.run.live) or {}) do
    names[#names + 1] = t.name
  end
  return names
end

-- ---------------------------------------------------------------------------------------------------------------
-- Time

---Monotonic milliseconds of the run's clock; of the machine's clock outside a run.
---@return integer ms
function task.now()
  if here.run then
    return here.run.clock.now()
  end
  return require("luv").hrtime() // 1000000
end

---@async
---@param duration string|integer
function task.sleep(duration)
  local timers, ms = me("task.sleep").run.timers, clock.ms(duration)
  task.await(function(resume)
    local timer = timers:set(task.now() + ms, resume)
    return function()
      timers:drop(timer)
    end
  end)
end

local function within(scope, fn, ...)
  local t = me "task.deadline"
  local scopes = t.scopes
  local depth = #scopes + 1
  scopes[depth] = scope
  local result = table.pack(xpcall(fn, err.traceback, ...))
  scopes[depth] = nil
  return t, result
end

---Calls fn; waits in it that last beyond `duration` from now raise `deadline_exceeded`. An inner deadline can only shorten.
---@async
function task.deadline(duration, fn, ...)
  local ms = clock.ms(duration)
  local _, result = within({ due = task.now() + ms, ms = ms }, fn, ...)
  if not result[1] then
    error(result[2], 0)
  end
  return table.unpack(result, 2, result.n)
end

---Milliseconds left of the innermost deadline, or nil.
---@return integer?
function task.remaining()
  local due = here.task and deadline_of(here.task)
  return due and math.max(0, due - task.now())
end

---Raises what a wait would raise now: `cancelled`, `deadline_exceeded`, or nothing. For the start of what must not be begun
---in vain.
function task.check()
  local e = interruption(me "task.check")
  if e then
    error(e, 0)
  end
end

---Calls fn; cancels and deadlines from outside do not reach its waits. One that comes meanwhile is raised when fn is done;
---one that was there before is not, so that an undo of several steps may shield each.
---@async
function task.shield(fn, ...)
  local before = interruption(me "task.shield")
  local t, result = within({ shield = true }, fn, ...)
  if not result[1] then
    error(result[2], 0)
  end
  local e = not before and interruption(t)
  if e then
    error(e, 0)
  end
  return table.unpack(result, 2, result.n)
end

-- ---------------------------------------------------------------------------------------------------------------
-- The run

---Runs fn as the root task until it and all its children are done; returns what it returns or raises what it raises.
---@param fn function
---@param opts { clock: moonshim.Clock?, log: moonshim.Log? }?
function task.run(fn, opts)
  if here.run then
    err.raise("failed_precondition", "task.run: a run is already going on; use task.spawn")
  end
  opts = opts or {}
  local run = loop.new(opts.clock or clock.real(), opts.log or require("moonshim.log").stderr())
  here.run = run
  run.root = new(run, nil, fn, table.pack())
  local ok, e = xpcall(loop.drive, err.traceback, run, here, finish, interrupt)
  here.run, here.task = nil, nil
  run.clock.close()
  if not ok then
    error(e, 0)
  elseif run.deadlock then
    error(run.deadlock, 0)
  elseif not run.root.ok then
    error(run.root.values[1], 0)
  end
  return table.unpack(run.root.values, 1, run.root.values.n)
end

---The log of the current run.
---@return moonshim.Log
function task.log()
  return here.run and here.run.log or require("moonshim.log").stderr()
end

require "moonshim.task.sync"(task, me)
require "moonshim.task.all"(task, {
  me = me, new = new, deadline_of = deadline_of, in_order = in_order,
  shielded_call = function(fn, ...)
    return within({ shield = true }, fn, ...)
  end,
})

return task

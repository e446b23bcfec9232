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
local Timers = require "moonshim.task.timers"

local task = {}

---@class moonshim.Task
local Task = {}
Task.__index = Task

-- Which coroutine runs is a fact of the whole Lua state, so these two are not anybody's fields.
local active, current

local function ready(run, t)
  run.last = run.last + 1
  run.queue[run.last] = t
end

-- First come, first served; a seeded clock picks any.
local function take(run)
  local queue, first = run.queue, run.first
  if run.random then
    local i = run.random(first, run.last)
    queue[first], queue[i] = queue[i], queue[first]
  end
  local t = queue[first]
  queue[first] = nil
  run.first = first + 1
  return t
end

-- xorshift64*: our own, so that a seed means the same whatever else uses math.random.
local function seeded(seed)
  local x = seed * 2654435769 + 88172645463325252
  return function(low, high)
    x = x ~ (x >> 12)
    x = x ~ (x << 25)
    x = x ~ (x >> 27)
    return low + ((x * 2685821657736338717) >> 33) % (high - low + 1)
  end
end

local function me(what)
  if not current then
    err.raise("failed_precondition", "%s: only inside task.run", what)
  elseif coroutine.running() ~= current.co then
    err.raise("failed_precondition", "%s: called in a coroutine that is not a task", what)
  end
  return current
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
    ready(wait.task.run, wait.task)
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

-- A task that catches its own cancel and waits again would otherwise spin without ever letting the others run.
local function refuse(t, e)
  t.refused = (t.refused or 0) + 1
  if t.refused == 100 then
    t.run.log:warn("a task goes on waiting although it was told to end", { task = t.name, error = e })
  end
  if t.refused > 1 and coroutine.isyieldable() then
    ready(t.run, t)
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

local function in_order(tasks)
  local list = {}
  for t in pairs(tasks) do
    list[#list + 1] = t
  end
  table.sort(list, function(a, b)
    return a.id < b.id
  end)
  return list
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
  local where = debug.getinfo(fn, "S")
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
  ready(run, t)
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
  if not active then
    err.raise("failed_precondition", "task.detach: only while task.run runs")
  end
  return new(active, active.root, fn, table.pack(...))
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
  return current
end

---Names of all tasks of the run that are not done, oldest first; empty when nothing runs.
---@return string[]
function task.names()
  local names = {}
  for _, t in ipairs(active and in_order(active.live) or {}) do
    names[#names + 1] = t.name
  end
  return names
end

-- ---------------------------------------------------------------------------------------------------------------
-- Time

---Monotonic milliseconds of the run's clock; of the machine's clock outside a run.
---@return integer ms
function task.now()
  if active then
    return active.clock.now()
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
  local due = current and deadline_of(current)
  return due and math.max(0, due - task.now())
end

---Calls fn; cancels and deadlines from outside do not reach its waits. One that came meanwhile is raised when fn is done.
---@async
function task.shield(fn, ...)
  local t, result = within({ shield = true }, fn, ...)
  if not result[1] then
    error(result[2], 0)
  end
  local e = interruption(t)
  if e then
    error(e, 0)
  end
  return table.unpack(result, 2, result.n)
end

-- ---------------------------------------------------------------------------------------------------------------
-- Together

---For core functions, which take `cb(value, err)` and themselves answer `nil, err` when they could not start:
---`task.callback(function(cb) return core.f(args, cb) end)`. Returns the value, raises the error. An answer with a
---`cancel` method (a request) is cancelled with the wait.
---@async
---@param start fun(cb: fun(value: any, e: any)): any, any
function task.callback(start)
  return task.await(function(resume)
    local started, e = start(function(value, why)
      if why ~= nil then
        resume.fail(err.from(why))
      else
        resume(value)
      end
    end)
    if started == nil and e ~= nil then
      error(err.from(e), 0)
    end
    local kind = type(started)
    if (kind == "userdata" or kind == "table") and (getmetatable(started) or started).__index ~= nil and started.cancel then
      return function()
        started:cancel()
      end
    end
  end)
end

-- A bug outranks an outcome; otherwise what failed first is raised and carries the others.
local function combined(errors)
  for _, e in ipairs(errors) do
    if not err.is(e) then
      return e
    end
  end
  local first = errors[1]
  if #errors > 1 then
    first = err.new(first.code, first.message, first)
    first.others = table.move(errors, 2, #errors, 1, {})
  end
  return first
end

---Runs the functions in parallel (at most `width` at once), lets every one come to its end, then returns the list of
---their first results or raises the first error, the later ones in `others`. When this wait is cancelled the functions
---are too, and are still awaited.
---@async
---@param fns function[]
---@param opts { width: integer? }?
---@return table results with field n
function task.all(fns, opts)
  local t = me "task.all"
  local total, width = #fns, opts and opts.width or #fns
  local results, errors, started, ended = { n = total }, {}, 0, 0
  local running, finished, stopping = {}, task.signal(), false
  local due, limit = deadline_of(t)

  local function start_next()
    started = started + 1
    local index = started
    local child = new(t.run, t, fns[index], table.pack(), {
      scopes = due and { { due = due, ms = limit } } or {},
      on_finish = function(child)
        running[child] = nil
        ended = ended + 1
        if child.ok then
          results[index] = child.values[1]
        else
          errors[#errors + 1] = child.values[1]
        end
        if started < total and not stopping then
          start_next()
        elseif ended == started then
          finished:fire()
        end
      end,
    })
    running[child] = true
  end

  if total == 0 then
    return results
  end
  for _ = 1, math.max(1, math.min(width, total)) do
    start_next()
  end
  local ok, e = pcall(finished.wait, finished)
  if not ok then
    stopping = true
    for _, child in ipairs(in_order(running)) do
      child:cancel(e)
    end
    within({ shield = true }, finished.wait, finished)
    error(e, 0)
  end
  if #errors > 0 then
    error(combined(errors), 0)
  end
  return results
end

-- ---------------------------------------------------------------------------------------------------------------
-- The run

local function step(t)
  current, t.state = t, "running"
  local ok, e = coroutine.resume(t.co)
  current = nil
  if not ok then
    finish(t, false, table.pack(err.traceback(e)))
  elseif t.state == "running" then
    t.state = "waiting"
  end
end

local function deadlock(run)
  local waiting = {}
  local tasks = in_order(run.live)
  for _, t in ipairs(tasks) do
    -- The first line outside this folder says where the task waits.
    local at = "an unknown place"
    for line in debug.traceback(t.co):gmatch("\n\t([^\n]+)") do
      local place = not line:find("moonshim/task", 1, true) and line:match("^(.-:%d+):")
      if place then
        at = place
        break
      end
    end
    waiting[#waiting + 1] = ("%s waits at %s"):format(t.name, at)
  end
  local e = err.new("internal", "deadlock, nothing can happen any more: " .. table.concat(waiting, "; "))
  if run.deadlock then
    error(run.deadlock, 0)
  end
  -- Once, everybody gets the chance to clean up.
  run.deadlock = e
  for _, t in ipairs(tasks) do
    t.cancelled = t.cancelled or e
    if t.wait then
      interrupt(t.wait, e)
    end
  end
end

local function drive(run)
  local timers = run.timers
  while run.root.state ~= "done" do
    local batch = run.last - run.first + 1
    if batch == 0 and run.clock.virtual then
      run.clock.poll()
      batch = run.last - run.first + 1
    end
    if batch == 0 then
      if not run.clock.pass(timers:next_due()) then
        deadlock(run)
      end
    else
      for _ = 1, batch do
        step(take(run))
      end
      if not run.clock.virtual and run.root.state ~= "done" then
        run.clock.poll()
      end
    end
    local timer = timers:take(run.clock.now())
    while timer do
      timer.fire()
      timer = timers:take(run.clock.now())
    end
  end
end

---Runs fn as the root task until it and all its children are done; returns what it returns or raises what it raises.
---@param fn function
---@param opts { clock: moonshim.Clock?, log: moonshim.Log? }?
function task.run(fn, opts)
  if active then
    err.raise("failed_precondition", "task.run: a run is already going on; use task.spawn")
  end
  opts = opts or {}
  local run_clock = opts.clock or clock.real()
  local run = {
    clock = run_clock, log = opts.log or require("moonshim.log").stderr(), timers = Timers.new(), live = {}, count = 0,
    queue = {}, first = 1, last = 0, random = run_clock.seed and seeded(run_clock.seed),
  }
  active = run
  run.root = new(run, nil, fn, table.pack())
  local ok, e = xpcall(drive, err.traceback, run)
  active, current = nil, nil
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
  return active and active.log or require("moonshim.log").stderr()
end

require "moonshim.task.sync"(task, me)

return task

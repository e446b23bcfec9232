--- task/loop - the loop under a run: which task is next, when time passes, and when nothing can happen any more.

local err = require "moonshim.err"
local Timers = require "moonshim.task.timers"

local loop = {}

-- xorshift64*: our own, so that a seed means the same whatever else uses math.random.
local function seeded(seed)
  local x = seed * 2654435769 + 88172645463325252
  return function(low, high)
    x = x ~ (x << 13)
    x = x ~ (x >> 7)
    x = x ~ (x << 17)
    return low + ((x * 2685821657736338717) >> 33) % (high - low + 1)
  end
end

---@param clock moonshim.Clock
---@param log moonshim.Log
function loop.new(clock, log)
  return {
    clock = clock, log = log, timers = Timers.new(), live = {}, count = 0, queue = {}, first = 1, last = 0,
    random = clock.seed and seeded(clock.seed),
  }
end

---Puts a task in the queue of those that go on.
function loop.ready(run, t)
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

---The tasks of a set, oldest first.
function loop.in_order(tasks)
  local list = {}
  for t in pairs(tasks) do
    list[#list + 1] = t
  end
  table.sort(list, function(a, b)
    return a.id < b.id
  end)
  return list
end

-- The first line outside this folder that the task's stack names.
local function waits_at(t)
  for line in debug.traceback(t.co):gmatch("\n\t([^\n]+)") do
    local place = not line:find("moonshim/task", 1, true) and line:match("^(.-:%d+):")
    if place then
      return place
    end
  end
  return "an unknown place"
end

local function deadlock(run, interrupt)
  if run.deadlock then
    error(run.deadlock, 0)
  end
  local waiting = {}
  local tasks = loop.in_order(run.live)
  for i, t in ipairs(tasks) do
    waiting[i] = ("%s waits at %s"):format(t.name, waits_at(t))
  end
  -- Once, everybody gets the chance to clean up.
  run.deadlock = err.new("internal", "deadlock, nothing can happen any more: " .. table.concat(waiting, "; "))
  for _, t in ipairs(tasks) do
    t.cancelled = t.cancelled or run.deadlock
    if t.wait then
      interrupt(t.wait, run.deadlock)
    end
  end
end

local function step(t, here, finish)
  here.task, t.state = t, "running"
  local ok, e = coroutine.resume(t.co)
  here.task = nil
  if not ok then
    finish(t, false, table.pack(err.traceback(e)))
  elseif t.state == "running" then
    t.state = "waiting"
  end
end

local function fire_due(run)
  local timer = run.timers:take(run.clock.now())
  while timer do
    timer.fire()
    timer = run.timers:take(run.clock.now())
  end
end

---Runs until the root is done.
---@param here { task: table? } where the running task is noted
---@param finish function ends a task whose coroutine died
---@param interrupt function ends a wait with an error
function loop.drive(run, here, finish, interrupt)
  while run.root.state ~= "done" do
    if run.last < run.first and run.clock.virtual then
      run.clock.poll()
    end
    local batch = run.last - run.first + 1
    if batch > 0 then
      for _ = 1, batch do
        step(take(run), here, finish)
      end
      if not run.clock.virtual and run.root.state ~= "done" then
        run.clock.poll()
      end
    elseif not run.clock.pass(run.timers:next_due()) then
      deadlock(run, interrupt)
    end
    fire_due(run)
  end
end

return loop

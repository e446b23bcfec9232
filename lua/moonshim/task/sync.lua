--- task/sync - what tasks use to meet: signals, queues, operation queues. Built on task.await alone.

local err = require "moonshim.err"

-- Removes the waiter of a wait that was interrupted.
local function forget(waiters, resume)
  for i = #waiters, 1, -1 do
    if waiters[i] == resume then
      table.remove(waiters, i)
      return
    end
  end
end

---@class moonshim.Signal
local Signal = {}
Signal.__index = Signal

---Fires once; wakes everyone who waits and everyone who will. Returns false when it had fired before.
function Signal:fire(...)
  if self.values then
    return false
  end
  self.values = table.pack(...)
  local waiters = self.waiters
  self.waiters = {}
  for _, resume in ipairs(waiters) do
    resume(...)
  end
  return true
end

function Signal:fired()
  return self.values ~= nil
end

---@async
---@return any ... what it was fired with
function Signal:wait()
  if self.values then
    return table.unpack(self.values, 1, self.values.n)
  end
  return self.await(function(resume)
    table.insert(self.waiters, resume)
    return function()
      forget(self.waiters, resume)
    end
  end)
end

---@class moonshim.Queue
local Queue = {}
Queue.__index = Queue

---Adds a value (not nil). Raises `resource_exhausted` when the queue is full, `failed_precondition` when it is closed.
function Queue:put(value)
  assert(value ~= nil, "a queue holds no nil")
  if self.closed then
    err.raise("failed_precondition", "the queue is closed")
  end
  while #self.getters > 0 do
    if table.remove(self.getters, 1)(value) then
      return
    end
  end
  if self.last - self.first + 1 >= self.bound then
    err.raise("resource_exhausted", "the queue is full (%d)", self.bound)
  end
  self.last = self.last + 1
  self.items[self.last] = value
end

---The oldest value; waits for one. nil when the queue is closed and empty.
---@async
function Queue:get()
  if self.first <= self.last then
    local value = self.items[self.first]
    self.items[self.first] = nil
    self.first = self.first + 1
    return value
  elseif self.closed then
    return nil
  end
  return self.await(function(resume)
    table.insert(self.getters, resume)
    return function()
      forget(self.getters, resume)
    end
  end)
end

---Nothing more comes; those who wait get nil.
function Queue:close()
  self.closed = true
  local getters = self.getters
  self.getters = {}
  for _, resume in ipairs(getters) do
    resume(nil)
  end
end

function Queue:__len()
  return self.last - self.first + 1
end

---@param task table the module to extend
---@param me fun(what: string): moonshim.Task
return function(task, me)
  ---Something that happens once.
  ---@return moonshim.Signal
  function task.signal()
    return setmetatable({ waiters = {}, await = task.await }, Signal)
  end

  ---@param bound integer? values it holds at most, default 1024
  ---@return moonshim.Queue
  function task.queue(bound)
    return setmetatable({ items = {}, first = 1, last = 0, bound = bound or 1024, getters = {}, await = task.await }, Queue)
  end

  ---An operation queue: `run(fn, ...)` calls fn when all who asked before are through, one at a time, in the caller's
  ---task. A caller that is cancelled while it waits leaves the queue.
  ---@return fun(fn: function, ...): any
  function task.serial()
    local holder, waiting = nil, {}

    local function pass_on()
      holder = nil
      while not holder and #waiting > 0 do
        local next_one = table.remove(waiting, 1)
        if next_one.resume() then
          holder = next_one.task
        end
      end
    end

    return function(fn, ...)
      local t = me "serial"
      if holder == t then
        err.raise("failed_precondition", "an operation waits for itself: it runs in this queue already")
      elseif holder then
        task.await(function(resume)
          local entry = { task = t, resume = resume }
          table.insert(waiting, entry)
          return function()
            forget(waiting, entry)
          end
        end)
      else
        holder = t
      end
      local result = table.pack(xpcall(fn, err.traceback, ...))
      pass_on()
      if not result[1] then
        error(result[2], 0)
      end
      return table.unpack(result, 2, result.n)
    end
  end
end

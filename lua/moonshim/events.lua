---Events of a VM, followed at the reader's own pace.
---
---A stream is a place in the ledger's list of events, not a queue of its own: whoever emits never waits, any number of
---slow readers cost nothing, and a reader that comes late starts where it likes. The list keeps the newest 1024; a reader
---that fell further behind is told how many it missed, and goes on.
local task = require "moonshim.task"

---@class moonshim.Event
---@field seq integer grows by one per event, for the life of the VM
---@field topic string
---@field data table?
---@field at integer milliseconds of the run's clock

---@class moonshim.EventStream
---@field private source moonshim.EventSource
---@field private seen integer seq of the last event that was looked at
local Stream = {}
Stream.__index = Stream

---@class moonshim.EventSource
---@field private ledger moonshim.Ledger
---@field private more moonshim.Signal fires with the next event
local Source = {}
Source.__index = Source

local events = {}

---@param ledger moonshim.Ledger
---@return moonshim.EventSource
function events.source(ledger) return setmetatable({ ledger = ledger, more = task.signal() }, Source) end

---An event was added.
function Source:added()
  local more = self.more
  self.more = task.signal()
  more:fire()
end

---Nothing more comes.
function Source:close()
  self.closed = true
  self.more:fire()
end

---@param opts { since: integer?, wanted: (fun(event: moonshim.Event): boolean)? }? since: the events after this one, 0 for all
---that are kept; from now on when absent. wanted: what the reader wants to see
---@return moonshim.EventStream
function Source:follow(opts)
  opts = opts or {}
  local list = self.ledger:events()
  local newest = list[#list] and list[#list].seq or 0
  return setmetatable({ source = self, seen = opts.since or newest, wanted = opts.wanted }, Stream)
end

---@private
function Stream:step()
  local list = self.source.ledger:events()
  local first = list[1] and list[1].seq or self.seen + 1
  if self.seen + 1 < first then
    local missed = first - 1 - self.seen
    self.seen = first - 1
    return { seq = self.seen, topic = "missed", data = { count = missed }, at = list[1].at }
  end
  local event = list[self.seen + 2 - first]
  if event then self.seen = event.seq end
  return event
end

---The next event, when it is there; never waits. { topic = "missed", data = { count } } stands for those that were dropped.
---@return moonshim.Event?
function Stream:poll()
  while not self.closed do
    local event = self:step()
    if not event then return nil end
    if event.topic == "missed" or not self.wanted or self.wanted(event) then return event end
  end
end

---Waits for the next event. nil when the stream was closed, or the VM has ended and everything was told.
---@async
---@return moonshim.Event?
function Stream:next()
  while true do
    local event = self:poll()
    if event or self.closed or self.source.closed then return event end
    self.source.more:wait()
  end
end

---Ends it, also for who waits. Any number of times.
function Stream:close()
  if self.closed then return end
  self.closed = true
  self.source:added() -- wakes everyone; those with nothing new wait again
end

return events

--- task/timers - a binary heap of timers, earliest first, ties in the order they were set.
--
-- Deadlines are set on every wait and nearly all of them are dropped again, so a drop really removes the entry.

local Timers = {}
Timers.__index = Timers

local function before(a, b)
  return a.due < b.due or (a.due == b.due and a.seq < b.seq)
end

local function place(heap, i, timer)
  heap[i] = timer
  timer.at = i
end

local function up(heap, i, timer)
  while i > 1 and before(timer, heap[i // 2]) do
    place(heap, i, heap[i // 2])
    i = i // 2
  end
  place(heap, i, timer)
end

local function down(heap, i, timer)
  local n = #heap
  while true do
    local child = 2 * i
    if child > n then
      break
    end
    if child < n and before(heap[child + 1], heap[child]) then
      child = child + 1
    end
    if not before(heap[child], timer) then
      break
    end
    place(heap, i, heap[child])
    i = child
  end
  place(heap, i, timer)
end

function Timers.new()
  return setmetatable({ heap = {}, seq = 0 }, Timers)
end

---@return table timer for `drop`
function Timers:set(due, fire)
  self.seq = self.seq + 1
  local timer = { due = due, seq = self.seq, fire = fire }
  up(self.heap, #self.heap + 1, timer)
  return timer
end

---Removes a timer; one that has fired or was dropped is left alone.
function Timers:drop(timer)
  local heap, i = self.heap, timer.at
  if not i then
    return
  end
  timer.at = nil
  local last = table.remove(heap)
  if last ~= timer then
    if i > 1 and before(last, heap[i // 2]) then
      up(heap, i, last)
    else
      down(heap, i, last)
    end
  end
end

---@return integer? due of the earliest timer
function Timers:next_due()
  local first = self.heap[1]
  return first and first.due
end

---Takes out and returns the earliest timer when it is due.
function Timers:take(now)
  local first = self.heap[1]
  if first and first.due <= now then
    self:drop(first)
    return first
  end
end

return Timers

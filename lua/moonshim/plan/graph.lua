--- plan/graph - the order of steps: edges are names in `after`, and nothing here knows what a step does.

local err = require "moonshim.err"

local graph = {}

-- The names of each `after` list as a set: what everybody waits for (the VM, the bridge) has a list as long as the plan.
local sets = setmetatable({}, { __mode = "k" })

local function set_of(after)
  local set = sets[after]
  if not set or set.n ~= #after then
    set = { n = #after, has = {} }
    for _, name in ipairs(after) do
      set.has[name] = true
    end
    sets[after] = set
  end
  return set
end

---Does `step` wait for `name` directly?
---@return boolean
function graph.waits(step, name)
  return set_of(step.after).has[name] == true
end

---`step` waits for `name`. A soft edge waits for its end only; one that is already there becomes hard if either is.
function graph.add(step, name, soft)
  local after, set = step.after, set_of(step.after)
  if set.has[name] then
    step.soft[name] = step.soft[name] and soft or nil
    return
  end
  after[#after + 1] = name
  set.n, set.has[name] = #after, true
  step.soft[name] = soft and true or nil
end

---Calls visit(name) for every step that `to` waits for, directly first, until it returns true. Returns whether it did.
---@return boolean
function graph.walk(by_name, to, visit)
  local seen, queue, i = { [to] = true }, { to }, 1
  while queue[i] do
    local step = by_name[queue[i]]
    i = i + 1
    for _, name in ipairs(step and step.after or {}) do
      if not seen[name] then
        if visit(name) then
          return true
        end
        seen[name] = true
        queue[#queue + 1] = name
      end
    end
  end
  return false
end

---Does `to` have to wait, directly or not, for `from`?
---@return boolean
function graph.reaches(by_name, from, to)
  return graph.walk(by_name, to, function(name)
    return name == from
  end)
end

-- A binary heap of what is ready.
local function push(heap, step, rank)
  local i = #heap + 1
  while i > 1 and rank(step, heap[i // 2]) do
    heap[i] = heap[i // 2]
    i = i // 2
  end
  heap[i] = step
end

local function pop(heap, rank)
  local first, last = heap[1], table.remove(heap)
  local i, n = 1, #heap
  while 2 * i <= n do
    local child = 2 * i
    if child < n and rank(heap[child + 1], heap[child]) then
      child = child + 1
    end
    if not rank(heap[child], last) then
      break
    end
    heap[i] = heap[child]
    i = child
  end
  if n > 0 then
    heap[i] = last
  end
  return first
end

local function places(kinds)
  local place = {}
  for i, kind in ipairs(kinds) do
    place[kind] = place[kind] or i
  end
  return place
end

---The steps in an order that keeps every edge; where those leave a choice, by the preference list of kinds (others
---first), then the younger first, then a hook before what it stands before. Raises failed_precondition on a cycle.
---@param preference string[] kinds
---@param own table<string, string[]>? by owner: the list for steps of that owner and below
function graph.sort(steps, by_name, preference, own)
  local general, special, place = places(preference), {}, {}
  local waits, followers, ready = {}, {}, {}
  for owner, kinds in pairs(own or {}) do
    special[owner] = places(kinds)
  end
  local function place_of(step)
    local list, path = nil, next(special) and step.owner
    while path and not list do
      list, path = special[path], path:match("^(.*)/[^/]*$")
    end
    -- A hook takes the place of the step it was put before (or after).
    return (list or general)[step.place or step.kind] or 0
  end
  local function rank(a, b)
    local x, y = place[a], place[b]
    if x ~= y then
      return x < y
    elseif a.seq ~= b.seq then
      return a.seq > b.seq
    end
    return a.name < b.name
  end
  for _, step in ipairs(steps) do
    waits[step.name], place[step] = 0, place_of(step)
    for _, name in ipairs(step.after) do
      if by_name[name] then
        waits[step.name] = waits[step.name] + 1
        followers[name] = followers[name] or {}
        table.insert(followers[name], step)
      end
    end
    if waits[step.name] == 0 then
      push(ready, step, rank)
    end
  end
  local sorted = {}
  while #ready > 0 do
    local step = pop(ready, rank)
    sorted[#sorted + 1] = step
    for _, follower in ipairs(followers[step.name] or {}) do
      waits[follower.name] = waits[follower.name] - 1
      if waits[follower.name] == 0 then
        push(ready, follower, rank)
      end
    end
  end
  if #sorted < #steps then
    local stuck = {}
    for _, step in ipairs(steps) do
      if waits[step.name] > 0 then
        stuck[#stuck + 1] = step.name
      end
    end
    err.raise("failed_precondition", "these steps wait for each other: %s", table.concat(stuck, ", "))
  end
  return sorted
end

return graph

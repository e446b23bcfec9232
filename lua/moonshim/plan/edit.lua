--- plan/edit - what may be changed in a plan: steps added, limits tuned, free choices re-ordered. Nothing can be taken out,
--- and nothing that `needs` demands can be turned round.
--
-- `what` is a kind or the name of a step; when nothing matches, nothing happens. What would be unsafe is refused with
-- failed_precondition, what makes no sense with invalid_argument; a refused edit changes nothing.

local Book = require "moonshim.ledger.book"
local clock = require "moonshim.clock"
local err = require "moonshim.err"
local graph = require "moonshim.plan.graph"

local edit = {}

---The longest a step may be told to last, and the most retries.
edit.MAX_WITHIN, edit.MAX_RETRIES, edit.MAX_BACKOFF, edit.MAX_HOOKS = 3600000, 100, 60000, 64
-- What a process may need to die and be noticed, beyond the waits of its ladder.
local LADDER_SLACK = 5000

function edit.copy_list(list)
  return table.move(list, 1, #list, 1, {})
end

-- The plan behind a restricted view, and the owner that bounds it.
local function real(self)
  return rawget(self, "base") or self, rawget(self, "scope")
end

local function matching(self, what)
  local p, scope = real(self)
  if type(what) ~= "string" then
    err.raise("invalid_argument", "say a kind or the name of a step, not a %s", type(what))
  end
  local steps = {}
  for _, step in ipairs(p.steps) do
    if (step.kind == what or step.name == what) and (not scope or Book.is_below(step.owner, scope)) then
      steps[#steps + 1] = step
    end
  end
  return steps
end

local function duration(value, what, limit)
  local ms = clock.ms(value)
  if ms > limit then
    err.raise("invalid_argument", "%s of %s: the limit is %s", what, clock.text(ms), clock.text(limit))
  end
  return ms
end

---Milliseconds that all rungs of a ladder can take.
function edit.ladder_time(ladder)
  local total = 0
  for _, rung in ipairs(ladder) do
    total = total + rung.wait
  end
  return total > 0 and total + LADDER_SLACK or 0
end

local function checked_ladder(ladder, goal)
  if type(ladder) ~= "table" then
    err.raise("invalid_argument", "a ladder is a list like { { \"TERM\", wait = \"10s\" } }")
  elseif #ladder > 0 and goal == "delete" then
    err.raise("failed_precondition", "delete never signals; use stop")
  end
  local rungs = {}
  for i, rung in ipairs(ladder) do
    local signal = type(rung) == "table" and rung[1]
    if type(signal) ~= "string" and math.type(signal) ~= "integer" then
      err.raise("invalid_argument", "rung %d of the ladder names no signal", i)
    end
    rungs[i] = { signal, wait = duration(rung.wait or 0, "a wait", edit.MAX_WITHIN) }
  end
  return rungs
end

local TUNERS = {}

function TUNERS.within(_, value)
  local ms = duration(value, "within", edit.MAX_WITHIN)
  if ms < 1 then
    err.raise("invalid_argument", "within is at least 1ms")
  end
  return ms
end

function TUNERS.backoff(_, value)
  return duration(value, "backoff", edit.MAX_BACKOFF)
end

function TUNERS.retries(_, value)
  local n = math.tointeger(value)
  if not n or n < 0 or n > edit.MAX_RETRIES then
    err.raise("invalid_argument", "retries is a number from 0 to %d", edit.MAX_RETRIES)
  end
  return n
end

function TUNERS.on_failure(step, value)
  if value ~= "stop" and value ~= "continue" and value ~= "debt" then
    err.raise("invalid_argument", "on_failure is stop, continue or debt, not %s", tostring(value))
  elseif value == "debt" and step.hook then
    err.raise("failed_precondition", "%s holds nothing, so it cannot be a debt", step.name)
  elseif value == "debt" and step.ends_world then
    err.raise("failed_precondition", "%s is the VM itself: nobody is left to owe it", step.name)
  end
  return value
end

function TUNERS.args(step, value, p)
  if type(value) ~= "table" then
    err.raise("invalid_argument", "args is a table")
  end
  local merged = {}
  for k, v in pairs(step.args) do
    merged[k] = v
  end
  for k, v in pairs(value) do
    merged[k] = k == "ladder" and checked_ladder(v, p.goal) or v
  end
  return merged
end

---Changes limits of the matching steps: retries, within, backoff, on_failure, args (merged). A new ladder also makes room
---for its waits unless `within` is given.
---@param what string kind or step name
---@param changes { retries: integer?, within: string|integer?, backoff: string|integer?, on_failure: string?, args: table? }
---@return integer count of steps that matched
function edit.tune(self, what, changes)
  local p = real(self)
  local steps, prepared = matching(self, what), {}
  for key in pairs(changes) do
    if not TUNERS[key] then
      err.raise("invalid_argument", "tune knows retries, within, backoff, on_failure and args, not %s", tostring(key))
    end
  end
  for i, step in ipairs(steps) do
    local values = {}
    for key, value in pairs(changes) do
      values[key] = TUNERS[key](step, value, p)
    end
    if values.args and not values.within then
      values.within = math.max(step.within, edit.ladder_time(values.args.ladder or {}))
    end
    prepared[i] = values
  end
  for i, step in ipairs(steps) do
    for key, value in pairs(prepared[i]) do
      step[key] = value
    end
    -- Steps that wait for a hook care about its success or not.
    if step.hook and prepared[i].on_failure then
      for _, other in ipairs(p.steps) do
        for _, name in ipairs(other.after) do
          if name == step.name then
            other.soft[name] = step.on_failure == "continue" or nil
          end
        end
      end
    end
  end
  return #steps
end

-- A hook per owner that has matching steps, so that one container's trouble stays its own.
local function by_owner(steps)
  local groups, owners = {}, {}
  for _, step in ipairs(steps) do
    if not groups[step.owner] then
      groups[step.owner] = {}
      owners[#owners + 1] = step.owner
    end
    table.insert(groups[step.owner], step)
  end
  return groups, owners
end

local function new_hook(p, hook, owner, many, place)
  if type(hook) ~= "table" or type(hook.name) ~= "string" or not hook.name:find("^[%w_.:@-]+$") or #hook.name > 64 then
    err.raise("invalid_argument", "a hook needs a name of letters, digits and _.:-")
  elseif type(hook.run) ~= "function" then
    err.raise("invalid_argument", "hook %s: run is not a function", hook.name)
  end
  local name = many and ("%s@%s"):format(hook.name, owner:match("[^/]+$")) or hook.name
  while many and p.by_name[name] do
    name = name .. "+"
  end
  if p.by_name[name] then
    err.raise("already_exists", "the plan has a step %s already", name)
  end
  local step = {
    name = name, kind = "hook", owner = owner, after = {}, soft = {}, hook = true, run = hook.run, args = hook.args or {},
    retries = 0, backoff = 0, ends_world = false, seq = math.maxinteger, place = place, on_failure = "stop",
  }
  step.within = TUNERS.within(step, hook.within or "5s")
  step.on_failure = TUNERS.on_failure(step, hook.on_failure or "continue")
  return step
end

local function insert(self, what, hook, link)
  local p, scope = real(self)
  local groups, owners = by_owner(matching(self, what))
  -- Two pods' scripts do not know of each other's names.
  local namesake = scope and type(hook) == "table" and p.by_name[hook.name]
  local many = #owners > 1 or (namesake and not Book.is_below(namesake.owner, scope))
  local added, hooks = {}, {}
  for _, owner in ipairs(owners) do
    added[owner] = new_hook(p, hook, owner, many, groups[owner][1].place or groups[owner][1].kind)
  end
  for _, step in ipairs(p.steps) do
    hooks[step.owner] = (hooks[step.owner] or 0) + (step.hook and 1 or 0)
    if added[step.owner] and hooks[step.owner] >= edit.MAX_HOOKS then
      err.raise("resource_exhausted", "%s has %d hooks already", step.owner, edit.MAX_HOOKS)
    end
  end
  for _, owner in ipairs(owners) do
    local step = added[owner]
    link(p, step, groups[owner])
    p.steps[#p.steps + 1] = step
    p.by_name[step.name] = step
  end
  p:arrange()
  return #owners
end

local function is_soft(hook)
  return hook.on_failure == "continue"
end

---Adds a step before the first matching step of each owner: it waits for what they all wait for.
---@param what string kind or step name
---@param hook { name: string, within: string|integer?, on_failure: string?, run: fun(step: table, ctx: any), args: table? }
---within default 5s; on_failure "continue" (default) or "stop"
---@return integer count of hooks that were added
function edit.before(self, what, hook)
  return insert(self, what, hook, function(p, step, targets)
    local function downstream(name)
      for _, target in ipairs(targets) do
        if name == target.name or graph.reaches(p.by_name, target.name, name) then
          return true
        end
      end
      return false
    end
    for _, target in ipairs(targets) do
      for _, name in ipairs(target.after) do
        if not downstream(name) then
          graph.add(step, name, target.soft[name])
        end
      end
    end
    for _, target in ipairs(targets) do
      graph.add(target, step.name, is_soft(step))
    end
  end)
end

---Adds a step after the last matching step of each owner, before what waits for them.
---@return integer count of hooks that were added
function edit.after(self, what, hook)
  return insert(self, what, hook, function(p, step, targets)
    local is_target = {}
    for _, target in ipairs(targets) do
      is_target[target.name] = true
      graph.add(step, target.name, false)
    end
    for _, other in ipairs(p.steps) do
      if not is_target[other.name] then
        for _, name in ipairs(edit.copy_list(other.after)) do
          -- Not where the hook itself has to wait for it: another of the targets comes later than this step.
          if is_target[name] and not graph.reaches(p.by_name, other.name, step.name) then
            local waits = false
            for target in pairs(is_target) do
              waits = waits or graph.reaches(p.by_name, other.name, target)
            end
            if not waits then
              graph.add(other, step.name, is_soft(step) or other.ends_world)
            end
          end
        end
      end
    end
  end)
end

---Re-orders kinds where `needs` leaves it free: they share out among themselves the places they have now. Of a view only the
---steps below its owner.
---@param kinds string[]
function edit.order(self, kinds)
  local p, scope = real(self)
  local listed = {}
  for i, kind in ipairs(kinds) do
    if type(kind) ~= "string" or listed[kind] then
      err.raise("invalid_argument", "an order is a list of different kinds")
    end
    listed[kind] = i
  end
  for _, early in ipairs(p.steps) do
    local a = listed[early.kind]
    if a and (not scope or Book.is_below(early.owner, scope)) then
      graph.walk(p.by_name, early.name, function(name)
        local late = p.by_name[name]
        if a < (listed[late.kind] or 0) then
          err.raise("failed_precondition", "%s cannot go before %s: %s needs %s", early.kind, late.kind, late.name, early.name)
        end
      end)
    end
  end
  local order, taken = {}, 0
  for _, kind in ipairs(scope and p.preferences[scope] or p.preference) do
    if listed[kind] then
      taken = taken + 1
      order[#order + 1] = kinds[taken]
    else
      order[#order + 1] = kind
    end
  end
  for i = taken + 1, #kinds do
    order[#order + 1] = kinds[i]
  end
  if scope then
    p.preferences[scope] = order
  else
    p.preference = order
  end
  p:arrange()
end

---The same plan, but edits reach only steps of `owner` and below: a pod's policy never touches the VM or another pod.
---@param owner string
function edit.only(self, owner)
  local p = real(self)
  return setmetatable({ base = p, scope = owner }, {
    __index = function(_, key)
      return p[key]
    end,
    __newindex = function()
      err.raise("failed_precondition", "a plan is edited by its functions")
    end,
    __tostring = function()
      return tostring(p)
    end,
  })
end

return edit

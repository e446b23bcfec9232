--- fsm - states declared as tables, enforced, and drawn from the same tables.
--
--   local life = fsm.define {
--     name = "container",
--     initial = "none",
--     states = { none = "nothing exists", created = "made, not started", running = "", stopped = "its init has ended" },
--     transitions = {
--       { "none",    "create", "created", by = "service" },
--       { "created", "start",  "running", by = "service" },
--       { { "created", "running" }, "exit", "stopped", by = "watcher" },
--     },
--   }
--   local m = life:new(); m:apply("create"); m:state() --> "created"
--
-- From one state an operation leads to one other; an operation with several outcomes is several operations.

local err = require "moonshim.err"

local fsm = {}

---@class moonshim.Fsm the declaration
local Fsm = {}
Fsm.__index = Fsm

---@class moonshim.Machine one object that follows it
local Machine = {}
Machine.__index = Machine

local function bad(fmt, ...)
  err.raise("invalid_argument", "fsm.define: " .. fmt, ...)
end

local function sorted_keys(t)
  local keys = {}
  for k in pairs(t) do
    keys[#keys + 1] = k
  end
  table.sort(keys)
  return keys
end

---Checks a declaration: every name declared, one target per (state, operation), every state reachable.
---@param def { name: string, initial: string, states: table<string, string>|string[], transitions: table[] }
---@return moonshim.Fsm
function fsm.define(def)
  local self = setmetatable({ name = def.name, initial = def.initial, states = {}, arrows = {}, moves = {} }, Fsm)
  for k, v in pairs(def.states) do
    if type(k) == "number" then
      self.states[v] = ""
    else
      self.states[k] = v
    end
  end
  if not self.states[def.initial] then
    bad("%s: the initial state %s is not declared", def.name, tostring(def.initial))
  end
  for _, arrow in ipairs(def.transitions) do
    local from, op, to = arrow[1], arrow[2], arrow[3]
    if from == "*" then
      from = sorted_keys(self.states)
    elseif type(from) ~= "table" then
      from = { from }
    end
    for _, state in ipairs(from) do
      local target = to == "=" and state or to
      if not self.states[state] or not self.states[target] then
        bad("%s: %s --%s--> %s names a state that is not declared", def.name, tostring(state), tostring(op), tostring(target))
      end
      local moves = self.moves[state] or {}
      self.moves[state] = moves
      if moves[op] then
        bad("%s: two arrows for %s in %s", def.name, op, state)
      end
      moves[op] = target
      table.insert(self.arrows, { from = state, op = op, to = target, by = arrow.by or "" })
    end
  end
  local reached, todo = { [def.initial] = true }, { def.initial }
  while #todo > 0 do
    for _, target in pairs(self.moves[table.remove(todo)] or {}) do
      if not reached[target] then
        reached[target] = true
        todo[#todo + 1] = target
      end
    end
  end
  for _, state in ipairs(sorted_keys(self.states)) do
    if not reached[state] then
      bad("%s: no arrow leads to %s", def.name, state)
    end
  end
  return self
end

---A machine in the initial state. `on_change(from, to, op, ...)` runs after every arrow that was taken.
---@param opts { id: string?, state: string?, on_change: function? }? state: where a reloaded object goes on
---@return moonshim.Machine
function Fsm:new(opts)
  opts = opts or {}
  if opts.state and not self.states[opts.state] then
    err.raise("invalid_argument", "%s has no state %s", self.name, tostring(opts.state))
  end
  return setmetatable({ fsm = self, id = opts.id, at = opts.state or self.initial, on_change = opts.on_change }, Machine)
end

---@return string
function Machine:state()
  return self.at
end

---@param ... string states
---@return boolean
function Machine:is(...)
  for i = 1, select("#", ...) do
    if self.at == select(i, ...) then
      return true
    end
  end
  return false
end

---@return boolean
function Machine:can(op)
  local moves = self.fsm.moves[self.at]
  return moves ~= nil and moves[op] ~= nil
end

---Raises `failed_precondition`, naming object, state and operation, unless `op` is legal now.
function Machine:expect(op)
  if not self:can(op) then
    local what = self.id and ("%s %s"):format(self.fsm.name, self.id) or self.fsm.name
    error(err.new("failed_precondition", ("%s is %s: cannot %s"):format(what, self.at, tostring(op)), { op = tostring(op) }), 0)
  end
end

---Takes the arrow; what follows `op` goes to on_change.
---@return string state the new one
function Machine:apply(op, ...)
  self:expect(op)
  local from = self.at
  self.at = self.fsm.moves[from][op]
  if self.on_change then
    self.on_change(from, self.at, op, ...)
  end
  return self.at
end

---The declaration as Graphviz text.
---@return string
function fsm.dot(def)
  local out = { ("digraph %q {"):format(def.name), "  rankdir=LR; node [shape=box, style=rounded];" }
  for _, state in ipairs(sorted_keys(def.states)) do
    local mark = state == def.initial and ", peripheries=2" or ""
    out[#out + 1] = ("  %q [tooltip=%q%s];"):format(state, def.states[state], mark)
  end
  for _, a in ipairs(def.arrows) do
    out[#out + 1] = ("  %q -> %q [label=%q];"):format(a.from, a.to, a.by ~= "" and ("%s (%s)"):format(a.op, a.by) or a.op)
  end
  out[#out + 1] = "}"
  return table.concat(out, "\n") .. "\n"
end

---The declaration as a table for people: one line per arrow, states with their meaning first.
---@return string
function fsm.text(def)
  local out, width, op_width = { def.name }, 0, 0
  for state in pairs(def.states) do
    width = math.max(width, #state)
  end
  for _, a in ipairs(def.arrows) do
    op_width = math.max(op_width, #a.op)
  end
  for _, state in ipairs(sorted_keys(def.states)) do
    out[#out + 1] = ("  %s%-" .. width .. "s  %s"):format(state == def.initial and "*" or " ", state, def.states[state])
  end
  local line = "  %-" .. width .. "s --%s%s--> %-" .. width .. "s  %s"
  for _, a in ipairs(def.arrows) do
    out[#out + 1] = line:format(a.from, a.op, ("-"):rep(op_width - #a.op), a.to, a.by)
  end
  return (table.concat(out, "\n"):gsub("[ \t]+\n", "\n"):gsub("%s+$", "")) .. "\n"
end

return fsm

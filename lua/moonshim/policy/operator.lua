---An operator's script: decisions about teardown from a file given by --policy.
---
---It runs in a Lua state of its own and only data crosses. It cannot hold anything, free anything or end anything:
---  1. Loading is strict: a file that is wrong is refused with file and line, before anything is started.
---  2. At run time nothing it does may keep a delete from happening: whatever raises here makes the caller fall back to
---     the default plan and report it.
---  3. Its edits are applied together or not at all, and only to steps of its own owner.
local clock = require "moonshim.clock"
local err = require "moonshim.err"
local signals = require "moonshim.signals"
local suggest = require "moonshim.suggest"

---@class moonshim.Operator
---@field path string
---@field stop table[]? ladder: { { "TERM", wait = ms }, ... }
---@field teardown boolean whether it edits plans
---@field on_lost boolean whether it decides about losses
---@field private script any core.script
local Operator = {}
Operator.__index = Operator

local operator = {}

operator.API = 1
local MAX_BYTES = 1 << 20
local LIMITS = { memory = 16 << 20, instructions = 10 * 1000 * 1000, cpu_ms = 1000 }
-- More than these would be a way to keep a delete from happening.
local MAX_WAIT, MAX_RETRIES, MAX_EDITS, MAX_RUNGS = 10 * 60 * 1000, 20, 200, 16
local FIELDS = { "api", "teardown", "stop", "on_lost" }
local ON_LOST = { ["end"] = true, mark = true, wait = true }
local ON_FAILURE = { stop = true, continue = true, debt = true }
-- Kinds that belong to the VM, which no pod's script may touch.
local OF_THE_VM = { uvm = true, bridge = true, nic = true }

-- Loading ----------------------------------------------------------------------------------------------------------

local function read(path)
  local file, why, errno = io.open(path, "rb")
  if not file then err.raise(errno == 2 and "not_found" or "permission_denied", "cannot read the policy: %s", why) end
  local text, problem = file:read(MAX_BYTES + 1)
  file:close()
  if problem then err.raise("invalid_argument", "cannot read the policy: %s: %s", path, problem) end
  text = text or ""
  if #text > MAX_BYTES then err.raise("invalid_argument", "%s: a policy has at most 1 MiB", path) end
  return text
end

local function is_function(v) return type(v) == "table" and v["function"] ~= nil end

local function kind_of(v) return is_function(v) and "function" or type(v) end

local function duration(v, what)
  local ok, ms = pcall(clock.ms, v)
  if not ok then err.raise("invalid_argument", '%s: %s is no duration, write for example "5s"', what, tostring(v)) end
  if ms > MAX_WAIT then err.raise("invalid_argument", "%s: %s is longer than the 10m that are allowed", what, tostring(v)) end
  return ms
end

---A stop ladder, checked: signals in order, each with the time the processes get to end.
---@param v any
---@param what string
---@return { [1]: string, wait: integer }[]
function operator.ladder(v, what)
  if kind_of(v) ~= "table" then
    err.raise("invalid_argument", "%s must be a list of { signal, wait = duration }, got %s", what, kind_of(v))
  end
  local out = {}
  for key in pairs(v) do
    if math.type(key) ~= "integer" then err.raise("invalid_argument", "%s: a list has no field %s", what, tostring(key)) end
  end
  if #v > MAX_RUNGS then err.raise("invalid_argument", "%s has %d steps, at most %d are allowed", what, #v, MAX_RUNGS) end
  for i, rung in ipairs(v) do
    local here = ("%s[%d]"):format(what, i)
    if kind_of(rung) ~= "table" then
      err.raise("invalid_argument", "%s must be { signal, wait = duration }, got %s", here, kind_of(rung))
    end
    for key in pairs(rung) do
      if key ~= 1 and key ~= "wait" then
        err.raise("invalid_argument", "%s: unknown field %s%s", here, tostring(key), suggest.hint(tostring(key), { "wait" }))
      end
    end
    local ok, e = pcall(signals.number, rung[1])
    if not ok then error(err.wrap(e, here), 0) end
    if rung.wait == nil then err.raise("invalid_argument", "%s: wait is missing", here) end
    out[i] = { type(rung[1]) == "string" and rung[1] or ("%d"):format(rung[1]), wait = duration(rung.wait, here .. ".wait") }
  end
  return out
end

local function raise(path, fmt, ...) err.raise("invalid_argument", "%s: " .. fmt, path, ...) end

---Loads and checks a script. Raises not_found, permission_denied or invalid_argument; nothing of it has run but its top.
---@param path string absolute
---@param opts { core: any? }?
---@return moonshim.Operator
function operator.load(path, opts)
  local core = opts and opts.core or require "moonshim.core"
  local script = err.try(core.script {
    source = read(path), chunkname = "@" .. path, prelude = require "moonshim.policy.prelude",
    memory = LIMITS.memory, instructions = LIMITS.instructions, cpu_ms = LIMITS.cpu_ms,
  })
  local self = setmetatable({ path = path, script = script }, Operator)
  local ok, e = pcall(self.accept, self)
  if not ok then
    script:close()
    error(e, 0)
  end
  return self
end

---@private
function Operator:accept()
  local v, more = self:call("describe")
  local path = self.path
  if kind_of(v) ~= "table" then
    raise(path, "a policy returns a table { api = 1, ... }, this one returned %s", v == nil and "nothing" or kind_of(v))
  end
  if more ~= nil then raise(path, "a policy returns one table") end
  local known = {}
  for _, name in ipairs(FIELDS) do known[name] = true end
  for key in pairs(v) do
    if not known[key] then raise(path, "unknown field %s%s", tostring(key), suggest.hint(tostring(key), FIELDS)) end
  end
  if v.api == nil then raise(path, "api is missing; this version knows api = %d", operator.API) end
  if v.api ~= operator.API then raise(path, "api = %s is not known; this version knows api = %d", tostring(v.api), operator.API) end
  if v.teardown ~= nil and not is_function(v.teardown) then raise(path, "teardown must be a function, got %s", kind_of(v.teardown)) end
  self.teardown = v.teardown ~= nil
  if v.on_lost ~= nil and not is_function(v.on_lost) then raise(path, "on_lost must be a function, got %s", kind_of(v.on_lost)) end
  self.on_lost = v.on_lost ~= nil
  if v.stop ~= nil then
    local ok, ladder = pcall(operator.ladder, v.stop, "stop")
    if not ok then raise(path, "%s", ladder.message) end
    if #ladder == 0 then raise(path, "stop is empty; leave it out for the default ladder") end
    self.stop = ladder
  end
end

function Operator:close() self.script:close() end

-- Calling ----------------------------------------------------------------------------------------------------------

local function settle(result)
  if result[1] == nil then error(err.from(result[2]), 0) end
  return result
end

---Calls a function of the script's state. What it asks for is done by `perform(request)`, in this task and under its
---deadline; without `perform` the script may not ask.
---@private
---@async
---@param what string|integer
---@param perform (fun(request: table): any)?
function Operator:call(what, perform, ...)
  local result = settle(table.pack(self.script:call(what, ...)))
  while result[1] == "yield" do
    local request, call = result[2], result[3]
    local ok, answer
    if perform then
      ok, answer = pcall(perform, request)
    else
      ok, answer = false, err.new("failed_precondition", "the guest can be asked in a step's run function only, not while a plan is edited")
    end
    if not ok and not err.is(answer) or err.is(answer, "cancelled") then
      self.script:abandon(call)
      error(answer, 0)
    end
    if ok then
      result = settle(table.pack(self.script:resume_call(call, true, answer)))
    else
      result = settle(table.pack(self.script:resume_call(call, false, answer.code, answer.message)))
    end
  end
  return table.unpack(result, 2, result.n)
end

-- Losses -----------------------------------------------------------------------------------------------------------

---What a loss means to the script: nil when it leaves that to the default.
---@param kind "bridge"|"agent"|"vm"
---@return { action: "end"|"mark"|"wait", limit: integer? }?
function Operator:lost(kind)
  local action, limit = self:call("on_lost", nil, kind)
  if action == nil then return nil end
  if type(action) ~= "string" or not ON_LOST[action] then
    raise(self.path, 'on_lost("%s") must return "end", "mark" or "wait", limit; it returned %s', kind, tostring(action))
  end
  if kind == "vm" and action == "wait" then raise(self.path, 'on_lost("vm"): a VM that has ended cannot be waited for') end
  if action ~= "wait" then return { action = action } end
  return { action = action, limit = duration(limit, ('%s: the limit of on_lost("%s")'):format(self.path, kind)) }
end

-- Edits ------------------------------------------------------------------------------------------------------------

---@class moonshim.Edit
---@field op "before"|"after"|"tune"|"order"
---@field target string? kind or step
---@field at string "file:line: "

---What the script wants to change in a plan, checked but not applied.
---@async
---@param view { goal: string, reason: string?, steps: table[] }
---@param data table plain data of ctx
---@return moonshim.Edit[]
function Operator:edits(view, data)
  if not self.teardown then return {} end
  local edits = self:call("edit", nil, view, data)
  if type(edits) ~= "table" or #edits > MAX_EDITS then raise(self.path, "a plan takes at most %d edits", MAX_EDITS) end
  for _, edit in ipairs(edits) do
    local function refuse(fmt, ...) err.raise("invalid_argument", "%s" .. fmt, edit.at, ...) end
    if edit.within ~= nil then edit.within = duration(edit.within, edit.at .. "within") end
    if edit.backoff ~= nil then edit.backoff = duration(edit.backoff, edit.at .. "backoff") end
    if edit.retries ~= nil and (math.type(edit.retries) ~= "integer" or edit.retries < 0 or edit.retries > MAX_RETRIES) then
      refuse("retries must be a whole number from 0 to %d", MAX_RETRIES)
    end
    if edit.on_failure ~= nil and not ON_FAILURE[edit.on_failure] then
      refuse('on_failure is "stop", "continue" or "debt", not "%s"', tostring(edit.on_failure))
    end
    if edit.run and edit.on_failure == "debt" then
      refuse('a step of a script holds nothing that could be owed: use "continue" or "stop"')
    end
    if edit.name and (#edit.name > 64 or not edit.name:find("^[%w][%w_.:-]*$")) then
      refuse("the name of a step is letters, digits, '.', ':', '_' and '-', at most 64")
    end
  end
  return edits
end

local function below(owner, scope) return owner == scope or owner:sub(1, #scope + 1) == scope .. "/" end

---Refuses an edit of steps that exist, but only outside the script's own owner.
local function check_scope(plan, edit, scope)
  if OF_THE_VM[edit.target] then
    err.raise("permission_denied", "%s belongs to the VM; a pod's policy changes steps of its own pod only", edit.target)
  end
  local foreign
  for _, step in ipairs(plan.steps) do
    if step.kind == edit.target or step.name == edit.target then
      if below(step.owner, scope) then return end
      foreign = step
    end
  end
  if foreign then
    err.raise("permission_denied", "the step %s belongs to %s; a pod's policy changes steps of its own pod only",
      foreign.name, foreign.owner)
  end
end

local function reorder(own, edit, opts)
  for _, kind in ipairs(edit.kinds) do
    if OF_THE_VM[kind] then err.raise("permission_denied", "%s belongs to the VM; a pod's policy cannot move it", kind) end
    local known = false
    for _, name in ipairs(opts.order) do known = known or name == kind end
    if not known then err.raise("invalid_argument", "there is no kind %s%s", kind, suggest.hint(kind, opts.order)) end
  end
  own:order(edit.kinds)
end

---Applies all edits to a plan, or raises with the place and the reason of the first that is unsafe (then the plan is
---spoilt: apply to a trial first).
---@param plan moonshim.Plan
---@param edits moonshim.Edit[]
---@param opts { owner: string, order: string[], run: fun(edit: moonshim.Edit): function, blocking: boolean }
---owner: the script's; run: makes the function of a step; blocking: a failing hook may stop this plan
function operator.apply(plan, edits, opts)
  local own = plan:only(opts.owner)
  for _, edit in ipairs(edits) do
    local ok, e = pcall(function()
      if edit.op == "order" then return reorder(own, edit, opts) end
      check_scope(plan, edit, opts.owner)
      if edit.op == "tune" then
        own:tune(edit.target, { within = edit.within, retries = edit.retries, backoff = edit.backoff, on_failure = edit.on_failure })
      else
        own[edit.op](own, edit.target, {
          name = edit.name, within = edit.within, on_failure = opts.blocking and edit.on_failure or "continue", run = opts.run(edit),
        })
      end
    end)
    if not ok then
      e = err.from(e)
      error(err.new(e.code, edit.at .. e.message, e), 0)
    end
  end
end

---Runs the function of a step.
---@async
---@param edit moonshim.Edit
---@param step table the plan's step, as data for the script
---@param perform fun(request: table): any
function Operator:run(edit, step, perform) self:call(edit.run["function"], perform, step) end

---The functions of these edits will not be called any more.
---@param edits moonshim.Edit[]
function Operator:forget(edits)
  for _, edit in ipairs(edits) do
    if edit.run then self.script:forget(edit.run["function"]) end
  end
end

return operator

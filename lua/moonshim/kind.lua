--- kind - what can be held, one file per kind (lua/moonshim/kinds), as code over plain data.
--
--   return kind.define("overlay", {
--     v = 1,                                                       version of the facts
--     reserve = function(world, args) return facts end,            no effect; every fact that release needs
--     acquire = function(world, facts, args) return found, value end,
--     release = function(world, facts, step) end,                  right from any prefix of acquire, any number of times
--     verify = function(world, facts) return "held" end,           or "gone" or "unknown"
--     defaults = { within = "30s", retries = 2, backoff = "100ms", on_failure = "stop", args = {} },
--   })
--
-- found is plain data that only the world could choose (pid, loop device); it is merged into the facts and journaled.
-- value is a live object for this process only. step = { goal, within = ms, attempt, args, name, owner }.
-- release raises on failure; code `gone` means done.
--
-- Optional fields:
--   ends_with_boot = true   what its facts name cannot outlive a boot: after a reboot the receipt is gone unasked
--   check_release = true    ask `verify` after release, and believe it: "held" is a failed release (an unmount that
--                           another namespace still holds)
--   ends_world = true       releasing it ends everything that dies with it, and no failure may keep it alive: the VM
--                           (default for the kind "uvm")
--   ties = function(world, args, ledger) return { needs = {...}, dies_with = {...} } end
--                           what it stands on and dies with beyond its arguments, since that depends on the host
--   reads = { 1 }           older versions of the facts that this code still understands
--   show = function(facts) return "text" end    a few words for the printed plan

local clock = require "moonshim.clock"
local err = require "moonshim.err"

local kind = {}

---@class moonshim.Kind
---@field name string
---@field v integer
---@field reserve fun(world: table, args: table): table
---@field acquire fun(world: table, facts: table, args: table): table?, any
---@field release fun(world: table, facts: table, step: table)
---@field verify fun(world: table, facts: table): string
---@field defaults { within: integer, retries: integer, backoff: integer, on_failure: string, args: table }
---@field ends_with_boot boolean
---@field check_release boolean
---@field ends_world boolean
---@field ties (fun(world: table, args: table, ledger: table): table)?
---@field show (fun(facts: table): string)?

local ON_FAILURE = { stop = true, continue = true, debt = true }

---@class moonshim.Kinds a set of kinds
local Kinds = {}
Kinds.__index = Kinds

---Checks and enters a kind; a name is defined once.
---@param name string
---@param spec table see the head of this file
---@return moonshim.Kind
function Kinds:define(name, spec)
  local function bad(fmt, ...)
    err.raise("invalid_argument", "kind %s: " .. fmt, tostring(name), ...)
  end
  if type(name) ~= "string" or not name:find("^[a-z][a-z0-9_]*$") then
    bad("a name is lower-case letters, digits and _")
  elseif self.known[name] then
    err.raise("already_exists", "kind %s is defined already", name)
  end
  for _, method in ipairs { "reserve", "acquire", "release" } do
    if type(spec[method]) ~= "function" then
      bad("%s is missing", method)
    end
  end
  local given = spec.defaults or {}
  local k = {
    name = name, v = spec.v or 1, reserve = spec.reserve, acquire = spec.acquire, release = spec.release,
    verify = spec.verify or function() return "unknown" end,
    ends_with_boot = spec.ends_with_boot == true, check_release = spec.check_release == true,
    ends_world = spec.ends_world == true or spec.ends_world == nil and name == "uvm", ties = spec.ties, show = spec.show, reads = {},
    defaults = {
      within = clock.ms(given.within or "30s"), retries = given.retries or 2, backoff = clock.ms(given.backoff or "100ms"),
      on_failure = given.on_failure or "stop", args = given.args or {},
    },
  }
  if not ON_FAILURE[k.defaults.on_failure] then
    bad("on_failure is stop, continue or debt, not %s", tostring(k.defaults.on_failure))
  elseif math.type(k.v) ~= "integer" then
    bad("v is an integer")
  elseif k.check_release and not spec.verify then
    bad("check_release needs verify")
  end
  k.reads[k.v] = true
  for _, v in ipairs(spec.reads or {}) do
    k.reads[v] = true
  end
  for field, value in pairs(spec) do -- what a kind module exports beyond this (process.start) stays reachable
    if k[field] == nil then
      k[field] = value
    end
  end
  self.known[name] = k
  return k
end

---The kind of that name, loaded from lua/moonshim/kinds when nobody has yet; nil when there is none.
---@return moonshim.Kind?
function Kinds:get(name)
  local k = self.known[name]
  if not k and self.autoload and type(name) == "string" and name:find("^[a-z][a-z0-9_]*$") then
    local module = "moonshim.kinds." .. name
    local ok, e = pcall(require, module)
    if not ok and not (type(e) == "string" and e:find(("module '%s' not found"):format(module), 1, true)) then
      error(e, 0)
    end
    k = self.known[name]
  end
  return k
end

---A set of kinds of its own, for specs.
---@return moonshim.Kinds
function kind.set()
  return setmetatable({ known = {}, autoload = false }, Kinds)
end

local all = kind.set()
all.autoload = true

---@return moonshim.Kind
function kind.define(name, spec)
  return all:define(name, spec)
end

---@return moonshim.Kind?
function kind.get(name)
  return all:get(name)
end

---The set behind kind.define and kind.get.
---@return moonshim.Kinds
function kind.all()
  return all
end

return kind

--- Annotations: what they set, which of them cannot be, and which have no effect.
--
--   local found = annotations.read(map, "pod")      settings, warnings, faults: plain data, nothing raised
--   local found = annotations.settle(map, "container")   the same, raising faults and refusals
--
-- Layer    oci: no calls.
-- Always   1. a switch of security that cannot be read is a fault; anything else that cannot be read has its default,
--             and a warning.
--          2. all faults are found before the first is told, and each names key, value and remedy.
--          3. nothing that was asked for is passed over in silence.
-- See      oci/annotation_keys.lua, spec/unit/oci/annotations_spec.lua
local err = require "moonshim.err"
local keys = require "moonshim.oci.annotation_keys"
local quote = require("moonshim.guest.layout").quote
local suggest = require "moonshim.suggest"

local annotations = {}

-- Values are quoted in messages; a certificate is long.
local SHOWN = 60
-- Unknown names that are told one by one.
local MAX_UNKNOWN = 8

local BOOLEANS = {}
for value, words in pairs { [true] = "1 t T TRUE true True", [false] = "0 f F FALSE false False" } do
  for word in words:gmatch "%S+" do BOOLEANS[word] = value end
end

local function shown(text)
  return quote(#text > SHOWN and text:sub(1, SHOWN) .. "..." or text)
end

local function sorted(map)
  local names = {}
  for name in pairs(map) do names[#names + 1] = name end
  table.sort(names)
  return names
end

-- Values ---------------------------------------------------------------------------------------------------------

local RANGES = { int32 = { -(1 << 31), (1 << 31) - 1 }, uint32 = { 0, (1 << 32) - 1 }, uint64 = { 0, math.maxinteger } }

local function whole(text, least, most)
  local digits = text:match "^-?%d+$"
  local n = digits and #digits <= 20 and math.tointeger(tonumber(digits)) -- nil beyond 64 bits
  return n and n >= least and n <= most and n or nil
end

-- A comma-separated list, or nil when one item is wrong.
local function items(text, read)
  local out = {}
  for item in (text .. ","):gmatch "(.-)," do
    local value = item ~= "" and read(item) or nil
    if value == nil then return nil end
    out[#out + 1] = value
  end
  return out
end

-- By kind: (text, key) -> value, or nil and what is wrong and what to write.
local READ = {}

function READ.bool(text)
  local v = BOOLEANS[text]
  if v == nil then return nil, 'is neither true nor false; write "true" or "false"' end
  return v
end

for kind, range in pairs(RANGES) do
  READ[kind] = function(text, key)
    local least, most = key.least or range[1], key.most or range[2]
    local n = whole(text, least, most)
    if not n then return nil, ("is no whole number from %d to %d; write one"):format(least, most) end
    return n
  end
end

function READ.guid(text)
  if not text:find "^%x%x%x%x%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$" then
    return nil, "is no GUID; write one like 550e8400-e29b-41d4-a716-446655440000"
  end
  return text:lower()
end

function READ.text(text) return text end

function READ.texts(text)
  local list = items(text, function(item) return item end)
  if not list then return nil, "has an empty element; write a,b,c" end
  return list
end

function READ.numbers(text)
  local list = items(text, function(item) return whole(item, 0, RANGES.uint64[2]) end)
  if not list then return nil, "is no list of whole numbers; write 1,2,3" end
  return list
end

READ["core limit"] = function(text)
  local soft, hard = text:match "^(%d+);(%d+)$"
  if not (soft and whole(soft, 0, math.maxinteger) and whole(hard, 0, math.maxinteger)) then
    return nil, "is no core limit; write SOFT;HARD in bytes"
  end
  return text
end

-- What the guest would refuse, and ids of things: a default in their place would be somebody else's.
local MUST = { guid = true, ["core limit"] = true }

local function must(key) return key.strict or key.here == "guest" or MUST[key.kind] or false end

-- Whether a value asks for something at all.
local function asks(key, value)
  if key.kind == "bool" then return value ~= key.default end
  if type(value) == "table" then return #value > 0 end
  return value ~= 0 and value ~= ""
end

--- Whether a switch's text says yes. An absent one and one that cannot be read do not.
---@param text string?
---@return boolean
function annotations.is_on(text) return text ~= nil and BOOLEANS[text] == true end

-- The whole ------------------------------------------------------------------------------------------------------

--- Writes out the switches that an umbrella stands for. An existing other value is a conflict: it stays, and the rest is
--- expanded all the same.
---@param map table<string, string>
---@return table<string, string> out a copy
---@return string[] conflicts
function annotations.expand(map)
  local out, conflicts = {}, {}
  for name, value in pairs(map) do out[name] = value end
  for _, umbrella in ipairs(sorted(keys.EXPANSION)) do
    local value = map[umbrella]
    -- One that says nothing that can be read has nothing to hand on.
    for _, name in ipairs(value and BOOLEANS[value] ~= nil and keys.EXPANSION[umbrella] or {}) do
      local own = map[name]
      if own == nil then
        out[name] = value
      elseif own ~= value and (BOOLEANS[own] == nil or BOOLEANS[own] ~= BOOLEANS[value]) then
        conflicts[#conflicts + 1] = ("%s is %s, but %s, which sets it, is %s; leave one of them out")
          :format(name, shown(own), umbrella, shown(value))
      end
    end
  end
  for _, pair in ipairs(keys.EXCLUSIVE) do
    if annotations.is_on(out[pair[1]]) and annotations.is_on(out[pair[2]]) then
      conflicts[#conflicts + 1] = ("%s and %s are both true; leave one of them out"):format(pair[1], pair[2])
    end
  end
  return out, conflicts
end

local function key_of(name)
  if keys.KNOWN[name] then return keys.KNOWN[name] end
  for front, key in pairs(keys.OPEN) do
    if name:sub(1, #front) == front then return key end
  end
end

local function ours(name)
  for _, pattern in ipairs(keys.OURS) do
    if name:find(pattern) then return true end
  end
  return false
end

---@class moonshim.oci.Annotations
---@field map table<string, string> expanded
---@field settings table by the names of annotation_keys
---@field warnings string[] what has its default, or no effect
---@field faults string[] why nothing may be created
---@field refused string[] what this host must not go on without

--- What a set of annotations means. Of a switch that is absent the setting is absent, too: its default is the caller's;
--- `encrypt_scratch` alone has one that depends on another.
---@param map table<string, string>
---@param on "pod"|"container"
---@return moonshim.oci.Annotations
function annotations.read(map, on)
  local expanded, faults = annotations.expand(map)
  local out = { map = expanded, settings = {}, warnings = {}, faults = faults, refused = {} }
  local unknown = 0
  local function say(list, fmt, ...) list[#list + 1] = fmt:format(...) end
  for _, name in ipairs(sorted(expanded)) do
    local text, key = expanded[name], key_of(name)
    local label = name:find "%c" and shown(name) or name
    if key then
      local value, why = READ[key.kind](text, key)
      local instead = key.instead and "; " .. key.instead or ""
      if value == nil and must(key) then
        say(out.faults, "%s: %s %s, or leave it out", label, shown(text), why)
      elseif value == nil then
        say(out.warnings, "%s: %s %s; the default is used", label, shown(text), why)
      elseif key.on ~= "both" and key.on ~= on then
        if asks(key, value) then say(out.warnings, "%s: %s has no effect here; it belongs to a %s", label, shown(text), key.on) end
      else
        if key.as then out.settings[key.as] = value end
        if key.here == "no" and asks(key, value) then
          say(out.refused, "%s: %s cannot be had on this host; leave it out (%s)", label, shown(text), key.instead)
        elseif key.here == "none" and asks(key, value) then
          say(out.warnings, "%s: %s has no effect on this host%s", label, shown(text), instead)
        end
      end
    elseif ours(name) then
      unknown = unknown + 1
      -- Looking for what was meant takes its time, and nobody reads hundreds of lines.
      if unknown <= MAX_UNKNOWN then
        local near = suggest.nearest(name, keys.KNOWN)
        say(out.warnings, "%s: is not known and has no effect%s", label, near and ("; did you mean %s?"):format(near) or "")
      end
    end
  end
  if unknown > MAX_UNKNOWN then say(out.warnings, "%d more names are not known and have no effect", unknown - MAX_UNKNOWN) end
  local s = out.settings
  if s.encrypt_scratch == nil and s.security_policy and s.security_policy ~= "" then s.encrypt_scratch = true end
  return out
end

local function raise(code, text) err.raise(code, "annotations: %s", text) end

--- As `read`, for who goes on with it: raises invalid_argument with every fault, or unimplemented with every refusal, in
--- one line.
---@param map table<string, string>?
---@param on "pod"|"container"
---@param fail (fun(code: string, text: string))? says it in the caller's words
---@return moonshim.oci.Annotations
function annotations.settle(map, on, fail)
  local found = annotations.read(map or {}, on)
  for _, list in ipairs { { "invalid_argument", found.faults }, { "unimplemented", found.refused } } do
    if #list[2] > 0 then (fail or raise)(list[1], table.concat(list[2], "; and ")) end
  end
  return found
end

--- Whether a name means something to a pod, or to somebody whom we do not know.
---@param name string
---@return boolean
function annotations.may_be_pods(name)
  local key = key_of(name)
  return key == nil or key.on ~= "container"
end

--- What a spec says it is. Neither word is no type, which is the caller's to judge.
---@param map table<string, string>?
---@return "sandbox"|"container"|nil type
---@return string? sandbox_id
function annotations.type_of(map)
  local kind, id = (map or {})[keys.CONTAINER_TYPE], (map or {})[keys.SANDBOX_ID]
  if (kind == nil) ~= (id == nil) then
    err.raise("invalid_argument", "annotations: %s needs %s, too", kind and keys.CONTAINER_TYPE or keys.SANDBOX_ID,
      kind and keys.SANDBOX_ID or keys.CONTAINER_TYPE)
  end
  if kind and kind ~= "sandbox" and kind ~= "container" then
    err.raise("invalid_argument", "annotations: %s: %s is no type; write \"sandbox\" or \"container\"", keys.CONTAINER_TYPE, shown(kind))
  end
  if id == "" then err.raise("invalid_argument", "annotations: %s is empty; write the id of the pod", keys.SANDBOX_ID) end
  return kind, id
end

annotations.keys = keys

return annotations

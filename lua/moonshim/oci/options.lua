--- Runtime options: what the configuration of a runtime says for all of its pods. They become annotations where a spec says
--- nothing itself, so that there is one place that reads both.
--
-- Layer    oci: no calls.
-- Words    options = the fields of the runtime's options message by their names in it; absent options are no options.
-- See      spec/unit/oci/options_spec.lua
local err = require "moonshim.err"
local keys = require "moonshim.oci.annotation_keys"

local options = {}

local MOST = (1 << 31) - 1

-- Number of a message's int32 field; 0 is what an absent one reads as.
local function count(v, name)
  if v == nil or v == 0 then return nil end
  if math.type(v) ~= "integer" or v < 0 or v > MOST then
    err.raise("invalid_argument", "options: %s: %s is no whole number from 1 to %d; write one, or leave it out", name, tostring(v), MOST)
  end
  return ("%d"):format(v)
end

local function text(v, name)
  if v == nil or v == "" then return nil end
  if type(v) ~= "string" then err.raise("invalid_argument", "options: %s must be text, not %s", name, type(v)) end
  return v
end

-- Option, its annotation, its reader.
local FOLDED = {
  { "boot_files_root_path", keys.BOOT_FILES, text },
  { "vm_processor_count", keys.PROCESSORS, count },
  { "vm_memory_size_in_mb", keys.MEMORY, count },
  { "NCProxyAddr", keys.PROXY, text },
}

--- Annotations with what the options add. An annotation that is there keeps its value, whatever it is.
---@param annotations table<string, string>?
---@param given table?
---@return table<string, string> a copy
function options.fold(annotations, given)
  local out = {}
  for name, value in pairs(annotations or {}) do out[name] = value end
  given = given or {}
  if type(given) ~= "table" then err.raise("invalid_argument", "options: must be an object, not %s", type(given)) end
  local function add(name, value)
    if value ~= nil and out[name] == nil then out[name] = value end
  end
  for _, row in ipairs(FOLDED) do add(row[2], row[3](given[row[1]], row[1])) end
  local defaults = given.default_container_annotations
  if defaults ~= nil and type(defaults) ~= "table" then
    err.raise("invalid_argument", "options: default_container_annotations must be an object, not %s", type(defaults))
  end
  for name, value in pairs(defaults or {}) do
    if type(name) ~= "string" or type(value) ~= "string" then
      err.raise("invalid_argument", "options: default_container_annotations: %s must be text, not %s", tostring(name), type(value))
    end
    add(name, value)
  end
  return out
end

return options

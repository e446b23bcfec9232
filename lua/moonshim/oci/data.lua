--- Small helpers for OCI documents as Lua tables: copy, merge, lists, null.
--
-- Layer    oci: no calls, no other module but err.
-- Words    null = a light userdata, as JSON decoders give it; it means "not there".
local err = require "moonshim.err"

local data = {}

local MAX_DEPTH = 64

--- nil, or the JSON decoder's null.
function data.absent(v) return v == nil or type(v) == "userdata" end

--- A deep copy; metatables (they mark JSON arrays) are kept, functions and threads refused.
---@param v any
---@param where string? for messages
---@return any
function data.copy(v, where, depth)
  depth = depth or 0
  local kind = type(v)
  if kind == "function" or kind == "thread" then
    err.raise("invalid_argument", "%s holds a %s; only data can be there", where or "the spec", kind)
  end
  if kind ~= "table" then return v end
  if depth >= MAX_DEPTH then err.raise("invalid_argument", "%s is nested deeper than %d levels", where or "the spec", MAX_DEPTH) end
  local out = {}
  for k, item in pairs(v) do out[k] = data.copy(item, where, depth + 1) end
  return setmetatable(out, getmetatable(v))
end

--- Lays `over` on `base` (changed and returned): maps are merged, lists and everything else replaced, null removes.
function data.merge(base, over)
  for k, v in pairs(over) do
    local old = base[k]
    if type(v) == "userdata" then
      base[k] = nil
    elseif type(v) == "table" and type(old) == "table" and #v == 0 and #old == 0 then
      data.merge(old, v)
    else
      base[k] = data.copy(v)
    end
  end
  return base
end

--- Removes nulls everywhere and empty lists below `fields` (names of members that are lists), in place: an absent list
--- and an empty one mean the same to a runtime, and absent survives every JSON encoder.
---@param v any
---@param fields table<string, boolean>
function data.prune(v, fields)
  if type(v) ~= "table" then return v end
  for k, item in pairs(v) do
    if type(item) == "userdata" or (fields[k] and type(item) == "table" and next(item) == nil) then
      v[k] = nil
    else
      data.prune(item, fields)
    end
  end
  return v
end

return data

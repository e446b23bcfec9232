---@meta _
---core.json: documents that only pass through us (csrc/bind/json.c). The rules of core.lua hold.

---@class moonshim.core
local core = {}

---Documents that only pass through, without loss. Up to 16 MiB, 128 levels, a million values.
---@class moonshim.core.json
---@field null lightuserdata the same as cjson.null
---@field array_mt table marks arrays, so that [] stays []
core.json = {}

---Integers are exact to 64 bits, beyond that an error; 1.0 becomes 1. Of two equal names the last wins.
---@param text string
---@return any value
---@return moonshim.Error? err `invalid_argument` (with the byte), `resource_exhausted`
function core.json.decode(text) end

---Names come out sorted. A table is an array if it is marked or has the keys 1..n; empty and unmarked it is an object.
---@param value any
---@return string? text
---@return moonshim.Error? err names the place
function core.json.encode(value) end

---@param t table? a new one without
---@return table t marked as an array
function core.json.array(t) end

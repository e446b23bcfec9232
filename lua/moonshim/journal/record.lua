--- journal/record - one record as bytes, and back.
--
--   0000001c 5f1d3a90 {"t":"d","n":"layer-3",...}\n
--   length   crc-32   JSON                        both in hex, of the JSON alone
--
-- Length and checksum in front, newline behind: a record that was torn or damaged anywhere does not pass for a whole one.
-- cjson writes and reads the JSON. It keeps 14 digits and knows one kind of number, so whatever it would bend travels as
-- { "$n": "<text>" }, and whole numbers come back as integers.

local cjson = require "cjson"
local err = require "moonshim.err"

local record = {}

---No record is longer than this, in bytes of JSON.
record.LIMIT = 1024 * 1024
record.HEADER = 18

local MAX_DEPTH = 24
local json = cjson.new()
json.encode_max_depth(MAX_DEPTH + 8)
json.decode_max_depth(MAX_DEPTH + 8)
json.encode_number_precision(14)

local CRC = {}
for i = 0, 255 do
  local c = i
  for _ = 1, 8 do
    c = c & 1 == 1 and (c >> 1) ~ 0xEDB88320 or c >> 1
  end
  CRC[i] = c
end

local function crc32(text)
  local c = 0xFFFFFFFF
  for at = 1, #text, 4096 do
    local bytes = { text:byte(at, math.min(at + 4095, #text)) }
    for i = 1, #bytes do
      c = (c >> 8) ~ CRC[(c ~ bytes[i]) & 0xFF]
    end
  end
  return c ~ 0xFFFFFFFF
end

local function refuse(where, fmt, ...)
  err.raise("invalid_argument", "not plain data at %s: " .. fmt, where, ...)
end

local function copy_table(t, where, depth, number, copy)
  if depth > MAX_DEPTH then
    refuse(where, "nested deeper than %d, or cyclic", MAX_DEPTH)
  end
  local out, n, items = {}, #t, 0
  for k, v in next, t do
    if type(k) == "string" then
      if n > 0 then
        refuse(where, "a list with the key %q", k)
      elseif k == "$n" then
        refuse(where, "the key $n is reserved")
      end
    elseif math.type(k) ~= "integer" or k < 1 or k > n then
      refuse(where, "the key %s", tostring(k))
    else
      items = items + 1
    end
    out[k] = copy(v, where .. "." .. tostring(k), depth + 1, number)
  end
  if items ~= n then
    refuse(where, "a list with a hole")
  end
  return out
end

local function copy_value(v, where, depth, number)
  local kind = type(v)
  if kind == "string" or kind == "boolean" then
    return v
  elseif kind == "number" then
    if v ~= v or v == math.huge or v == -math.huge then
      refuse(where, "%s", tostring(v))
    end
    return number and number(v) or v
  elseif kind == "table" then
    return copy_table(v, where, depth, number, copy_value)
  end
  refuse(where, "a %s", kind)
end

---A deep copy of plain data: strings, booleans, numbers, lists and string-keyed tables. Raises invalid_argument, naming
---the place, for anything else.
---@param where string? how to call the top in errors
function record.plain(value, where)
  return copy_value(value, where or "value", 1)
end

-- nil when cjson gets it right by itself.
local function tagged(v)
  if math.type(v) == "integer" then
    if v > -100000000000000 and v < 100000000000000 then
      return nil
    end
    return { ["$n"] = ("%d"):format(v) }
  elseif v == math.floor(v) or tonumber(("%.14g"):format(v)) ~= v then
    return { ["$n"] = ("%a"):format(v) }
  end
end

local function untag(t)
  local exact = t["$n"]
  if exact then
    return assert(tonumber(exact))
  end
  for k, v in next, t do
    if type(v) == "number" then
      t[k] = math.tointeger(v) or v
    elseif type(v) == "table" then
      t[k] = untag(v)
    end
  end
  return t
end

---@param value table plain data
---@return string line
function record.encode(value)
  local body = json.encode(copy_value(value, "record", 1, tagged))
  if #body > record.LIMIT then
    err.raise("resource_exhausted", "a journal record of %d bytes: the limit is %d", #body, record.LIMIT)
  end
  return ("%08x %08x %s\n"):format(#body, crc32(body), body)
end

---Reads the record at `at`. Returns it and where the next one starts, or nil and why there is none.
---@param bytes string
---@param at integer
---@return table?, integer|string
function record.decode(bytes, at)
  local length, sum = bytes:match("^(%x%x%x%x%x%x%x%x) (%x%x%x%x%x%x%x%x) ", at)
  if not length then
    return nil, "no record header"
  end
  local n = tonumber(length, 16)
  if n > record.LIMIT then
    return nil, ("a record of %d bytes"):format(n)
  end
  local stop = at + record.HEADER + n
  if bytes:byte(stop) ~= 10 then
    return nil, "a torn record"
  end
  local body = bytes:sub(at + record.HEADER, stop - 1)
  if crc32(body) ~= tonumber(sum, 16) then
    return nil, "a record with a wrong checksum"
  end
  local ok, value = pcall(json.decode, body)
  if not ok or type(value) ~= "table" then
    return nil, "a record that is not JSON"
  end
  return untag(value), stop + 1
end

return record

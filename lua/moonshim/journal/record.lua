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

local function crc32_in_lua()
  local sums = {}
  for i = 0, 255 do
    local c = i
    for _ = 1, 8 do
      c = c & 1 == 1 and (c >> 1) ~ 0xEDB88320 or c >> 1
    end
    sums[i] = c
  end
  return function(text)
    local c = 0xFFFFFFFF
    for at = 1, #text do
      c = (c >> 8) ~ sums[(c ~ text:byte(at)) & 0xFF]
    end
    return c ~ 0xFFFFFFFF
  end
end

-- Every record is summed, so C does it where the module is there; whoever reads a journal elsewhere can do without.
local summed
local function crc32(text)
  if not summed then
    local ok, core = pcall(require, "moonshim.core")
    summed = ok and core.crc32 or crc32_in_lua()
  end
  return summed(text)
end

-- What is looked at: the keys that lead to it, from the top. Nothing here waits, so there is one at a time; it becomes a
-- text only when something is refused.
local way = {}

local function refuse(depth, fmt, ...)
  local where = { way[0] }
  for i = 1, depth do
    where[i + 1] = tostring(way[i])
  end
  err.raise("invalid_argument", "not plain data at %s: " .. fmt, table.concat(where, "."), ...)
end

local copy_value

local function copy_table(t, depth, number)
  if depth >= MAX_DEPTH then
    refuse(depth, "nested deeper than %d, or cyclic", MAX_DEPTH)
  end
  local out, n, items = {}, #t, 0
  for k, v in next, t do
    if type(k) == "string" then
      if n > 0 then
        refuse(depth, "a list with the key %q", k)
      elseif k == "$n" then
        refuse(depth, "the key $n is reserved")
      end
    elseif math.type(k) ~= "integer" or k < 1 or k > n then
      refuse(depth, "the key %s", tostring(k))
    else
      items = items + 1
    end
    if type(v) == "string" then -- most are
      out[k] = v
    else
      way[depth + 1] = k
      out[k] = copy_value(v, depth + 1, number)
    end
  end
  if items ~= n then
    refuse(depth, "a list with a hole")
  end
  return out
end

function copy_value(v, depth, number)
  local kind = type(v)
  if kind == "string" or kind == "boolean" then
    return v
  elseif kind == "number" then
    if v ~= v or v == math.huge or v == -math.huge then
      refuse(depth, "%s", tostring(v))
    end
    return number and number(v) or v
  elseif kind == "table" then
    return copy_table(v, depth, number)
  end
  refuse(depth, "a %s", kind)
end

local function copy(value, where, number)
  way[0] = where
  return copy_value(value, 0, number)
end

---A deep copy of plain data: strings, booleans, numbers, lists and string-keyed tables. Raises invalid_argument, naming
---the place, for anything else.
---@param where string? how to call the top in errors
function record.plain(value, where)
  return copy(value, where or "value")
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

-- Whether cjson would bend something in it. Nearly never, so a record is looked at before it is copied. Data that is not
-- plain says yes: the copy refuses it with the place.
local function bends(v, depth)
  local kind = type(v)
  if kind == "string" or kind == "boolean" then
    return false
  elseif kind == "number" then
    return math.type(v) ~= "integer" or tagged(v) ~= nil
  elseif kind ~= "table" or depth > MAX_DEPTH then
    return true
  end
  local n, items = #v, 0
  for k, item in next, v do
    if type(k) == "string" then
      if n > 0 or k == "$n" then
        return true
      end
    elseif math.type(k) ~= "integer" or k < 1 or k > n then
      return true
    else
      items = items + 1
    end
    if type(item) ~= "string" and bends(item, depth + 1) then
      return true
    end
  end
  return items ~= n
end

---@param value table plain data
---@return string line
function record.encode(value)
  local body = json.encode(bends(value, 1) and copy(value, "record", tagged) or value)
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

---Readers of small values: (value, place) -> value. All raise invalid_argument with the place; none changes its input.
local path = require "moonshim.path"
local suggest = require "moonshim.suggest"

local read = {}

local MAX_ID, MAX_PATH, MAX_TEXT = 76, path.MAX, 128 * 1024
local UNITS = { [""] = 1, K = 1 << 10, M = 1 << 20, G = 1 << 30, T = 1 << 40 }

---The type; a function that a pod file's state could not hand over is one, too.
function read.kind_of(v)
  if type(v) == "table" and v["function"] then return "function" end
  return type(v)
end

function read.want(v, at, kind)
  if read.kind_of(v) ~= kind then at:fail("expected %s, got %s", kind, read.kind_of(v)) end
  return v
end

function read.text(v, at)
  read.want(v, at, "string")
  if v == "" then at:fail("must not be empty") end
  if #v > MAX_TEXT then at:fail("is %d bytes long, at most %d are allowed", #v, MAX_TEXT) end
  if v:find("\0", 1, true) then at:fail("must not contain a NUL byte") end
  if not utf8.len(v) then at:fail("is not UTF-8, which an OCI specification cannot hold") end
  return v
end

function read.flag(v, at) return read.want(v, at, "boolean") end

---A list without holes; `each` reads an element.
function read.list(v, at, each)
  read.want(v, at, "table")
  local out = {}
  for key in pairs(v) do
    if math.type(key) ~= "integer" or key < 1 or key > #v then at:fail("expected a list, found the key %s", tostring(key)) end
  end
  for i, item in ipairs(v) do out[i] = each(item, at:at(i)) end
  return out
end

---A table of known fields; each value of `fields` reads its own.
function read.record(v, at, fields)
  read.want(v, at, "table")
  local out = {}
  for key, value in pairs(v) do
    local one = fields[key]
    if not one then at:at(key):fail("unknown field%s", suggest.hint(key, fields)) end
    out[key] = one(value, at:at(key))
  end
  return out
end

---A word on a command line; an integer is written out, so that { "sleep", 600 } means what it says.
function read.word(v, at)
  if math.type(v) == "integer" then return ("%d"):format(v) end
  read.want(v, at, "string")
  if #v > MAX_TEXT then at:fail("is %d bytes long, at most %d are allowed", #v, MAX_TEXT) end
  if v:find("\0", 1, true) then at:fail("must not contain a NUL byte") end
  if not utf8.len(v) then at:fail("is not UTF-8, which an OCI specification cannot hold") end
  return v
end

read.normal = path.normal

---Absolute; a relative one starts at the reader's base.
function read.host_path(v, at)
  read.text(v, at)
  if #v > MAX_PATH then at:fail("is longer than a path can be") end
  if v:sub(1, 1) ~= "/" then v = at.reader.base .. "/" .. v end
  return read.normal(v)
end

function read.guest_path(v, at)
  read.text(v, at)
  if v:sub(1, 1) ~= "/" then at:fail('"%s" must be an absolute path', v) end
  if #v > MAX_PATH then at:fail("is longer than a path can be") end
  return v
end

---A name that can be a folder, a host name and a word of a plan.
function read.id(v, at)
  read.want(v, at, "string")
  local why
  if v == "" then why = "an id must not be empty"
  elseif #v > MAX_ID then why = ("an id has at most %d bytes, this one has %d"):format(MAX_ID, #v)
  elseif v:find("..", 1, true) then why = 'an id must not contain ".."'
  elseif v:find("/", 1, true) then why = 'an id must not contain "/"'
  elseif v:find("%s") then why = "an id must not contain spaces"
  elseif not v:find("^[%w][%w._-]*$") then why = "an id is letters, digits, '.', '_' and '-', and starts with a letter or digit" end
  if why then at:fail("%s", why) end
  return v
end

---Bytes of a disk: a number, or "64M".
function read.size(v, at)
  local bytes
  if math.type(v) == "integer" then
    bytes = v
  else
    local digits, unit = read.want(v, at, "string"):upper():match("^(%d+)%s*([KMGT]?)I?B?$")
    if not digits or #digits > 12 then at:fail('"%s" is no size; write for example "64M" or "2G"', v) end
    bytes = math.tointeger(tonumber(digits)) * UNITS[unit]
  end
  if bytes < 1 << 20 then at:fail("is %d bytes, at least 1M is needed for a file system", bytes) end
  if bytes > 1 << 50 then at:fail("is larger than 1024T") end
  return bytes
end

function read.hostname(v, at)
  read.text(v, at)
  if #v > 63 or not v:find("^[%w][%w.-]*$") then at:fail('"%s" is no host name', v) end
  return v
end

---OCI overrides pass through; only what cannot be data is refused. Copies, bounded in depth.
function read.data(v, at, depth)
  depth = depth or 0
  if depth > 32 then at:fail("is nested too deeply (or contains itself)") end
  local kind = read.kind_of(v)
  if kind == "table" then
    local out = setmetatable({}, getmetatable(v))
    for key, value in pairs(v) do
      if type(key) ~= "string" and math.type(key) ~= "integer" then at:fail("has a key that is neither a name nor a number") end
      out[key] = read.data(value, at:at(key), depth + 1)
    end
    return out
  end
  if kind == "number" and (v ~= v or v == math.huge or v == -math.huge) then at:fail("is not a finite number") end
  if kind ~= "string" and kind ~= "number" and kind ~= "boolean" then at:fail("expected data, got a %s", kind) end
  return v
end

return read

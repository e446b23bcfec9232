--- log - leveled, structured, and careful with secrets.
--
-- A record is a message for people plus fields for machines. Where the lines go is the business of the sink that is
-- passed in. Values under names that carry programs' arguments, environments or credentials are masked at any depth, in
-- both formats; sizes are bounded; a log call never raises.

local log = {}

local LEVELS = { debug = 1, info = 2, warn = 3, error = 4 }

-- Compared in lower case. OCI, the guest protocol and containerd each have their own spelling.
local SECRET = {}
for name in ([[
  env environ environment environmentvariables envs args argv arguments command commandline commandargs cmd cmdline
  token password passwd passphrase secret credentials authorization auth key_material spec oci_process oci_spec
]]):gmatch("%S+") do
  SECRET[name] = true
end

local MAX_TEXT, MAX_ITEMS, MAX_DEPTH, MAX_LINE = 1024, 64, 6, 8192

local function masked(value)
  if type(value) == "table" then
    local n = 0
    for _ in pairs(value) do
      n = n + 1
    end
    return ("[masked: %d]"):format(n)
  end
  return "[masked]"
end

local function cut(text, limit)
  if #text > limit then
    return ("%s... [%d bytes]"):format(text:sub(1, limit), #text)
  end
  return text
end

local function sorted_keys(t)
  local keys = {}
  for k in pairs(t) do
    keys[#keys + 1] = k
  end
  table.sort(keys, function(a, b)
    if type(a) == "number" and type(b) == "number" then
      return a < b
    end
    return tostring(a) < tostring(b)
  end)
  return keys
end

local ESCAPES = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function quote(text)
  if not utf8.len(text) then
    text = text:gsub("[\x80-\xff]", "?")
  end
  return '"' .. text:gsub('[%c"\\\127]', function(c)
    return ESCAPES[c] or ("\\u%04x"):format(c:byte())
  end) .. '"'
end

local write

local function write_table(t, depth)
  if depth > MAX_DEPTH then
    return quote "[too deep]"
  end
  local out, count = {}, 0
  local list = #t > 0
  for _, k in ipairs(sorted_keys(t)) do
    count = count + 1
    if count > MAX_ITEMS then
      out[#out + 1] = list and quote "..." or '"...":"..."'
      break
    end
    local v = t[k]
    if list then
      out[#out + 1] = write(v, depth + 1)
    else
      local name = tostring(k)
      out[#out + 1] = quote(name) .. ":" .. (SECRET[name:lower()] and quote(masked(v)) or write(v, depth + 1))
    end
  end
  return (list and "[%s]" or "{%s}"):format(table.concat(out, ","))
end

-- JSON of anything at all; what JSON cannot say becomes a string.
function write(v, depth)
  local kind = type(v)
  if kind == "nil" or kind == "boolean" then
    return kind == "nil" and "null" or tostring(v)
  elseif kind == "number" then
    if v ~= v or v == math.huge or v == -math.huge then
      return quote(tostring(v))
    end
    return math.type(v) == "integer" and ("%d"):format(v) or ("%.14g"):format(v)
  elseif kind == "string" then
    return quote(cut(v, MAX_TEXT))
  elseif kind == "table" then
    local meta = getmetatable(v)
    if type(meta) == "table" and meta.__tostring and type(rawget(v, "code")) ~= "string" then
      local ok, text = pcall(tostring, v)
      return quote(ok and cut(text, MAX_TEXT) or kind)
    end
    return write_table(v, depth)
  end
  return quote(kind)
end

local function write_error(e)
  if type(e) == "table" and type(rawget(e, "code")) == "string" then
    return ("%s: %s"):format(e.code, tostring(e.message))
  end
  return tostring(e)
end

local FORMATS = {}

function FORMATS.json(record)
  local out = {
    ('"time":%.3f,"level":"%s","msg":%s'):format(record.time, record.level, quote(cut(record.message, MAX_TEXT))),
  }
  for _, name in ipairs(sorted_keys(record.fields)) do
    local v = record.fields[name]
    out[#out + 1] = quote(tostring(name)) .. ":" .. (SECRET[tostring(name):lower()] and quote(masked(v)) or write(v, 1))
  end
  local line = "{" .. table.concat(out, ",") .. "}"
  if #line > MAX_LINE then -- cut text is not JSON any more, so the fields go
    line = "{" .. out[1] .. ',"fields":"[too long]"}'
  end
  return line
end

function FORMATS.text(record)
  local out = { ("%-5s %s"):format(record.level, cut(record.message:gsub("%c", " "), MAX_TEXT)) }
  for _, name in ipairs(sorted_keys(record.fields)) do
    local v = record.fields[name]
    local text
    if SECRET[tostring(name):lower()] then
      text = masked(v)
    elseif name == "error" then
      text = write(write_error(v), 1)
    elseif type(v) == "string" and v:find("^[%w%._/:@%-]+$") then
      text = cut(v, MAX_TEXT)
    else
      text = write(v, 1)
    end
    out[#out + 1] = ("%s=%s"):format(tostring(name), text)
  end
  return cut(table.concat(out, " "), MAX_LINE)
end

---@class moonshim.Log
---@field debug fun(self, message: string, fields: table?)
---@field info fun(self, message: string, fields: table?)
---@field warn fun(self, message: string, fields: table?)
---@field error fun(self, message: string, fields: table?)
local Log = {}
Log.__index = Log

---@param opts { level: string?, format: string?, sink: fun(line: string, record: table)?, wall: function?, fields: table? }?
---format is "text" or "json"; sink gets one line without newline; without a sink nothing is written. wall gives seconds since 1970.
---@return moonshim.Log
function log.new(opts)
  opts = opts or {}
  local level, format = opts.level or "info", opts.format or "text"
  if not LEVELS[level] then
    require("moonshim.err").raise("invalid_argument", "log level %s: say debug, info, warn or error", tostring(level))
  elseif not FORMATS[format] then
    require("moonshim.err").raise("invalid_argument", "log format %s: say text or json", tostring(format))
  end
  return setmetatable({
    level = level, limit = LEVELS[level], format = FORMATS[format], sink = opts.sink, wall = opts.wall or os.time,
    fields = opts.fields or {},
  }, Log)
end

---A log that writes warnings and errors to stderr, for those who were given none.
---@return moonshim.Log
function log.stderr()
  return log.new {
    level = "warn",
    sink = function(line)
      io.stderr:write("moonshim: ", line, "\n")
    end,
  }
end

---A log that adds `fields` to every record.
---@param fields table
---@return moonshim.Log
function Log:with(fields)
  local merged = {}
  for k, v in pairs(self.fields) do
    merged[k] = v
  end
  for k, v in pairs(fields) do
    merged[k] = v
  end
  local copy = {}
  for k, v in pairs(self) do
    copy[k] = v
  end
  copy.fields = merged
  return setmetatable(copy, Log)
end

local function emit(self, level, message, fields)
  local merged = fields and next(self.fields) and self:with(fields).fields or fields or self.fields
  local record = { time = self.wall(), level = level, message = tostring(message), fields = merged }
  self.sink(self.format(record), record)
end

for level, rank in pairs(LEVELS) do
  Log[level] = function(self, message, fields)
    if rank >= self.limit and self.sink then
      pcall(emit, self, level, message, fields) -- telling must never become a second failure
    end
  end
end

return log

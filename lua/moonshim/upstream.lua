---Where the streams of a process come from and go to: from what a person or containerd wrote to the arguments of the kinds
---"stdio" and "logger". Text alone: nothing is looked up, opened or started here.
---
---  nil, ""                not connected
---  /path                  a fifo; or a file, which is appended to (as standard input: read)
---  fifo:///path           the same
---  file:///path           a file, made when it is missing; its folder must be there
---  binary:///prog?k=v&f   a program that gets both outputs, see kinds/logger.lua; it can only be named as stdout
---  { fd = }, { path = }   as they are; { path = } is as /path
---
---In the last part of a URI %XX is a byte. The arguments of a program are its query in the order in which it is written: each
---key, then its (first) value, which may be empty.
local err = require "moonshim.err"
local path = require "moonshim.path"

---@class moonshim.Streams
---@field stdin string|moonshim.IoEnd|nil
---@field stdout string|moonshim.IoEnd|nil
---@field stderr string|moonshim.IoEnd|nil
---@field size { rows: integer, columns: integer }? of its terminal
---@field retry string|integer|nil how long output waits for a fifo's reader that has gone away; for ever when nil or 0
---@field name string? for messages
---@field namespace string? what a logger is told, "default" when nil

local upstream = {}

---A text longer than this is refused, in bytes.
upstream.MAX = 64 * 1024
local SUPPORTED = "fifo, file and binary, or a plain path"
---containerd's name for "no namespace was named".
upstream.NAMESPACE = "default"

local function bad(fmt, ...) err.raise("invalid_argument", fmt, ...) end

local function decoded(text, where)
  local out = text:gsub("%%(.?.?)", function(digits)
    if not digits:find("^%x%x$") then bad('"%%%s" in the %s is no escape; write %%25 for a %%', digits, where) end
    return string.char(tonumber(digits, 16))
  end)
  if out:find("\0", 1, true) then bad("the %s must not contain a NUL byte", where) end
  return out
end

local function absolute(text, scheme)
  local host, rest = text:match("^([^/]*)(.*)$")
  if host ~= "" and host ~= "localhost" then
    bad('%s://%s names the host "%s"; a path needs three slashes, as in %s:///path', scheme, host .. rest, host, scheme)
  end
  local clean = path.normal(decoded(rest, "path"))
  if clean == "/" then bad("%s:// needs a path, as in %s:///path", scheme, scheme) end
  if #clean > path.MAX then bad("the path is longer than a path can be") end
  return clean
end

local function arguments(query)
  local out, seen = {}, {}
  for pair in query:gmatch("[^&]+") do
    local key, value = pair:match("^([^=]*)=?(.*)$")
    key, value = decoded(key:gsub("%+", " "), "query"), decoded(value:gsub("%+", " "), "query")
    if not seen[key] then
      seen[key] = true
      out[#out + 1], out[#out + 2] = key, value
    end
  end
  return out
end

local SCHEMES = {
  fifo = function(rest) return { path = absolute(rest, "fifo") } end,
  file = function(rest) return { file = absolute(rest, "file") } end,
  binary = function(rest)
    local place, query = rest:match("^([^?]*)%??(.*)$")
    return { program = absolute(place, "binary"), args = arguments(query) }
  end,
}

---Reads one text. Raises invalid_argument, without the stream's name.
---@param text string
---@return { path: string?, file: string?, program: string?, args: string[]? }? nil: not connected
function upstream.parse(text)
  if text == "" then return nil end
  if #text > upstream.MAX then bad("is %d bytes long, at most %d are allowed", #text, upstream.MAX) end
  if text:find("\0", 1, true) then bad("must not contain a NUL byte") end
  local scheme, rest = text:match("^(%a[%w+.-]*)://(.*)$")
  if not scheme then return { path = text } end
  local read = SCHEMES[scheme:lower()]
  if not read then bad('there is nothing behind "%s://"; known are %s', scheme, SUPPORTED) end
  rest = rest:match("^[^#]*")
  if scheme:lower() ~= "binary" and rest:find("?", 1, true) then bad('a "?" in the path is written %3F') end
  return read(rest)
end

local function read(given, stream)
  if type(given) ~= "string" then return given end
  local ok, parsed = pcall(upstream.parse, given)
  if ok then return parsed end
  error(err.wrap(parsed, stream), 0)
end

---The streams of one process. With a program as stdout what stderr says does not count, nor a stdin that is a text, as with
---containerd. Raises invalid_argument; failed_precondition for a stderr of its own beside a terminal.
---@param io moonshim.Streams?
---@param opts { terminal: boolean?, id: string } id: of the container or the exec
---@return table? stdio arguments of the kind "stdio"
---@return table? logger arguments of the kind "logger"
function upstream.choose(io, opts)
  if not io then return nil end
  local out = { name = io.name, tty = opts.terminal or nil, away = io.retry and require("moonshim.clock").ms(io.retry) or nil }
  local stdout = read(io.stdout, "stdout")
  if stdout and stdout.program then
    if type(io.stdin) == "table" then out.stdin = io.stdin end
    return out, { path = stdout.program, args = stdout.args, id = opts.id, namespace = io.namespace or upstream.NAMESPACE }
  end
  out.stdin, out.stdout = read(io.stdin, "stdin"), stdout
  for _, stream in ipairs { "stdin", "stderr" } do
    local parsed = read(io[stream], stream)
    if parsed and parsed.program then bad("%s: a program takes both outputs and is named as stdout", stream) end
  end
  if not opts.terminal then
    out.stderr = read(io.stderr, "stderr")
  elseif type(io.stderr) == "string" and io.stderr ~= "" and io.stderr ~= io.stdout then
    err.raise("failed_precondition", "stderr: with a terminal there is none, all output comes on stdout; leave it out")
  end
  return out
end

return upstream

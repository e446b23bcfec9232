--- kind "stdio": the streams of one process, moved by the data thread.
--
-- args    { stdin?, stdout?, stderr? = { fd = n }, { path = fifo or file } or { file = path }, tty?, name?,
--           logger? = receipt of a logger, which gets both outputs,
--           away? = milliseconds that output waits for a fifo's reader to come back, 0 = for ever,
--           direct? = the process itself has the guest's ends, so a break is the end of the stream }
-- facts   { ports = { stdin?, stdout?, stderr? }, tty }
-- Always  1. the sockets listen before the guest hears of their ports; with an agent of ours they listen again when a
--            connection breaks, and no byte is lost or doubled.
--         2. ports are never used twice in the life of a VM.
--         3. with a terminal there is no stderr: it comes with stdout.
--         4. a file is appended to and made (0600) when missing, never its folder; as stdin it is read.
-- The kind also exports drain, close_stdin and counts, for those who hold the receipt.
local err = require "moonshim.err"
local kind = require "moonshim.kind"
local logger = require "moonshim.kinds.logger"
local task = require "moonshim.task"

local STREAMS = { "stdin", "stdout", "stderr" }
-- How much longer than its own limit the data thread may take to say that a stream has drained; milliseconds.
local GRACE = 5000

---@class moonshim.Stdio
---@field io any core io
---@field name string for messages
---@field drained moonshim.Signal fires with { stdin, stdout, stderr = bytes, cut = bool }
local Stdio = {}
Stdio.__index = Stdio

local function live(world)
  local all = rawget(world, "live_stdio") or {}
  world.live_stdio = all
  return all
end

local function key_of(facts)
  return facts.ports.stdin or facts.ports.stdout or facts.ports.stderr or 0
end

--- Idempotent; what has not drained is cut.
function Stdio:close()
  local all = live(self.world)
  if all[self.key] == self then all[self.key] = nil end
  if not self.io then return end
  self.io:close()
  self.io = nil
  if not self.drained:fired() then self.drained:fire { cut = true } end
end

---@private
---@async
function Stdio:drain(idle, most)
  if not self.world.alive() then self.io:gone() end -- nothing more comes than what is here
  self.io:exited(idle, most)
  local report = task.deadline(most + GRACE, self.drained.wait, self.drained)
  if self.reported then return report end
  self.reported = true
  local dropped, errors = report.dropped or {}, report.errors or {}
  if report.cut then self.world.log:warn("output was cut: it had not ended in time after the exit", { name = self.name }) end
  for _, stream in ipairs(STREAMS) do
    if dropped[stream] then
      self.world.log:warn("output was dropped: nobody read it",
        { name = self.name, stream = stream, bytes = dropped[stream], error = errors[stream] })
    end
  end
  return report
end

local function wanted(args, name)
  if args.tty and name == "stderr" then return false end
  return args[name] ~= nil or args.logger ~= nil and name ~= "stdin"
end

local FILE_MODE <const> = 384 -- 0600: it may hold what nobody else is to read

-- A file that is opened here, once, for the data thread to have it by descriptor.
local function open_file(path, name)
  local uv = require "luv"
  local c = uv.constants
  local way = name == "stdin" and c.O_RDONLY or c.O_WRONLY | c.O_APPEND | c.O_CREAT
  local fd, why, code = uv.fs_open(path, way | c.O_NONBLOCK | c.O_NOCTTY, FILE_MODE)
  if not fd then
    local folder = path:match "^(.*)/[^/]*$"
    if code == "ENOENT" and name ~= "stdin" and folder and folder ~= "" then
      err.raise("not_found", "%s: cannot write %s: there is no folder %s; make it first", name, path, folder)
    end
    local _, e = pcall(err.try, nil, why, code)
    error(err.wrap(e, name), 0)
  end
  local kind_of = (uv.fs_fstat(fd) or {}).type
  if kind_of == "file" or kind_of == "char" then return fd end
  uv.fs_close(fd)
  return err.raise("invalid_argument", "%s: %s is a %s, not a file", name, path, kind_of or "mystery")
end

-- What the data thread gets for a stream; in `opened` what is to be closed when it has it.
local function end_of(args, name, opened)
  if args.logger and name ~= "stdin" then return logger.lend(args.logger, name) end
  local given = args[name]
  local file = given.file
  if given.path then
    local stat = require("luv").fs_stat(given.path)
    if stat and stat.type == "file" then file = given.path end
  end
  if not file then return given end
  opened[#opened + 1] = open_file(file, name)
  return { fd = opened[#opened] }
end

local function open_streams(world, args, want)
  local opened = {}
  local ok, io = pcall(function()
    for _, name in ipairs(STREAMS) do
      if wanted(args, name) then want[name] = end_of(args, name, opened) end
    end
    return err.try(world.relay:open(want))
  end)
  for _, fd in ipairs(opened) do require("luv").fs_close(fd) end
  if not ok then
    local named = args.stdin and args.stdin.path or args.stdout and args.stdout.path or args.stderr and args.stderr.path
    if named and err.is(io, "not_found") then
      io.message = io.message .. ' (a plain path is a fifo, or a file that is there; "file:///path" makes one)'
    end
    error(io, 0)
  end
  for _, name in ipairs(STREAMS) do
    if args.logger and name ~= "stdin" and want[name] then logger.lent(args.logger, name) end
  end
  return io
end

local k
k = {
  v = 1,
  ends_with_boot = true,
  reserve = function(world, args)
    local ports = {}
    for _, name in ipairs(STREAMS) do
      local stream = args[name]
      if stream ~= nil and (type(stream) ~= "table" or not (stream.fd or stream.path or stream.file)) then
        err.raise("invalid_argument", "stdio: %s must be { fd = number }, { path = fifo } or { file = path }", name)
      end
      if wanted(args, name) then ports[name] = world.ports() end
    end
    return { ports = ports, tty = args.tty or false }
  end,
  acquire = function(world, facts, args)
    local self = setmetatable({
      world = world, name = args.name or "process", key = key_of(facts), drained = task.signal(), ready = task.signal(),
    }, Stdio)
    if not next(facts.ports) then return nil, self end
    local want = {
      name = self.name,
      dir = world.uvm:socket_dir(),
      tty = facts.tty,
      resume = not (args.direct and not facts.tty) and world.guest and world.guest.extensions and world.guest.extensions.StdioResume
        or false,
      ports = facts.ports,
      away = args.away,
      on_ready = function(e) self.ready:fire(e) end,
      on_drained = function(report) self.drained:fire(report) end,
    }
    if args.logger then logger.ready(args.logger) end
    self.io = open_streams(world, args, want)
    live(world)[key_of(facts)] = self
    return nil, self
  end,
  -- step.args, milliseconds: drain = how long output that is still on its way may stand still, most = may take at all.
  release = function(world, facts, step)
    local self = live(world)[key_of(facts)]
    local drain = step and step.args and step.args.drain
    if self and self.io and drain and drain > 0 then self:drain(drain, step.args.most or drain) end
    if self then self:close() end
    -- Sockets that nobody called: of a process that never started, or of a shim that was killed.
    for _, port in pairs(facts.ports) do os.remove(("%s/s/%d"):format(world.run_dir, port)) end
  end,
  show = function(facts)
    local out = {}
    for _, name in ipairs(STREAMS) do out[#out + 1] = facts.ports[name] and name or nil end
    return table.concat(out, ", ")
  end,
  verify = function(world, facts) return live(world)[key_of(facts)] and "held" or "gone" end,
  defaults = { within = "15s", retries = 1, backoff = "100ms", on_failure = "continue" },
}

--- The process has exited: moves what is left until nothing has moved for `idle` ms, for at most `most` ms, then closes.
--- Returns what was moved.
---@async
---@param receipt moonshim.Receipt
---@param idle integer
---@param most integer
---@return moonshim.IoReport|{}
function k.drain(_, receipt, idle, most)
  local self = receipt.value
  if not self or not self.io then return {} end
  return self:drain(idle, most)
end

--- Ends standard input after the bytes that are there. Repeatable.
function k.close_stdin(_, receipt)
  local self = receipt.value
  if self and self.io then self.io:close_stdin() end
end

--- Bytes moved so far.
function k.counts(_, receipt)
  local self = receipt.value
  return self and self.io and self.io:counts() or {}
end

return kind.define("stdio", k)

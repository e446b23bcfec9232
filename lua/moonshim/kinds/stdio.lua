--- kind "stdio": the streams of one process, moved by the data thread.
--
-- args    { stdin?, stdout?, stderr? = { fd = n } or { path = fifo }, tty?, name? }
-- facts   { ports = { stdin?, stdout?, stderr? }, tty }
-- Always  1. the sockets listen before the guest hears of their ports; with an agent of ours they listen again when a
--            connection breaks, and no byte is lost or doubled.
--         2. ports are never used twice in the life of a VM.
--         3. with a terminal there is no stderr: it comes with stdout.
-- The kind also exports drain, close_stdin and counts, for those who hold the receipt.
local err = require "moonshim.err"
local kind = require "moonshim.kind"
local task = require "moonshim.task"

local STREAMS = { "stdin", "stdout", "stderr" }
-- How much longer than its own limit the data thread may take to say that a stream has drained; milliseconds.
local GRACE = 5000

---@class moonshim.Stdio
---@field io any core io
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
  self.io:exited(idle, most)
  return task.deadline(most + GRACE, self.drained.wait, self.drained)
end

local function wanted(args, name) return args[name] ~= nil and not (args.tty and name == "stderr") end

local k
k = {
  v = 1,
  ends_with_boot = true,
  reserve = function(world, args)
    local ports = {}
    for _, name in ipairs(STREAMS) do
      local stream = args[name]
      if stream ~= nil and (type(stream) ~= "table" or not (stream.fd or stream.path)) then
        err.raise("invalid_argument", "stdio: %s must be { fd = number } or { path = fifo }", name)
      end
      if wanted(args, name) then ports[name] = world.ports() end
    end
    return { ports = ports, tty = args.tty or false }
  end,
  acquire = function(world, facts, args)
    local self = setmetatable({ world = world, key = key_of(facts), drained = task.signal(), ready = task.signal() }, Stdio)
    if not next(facts.ports) then return nil, self end
    local want = {
      name = args.name or "process",
      dir = world.uvm:socket_dir(),
      tty = facts.tty,
      resume = world.guest and world.guest.extensions and world.guest.extensions.StdioResume or false,
      ports = facts.ports,
      on_ready = function(e) self.ready:fire(e) end,
      on_drained = function(report) self.drained:fire(report) end,
    }
    for _, name in ipairs(STREAMS) do
      if wanted(args, name) then want[name] = args[name] end
    end
    self.io = err.try(world.relay:open(want))
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
  defaults = { within = "10s", retries = 1, backoff = "100ms", on_failure = "continue" },
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

--- What a guest dials while it boots, beside its agent's connection: a little entropy, and the stream of its log.
--
-- Layer      guest: a host's uvm (listen, capabilities) and the log come as arguments.
-- Words      which ports there are is the host's word: capabilities `entropy` (a kernel of its own that wants some) and
--            `guest_log` (somebody in there sends records).
-- Ownership  the listeners are the uvm's; the stream of the log is closed here.
-- Always     1. all listeners stand before the VM is started: a guest that finds nobody goes on without, or not at all.
--            2. nothing here keeps a boot from its end: a guest need not dial any of it.
--            3. a log is somebody else's text: lines, their length and their number are bounded.
-- See        spec/unit/guest/boot_spec.lua
local err = require "moonshim.err"
local layout = require "moonshim.guest.layout"
local task = require "moonshim.task"

local boot = {}

---@class moonshim.guest.Boot
---@field private logged moonshim.Signal fires when nothing more of the log will come
local Boot = {}
Boot.__index = Boot

-- What the protocol names.
local ENTROPY_BYTES = 512
-- Of one record; what is longer is cut, the rest of its line is dropped.
local MAX_LINE = 16384
-- Records within a window of time; more of them are counted only.
local WINDOW, RECORDS = 10000, 1000

---Listens for everything that a guest of this host dials at boot, its agent's connection included. All or nothing.
---@param world moonshim.World
---@param uvm table not started
---@return moonshim.guest.Boot
function boot.listen(world, uvm)
  local can = uvm:capabilities()
  local self = setmetatable({
    world = world, uvm = uvm, log = world.log:with { vm = world.id, from = "guest" }, listeners = {}, logged = task.signal(),
    records = 0, since = task.now(),
  }, Boot)
  local ports = {}
  if can.entropy then ports[#ports + 1] = layout.ENTROPY_PORT end
  if can.guest_log then ports[#ports + 1] = layout.LOG_PORT end
  ports[#ports + 1] = layout.BRIDGE_PORT
  local ok, e = pcall(function()
    for _, port in ipairs(ports) do self.listeners[port] = uvm:listen(port) end
  end)
  if not ok then
    self:close()
    error(e, 0)
  end
  return self
end

local function give_entropy(self, listener)
  local stream = listener:accept()
  local hex = ""
  while #hex < 2 * ENTROPY_BYTES do hex = hex .. err.try(self.world.core.sys.random_hex(256)) end
  local bytes = hex:gsub("%x%x", function(pair) return string.char(tonumber(pair, 16)) end)
  task.callback(function(cb) return stream:write(bytes, cb) end)
  stream:close()
end

-- Severe words of other agents are no reason for us to end.
local LEVELS = {
  trace = "debug", debug = "debug", info = "info", warn = "warn", warning = "warn", error = "error", fatal = "error", panic = "error",
}
local OWN = { time = true, level = true, msg = true }

---@private
function Boot:record(line)
  local now = task.now()
  if now - self.since >= WINDOW then
    if self.records > RECORDS then self.log:warn("records of the guest's log were left out", { count = self.records - RECORDS }) end
    self.since, self.records = now, 0
  end
  self.records = self.records + 1
  if self.records > RECORDS then return end
  local said = self.world.core.json.decode(line)
  if type(said) ~= "table" or type(said.msg) ~= "string" then -- the last words of a panic are no JSON
    return self.log:error(line)
  end
  local fields = {}
  for name, value in pairs(said) do
    if not OWN[name] then fields[name] = value end
  end
  local level = LEVELS[said.level] or "info"
  self.log[level](self.log, said.msg, fields)
end

---@private
function Boot:take(bytes)
  local text = self.rest .. bytes
  local from = 1
  while true do
    local at = text:find("\n", from, true)
    if not at then break end
    if not self.skipping and at > from then self:record(text:sub(from, at - 1)) end
    self.skipping, from = false, at + 1
  end
  self.rest = self.skipping and "" or text:sub(from)
  if #self.rest <= MAX_LINE then return end
  self:record(self.rest:sub(1, MAX_LINE))
  self.rest, self.skipping = "", true
end

local function read_log(self, listener)
  local stream, over = listener:accept(), task.signal()
  self.stream, self.rest = stream, ""
  err.try(stream:read(function(bytes)
    if bytes then return self:take(bytes) end
    if self.rest ~= "" then self:record(self.rest) end
    over:fire()
  end))
  over:wait()
  stream:close()
end

-- A task for one port: its guest need not dial, and the end of the VM ends the wait.
local function serve(self, port, fn, after)
  local listener = self.listeners[port]
  if not listener then return after() end
  task.detach(function()
    local ok, e = pcall(fn, self, listener)
    if not ok and not err.is(e, "unavailable", "gone", "cancelled") then
      self.log:warn("a port of the guest could not be served", { port = port, error = e })
    end
    listener:close() -- dialled once
    after()
  end)
end

---The VM runs: what its guest dials is answered from now on. Does not wait.
function Boot:serve()
  serve(self, layout.ENTROPY_PORT, give_entropy, function() end)
  serve(self, layout.LOG_PORT, read_log, function() self.logged:fire() end)
end

---After the end of the VM: waits until the last record of its log is told. At once when nobody listens for one.
---@async
function Boot:wait_log() self.logged:wait() end

---Lets everything go. Idempotent; the connection of the agent, once accepted, is not touched.
function Boot:close()
  for _, listener in pairs(self.listeners) do listener:close() end
  self.listeners = {}
  if self.stream then self.stream:close() end
  self.logged:fire()
end

return boot

--- support/fake_vm - a host and a guest in memory that really keep what they are given, for specs of controllers.
---
--- The fakes sit where our own code ends: a host driver, and an agent behind core.bridge that answers the protocol's
--- messages. Everything between (guest client, kinds, devices, ledger, plans) is the real thing. The host's side is in
--- support/fake_uvm, the agent in support/fake_guest, the C in between in support/fake_core; here are the state they share,
--- the faults, and what a spec asks afterwards.
---
---   local f = fake_vm.new()
---   local vm = f:vm()                      a booted moonshim.Vm over it
---   f.document                             the VM's own, as the host was given it
---   f.requests                             every request to the host, as it was made
---   f.calls                                every host and guest call, in order: "host.attach 0:0 /base.ext4", ...
---   f.wrong                                what would have gone wrong outside: a mount taken from below an overlay, ...
---   f:fault(function(op, n) ... end)       for each call: nil, or "fail", "hang", "lost" (done, but the answer is lost),
---                                          "die" (the VM ends), { delay = ms }, { hresult = n, done = bool }
---   f.late = function(op) ... end          for each guest call: how many ms its answer comes after its effect, or nil
---   f.init_ended = function(id) ... end    called when the init of a container ends, before anybody was told
---   f:break_bridge(); f.deaf = true        the connection breaks; no agent calls again while it is true
---   fake_vm.new { wants_entropy = true, logs = true }   what its guests dial at boot; f:dial(port) does it
---   f:leaks()                              what is left: attached disks, shares, devices, mounts, containers, files, streams
---
--- Programs by their first argument: exit N [after ms], sleep, stubborn (ignores all but KILL), immortal (ignores KILL,
--- too), missing, not_executable.
local core = require "moonshim.core"
local err = require "moonshim.err"
local fake_core = require "support.fake_core"
local fake_guest = require "support.fake_guest"
local fake_programs = require "support.fake_programs"
local fake_uvm = require "support.fake_uvm"
local ledger = require "moonshim.ledger"
local journal = require "moonshim.journal"
local log = require "moonshim.log"
local policy = require "moonshim.policy"
local task = require "moonshim.task"
local world = require "moonshim.world"
local Vm = require "moonshim.controller.vm"

local fake_vm = {}

---@class spec.FakeVm
local Fake = {}
Fake.__index = Fake

-- Faults -----------------------------------------------------------------------------------------------------------

---Runs one call of the outside world, with whatever fault the spec wants.
function Fake:outside(op, detail, effect, refuse)
  self.calls[#self.calls + 1] = detail and detail ~= "" and op .. " " .. detail or op
  self.count = self.count + 1
  local fault = self.chosen and self.chosen(op, self.count, detail)
  if type(fault) == "table" and fault.delay then
    task.sleep(fault.delay)
    fault = nil
  end
  if fault == "fail" then refuse(op, 0x80004005, "no") end
  if type(fault) == "table" then
    if fault.done then effect() end
    refuse(op, fault.hresult, "no")
  end
  if fault == "hang" then task.signal():wait() end
  if fault == "die" and op == "host.start" then
    effect()
    self:die()
    return { pid = 4711, start_time = 1 }
  end
  if fault == "die" then
    self:die()
    if op:find("^guest") then error(err.new("unavailable", "it died"), 0) end
  end
  local result = effect()
  if fault == "lost" then error(err.new("deadline_exceeded", op .. ": no answer", { origin = op:match("^%a+") }), 0) end
  return result
end

function Fake:fault(fn) self.chosen = fn end

function Fake:mistake(fmt, ...) self.wrong[#self.wrong + 1] = fmt:format(...) end

Fake.end_process = fake_guest.finish

-- What happens to it -----------------------------------------------------------------------------------------------

---The guest dials a port of its boot. Returns its end of the stream: what it got, `say(text)`, `hang_up()`.
function Fake:dial(port)
  local guest = { got = "" }
  local on_data
  local ours = {
    write = function(_, bytes, done)
      guest.got = guest.got .. bytes
      task.detach(done, true)
      return true
    end,
    read = function(_, fn)
      on_data = fn
      return true
    end,
    close = function() guest.closed = true end,
  }
  function guest.say(text) on_data(text) end
  function guest.hang_up() on_data(nil) end
  self.dialled[port]:fire(ours)
  task.sleep(1)
  return guest
end

---The VM ends; what it kept is gone, what the host keeps for its disks is not.
---@param how string|table|nil the exit, or its reason
function Fake:die(how)
  if not self.running then return end
  self.running = false
  self.containers, self.mounts, self.overlays, self.processes, self.shares = {}, {}, {}, {}, {}
  self.guest_nics = {}
  if self.disks_die then self.attached, self.assigned = {}, {} end
  for _, dialled in pairs(self.dialled) do dialled:fire(nil) end
  self.ended:fire(type(how) == "table" and how or { reason = how or "exited" })
  if self.bridge then self.bridge:lose(err.new("unavailable", "connection reset")) end
end

---The guest says something about a container, as existing agents do when its init has ended, or sooner, or twice.
function Fake:notify(id, type)
  self.bridge.handlers.on_notify(0x30100101, core.json.encode { ContainerId = id, Type = type, Operation = "None", Result = 0 })
end

---The kernel of the VM kills a process of a container for want of memory: its init, unless a pid is named.
function Fake:want_of_memory(id, limit, pid)
  local c = self.containers[id]
  c.kills = (c.kills or 0) + 1
  self.bridge.handlers.on_notify(0x30180101, core.json.encode { ContainerId = id, Type = "OutOfMemory", Kills = c.kills, Limit = limit })
  self:end_process(pid and self.processes[pid] or c.init, 137)
end

---The connection breaks, the VM goes on. Its agent calls again at once, or with `deaf` when that is over.
function Fake:break_bridge() self.bridge:lose(err.new("unavailable", "connection reset")) end

-- Making one, and looking at it ------------------------------------------------------------------------------------

---@param opts { disks_die: boolean?, log: moonshim.Log? }?
---@return spec.FakeVm
function fake_vm.new(opts)
  local f = setmetatable({
    calls = {}, wrong = {}, signals = {}, sizes = {}, constraints = {}, count = 0, attached = {}, shares = {}, mounts = {}, overlays = {},
    assigned = {}, nics = {}, guest_nics = {}, nics_seen = {},
    containers = {}, processes = {}, ejected = {}, streams = {}, opened = {}, files = {}, made = {}, missing = {},
    links = {}, read_only = {}, accesses = {}, disks_seen = {}, combined = {}, requests = {}, next_pid = 100,
    ended = task.signal(), events = {}, lines = {}, bridges = {}, listening = {}, dialled = {},
  }, Fake)
  for k, v in pairs(opts or {}) do f[k] = v end
  f.log = log.new { level = "warn", sink = function(line) f.lines[#f.lines + 1] = line end, wall = function() return 0 end }
  f.world = world.new { id = "hello@vm", host = fake_uvm.driver(f), core = fake_core.new(f), log = f.log, run_dir = "/fake/run" }
  f.world.files = fake_core.files(f)
  f.programs = fake_programs.new()
  f.world.programs = f.programs
  f.ledger = ledger.open { journal = journal.memory(), world = f.world, boot_id = "boot-1" }
  return f
end

---A Vm over this world, booted unless told otherwise. Its events are collected in f.events.
---@param opts { operator: string?, policy: table?, boot: boolean? }?
function Fake:vm(opts)
  opts = opts or {}
  local chosen = opts.policy or policy.load { operator = opts.operator }
  local vm = Vm.new { id = "hello@vm", world = self.world, ledger = self.ledger, policy = chosen, log = self.log }
  self.controller = vm
  vm:subscribe(function(topic, data) self.events[#self.events + 1] = { topic = topic, data = data } end)
  if opts.boot ~= false then vm:boot() end
  return vm
end

---Topics of one container's events, "exit e1" for an exec.
function Fake:topics(container)
  local out = {}
  for _, e in ipairs(self.events) do
    if e.data.container == container then
      out[#out + 1] = e.data.exec and e.data.exec ~= "" and e.topic .. " " .. e.data.exec or e.topic
    end
  end
  return out
end

---@return moonshim.Event? the newest of that topic
function Fake:event(topic)
  for i = #self.events, 1, -1 do
    if self.events[i].topic == topic then return self.events[i].data end
  end
end

---Calls that match a pattern, in order.
function Fake:called(pattern)
  local out = {}
  for _, call in ipairs(self.calls) do
    if call:find(pattern) then out[#out + 1] = call end
  end
  return out
end

---Everything that is left and should not be, as text; {} when nothing is.
---@param opts { running: boolean? }? running: the VM lives on, only containers are looked at
function Fake:leaks(opts)
  local out = {}
  local function all(what, t)
    for key in pairs(t) do out[#out + 1] = what .. " " .. tostring(key) end
  end
  all("attached", self.attached)
  if not (opts and opts.running) then all("listener of port", self.listening) end
  all("share", self.shares)
  all("device", self.assigned)
  all("nic", self.nics)
  all("nic of the guest", self.guest_nics)
  all("mount", self.mounts)
  all("overlay", self.overlays)
  all("container", self.containers)
  all("file", self.files)
  all("folder", self.made)
  for _, name in pairs(self.streams) do out[#out + 1] = "stream of " .. name end
  for _, p in ipairs(self.programs.started) do
    if not p.ended:fired() or next(p.open) then out[#out + 1] = "program " .. p.opts.path end
  end
  if not (opts and opts.running) and self.running then out[#out + 1] = "the VM" end
  for _, receipt in ipairs(self.ledger:all()) do
    if not (opts and opts.running and (receipt.kind == "uvm" or receipt.kind == "bridge")) then
      out[#out + 1] = ("receipt %s (%s)"):format(receipt.name, receipt.state)
    end
  end
  local devices = rawget(self.world, "devices")
  for _, row in ipairs(devices and self.running and devices:dump() or {}) do out[#out + 1] = "reservation " .. tostring(row.id) end
  table.sort(out)
  return out
end

return fake_vm

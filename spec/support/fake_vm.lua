--- support/fake_vm - a host and a guest in memory that really keep what they are given, for specs of controllers.
---
--- The fakes sit where our own code ends: a host driver, and an agent behind core.bridge that answers the protocol's
--- messages. Everything between (guest client, kinds, devices, ledger, plans) is the real thing.
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
local fake_programs = require "support.fake_programs"
local host = require "moonshim.host"
local ledger = require "moonshim.ledger"
local journal = require "moonshim.journal"
local layout = require "moonshim.guest.layout"
local log = require "moonshim.log"
local messages = require "moonshim.guest.messages"
local policy = require "moonshim.policy"
local task = require "moonshim.task"
local world = require "moonshim.world"
local Vm = require "moonshim.controller.vm"

local fake_vm = {}

local OPS = {}
for op, number in pairs(messages.types) do OPS[number] = op end

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

-- Host -------------------------------------------------------------------------------------------------------------

local function host_refusal(op, hresult, text)
  error(err.new("unknown", op .. ": " .. text, { origin = "host", op = op, hresult = hresult }), 0)
end

local Uvm = {}
Uvm.__index = Uvm

function Uvm:start()
  return self.fake:outside("host.start", "", function()
    self.fake.running, self.started = true, true
    return { pid = 4711, start_time = 1 }
  end, host_refusal)
end

-- Ports that a guest dials at boot: `fake:dial(port)` does it.
local function boot_port(f, port)
  local dialled = task.signal()
  f.dialled[port] = dialled
  return {
    accept = function() return dialled:wait() or error(err.new("unavailable", "nobody will dial", { origin = "host" }), 0) end,
    close = function()
      f.listening[port] = nil
      dialled:fire(nil)
    end,
  }
end

function Uvm:listen(port)
  local f = self.fake
  if f.listening[port] then return f.listening[port] end
  return f:outside("host.listen", tostring(port), function()
    f.listening[port] = port ~= layout.BRIDGE_PORT and boot_port(f, port) or {
      accept = function()
        return f:outside("host.accept", "", function()
          while f.deaf and self:alive() do task.sleep(10) end
          if not self:alive() then error(err.new("unavailable", "the VM exited", { origin = "host" }), 0) end
          return { close = function() end }
        end, host_refusal)
      end,
      close = function() f.listening[port] = nil end,
    }
    return f.listening[port]
  end, host_refusal)
end

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

function Uvm:modify(request, found)
  local f, settings = self.fake, request.Settings or {}
  table.insert(f.requests, request)
  local controller, lun = host.scsi_address(request.ResourcePath)
  local add, instance = request.RequestType == "Add", host.vpci_instance(request.ResourcePath)
  if request.RequestType == "Update" then
    return f:outside("host.update", request.ResourcePath:match "[^/]+$", function()
      f.sized = f.sized or {}
      f.sized[request.ResourcePath:match "[^/]+$"] = request.Settings
      return {}
    end, host_refusal)
  end
  if instance then
    local path = add and settings.Functions[1].DeviceInstancePath or f.assigned[instance]
    return f:outside(add and "host.assign" or "host.unassign", path, function()
      if add and not self:alive() then error(err.new("gone", "no VM", { origin = "host" }), 0) end
      if add and f.assigned[instance] then f:mistake("%s assigned twice", path) end
      for _, c in pairs(f.containers) do
        for _, d in ipairs(not add and c.state == "running" and (c.document.OciSpecification.windows or {}).devices or {}) do
          if d.id == instance then f:mistake("%s taken from below container %s", path, c.id) end
        end
      end
      f.assigned[instance] = add and path or nil
      return {}
    end, host_refusal)
  end
  if controller then
    local key = ("%d:%d"):format(controller, lun)
    return f:outside(add and "host.attach" or "host.detach", add and key .. " " .. settings.Path or key, function()
      if add then
        if not self:alive() then error(err.new("gone", "no VM", { origin = "host" }), 0) end
        if f.attached[key] then f:mistake("slot %s attached twice", key) end
        f.attached[key] = settings.Path
        return { loop = { index = lun, tag = key } }
      end
      if not f.attached[key] then return {} end
      for path, m in pairs(f.mounts) do
        if m.disk == key then f:mistake("%s detached below the mount %s", key, path) end
      end
      if found and found.loop and found.loop.tag ~= key then f:mistake("%s detached with the facts of %s", key, found.loop.tag) end
      f.attached[key] = nil
      return {}
    end, host_refusal)
  end
  if host.is_adapter(request.ResourcePath) then return f:adapter(add, settings, host_refusal) end
  return f:outside(add and "host.share" or "host.unshare", settings.Name, function()
    if add then
      f.shares[settings.Name] = settings.Path
    else
      for path, m in pairs(f.mounts) do
        if m.share == settings.Name then f:mistake("share %s removed below the mount %s", settings.Name, path) end
      end
      f.shares[settings.Name] = nil
    end
    return {}
  end, host_refusal)
end

---The host's half of a NIC; its other half must be out of the guest's hands before it goes.
function Fake:adapter(add, settings, refusal)
  local id = settings.EndpointId
  return self:outside(add and "host.nic" or "host.unnic", id, function()
    if add and not self.running then error(err.new("gone", "no VM", { origin = "host" }), 0) end
    if add and self.nics[id] then self:mistake("NIC %s added twice", id) end
    if not add and self.nics[id] and self.nics[id].MacAddress ~= settings.MacAddress then
      self:mistake("NIC %s removed with other settings", id)
    end
    if not add and self.guest_nics[id] then self:mistake("NIC %s removed from below the guest", id) end
    self.nics[id] = add and settings or nil
    return add and { address = "10.9.0.7", prefix = 24, gateway = "10.9.0.1", link = "msh0a090007" } or {}
  end, refusal)
end

function Uvm:query() return self.fake.used or { state = "running" } end
function Uvm:alive() return self.fake.running == true end
function Uvm.socket_dir() return "/fake/s" end
function Uvm.tail() return nil end
function Uvm:close() self.fake.closed = (self.fake.closed or 0) + 1 end
function Uvm:capabilities()
  local f = self.fake
  return { scsi = true, plan9 = true, disks_die_with_vm = f.disks_die or false, entropy = f.wants_entropy, guest_log = f.logs }
end
function Uvm:wait() return self.fake.ended:wait() end

function Uvm:terminate()
  if self.fake.on_terminate then self.fake.on_terminate() end
  if not (self.started or self.fake.running) then return end -- there is nothing to end
  return self.fake:outside("host.terminate", "", function()
    self.fake:die("terminated")
    for _, listener in pairs(self.fake.listening) do listener.close() end -- a driver keeps nothing of a VM that has ended
  end, host_refusal)
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

-- Guest ------------------------------------------------------------------------------------------------------------

local function refuse(_, hresult, text) error({ hresult = hresult, text = text }, 0) end

local STOPPED = 0xC0370110
local NOT_FOUND, NO_SUCH_CONTAINER, EXISTS, INVALID_STATE, FAILED = 0x80070490, 0xC037010E, 0xC037010F, 0x80370105, 0x80004005

local Guest = {}

-- What the guest says that it can; `capabilities` of fake_vm.new instead.
local CAPABILITIES = { SignalProcessSupported = true, NamespaceAddRequestSupported = true, DeleteContainerStateSupported = true }

function Guest.negotiate(f, r)
  local can = f.capabilities or CAPABILITIES
  return { Version = 4, Capabilities = { GuestDefinedCapabilities = can }, Extensions = not f.plain and r.Extensions or nil }
end

local function container_of(f, id)
  return f.containers[id] or refuse(nil, NO_SUCH_CONTAINER, "no container " .. id)
end

function Guest.create(f, r)
  local document = core.json.decode(r.ContainerConfig)
  if f.containers[r.ContainerId] then refuse(nil, EXISTS, "exists") end
  local root = document.OciSpecification.root.path
  if root ~= document.OciBundlePath .. "/rootfs" and not f:below_a_mount(root) then
    f:mistake("container %s has its root %s below no mount", r.ContainerId, root)
  end
  for _, m in ipairs(document.OciSpecification.mounts or {}) do
    if m.source and m.source:find("^/run/mounts/") and not f:below_a_mount(m.source) then
      f:mistake("container %s mounts %s, which is not there", r.ContainerId, m.source)
    end
  end
  for _, d in ipairs((document.OciSpecification.windows or {}).devices or {}) do
    if not f.assigned[d.id] then f:mistake("container %s has the device %s, which is not there", r.ContainerId, d.id) end
  end
  f.containers[r.ContainerId] = {
    id = r.ContainerId, state = "created", document = document, root = root, bundle = document.OciBundlePath, execs = {},
  }
  return {}
end

function Guest.start() return {} end

local function finish(f, p, code)
  if p.code then return end
  p.code = code
  local c = f.containers[p.container]
  if c and c.init == p then
    c.state = "stopped"
    for _, other in pairs(f.processes) do
      if other.container == p.container and other ~= p then finish(f, other, 137) end
    end
    if f.init_ended then f.init_ended(c.id) end
  end
  p.ended:fire(code)
end

Fake.end_process = finish

local PROGRAMS = {
  exit = function(f, p, args)
    local code = math.tointeger(tonumber(args[2] or 0))
    if not args[3] then return finish(f, p, code) end
    task.detach(function()
      task.sleep(tonumber(args[3]))
      finish(f, p, code)
    end)
  end,
  sleep = function() end,
  stubborn = function() end,
  immortal = function() end,
}

function Guest.execute(f, r)
  local params = core.json.decode(r.Settings.ProcessParameters)
  if r.ContainerId == layout.NULL then
    local args = params.CommandArgs
    if args[1] == "missing" then refuse(nil, 0x80070002, "no such program: missing") end
    f.next_pid, f.asked = f.next_pid + 1, params
    local p = { pid = f.next_pid, container = r.ContainerId, args = args, ended = task.signal(), program = args[1] }
    f.processes[p.pid] = p
    local run = PROGRAMS[args[1]]
    if run then run(f, p, args) else finish(f, p, 0) end
    return { ProcessId = p.pid }
  end
  local c = container_of(f, r.ContainerId)
  f.asked = params -- by the newest start
  local exec = params.OciProcess
  if not exec and c.state ~= "created" then refuse(nil, INVALID_STATE, "not created") end
  if exec and c.state == "stopped" then refuse(nil, STOPPED, "the container has ended") end
  local args = exec and exec.args or c.document.OciSpecification.process.args
  local program = args[1] == "/pause" and "sleep" or args[1]
  if program == "missing" then refuse(nil, 0x80070002, "no such program: missing") end
  if program == "not_executable" then refuse(nil, 0x80070005, "not executable") end
  f.next_pid = f.next_pid + 1
  local p = { pid = f.next_pid, container = c.id, args = args, ended = task.signal(), program = program }
  f.processes[p.pid] = p
  if not exec then
    c.init, c.state = p, "running"
  end
  local run = PROGRAMS[program] or error("the fake knows no program " .. tostring(program))
  run(f, p, args)
  return { ProcessId = p.pid }
end

function Guest.wait(f, r)
  local p = f.processes[r.ProcessId]
  if not p or p.container ~= r.ContainerId then refuse(nil, NOT_FOUND, "no such process") end
  return { ExitCode = p.ended:wait() }
end

function Guest.signal(f, r)
  local p = f.processes[r.ProcessId]
  local c = r.ContainerId == layout.NULL and { id = layout.NULL } or container_of(f, r.ContainerId)
  local number = r.Options and r.Options.Signal or 9
  if not p or p.container ~= c.id or p.code then refuse(nil, NOT_FOUND, "no such process") end
  f.signals[#f.signals + 1] = ("%s/%d %d"):format(c.id, p.pid, number)
  if c.frozen and number ~= 9 and number ~= 15 then return {} end -- it hears nothing
  c.frozen = false
  if p.program == "immortal" or (p.program == "stubborn" and number ~= 9) or number == 28 then return {} end
  finish(f, p, 128 + number)
  return {}
end

function Guest.resize(f, r)
  f.sizes[#f.sizes + 1] = ("%d %dx%d"):format(r.ProcessId, r.Height, r.Width)
  return {}
end

function Guest.shutdown_forced(f, r)
  local c = container_of(f, r.ContainerId)
  if c.init then finish(f, c.init, 137) else c.state = "stopped" end
  return {}
end
Guest.shutdown = Guest.shutdown_forced

function Guest.dump_stacks(f) return { GuestStacks = f.guest_says or "" } end

function Guest.properties(f, r)
  local c = container_of(f, r.ContainerId)
  local list = {}
  for _, p in pairs(f.processes) do
    if p.container == c.id and not p.code then list[#list + 1] = { ProcessId = p.pid } end
  end
  table.sort(list, function(a, b) return a.ProcessId < b.ProcessId end)
  if r.Query:find("Statistics", 1, true) then return { Properties = f.no_stats and "" or '{"Statistics":{"x":1}}' } end
  list[#list + 1] = { ProcessId = 9999 }
  return { Properties = core.json.encode { ProcessList = core.json.array(list) } }
end

function Guest.delete_state(f, r)
  local c = container_of(f, r.ContainerId)
  if c.state == "running" then refuse(nil, INVALID_STATE, "it runs") end
  if f.overlays[c.bundle .. "/rootfs"] then f:mistake("state of %s deleted below its overlay", c.id) end
  f.containers[c.id] = nil
  for pid, p in pairs(f.processes) do
    if p.container == c.id then f.processes[pid] = nil end
  end
  return {}
end

function Fake:below_a_mount(path)
  for at in pairs(self.mounts) do
    if path == at or path:sub(1, #at + 1) == at .. "/" then return true end
  end
  return self.overlays[path] ~= nil
end

-- Whether an overlay or a container still stands on what is mounted at `at`.
local function users_of(f, at)
  local function stands_on(path) return path and (path == at or path:sub(1, #at + 1) == at .. "/") end
  for root, o in pairs(f.overlays) do
    for _, path in ipairs(o) do
      if stands_on(path) then return "overlay " .. root end
    end
  end
  for _, c in pairs(f.containers) do
    local kept = not f.capabilities or f.capabilities.DeleteContainerStateSupported -- else nothing of it stays mounted
    if kept and stands_on(c.document.ScratchDirPath) then return "the state of container " .. c.id end
    if c.state == "running" and stands_on(c.root) then return "container " .. c.id end
    for _, m in ipairs(c.document.OciSpecification.mounts or {}) do
      if c.state == "running" and stands_on(m.source) then return "container " .. c.id end
    end
  end
end

local function unmount(f, at)
  local user = users_of(f, at)
  if user then
    f:mistake("%s unmounted below %s", at, user)
    refuse(nil, FAILED, "busy")
  end
  f.mounts[at] = nil
end

local RESOURCES = {
  MappedVirtualDisk = function(f, verb, s)
    local key = ("%d:%d"):format(s.Controller or 0, s.Lun or 0)
    if verb == "Remove" then return unmount(f, s.MountPath) end
    if not f.attached[key] then refuse(nil, FAILED, "no disk " .. key) end
    if f.mounts[s.MountPath] then f:mistake("%s mounted twice", s.MountPath) end
    f.mounts[s.MountPath] = { disk = key, read_only = s.ReadOnly }
    table.insert(f.disks_seen, s)
  end,
  SCSIDevice = function(f, _, s)
    local key = ("%d:%d"):format(s.Controller or 0, s.Lun or 0)
    for path, m in pairs(f.mounts) do
      if m.disk == key then f:mistake("%s ejected below the mount %s", key, path) end
    end
    f.ejected[key] = true
  end,
  MappedDirectory = function(f, verb, s)
    if verb == "Remove" then return unmount(f, s.MountPath) end
    if not f.shares[tostring(s.ShareName)] then refuse(nil, FAILED, "no share " .. tostring(s.ShareName)) end
    f.mounts[s.MountPath] = { share = tostring(s.ShareName) }
  end,
  CombinedLayers = function(f, verb, s)
    if verb == "Add" then
      local stands_on = {}
      for i, layer in ipairs(s.Layers or {}) do
        stands_on[i] = layer.Path
        if not f:below_a_mount(layer.Path) then refuse(nil, FAILED, "no layer " .. layer.Path) end
      end
      stands_on[#stands_on + 1] = s.ScratchPath
      f.overlays[s.ContainerRootPath] = stands_on
      table.insert(f.combined, s)
      return
    end
    for _, c in pairs(f.containers) do
      if c.root == s.ContainerRootPath and c.state == "running" then
        f:mistake("the overlay of %s removed below it", c.id)
        refuse(nil, FAILED, "busy")
      end
    end
    f.overlays[s.ContainerRootPath] = nil
  end,
  VPCIDevice = function(f, _, s)
    if not f.assigned[s.VMBusGUID] then refuse(nil, FAILED, "no device " .. s.VMBusGUID) end
  end,
  Network = function(f, verb, s)
    if verb == "Remove" then
      local known = f.guest_nics[s.ID]
      if known and known.NamespaceID ~= s.NamespaceID then f:mistake("NIC %s removed from the namespace %s", s.ID, s.NamespaceID) end
      f.guest_nics[s.ID] = nil
      return
    end
    if f.guest_nics[s.ID] then refuse(nil, FAILED, "NIC twice") end
    if not s.InPlace and not f.nics[s.ID] then refuse(nil, FAILED, "no link of NIC " .. s.ID) end
    f.guest_nics[s.ID] = s
    f.nics_seen[#f.nics_seen + 1] = s
  end,
  ContainerConstraints = function(f, _, s) f.constraints[#f.constraints + 1] = s.Linux end,
  ContainerFreezer = function(f, _, s, id)
    local c = container_of(f, id)
    if c.state ~= "running" then refuse(nil, INVALID_STATE, "it does not run") end
    c.frozen = s.State == "Frozen"
  end,
  PodCgroupMemoryLimit = function() end,
}

function Guest.modify(f, r)
  local request = r.Request
  RESOURCES[request.ResourceType](f, request.RequestType, request.Settings or {}, r.ContainerId)
  return {}
end

local function detail_of(op, r)
  if op == "modify" then
    local s = r.Request.Settings or {}
    return s.MountPath or s.ContainerRootPath or s.NamespaceID and s.ID or s.Lun and ("%d:%d"):format(s.Controller or 0, s.Lun) or ""
  end
  return r.ContainerId == layout.NULL and "" or r.ContainerId
end

local NAMES = {
  ["Add MappedVirtualDisk"] = "guest.mount", ["Remove MappedVirtualDisk"] = "guest.unmount",
  ["Add MappedDirectory"] = "guest.map", ["Remove MappedDirectory"] = "guest.unmap",
  ["Add CombinedLayers"] = "guest.combine", ["Remove CombinedLayers"] = "guest.uncombine",
  ["Add Network"] = "guest.nic", ["Remove Network"] = "guest.unnic",
  ["Remove SCSIDevice"] = "guest.eject", ["Add VPCIDevice"] = "guest.wait_device", ["Update ContainerConstraints"] = "guest.update",
  ["Update ContainerFreezer"] = "guest.freeze", ["Update PodCgroupMemoryLimit"] = "guest.pods_memory",
}

local function name_of(op, r)
  if op == "modify" then return NAMES[("%s %s"):format(r.Request.RequestType, r.Request.ResourceType)] end
  return "guest." .. op
end

-- core.bridge: answers of the agent, later, from tasks of their own.
local Bridge = {}
Bridge.__index = Bridge

function Bridge:call(number, payload, within, cb)
  if self.ended then return nil, err.new("unavailable", "the bridge is lost") end
  self.last = self.last + 1
  local id, f, op = self.last, self.fake, OPS[number]
  local call = { cb = cb }
  self.pending[id] = call
  local function done(...)
    if self.pending[id] ~= call then return end
    self.pending[id] = nil
    cb(...)
  end
  call.task = task.detach(function()
    local request = core.json.decode(payload)
    local name, hresult, answer = name_of(op, request), 0, nil
    local ok, e = pcall(task.deadline, within or 1 << 40, function()
      answer = op == "wait" and Guest.wait(f, request)
        or f:outside(name, detail_of(op, request), function() return Guest[op](f, request) end, refuse)
      local late = f.late and f.late(name)
      if late then task.sleep(late) end
    end)
    if not ok and type(e) == "table" and e.hresult and not err.is(e) then
      ok, hresult, answer = true, e.hresult, { ErrorMessage = e.text }
    elseif not ok and type(e) == "string" then
      error(e, 0)
    end
    if not ok then return done(nil, err.new(err.is(e, "cancelled") and "unavailable" or "deadline_exceeded", "no answer")) end
    answer.Result = hresult > 0x7fffffff and hresult - 0x100000000 or hresult
    done(assert(core.json.encode(answer)))
  end)
  return id
end

function Bridge:abandon(id)
  local call = self.pending[id]
  self.pending[id] = nil
  if call then call.task:cancel() end
end

function Bridge:lose(e)
  if self.ended then return end
  self.ended = true
  local pending = self.pending
  self.pending = {}
  for _, call in pairs(pending) do
    call.task:cancel()
    call.cb(nil, e)
  end
  self.handlers.on_lost(e)
end

function Bridge:close() self:lose(err.new("unavailable", "closed")) end
function Bridge:state() return self.ended and "closed" or "open" end

-- core.relay
local function relay(f)
  return {
    open = function(_, want)
      if f.refuse_streams then return nil, err.new("resource_exhausted", "no more descriptors") end
      local io = { want = want }
      f.streams[io] = want.name
      f.opened[#f.opened + 1] = want
      local function close()
        f.streams[io] = nil
        io.closed = true
      end
      function io.exited(_, ms, most) -- a fake output that takes its time does not move meanwhile
        if most < ms then f:mistake("a drain may be idle for longer than it may take") end
        f.calls[#f.calls + 1] = ("relay.drain %d"):format(ms)
        if io.drained or io.closed then return end
        io.drained = true
        task.detach(function()
          task.sleep(io.is_gone and 0 or math.min(f.drain_takes or 0, ms))
          close()
          want.on_drained { stdout = 0, stderr = 0, cut = (f.drain_takes or 0) > ms }
        end)
      end
      function io.gone() io.is_gone = true end
      function io.close_stdin() f.stdin_closed = (f.stdin_closed or 0) + 1 end
      function io.close() close() end
      function io.counts() return {} end
      return io
    end,
    close = function() end,
  }
end

-- core.sys
local function sys(f)
  local n = 0
  local function later(cb, ...)
    local args = table.pack(...)
    task.detach(function() cb(table.unpack(args, 1, args.n)) end)
    return true
  end
  return {
    random_hex = function(bytes)
      n = n + 1
      local text = ("%x"):format(n)
      return ("0"):rep(2 * bytes - #text) .. text
    end,
    boot_id = function() return "boot-1" end,
    mkdir_p = function(path)
      f.made[path] = true
      return true
    end,
    make_sparse = function(path, _, cb)
      f.files[path] = true
      return later(cb, true)
    end,
    remove_tree = function(path, cb)
      f.files[path] = nil
      for made in pairs(f.made) do
        if made == path or made:sub(1, #path + 1) == path .. "/" then f.made[made] = nil end
      end
      return later(cb, true)
    end,
  }
end

-- What the oci modules ask of the host's files: names ending in .ext4, .img or .conf are files, what is below /dev is a
-- device (/dev/sd* a disk), everything else is a folder.
local function files(missing, links, read_only, accesses)
  local function present(path)
    if missing[path] then err.raise("not_found", "ENOENT: no such file or directory: %s", path) end
    return path
  end
  return {
    realpath = function(path) return links[path] or present(path) end,
    kind = function(path)
      if present(path):find "^/dev/sd" then return "block" end
      if path:find "^/dev/" then return "char" end
      return path:find("%.ext4$") and "file" or (path:find("%.img$") or path:find("%.conf$")) and "file" or "directory"
    end,
    detect = function(path) return { format = path:find("%.ext4$") and "ext4" or "unknown", size = 1 << 20 } end,
    blank = function() return true end,
    access = function(path, write)
      table.insert(accesses, (write and "write " or "read ") .. path)
      if write and read_only[present(path)] then err.raise("permission_denied", "cannot be written: %s", path) end
    end,
  }
end

-- Together ---------------------------------------------------------------------------------------------------------

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
  local driver = {
    run_dir = function() return "/fake/run" end,
    reserve = function(id) return { host = "fake", id = id, run_dir = "/fake/run" } end,
    create = function(_, document)
      return f:outside("host.create", "", function()
        f.document = document
        return setmetatable({ fake = f }, Uvm)
      end, host_refusal)
    end,
    open = function() error(err.new("gone", "it has ended"), 0) end,
    terminate = function() f:die("terminated") end,
  }
  local fake_core = setmetatable({
    sys = sys(f),
    relay = function() return relay(f) end,
    bridge = function(_, handlers)
      f.bridge = setmetatable({ fake = f, pending = {}, last = (handlers.first_id or 1) - 1, handlers = handlers }, Bridge)
      f.bridges[#f.bridges + 1] = f.bridge
      return f.bridge
    end,
  }, { __index = core })
  f.log = log.new { level = "warn", sink = function(line) f.lines[#f.lines + 1] = line end, wall = function() return 0 end }
  f.world = world.new { id = "hello@vm", host = driver, core = fake_core, log = f.log, run_dir = "/fake/run" }
  f.world.files = files(f.missing, f.links, f.read_only, f.accesses)
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

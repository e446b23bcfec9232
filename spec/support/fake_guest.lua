--- support/fake_guest - the agent of support/fake_vm: what it answers to each request of the guest protocol.
---
---   fake_guest.answer(f, op, request)     the answer; an error { hresult, text } when it refuses
---   fake_guest.call(op, request)          the name and the detail under which f:outside has it: "guest.mount", "0:0"
---   fake_guest.finish(f, process, code)   a process ends; with a container's init all others of it do
---
--- It keeps what it is given (f.containers, f.processes, f.mounts, f.overlays, f.guest_nics) and refuses what an agent refuses;
--- what would only go wrong outside is told to f:mistake. The programs that it knows are in the header of support/fake_vm.
local core = require "moonshim.core"
local layout = require "moonshim.guest.layout"
local task = require "moonshim.task"

local fake_guest = {}

local function refuse(hresult, text) error({ hresult = hresult, text = text }, 0) end

local STOPPED = 0xC0370110
local NOT_FOUND, NO_SUCH_CONTAINER, EXISTS, INVALID_STATE, FAILED = 0x80070490, 0xC037010E, 0xC037010F, 0x80370105, 0x80004005

local Guest = {}

-- What the guest says that it can; `capabilities` of fake_vm.new instead.
local CAPABILITIES = { SignalProcessSupported = true, NamespaceAddRequestSupported = true, DeleteContainerStateSupported = true }

function Guest.negotiate(f, r)
  local can = f.capabilities or CAPABILITIES
  return { Version = 4, Capabilities = { GuestDefinedCapabilities = can }, Extensions = not f.plain and r.Extensions or nil }
end

local function below_a_mount(f, path)
  for at in pairs(f.mounts) do
    if path == at or path:sub(1, #at + 1) == at .. "/" then return true end
  end
  return f.overlays[path] ~= nil
end

local function container_of(f, id)
  return f.containers[id] or refuse(NO_SUCH_CONTAINER, "no container " .. id)
end

function Guest.create(f, r)
  local document = core.json.decode(r.ContainerConfig)
  if f.containers[r.ContainerId] then refuse(EXISTS, "exists") end
  local root = document.OciSpecification.root.path
  if root ~= document.OciBundlePath .. "/rootfs" and not below_a_mount(f, root) then
    f:mistake("container %s has its root %s below no mount", r.ContainerId, root)
  end
  for _, m in ipairs(document.OciSpecification.mounts or {}) do
    if m.source and m.source:find("^/run/mounts/") and not below_a_mount(f, m.source) then
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

function fake_guest.finish(f, p, code)
  if p.code then return end
  p.code = code
  local c = f.containers[p.container]
  if c and c.init == p then
    c.state = "stopped"
    for _, other in pairs(f.processes) do
      if other.container == p.container and other ~= p then fake_guest.finish(f, other, 137) end
    end
    if f.init_ended then f.init_ended(c.id) end
  end
  p.ended:fire(code)
end
local finish = fake_guest.finish

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
    if args[1] == "missing" then refuse(0x80070002, "no such program: missing") end
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
  if not exec and c.state ~= "created" then refuse(INVALID_STATE, "not created") end
  if exec and c.state == "stopped" then refuse(STOPPED, "the container has ended") end
  local args = exec and exec.args or c.document.OciSpecification.process.args
  local program = args[1] == "/pause" and "sleep" or args[1]
  if program == "missing" then refuse(0x80070002, "no such program: missing") end
  if program == "not_executable" then refuse(0x80070005, "not executable") end
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
  if not p or p.container ~= r.ContainerId then refuse(NOT_FOUND, "no such process") end
  return { ExitCode = p.ended:wait() }
end

function Guest.signal(f, r)
  local p = f.processes[r.ProcessId]
  local c = r.ContainerId == layout.NULL and { id = layout.NULL } or container_of(f, r.ContainerId)
  local number = r.Options and r.Options.Signal or 9
  if not p or p.container ~= c.id or p.code then refuse(NOT_FOUND, "no such process") end
  f.signals[#f.signals + 1] = ("%s/%d %d%s"):format(c.id, p.pid, number, r.Options and r.Options.Group and " group" or "")
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
  if c.state == "running" then refuse(INVALID_STATE, "it runs") end
  if f.overlays[c.bundle .. "/rootfs"] then f:mistake("state of %s deleted below its overlay", c.id) end
  f.containers[c.id] = nil
  for pid, p in pairs(f.processes) do
    if p.container == c.id then f.processes[pid] = nil end
  end
  return {}
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
    refuse(FAILED, "busy")
  end
  f.mounts[at] = nil
end

local RESOURCES = {
  MappedVirtualDisk = function(f, verb, s)
    local key = ("%d:%d"):format(s.Controller or 0, s.Lun or 0)
    if verb == "Remove" then return unmount(f, s.MountPath) end
    if not f.attached[key] then refuse(FAILED, "no disk " .. key) end
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
    if not f.shares[tostring(s.ShareName)] then refuse(FAILED, "no share " .. tostring(s.ShareName)) end
    f.mounts[s.MountPath] = { share = tostring(s.ShareName) }
  end,
  CombinedLayers = function(f, verb, s)
    if verb == "Add" then
      local stands_on = {}
      for i, layer in ipairs(s.Layers or {}) do
        stands_on[i] = layer.Path
        if not below_a_mount(f, layer.Path) then refuse(FAILED, "no layer " .. layer.Path) end
      end
      stands_on[#stands_on + 1] = s.ScratchPath
      f.overlays[s.ContainerRootPath] = stands_on
      table.insert(f.combined, s)
      return
    end
    for _, c in pairs(f.containers) do
      if c.root == s.ContainerRootPath and c.state == "running" then
        f:mistake("the overlay of %s removed below it", c.id)
        refuse(FAILED, "busy")
      end
    end
    f.overlays[s.ContainerRootPath] = nil
  end,
  VPCIDevice = function(f, _, s)
    if not f.assigned[s.VMBusGUID] then refuse(FAILED, "no device " .. s.VMBusGUID) end
  end,
  Network = function(f, verb, s)
    if verb == "Remove" then
      local known = f.guest_nics[s.ID]
      if known and known.NamespaceID ~= s.NamespaceID then f:mistake("NIC %s removed from the namespace %s", s.ID, s.NamespaceID) end
      f.guest_nics[s.ID] = nil
      return
    end
    if f.guest_nics[s.ID] then refuse(FAILED, "NIC twice") end
    if not s.InPlace and not f.nics[s.ID] then refuse(FAILED, "no link of NIC " .. s.ID) end
    f.guest_nics[s.ID] = s
    f.nics_seen[#f.nics_seen + 1] = s
  end,
  ContainerConstraints = function(f, _, s) f.constraints[#f.constraints + 1] = s.Linux end,
  ContainerFreezer = function(f, _, s, id)
    local c = container_of(f, id)
    if c.state ~= "running" then refuse(INVALID_STATE, "it does not run") end
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

---@return string name, string detail
function fake_guest.call(op, r)
  if op ~= "modify" then return "guest." .. op, detail_of(op, r) end
  return NAMES[("%s %s"):format(r.Request.RequestType, r.Request.ResourceType)], detail_of(op, r)
end

function fake_guest.answer(f, op, request) return Guest[op](f, request) end

return fake_guest

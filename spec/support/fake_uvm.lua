--- support/fake_uvm - the host's side of support/fake_vm: a driver, and the VM as it sees it.
---
---   fake_uvm.driver(f)      a host driver for world.new; what its VM is given is kept in f.attached, f.shares, f.assigned, f.nics
---
--- Like a host of ours it refuses nothing that is merely unwise: taking a disk from below a mount, attaching a slot twice and
--- the like happen, and are told to f:mistake. Every call goes through f:outside, so a spec can make it fail.
local err = require "moonshim.err"
local host = require "moonshim.host"
local layout = require "moonshim.guest.layout"
local task = require "moonshim.task"

local fake_uvm = {}

local function refuse(op, hresult, text)
  error(err.new("unknown", op .. ": " .. text, { origin = "host", op = op, hresult = hresult }), 0)
end

local Uvm = {}
Uvm.__index = Uvm

function Uvm:start()
  return self.fake:outside("host.start", "", function()
    self.fake.running, self.started = true, true
    return { pid = 4711, start_time = 1 }
  end, refuse)
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
        end, refuse)
      end,
      close = function() f.listening[port] = nil end,
    }
    return f.listening[port]
  end, refuse)
end

---The host's half of a NIC; its other half must be out of the guest's hands before it goes.
local function adapter(f, add, settings)
  local id = settings.EndpointId
  return f:outside(add and "host.nic" or "host.unnic", id, function()
    if add and not f.running then error(err.new("gone", "no VM", { origin = "host" }), 0) end
    if add and f.nics[id] then f:mistake("NIC %s added twice", id) end
    if not add and f.nics[id] and f.nics[id].MacAddress ~= settings.MacAddress then
      f:mistake("NIC %s removed with other settings", id)
    end
    if not add and f.guest_nics[id] then f:mistake("NIC %s removed from below the guest", id) end
    f.nics[id] = add and settings or nil
    return add and { address = "10.9.0.7", prefix = 24, gateway = "10.9.0.1", link = "msh0a090007" } or {}
  end, refuse)
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
    end, refuse)
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
    end, refuse)
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
    end, refuse)
  end
  if host.is_adapter(request.ResourcePath) then return adapter(f, add, settings) end
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
  end, refuse)
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
  end, refuse)
end

---@param f spec.FakeVm
function fake_uvm.driver(f)
  return {
    run_dir = function() return "/fake/run" end,
    reserve = function(id) return { host = "fake", id = id, run_dir = "/fake/run" } end,
    create = function(_, document)
      return f:outside("host.create", "", function()
        f.document = document
        return setmetatable({ fake = f }, Uvm)
      end, refuse)
    end,
    open = function() error(err.new("gone", "it has ended"), 0) end,
    terminate = function() f:die("terminated") end,
  }
end

return fake_uvm

--- support/fake_host - a host and a guest that remember, for specs of devices and kinds.
--
--   local w = fake_host.new()
--   w.fail["mount"] = err.new("unknown", "no")     the next such call fails (a list: one after the other)
--   w.slow["attach"] = 60000                       it takes that long, each time
--   w.calls                                        { "attach 0:0 /x.img ro", "mount /run/mounts/scsi/0_0_0", ... }
-- Device nodes, mounts and shares are really kept, so that a wrong order is an error here as it would be outside:
-- w.attached, w.mounted, w.shares, w.assigned (by instance; in calls instances are #1, #2, ...).
local core = require "moonshim.core"
local err = require "moonshim.err"
local host = require "moonshim.host"
local task = require "moonshim.task"
local world = require "moonshim.world"

local fake = {}

local function outcome(w, what)
  if w.slow[what] then task.sleep(w.slow[what]) end
  local plan = w.fail[what]
  if plan == nil then return end
  local e = plan
  if plan.code == nil then
    e = table.remove(plan, 1)
    if #plan == 0 then w.fail[what] = nil end
  else
    w.fail[what] = nil
  end
  if e then error(e, 0) end
end

local function note(w, fmt, ...) w.calls[#w.calls + 1] = fmt:format(...) end

local function guest_error(code, message, hresult)
  error(err.new(code, message, { origin = "guest", hresult = hresult }), 0)
end

--- An error as the guest answers it.
function fake.guest_error(op, hresult, message)
  return require("moonshim.classify").refusal("guest", op, hresult, message or "no")
end

function fake.host_error(code, message) return err.new(code, message or "no", { origin = "host" }) end

local Guest = {}
Guest.__index = Guest

local function disk_key(facts) return ("%d:%d"):format(facts.controller, facts.lun) end

function Guest:map_disk(facts)
  local w = self.world
  note(w, "mount %s", facts.guest_path)
  self.mounts_seen[#self.mounts_seen + 1] = facts
  outcome(w, "mount")
  if not w.attached[disk_key(facts)] then guest_error("unknown", "no such disk", 0x80004005) end
  if w.mounted[facts.guest_path] then guest_error("unknown", "mounted already", 0x80004005) end
  w.mounted[facts.guest_path] = disk_key(facts)
end

function Guest:unmap_disk(facts)
  local w = self.world
  note(w, "unmount %s", facts.guest_path)
  self.unmounts_seen[#self.unmounts_seen + 1] = facts
  outcome(w, "unmount")
  w.mounted[facts.guest_path] = nil
end

function Guest:eject(controller, lun)
  local w = self.world
  note(w, "eject %d:%d", controller, lun)
  outcome(w, "eject")
  for path, key in pairs(w.mounted) do
    if key == ("%d:%d"):format(controller, lun) then guest_error("unknown", path .. " is mounted", 0x80004005) end
  end
end

function Guest:map_directory(facts)
  local w = self.world
  note(w, "mount %s", facts.guest_path)
  self.mounts_seen[#self.mounts_seen + 1] = facts
  outcome(w, "mount")
  if not w.shares[tostring(facts.share)] then guest_error("unknown", "no such share", 0x80004005) end
  w.mounted[facts.guest_path] = "share"
end

function Guest:unmap_directory(facts)
  local w = self.world
  note(w, "unmount %s", facts.guest_path)
  outcome(w, "unmount")
  w.mounted[facts.guest_path] = nil
end

function Guest:wait_device(instance)
  local w = self.world
  note(w, "wait %s", w.nick(instance))
  outcome(w, "wait_device")
  if not w.assigned[instance] then guest_error("unknown", "no such device", 0x80004005) end
end

function Guest:combine_layers(spec)
  note(self.world, "combine %s: %s%s", spec.root, table.concat(spec.layers, " "), spec.scratch and " + " .. spec.scratch or "")
  self.points_seen = spec.points
  outcome(self.world, "combine")
end

function Guest:remove_layers(spec)
  note(self.world, "remove_layers %s", spec.root)
  outcome(self.world, "remove_layers")
end

function Guest:create(id, document)
  note(self.world, "create %s", id)
  self.documents[id] = core.json.decode(document)
  outcome(self.world, "create")
end

function Guest:delete_state(id)
  note(self.world, "delete_state %s", id)
  outcome(self.world, "delete_state")
end

function Guest:start(id)
  note(self.world, "start %s", id)
  outcome(self.world, "start")
end

function Guest:execute(id, params, ports)
  note(self.world, "execute %s%s", id, params.OciProcess and " exec" or "")
  self.ports_seen = ports
  outcome(self.world, "execute")
  self.next_pid = self.next_pid + 1
  self.exits[self.next_pid] = task.signal()
  return self.next_pid
end

function Guest:wait(_, pid)
  outcome(self.world, "wait")
  local code = self.exits[pid]:wait()
  if type(code) == "table" then error(code, 0) end
  return code
end

function Guest:signal(id, pid, number)
  note(self.world, "signal %s %d %d", id, pid, number)
  outcome(self.world, "signal")
  if self.deadly[number] then self.exits[pid]:fire(128 + number) end
end

function Guest:shutdown(id, forced)
  note(self.world, "shutdown %s %s", id, tostring(forced))
  outcome(self.world, "shutdown")
end

function Guest:close() note(self.world, "close bridge") end
function Guest.is_lost() return nil end

local Uvm = {}
Uvm.__index = Uvm

function Uvm:modify(request, found)
  local w = self.world
  local controller, lun = host.scsi_address(request.ResourcePath)
  local instance = host.vpci_instance(request.ResourcePath)
  local settings = request.Settings or {}
  if instance and request.RequestType == "Add" then
    local f = settings.Functions[1]
    note(w, "assign %s %s%s", w.nick(instance), f.DeviceInstancePath, f.VirtualFunction > 0 and " vf " .. f.VirtualFunction or "")
    self.devices_seen[#self.devices_seen + 1] = settings
    outcome(w, "assign")
    w.assigned[instance] = f.DeviceInstancePath
    return { node = { major = 1, minor = 2 } }
  elseif instance then
    note(w, "unassign %s", w.nick(instance))
    outcome(w, "unassign")
    w.assigned[instance] = nil
    return {}
  end
  if controller and request.RequestType == "Add" then
    note(w, "attach %d:%d %s%s", controller, lun, settings.Path, settings.ReadOnly and " ro" or "")
    outcome(w, "attach")
    local key = ("%d:%d"):format(controller, lun)
    if w.attached[key] then error(fake.host_error("already_exists", "slot taken"), 0) end
    w.attached[key] = settings.Path
    return { loop = { index = lun, tag = "t" .. lun } }
  elseif controller then
    note(w, "detach %d:%d%s", controller, lun, found and found.loop and " loop" or "")
    outcome(w, "detach")
    w.attached[("%d:%d"):format(controller, lun)] = nil
  elseif request.RequestType == "Add" then
    note(w, "add %s %s%s%s", settings.Name, settings.Path, settings.Flags & 1 ~= 0 and " ro" or "",
      settings.AllowedFiles and " only " .. table.concat(settings.AllowedFiles, ",") or "")
    self.shares_seen[#self.shares_seen + 1] = settings
    outcome(w, "add")
    w.shares[settings.Name] = settings
  else
    note(w, "remove %s", settings.Name)
    outcome(w, "remove")
    w.shares[settings.Name] = nil
  end
  return {}
end

function Uvm:alive() return not self.dead end
function Uvm:socket_dir() return self.world.run_dir .. "/s" end
function Uvm.tail() return nil end
function Uvm:wait()
  if self.dead then return { reason = "exited" } end
  return self.ended:wait()
end

function Uvm:terminate()
  note(self.world, "terminate")
  self.world.kill_vm()
end

--- The world; also fail, slow, calls, attached, mounted, shares, kill_vm().
---@param opts table? for world.new
function fake.new(opts)
  opts = opts or {}
  local w = { fail = {}, slow = {}, calls = {}, attached = {}, mounted = {}, shares = {}, assigned = {} }
  -- Instances are random: specs know them by the order in which they came.
  local nicks, n = {}, 0
  function w.nick(instance)
    if not nicks[instance] then
      n = n + 1
      nicks[instance] = "#" .. n
    end
    return nicks[instance]
  end
  w.guest_object = setmetatable({
    mounts_seen = {}, unmounts_seen = {}, documents = {}, exits = {}, next_pid = 100, deadly = { [9] = true, [15] = true },
  }, Guest)
  w.uvm_object = setmetatable({ shares_seen = {}, devices_seen = {}, ended = task.signal() }, Uvm)
  local given = {
    id = opts.id or "vm1", run_dir = opts.run_dir or "/run/moonshim-spec/none", core = core,
    host = opts.host or { run_dir = function() return "/run/moonshim-spec/none" end },
  }
  for k, v in pairs(opts) do given[k] = v end
  local self = world.new(given)
  if not opts.no_vm then self.uvm, self.guest = w.uvm_object, w.guest_object end
  for k, v in pairs(w) do rawset(self, k, v) end
  w.guest_object.world, w.uvm_object.world = self, self
  --- The VM dies: everything in it is gone, the host's part is not.
  function self.kill_vm()
    if w.uvm_object.dead then return end
    w.uvm_object.dead = true
    for k in pairs(self.mounted) do self.mounted[k] = nil end
    w.uvm_object.ended:fire { reason = "exited" }
    for _, exit in pairs(w.guest_object.exits) do
      if not exit:fired() then exit:fire(err.new("unavailable", "the guest connection is lost", { origin = "shim" })) end
    end
  end
  --- Files by path: "directory", "file", "block", or { format = "ext4" } for an image.
  function self.with_files(list)
    rawset(self, "files", fake.files(list))
    return self
  end
  return self
end

--- A file system for the oci modules: path -> kind, or { kind?, format, inner?, blank?, real?, read_only? }; `asked` of it is
--- which files were asked for access.
function fake.files(list)
  local files = { asked = {} }
  local function entry(path)
    local e = list[path]
    if e == nil then err.raise("not_found", "ENOENT: no such file or directory: %s", path) end
    return type(e) == "string" and { kind = e } or e
  end
  function files.realpath(path) return entry(path).real or path end
  function files.kind(path) return entry(path).kind or "file" end
  function files.detect(path)
    local e = entry(path)
    return { format = e.format or "unknown", inner = e.inner, size = 1 << 20 }
  end
  function files.access(path, write)
    files.asked[#files.asked + 1] = (write and "write " or "read ") .. path
    if entry(path).read_only and write then err.raise("permission_denied", "cannot be written: %s", path) end
  end
  function files.blank(path) return entry(path).blank or false end
  return files
end

return fake

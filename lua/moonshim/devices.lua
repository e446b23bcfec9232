--- The driver of the reservation machine: turns its effects into host and guest calls. One for all kinds of devices.
--
-- Layer      above guest and host; uses task, classify and core.devices (the pure machine).
-- Words      facts = what `reserve` gave, plain data that goes into the journal; found = what the host found out while
--            attaching (loop device), merged into the facts of every reservation of that disk.
-- Always     1. which effect may run when is decided by the machine alone; this file decides nothing.
--            2. an effect runs to its end whatever happens to the caller that waits for it.
--            3. map and unmap may be called again at any time; a retry resumes where the object stands.
-- See        csrc/device/resv.h, spec/unit/devices_spec.lua
local classify = require "moonshim.classify"
local err = require "moonshim.err"
local host = require "moonshim.host"
local task = require "moonshim.task"

---@class moonshim.Devices
local Devices = {}
Devices.__index = Devices

local devices = {}

-- Milliseconds an effect may take before its outcome counts as unknown.
local LIMITS = {
  attach = 60000, detach = 60000, add = 30000, remove = 30000, mount = 120000, unmount = 60000, eject = 30000, assign = 60000,
  wait = 90000,
}

---@param world moonshim.World
---@param opts { no_writable: boolean?, scsi: { controllers: integer, boot: table[] }?, core: any? }? no_writable: refuse writable
---shares; scsi: of host.topology, all that a document may have when absent (a journal holds no document)
---@return moonshim.Devices
function devices.new(world, opts)
  opts = opts or {}
  local core = opts.core or require "moonshim.core"
  return setmetatable({
    world = world,
    index = err.try(core.devices {
      scsi = { controllers = opts.scsi and opts.scsi.controllers or 4, luns = host.LUNS, boot = opts.scsi and opts.scsi.boot },
      plan9 = { no_writable = opts.no_writable or false },
    }),
    waiting = {},
    found = {},
    restored = {},
  }, Devices)
end

-- Effects --------------------------------------------------------------------------------------------------------

local function scsi_request(effect, verb)
  local settings
  if verb == "Add" then settings = { Type = effect.type or "VirtualDisk", Path = effect.path, ReadOnly = effect.read_only or nil } end
  return { ResourcePath = host.scsi_path(effect.controller, effect.lun), RequestType = verb, Settings = settings }
end

local function share_request(effect, verb)
  local name = tostring(effect.share)
  local settings = { Name = name, AccessName = name, Port = effect.port }
  if verb == "Add" then
    settings.Path = effect.path
    settings.Flags = host.SHARE_LINUX_METADATA | (effect.read_only and host.SHARE_READ_ONLY or 0)
      | (effect.restrict and host.SHARE_RESTRICT or 0)
    if effect.restrict then settings.AllowedFiles = effect.names end
  end
  return { ResourcePath = host.PLAN9_PATH, RequestType = verb, Settings = settings }
end

local function device_request(effect, verb)
  local settings
  if verb == "Add" then
    settings = {
      Functions = { { DeviceInstancePath = effect.path, VirtualFunction = effect.vf } }, PropagateNumaAffinity = true,
    }
  end
  return { ResourcePath = host.vpci_path(effect.instance), RequestType = verb, Settings = settings }
end

local function key_of(facts)
  return ("%s:%s:%s"):format(facts.bus, facts.controller or "", facts.lun or facts.share or facts.instance)
end

local function guest_of(world, op)
  if world.guest then return world.guest end
  error(err.new("unavailable", "there is no connection to the guest", { origin = "shim", op = op }), 0)
end

local function vm_of(world, op)
  if world.uvm then return world.uvm end
  error(err.new(world.alive() and "unavailable" or "gone", "the VM is not there", { origin = "host", op = op }), 0)
end

-- Effects on the host itself; the others are requests to the guest.
local HOST_OPS = { attach = true, detach = true, add = true, remove = true, assign = true }

-- { name of the operation for the classifier, function }, by operation, or by bus and operation where buses differ
local ACTIONS = {
  attach = { "modify.add.scsi", function(self, e)
    self.found[key_of(e)] = vm_of(self.world, "modify.add.scsi"):modify(scsi_request(e, "Add"))
  end },
  detach = { "modify.remove.scsi", function(self, e)
    local key, world = key_of(e), self.world
    -- Where disks have an effect on the host itself, that is undone although the VM is gone.
    local vm = world.uvm or (world.host.remains and world.host.remains(world.run_dir))
    if vm then vm:modify(scsi_request(e, "Remove"), self.found[key]) end
    self.found[key] = nil
  end },
  add = { "modify.add.plan9", function(self, e)
    self.found[key_of(e)] = vm_of(self.world, "modify.add.plan9"):modify(share_request(e, "Add"))
  end },
  remove = { "modify.remove.plan9", function(self, e)
    local key = key_of(e)
    vm_of(self.world, "modify.remove.plan9"):modify(share_request(e, "Remove"), self.found[key])
    self.found[key] = nil
  end },
  assign = { "modify.add.vpci", function(self, e)
    self.found[key_of(e)] = vm_of(self.world, "modify.add.vpci"):modify(device_request(e, "Add"))
  end },
  wait = { "modify.add.wait", function(self, e) guest_of(self.world, "modify.add.wait"):wait_device(e.instance) end },
  ["vpci.remove"] = { "modify.remove.vpci", function(self, e)
    local key, world = key_of(e), self.world
    local vm = world.uvm or (world.host.remains and world.host.remains(world.run_dir))
    if vm then vm:modify(device_request(e, "Remove"), self.found[key]) end
    self.found[key] = nil
  end },
  mount = { "modify.add.mount", function(self, e)
    local guest = guest_of(self.world, "modify.add.mount")
    if e.bus == "plan9" then guest:map_directory(e) else guest:map_disk(e) end
  end },
  unmount = { "modify.remove.mount", function(self, e)
    local guest = guest_of(self.world, "modify.remove.mount")
    if e.bus == "plan9" then guest:unmap_directory(e) else guest:unmap_disk(e) end
  end },
  eject = { "modify.remove.eject", function(self, e) guest_of(self.world, "modify.remove.eject"):eject(e.controller, e.lun) end },
}

function Devices:perform(effect)
  local action = ACTIONS[effect.bus .. "." .. effect.op] or ACTIONS[effect.op]
  local ok, e = xpcall(task.deadline, err.traceback, LIMITS[effect.op], action[2], self, effect)
  local outcome, why = "ok", nil
  if not ok then
    why = err.from(e)
    -- A bug of ours leaves the object in a state that nobody knows.
    outcome = err.is(e) and classify.class(why, {
      op = action[1], alive = self.world.alive(), asked = HOST_OPS[effect.op] and "host" or "guest",
    }) or "unknown"
    self.world.log:debug("a device effect failed", { op = effect.op, path = effect.path, outcome = outcome, error = why })
  end
  self.index:done(effect.id, outcome, why)
  self:pump()
end

--- Starts what may start, tells those who wait what has settled.
---@private
function Devices:pump()
  while true do
    local effect = self.index:effect()
    if not effect then break end
    task.detach(function() self:perform(effect) end)
  end
  while true do
    local id, aim, code, _, why = self.index:settled()
    if not id then return end
    local wait = self.waiting[id]
    if wait and wait.aim == aim then
      self.waiting[id] = nil
      wait.signal:fire(code and (why or err.new(code, code)))
    end
  end
end

---@private
function Devices:aim(facts, aim)
  local id = facts.id
  local earlier = self.waiting[id]
  local wait = earlier and earlier.aim == aim and earlier or nil
  if not wait then
    local ok, e = self.index:aim(id, aim)
    if not ok then error(err.from(e), 0) end
    if earlier then earlier.signal:fire(err.new("aborted", "another step took over")) end
    wait = { aim = aim, signal = task.signal() }
    self.waiting[id] = wait
    self:pump()
  end
  local why = wait.signal:wait()
  if why then error(err.wrap(why, facts.path), 0) end
end

-- For kinds ------------------------------------------------------------------------------------------------------

--- Names a reservation and chooses its slot and guest path; nothing happens yet.
---@param want table see core.devices: bus, path, read_only, type, partition, mount, restrict, names, vf, instance
---@return table facts with `id`
function Devices:reserve(want)
  local id, facts = self.index:make(want)
  if not id then error(err.from(facts), 0) end
  facts.id = id
  local number = tonumber(id)
  self.first_made = self.first_made or number
  self.last_made = number
  return facts
end

--- Brings a reservation up. Returns what the host found out about its disk or share.
---@async
---@param facts table
---@return table found
function Devices:map(facts)
  self:aim(facts, "mapped")
  return self.found[key_of(facts)] or {}
end

--- Puts the reservations of an earlier process back, under their old names. One that does not fit keeps nothing else
--- from being restored: its own release says why.
---@param receipts table[] receipts of any kind; those that hold no device are passed over
function Devices:restore(receipts)
  for _, receipt in ipairs(receipts) do
    local facts = receipt.facts
    if facts.bus and not self.restored[facts.id] then
      local ok, e = pcall(self.restore_one, self, facts, receipt.state == "held" and "mapped" or "intended")
      if not ok and not err.is(e) then error(e, 0) end
      if not ok then self.world.log:warn("a device cannot be restored", { name = receipt.name, path = facts.path, error = e }) end
    end
  end
end

---@private
function Devices:restore_one(facts, held)
  local ok, e = self.index:restore(facts.id, facts, held)
  if not ok then error(err.from(e), 0) end
  self.restored[facts.id] = true
  if facts.loop or facts.node then self.found[key_of(facts)] = { loop = facts.loop, node = facts.node } end
end

--- Takes a reservation down: the last holder of a mount unmounts, the last holder of a disk detaches. From another
--- process the facts are put back first. What is released already is done.
---@async
---@param facts table
function Devices:unmap(facts)
  local number = tonumber(facts.id)
  local ours = self.first_made and number >= self.first_made and number <= self.last_made
  if not ours and not self.restored[facts.id] then self:restore_one(facts, "intended") end
  local ok, e = pcall(self.aim, self, facts, "released")
  if ok or err.is(e, "not_found") then return end
  error(e, 0)
end

--- What is reserved, for diagnostics.
function Devices:dump() return self.index:dump() end

return devices

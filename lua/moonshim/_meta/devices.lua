---@meta _
---core.devices: the reservation machine (csrc/bind/devices.c). The rules of core.lua hold.

---@class moonshim.core
local core = {}

---@class moonshim.DeviceWant
---@field bus "scsi"|"plan9"|"vpci"
---@field path string absolute, links followed
---@field read_only boolean?
---@field type string? scsi: VirtualDisk (default), PassThru, ExtensibleVirtualDisk
---@field provider string? scsi
---@field partition integer? scsi; 0 is the whole disk
---@field mount { read_only: boolean?, encrypted: boolean?, ensure_filesystem: boolean?, filesystem: string?, block_dev: boolean?, options: string[]? }? scsi
---@field restrict boolean? plan9: only `names` are visible
---@field names string[]? plan9
---@field vf integer? vpci: virtual function
---@field instance string? vpci: a fresh GUID, lower case; in facts the one that the device has

---@class moonshim.DeviceFacts: moonshim.DeviceWant
---@field guest_path string?
---@field controller integer? scsi
---@field lun integer? scsi
---@field share string? plan9
---@field port integer? plan9

---@class moonshim.DeviceEffect: moonshim.DeviceFacts
---@field id integer
---@field op "attach"|"add"|"mount"|"unmount"|"eject"|"detach"|"remove"|"assign"|"wait"

---@param config { scsi: { controllers: integer?, luns: integer?, boot: table[]? }?, plan9: { no_writable: boolean? }?, vpci: { boot: table[]? }?, no_eject: boolean?, fold_case: boolean? }?
---@return moonshim.devices? table boot disks are { controller, lun, path }, boot devices { path=, vf=, instance= }
---@return moonshim.Error? err
function core.devices(config) end

---@class moonshim.devices
local devices = {}

---Names it and chooses slot and guest path; no effect.
---@param want moonshim.DeviceWant
---@return string? id
---@return moonshim.DeviceFacts|moonshim.Error facts
function devices:make(want) end

---@param id string
---@param goal "mapped"|"released"
---@return true? ok
---@return moonshim.Error? err `not_found`: for a release that means done
function devices:aim(id, goal) end

---What may start now, each once; `done` is owed for it.
---@return moonshim.DeviceEffect?
function devices:effect() end

---@param effect integer
---@param outcome "ok"|"gone"|"failed"|"unknown"
---@param reason moonshim.Error? what those who wait will get
---@return true? ok
---@return moonshim.Error? err
function devices:done(effect, outcome, reason) end

---The next reservation that reached its aim, or why not.
---@return string? id
---@return "mapped"|"released"|"none" aim
---@return string? code nil: reached
---@return string? message
---@return moonshim.Error? err the same, whole
function devices:settled() end

---@param id string
---@param facts moonshim.DeviceFacts
---@param held "mapped"|"intended"
---@return true? ok
---@return moonshim.Error? err
function devices:restore(id, facts, held) end

---@return table[] { id, aim, pending, facts, parent = { users, state, running? }, mount = { ... } }
function devices:dump() end

---@return { reservations: integer, parents: integer, mounts: integer, running: integer, slots_used: integer, slots_boot: integer, effects: integer, late: integer }
function devices:counts() end

function devices:close() end

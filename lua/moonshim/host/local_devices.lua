--- vPCI on the local host: a device is its node, in a folder of the run dir that the guest sees.
--
-- Layer    host: luv and moonshim.core.
-- Always   the folder of an instance appears whole or not at all, so that who waits for it never finds half of it.
local err = require "moonshim.err"
local task = require "moonshim.task"

local devices = {}

local function core() return require "moonshim.core" end

local function check_instance(instance)
  if not instance:find "^%x+%-%x+%-%x+%-%x+%-%x+$" or #instance ~= 36 then
    err.raise("invalid_argument", "%q is not the GUID of a device", instance)
  end
  return instance
end

local function one_function(settings)
  local list = settings.Functions
  local f = type(list) == "table" and #list == 1 and list[1]
  if not f or type(f.DeviceInstancePath) ~= "string" then
    err.raise("invalid_argument", "Functions must hold one function with its DeviceInstancePath")
  end
  if (f.VirtualFunction or 0) ~= 0 then
    err.raise("unimplemented", "%s: the host \"local\" has no virtual functions", f.DeviceInstancePath)
  end
  if f.DeviceInstancePath:sub(1, 1) ~= "/" then
    err.raise("invalid_argument", "%q is no device here: the host \"local\" takes device nodes, as /dev/fuse", f.DeviceInstancePath)
  end
  return f.DeviceInstancePath
end

--- The folder of all devices of a VM.
function devices.folder(run_dir) return run_dir .. "/vpci" end

local function remove_tree(path)
  task.callback(function(cb) return core().sys.remove_tree(path, cb) end)
end

--- Settings of an HCS VirtualPciDevice: { Functions = { { DeviceInstancePath, VirtualFunction } } }.
---@async
---@param run_dir string
---@param instance string
---@param settings table
---@return { node: { block: boolean, major: integer, minor: integer } } found
function devices.add(run_dir, instance, settings)
  local uv, sys = require "luv", core().sys
  local path = one_function(settings)
  local whole = ("%s/%s"):format(devices.folder(run_dir), check_instance(instance))
  local half = ("%s/.%s"):format(devices.folder(run_dir), instance)
  if uv.fs_stat(whole) then err.raise("already_exists", "device %s is there already", instance) end
  remove_tree(half) -- of an attempt that was cut short
  err.try(sys.mkdir_p(half, 0x1c0))
  local node, e = sys.mknod_like(half .. "/" .. path:match "[^/]+$", path)
  local moved, why
  if node then moved, why = uv.fs_rename(half, whole) end
  if moved then return { node = node } end
  pcall(remove_tree, half)
  return error(e and err.from(e) or err.new("internal", tostring(why)), 0)
end

--- Takes it away; what is not there is fine.
---@async
function devices.remove(run_dir, instance)
  remove_tree(("%s/%s"):format(devices.folder(run_dir), check_instance(instance)))
  remove_tree(("%s/.%s"):format(devices.folder(run_dir), instance))
end

return devices

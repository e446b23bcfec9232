--- The devices of a spec: which host devices they are, and what the guest is told instead of their host names.
--
-- Layer    oci: asks `files` only. `dispatch` changes nothing; `add` and `rewrite` change the spec they are given.
-- Words    entry = { index, kind = "device", args }: index is the place in spec.windows.devices.
-- Always   1. all types are checked before anything is taken.
--          2. the guest gets the instance GUID, never a host path as an id. `path` and `access` of an entry are an addition of
--             ours, which other guests ignore: the place in the container, and what it may do there.
-- See      spec/unit/oci/devices_spec.lua
local data = require "moonshim.oci.data"
local err = require "moonshim.err"
local quote = require("moonshim.guest.layout").quote

local devices = {}

local TYPES = { vpci = true, ["vpci-instance-id"] = true, gpu = true }
local MAX_VF = 65535

local function bad(i, fmt, ...) err.raise("invalid_argument", "windows.devices[%d]: %s", i, fmt:format(...)) end

--- Instance path and virtual function of an id. A path of this system is taken as it is: its last part may well be a
--- number. Of an instance path, "/4" at the end is a function; so is "\4", but "\0008" is a name as Windows makes them.
---@param id string
---@return string path
---@return integer vf
function devices.parse_id(id)
  if id:sub(1, 1) == "/" then return id, 0 end
  local path, digits = id:match "^(.+)/(%d+)$"
  if not path then
    path, digits = id:match "^(.+)\\(%d+)$"
    if digits and digits ~= "0" and digits:sub(1, 1) == "0" then return id, 0 end
  end
  local vf = digits and #digits <= 5 and math.tointeger(tonumber(digits))
  if not vf or vf > MAX_VF then return id, 0 end
  return path, vf
end

--- Adds what a pod file names to the spec.
---@param spec table
---@param asked { path: string, destination: string, access: string }[]?
function devices.add(spec, asked)
  if not asked or #asked == 0 then return spec end
  if type(spec.windows) ~= "table" then spec.windows = {} end
  if type(spec.windows.devices) ~= "table" then spec.windows.devices = {} end
  for _, device in ipairs(asked) do
    table.insert(spec.windows.devices, {
      id = device.path, idType = "vpci-instance-id", path = device.destination, access = device.access,
    })
  end
  return spec
end

local function checked(i, device)
  if type(device) ~= "table" then bad(i, "must be an object, not %s", type(device)) end
  if type(device.id) ~= "string" or device.id == "" then bad(i, "id is missing: it names the device") end
  if not TYPES[device.idType] then
    local what = type(device.idType) == "string" and quote(device.idType) .. " is not known" or "is missing"
    bad(i, "idType %s; vpci, vpci-instance-id and gpu are known", what)
  end
end

local function args_of(i, device, files)
  local path, vf = devices.parse_id(device.id)
  local destination = device.path
  if path:sub(1, 1) == "/" then
    local ok, real = pcall(files.realpath, path)
    if not ok then error(err.is(real) and err.wrap(real, ("windows.devices[%d]: device %s"):format(i, path)) or real, 0) end
    local what = files.kind(real)
    if what ~= "char" and what ~= "block" then bad(i, "%s is a %s, not a device", path, what) end
    destination = destination or path
    path = real
  end
  return { path = path, vf = vf, index = i, destination = destination, access = device.access }
end

--- What has to be taken for them, in spec order.
---@async
---@param spec table
---@param files moonshim.oci.Files
---@return { index: integer, kind: "device", args: table }[]
function devices.dispatch(spec, files)
  local out = {}
  local list = type(spec.windows) == "table" and spec.windows.devices
  if data.absent(list) or not list then return out end
  if type(list) ~= "table" then err.raise("invalid_argument", "windows.devices: must be a list, not %s", type(list)) end
  for i, device in ipairs(list) do checked(i, device) end
  local at = {}
  for i, device in ipairs(list) do
    out[i] = { index = i, kind = "device", args = args_of(i, device, files) }
    local destination = out[i].args.destination
    if destination and at[destination] then bad(i, "windows.devices[%d] is at %s already", at[destination], destination) end
    if destination then at[destination] = i end
  end
  return out
end

--- Puts the instances in, in place. `held` are the facts of the devices.
---@param spec table a copy
---@param held table[]
function devices.rewrite(spec, held)
  for _, facts in ipairs(held) do
    local device = facts.index and type(spec.windows) == "table" and spec.windows.devices and spec.windows.devices[facts.index]
    if device then device.id, device.path, device.access = facts.instance, facts.destination, facts.access end
  end
  return spec
end

return devices

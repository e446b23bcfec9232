--- Network adapters of the local host: a pair of links, one end on a bridge, the other in the network of the VM.
--
-- Layer    host: net/bridge. The settings are those of an HCS NetworkAdapter, with what its endpoint is beside them, since
--          there is no network service here that would know.
local address = require "moonshim.net.address"
local bridge = require "moonshim.net.bridge"
local err = require "moonshim.err"

local local_net = {}

local function mac_of(from, name)
  local text = from[name]
  local mac = type(text) == "string" and address.mac(text)
  return mac or err.raise("invalid_argument", "%s: %q is no hardware address", name, tostring(text))
end

local function endpoint_of(settings)
  local endpoint = settings.Endpoint
  if type(endpoint) ~= "table" or type(endpoint.Bridge) ~= "string" then
    err.raise("invalid_argument", "the host \"local\" needs Settings.Endpoint.Bridge for a network adapter")
  end
  return endpoint
end

--- Adds an adapter; found is what was chosen for it. The VM must run: the other end is born in its network.
---@async
---@param facts { pid: integer, start_time: integer }
---@param settings table
---@return table found
function local_net.add(facts, settings)
  local endpoint = endpoint_of(settings)
  if not facts.pid then err.raise("failed_precondition", "the VM has no process yet") end
  local mac, host_mac = mac_of(settings, "MacAddress"), mac_of(endpoint, "HostMacAddress")
  return bridge.attach {
    bridge = endpoint.Bridge, subnet = endpoint.Subnet, address = endpoint.Address, seed = endpoint.Seed or mac, mac = mac,
    host_mac = host_mac, pid = facts.pid, start_time = facts.start_time,
  }
end

--- Removes an adapter, whatever became of the VM. One that is not there is fine.
---@async
---@param settings table as of the Add
---@return table found
function local_net.remove(settings)
  local endpoint = endpoint_of(settings)
  bridge.detach { bridge = endpoint.Bridge, host_mac = mac_of(endpoint, "HostMacAddress") }
  return {}
end

return local_net

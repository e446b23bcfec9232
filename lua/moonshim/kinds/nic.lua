--- kind "nic": one network interface of a pod: the host's half (a link, an address) and the guest's half (its place in
--- the pod's network, its names).
--
-- args    { namespace = id, endpoint = moonshim.net.Endpoint, seed, policy_based_routing?, settings? }
--         settings: what the policy adds for this NIC, { EncapOverhead = 50 }
-- facts   { id, namespace, endpoint = its name, mac, host_mac?, bridge?, in_place }, then what the host chose: address,
--         prefix, gateway, link
-- Up: the host's half first, for the guest looks for the link. Down: the guest's half first. A guest that refuses keeps
-- the host's half; one that nobody can reach does not.
local classify = require "moonshim.classify"
local endpoints = require "moonshim.net.endpoints"
local err = require "moonshim.err"
local host = require "moonshim.host"
local kind = require "moonshim.kind"
local layout = require "moonshim.guest.layout"

-- Unicast, locally administered.
local function new_mac(core)
  local hex = err.try(core.sys.random_hex(6))
  local first = tonumber(hex:sub(1, 2), 16) & 0xfc | 2
  return ("%02x"):format(first) .. hex:sub(3):gsub("%x%x", ":%0")
end

local function request(facts, verb, args)
  local endpoint = args and args.endpoint or {}
  return {
    ResourcePath = host.adapter_path(facts.id), RequestType = verb,
    Settings = {
      EndpointId = facts.id, MacAddress = facts.mac,
      -- A host without a network service of its own is told what the endpoint is.
      Endpoint = {
        Bridge = facts.bridge, HostMacAddress = facts.host_mac, Subnet = endpoint.subnet, Address = endpoint.address,
        Seed = args and args.seed,
      },
    },
  }
end

local function guest_settings(facts, args, found)
  local endpoint = args.endpoint
  local configs, routes = {}, {}
  if facts.in_place then
    for i, a in ipairs(endpoint.addresses) do configs[i] = { IPAddress = a.address, PrefixLength = a.prefix } end
    for i, r in ipairs(endpoint.routes) do routes[i] = { DestinationPrefix = r.to, NextHop = r.via, Metric = r.metric } end
  else
    configs[1] = { IPAddress = found.address, PrefixLength = found.prefix }
    routes[1] = { DestinationPrefix = "0.0.0.0/0", NextHop = found.gateway }
  end
  local settings = {
    NamespaceID = endpoint.namespace or facts.namespace, ID = facts.id, MacAddress = facts.mac,
    DNSSuffix = table.concat(endpoint.dns.search, ","), DNSServerList = table.concat(endpoint.dns.servers, ","),
    IPConfigs = configs, Routes = routes, InPlace = facts.in_place, PolicyBasedRouting = args.policy_based_routing,
  }
  for name, value in pairs(args.settings or {}) do settings[name] = value end
  return settings
end

-- Read when it is used: it is known only once the guest has answered.
local function guest_takes(world)
  local said = world.guest and world.guest.capabilities
  return said ~= nil and said.NamespaceAddRequestSupported == true
end

local function vm_of(world)
  return world.uvm or err.raise("unavailable", "nic: the VM is not there")
end

local function leave_guest(world, facts)
  if not guest_takes(world) then return end
  classify.release({ op = "modify.remove.Network", alive = world.alive }, function()
    world.guest:modify(layout.NULL, "Remove", "Network", { NamespaceID = facts.namespace, ID = facts.id })
  end)
end

local function leave_host(world, facts)
  if facts.in_place then return end
  -- The host's end is undone although the VM is gone.
  local vm = world.uvm or world.host.remains and world.host.remains(world.run_dir)
  if not vm then return end
  classify.release({ op = "modify.remove.nic", alive = world.alive, asked = "host" }, function()
    vm:modify(request(facts, "Remove"), facts)
  end)
end

return kind.define("nic", {
  v = 1,
  ends_with_boot = true,
  reserve = function(world, args)
    local endpoint, core = args.endpoint, world.core
    if type(endpoint) ~= "table" or type(endpoint.name) ~= "string" then err.raise("invalid_argument", "nic: the endpoint is missing") end
    if type(args.namespace) ~= "string" or args.namespace == "" then err.raise("invalid_argument", "nic: the namespace is missing") end
    local in_place = endpoint.kind == "in_place"
    return {
      id = endpoints.new_guid(core), namespace = args.namespace, endpoint = endpoint.name, in_place = in_place,
      mac = in_place and endpoint.mac or new_mac(core),
      host_mac = not in_place and new_mac(core) or nil,
      bridge = endpoint.bridge,
    }
  end,
  acquire = function(world, facts, args)
    local found = not facts.in_place and vm_of(world):modify(request(facts, "Add", args)) or nil
    if guest_takes(world) then world.guest:modify(layout.NULL, "Add", "Network", guest_settings(facts, args, found)) end
    return found
  end,
  release = function(world, facts)
    leave_guest(world, facts)
    leave_host(world, facts)
  end,
  verify = function(world) return world.alive() and "unknown" or "gone" end,
  show = function(facts)
    if facts.in_place then return facts.endpoint .. ", in place" end
    return ("%s on %s%s"):format(facts.endpoint, facts.bridge or "?", facts.address and ", " .. facts.address or "")
  end,
  defaults = { within = "30s", retries = 1, backoff = "100ms", on_failure = "continue" },
})

--- The bridge of the local host, and the pairs of links that put pods on it.
--
-- Layer    net: core.net, task. Runs in the network namespace of this process.
-- Words    ours = the bridge has the hardware address that its name gives it (bridge.mac): nobody else makes such ones.
-- Always   1. everything that changes links happens under the lock of the network namespace, so a bridge is not removed
--             below a pod that is just coming, whoever's pod it is.
--          2. only links that we made are changed or removed: pairs by both their hardware address and their kind, the
--             bridge by name, kind and hardware address.
--          3. the bridge is made for its first pod and removed with its last.
--          4. detach works from facts alone, from any prefix of attach, any number of times, in any process.
local address = require "moonshim.net.address"
local err = require "moonshim.err"
local ipam = require "moonshim.net.ipam"
local task = require "moonshim.task"

local bridge = {}

bridge.NAME = "moonshim0"
--- Networks for a new bridge when nobody names one: the first that nothing on this machine uses. $MOONSHIM_SUBNET goes
--- before all of them.
bridge.SUBNETS = { "10.197.0.0/16", "10.198.0.0/16", "172.29.0.0/16", "192.168.197.0/24" }

-- How long others may hold the lock; each holds it for a few calls of the kernel. Milliseconds.
local LOCK_WITHIN = 10000

local function net() return require("moonshim.core").net end

local function ask(what, args)
  return task.callback(function(cb) return net()[what](args, cb) end)
end

local function locked(fn)
  local till, pause = task.now() + LOCK_WITHIN, 1
  local lock, e
  repeat
    lock, e = net().lock()
    if not lock then
      if not err.is(e, "failed_precondition") or task.now() >= till then error(err.from(e), 0) end
      task.sleep(pause)
      pause = math.min(pause * 2, 50)
    end
  until lock
  local result = table.pack(xpcall(fn, err.traceback))
  lock:close()
  if not result[1] then error(result[2], 0) end
  return table.unpack(result, 2, result.n)
end

--- The hardware address that marks a bridge of this name as ours; a locally administered one.
---@param name string
---@return string
function bridge.mac(name)
  local h = 0x811c9dc5
  for i = 1, #name do h = (h ~ name:byte(i)) * 0x01000193 & 0xffffffff end
  return ("02:6d:73:%02x:%02x:%02x"):format(h >> 16 & 255, h >> 8 & 255, h & 255)
end

-- Looking ----------------------------------------------------------------------------------------------------------

local function by_name(state, name)
  for _, link in ipairs(state.links) do
    if link.name == name then return link end
  end
end

local function is_ours(link) return link.kind == "bridge" and link.mac == bridge.mac(link.name) end

local function address_of(state, link)
  for _, a in ipairs(state.addresses) do
    if a.index == link.index and a.family == 4 then return ("%s/%d"):format(a.address, a.prefix) end
  end
end

--- Who uses a part of `subnet` already: the name of a link, or nil. A default route covers everything and counts for
--- nothing; links of `except` are ours.
---@param state moonshim.Links
---@param subnet moonshim.net.Network
---@param except integer? index
---@return string?
function bridge.user_of(state, subnet, except)
  local names = {}
  for _, link in ipairs(state.links) do names[link.index] = link.name end
  local function clash(index, text, prefix)
    local other = index ~= except and prefix > 0 and address.network(("%s/%d"):format(text, prefix))
    return other and address.overlap(subnet, other) and (names[index] or "another link")
  end
  for _, a in ipairs(state.addresses) do
    local name = a.family == 4 and clash(a.index, a.address, a.prefix)
    if name then return name end
  end
  for _, r in ipairs(state.routes) do
    local name = r.family == 4 and clash(r.index, r.to, r.prefix)
    if name then return name end
  end
end

--- The network for a new bridge. Raises failed_precondition when what was asked for is in use, or all of ours are.
---@param state moonshim.Links
---@param wanted string?
---@return moonshim.net.Network
function bridge.choose(state, wanted)
  wanted = wanted or os.getenv "MOONSHIM_SUBNET"
  if wanted then
    local subnet = address.subnet(wanted)
    local user = bridge.user_of(state, subnet)
    if user then err.raise("failed_precondition", "the network %s is in use: %s has a part of it", wanted, user) end
    return subnet
  end
  for _, text in ipairs(bridge.SUBNETS) do
    local subnet = address.subnet(text)
    if not bridge.user_of(state, subnet) then return subnet end
  end
  err.raise("failed_precondition", "all of %s are in use on this machine; name another with subnet or $MOONSHIM_SUBNET",
    table.concat(bridge.SUBNETS, ", "))
end

-- Making -----------------------------------------------------------------------------------------------------------

local function make(state, want)
  local subnet = bridge.choose(state, want.subnet)
  local gateway = ("%s/%d"):format(address.text(address.gateway(subnet)), subnet.prefix)
  ask("bridge", { name = want.bridge, mac = bridge.mac(want.bridge), address = gateway })
  return subnet
end

-- The network of the bridge, which is there afterwards.
local function ensure(state, want)
  local link = by_name(state, want.bridge)
  if not link then return make(state, want) end
  if not is_ours(link) then
    err.raise("failed_precondition", "there is a link %s that moonshim did not make; choose another name for the bridge", want.bridge)
  end
  local has = link.up and address_of(state, link)
  if not has then -- somebody was killed while making it, so nothing can be on it
    ask("remove", { mac = link.mac, kind = "bridge" })
    return make(state, want)
  end
  local subnet = address.subnet(has)
  if want.subnet and address.network_text(address.subnet(want.subnet)) ~= address.network_text(subnet) then
    err.raise("failed_precondition", "bridge %s has the network %s, not %s; it goes with its last pod", want.bridge,
      address.network_text(subnet), want.subnet)
  end
  return subnet
end

local function unused(state, name)
  local link = by_name(state, name)
  if not link or not is_ours(link) then return nil end
  for _, other in ipairs(state.links) do
    if other.master == link.index then return nil end
  end
  return link
end

local function remove_unused(name)
  local link = unused(ask("state", {}), name)
  if not link then return end
  local ok, e = pcall(ask, "remove", { mac = link.mac, kind = "bridge" })
  if not ok and not err.is(e, "gone") then error(e, 0) end
end

local function connect(state, subnet, want)
  local taken = {}
  for _, link in ipairs(state.links) do taken[link.name] = true end
  local function attempt(n)
    ask("veth", {
      name = ipam.link_name(n), mac = want.host_mac, bridge = want.bridge, mtu = want.mtu, pid = want.pid,
      start_time = want.start_time, peer_name = "msh" .. want.mac:gsub(":", ""), peer_mac = want.mac,
    })
    return n
  end
  if want.address then
    local n = ipam.wanted(subnet, want.address)
    local ok, e = pcall(attempt, n)
    if not ok and err.is(e, "already_exists") then err.raise("already_exists", "address %s is in use by another pod", want.address) end
    if not ok then error(e, 0) end
    return n
  end
  local tries = 0
  for n in ipam.candidates(subnet, want.seed, taken) do
    tries = tries + 1
    local ok, e = pcall(attempt, n)
    if ok then return n end
    if not err.is(e, "already_exists") or tries >= ipam.TRIES then error(e, 0) end
  end
  err.raise("resource_exhausted", "no address is left in %s", address.network_text(subnet))
end

---@class moonshim.net.Attach
---@field bridge string name
---@field subnet string? for a new bridge
---@field address string? a certain one
---@field seed string who asks, see ipam
---@field mac string of the pod's end
---@field host_mac string of the host's end
---@field mtu integer?
---@field pid integer a process in the network namespace that gets the other end
---@field start_time integer?

--- Puts a new pair of links between the bridge and the network of a process. All of it or nothing.
---@async
---@param want moonshim.net.Attach
---@return { address: string, prefix: integer, gateway: string, link: string }
function bridge.attach(want)
  return locked(function()
    local state = ask("state", {})
    local ok, result = xpcall(function()
      local subnet = ensure(state, want)
      local n = connect(state, subnet, want)
      return {
        address = address.text(n), prefix = subnet.prefix, gateway = address.text(address.gateway(subnet)), link = ipam.link_name(n),
      }
    end, err.traceback)
    if ok then return result end
    pcall(remove_unused, want.bridge)
    error(result, 0)
  end)
end

--- Takes a pair away, if it is there, and the bridge, if it was the last.
---@async
---@param facts { host_mac: string, bridge: string }
function bridge.detach(facts)
  locked(function()
    local ok, e = pcall(ask, "remove", { mac = facts.host_mac, kind = "veth" })
    if not ok and not err.is(e, "gone") then error(e, 0) end
    remove_unused(facts.bridge)
  end)
end

--- Whether the host's end of a pair is there.
---@async
---@param host_mac string
---@return boolean
function bridge.holds(host_mac)
  for _, link in ipairs(ask("state", {}).links) do
    if link.kind == "veth" and link.mac == host_mac then return true end
  end
  return false
end

return bridge

--- Which address a pod gets. Pure: no file and no table of leases; see below for what stands in for them.
--
-- A lease is the name of the link that uses the address (ipam.link_name). The kernel refuses a name twice, frees it with
-- the link, and shows it to every process: nothing can be left behind, and nobody has to be told.
--
-- The choice is deterministic: the same pod gets the same address as long as nobody else has it; pods are spread over the
-- network, so that an address that has become free is not given to another pod at once, whose neighbours still remember
-- the old hardware address.
local address = require "moonshim.net.address"
local err = require "moonshim.err"

local ipam = {}

local PREFIX = "msh"
-- Names that were free when we looked may be taken by the time we ask; more tries than this say that something is wrong.
ipam.TRIES = 64

--- The host's link of the pod with this address.
---@param n integer
---@return string
function ipam.link_name(n) return ("%s%08x"):format(PREFIX, n) end

local function hash(text)
  local h = 0xcbf29ce484222325
  for i = 1, #text do h = (h ~ text:byte(i)) * 0x100000001b3 end
  return h >> 1 -- a number without a sign
end

--- Addresses of `net` in the order in which `seed` should try them, without those whose link name is in `taken`. The
--- first and the last address, and the gateway, are nobody's.
---@param net moonshim.net.Network
---@param seed string who asks: the same text, the same order
---@param taken table<string, any> link names
---@return fun(): integer?
function ipam.candidates(net, seed, taken)
  local low, high = address.gateway(net) + 1, net.last - 1
  local count = high - low + 1
  local at = count > 0 and hash(seed) % count or 0
  local tried = 0
  return function()
    while tried < count do
      local n = low + (at + tried) % count
      tried = tried + 1
      if not taken[ipam.link_name(n)] then return n end
    end
  end
end

--- An address that somebody asked for. Raises invalid_argument when it is not one of the network's for pods.
---@param net moonshim.net.Network
---@param text string
---@return integer
function ipam.wanted(net, text)
  local n = address.number(text)
  if not n or n <= address.gateway(net) or n >= net.last then
    err.raise("invalid_argument", "address %s is not one for pods in %s", text, address.network_text(net))
  end
  return n
end

return ipam

--- The endpoints of a pod: which NICs its namespace gets, and what they are told.
--
-- Layer    net: core.net for a namespace that is there already; plain tables otherwise.
-- Words    endpoint = one NIC to be: { name, kind = "bridge"|"in_place", dns, ... }. in place = it is in its namespace and
--          set up already; the guest only learns its names and addresses.
local address = require "moonshim.net.address"
local err = require "moonshim.err"
local task = require "moonshim.task"

local endpoints = {}

---@class moonshim.net.Endpoint
---@field name string
---@field kind "bridge"|"in_place"
---@field namespace string? id of its namespace, when that is not the controller's
---@field bridge string?
---@field subnet string?
---@field address string? wanted
---@field mac string?
---@field addresses { address: string, prefix: integer }[]? of one that is in place
---@field routes { to: string, via: string?, metric: integer? }[]?
---@field dns { servers: string[], search: string[] }

---@class moonshim.net.Want what a pod asks for
---@field mode "none"|"bridge"|"path"
---@field path string? of the namespace
---@field bridge string?
---@field subnet string?
---@field address string?
---@field dns { servers: string[]?, search: string[]? }?

local MAX_SEARCH, MAX_SERVERS = 6, 16

--- A random GUID, for namespaces, NICs and devices.
---@param core any moonshim.core
---@return string
function endpoints.new_guid(core)
  local hex = err.try(core.sys.random_hex(16))
  -- Version 4, variant 1.
  hex = ("%s4%s%x%s"):format(hex:sub(1, 12), hex:sub(14, 16), 8 | tonumber(hex:sub(17, 17), 16) & 3, hex:sub(18))
  local four = "(%x%x%x%x)"
  return (hex:gsub("^(%x%x%x%x%x%x%x%x)" .. four .. four .. four, "%1-%2-%3-%4-"))
end

-- Names ---------------------------------------------------------------------------------------------------------------

--- What a resolv.conf says, as far as it means the same in another network: a server on the loopback of this machine
--- does not.
---@param text string
---@return { servers: string[], search: string[] }
function endpoints.parse_resolv(text)
  local servers, search = {}, {}
  for line in (text .. "\n"):gmatch "(.-)\n" do
    local word, rest = line:match "^%s*(%l+)%s+(.*)$"
    if word == "nameserver" then
      local server = rest:match "^[^%s%%]+"
      if server and address.valid(server) and not server:find "^127%." and server ~= "::1" and #servers < MAX_SERVERS then
        servers[#servers + 1] = server
      end
    elseif word == "search" or word == "domain" then
      search = {} -- the last line counts
      for domain in rest:gmatch "[^%s]+" do
        if domain:find "^[%w_][%w_.-]*$" and #search < MAX_SEARCH then search[#search + 1] = domain end
      end
    end
  end
  return { servers = servers, search = search }
end

---@param path string?
function endpoints.host_dns(path)
  local file = io.open(path or "/etc/resolv.conf", "rb")
  if not file then return { servers = {}, search = {} } end
  local text = file:read(65536) or ""
  file:close()
  return endpoints.parse_resolv(text)
end

-- Lists ----------------------------------------------------------------------------------------------------------------

--- From a picture of a namespace: its links but the loopback, with what they have. Link-local addresses are everybody's.
---@param state moonshim.Links
---@return moonshim.net.Endpoint[]
function endpoints.of_state(state)
  local out = {}
  for _, link in ipairs(state.links) do
    if not link.loopback then
      local endpoint = { name = link.name, kind = "in_place", mac = link.mac, addresses = {}, routes = {} }
      for _, a in ipairs(state.addresses) do
        if a.index == link.index and not (a.family == 6 and a.address:find "^fe[89ab]") then
          table.insert(endpoint.addresses, { address = a.address, prefix = a.prefix })
        end
      end
      for _, r in ipairs(state.routes) do
        if r.index == link.index and r.via then
          table.insert(endpoint.routes, { to = ("%s/%d"):format(r.to, r.prefix), via = r.via, metric = r.metric ~= 0 and r.metric or nil })
        end
      end
      if #endpoint.addresses > 0 then out[#out + 1] = endpoint end
    end
  end
  return out
end

local function in_namespace(world, path)
  if world.dry then return {} end
  return endpoints.of_state(task.callback(function(cb) return world.core.net.state({ netns = path }, cb) end))
end

--- The endpoints of what a pod asks for. Raises not_found or invalid_argument when its namespace is none.
---@async
---@param world moonshim.World
---@param want moonshim.net.Want
---@return moonshim.net.Endpoint[]
function endpoints.of(world, want)
  local list
  if want.mode == "bridge" then
    local bridge = want.bridge or require("moonshim.net.bridge").NAME
    list = { { name = "eth0", kind = "bridge", bridge = bridge, subnet = want.subnet, address = want.address } }
  elseif want.mode == "path" then
    if not world.dry then err.try(world.core.net.namespace(want.path)) end
    list = in_namespace(world, want.path)
  else
    list = {}
  end
  -- Names may be wanted where there is no link to carry them.
  local dns = want.dns or want.mode ~= "none" and endpoints.host_dns() or nil
  if dns and #list == 0 then list = { { name = "names", kind = "in_place", addresses = {}, routes = {} } } end
  for _, endpoint in ipairs(list) do
    endpoint.dns = { servers = dns and dns.servers or {}, search = dns and dns.search or {} }
  end
  return list
end

return endpoints

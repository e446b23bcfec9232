---What may be said of a pod's network and names.
local read = require "moonshim.pod_spec.read"
local suggest = require "moonshim.suggest"

local NETWORKS = { "none", "bridge" }

local function ip_address(v, at)
  read.want(v, at, "string")
  if not require("moonshim.net.address").valid(v) then at:fail('"%s" is no IP address', v) end
  return v
end

local function ipv4_address(v, at)
  read.want(v, at, "string")
  if not require("moonshim.net.address").number(v) then at:fail('"%s" is no IPv4 address', v) end
  return v
end

local function subnet(v, at)
  local ok, e = pcall(require("moonshim.net.address").subnet, read.want(v, at, "string"))
  if not ok then at:fail("%s", e.message) end
  return v
end

local function link_name(v, at)
  read.want(v, at, "string")
  if #v > 15 or not v:find("^%a[%w._-]*$") then at:fail('"%s" cannot be the name of a bridge', v) end
  return v
end

local function domain(v, at)
  read.want(v, at, "string")
  if #v > 253 or not v:find("^[%w_][%w_.-]*$") then at:fail('"%s" is no domain', v) end
  return v
end

---"none", "bridge", the path of a network namespace, or a table with one of them as its mode.
local function network(v, at)
  local out = type(v) == "table" and read.record(v, at, { mode = read.text, bridge = link_name, subnet = subnet, address = ipv4_address })
    or { mode = read.text(v, at) }
  local mode = out.mode or at:at("mode"):fail('is missing; write "none", "bridge" or the path of a network namespace')
  if mode:find("/", 1, true) then
    out.mode, out.path = "path", read.host_path(mode, at)
  elseif mode ~= "none" and mode ~= "bridge" then
    at:fail('"%s" is no network%s; write "none", "bridge" or the path of a network namespace', mode, suggest.hint(mode, NETWORKS))
  end
  for _, key in ipairs { "bridge", "subnet", "address" } do
    if out[key] and out.mode ~= "bridge" then at:at(key):fail('goes with mode = "bridge"') end
  end
  return out
end

---What a pod's resolv.conf says.
local function dns(v, at)
  local out = read.record(v, at, {
    servers = function(list_of, here) return read.list(list_of, here, ip_address) end,
    search = function(list_of, here) return read.list(list_of, here, domain) end,
  })
  out.servers, out.search = out.servers or {}, out.search or {}
  if #out.search > 6 then at:at("search"):fail("has %d domains, at most 6 are possible", #out.search) end
  if #out.servers > 16 then at:at("servers"):fail("has %d servers, at most 16 are possible", #out.servers) end
  return out
end

return { network = network, dns = dns }

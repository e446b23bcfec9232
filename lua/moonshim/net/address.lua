--- IP addresses and networks as numbers: pure, IPv4 for what we choose ourselves; IPv6 is only recognised.
--
-- Words    network = { first, prefix, last } of an IPv4 network, first and last as numbers.
local err = require "moonshim.err"

local address = {}

--- The number of an IPv4 address, or nil.
---@param text string
---@return integer?
function address.number(text)
  local a, b, c, d = text:match "^(%d%d?%d?)%.(%d%d?%d?)%.(%d%d?%d?)%.(%d%d?%d?)$"
  if not a then return nil end
  local n = 0
  for _, part in ipairs { a, b, c, d } do
    local byte = math.tointeger(tonumber(part))
    if byte > 255 or (#part > 1 and part:sub(1, 1) == "0") then return nil end
    n = n << 8 | byte
  end
  return n
end

---@param n integer
---@return string
function address.text(n) return ("%d.%d.%d.%d"):format(n >> 24 & 255, n >> 16 & 255, n >> 8 & 255, n & 255) end

-- As many groups as IPv6 has, counting "::" as what it stands for; a tail may be written as IPv4.
local function is_ipv6(text)
  local head, v4 = text:match "^(.*:)([%d.]+%.[%d.]+)$"
  local groups = 0
  if head then
    if not address.number(v4) then return false end
    text, groups = head .. "0", 1
  end
  if not text:find ":" or text:find "[^%x:]" or text:find ":::" then return false end
  local _, doubles = text:gsub("::", "")
  if doubles > 1 or (text:find "^:[^:]") or (text:find "[^:]:$") then return false end
  for group in text:gmatch "%x+" do
    if #group > 4 then return false end
    groups = groups + 1
  end
  return doubles == 1 and groups <= 7 or doubles == 0 and groups == 8
end

--- Whether this is the address of a host, of either family.
---@param text string
---@return boolean
function address.valid(text) return address.number(text) ~= nil or is_ipv6(text) end

---@class moonshim.net.Network
---@field first integer
---@field last integer
---@field prefix integer

--- "10.1.0.0/16" -> its numbers; nil when it is none. Bits below the prefix are cut off.
---@param text string
---@return moonshim.net.Network?
function address.network(text)
  local base, bits = text:match "^([%d.]+)/(%d%d?)$"
  local n, prefix = base and address.number(base), math.tointeger(tonumber(bits))
  if not n or not prefix or prefix > 32 then return nil end
  local size = 1 << 32 - prefix
  local first = n // size * size
  return { first = first, last = first + size - 1, prefix = prefix }
end

--- A network that can hold pods: from the gateway up. Raises invalid_argument.
---@param text string
---@return moonshim.net.Network
function address.subnet(text)
  local net = address.network(text)
  if not net then err.raise("invalid_argument", '"%s" is no network; write for example "10.197.0.0/16"', text) end
  if net.prefix < 8 or net.prefix > 30 then
    err.raise("invalid_argument", '"%s": a network for pods has a prefix from /8 to /30', text)
  end
  return net
end

---@param net moonshim.net.Network
---@return string
function address.network_text(net) return ("%s/%d"):format(address.text(net.first), net.prefix) end

---@param a moonshim.net.Network
---@param b moonshim.net.Network
function address.overlap(a, b) return a.first <= b.last and b.first <= a.last end

--- The address of the bridge itself, where its pods find the rest of the world.
---@param net moonshim.net.Network
function address.gateway(net) return net.first + 1 end

--- "02:ab:..." or "02-AB-..." in one spelling, or nil.
---@param text string
---@return string?
function address.mac(text)
  local plain = text:lower():gsub("-", ":")
  return plain:find "^%x%x:%x%x:%x%x:%x%x:%x%x:%x%x$" and plain or nil
end

return address

--- Limits as a person writes them, and the OCI linux.resources that they mean.
--
--   resources = { memory = "64M", memory_swap = "128M", cpus = 0.5, pids = 64 }
--
-- Layer    oci: no calls. Readers take (value, place) as those of pod_spec do; a place can fail.
-- Words    unlimited = the word "unlimited" or -1. memory_swap counts memory and swap together.
-- See      spec/unit/oci/resources_spec.lua
local resources = {}

local UNITS = { [""] = 1, B = 1, K = 1 << 10, M = 1 << 20, G = 1 << 30, T = 1 << 40 }
-- Below this no program starts, and what fails then is the runtime, in words nobody understands.
local LEAST_MEMORY = 4 << 20
local PERIOD = 100000 -- microseconds, the kernel's own

local function unlimited(v) return v == -1 or v == "-1" or v == "unlimited" end

local function shown(v) return type(v) == "string" and ('"%s"'):format(v) or tostring(v) end

local function whole(v)
  return math.tointeger(v) or type(v) == "string" and v:find "^%d+$" and math.tointeger(tonumber(v)) or nil
end

local function bytes(v, at)
  if unlimited(v) then return -1 end
  local n = math.type(v) == "integer" and v or nil
  if type(v) == "string" then
    local digits, unit = v:upper():match "^(%d+)%s*([KMGT]?)I?B?$"
    if digits and #digits <= 12 then n = math.tointeger(tonumber(digits)) * UNITS[unit] end
  end
  if not n then at:fail('%s is no size; write for example "64M", "2G" or "unlimited"', shown(v)) end
  if n < LEAST_MEMORY then at:fail("is %d bytes, at least 4M is needed", n) end
  if n > 1 << 50 then at:fail("is larger than 1024T") end
  return n
end

local function number_between(least, most, what)
  return function(v, at)
    local n = whole(v)
    if not n or n < least or n > most then at:fail("expected %s from %d to %d, got %s", what, least, most, tostring(v)) end
    return n
  end
end

--- Readers of the fields.
resources.FIELDS = {
  memory = bytes,
  memory_swap = bytes,
  memory_reservation = bytes,
  cpus = function(v, at)
    local n = tonumber(v)
    if unlimited(v) then return -1 end
    if not n or n ~= n or n < 0.01 or n > 4096 then at:fail("expected a number of CPUs from 0.01 to 4096, got %s", tostring(v)) end
    return n
  end,
  cpu_shares = number_between(2, 262144, "a weight"),
  cpu_quota = function(v, at)
    if unlimited(v) then return -1 end
    return number_between(1000, 1 << 40, "microseconds")(v, at)
  end,
  cpu_period = number_between(1000, 1000000, "microseconds"),
  cpuset = function(v, at)
    v = math.type(v) == "integer" and ("%d"):format(v) or v
    local ok = type(v) == "string" and #v < 256 and v ~= ""
    for part in ((ok and v or "") .. ","):gmatch "(.-)," do
      local from, to = part:match "^(%d+)%-?(%d*)$"
      ok = ok and from and (to ~= "" or not part:find "-") and (to == "" or tonumber(from) <= tonumber(to))
    end
    if not ok then at:fail('%s is no list of CPUs; write for example "0-2,4"', shown(v)) end
    return v
  end,
  pids = function(v, at)
    if unlimited(v) then return -1 end
    return number_between(1, 4194304, "a number of processes")(v, at)
  end,
}

--- What must hold between fields that were read.
---@param r table
---@param at table place
---@return table r
function resources.check(r, at)
  if r.cpus and (r.cpu_quota or r.cpu_period) then at:fail("give either cpus or cpu_quota and cpu_period") end
  if r.memory and r.memory_swap and r.memory_swap ~= -1 and (r.memory == -1 or r.memory > r.memory_swap) then
    at:fail("memory_swap is memory and swap together, so it cannot be below memory")
  end
  return r
end

local function group(t) return next(t) and t or nil end

--- The OCI form of what was read. Members that nobody gave are absent, which means "as it is".
---@param r table? of FIELDS
---@return table linux.resources
function resources.to_oci(r)
  r = r or {}
  local quota, period = r.cpu_quota, r.cpu_period
  if r.cpus == -1 then quota, period = -1, PERIOD end
  if r.cpus and r.cpus ~= -1 then quota, period = math.floor(r.cpus * PERIOD + 0.5), PERIOD end
  return {
    memory = group { limit = r.memory, swap = r.memory_swap, reservation = r.memory_reservation },
    cpu = group { shares = r.cpu_shares, quota = quota, period = period, cpus = r.cpuset },
    pids = r.pids and { limit = r.pids } or nil,
  }
end

--- Bytes for people: "64 MiB", "1.5 GiB".
---@param n integer
---@return string
function resources.size_text(n)
  for _, unit in ipairs { { "TiB", 1 << 40 }, { "GiB", 1 << 30 }, { "MiB", 1 << 20 }, { "KiB", 1 << 10 } } do
    if n >= unit[2] then
      return (n % unit[2] == 0 and "%.0f %s" or "%.1f %s"):format(n / unit[2], unit[1])
    end
  end
  return ("%d bytes"):format(n)
end

return resources

--- The size of a local VM: what its document says about memory and processors, as limits of its control group.
--
-- Layer    host: the files of control groups, v1 and v2.
-- Words    count, limit, weight = of the document: virtual processors, a share of each in 1/1000 percent (100000 is all
--          of it), and a weight against other VMs (100 is everybody's).
-- Always   a limit that cannot be set is an error, not a VM that is larger than it says.
local err = require "moonshim.err"
local process = require "moonshim.host.local_process"

local limits = {}

local PERIOD = 100000 -- microseconds
local MEMORY = "VirtualMachine/ComputeTopology/Memory/SizeInMB"
local PROCESSOR = "VirtualMachine/ComputeTopology/Processor/Limits"

local function whole(v, least, most, name)
  if v == nil then return nil end
  local n = math.tointeger(v)
  if not n or n < least or n > most then
    err.raise("invalid_argument", "%s must be a whole number from %d to %d, not %s", name, least, most, tostring(v))
  end
  return n
end

--- Quota per period, and shares; nil for what stays as it is.
---@param p { Count: integer?, Limit: integer?, Weight: integer? }
---@param host_cpus integer
---@return { quota: integer?, shares: integer? }
function limits.cpu(p, host_cpus)
  local count = whole(p.Count, 1, 4096, "Processor.Count")
  local limit = whole(p.Limit, 1, 100000, "Processor.Limit")
  local weight = whole(p.Weight, 0, 10000, "Processor.Weight")
  local quota
  if count or limit then
    local all = math.min(count or host_cpus, host_cpus) * PERIOD
    quota = math.max(1000, all * (limit or 100000) // 100000)
    if not limit and (count or 0) >= host_cpus then quota = -1 end
  end
  local shares = weight and weight > 0 and math.max(2, math.min(262144, 1024 * weight // 100)) or nil
  return { quota = quota, shares = shares }
end

local function set(cgroup, what, choices)
  local why
  for _, path in ipairs(process.groups(cgroup)) do
    for _, choice in ipairs(choices) do
      local ok, e, there = process.write(path .. "/" .. choice[1], choice[2])
      if ok then return end
      if there then why = e end
    end
  end
  err.raise("failed_precondition", "%s: %s", what, why or "this host has no control group that takes it")
end

local function set_memory(cgroup, megabytes)
  local bytes = ("%d"):format(megabytes << 20)
  set(cgroup, ("memory of %d MB"):format(megabytes), { { "memory.max", bytes }, { "memory.limit_in_bytes", bytes } })
end

local function set_cpu(cgroup, cpu)
  if cpu.quota then
    local v2 = (cpu.quota < 0 and "max" or ("%d"):format(cpu.quota)) .. (" %d"):format(PERIOD)
    set(cgroup, "processors", { { "cpu.max", v2 }, { "cpu.cfs_quota_us", ("%d"):format(cpu.quota) } })
  end
  if cpu.shares then
    local weight = 1 + (cpu.shares - 2) * 9999 // 262142
    set(cgroup, "weight of processors", { { "cpu.weight", ("%d"):format(weight) }, { "cpu.shares", ("%d"):format(cpu.shares) } })
  end
end

--- Limits of a VM that has just come up, by its document.
---@param cgroup string
---@param document table
---@param host_cpus integer
function limits.apply(cgroup, document, host_cpus)
  local topology = (document.VirtualMachine or {}).ComputeTopology or {}
  local size = topology.Memory and topology.Memory.SizeInMB
  if size then set_memory(cgroup, size) end
  set_cpu(cgroup, limits.cpu(topology.Processor or {}, host_cpus))
end

--- Carries out an Update of memory or processors. False when the path is neither.
---@param cgroup string
---@param document table keeps the processors' count
---@param path string
---@param settings any
---@param host_cpus integer
---@return boolean
function limits.update(cgroup, document, path, settings, host_cpus)
  if path == MEMORY then
    set_memory(cgroup, whole(settings, 1, 1 << 30, "SizeInMB") or err.raise("invalid_argument", "SizeInMB is missing"))
    return true
  end
  if path ~= PROCESSOR then return false end
  if type(settings) ~= "table" then err.raise("invalid_argument", "Settings must be an object") end
  local topology = (document.VirtualMachine or {}).ComputeTopology or {}
  local cpu = limits.cpu({
    Count = settings.Limit and topology.Processor and topology.Processor.Count, Limit = settings.Limit, Weight = settings.Weight,
  }, host_cpus)
  set_cpu(cgroup, cpu)
  return true
end

limits.MEMORY, limits.PROCESSOR = MEMORY, PROCESSOR

return limits

---The size of a VM that runs: more or less memory, a larger or smaller share of the processors, another group of them; and
---what it uses.
---
---The VM is resized first, then its agent is told to size the limit of all containers by it. Memory, then processors, then
---their group; the first failure is raised, and its message says what has been applied before it.
local err = require "moonshim.err"
local layout = require "moonshim.guest.layout"
local resources = require "moonshim.oci.resources"
local suggest = require "moonshim.suggest"

local size = {}

local KNOWN = { memory = true, cpu_percent = true, weight = true, cpu_group = true }

local MEMORY = "VirtualMachine/ComputeTopology/Memory/SizeInMB"
local PROCESSOR = "VirtualMachine/ComputeTopology/Processor/Limits"
local CPU_GROUP = "VirtualMachine/ComputeTopology/Processor/CpuGroup"

---Hosts take even numbers of megabytes.
---@param bytes integer
---@return integer megabytes
function size.megabytes(bytes)
  local mb = (bytes + (1 << 20) - 1) >> 20
  return mb + mb % 2
end

local function raise(vm, e, applied)
  local done = #applied > 0 and (" (%s was applied)"):format(table.concat(applied, ", ")) or ""
  local wrapped = err.wrap(err.from(e), ("update the VM %s"):format(vm.id))
  wrapped.message = wrapped.message .. done
  error(wrapped, 0)
end

---@async
---@param vm moonshim.Vm
---@param wanted { memory: integer?, limit: integer?, weight: integer?, cpu_group: string? } bytes; HCS units, members that are
---absent stay
function size.update(vm, wanted)
  if not vm.machine:is "running" then err.raise("failed_precondition", "the VM is %s: cannot update", vm.machine:state()) end
  if wanted.cpu_group == "" then err.raise("invalid_argument", "update the VM %s: the group of processors has no name", vm.id) end
  local applied = {}
  local function step(what, fn)
    local ok, e = pcall(fn)
    if not ok then raise(vm, e, applied) end
    applied[#applied + 1] = what
  end
  if wanted.memory then
    local mb = size.megabytes(wanted.memory)
    step(("memory of %d MB"):format(mb), function()
      vm.world.uvm:modify { ResourcePath = MEMORY, RequestType = "Update", Settings = mb }
    end)
    local ok, e = pcall(vm.world.guest.modify, vm.world.guest, layout.NULL, "Update", "PodCgroupMemoryLimit", nil)
    if not ok then raise(vm, e, applied) end
  end
  if wanted.limit or wanted.weight then
    step("processors", function()
      vm.world.uvm:modify { ResourcePath = PROCESSOR, RequestType = "Update", Settings = { Limit = wanted.limit, Weight = wanted.weight } }
    end)
  end
  if wanted.cpu_group then
    step("group of processors", function()
      vm.world.uvm:modify { ResourcePath = CPU_GROUP, RequestType = "Update", Settings = { Id = wanted.cpu_group } }
    end)
  end
  vm:emit("vm-update", { message = table.concat(applied, ", ") })
end

---What the VM uses, all pods together. What nobody counts is absent.
---@param vm moonshim.Vm
---@return { memory_bytes: integer?, working_set_bytes: integer?, cpu_ns: integer? } working_set_bytes: without what the kernel
---could take back at once
function size.stats(vm)
  if not vm.world.uvm or not vm.machine:is "running" then
    err.raise("failed_precondition", "the VM is %s: cannot take statistics", vm.machine:state())
  end
  local now = vm.world.uvm:query()
  return { memory_bytes = now.memory_bytes, working_set_bytes = now.working_set_bytes, cpu_ns = now.cpu_ns }
end

---What a person writes: { memory = "512M", cpu_percent = 50, weight = 200, cpu_group = "..." }. Raises invalid_argument.
---@param v any
---@param at table place
---@return table
function size.read(v, at)
  if type(v) ~= "table" then at:fail "expected a table" end
  for key in pairs(v) do
    if not KNOWN[key] then at:fail("unknown field %s%s", tostring(key), suggest.hint(tostring(key), KNOWN)) end
  end
  local percent, weight = v.cpu_percent, v.weight
  if percent ~= nil and (type(percent) ~= "number" or not (percent >= 1 and percent <= 100)) then
    at:fail "cpu_percent is a number from 1 to 100"
  end
  if weight ~= nil and (math.type(weight) ~= "integer" or weight < 1 or weight > 10000) then
    at:fail "weight is a whole number from 1 to 10000"
  end
  local group = v.cpu_group
  if group ~= nil and (type(group) ~= "string" or group == "") then at:fail "cpu_group is the name of a group of processors of the host" end
  local memory = v.memory ~= nil and resources.FIELDS.memory(v.memory, at) or nil
  if memory and memory < 64 << 20 then at:fail "a VM needs at least 64M" end
  return { memory = memory, limit = percent and math.floor(percent * 1000), weight = weight, cpu_group = group }
end

return size

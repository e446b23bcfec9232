---The annotations of a pod or of a container, and what those of a pod set in the rest of it.
local annotations = require "moonshim.oci.annotations"
local read = require "moonshim.pod_spec.read"

local keys = annotations.keys

local MAX = 1000
-- What a container is stands in the pod file already.
local SET_BY_US = { [keys.CONTAINER_TYPE] = true, [keys.SANDBOX_ID] = true }

---@param on "pod"|"container"
---@return fun(v: any, at: moonshim.pod_spec.Place): moonshim.oci.Annotations reader: text, or true, false and integers
local function reader(on)
  return function(v, at)
    read.want(v, at, "table")
    local map, n = {}, 0
    for name, value in pairs(v) do
      if type(name) ~= "string" or name == "" or name:find "%c" or not utf8.len(name) then
        at:fail('expected names as keys: ["org.example/x"] = "1"')
      end
      if SET_BY_US[name] then at:at(name):fail("says what the pod file says already; leave it out") end
      if type(value) == "boolean" then value = tostring(value) end
      map[name] = read.word(value, at:at(name))
      n = n + 1
      if n > MAX then at:fail("has more than %d entries", MAX) end
    end
    return annotations.settle(map, on, function(code, text) at:fail_as(code, "%s", text) end)
  end
end

---Puts what the annotations set where the pod's own fields are. Both may say the same; they may not contradict.
---@param pod table what was read of it
---@param found moonshim.oci.Annotations
---@param at moonshim.pod_spec.Place of the pod
local function apply(pod, found, at)
  local s, here = found.settings, at:at "annotations"
  local function size(field, value, key)
    if not value or value == 0 then return end
    if pod.vm[field] and pod.vm[field] ~= value then
      here:fail("%s says %d, but vm says %d; leave one of them out", key, value, pod.vm[field])
    end
    pod.vm[field] = value
  end
  if s.memory_mb and s.memory_mb > 0 and s.memory_mb < 64 then here:fail('%s: "%d": a VM needs at least 64', keys.MEMORY, s.memory_mb) end
  size("memory_mb", s.memory_mb, keys.MEMORY)
  size("processors", s.processors, keys.PROCESSORS)
  size("limit", s.processor_limit)
  size("weight", s.processor_weight)
  local mode = pod.network and pod.network.mode or "none"
  if s.skip_network and mode ~= "none" then
    here:fail('%s: "true" leaves the pod without a network, but network says "%s"; leave one of them out', keys.SKIP_NETWORK, mode)
  end
  if s.host_network and mode == "path" then
    here:fail('%s: "true" and the network namespace %s exclude each other; leave one of them out', keys.HOST_NETWORK, pod.network.path)
  end
end

return { of_pod = reader "pod", of_container = reader "container", apply = apply }

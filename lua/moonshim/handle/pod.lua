---A pod, as the public door hands it out: its containers by name, its plans, its end, its events; and the streams that
---whoever starts it gives to the containers.
---
---The pod may own its VM or share it. What a handle ends, updates and tells of reaches exactly as far as that.
local container_handle = require "moonshim.handle.container"
local err = require "moonshim.err"

---@class moonshim.PodHandle containers by name: pod.web
---@field name string
local methods = {}
local PodHandle = {}

function PodHandle.__index(self, key)
  return methods[key] or rawget(self, "_handles")[key]
end

---@param name string
---@return moonshim.ContainerHandle?
---@return moonshim.Err?
methods.container = err.guarded(function(self, name)
  local handle = self._handles[name]
  if not handle then err.raise("not_found", "pod %s has no container %s", self.name, tostring(name)) end
  return handle
end)

---@return moonshim.ContainerHandle[] in the order of their start
function methods.containers(self)
  local out = {}
  for i, name in ipairs(self._order) do out[i] = self._handles[name] end
  return out
end

-- What ends when the pod does: the VM that was started for it; of a VM that is shared, the pod alone.
local function ends_with(self) return self._pod.owns_vm and self._vm or self._pod end

---The plan of a goal, for printing: print(pod:plan("stop")). Changes nothing.
---@async
---@param goal string? "stop" when absent
---@return moonshim.Plan?
---@return string|moonshim.Err|nil fallback why an operator's script was not heard
methods.plan = err.guarded(function(self, goal)
  local plan, fallback = self._vm:plan(goal or "stop", not self._pod.owns_vm and self._pod.owner or nil)
  if fallback then return plan, fallback end
  return plan -- one value, so that it can be printed
end)

---Stops all containers by the ladder, releases everything and ends the VM (a shared one goes on). Callers while it runs
---join it.
---@async
---@param opts { ladder: table[]?, reason: string? }?
---@return moonshim.Report|true|nil report
---@return moonshim.Err?
methods.stop = err.guarded(function(self, opts) return ends_with(self):stop(opts) or true end)

---As stop, but never signals: refused while a container runs.
---@async
methods.delete = err.guarded(function(self)
  for _, handle in pairs(self._handles) do
    if handle._container.machine:is("starting", "running", "paused") then
      err.raise("failed_precondition", "container %s runs; stop the pod instead", handle.name)
    end
  end
  return ends_with(self):stop { goal = "delete", reason = "delete" } or true
end)

---Ends the VM at once, with everything in it; in a shared VM every process of the pod.
---@async
methods.terminate = err.guarded(function(self)
  if self._pod.owns_vm then return self._vm:terminate() or true end
  return self._pod:stop { ladder = { { "KILL", wait = "10s" } }, reason = "terminated" } or true
end)

---Waits until all containers have ended.
---@async
---@return table<string, integer>? codes
---@return moonshim.Err?
methods.wait = err.guarded(function(self)
  local codes = {}
  for name, handle in pairs(self._handles) do codes[name] = handle._container:wait() end
  return codes
end)

---@async
---@param signal string|integer
---@param opts { all: boolean? }? all: every process of every container
methods.kill = err.guarded(function(self, signal, opts)
  self._pod:kill(signal, opts)
  return true
end)

---Runs a program in the VM itself, beside the containers: exec_in_vm { "ps", "aux" }, with the options of a container's exec but
---for `user` (it is root's) and URIs of streams. In a shared VM it is the VM's: vm:exec.
---@async
---@return moonshim.ProcessHandle?
---@return moonshim.Err?
methods.exec_in_vm = err.guarded(function(self, options)
  if not self._pod.owns_vm then err.raise("failed_precondition", "pod %s shares its VM: exec in the VM", self.name) end
  return require("moonshim.handle.exec").run(self._vm.inside, options)
end)

---A new size of the VM: update { memory = "512M", cpu_percent = 50, weight = 200 }; cpu_group names one where
---the host has groups of processors. What is absent stays.
---@async
---@param size table
methods.update = err.guarded(function(self, size)
  if not self._pod.owns_vm then err.raise("failed_precondition", "pod %s shares its VM: update the VM", self.name) end
  local vm_size = require "moonshim.controller.vm_size"
  local at = { fail = function(_, fmt, ...) err.raise("invalid_argument", "update: " .. fmt, ...) end }
  vm_size.update(self._vm, vm_size.read(size, at))
  return true
end)

---What the VM uses: { memory_bytes = , working_set_bytes = , cpu_ns = }, where its host counts.
---@return { memory_bytes: integer?, working_set_bytes: integer?, cpu_ns: integer? }?
---@return moonshim.Err?
methods.stats = err.guarded(function(self) return require("moonshim.controller.vm_size").stats(self._vm) end)

-- In a shared VM a pod hears of itself and of the VM, not of the others.
local function concerns(self, data)
  local id, owner = data and data.pod, data and data.owner
  if self._pod.owns_vm then return true end
  if not id and type(owner) == "string" then id = owner:match("^vm/([^/]+)") end
  return id == nil or id == self._pod.id
end

---What happened so far: { seq, topic, data, at }, oldest first; the newest 1024.
methods.events = err.guarded(function(self)
  local out = {}
  for _, event in ipairs(self._vm.ledger:events()) do
    if concerns(self, event.data) then out[#out + 1] = event end
  end
  return out
end)

---`fn(topic, data)` hears every event from now on; it must not wait. Returns a function that ends it.
methods.on_event = err.guarded(function(self, fn)
  return self._vm:subscribe(function(topic, data)
    if concerns(self, data) then fn(topic, data) end
  end)
end)

---Events at the reader's own pace: `stream:next()` waits for one, `stream:close()` ends it. Whoever comes late gets what is
---kept; whoever is too slow is told how much it missed.
---@param opts { since: integer? }? since: the seq after which to begin, 0 for all that is kept; from now on when absent
---@return moonshim.EventStream?
---@return moonshim.Err?
methods.follow = err.guarded(function(self, opts)
  return self._vm.events:follow {
    since = opts and opts.since, wanted = function(event) return concerns(self, event.data) end,
  }
end)

---What the VM is doing, as text: states, calls that wait, processes, streams; inside, too, when its agent answers.
---@async
---@return string?
---@return moonshim.Err?
methods.dump = err.guarded(function(self) return require("moonshim.controller.dump").of(self._vm) end)

---The life of the pod as a picture.
---@param opts { width: integer?, ascii: boolean? }?
---@return string
methods.timeline = err.guarded(function(self, opts)
  return require("moonshim.timeline").of(self._vm.ledger, {
    width = opts and opts.width, ascii = opts and opts.ascii, pod = not self._pod.owns_vm and self._pod.id or nil,
  })
end)

local pod_handle = {}

---Streams of each container, see moonshim.upstream; what a container names itself goes first. opts.io is a table by
---container name, or a function of it. Without a word about it, output goes nowhere (a program without a reader would be
---ended by SIGPIPE) and input is empty.
---The second result must be called when the containers exist.
function pod_handle.streams(io)
  local uv = require "luv"
  local null
  return function(name)
    local given
    if type(io) == "function" then given = io(name) else given = io and io[name] end
    if given then return given end
    null = null or err.try(uv.fs_open("/dev/null", "r+", 0))
    return { stdout = { fd = null }, stderr = { fd = null } }
  end, function()
    if null then uv.fs_close(null) end
    null = nil
  end
end

---@param vm table the VM's controller
---@param pod table its controller
---@param spec moonshim.PodSpec
---@return moonshim.PodHandle
function pod_handle.of(vm, pod, spec)
  local handles = {}
  for _, name in ipairs(spec.order) do handles[name] = container_handle.of(vm, name, pod:container(name)) end
  return setmetatable({ name = spec.name, _vm = vm, _pod = pod, _handles = handles, _order = spec.order }, PodHandle)
end

return pod_handle

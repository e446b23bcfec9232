---A VM that several pods share.
---
---  local vm = assert(moonshim.vm { name = "node" })
---  local web = assert(vm:start_pod(moonshim.pod { name = "web", containers = { ... } }))
---  local db = assert(vm:start_pod(moonshim.load("db.lua")))
---  web:stop()                                    -- a plan of this pod alone; db does not notice
---  vm:stop()
---
---Pods come and go on their own; memory, processors and the agent are shared. The VM ends when it is stopped, or with its
---last pod when that was asked for. A pod's `policy` edits plans of that pod; the VM's speaks for pods that have none,
---and alone decides what the loss of the VM means.
local err = require "moonshim.err"
local pod_handle = require "moonshim.handle.pod"

---@class moonshim.VmHandle
---@field name string
local VmHandle = {}
VmHandle.__index = VmHandle

local shared = {}

local FIELDS = {
  name = "string", host = "string", policy = "string", ends_with_last_pod = "boolean", die_with_parent = "boolean", run_dir = "string",
  log = "table", size = "table",
}

local function complain(_, fmt, ...) err.raise("invalid_argument", "vm: size: " .. fmt, ...) end

local function checked(opts)
  if type(opts) ~= "table" then err.raise("invalid_argument", 'vm takes a table: moonshim.vm { name = "node" }') end
  for key, value in pairs(opts) do
    if not FIELDS[key] then
      err.raise("invalid_argument", "vm: unknown field %s%s", tostring(key), require("moonshim.suggest").hint(tostring(key), FIELDS))
    end
    if type(value) ~= FIELDS[key] then err.raise("invalid_argument", "vm: %s must be a %s, got %s", key, FIELDS[key], type(value)) end
  end
  return {
    name = require("moonshim.pod_spec").id(opts.name, "vm: name"), host = opts.host or "local", policy = opts.policy,
    size = opts.size and require("moonshim.controller.vm_size").read(opts.size, { fail = complain }),
    ends_with_last_pod = opts.ends_with_last_pod or false, die_with_parent = opts.die_with_parent, run_dir = opts.run_dir, log = opts.log,
  }
end

---@async
---@param opts table see moonshim.vm
---@return moonshim.VmHandle
function shared.start(opts)
  opts = checked(opts)
  local vm = require("moonshim.launch").vm(opts, opts)
  vm.empty_ends = opts.ends_with_last_pod
  vm:boot { dies_with_shim = opts.die_with_parent, size = opts.size } -- undoes itself when it fails
  return setmetatable({ name = opts.name, _host = opts.host, _vm = vm }, VmHandle)
end

local POD_OPTIONS = { io = true, policy = true, made = true }

---Creates and starts a pod. On failure, also of the calling task, the pod is rolled back; the VM and its other pods go on.
---@async
---@param spec moonshim.PodSpec|table
---@param opts { io: table|function|nil, policy: string?, made: fun(pod: moonshim.PodHandle)? }? as for moonshim.start
---@return moonshim.PodHandle?
---@return moonshim.Err?
VmHandle.start_pod = err.guarded(function(self, spec, opts)
  opts = opts or {}
  for key in pairs(opts) do
    if not POD_OPTIONS[key] then
      local hint = require("moonshim.suggest").hint(tostring(key), POD_OPTIONS)
      err.raise("invalid_argument", "start_pod: unknown option %s%s", tostring(key), hint)
    end
  end
  local pod_file = require "moonshim.pod_file"
  spec = pod_file.pod(spec)
  pod_file.check_files(spec)
  local vm, handle = self._vm, nil
  if spec.host ~= self._host then
    err.raise("invalid_argument", "pod %s asks for the host %s, but the VM is one of %s", spec.name, spec.host, self._host)
  end
  if next(spec.vm) then
    err.raise("invalid_argument", "pod %s asks for a size of the VM, which it shares: give it to moonshim.vm", spec.name)
  end
  local script = opts.policy or spec.policy
  local policy = script and require("moonshim.policy").load { operator = script } or nil
  local io_of, given_away = pod_handle.streams(opts.io)
  local ok, e = xpcall(vm.start_pod, err.traceback, vm, spec, io_of, {
    policy = policy,
    made = function(pod)
      handle = pod_handle.of(vm, pod, spec)
      pod.handle = handle -- goes with the pod
      if opts.made then opts.made(handle) end
    end,
  })
  given_away()
  if not ok then error(e, 0) end
  return handle
end)

---@return moonshim.PodHandle[] of the pods that are up, by name
function VmHandle:pods()
  local out = {}
  for _, pod in pairs(self._vm.pods) do out[#out + 1] = pod.handle end
  table.sort(out, function(a, b) return a.name < b.name end)
  return out
end

---@param name string
---@return moonshim.PodHandle?
---@return moonshim.Err?
VmHandle.pod = err.guarded(function(self, name)
  local pod = self._vm.pods[name]
  if not pod or not pod.handle then err.raise("not_found", "VM %s has no pod %s", self.name, tostring(name)) end
  return pod.handle
end)

---@return string state booting, running, lost, stopping, ended, ...
function VmHandle:state() return self._vm.machine:state() end

---The plan of a goal for all of it, for printing.
---@async
---@param goal string? "stop" when absent
---@return moonshim.Plan?
---@return string|moonshim.Err|nil fallback why an operator's script was not heard
VmHandle.plan = err.guarded(function(self, goal)
  local plan, fallback = self._vm:plan(goal or "stop")
  if fallback then return plan, fallback end
  return plan
end)

---Stops all pods and ends the VM: one plan. Callers while it runs join it.
---@async
---@param opts { ladder: table[]?, reason: string? }?
---@return moonshim.Report|true|nil report
---@return moonshim.Err?
VmHandle.stop = err.guarded(function(self, opts) return self._vm:stop(opts) or true end)

---Ends the VM at once, with everything in it.
---@async
VmHandle.terminate = err.guarded(function(self) return self._vm:terminate() or true end)

---Runs a program in the VM itself, beside its containers: exec { "ps", "aux" }, with the options of a container's exec but for
---`user` (it is root's) and URIs of streams. What it sees is the VM. In events its container is the VM. One that a signal ends
---has the code 255.
---@async
---@return moonshim.ProcessHandle?
---@return moonshim.Err?
VmHandle.exec = err.guarded(function(self, options) return require("moonshim.handle.exec").run(self._vm.inside, options) end)

---A new size of the VM: update { memory = "512M", cpu_percent = 50, weight = 200 }; cpu_group names one where
---the host has groups of processors. What is absent stays.
---@async
---@param size table
VmHandle.update = err.guarded(function(self, size)
  local vm_size = require "moonshim.controller.vm_size"
  vm_size.update(self._vm, vm_size.read(size, { fail = complain }))
  return true
end)

---What the VM uses, all pods together: { memory_bytes = , working_set_bytes = , cpu_ns = }, where its host counts.
---@return { memory_bytes: integer?, working_set_bytes: integer?, cpu_ns: integer? }?
---@return moonshim.Err?
VmHandle.stats = err.guarded(function(self) return require("moonshim.controller.vm_size").stats(self._vm) end)

---Waits until the VM has ended, by a stop or by itself, and the last of its guest's log has been told.
---@async
---@return { reason: string, code: integer?, signal: integer? }?
---@return moonshim.Err?
VmHandle.wait = err.guarded(function(self) return self._vm:wait() end)

---What happened so far, of all pods: { seq, topic, data, at }, oldest first; the newest 1024.
VmHandle.events = err.guarded(function(self)
  local list = self._vm.ledger:events()
  return table.move(list, 1, #list, 1, {})
end)

---`fn(topic, data)` hears every event from now on; it must not wait. Returns a function that ends it.
VmHandle.on_event = err.guarded(function(self, fn) return self._vm:subscribe(fn) end)

---Events at the reader's own pace, of all pods; see the pods' `follow`.
---@param opts { since: integer? }?
---@return moonshim.EventStream?
---@return moonshim.Err?
VmHandle.follow = err.guarded(function(self, opts) return self._vm.events:follow { since = opts and opts.since } end)

---@param opts { width: integer?, ascii: boolean? }?
---@return string
VmHandle.timeline = err.guarded(function(self, opts) return require("moonshim.timeline").of(self._vm.ledger, opts) end)

return shared

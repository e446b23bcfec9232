---The public door: pods from Lua.
---
---  moonshim.run(function()
---    local pod = assert(moonshim.start(moonshim.pod { name = "hello", containers = { ... } }))
---    local ls = assert(pod.web:exec { "ls", "/" })
---    print(ls:wait(), ls:output())
---    print(pod:plan("stop"))
---    pod:stop()
---  end)
---
---Everything here returns a value, or nil and an error value { code, message, ... }; a raised string is a bug. Whatever
---waits does so in the task that called; other tasks go on. Handles stay valid after what they stand for has gone: then
---they answer from memory or with failed_precondition. What they can do: lua/moonshim/handle, lua/moonshim/shared_vm.lua.
local err = require "moonshim.err"
local pod_handle = require "moonshim.handle.pod"
local task = require "moonshim.task"

local moonshim = { err = err, task = task }

-- Functions that need no run of their own make one when there is none.
local function in_task(fn, ...)
  if task.current() then return fn(...) end
  local args = table.pack(...)
  return task.run(function() return fn(table.unpack(args, 1, args.n)) end)
end

local function guarded_in_task(fn)
  return err.guarded(function(...) return in_task(fn, ...) end)
end

---Checks a pod and completes it; see lua/moonshim/pod_spec.lua for the fields. Relative paths start at the working
---folder (in a pod file: at its folder).
---@param data table
---@return moonshim.PodSpec?
---@return moonshim.Err?
moonshim.pod = err.guarded(function(data) return require("moonshim.pod_file").pod(data) end)

---Loads a pod file.
---@param path string
---@return moonshim.PodSpec?
---@return moonshim.Err?
moonshim.load = err.guarded(function(path) return require("moonshim.pod_file").load(path) end)

---Boots a VM and starts the pod in it. On failure, also of the calling task, everything is rolled back.
---@async
---@param spec moonshim.PodSpec|table
---io: by container, { stdin, stdout, stderr, size = { rows, columns } of its terminal }
---@param opts { io: table|function|nil, policy: string?, die_with_parent: boolean?, run_dir: string?, log: moonshim.Log?,
---made: fun(pod: moonshim.PodHandle)? }?
---made: gets the handle when all containers exist and before the first is started: a kill reaches them from then on; it must not
---wait. policy: path of an operator's script, instead of the pod's; die_with_parent: the VM ends with this process; run_dir:
---where run folders are kept, instead of the host's place
---@return moonshim.PodHandle?
---@return moonshim.Err?
moonshim.start = err.guarded(function(spec, opts)
  opts = opts or {}
  local pod_file = require "moonshim.pod_file"
  spec = pod_file.pod(spec)
  pod_file.check_files(spec)
  local vm = require("moonshim.launch").vm(spec, opts)
  local io_of, given_away = pod_handle.streams(opts.io)
  local handle
  local ok, e = xpcall(function()
    vm:boot { dies_with_shim = opts.die_with_parent, size = spec.vm }
    local pod = vm:new_pod(spec.name, { owns_vm = true })
    pod:launch(spec, io_of, function()
      handle = pod_handle.of(vm, pod, spec)
      if opts.made then opts.made(handle) end
    end)
  end, err.traceback)
  given_away()
  if ok then return handle end
  local undone, why = pcall(task.shield, vm.stop, vm, { goal = "roll_back", reason = "the start failed" })
  if not undone and not err.is(why, "cancelled", "deadline_exceeded") then
    vm.log:error("a failed start could not be undone completely", { error = why })
  end
  error(e, 0)
end)

---Boots a VM for several pods: `vm:start_pod(spec)`. See lua/moonshim/shared_vm.lua.
---@async
---@param opts { name: string, host: string?, policy: string?, size: table?, ends_with_last_pod: boolean?, die_with_parent: boolean?,
---run_dir: string?, log: moonshim.Log? } size: as a pod's `vm`
---@return moonshim.VmHandle?
---@return moonshim.Err?
moonshim.vm = err.guarded(function(opts) return require("moonshim.shared_vm").start(opts) end)

---The plan of a goal for a pod that does not exist: names, slots and paths are chosen, nothing is touched. An operator's
---script whose edits would be refused is refused here.
---@param spec moonshim.PodSpec|table
---@param goal string? "stop" when absent
---@param opts { policy: string? }?
---@return moonshim.Plan?
---@return moonshim.Err?
moonshim.plan = guarded_in_task(function(spec, goal, opts)
  spec = require("moonshim.pod_file").pod(spec)
  local vm = require("moonshim.launch").dry_vm(spec, opts or {})
  vm:boot()
  vm:new_pod(spec.name):launch(spec, function() return { stdout = { fd = 1 }, stderr = { fd = 2 } } end)
  local plan, fallback = vm:plan(goal or "stop")
  vm.policy:close()
  vm.world:close()
  if fallback then err.raise("invalid_argument", "%s", fallback) end
  return plan
end)

---Cleans up after a process that was killed: everything that the journal in a run folder names.
---@param run_dir string
---@return { id: string, ok: boolean, error: moonshim.Err? }?
---@return moonshim.Err? err failed_precondition when its writer lives
moonshim.recover = guarded_in_task(function(run_dir) return require("moonshim.recovery").run(run_dir) end)

---The same for every run folder whose writer is gone.
---@param opts { root: string? }?
---@return { id: string, dir: string, ok: boolean, error: moonshim.Err? }[]?
---@return moonshim.Err?
moonshim.gc = guarded_in_task(function(opts) return require("moonshim.recovery").gc(opts) end)

---Runs `fn` as the root of all tasks and returns what it returns; libuv's loop turns meanwhile.
---@param fn function
---@param opts { clock: moonshim.Clock?, log: moonshim.Log? }?
function moonshim.run(fn, opts) return task.run(fn, opts) end

return moonshim

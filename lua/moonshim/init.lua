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
---they answer from memory or with failed_precondition.
local err = require "moonshim.err"
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

-- Processes --------------------------------------------------------------------------------------------------------

---@class moonshim.ProcessHandle
---@field id string exec id
---@field pid integer in the VM
local ProcessHandle = {}
ProcessHandle.__index = ProcessHandle

-- How long the last bytes, and the release of what it held, may take after the end.
local AFTERMATH = "2s"

---Waits for the end; what it held is released then. A cancelled wait leaves the process alone.
---@async
---@return integer? code
---@return moonshim.Err? err deadline_exceeded when its own timeout ended it
ProcessHandle.wait = err.guarded(function(self)
  local code = self._process:wait()
  if self._user then self._user:close() end
  pcall(task.deadline, AFTERMATH, self._process.released.wait, self._process.released)
  if self._timed_out then err.raise("deadline_exceeded", "%s was killed after %s", self.id, self._timed_out) end
  return code
end)

---@async
---@param signal string|integer
ProcessHandle.kill = err.guarded(function(self, signal)
  return self._process:kill(require("moonshim.signals").number(signal))
end)

---Ends its standard input.
ProcessHandle.close_stdin = err.guarded(function(self)
  self._process:close_stdin()
  return true
end)

---@async
ProcessHandle.resize = err.guarded(function(self, rows, columns)
  self._process:resize(rows, columns)
  return true
end)

---@return string? state created, running or stopped
---@return table|moonshim.Err more
ProcessHandle.state = err.guarded(function(self)
  local more = self._process:state()
  return more.state, more
end)

---Waits for the end and returns what was captured; "" for what was directed elsewhere.
---@async
---@return string? stdout
---@return string|moonshim.Err stderr
ProcessHandle.output = err.guarded(function(self)
  self._process:wait()
  local texts = {}
  for _, name in ipairs { "stdout", "stderr" } do
    local capture = self._captures[name]
    if capture then
      pcall(task.deadline, AFTERMATH, capture.wait, capture)
      capture:close()
    end
    texts[name] = capture and capture:text() or ""
  end
  return texts.stdout, texts.stderr
end)

-- Containers -------------------------------------------------------------------------------------------------------

---@class moonshim.ContainerHandle
---@field name string
local ContainerHandle = {}
ContainerHandle.__index = ContainerHandle

local EXEC_FIELDS = {
  args = true, id = true, env = true, cwd = true, user = true, stdin = true, stdout = true, stderr = true, tty = true, size = true,
  timeout = true, interactive = true,
}

local function exec_request(options)
  if type(options) ~= "table" then err.raise("invalid_argument", 'exec takes a table: exec { "ls", "/", cwd = "/tmp" }') end
  for key in pairs(options) do
    if math.type(key) ~= "integer" and not EXEC_FIELDS[key] then
      err.raise("invalid_argument", "exec: unknown field %s%s", tostring(key), require("moonshim.suggest").hint(tostring(key), EXEC_FIELDS))
    end
  end
  local args = {}
  for i, word in ipairs(options.args or options) do
    args[i] = math.type(word) == "integer" and ("%d"):format(word) or word
  end
  return {
    id = options.id, args = args, env = options.env, cwd = options.cwd, user = options.user, terminal = options.tty,
    io = { stdin = options.stdin, size = options.size }, forget = true,
  }
end

---Our own user's terminal for the process of a request.
local function user_terminal(options, request)
  for _, name in ipairs { "stdin", "stdout", "stderr", "size" } do
    if options[name] ~= nil then err.raise("invalid_argument", "exec: %s and interactive exclude each other", name) end
  end
  local user = require("moonshim.terminal").open(0)
  request.terminal, request.io = true, { stdin = { fd = 0 }, stdout = { fd = 1 }, size = user:size() }
  return user
end

---Runs a program in the container: exec { "ls", "/", env = , cwd = , user = , stdin = , stdout = , stderr = , timeout = }.
---Streams are { fd = } or { path = }; stdout and stderr are captured unless given, `false` leaves one out; stdin may be a
---text. With tty = true it has a terminal, of size = { rows = , columns = } if given: everything it prints is on stdout, and
---its input has no end, only Ctrl-D. With interactive = true it has our own user's terminal, raw until `wait` returns.
---@async
---@return moonshim.ProcessHandle?
---@return moonshim.Err?
ContainerHandle.exec = err.guarded(function(self, options)
  local request, captures, feed = exec_request(options), {}, nil
  local user = options.interactive and user_terminal(options, request) or nil
  if type(options.stdin) == "string" then
    feed = require("moonshim.capture").feed(options.stdin)
    request.io.stdin = { fd = feed.fd }
  end
  for _, name in ipairs { "stdout", "stderr" } do
    local given = options[name]
    if given then
      request.io[name] = given
    elseif given == nil and not user and not (options.tty and name == "stderr") then
      captures[name] = require("moonshim.capture").new()
      request.io[name] = { fd = captures[name].fd }
    end
  end
  local c, process = self._container, nil
  local ok, e = xpcall(function()
    process = c:exec(request)
    for _, capture in pairs(captures) do capture:release() end
    if feed then feed:release() end
    if user then user:raw() end
    process:start()
  end, err.traceback)
  if not ok then
    if user then user:close() end
    for _, capture in pairs(captures) do capture:close() end
    if feed then feed:close() end
    error(e, 0)
  end
  local handle = setmetatable({ id = process.id, pid = process.pid, _process = process, _captures = captures, _user = user }, ProcessHandle)
  if user then
    user:follow(function(rows, columns) pcall(process.resize, process, rows, columns) end)
    task.detach(function()
      process:wait()
      user:close()
    end)
  end
  if feed then -- what nobody will read any more
    task.detach(function()
      process:wait()
      feed:close()
    end)
  end
  if options.timeout then
    task.detach(function()
      local in_time = pcall(task.deadline, options.timeout, process.wait, process)
      if in_time or process.exited:fired() then return end
      handle._timed_out = tostring(options.timeout)
      pcall(process.kill, process, 9)
    end)
  end
  return handle
end)

---Waits for the end of its init.
---@async
---@return integer? code
---@return moonshim.Err?
ContainerHandle.wait = err.guarded(function(self) return (self._container:wait()) end)

---Sends a signal to its init; with `all` to every process of it. "exited" when there was nobody left to hear it.
---@async
---@param signal string|integer
---@param opts { all: boolean? }?
---@return "delivered"|"kept"|"exited"|nil
ContainerHandle.kill = err.guarded(function(self, signal, opts) return self._container:kill(signal, opts) end)

---What is known, at once.
---@return string? state creating, created, starting, running, stopping, stopped, failed, deleting, deleted
---@return table|moonshim.Err more { state, pid, code, reason, exited_at, ... }
ContainerHandle.state = err.guarded(function(self)
  local more = self._container:state()
  return more.state, more
end)

---Sets the size of its terminal; before its start the size is kept for it. failed_precondition when it has none, or has
---ended.
---@async
---@param rows integer
---@param columns integer
ContainerHandle.resize = err.guarded(function(self, rows, columns)
  self._container.init:resize(rows, columns)
  return true
end)

---Ends it by the ladder and releases everything of it. The pod goes on.
---@async
---@param opts { ladder: table[]?, reason: string? }?
ContainerHandle.stop = err.guarded(function(self, opts)
  self._container:stop(opts)
  return true
end)

---Releases everything; a running container is waited for, and never signalled.
---@async
ContainerHandle.delete = err.guarded(function(self) return self._container:delete() end)

---The plan of a goal for this container, for printing.
ContainerHandle.plan = err.guarded(function(self, goal) return (self._vm:plan(goal or "stop", self._container.owner)) end)

---Its processes, all of them: { { pid = , exec = }, ... }; exec is the id of one that we started ("" is init).
---@async
---@return { pid: integer, exec: string? }[]?
---@return moonshim.Err?
ContainerHandle.pids = err.guarded(function(self) return self._container:pids() end)
---What it has used: { cpu = { usage, throttling }, memory = { usage = { usage, limit, max }, ... }, pids, ... }, in bytes
---and nanoseconds. What nobody counts is absent.
---@async
---@return table?
---@return moonshim.Err?
ContainerHandle.stats = err.guarded(function(self) return self._container:stats() end)
---New limits, as a pod file's `resources` have them: update { memory = "128M", pids = 64 }. What is absent stays as it is,
---"unlimited" takes a limit away; all are applied or none.
---@async
---@param resources table
ContainerHandle.update = err.guarded(function(self, resources)
  self._container:update(require("moonshim.pod_spec").limits(resources))
  return true
end)

---Stops all its processes where they are, until `resume`. A signal that ends it, a stop and a delete resume it first.
---@async
ContainerHandle.pause = err.guarded(function(self)
  self._container:pause()
  return true
end)

---@async
ContainerHandle.resume = err.guarded(function(self)
  self._container:resume()
  return true
end)

-- Pods -------------------------------------------------------------------------------------------------------------

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

---A new size of the VM: update { memory = "512M", cpu_percent = 50, weight = 200 }. What is absent stays.
---@async
---@param size table
methods.update = err.guarded(function(self, size)
  if not self._pod.owns_vm then err.raise("failed_precondition", "pod %s shares its VM: update the VM", self.name) end
  local vm_size = require "moonshim.controller.vm_size"
  local at = { fail = function(_, fmt, ...) err.raise("invalid_argument", "update: " .. fmt, ...) end }
  vm_size.update(self._vm, vm_size.read(size, at))
  return true
end)

---What the VM uses: { memory_bytes = , cpu_ns = }, where its host counts.
---@return { memory_bytes: integer?, cpu_ns: integer? }?
---@return moonshim.Err?
methods.stats = err.guarded(function(self)
  local vm = self._vm
  if not vm.world.uvm or not vm.machine:is("running") then
    err.raise("failed_precondition", "the VM is %s: cannot take statistics", vm.machine:state())
  end
  local now = vm.world.uvm:query()
  return { memory_bytes = now.memory_bytes, cpu_ns = now.cpu_ns }
end)

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

-- Making pods ------------------------------------------------------------------------------------------------------

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

---Streams of each container, as the kind "stdio" takes them: opts.io is a table by container name, or a function of it.
---Without a word about it, output goes nowhere (a program without a reader would be ended by SIGPIPE) and input is empty.
---The second result must be called when the containers exist.
local function streams(io)
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

local function handle_of(vm, pod, spec)
  local handles = {}
  for _, name in ipairs(spec.order) do
    handles[name] = setmetatable({ name = name, _vm = vm, _container = pod:container(name) }, ContainerHandle)
  end
  return setmetatable({ name = spec.name, _vm = vm, _pod = pod, _handles = handles, _order = spec.order }, PodHandle)
end

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
  local io_of, given_away = streams(opts.io)
  local handle
  local ok, e = xpcall(function()
    vm:boot { dies_with_shim = opts.die_with_parent, size = spec.vm }
    local pod = vm:new_pod(spec.name, { owns_vm = true })
    pod:launch(spec, io_of, function()
      handle = handle_of(vm, pod, spec)
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
moonshim.vm = err.guarded(function(opts)
  return require("moonshim.shared_vm").start(opts, { streams = streams, pod_handle = handle_of })
end)

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

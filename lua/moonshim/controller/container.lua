---One container: its state, its operation queue, its processes.
---
---How it is built is a recipe of the policy, how it goes is a plan derived from the ledger; here is only what both must
---never get wrong:
---  1. Operations that change it (create, start, stop, delete) run one at a time. State, wait, kill and plan printing
---     are no operations: they answer while one of them is stuck.
---  2. A kill while it is being created is kept; the create ends at its next step, is rolled back and says `cancelled`.
---  3. A create that fails leaves nothing: no receipt, no event, no id. What could not be released is retried by the
---     VM's later operations.
---  4. Events of one container: create, start, exec-added, exec-started, exit, delete; each once, in this order.
local err = require "moonshim.err"
local fsm = require "moonshim.fsm"
local limits = require "moonshim.controller.limits"
local pod_spec = require "moonshim.pod_spec"
local recipe = require "moonshim.policy.recipe"
local signals = require "moonshim.signals"
local task = require "moonshim.task"
local upstream = require "moonshim.upstream"
local Process = require "moonshim.controller.process"

---@class moonshim.Container
---@field id string
---@field owner string path in the ledger
---@field init moonshim.Process
---@field processes table<string, moonshim.Process> "" is init
local Container = {}
Container.__index = Container

Container.life = fsm.define {
  name = "container",
  initial = "new",
  states = {
    new = "known by its id",
    creating = "its recipe runs",
    created = "everything is held, its init waits for the start",
    starting = "its init is being started",
    running = "its init runs",
    paused = "its processes are stopped where they are",
    stopping = "it is being stopped",
    stopped = "its init has exited, or never will run",
    failed = "its create failed; what it had reached was rolled back",
    deleting = "what it holds is being released",
    deleted = "nothing is left",
  },
  transitions = {
    { "new", "create", "creating", by = "caller" },
    { "creating", "created", "created", by = "recipe" },
    { { "new", "creating" }, "fail", "failed", by = "recipe" },
    { "created", "start", "starting", by = "caller" },
    { "starting", "started", "running", by = "guest" },
    { "running", "pause", "paused", by = "guest" },
    { "paused", "resume", "running", by = "guest" },
    { { "created", "starting", "running", "paused", "stopping" }, "exit", "stopped", by = "watcher, kill" },
    { { "created", "starting", "running", "paused", "stopping" }, "stop", "stopping", by = "caller" },
    { { "stopped", "stopping", "failed", "deleting" }, "delete", "deleting", by = "caller" },
    { "deleting", "exit", "deleting", by = "watcher" },
    { { "deleting", "failed" }, "deleted", "deleted", by = "plan" },
  },
}

---@param opts { vm: moonshim.Vm, pod: moonshim.Pod, id: string }
---@return moonshim.Container
function Container.new(opts)
  local self = setmetatable({
    vm = opts.vm, pod = opts.pod, id = opts.id, owner = opts.pod.owner .. "/" .. opts.id,
    queue = task.serial(), freezing = task.serial(), processes = {}, next_exec = 0,
  }, Container)
  self.log = opts.vm.log:with { pod = opts.pod.id, container = opts.id }
  self.machine = Container.life:new {
    id = opts.id,
    on_change = function(from, to, _, data)
      if from ~= to then self.vm:note_state(self.owner, to, data) end
    end,
  }
  self.init = Process.new { vm = opts.vm, container = self, id = "" }
  self.init.on_exit = function(init)
    if self.machine:can("exit") then self.machine:apply("exit", { code = init.code, reason = init.reason }) end
  end
  self.processes[""] = self.init
  return self
end

---Settles where the streams of a process go: what the container names itself goes before what the caller has for it.
---request.io and request.logger become arguments of the kinds.
---@param request table with io, see moonshim.upstream
---@param process { id: string, terminal: boolean, name: string? } name: for messages, its id when absent
---@param named { stdin: string?, stdout: string?, stderr: string?, io_retry: integer? }
---@param inherited string|integer|nil retry of the container, for an exec that has none of its own
---@return table io as its state shows it
---@return string|integer|nil retry
local function settle_streams(request, process, named, inherited)
  local given = request.io or {}
  local io = { name = given.name or process.name or process.id, namespace = given.namespace }
  io.retry = named.io_retry or given.retry or inherited
  for _, name in ipairs { "stdin", "stdout", "stderr" } do io[name] = named[name] or given[name] end
  local shown = { name = given.name, stdin = io.stdin, stdout = io.stdout, stderr = io.stderr, tty = process.terminal or nil }
  if process.terminal then shown.stderr = nil end
  request.io, request.logger = upstream.choose((request.io or io.stdin or io.stdout or io.stderr) and io, process)
  return shown, io.retry
end

-- Create and start -------------------------------------------------------------------------------------------------

---Builds it by the recipe. On failure everything is rolled back, the id is free again, and the error of the recipe is
---raised (`cancelled` after a kill).
---@async
---@param request moonshim.ContainerRequest
function Container:create(request)
  self.queue(function()
    self.machine:apply("create")
    local ok, problem = xpcall(self.build, err.traceback, self, request)
    if ok then return end
    task.shield(self.undo, self, problem)
    error(err.is(problem) and err.wrap(problem, ("container %s"):format(self.id)) or problem, 0)
  end)
end

---@private
---@async
function Container:build(request)
  self.vm:settle()
  self.vm:check_free(self.owner, self.id)
  self.init.terminal = request.container and request.container.tty or request.terminal or false
  self.init.size = self.init.size or Process.size_of(request.io)
  self.init.io, self.io_retry = settle_streams(request, { id = self.id, terminal = self.init.terminal }, request.container or {})
  local c = recipe.new {
    id = self.id, pod = self.pod.id, files = self.vm.files, settings = self.pod.settings,
    warn = function(line) self.pod:ignored(line, self.id) end,
    take = function(kind, args) return self.vm:acquire(self.owner, kind, args, request.sandbox) end,
    stopped = function() return self.kill_kept end,
    width = self.vm.ledger.dry and 1 or nil, -- a plan that is only printed has the same names every time
  }
  local parse = c.parse
  function c.parse(this, what)
    local parsed = parse(this, what)
    self.spec = parsed.for_guest
    return parsed
  end
  local process = self.vm.policy.container.create(c, request)
  if type(process) ~= "table" or process.kind ~= "process" then
    err.raise("internal", "the recipe container.create must return the receipt of its process")
  end
  if self.kill_kept then error(self.kill_kept, 0) end
  self.bundle = self:receipt "bundle"
  self.machine:apply("created")
  self.init:created(process, self:receipt "stdio")
end

---@private
function Container:receipt(kind)
  for _, receipt in ipairs(self.vm.ledger:under(self.owner)) do
    if receipt.kind == kind and receipt.owner == self.owner then return receipt end
  end
end

---Roll-back of a failed create; its own failure is reported, never raised, and left to later operations.
---@private
---@async
function Container:undo(problem)
  local why = err.is(problem) and problem.message or tostring(problem)
  local ok, e = pcall(self.vm.release, self.vm, { goal = "roll_back", owner = self.owner, reason = why })
  if not ok then self.vm:left_behind(self.owner, e) end
  self.machine:apply("fail")
  self.init:finish(Process.LAUNCH_FAILED, "create failed: " .. why, { silent = true })
  self.pod:forget(self)
end

---@async
---@return integer pid
function Container:start()
  return self.queue(function()
    self.machine:apply("start")
    return self.init:start(function() self.machine:apply("started") end)
  end)
end

-- Execs ------------------------------------------------------------------------------------------------------------

---@class moonshim.ExecRequest
---@field id string? chosen when absent
---@field args string[]?
---@field env table?
---@field cwd string?
---@field user string|integer|nil
---@field terminal boolean?
---@field process table? a finished OCI process
---@field io table? see moonshim.upstream; then arguments of the kind "stdio"
---@field logger table? arguments of the kind "logger"
---@field timeout integer? milliseconds from its start until it is killed
---@field forget boolean? drop its record, too, when it has ended: nobody will ask for it by its id

---Adds a process; nothing runs before its `start`. The id is taken before anything else happens, so of two that ask at
---once one gets `already_exists`.
---@async
---@param request moonshim.ExecRequest
---@return moonshim.Process
function Container:exec(request)
  local id = request.id
  if not id then
    repeat
      self.next_exec = self.next_exec + 1
      id = ("exec-%d"):format(self.next_exec)
    until not self.processes[id]
  end
  pod_spec.id(id, "exec id")
  if not self.machine:is("created", "running") then
    err.raise("failed_precondition", "container %s is %s: cannot exec", self.id, self.machine:state())
  end
  if self.processes[id] then err.raise("already_exists", "container %s has a process %s already", self.id, id) end
  local terminal = request.terminal or (request.process and request.process.terminal) or false
  local size = Process.size_of(request.io)
  request.terminal = terminal
  local io = settle_streams(request, { id = id, terminal = terminal, name = self.id .. "/" .. id }, {}, self.io_retry)
  local exec = Process.new { vm = self.vm, container = self, id = id, terminal = terminal, io = io }
  exec.size, exec.timeout = size, request.timeout
  self.processes[id] = exec
  local ok, e = xpcall(function()
    local c = recipe.new {
      id = self.id, pod = self.pod.id, exec = id, bundle = self.bundle, spec = self.spec,
      take = function(kind, args) return self.vm:acquire(exec.owner, kind, args) end,
      stopped = function()
        return self.kill_kept or (exec.machine:is("stopped") and err.new("cancelled", exec.reason) or nil)
      end,
    }
    exec:created(self.vm.policy.process.create(c, request))
  end, err.traceback)
  if not ok then
    task.shield(function()
      local released, why = pcall(self.vm.release, self.vm, { goal = "roll_back", owner = exec.owner, reason = tostring(e) })
      if not released then self.vm:left_behind(exec.owner, why) end
      exec:finish(Process.LAUNCH_FAILED, "exec failed: " .. tostring(e), { silent = true })
      self.processes[id] = nil
    end)
    error(err.is(e) and err.wrap(e, ("exec %s in %s"):format(id, self.id)) or e, 0)
  end
  -- What it held goes with its end; its record stays until somebody deletes it.
  exec.released = task.signal()
  exec.after_exit = function()
    self:release_exec(exec)
    if request.forget then self:forget_exec(exec) end
    exec.released:fire()
  end
  return exec
end

---@private
---@async
function Container:release_exec(exec)
  if self.machine:is("deleting", "deleted") then return end
  local ok, e = pcall(self.vm.release, self.vm, { goal = "delete", owner = exec.owner, reason = "exec ended" })
  if ok then return end
  self.log:warn("an exec's receipts are kept for the container's end", { exec = exec.id, error = e })
end

---Forgets an exec that has ended or never ran.
---@async
---@param id string
---@return { code: integer, pid: integer } what was known
function Container:delete_exec(id)
  local exec = self:process(id)
  if exec.machine:is("new", "starting", "running") then
    local what = exec.machine:is("new") and "is being created" or "runs"
    err.raise("failed_precondition", "%s/%s %s: cannot delete", self.id, id, what)
  end
  if not exec.machine:is("stopped") then exec:finish(0, "deleted before its start") end
  exec:wait()
  self.vm:release { goal = "delete", owner = exec.owner, reason = "delete" }
  self:forget_exec(exec)
  return exec:state()
end

---@private
function Container:forget_exec(exec)
  if self.processes[exec.id] ~= exec then return end
  self.processes[exec.id] = nil
  self.vm:note_state(exec.owner, "deleted")
end

---@param id string "" is init
---@return moonshim.Process
function Container:process(id)
  local process = self.processes[id]
  if not process then err.raise("not_found", "container %s has no process %s", self.id, id == "" and "init" or id) end
  return process
end

---@return moonshim.Process[] a copy, init first
function Container:list()
  local out = {}
  for id, process in pairs(self.processes) do
    if id ~= "" then out[#out + 1] = process end
  end
  table.sort(out, function(a, b) return a.id < b.id end)
  if self.processes[""] then table.insert(out, 1, self.processes[""]) end
  return out
end

-- Kill -------------------------------------------------------------------------------------------------------------

---Sends a signal to init, an exec, or (by policy) to all. Never waits for an operation of this container.
---@async
---@param signal string|integer
---@param opts { exec: string?, all: boolean? }?
---@return "delivered"|"kept"|"exited"
function Container:kill(signal, opts)
  opts = opts or {}
  local id, all = opts.exec or "", opts.all or false
  if all and id ~= "" then err.raise("failed_precondition", "kill all is for a container, not for exec %s", id) end
  local machine = self.machine
  if machine:is("new") then err.raise("failed_precondition", "container %s is new: cannot kill", self.id) end
  if machine:is("stopped", "failed", "deleted") then return "exited" end
  local target = self:process(id)
  local number = signals.number(signal)
  if machine:is("creating") then
    self:keep_kill(("killed by signal %d while it was being created"):format(number))
    return "kept"
  end
  if limits.ends(number) then limits.thaw(self) end
  if id == "" and machine:is("starting", "running", "paused", "stopping") and self.vm.policy.container.kill_reaches_execs(number, all) then
    self:kill_execs(number)
  end
  return target:kill(number)
end

---Best effort and in parallel: an exec that cannot be killed must not keep init from being killed.
---@private
---@async
function Container:kill_execs(number)
  local kills = {}
  for _, exec in ipairs(self:list()) do
    if exec.id ~= "" and exec.machine:is("running", "starting") then
      kills[#kills + 1] = function()
        local ok, e = pcall(exec.kill, exec, number)
        if not ok and err.is(e, "cancelled") then error(e, 0) end
        if not ok then self.log:warn("an exec could not be killed", { exec = exec.id, error = e }) end
      end
    end
  end
  task.all(kills)
end

---Makes a create that is under way end at its next step.
---@param why string
function Container:keep_kill(why)
  self.kill_kept = self.kill_kept or err.new("cancelled", why)
end

---@async
---@return integer code
---@return string? reason
function Container:wait() return self.init:wait() end

---@return table see Process:state; state is the container's own: creating, created, running, stopping, stopped, ...
function Container:state()
  local s = self.init:state()
  s.state, s.oom = self.machine:state(), self.oom
  return s
end

-- Stop and delete --------------------------------------------------------------------------------------------------

---Ends it by the ladder and releases everything: one plan.
---@async
---@param opts { ladder: table[]?, reason: string? }?
---@return moonshim.Report? the plan's, nil when nothing was left to do
function Container:stop(opts)
  opts = opts or {}
  if self.machine:is("creating") then self:keep_kill("stopped while it was being created") end
  return self.queue(function()
    if self.machine:is("failed", "deleted", "new") then return nil end
    if self.machine:is("created") then self.init:finish(128 + signals.KILL, "stopped before its start") end
    if self.machine:can("stop") then self.machine:apply("stop") end
    local report = self.vm:release { goal = "stop", owner = self.owner, reason = opts.reason or "stop", ladder = opts.ladder }
    self:released()
    return report
  end)
end

---Releases everything and never signals: what still runs is waited for, as long as the policy says.
---@async
---@param opts { reason: string? }?
---@return { code: integer, pid: integer, exited_at: integer? } what was known
function Container:delete(opts)
  opts = opts or {}
  if self.machine:is("creating") then self:keep_kill("deleted while it was being created") end
  return self.queue(function()
    if self.machine:is("deleted", "new") then err.raise("not_found", "container %s is deleted", self.id) end
    if self.machine:is("created") then
      self.init:finish(128 + signals.KILL, "deleted before its start")
    elseif self.machine:is("starting", "running", "paused", "stopping") then
      limits.thaw(self)
      local ended, e = pcall(task.deadline, self.vm.policy.teardown.delete_waits, self.init.wait, self.init)
      if not ended then error(err.wrap(e, ("container %s still runs"):format(self.id)), 0) end
    end
    self.init:wait()
    self.machine:apply("delete")
    self.vm:settle()
    self.vm:release { goal = "delete", owner = self.owner, reason = opts.reason or "delete" }
    self:released()
    return self.init:state()
  end)
end

---What follows a plan that released all of this container, whoever ran it: exits are complete, one delete event, the
---id is free.
---@async
function Container:released()
  if self.machine:is("deleted", "new", "creating") then return end
  for _, process in ipairs(self:list()) do self:give_up(process) end
  if self.machine:is("deleted") then return end -- another caller of the same plan was here first
  if not self.machine:is("deleting") then self.machine:apply("delete") end
  self.machine:apply("deleted")
  if self.init.announced then
    self.vm:emit("delete", { pod = self.pod.id, container = self.id, exec = "", pid = self.init.pid, code = self.init.code })
  end
  for _, process in ipairs(self:list()) do
    if process.id ~= "" then self:forget_exec(process) end
  end
  self.pod:forget(self)
end

---A process whose receipts are gone has ended; if it ran and its watcher does not bring the code soon, nobody can.
---@private
---@async
function Container.give_up(_, process)
  if not process.exited:fired() then
    if not process.machine:is("new", "created") then
      pcall(task.deadline, process:limit("vanished"), process.exited.wait, process.exited)
    end
    local ran = process.pid ~= nil
    process:finish(ran and Process.UNKNOWN or 128 + signals.KILL, ran and "released without an exit code" or "never started")
    task.shield(process.exited.wait, process.exited)
  end
end

-- Questions to the guest -------------------------------------------------------------------------------------------

---@private
function Container:expect_alive(what)
  if not self.machine:is("running", "paused") then
    err.raise("failed_precondition", "container %s is %s: cannot %s", self.id, self.machine:state(), what)
  end
end

---@async
---@return { pid: integer, exec: string? }[] exec: the id of the process that we know under this pid ("" is init)
function Container:pids()
  self:expect_alive "list processes"
  local known = {}
  for id, process in pairs(self.processes) do
    if process.pid then known[process.pid] = id end
  end
  local out = {}
  for i, pid in ipairs(self.vm.processes.pids(self.vm, self.init.receipt)) do out[i] = { pid = pid, exec = known[pid] } end
  return out
end

---@async
---@return table {} when the guest says nothing
function Container:stats()
  self:expect_alive "take statistics"
  return self.vm.processes.stats(self.vm, self.init.receipt)
end

---@async
---@param resources table OCI linux.resources
function Container:update(resources) limits.update(self, resources) end

---Stops all its processes where they are. Execs cannot be added until it is resumed.
---@async
function Container:pause() limits.pause(self) end

---@async
function Container:resume() limits.resume(self) end

return Container

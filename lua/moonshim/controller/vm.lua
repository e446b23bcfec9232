---The utility VM: its ledger, its life, and what all controllers of it share.
---
---  1. Whatever goes, goes by a plan derived from the ledger (`release`, `stop`); a failed boot or create is no exception.
---  2. The VM ends when a stop asked for it, or when it is lost; a loss is recorded once, and every process of it gets
---     an exit, whether the guest can still say so or not.
---  3. What a release left behind is retried by later operations, and is what a stop still reports at its end.
local err = require "moonshim.err"
local events = require "moonshim.events"
local fsm = require "moonshim.fsm"
local host = require "moonshim.host"
local loss = require "moonshim.controller.loss"
local plan = require "moonshim.plan"
local task = require "moonshim.task"
local signals = require "moonshim.signals"
local Pod = require "moonshim.controller.pod"
local Process = require "moonshim.controller.process"

---@class moonshim.Vm
---@field id string
---@field ledger moonshim.Ledger
---@field world moonshim.World
---@field policy moonshim.Policy
---@field log moonshim.Log
---@field processes table what can be done with a process: start, wait, drain, signal, resize, close_stdin, pids, ...
---@field events moonshim.EventSource
---@field pods table<string, moonshim.Pod> by id; each ends by a plan of its own, or with the VM
---@field inside moonshim.Inside processes of the VM itself
---@field gone moonshim.Signal fires with the exit of the VM
---@field empty_ends boolean? the VM is stopped when its last pod has gone
local Vm = {}
Vm.__index = Vm

Vm.life = fsm.define {
  name = "vm",
  initial = "new",
  states = {
    new = "named",
    booting = "it starts, its agent is expected",
    running = "its agent answers",
    reconnecting = "the connection to its agent broke; the agent is expected to call again",
    unreachable = "the connection broke and nobody waits for it; its containers go on",
    lost = "it, or the connection to its agent, ended by itself",
    failed = "it did not come up",
    stopping = "it is being stopped",
    ended = "nothing of it is left",
  },
  transitions = {
    { "new", "boot", "booting", by = "caller" },
    { "booting", "up", "running", by = "agent" },
    { { "booting", "lost" }, "fail", "failed", by = "boot" },
    { { "running", "reconnecting", "unreachable" }, "break", "reconnecting", by = "watcher" },
    { { "running", "reconnecting", "unreachable" }, "mark", "unreachable", by = "policy" },
    { { "reconnecting", "unreachable" }, "back", "running", by = "agent" },
    { { "booting", "running", "reconnecting", "unreachable" }, "lose", "lost", by = "watcher" },
    { { "new", "booting", "running", "reconnecting", "unreachable", "lost", "failed", "stopping" }, "stop", "stopping", by = "caller" },
    { "stopping", "end", "ended", by = "plan" },
  },
}

-- What ends with the VM on every host; disks only where the host says so.
local DIE_WITH_VM = { bridge = true, bundle = true, overlay = true, process = true, share = true }
local DISKS = { disk = true, layer = true, scratch = true }

---@param opts { id: string, world: moonshim.World, ledger: moonshim.Ledger, policy: moonshim.Policy, log: moonshim.Log?, cleanup: fun()? }
---cleanup: removes the run folder, after everything was released
---@return moonshim.Vm
function Vm.new(opts)
  local self = setmetatable({
    id = opts.id, world = opts.world, ledger = opts.ledger, policy = opts.policy, cleanup = opts.cleanup,
    log = (opts.log or opts.world.log):with { vm = opts.id },
    files = opts.world.files, processes = require "moonshim.controller.processes",
    pods = {}, claimed = {}, pending = {}, subscribers = {}, ending = task.serial(), events = events.source(opts.ledger),
    gone = task.signal(),
  }, Vm)
  self.inside = require("moonshim.controller.inside").of(self)
  self.machine = Vm.life:new {
    id = opts.id,
    on_change = function(from, to)
      if from ~= to then self:note_state("vm", to) end
    end,
  }
  return self
end

-- What is told -----------------------------------------------------------------------------------------------------

---Adds an event to the journal and tells those who listen. Never waits, never raises.
---@param topic string
---@param data table
function Vm:emit(topic, data)
  if not self.machine:is("ended") then
    self.ledger:event(topic, data)
    self.events:added()
  end
  for listener in pairs(self.subscribers) do
    local ok, e = pcall(listener, topic, data)
    if not ok then self.log:error("a listener of events failed", { topic = topic, error = e }) end
  end
end

---`fn(topic, data)` hears every event from now on; it must not wait. Returns a function that ends it.
---@param fn fun(topic: string, data: table)
---@return fun()
function Vm:subscribe(fn)
  local listener = function(...) return fn(...) end
  self.subscribers[listener] = true
  return function() self.subscribers[listener] = nil end
end

---The state of an object, for the journal. What is deleted is forgotten, so that a long life costs no memory.
function Vm:note_state(object, state, data)
  if self.closed then return end
  if state == "deleted" then state, data = nil, nil end
  self.ledger:state(object, state, data)
end

---An event that operators should see in the log, too.
function Vm:report(topic, data)
  self.log:warn(topic, data)
  self:emit(topic, data)
end

---The guest's own word. Exits come as answers to waits; what is left is the want of memory.
---@private
function Vm:heard(news)
  local pod = news.Type == "OutOfMemory" and self.claimed[news.ContainerId]
  local c = pod and pod.members[news.ContainerId]
  if c then require("moonshim.controller.limits").out_of_memory(c, news) end
end

-- Ids --------------------------------------------------------------------------------------------------------------

---Takes a pod id; ids of pods and containers are unique in the VM.
---@param id string
---@param opts { policy: moonshim.Policy?, owns_vm: boolean? }? policy: instead of the VM's, closed with the pod; owns_vm: its
---end is the VM's
---@return moonshim.Pod
function Vm:new_pod(id, opts)
  if self.pods[id] then err.raise("already_exists", "there is a pod %s already", id) end
  if self.claimed[id] then err.raise("already_exists", "pod %s has a container %s: no pod can be called so", self.claimed[id].id, id) end
  if self.machine:is("failed", "lost", "stopping", "ended") then
    err.raise("failed_precondition", "the VM is %s", self.machine:state())
  end
  local pod = Pod.new { vm = self, id = id, policy = opts and opts.policy, owns_vm = opts and opts.owns_vm }
  self.pods[id] = pod
  self:note_state(pod.owner, "active")
  return pod
end

---Creates and starts a pod. On failure what it had reached is rolled back, the VM and its other pods go on, and the reason
---is raised.
---@async
---@param spec moonshim.PodSpec
---@param io fun(name: string): table? arguments of the kind "stdio" for each container
---@param opts { policy: moonshim.Policy?, made: fun(pod: moonshim.Pod)? }? policy: taken, closed with the pod. made: see Pod:launch
---@return moonshim.Pod
function Vm:start_pod(spec, io, opts)
  local pod
  local ok, e = xpcall(function()
    pod = self:new_pod(spec.name, opts)
    self:settle()
    pod:launch(spec, io, opts and opts.made and function() opts.made(pod) end)
  end, err.traceback)
  if ok then return pod end
  if pod then
    task.shield(function()
      local undone, why = pcall(pod.stop, pod, { goal = "roll_back", reason = "the start failed" })
      if not undone then self:left_behind(pod.owner, why) end
    end)
  elseif opts and opts.policy then
    opts.policy:close()
  end
  error(e, 0)
end

---A pod has nothing left and is forgotten; called by the pod.
---@param pod moonshim.Pod
function Vm:pod_ended(pod)
  if self.pods[pod.id] ~= pod then return end
  self.pods[pod.id], self.pending[pod.owner] = nil, nil
  if not self.empty_ends or next(self.pods) or not self.machine:is("running", "reconnecting", "unreachable") then return end
  task.detach(function()
    local ok, e = pcall(self.stop, self, { reason = "its last pod has ended" })
    if not ok then self.log:error("the VM could not be stopped", { error = e }) end
  end)
end

---Takes a container id for a pod; ids are unique in the VM.
function Vm:claim(id, pod)
  local holder = self.claimed[id]
  if not holder and self.pods[id] and self.pods[id] ~= pod then
    err.raise("already_exists", "there is a pod %s: no container of another pod can be called so", id)
  end
  if holder then err.raise("already_exists", "pod %s has a container %s already", holder.id, id) end
  if self.machine:is("unreachable") then err.raise("unavailable", "the agent of the VM cannot be reached") end
  if not self.machine:is("running", "reconnecting") then err.raise("failed_precondition", "the VM is %s", self.machine:state()) end
  self.claimed[id] = pod
end

function Vm:unclaim(id) self.claimed[id] = nil end

-- Up ---------------------------------------------------------------------------------------------------------------

---Boots the VM and connects to its agent. On failure everything is rolled back and the reason is raised.
---@async
---@param opts { dies_with_shim: boolean?, size: { memory_mb: integer?, processors: integer?, limit: integer?, weight: integer? }? }?
---size: instead of the policy's; limit and weight in HCS units
function Vm:boot(opts)
  self.machine:apply("boot")
  local sizes, own = self.policy.vm, opts and opts.size or {}
  local document = host.document {
    memory_mb = own.memory_mb or sizes.memory_mb, processors = own.processors or sizes.processors, limit = own.limit, weight = own.weight,
    dies_with_shim = opts and opts.dies_with_shim,
  }
  local ok, e = xpcall(task.deadline, err.traceback, sizes.limits.boot, function()
    self.uvm = self.ledger:acquire { owner = "vm", kind = "uvm", args = { document = document }, within = sizes.limits.boot }
    self.bridge = self.ledger:acquire {
      owner = "vm", kind = "bridge", args = { uvm = self.uvm }, dies_with = { self.uvm }, within = sizes.limits.boot,
    }
  end)
  if not ok then
    if self.machine:can("fail") then self.machine:apply("fail") end
    task.shield(function()
      local undone, why = pcall(self.stop, self, { goal = "roll_back", reason = tostring(e) })
      if not undone then self.log:error("a failed boot could not be undone", { error = why }) end
    end)
    error(err.is(e) and err.wrap(e, "boot the VM") or e, 0)
  end
  self.machine:apply("up")
  if self.ledger.dry then return end
  local capabilities = self.world.uvm:capabilities()
  self.disks_die = capabilities.disks_die_with_vm == true
  self.world.guest:on_notify(function(news) self:heard(news) end)
  loss.watch(self)
end

---Takes one thing inside the VM: nothing there outlives the connection to the agent.
---@async
---@param owner string
---@param kind string
---@param args table
---@param sandbox moonshim.Receipt? init of the sandbox container, for a process that joins its namespaces
---@return moonshim.Receipt
function Vm:acquire(owner, kind, args, sandbox)
  local needs = { self.bridge }
  if kind == "process" then needs[#needs + 1] = sandbox end
  local dies = (DIE_WITH_VM[kind] or DISKS[kind] and self.disks_die) and { self.uvm } or nil
  return self.ledger:acquire { owner = owner, kind = kind, args = args, needs = needs, dies_with = dies }
end

-- Loss (see controller/loss.lua) --------------------------------------------------------------------------------------

---What the exit code of a process is that nobody saw ending.
---@return integer code
---@return string reason
function Vm:loss()
  if self.machine:is("stopping", "ended") then return 128 + signals.KILL, "ended with its VM" end
  return Process.UNKNOWN, "the VM is gone"
end

---Its end by itself, once. False when it was known, or is wanted.
function Vm:lose(topic, message)
  if not self.machine:can("lose") then return false end
  self.machine:apply("lose")
  self:report(topic, { message = message })
  return true
end

-- Down -------------------------------------------------------------------------------------------------------------

---@private
---@async
---@param request moonshim.Teardown
---@return moonshim.Report
function Vm:execute(request)
  local spec, done = self.policy:plan_spec(self, request, function(topic, data) self:report(topic, data) end)
  local retried = {}
  spec.on_step = function(step, what, detail)
    if what == "failed" or what == "debt" then
      self.log:warn(what == "failed" and "a step failed" or "a step failed, the VM owes it now",
        { step = step.name, owner = step.owner, error = detail })
    end
    if what == "retry" then retried[step.name] = true end
    -- A guest forgets a container even when deleting its state failed half way; the next try only says "unknown".
    if what == "done" and step.kind == "bundle" and self.world.alive() and (retried[step.name] or step.receipt.attempts > 0) then
      self:report("leftovers", {
        owner = step.owner, message = ("folders of container %s may remain in the guest: its state was not deleted at once")
          :format(step.receipt.facts.container),
      })
    end
  end
  local ok, report = pcall(plan.execute, self.ledger, spec)
  done()
  if not ok then error(report, 0) end
  if #report.debts > 0 then self.owing = true end
  return report
end

local function failure(report, request)
  local e = err.from(report.error or err.new("unknown", "the plan failed"))
  return err.wrap(e, ("%s %s"):format(request.goal, request.owner))
end

---Releases everything below an owner by a plan. Raises the first failure, naming the container, the step and why; then
---what is left stays recorded, and the same call goes on where this one stopped.
---@async
---@param request moonshim.Teardown
---@return moonshim.Report?
function Vm:release(request)
  if #self.ledger:under(request.owner) == 0 then return nil end
  local report = self:execute(request)
  if not report.ok then
    local e = failure(report, request)
    self:emit("release-failed", { owner = request.owner, goal = request.goal, message = e.message })
    error(e, 0)
  end
  self.pending[request.owner] = nil
  return report
end

---Remembers that the roll-back of an owner did not come to its end; `settle` goes on with it.
---@param owner string
---@param e any
function Vm:left_behind(owner, e)
  self.pending[owner], self.owing = true, true
  self:report("release-failed", { owner = owner, goal = "roll_back", message = err.from(e).message })
end

---Retries what earlier operations left behind. Failures stay for the next time.
---@async
function Vm:settle()
  if not self.owing then return end
  local owners = {}
  for owner in pairs(self.pending) do owners[#owners + 1] = owner end
  table.sort(owners)
  local debts = {}
  for _, receipt in ipairs(self.ledger:debts()) do
    if receipt.owner == "vm" and receipt.kind ~= "uvm" then debts[#debts + 1] = receipt.name end
  end
  if #owners == 0 and #debts == 0 then
    self.owing = false
    return
  end
  local within = self.policy.vm.limits.settle
  for _, owner in ipairs(owners) do
    local ok, e = pcall(task.deadline, within, self.release, self, { goal = "delete", owner = owner, reason = "left behind", plain = true })
    if err.is(e, "cancelled") then error(e, 0) end
    if ok then
      self.pending[owner] = nil
      local pod = self.pods[owner:match("^vm/([^/]+)$")]
      if pod then pod:settle() end
      self:emit("debt-settled", { owner = owner, message = "what was left behind is released" })
    end
  end
  if #debts > 0 then
    local ok, report = pcall(task.deadline, within, plan.retry_debts, self.ledger, { owner = "vm", order = self.policy.teardown.order })
    if err.is(report, "cancelled") then error(report, 0) end
    local settled = {}
    for _, name in ipairs(debts) do
      if not self.ledger:get(name) then settled[#settled + 1] = name end
    end
    if ok and #settled > 0 then self:emit("debt-settled", { owner = "vm", message = table.concat(settled, ", ") .. " released" }) end
  end
end

---Refuses an id under which an earlier container still holds something: a new one would share its paths, and a late
---release of the old would take them from the new.
---@param owner string
---@param id string of the container
function Vm:check_free(owner, id)
  local left = self.ledger:under(owner)
  for _, receipt in ipairs(self.owing and self.ledger:debts() or {}) do
    if receipt.facts.container == id then left[#left + 1] = receipt end
  end
  if #left == 0 then return end
  local names = {}
  for i, receipt in ipairs(left) do names[i] = receipt.name end
  err.raise("failed_precondition", "an earlier container %s still holds %s: %s", id, table.concat(names, ", "),
    left[1].last_error and left[1].last_error.message or "its release failed")
end

---Stops everything and ends the VM: one plan for all of it. Whoever calls while it runs joins it.
---@async
---@param opts { reason: string?, ladder: table[]?, goal: string?, plain: boolean? }?
---@return moonshim.Report? report nil when it had ended before
function Vm:stop(opts)
  opts = opts or {}
  if self.machine:is("ended") then return nil end
  local reason = opts.reason or "stop"
  for _, pod in pairs(self.pods) do pod:close(reason) end
  if self.machine:can("stop") then self.machine:apply("stop") end
  local request = { goal = opts.goal or "stop", owner = "vm", reason = reason, ladder = opts.ladder, plain = opts.plain }
  local report = self:execute(request)
  return self.ending(function() return self:finish(report, request) end)
end

---What follows the plan. With the VM gone, what could not be released inside it is gone too: one more pass, without the
---operator's script, takes what is left on the host.
---@private
---@async
function Vm:finish(report, request)
  if self.machine:is("ended") then return report end
  if #self.ledger:all() > 0 then
    report = self:execute { goal = "delete", owner = "vm", reason = "what the plan left", plain = true, again = true }
  end
  for _, pod in pairs(self.pods) do pod:settle() end
  local left = self.ledger:all()
  if #left > 0 then
    local names = {}
    for i, receipt in ipairs(left) do names[i] = receipt.name end
    local e = failure(report, request)
    e.message = ("%s; still held: %s (moonshim gc releases it later)"):format(e.message, table.concat(names, ", "))
    self:emit("release-failed", { owner = "vm", goal = request.goal, message = e.message })
    error(e, 0)
  end
  self.machine:apply("end")
  self:close()
  return report
end

---Waits for the last record of the log of a guest that has ended; its word is not worth more than a moment.
---@async
function Vm:drain_log()
  local boot = self.world.boot
  if boot then pcall(task.deadline, self.policy.vm.limits.log, boot.wait_log, boot) end
end

---Waits until the VM has ended, by a stop or by itself, and the last of its guest's log has been told.
---@async
---@return { reason: string, code: integer?, signal: integer? }
function Vm:wait()
  if self.machine:is("new") then err.raise("failed_precondition", "the VM %s was not started", self.id) end
  return self.gone:wait()
end

---@private
---@async
function Vm:close()
  if self.closed then return end
  self.closed = true
  task.shield(self.drain_log, self)
  self.gone:fire { reason = "ended" } -- unless its watcher knows more
  self.events:close()
  self.policy:close()
  self.world:close()
  self.ledger:close()
  if self.cleanup then
    local ok, e = pcall(task.shield, self.cleanup)
    if not ok then self.log:warn("the run folder could not be removed", { error = e }) end
  end
end

---Ends the VM at once, then releases what is left on the host. For those who cannot wait.
---@async
---@return moonshim.Report?
function Vm:terminate()
  if self.machine:is("ended") then return nil end
  for _, pod in pairs(self.pods) do pod:close("terminated") end
  if self.machine:can("stop") then self.machine:apply("stop") end
  local uvm = self.world.uvm
  if uvm then
    local ok, e = pcall(task.deadline, self.policy.vm.limits.end_of, uvm.terminate, uvm)
    if not ok then self.log:warn("the VM could not be ended at once", { error = e }) end
  end
  return self:stop { goal = "delete", reason = "terminated", plain = true }
end

---The plan that a goal would run now. Changes nothing. `fallback` is set when the operator's script was not heard.
---@async
---@param goal string
---@param owner string? the whole VM when absent
---@return moonshim.Plan plan
---@return string? fallback
function Vm:plan(goal, owner)
  local fallback
  local spec, done = self.policy:plan_spec(self, { goal = goal, owner = owner or "vm" }, function(_, data)
    fallback = fallback or data.reason
  end)
  local p = plan.derive(self.ledger, spec)
  spec.edit(p)
  done()
  return p, fallback
end

return Vm

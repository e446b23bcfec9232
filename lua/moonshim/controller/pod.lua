---One pod: the registry of its containers and, with `launch`, the way it comes up.
---
---The sandbox container comes first and goes last: its namespaces are what the workloads join. The order of the way down
---is not written here: workloads' receipts need the sandbox's process.
local err = require "moonshim.err"
local fsm = require "moonshim.fsm"
local layout = require "moonshim.guest.layout"
local pod_spec = require "moonshim.pod_spec"
local signals = require "moonshim.signals"
local task = require "moonshim.task"
local Container = require "moonshim.controller.container"
local Network = require "moonshim.controller.network"

---@class moonshim.Pod
---@field id string
---@field owner string path in the ledger
---@field sandbox moonshim.Container?
---@field handle table? what the public API gave out for it
---@field network moonshim.Network
---@field settings table what its annotations set, see oci/annotation_keys
---@field annotations table<string, string> of its sandbox container
local Pod = {}
Pod.__index = Pod

Pod.life = fsm.define {
  name = "pod",
  initial = "active",
  states = {
    active = "containers come and go",
    unready = "its sandbox container has ended; its workloads go on",
    stopping = "it is being stopped, no container can be added",
    deleted = "nothing is left",
  },
  transitions = {
    { "active", "lose_sandbox", "unready", by = "watcher" },
    { { "active", "unready", "stopping" }, "stop", "stopping", by = "caller" },
    { "stopping", "deleted", "deleted", by = "plan" },
  },
}

---@param opts { vm: moonshim.Vm, id: string, policy: moonshim.Policy?, owns_vm: boolean? } policy: of its own, taken; owns_vm:
---its end is the VM's
---@return moonshim.Pod
function Pod.new(opts)
  local self = setmetatable({
    vm = opts.vm, policy = opts.policy or opts.vm.policy, owns_vm = opts.owns_vm or false, id = pod_spec.id(opts.id, "pod id"),
    owner = "vm/" .. opts.id, members = {}, order = {}, ending = task.serial(), settings = {}, annotations = {},
  }, Pod)
  self.log = opts.vm.log:with { pod = opts.id }
  self.network = Network.new { vm = opts.vm, pod = self }
  self.machine = Pod.life:new {
    id = opts.id,
    on_change = function(from, to)
      if from ~= to then self.vm:note_state(self.owner, to) end
    end,
  }
  return self
end

-- Registry ---------------------------------------------------------------------------------------------------------

---Registers a container. Ids are unique in the whole VM: events and requests carry nothing else.
---@param id string
---@return moonshim.Container
function Pod:new_container(id)
  pod_spec.id(id, "container id")
  if not self.machine:is("active") then err.raise("failed_precondition", "pod %s is %s", self.id, self.machine:state()) end
  self.vm:claim(id, self)
  local c = Container.new { vm = self.vm, pod = self, id = id }
  self.members[id] = c
  self.order[#self.order + 1] = id
  return c
end

---@param id string
---@return moonshim.Container
function Pod:container(id)
  local c = self.members[id]
  if not c then err.raise("not_found", "pod %s has no container %s", self.id, tostring(id)) end
  return c
end

---@return moonshim.Container[] a copy, in the order of their creation
function Pod:containers()
  local out = {}
  for _, id in ipairs(self.order) do out[#out + 1] = self.members[id] end
  return out
end

---Drops the entry; releases nothing. `c` makes sure that a newer container of the same id is not meant.
---@param c moonshim.Container
function Pod:forget(c)
  if self.members[c.id] ~= c then return end
  self.members[c.id] = nil
  for i, id in ipairs(self.order) do
    if id == c.id then table.remove(self.order, i) break end
  end
  self.vm:unclaim(c.id)
  self.vm:note_state(c.owner, "deleted") -- a failed one, too: a long life must cost no memory
end

---Drops the entry of a container that holds nothing.
---@param id string
function Pod:delete_container(id) self:forget(self:container(id)) end

-- Coming up --------------------------------------------------------------------------------------------------------

---What a container of this pod needs to be the one that has its network: what it stands on, and where to find it.
---@private
---@return moonshim.Receipt[] network
---@return { id: string?, path: string? } namespace
function Pod:connection() return self.network:receipts(), self.network.namespace or {} end

---Tells of something that was asked for and has no effect.
---@param line string
---@param container string?
function Pod:ignored(line, container)
  self.vm:report("ignored", { pod = self.id, container = container, message = line })
end

---Creates and starts everything in `spec`: the network, the sandbox, then the workloads (created in parallel, started in order).
---On failure the caller tears the VM down; nothing is undone twice.
---@async
---@param spec moonshim.PodSpec
---@param io fun(name: string): table? arguments of the kind "stdio" for each container
---@param made function? called once, when the workloads exist and before the first of them is started
function Pod:launch(spec, io, made)
  made = made or function() end
  self.settings, self.annotations = spec.settings, spec.annotations
  for _, line in ipairs(spec.warnings) do self:ignored("annotations: " .. line) end
  self.network.policy_based_routing = self.settings.policy_based_routing
  self.network:setup(spec.network)
  if not spec.sandbox then
    local name = spec.order[1]
    local c = self:new_container(name)
    local network, namespace = self:connection()
    c:create {
      container = spec.containers[name], kind = "standalone", io = io(name), hostname = spec.hostname, network = network,
      network_namespace = namespace.id, namespaces = { network = namespace.path }, annotations = self.annotations,
    }
    made()
    return self:start_all { c }
  end
  local first = spec.containers[spec.order[1]]
  local hostname = spec.hostname or #spec.order == 1 and first.hostname or nil
  self:launch_sandbox(hostname)
  local creates, members = {}, {}
  for i, name in ipairs(spec.order) do
    local c = self:new_container(name)
    members[i] = c
    creates[i] = function() self:create_workload(c, spec.containers[name], io(name), hostname) end
  end
  task.all(creates, { width = self.vm.ledger.dry and 1 or nil }) -- a printed plan has the same names every time
  made()
  self:start_all(members)
end

---A plan that is only printed starts nothing.
---@private
---@async
function Pod:start_all(containers)
  if self.vm.ledger.dry then return end
  for _, c in ipairs(containers) do c:start() end
end

---@async
---@param hostname string?
function Pod:launch_sandbox(hostname)
  local network, namespace = self:connection()
  local request = self.vm.policy.pod.sandbox { id = self.id, hostname = hostname, agent = layout.AGENT, network = namespace }
  request.spec.annotations = request.spec.annotations or {}
  for name, value in pairs(self.annotations) do
    if request.spec.annotations[name] == nil then request.spec.annotations[name] = value end
  end
  self.sandbox = self:new_container(self.id)
  self.sandbox:create { spec = request.spec, kind = "sandbox", network = network }
  self:start_all { self.sandbox }
  self.sandbox.init.after_exit = function() self:sandbox_ended() end
  return self.sandbox
end

---@async
---@param c moonshim.Container
---@param container moonshim.ContainerSpec
---@param io table?
---@param hostname string? of the pod
function Pod:create_workload(c, container, io, hostname)
  local init = self.sandbox.init
  c:create {
    container = container, kind = "workload", io = io, hostname = hostname or self.id, sandbox = init.receipt,
    namespaces = self.vm.policy.pod.namespaces(init.pid or 0),
  }
end

---@private
function Pod:sandbox_ended()
  if not self.machine:is("active") then return end
  self.machine:apply("lose_sandbox")
  self.vm:emit("sandbox-lost", { pod = self.id, container = self.id, message = "the sandbox container ended by itself" })
  if self.vm.policy.pod.on_sandbox_exit() == "stop" then
    task.detach(function()
      local what = self.owns_vm and self.vm or self
      local ok, e = pcall(what.stop, what, { reason = "the sandbox container ended" })
      if not ok then self.log:error("the pod could not be stopped", { error = e }) end
    end)
  end
end

-- Going down -------------------------------------------------------------------------------------------------------

---Sends a signal to all workloads (and, with `all`, to the sandbox container), all at once. Containers that do not run
---are passed over; what failed is raised together after everyone got the signal.
---@async
---@param signal string|integer
---@param opts { all: boolean? }?
function Pod:kill(signal, opts)
  opts = opts or {}
  signals.number(signal)
  local kills = {}
  for _, c in ipairs(self:containers()) do
    if not c.machine:is("new") and (c ~= self.sandbox or opts.all) then
      kills[#kills + 1] = function() return c:kill(signal, { all = opts.all }) end
    end
  end
  task.all(kills)
end

---From here on nothing is added, and creates that are under way end at their next step.
---@param why string
function Pod:close(why)
  if self.machine:is("deleted") then return end
  self.machine:apply("stop")
  for _, c in ipairs(self:containers()) do
    if c.machine:is("creating") then c:keep_kill(why) end
    if c.machine:is("created") then c.init:finish(128 + signals.KILL, why) end
    if c.machine:can("stop") then c.machine:apply("stop") end
  end
end

---Stops its containers and releases what it holds: one plan, of this pod alone. The VM and its other pods are not touched.
---Whoever calls while it runs joins it; after a failure the same call goes on where this one stopped.
---@async
---@param opts { reason: string?, ladder: table[]?, goal: string? }?
---@return moonshim.Report? report nil when nothing was left to do
function Pod:stop(opts)
  opts = opts or {}
  if self.machine:is("deleted") then return nil end
  self:close(opts.reason or "stop")
  local report = self.vm:release {
    goal = opts.goal or "stop", owner = self.owner, reason = opts.reason or "stop", ladder = opts.ladder,
  }
  self.ending(function()
    for _, c in ipairs(self:containers()) do -- a create that was under way undoes itself
      if c.machine:is("creating") then c.queue(function() end) end
    end
    self:settle()
  end)
  return report
end

---After a plan that went over this pod: whoever holds nothing any more is deleted, and so is the pod itself.
---@async
function Pod:settle()
  local steps = {}
  for _, c in ipairs(self:containers()) do
    if #self.vm.ledger:under(c.owner) == 0 then steps[#steps + 1] = function() c:released() end end
  end
  task.all(steps)
  if not self.machine:is("stopping") then return end
  for _, c in ipairs(self:containers()) do
    if c.machine:is("new") then self:forget(c) end -- never created
  end
  self.network:settle()
  if #self.order > 0 or #self.vm.ledger:under(self.owner) > 0 or self.machine:is("deleted") then return end
  self.machine:apply("deleted")
  if self.policy ~= self.vm.policy then self.policy:close() end
  self.vm:pod_ended(self)
end

return Pod

---The network of one pod: a namespace and its NICs. Set up once, taken down as often as it takes.
---
---What is held is in the ledger, below an owner of its own, so that the pod's containers come and go without it. The
---order of the way down is not written here: the sandbox's process needs the NICs, and a NIC knows its two halves.
local endpoints = require "moonshim.net.endpoints"
local err = require "moonshim.err"
local fsm = require "moonshim.fsm"
local task = require "moonshim.task"

---@class moonshim.Network
---@field owner string path in the ledger
---@field namespace { id: string, path: string? }? once it is set up: its id in the guest; path: in the guest, of one that was given
local Network = {}
Network.__index = Network

Network.life = fsm.define {
  name = "network",
  initial = "not_configured",
  states = {
    not_configured = "nothing of it exists",
    configured = "the pod can use it",
    invalid = "a step failed; what was done is still held",
    torn_down = "nothing of it is left",
  },
  transitions = {
    { "not_configured", "setup", "configured", by = "pod" },
    { { "not_configured", "configured", "invalid" }, "fail", "invalid", by = "pod" },
    { { "configured", "invalid" }, "teardown", "torn_down", by = "pod" },
  },
}

---@param opts { vm: moonshim.Vm, pod: moonshim.Pod, policy_based_routing: boolean?, endpoints: function? } endpoints: instead of
---net/endpoints.of, for specs
---@return moonshim.Network
function Network.new(opts)
  local self = setmetatable({
    vm = opts.vm, pod = opts.pod, owner = opts.pod.owner .. "/:network", queue = task.serial(),
    policy_based_routing = opts.policy_based_routing, endpoints_of = opts.endpoints or endpoints.of,
  }, Network)
  self.log = opts.vm.log:with { pod = opts.pod.id }
  self.machine = Network.life:new {
    id = self.owner,
    on_change = function(from, to)
      if from ~= to then self.vm:note_state(self.owner, to ~= "torn_down" and to or "deleted") end
    end,
  }
  return self
end

---What it holds, NICs and namespace, in the order in which they were taken: what a pod's first process stands on.
---@return moonshim.Receipt[]
function Network:receipts() return self.vm.ledger:under(self.owner) end

---@return moonshim.Receipt[]
function Network:nics()
  local out = {}
  for _, receipt in ipairs(self:receipts()) do
    if receipt.kind == "nic" then out[#out + 1] = receipt end
  end
  return out
end

---@private
---@async
function Network:build(want)
  local world, policy = self.vm.world, self.vm.policy.pod
  local list = self.endpoints_of(world, want)
  if want.mode == "path" then
    -- The namespace itself travels like a shared file; the guest sees it at this path.
    local share = self.vm:acquire(self.owner, "share", { path = want.path, file = true, read_only = true })
    self.namespace.path = share.facts.source
  end
  for _, endpoint in ipairs(policy.nic_order(list)) do
    self.vm:acquire(self.owner, "nic", {
      namespace = self.namespace.id, endpoint = endpoint, seed = self.vm.id .. "/" .. self.pod.id .. "/" .. endpoint.name,
      policy_based_routing = self.policy_based_routing, settings = policy.nic(endpoint),
    })
  end
  -- A namespace without a NIC is nothing that the guest has heard of.
  if #list == 0 then self.namespace.id = nil end
end

---Makes what the pod asks for. Once only; on failure what was done stays held, until a teardown.
---@async
---@param want moonshim.net.Want
---@param id string? of the namespace; a new one when absent
function Network:setup(want, id)
  return self.queue(function()
    if not self.machine:can("setup") then
      err.raise("failed_precondition", "the network of pod %s is %s: it cannot be set up", self.pod.id, self.machine:state())
    end
    local ok, e = xpcall(function()
      if id == "" then err.raise("invalid_argument", "the network namespace has no id") end
      self.namespace = { id = id or endpoints.new_guid(self.vm.world.core) }
      self:build(want)
    end, err.traceback)
    if not ok then
      self.machine:apply("fail")
      error(err.is(e) and err.wrap(e, "network of pod " .. self.pod.id) or e, 0)
    end
    self.machine:apply("setup")
  end)
end

---Releases everything of it. A NIC that cannot be released is kept, the others go on; the same call again goes on with
---what is left. Nothing to do when nothing was set up.
---@async
function Network:teardown()
  return self.queue(function()
    if not self.machine:can("teardown") then return end
    local request = { goal = "delete", owner = self.owner, reason = "network of " .. self.pod.id }
    local ok, e = xpcall(self.vm.release, err.traceback, self.vm, request)
    if not ok then
      self.machine:apply("fail")
      error(err.is(e) and err.wrap(e, "network of pod " .. self.pod.id) or e, 0)
    end
    self.machine:apply("teardown")
  end)
end

---After a plan of somebody else that went over it.
function Network:settle()
  if not self.machine:can("teardown") then return end
  self.machine:apply(#self:receipts() == 0 and "teardown" or "fail")
end

return Network

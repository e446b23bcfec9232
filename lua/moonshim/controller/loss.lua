---What happens when the VM, or the connection to its agent, ends by itself.
---
---  1. Every loss is noticed once, told once (`guest-lost`, `guest-back`, `vm-lost`), and decided by the policy's `on_lost`:
---       "wait"  the agent is expected to call again; what is asked meanwhile waits, containers go on
---       "mark"  the VM is not ready: what is asked fails at once; an agent that calls later is taken up again
---       "end"   the VM is ended, and what it held is released
---  2. A new connection changes nothing but that it can be asked again: processes are the same, and an exit that was missed
---     is learnt by waiting again. Nobody invents an exit while the VM lives.
---  3. With the VM gone every process gets an exit; the guest's own word, if it is on its way, comes first.
local bridge = require "moonshim.kinds.bridge"
local clock = require "moonshim.clock"
local err = require "moonshim.err"
local task = require "moonshim.task"

local loss = {}

---Gives every process of a dead VM an exit.
---@async
local function end_processes(vm)
  task.sleep(vm.policy.process.limits.vanished)
  local code, reason = vm:loss()
  for _, process in ipairs(vm.inside:list()) do process:finish(code, reason) end
  for _, pod in pairs(vm.pods) do
    for _, c in ipairs(pod:containers()) do
      for _, process in ipairs(c:list()) do process:finish(code, reason) end
    end
  end
end

---Releases what the VM held; its objects stay, to be asked and deleted.
---@async
local function release(vm)
  if not vm.machine:is("lost") then return end -- a stop does it
  local ok, e = pcall(vm.release, vm, { goal = "delete", owner = "vm", reason = "the VM is gone", plain = true })
  if not ok then vm.log:error("what a lost VM held is not released", { error = e }) end
end

---@async
local function uvm_ended(vm, exit)
  local reason = exit and exit.reason or "unknown"
  if exit and exit.signal and exit.signal ~= 0 then reason = ("%s by signal %d"):format(reason, exit.signal) end
  local by_itself = vm:lose("vm-lost", "the VM ended by itself: " .. reason)
  local guest = vm.world.guest
  if guest then guest:close() end -- nobody will call any more
  end_processes(vm)
  if by_itself and vm.policy:on_lost("vm", vm).action == "end" or vm.ended_by_loss then release(vm) end
end

---@async
local function end_vm(vm)
  vm.ended_by_loss = true
  local ok, why = pcall(task.deadline, vm.policy.vm.limits.end_of, vm.world.uvm.terminate, vm.world.uvm)
  if not ok then vm.log:error("the VM could not be ended", { error = why }) end
end

---Waits for the agent's call. False when it did not come in time; nil when the VM ended.
---@async
---@param limit integer? milliseconds; nil: as long as the VM lives
local function call_again(vm, limit)
  local ok, e
  if limit then ok, e = pcall(task.deadline, limit, bridge.again, vm.world) else ok, e = pcall(bridge.again, vm.world) end
  if ok then return true end
  e = err.from(e)
  if err.is(e, "cancelled") then error(e, 0) end
  if not vm.world.alive() then return nil end
  vm.log:info("the agent has not called again", { error = e })
  return false
end

---The agent answers again.
local function back(vm, since)
  if vm.machine:can("back") then vm.machine:apply("back") end
  vm:emit("guest-back", { message = ("the agent called again after %d ms"):format(task.now() - since) })
end

---One loss of the connection, from its notice to whatever became of it.
---@async
local function guest_lost(vm, guest, e)
  local since, kind = task.now(), "bridge"
  local told = false
  local function tell(apply)
    if vm.machine:can(apply) then vm.machine:apply(apply) end
    if not told then vm:report("guest-lost", { message = err.from(e).message }) end
    told = true
  end
  -- The VM may be on its way out, which is another loss and another decision.
  pcall(task.deadline, vm.policy.vm.limits.glance, vm.world.uvm.wait, vm.world.uvm)
  while vm.world.alive() and not guest:is_closed() do
    local decision = vm.policy:on_lost(kind, vm)
    if vm.machine:is("stopping") and decision.action == "end" then -- its plan ends it
      guest:give_up()
      return
    elseif decision.action == "end" then
      vm:lose("guest-lost", err.from(e).message)
      guest:give_up()
      return end_vm(vm)
    end
    if decision.action == "mark" then guest:give_up() else guest:expect() end
    tell(decision.action == "mark" and "mark" or "break")
    local came = call_again(vm, decision.action == "wait" and clock.ms(decision.limit) or nil)
    if came then return back(vm, since) end
    if came == nil then return end
    kind = "agent"
  end
end

---Starts the watchers of a VM that has come up.
---@param vm moonshim.Vm
function loss.watch(vm)
  local uvm, guest = vm.world.uvm, vm.world.guest
  guest:expect() -- what is asked after a loss waits until it is decided
  vm.world.await_guest = function() return guest:wait_open() end
  task.detach(function() uvm_ended(vm, uvm:wait()) end)
  task.detach(function()
    local exit = uvm:wait()
    vm:drain_log()
    vm.gone:fire(exit)
  end)
  task.detach(function()
    repeat
      local e = guest:wait_lost()
      if not guest:is_closed() then guest_lost(vm, guest, e) end
      -- Given up, the next loss can only follow a new connection.
      if guest:is_lost() then guest:wait_open() end
    until guest:is_closed()
  end)
end

return loss

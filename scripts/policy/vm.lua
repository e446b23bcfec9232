---Default decisions about the utility VM: what it is made of, and how long the steps of its life may take.
local vm = {}

vm.limits = {
  boot = "2m",    -- from the first effect to an agent that answers
  settle = "30s", -- retrying what earlier operations left behind, before something new is built
  end_of = "10s", -- between the order to end and the end
  log = "2s",     -- after the end of the VM: the last records of its guest's log
  dump = "5s",    -- the agent's answer to what it is doing
  glance = "50ms", -- between the loss of the connection and word that the VM ended with it
}

---Size of the VM; nil leaves it to the host.
vm.memory_mb, vm.processors = nil, nil

---What a loss means. "bridge": the connection to the agent broke while the VM lives. "agent": it did not call again as
---long as was waited. "vm": the VM ended by itself.
---  "wait"  for at most `limit`: containers go on, what is asked of the VM meanwhile waits, too
---  "mark"  the VM is not ready and what is asked of it fails at once, until its agent calls or somebody stops it;
---          of a VM that is gone: what it held on the host is kept until its containers are deleted
---  "end"   the VM is ended (its containers exit with 255), and what it held is released
---@param kind "bridge"|"agent"|"vm"
---@return "end"|"mark"|"wait" action
---@return string|integer|nil limit of "wait"
function vm.on_lost(kind)
  if kind == "bridge" then return "wait", "10s" end
  return "end"
end

return vm

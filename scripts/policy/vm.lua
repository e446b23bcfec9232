---Default decisions about the utility VM: what it is made of, and how long the steps of its life may take.
local vm = {}

vm.limits = {
  boot = "2m",    -- from the first effect to an agent that answers
  settle = "30s", -- retrying what earlier operations left behind, before something new is built
  end_of = "10s", -- between the order to end and the end
  news = "2s",    -- between the loss of the connection and word that the VM ended with it
}

---Size of the VM; nil leaves it to the host.
vm.memory_mb, vm.processors = nil, nil

---What the loss of the guest connection means while the VM lives: nobody can be waited for or stopped any more, so
---the VM is ended; its containers exit with an unknown code.
---@return "terminate"|"keep"
function vm.on_guest_lost() return "terminate" end

return vm

---Default decisions about the utility VM: what it is made of, and how long its life's steps may take.
local vm = {}

vm.limits = {
  boot = "2m",     -- from the first effect to an agent that answers
  bridge = "1m",   -- the agent's call, once the VM runs
  settle = "30s",  -- retrying what earlier operations left behind, before something new is built
}

---The document of the VM, the same for every host.
---@param request { id: string }
---@return table HCS schema-2 document
function vm.document(request)
  return {
    Owner = "moonshim",
    SchemaVersion = { Major = 2, Minor = 1 },
    ShouldTerminateOnLastHandleClosed = request.dies_with_us,
    VirtualMachine = {
      ComputeTopology = { Memory = { SizeInMB = 1024, AllowOvercommit = true }, Processor = { Count = 2 } },
      Devices = { Scsi = {}, Plan9 = {} },
    },
  }
end

---What the loss of the guest connection means while the VM lives: nobody can be waited for or stopped any more, so
---the VM is ended; its containers exit with an unknown code.
---@return "terminate"|"keep"
function vm.on_bridge_lost() return "terminate" end

return vm

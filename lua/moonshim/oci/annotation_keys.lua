--- The annotations that mean something to a shim of this kind: their types, who they are for, and what becomes of them.
--
-- Layer    oci: plain data.
-- Words    on = "pod" (read on the sandbox), "container", or "both"
--          here = "shim"   we act on it: `as` names the setting that it becomes
--                 "guest"  the agent acts on it
--                 "met"    it forbids something that there is not among Linux containers
--                 "none"   it asks for nothing that this host has: said, and not done
--                 "no"     going on without it would be wrong: refused when it asks for something
--          strict = a switch of security: a value that cannot be read fails the create
-- Facts    the names are those that containerd's users of such VMs write.
local VM, CT, CRI = "io.microsoft.virtualmachine.", "io.microsoft.container.", "io.microsoft.cri."

local keys = {
  --- What sets several others to its own value.
  DISABLE_UNSAFE = "io.microsoft.disable-unsafe-operations",
  DISABLE_WRITABLE = VM .. "fileshares.disablewritable",
  DISABLE_HOST_PROCESS = "microsoft.com/disable-hostprocess-container",
  HOST_PROCESS = "microsoft.com/hostprocess-container",
  ENCRYPTED = VM .. "storage.scratch.encrypted",
  PRIVILEGED = VM .. "lcow.privileged",
  HOST_NETWORK = VM .. "lcow.hostnetwork",
  SKIP_NETWORK = CRI .. "skip-pod-networking",
  MEMORY = VM .. "computetopology.memory.sizeinmb",
  PROCESSORS = VM .. "computetopology.processor.count",
  BOOT_FILES = VM .. "bootfilesrootpath",
  PROXY = "io.microsoft.network.ncproxy",
  CORE_LIMIT = "io.microsoft.lcow.rlimitcore",
  SHM_SIZE = "io.microsoft.lcow.shm.size-kb",
  CONTAINER_TYPE = "io.kubernetes.cri.container-type",
  SANDBOX_ID = "io.kubernetes.cri.sandbox-id",
}

--- By the umbrella: the switches that get its value.
keys.EXPANSION = {
  [keys.DISABLE_UNSAFE] = {
    CT .. "wcow.gmsa.disable", keys.DISABLE_WRITABLE, VM .. "wcow.virtualSMB.nodirectmap", keys.DISABLE_HOST_PROCESS,
  },
}

--- Switches that cannot both be on.
keys.EXCLUSIVE = { { keys.DISABLE_HOST_PROCESS, keys.HOST_PROCESS } }

---@class moonshim.oci.AnnotationKey
---@field kind "bool"|"int32"|"uint32"|"uint64"|"guid"|"texts"|"numbers"|"text"|"core limit"
---@field on "pod"|"container"|"both"
---@field here "shim"|"guest"|"met"|"none"|"no"
---@field as string? name of the setting
---@field strict boolean?
---@field least integer?
---@field most integer?
---@field default boolean? of a bool: the value that asks for nothing
---@field instead string? what to write instead, for the message

local known = {}

local function add(on, here, kind, names, more)
  for _, name in ipairs(names) do
    local key = { kind = kind, on = on, here = here, default = false }
    for k, v in pairs(more or {}) do key[k] = v end
    known[name] = key
  end
end

local function vm(list)
  local out = {}
  for i, name in ipairs(list) do out[i] = VM .. name end
  return out
end

-- What we act on.
add("pod", "shim", "uint64", { keys.MEMORY }, { as = "memory_mb", most = 1 << 30 })
add("pod", "shim", "int32", { keys.PROCESSORS }, { as = "processors", least = 0, most = 1024 })
add("pod", "shim", "int32", vm { "computetopology.processor.limit" }, { as = "processor_limit", least = 0, most = 100000 })
add("pod", "shim", "int32", vm { "computetopology.processor.weight" }, { as = "processor_weight", least = 0, most = 10000 })
add("pod", "shim", "bool", vm { "lcow.network.policybasedrouting" }, { as = "policy_based_routing" })
add("pod", "shim", "bool", { keys.SKIP_NETWORK }, { as = "skip_network" })
add("pod", "shim", "bool", { keys.ENCRYPTED }, { as = "encrypt_scratch", strict = true })
add("both", "shim", "bool", { keys.DISABLE_UNSAFE }, { strict = true })
add("both", "shim", "bool", { keys.DISABLE_WRITABLE }, { as = "no_writable_shares", strict = true })
add("container", "shim", "bool", { keys.PRIVILEGED }, { as = "privileged", strict = true })

-- What the agent reads in the spec.
add("both", "guest", "bool", { keys.HOST_NETWORK }, { as = "host_network", strict = true })
add("both", "guest", "core limit", { keys.CORE_LIMIT })
add("container", "guest", "uint64", { keys.SHM_SIZE }, { as = "shm_kb", least = 1, most = 1 << 40 })

-- Switches of Windows containers.
add("both", "met", "bool", { CT .. "wcow.gmsa.disable", VM .. "wcow.virtualSMB.nodirectmap", keys.DISABLE_HOST_PROCESS }, { strict = true })
add("both", "no", "bool", { keys.HOST_PROCESS }, { strict = true, instead = "only Linux containers run here" })

-- What would be another VM, or another safety, than was asked for.
add("pod", "no", "text", vm { "lcow.securitypolicy" }, { as = "security_policy", instead = "confidential VMs need another host" })
add("pod", "no", "bool", vm { "lcow.dmverity-mode" }, { strict = true, instead = "the host \"local\" boots no image" })
add("pod", "no", "guid", vm { "cpugroup.id" }, { as = "cpu_group", instead = "limit the VM by vm = { processors = }" })
add("pod", "no", "guid", vm { "resource-partition-id" }, { as = "resource_partition", instead = "limit the VM by vm = { memory = }" })
add("pod", "no", "uint32", vm { "devices.virtualpmem.maximumcount" }, { instead = "layers are SCSI disks" })
add("pod", "no", "bool", vm { "lcow.vpmem.nomultimapping" }, { instead = "layers are SCSI disks" })
add("both", "no", "text", vm { "kerneldrivers" }, { instead = "load them on the host" })
add("pod", "no", "text", { keys.PROXY }, { instead = "write network = \"bridge\" or the path of a namespace" })
add("pod", "no", "bool", { "io.microsoft.migration.support-enabled" }, { instead = "a VM of namespaces cannot be moved" })
add("container", "no", "text", { "io.microsoft.migration.source-container-id" }, { instead = "a VM of namespaces cannot be moved" })
add("both", "no", "text", { CRI .. "virtual-pod-id" }, { instead = "several pods share a VM by moonshim.vm" })

-- What tunes a hypervisor, a boot or a service that is not here.
add("pod", "none", "bool", vm { "computetopology.memory.allowovercommit" }, { default = true })
add("pod", "none", "bool", vm {
  "computetopology.memory.enabledeferredcommit", "computetopology.memory.enablecolddiscardhint", "fullyphysicallybacked",
  "lcow.vpcienabled", "lcow.timesync.disable", "lcow.hcl-enabled", "lcow.writable-overlay-directories", "no_security_hardware",
})
add("pod", "none", "bool", vm { "lcow.kerneldirectboot" }, { default = true })
add("pod", "none", "uint64", vm {
  "computetopology.memory.lowmmiogapinmb", "computetopology.memory.highmmiobaseinmb", "computetopology.memory.highmmiogapinmb",
  "computetopology.numa.max-size-per-node", "devices.virtualpmem.maximumsizebytes",
})
add("pod", "none", "uint32", vm { "computetopology.processor.numa.max-processors-per-node" })
add("pod", "none", "numbers", vm {
  "computetopology.numa.preferred-physical-nodes", "computetopology.numa.mapped-physical-nodes",
  "computetopology.numa.count-of-processors", "computetopology.numa.count-of-memory-blocks",
})
add("pod", "none", "numbers", vm { "lcow.extra-vsock-ports" }, { as = "extra_vsock_ports" })
add("pod", "none", "int32", vm { "storageqos.iopsmaximum", "storageqos.bandwidthmaximum" }, { least = 0 })
add("pod", "none", "text", vm {
  "bootfilesrootpath", "lcow.preferredrootfstype", "lcow.kernelbootoptions", "lcow.dmverity-create-args", "lcow.dmverity-rootfs-vhd",
  "lcow.gueststatefile", "lcow.enforcer", "lcow.extra-exec-command-args", "lcow.uvm-reference-info-file",
  "uvm-hash-envelope-reference-info-file", "dump-directory-path", "console.pipe",
})
add("both", "none", "text", { "io.microsoft.lcow.gpuvhdpath", CT .. "processdumplocation", "io.microsoft.network.ncproxy.containerid" })
add("container", "none", "bool", vm { "lcow.securitypolicy.env" }, { default = true })
add("container", "none", "text", {
  VM .. "lcow.amd-certificate", CT .. "lcow.tee-log-path", CT .. "lcow.tee-log-dir-mount", CRI .. "tenant-sandbox-id",
})
add("container", "none", "texts", { CT .. "gpu.capabilities" }, { instead = "name the card's nodes in devices" })
add("container", "none", "int32", {
  CT .. "memory.sizeinmb", CT .. "processor.count", CT .. "processor.limit", CT .. "processor.weight",
  CT .. "storage.qos.bandwidthmaximum", CT .. "storage.qos.iopsmaximum",
}, { least = 0, instead = "write resources" })

--- By name.
---@type table<string, moonshim.oci.AnnotationKey>
keys.KNOWN = known

--- Names that go on behind this, with any ending.
keys.OPEN = { [VM .. "hv-socket.service-table."] = { kind = "text", on = "pod", here = "none" } }

--- Whose names are worth a word when they are not known: a typing error in one would be silent.
keys.OURS = { "^io%.microsoft%.", "^microsoft%.com/" }

return keys

--- The OCI spec that a container gets before anybody asks for something else.
--
-- Layer    oci: plain data. What other runtimes give by default, so that an image behaves as elsewhere.
local defaults = {}

defaults.PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

local CAPABILITIES = {
  "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
  "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

local function capabilities() return table.move(CAPABILITIES, 1, #CAPABILITIES, 1, {}) end

local function mount(destination, kind, source, options)
  return { destination = destination, type = kind, source = source, options = options }
end

--- Programs that set the host name, the clock or kernel parameters find these in their way.
local MASKED = {
  "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
  "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
}
local READ_ONLY = { "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger" }

--- A fresh spec; the caller owns it. It has no args, no root path and no host name.
---@return table
function defaults.spec()
  return {
    ociVersion = "1.0.2",
    process = {
      terminal = false,
      user = { uid = 0, gid = 0 },
      env = {},
      cwd = "/",
      capabilities = { bounding = capabilities(), effective = capabilities(), permitted = capabilities() },
      noNewPrivileges = true,
    },
    root = { readonly = false },
    mounts = {
      mount("/proc", "proc", "proc", { "nosuid", "noexec", "nodev" }),
      mount("/dev", "tmpfs", "tmpfs", { "nosuid", "strictatime", "mode=755", "size=65536k" }),
      mount("/dev/pts", "devpts", "devpts", { "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5" }),
      mount("/dev/shm", "tmpfs", "shm", { "nosuid", "noexec", "nodev", "mode=1777", "size=65536k" }),
      mount("/dev/mqueue", "mqueue", "mqueue", { "nosuid", "noexec", "nodev" }),
      mount("/sys", "sysfs", "sysfs", { "nosuid", "noexec", "nodev", "ro" }),
      mount("/sys/fs/cgroup", "cgroup", "cgroup", { "nosuid", "noexec", "nodev", "relatime", "ro" }), -- its own limits
    },
    annotations = {},
    linux = {
      namespaces = {
        { type = "pid" }, { type = "network" }, { type = "ipc" }, { type = "uts" }, { type = "mount" }, { type = "cgroup" },
      },
      resources = {},
      maskedPaths = table.move(MASKED, 1, #MASKED, 1, {}),
      readonlyPaths = table.move(READ_ONLY, 1, #READ_ONLY, 1, {}),
    },
  }
end

--- Members of a spec that are lists; an empty one is left out of the document.
defaults.LISTS = {}
for _, name in ipairs {
  "args", "env", "rlimits", "additionalGids", "bounding", "effective", "permitted", "inheritable", "ambient", "mounts",
  "options", "namespaces", "devices", "maskedPaths", "readonlyPaths", "uidMappings", "gidMappings", "hugepageLimits",
  "syscalls", "architectures", "prestart", "poststart", "poststop", "createRuntime", "createContainer", "startContainer",
} do
  defaults.LISTS[name] = true
end

return defaults

---Default decisions about pods: what holds a pod's namespaces, and what its members share.
local pod = {}

local PAUSE = "/pause"

---The container that is a pod while its workloads come and go. Its root is the empty folder of its bundle (made for
---the working directory); the only file in it is the agent itself, which plays the pause program.
---@param p { id: string, hostname: string?, agent: string } agent: the guest path of the agent
---@return table a container request
function pod.sandbox(p)
  return {
    spec = {
      root = { readonly = false },
      ociVersion = "1.0.2",
      hostname = p.hostname or p.id,
      process = { args = { PAUSE, "pause" }, cwd = "/run", env = { "PATH=/" }, user = { uid = 0, gid = 0 }, noNewPrivileges = true },
      mounts = {
        { source = p.agent, destination = PAUSE, type = "bind", options = { "bind", "ro" } },
        { source = "proc", destination = "/proc", type = "proc", options = { "nosuid", "noexec", "nodev" } },
        { source = "tmpfs", destination = "/dev", type = "tmpfs", options = { "nosuid", "noexec", "mode=755", "size=64k" } },
      },
      linux = { namespaces = { { type = "pid" }, { type = "mount" }, { type = "ipc" }, { type = "uts" }, { type = "network" } } },
      annotations = { ["io.kubernetes.cri.container-type"] = "sandbox", ["io.kubernetes.cri.sandbox-id"] = p.id,
        ["io.microsoft.cri.skip-pod-networking"] = "true" },
    },
  }
end

---The namespaces that every workload shares with the sandbox container, by its init.
---@param pid integer
---@return table<string, string> paths by type
function pod.namespaces(pid)
  return { network = ("/proc/%d/ns/net"):format(pid), ipc = ("/proc/%d/ns/ipc"):format(pid), uts = ("/proc/%d/ns/uts"):format(pid) }
end

---What becomes of the pod when its sandbox container ends by itself: the pod is no longer ready, the workloads go on
---until someone stops the pod.
---@return "keep"|"stop"
function pod.on_sandbox_exit() return "keep" end

return pod

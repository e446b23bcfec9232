---Default decisions about pods: what holds a pod's namespaces, and what its members share.
local pod = {}

local PAUSE = "/pause"

---The container that is a pod while its workloads come and go. Its root is the empty folder of its bundle (made for
---the working directory); the only file in it is the agent itself, which plays the pause program.
---@param p { id: string, hostname: string?, agent: string, network: { id: string?, path: string? }? } agent: the guest path of
---the agent; network: the namespace that its NICs go to (id), or the one that it joins (path)
---@return table a container request
function pod.sandbox(p)
  local network = p.network or {}
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
      linux = {
        namespaces = {
          { type = "pid" }, { type = "mount" }, { type = "ipc" }, { type = "uts" }, { type = "network", path = network.path },
        },
      },
      windows = network.id and { network = { networkNamespace = network.id } } or nil,
      annotations = { ["io.kubernetes.cri.container-type"] = "sandbox", ["io.kubernetes.cri.sandbox-id"] = p.id,
        ["io.microsoft.cri.skip-pod-networking"] = not network.id and "true" or nil },
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

---The order in which a pod's NICs are added; the guest names them in that order. eth0 comes first.
---@param list moonshim.net.Endpoint[]
---@return moonshim.net.Endpoint[]
function pod.nic_order(list)
  local first, rest = {}, {}
  for _, endpoint in ipairs(list) do table.insert(endpoint.name:find "eth0$" and first or rest, endpoint) end
  return table.move(rest, 1, #rest, #first + 1, first)
end

---More of the guest's settings for one NIC, { EncapOverhead = 50 }; nil when there are none.
---@param _ moonshim.net.Endpoint
---@return table?
function pod.nic(_) return nil end

return pod

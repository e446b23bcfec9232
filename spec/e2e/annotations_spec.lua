local command = require "e2e.command"
local uv = require "luv"

local VM = "io.microsoft.virtualmachine."

-- Whether a container is in the network of its VM. The VM's own processes can be asked by who may trace them.
local SAME_NETWORK = "test $(readlink /proc/self/ns/net) = $(readlink /vm/1/ns/net) && echo same || echo other"
local TRACE = { "CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE" }
local ABLE = {
  mounts = { { source = "uvm:///proc", destination = "/vm" } },
  spec = { process = { capabilities = { bounding = TRACE, effective = TRACE, permitted = TRACE } } },
}

local function lua(v)
  if type(v) ~= "table" then return type(v) == "string" and ("%q"):format(v) or tostring(v) end
  local parts = {}
  for i, item in ipairs(v) do parts[i] = lua(item) end
  for key, item in pairs(v) do
    if type(key) == "string" then parts[#parts + 1] = ("[%q] = %s"):format(key, lua(item)) end
  end
  return "{ " .. table.concat(parts, ", ") .. " }"
end

---The pod file of a pod of one container "c" that runs a shell script.
local function pod_file(script, pod, container)
  local c = { rootfs = "roots/busybox", args = { "sh", "-c", script } }
  for k, v in pairs(container or {}) do c[k] = v end
  local spec = { name = "noted", containers = { c = c } }
  for k, v in pairs(pod or {}) do spec[k] = v end
  command.root()
  return command.write("noted.lua", 'return require("moonshim").pod ' .. lua(spec))
end

local function run(script, pod, container) return command.moonshim { "run", pod_file(script, pod, container) } end

local function refused(result, ...)
  assert.equal(125, result.code, result.err)
  for _, text in ipairs { ... } do assert.is_truthy(result.err:find(text, 1, true), result.err) end
  assert.equal(1, select(2, result.err:gsub("\n", "")), result.err)
  assert.equal("", result.out)
end

describe("annotations", function()
  local check_leaks
  setup(function() check_leaks = command.leaks() end)
  after_each(function() check_leaks() end)
  teardown(function() command.cleanup() end)

  it("are the size of the VM", function()
    local at = "/sys/fs/cgroup/memory/%s/memory.limit_in_bytes"
    if uv.fs_stat "/sys/fs/cgroup/cgroup.controllers" then at = "/sys/fs/cgroup/%s/memory.max" end
    local moonshim, limit = require "moonshim", nil
    local root = command.root()
    local spec = assert(moonshim.pod {
      name = "sized", sandbox = false, annotations = { [VM .. "computetopology.memory.sizeinmb"] = 192 },
      containers = { c = { rootfs = root, args = { "true" } } },
    })
    moonshim.run(function()
      local pod = assert(moonshim.start(spec, { run_dir = command.run_dir }))
      limit = command.read(at:format(pod._vm.uvm.facts.cgroup))
      pod:stop()
    end)
    assert.equal(192 << 20, math.tointeger(tonumber(limit)))
  end)

  it("take the filter of system calls away from a privileged container, and open all devices to it [#174] [#175]", function()
    local no_folders = { linux = { seccomp = {
      defaultAction = "SCMP_ACT_ALLOW", architectures = { "SCMP_ARCH_X86_64" },
      syscalls = { { names = { "mkdir", "mkdirat" }, action = "SCMP_ACT_ERRNO" } },
    } } }
    local script = "mkdir /dev/shm/x && echo made; mknod /dev/shm/null c 1 3; echo x > /dev/shm/null && echo open; ls /dev/loop-control"
    local plain = run(script, nil, { spec = no_folders })
    assert.is_nil(plain.out:find "made", plain.out .. plain.err)
    assert.is_truthy(plain.err:find("not permitted", 1, true), plain.err)
    local result = run(script, nil, { spec = no_folders, annotations = { [VM .. "lcow.privileged"] = true } })
    assert.is_truthy(result.out:find("made\n", 1, true), result.out .. result.err)
  end)

  it("forbid writable folders of the host, and everything that would be one is refused [#154]", function()
    local pod = { annotations = { ["io.microsoft.disable-unsafe-operations"] = true } }
    refused(run("true", pod), "rootfs", "would be shared writable", VM .. "fileshares.disablewritable", "read-only")
    local folder = command.folder
    refused(run("true", pod, { read_only = true, mounts = { { source = folder, destination = "/mnt" } } }), "mounts[", folder,
      'add the option "ro"')
    local result = run("ls /mnt >/dev/null && touch /mnt/x", pod,
      { read_only = true, mounts = { { source = folder, destination = "/mnt", options = { "ro" } } } })
    assert.is_truthy(result.err:find("Read-only", 1, true), result.err)
    assert.is_nil(uv.fs_stat(folder .. "/x"))
  end)

  it("ask for an encrypted scratch disk, and get none rather than a plain one", function()
    refused(run("echo x > /x", { annotations = { [VM .. "storage.scratch.encrypted"] = true } },
      { rootfs = command.image "base", scratch = { size = "64M" } }), VM .. "storage.scratch.encrypted", "leave it out")
  end)

  it("are read by the agent: the size of /dev/shm, the limit of core files", function()
    local result = run("grep ' /dev/shm ' /proc/mounts; ulimit -c", nil,
      { annotations = { ["io.microsoft.lcow.shm.size-kb"] = 2048, ["io.microsoft.lcow.rlimitcore"] = "0;0" } })
    assert.is_truthy(result.out:find("size=2048k", 1, true), result.out .. result.err)
    assert.is_truthy(result.out:find("\n0\n", 1, true), result.out)
    assert.equal("", result.err)
  end)

  it("may put a pod into the network of its VM", function()
    for _, host_network in ipairs { true, false } do
      local result = run(SAME_NETWORK, { annotations = { [VM .. "lcow.hostnetwork"] = host_network } }, ABLE)
      assert.equal(host_network and "same\n" or "other\n", result.out, result.err)
      assert.equal("", result.err)
    end
  end)

  it("may stand on the command line, where they win over the pod file's", function()
    local host_network = VM .. "lcow.hostnetwork"
    local file = pod_file(SAME_NETWORK, { annotations = { [host_network] = false } }, ABLE)
    local result = command.moonshim { "run", "--annotation", host_network .. "=true", file }
    assert.equal("same\n", result.out, result.err)
    local bridged = pod_file("true", { network = "bridge" })
    assert.equal(0, command.moonshim({ "plan", bridged }).code)
    refused(command.moonshim { "plan", "--annotation", "io.microsoft.cri.skip-pod-networking=true", bridged }, 'network says "bridge"')
  end)

  it("may stand there for a container on its own, and are refused as anywhere", function()
    local unsafe = "io.microsoft.disable-unsafe-operations"
    local function with(text) return command.run({ "echo", "ran" }, { "--annotation", text, "--rootfs", command.root() }) end
    assert.equal("ran\n", with("org.example/x=1").out)
    assert.equal("ran\n", with(unsafe .. "=false").out)
    refused(with(unsafe .. "=true"), "would be shared writable", VM .. "fileshares.disablewritable")
    refused(with(unsafe .. "=maybe"), "--annotation: " .. unsafe .. ': "maybe" is neither true nor false')
    refused(with(unsafe), "is not KEY=VALUE")
  end)

  it("that have no effect are said, and the pod runs", function()
    local result = run("echo ran", { annotations = { [VM .. "console.pipe"] = "x", [VM .. "lcow.priviledged"] = "true" } })
    assert.equal("ran\n", result.out, result.err)
    assert.equal(0, result.code)
    assert.is_truthy(result.err:find(VM .. 'console.pipe: \\"x\\" has no effect on this host', 1, true), result.err)
    assert.is_truthy(result.err:find("did you mean " .. VM .. "lcow.privileged?", 1, true), result.err)
  end)

  for name, case in pairs {
    ["a switch that is none"] = { { annotations = { [VM .. "fileshares.disablewritable"] = "banana" } },
      { "noted.lua:1: annotations: ", 'disablewritable: "banana" is neither true nor false; write "true" or "false"' } },
    ["what contradicts itself"] = { {
      annotations = { ["io.microsoft.disable-unsafe-operations"] = "true", [VM .. "fileshares.disablewritable"] = "false" } },
      { "leave one of them out" } },
    ["a GUID that is none"] = { { annotations = { [VM .. "cpugroup.id"] = "x" } }, { 'cpugroup.id: "x" is no GUID' } },
    ["a policy that nobody enforces"] = { { annotations = { [VM .. "lcow.securitypolicy"] = "e30=" } },
      { "lcow.securitypolicy", "leave it out", "confidential VMs" } },
    ["two sizes"] = { { vm = { memory = "256M" }, annotations = { [VM .. "computetopology.memory.sizeinmb"] = "512" } },
      { "says 512, but vm says 256" } },
    ["no network and a network"] = { { network = "bridge", annotations = { ["io.microsoft.cri.skip-pod-networking"] = true } },
      { 'network says "bridge"' } },
    ["what moonshim sets"] = { { annotations = { ["io.kubernetes.cri.sandbox-id"] = "x" } }, { "leave it out" } },
    ["a table"] = { { annotations = { x = { 1 } } }, { "annotations.x", "expected string, got table" } },
  } do
    it("are refused with one line, before anything is started: " .. name, function()
      refused(run("true", case[1]), table.unpack(case[2]))
    end)
  end

  it("of a container are refused where they stand, too", function()
    refused(run("true", nil, { annotations = { [VM .. "lcow.privileged"] = "yes" } }), "containers.c.annotations: ", "lcow.privileged")
  end)
end)

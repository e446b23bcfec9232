-- A container from what containerd hands in: an OCI spec and the mounts of its root file system, on a real VM.
local command = require "e2e.command"
local core = require "moonshim.core"
local moonshim = require "moonshim"
local uv = require "luv"
local vhd = require "support.vhd"

local json = core.json

---Folders as a snapshotter leaves them: a layer.vhd in each parent, the scratch disk in the active one.
local function snapshots()
  local at = command.folder .. "/snapshots"
  for _, name in ipairs { "", "/base", "/app", "/active" } do uv.fs_mkdir(at .. name, 448) end
  vhd.write(command.image "base", at .. "/base/layer.vhd")
  vhd.write(command.image "app", at .. "/app/layer.vhd")
  local scratch = assert(io.open(at .. "/active/sandbox.vhdx", "wb"))
  scratch:seek("set", (64 << 20) - 1)
  scratch:write "\0"
  scratch:close()
  return at
end

local function spec(script, annotations)
  local text = json.encode {
    ociVersion = "1.0.2", root = { path = "rootfs" }, hooks = { prestart = { { path = "/no/such/hook" } } },
    process = { args = { "/bin/sh", "-c", script }, cwd = "/", env = { "PATH=/bin:/sbin" }, user = { uid = 0, gid = 0 } },
    mounts = { { destination = "/proc", type = "proc", source = "proc" }, { destination = "/dev", type = "tmpfs", source = "tmpfs" } },
    linux = { namespaces = { { type = "pid" }, { type = "mount" }, { type = "ipc" }, { type = "uts" }, { type = "network" } } },
    annotations = annotations,
  }
  return json.decode(text)
end

---Creates a container beside a pod's own and runs it. Returns its exit code, what it wrote into /out, and events.
local function run(request)
  local code, failure, ignored = nil, nil, {}
  local out = command.folder .. "/out"
  uv.fs_mkdir(out, 511)
  table.insert(request.spec.mounts, { destination = "/out", type = "bind", source = out, options = { "rbind" } })
  moonshim.run(function()
    local pod = assert(moonshim.start({
      name = "asked", containers = { idle = { rootfs = command.root(), args = { "sleep", "600" } } },
    }, { run_dir = command.run_dir }))
    local c = pod._pod:new_container "c"
    request.kind = "workload"
    request.sandbox = pod._pod.sandbox.init.receipt
    local ok, e = pcall(function()
      c:create(request)
      c:start()
      code = c:wait()
    end)
    if not ok then failure = e end
    for _, event in ipairs(pod:events()) do
      if event.topic == "ignored" then ignored[#ignored + 1] = event.data.message end
    end
    assert(pod:stop { ladder = { { "KILL", wait = "10s" } } })
  end)
  local said = out .. "/said"
  return {
    code = code, failure = failure, ignored = table.concat(ignored, "\n"), out = uv.fs_stat(said) and command.read(said) or "",
  }
end

local WORKLOAD = { ["io.kubernetes.cri.container-type"] = "container", ["io.kubernetes.cri.sandbox-id"] = "asked" }

describe("a request as containerd makes it", function()
  local check_leaks, at
  setup(function()
    check_leaks = command.leaks()
    at = snapshots()
  end)
  after_each(function() check_leaks() end)
  teardown(function() command.cleanup() end)

  it("has the root that its layers make, and writes to its scratch disk [#129]", function()
    local result = run {
      spec = spec("{ cat /app/greeting; echo x > /new && cat /new; } > /out/said", WORKLOAD),
      rootfs = { { type = "lcow-layer", source = at .. "/active",
        options = { "rw", ('parentLayerPaths=["%s/app","%s/base"]'):format(at, at) } } },
    }
    assert.is_nil(result.failure)
    assert.equal(0, result.code)
    assert.equal("hello from the top layer\nx\n", result.out)
    assert.is_truthy(result.ignored:find("hooks.prestart: is not run", 1, true), result.ignored)
  end)

  it("is refused by its annotations, and the pod beside it goes on", function()
    local map = { ["io.microsoft.virtualmachine.fileshares.disablewritable"] = "true" }
    for name, value in pairs(WORKLOAD) do map[name] = value end
    local result = run {
      spec = spec("true", map),
      rootfs = { { type = "lcow-layer", source = at .. "/active", options = { ('parentLayerPaths=["%s/base"]'):format(at) } } },
    }
    assert.equal("permission_denied", result.failure.code)
    assert.is_truthy(result.failure.message:find("mounts[", 1, true), result.failure.message)
  end)
end)

local err = require "moonshim.err"
local oci = require "moonshim.oci"

local function given(extra)
  local spec = { ociVersion = "1.0.2", process = { args = { "sh" }, cwd = "/" }, root = {}, linux = { resources = {} }, annotations = {} }
  for k, v in pairs(extra or {}) do spec[k] = v end
  return spec
end

local function sanitise(extra, pod) return oci.sanitise(given(extra), pod) end

describe("the guest's document", function()
  it("is what the protocol asks for, with the container's scratch folder [#127]", function()
    local doc = oci.document { spec = given(), bundle = "/b", root = "/b/rootfs", read_only = true, scratch_dir = "/s/scratch/p/c" }
    assert.same({ Major = 2, Minor = 1 }, doc.SchemaVersion)
    assert.equal("/b", doc.OciBundlePath)
    assert.equal("/s/scratch/p/c", doc.ScratchDirPath)
    assert.same({ path = "/b/rootfs", readonly = true }, doc.OciSpecification.root)
    assert.equal("", oci.document({ spec = given(), bundle = "/b", root = "/r" }).ScratchDirPath)
  end)

  it("leaves the caller's spec alone [#168]", function()
    local spec = given { hooks = { prestart = { { path = "/x" } } }, linux = { cgroupsPath = "/a", resources = { devices = { {} } } },
      mounts = { { destination = "/d", type = "bind", source = "/data" } } }
    oci.document { spec = spec, bundle = "/b", root = "/r", mounts = { { bus = "plan9", mount_index = 1, source = "/g" } } }
    assert.truthy(spec.hooks)
    assert.equal("/a", spec.linux.cgroupsPath)
    assert.equal("/data", spec.mounts[1].source)
    assert.is_nil(spec.root.path)
  end)

  it("says CPU limits as the runtime wants them [#169] [#170]", function()
    assert.same({ period = 100000, quota = -1 }, sanitise({ linux = { resources = { cpu = { period = 0,
      quota = 0 } } } }).linux.resources.cpu)
    assert.same({ period = 50000, quota = 25000 },
      sanitise({ linux = { resources = { cpu = { period = 50000, quota = 25000 } } } }).linux.resources.cpu)
  end)

  it("leaves an absent CPU section absent [#171]", function()
    assert.is_nil(sanitise({ linux = { resources = {} } }).linux.resources.cpu)
    assert.same({ shares = 5 }, sanitise({ linux = { resources = { cpu = { shares = 5 } } } }).linux.resources.cpu)
  end)

  it("drops what names things of the host, and keeps memory, CPU and the pids limit [#172] (known bug 146)", function()
    local r = sanitise({ linux = { resources = { devices = { {} }, pids = { limit = 8 }, blockIO = { weight = 1 }, hugepageLimits = { {} },
      network = { classID = 1 }, memory = { limit = 1 }, cpu = { shares = 2 } } } }).linux.resources
    assert.same({ pids = { limit = 8 }, memory = { limit = 1 }, cpu = { shares = 2 } }, r)
  end)

  it("drops cgroup path and hooks [#173]", function()
    local s = sanitise { hooks = { prestart = { { path = "/x" } } }, linux = { cgroupsPath = "/kube/a", resources = {} } }
    assert.is_nil(s.hooks)
    assert.is_nil(s.linux.cgroupsPath)
  end)

  it("says what it drops that somebody may count on, and not what everybody writes (known bug 146)", function()
    local function dropped(extra) return require("moonshim.oci.document").dropped(given(extra)) end
    assert.same({}, dropped { hooks = {}, linux = { cgroupsPath = "/a", resources = { devices = { {} }, pids = { limit = 8 },
      hugepageLimits = { { pageSize = "2MB", limit = 0 } }, blockIO = {} } } })
    local lines = dropped { hooks = { poststop = { { path = "/x" } } }, linux = { resources = { blockIO = { weight = 1 },
      network = { classID = 1 }, hugepageLimits = { { pageSize = "2MB", limit = 1 } } } } }
    for i, name in ipairs { "hooks.poststop", "linux.resources.blockIO", "linux.resources.network", "linux.resources.hugepageLimits[1]" } do
      assert.equal(1, lines[i]:find(name, 1, true))
    end
    assert.equal(4, #lines)
  end)

  it("keeps seccomp unless the container is privileged [#174] [#175]", function()
    local linux = { seccomp = { defaultAction = "SCMP_ACT_ALLOW" } }
    assert.truthy(sanitise({ linux = linux }).linux.seccomp)
    assert.is_nil(sanitise({ linux = linux, annotations = { ["io.microsoft.virtualmachine.lcow.privileged"] = "true" } }).linux.seccomp)
    assert.truthy(sanitise({ linux = linux, annotations = { ["io.microsoft.virtualmachine.lcow.privileged"] = "false" } }).linux.seccomp)
  end)

  it("keeps of the Windows section what the guest reads [#176] [#177]", function()
    assert.same({ network = { networkNamespace = "ns" } },
      sanitise({ windows = { network = { networkNamespace = "ns", x = 1 }, layerFolders = { "a" } } }).windows)
    assert.is_nil(sanitise({ windows = { layerFolders = { "a" }, network = { networkNamespace = "" } } }).windows)
  end)

  it("is refused without a Linux section [#178]", function()
    local spec = given()
    spec.linux = nil
    local ok, e = pcall(oci.sanitise, spec)
    assert.is_false(ok)
    assert.is_true(err.is(e, "invalid_argument"))
  end)

  it("rewrites the sandbox id to the guest's, and invents none [#179] [#180]", function()
    local key = "io.kubernetes.cri.sandbox-id"
    assert.equal("p-guest", sanitise({ annotations = { [key] = "p1" } }, "p-guest").annotations[key])
    assert.is_nil(sanitise({}, "p-guest").annotations[key])
  end)

  it("makes resources where the guest needs them [#181]", function()
    assert.same({}, sanitise({ linux = {}, windows = { devices = { { id = "g", idType = "gpu" } } } }).linux.resources)
  end)

  it("leaves out nulls and empty lists, which would turn into objects", function()
    local s = sanitise { mounts = {}, process = { args = { "sh" }, cwd = "/", env = {}, rlimits = io.stdout } }
    assert.is_nil(s.mounts)
    assert.is_nil(s.process.env)
    assert.is_nil(s.process.rlimits)
    assert.same({ "sh" }, s.process.args)
  end)
end)

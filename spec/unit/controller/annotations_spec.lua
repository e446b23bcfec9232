-- What annotations and a request of containerd mean for a create.
local core = require "moonshim.core"
local fake_vm = require "support.fake_vm"
local given = require "support.given"
local keys = require "moonshim.oci.annotation_keys"
local pod_spec = require "moonshim.pod_spec"
local virtual = require "support.virtual"

local VM = "io.microsoft.virtualmachine."
local IO = { stdout = { fd = 1 } }

local function said(map) return { "sleep", spec = { annotations = map } } end

---Creates a container that must be refused; nothing may have been asked of host and guest.
local function refused(code, fields, ...)
  local f, pod, vm = given.pod()
  local calls, c = #f.calls, pod:new_container "c"
  local e = given.error(c.create, c, given.request(fields))
  assert.equal(code, e.code, e.message)
  for _, text in ipairs { ... } do assert.is_truthy(e.message:find(text, 1, true), e.message) end
  assert.is_nil(e.message:find "\n")
  assert.equal(calls, #f.calls)
  assert.same({}, f:leaks { running = true })
  assert.is_nil(pod.members.c) -- the id is free again
  vm:stop()
end

local function launch(fields, container)
  local f, pod, vm = given.pod()
  local spec = { name = "p", containers = { c = container or { rootfs = "/root", args = { "sleep" } } } }
  for k, v in pairs(fields) do spec[k] = v end
  pod:launch(pod_spec.check(spec, { base = "/" }), function() return IO end)
  return f, pod, vm
end

local function ignored(f)
  local e = f:event "ignored"
  return e and e.message
end

describe("a create whose annotations", function()
  it("contradict each other takes nothing, and the id is free [#32] [#574]", virtual(function()
    refused("invalid_argument", said { [keys.DISABLE_UNSAFE] = "true", [keys.DISABLE_WRITABLE] = "false" },
      keys.DISABLE_WRITABLE, keys.DISABLE_UNSAFE)
  end))

  for _, name in ipairs { keys.PRIVILEGED, keys.DISABLE_UNSAFE, keys.DISABLE_WRITABLE, keys.HOST_NETWORK } do
    it(("say banana of the switch of security %s fails [#577]"):format(name), virtual(function()
      refused("invalid_argument", said { [name] = "banana" }, name, '"banana"', 'write "true" or "false"')
    end))
  end

  it("say banana of anything else goes on, and says so [#578]", virtual(function()
    local f, pod, vm = given.pod()
    given.running(pod, said { [VM .. "lcow.securitypolicy.env"] = "banana" })
    assert.is_truthy(ignored(f):find('securitypolicy.env: "banana" is neither true nor false', 1, true), ignored(f))
    assert.same({ "p", "c" }, { f:event("ignored").pod, f:event("ignored").container })
    assert.is_truthy(table.concat(f.lines, "\n"):find("the default is used", 1, true))
    vm:stop()
  end))

  it("ask for what is not here is refused, with what to do", virtual(function()
    refused("unimplemented", said { [keys.HOST_PROCESS] = "true" }, keys.HOST_PROCESS, "leave it out")
  end))

  it("ask for privileges needs a pod with a sandbox", virtual(function()
    refused("invalid_argument", said { [keys.PRIVILEGED] = "true" }, keys.PRIVILEGED, "write sandbox = true")
  end))

  it("ask for privileges loses its seccomp filter [#175]", virtual(function()
    local seccomp = { linux = { seccomp = { defaultAction = "SCMP_ACT_ALLOW" } } }
    for _, case in ipairs { { true, nil }, { false, "SCMP_ACT_ALLOW" } } do
      local f, _, vm = launch({}, {
        rootfs = "/root", args = { "sleep" }, spec = seccomp, annotations = { [keys.PRIVILEGED] = case[1] },
      })
      local document = f.containers.c.document.OciSpecification
      assert.equal(case[2], document.linux.seccomp and document.linux.seccomp.defaultAction)
      assert.equal(tostring(case[1]), document.annotations[keys.PRIVILEGED])
      vm:stop()
    end
  end))
end)

describe("a pod whose annotations forbid writable shares", function()
  local FORBID = { annotations = { [keys.DISABLE_UNSAFE] = true } }
  local READ_ONLY = { source = "/data", destination = "/d", options = { "ro" } }

  it("denies a writable folder, and adds nothing to the VM [#154]", virtual(function()
    local f, pod, vm = given.pod()
    pod.settings = { no_writable_shares = true }
    local calls, c = #f.calls, pod:new_container "c"
    local e = given.error(c.create, c, given.request {
      "sleep", layers = { "/a.ext4" }, mounts = { READ_ONLY, { source = "/data", destination = "/w" } },
    })
    assert.equal("permission_denied", e.code)
    for _, text in ipairs { "mounts[9]", '"/data"', keys.DISABLE_WRITABLE, 'add the option "ro"' } do
      assert.is_truthy(e.message:find(text, 1, true), e.message)
    end
    assert.equal(calls, #f.calls)
    vm:stop()
  end))

  it("denies a root folder that may be written", virtual(function()
    local ok, e = pcall(launch, FORBID)
    assert.is_false(ok)
    assert.equal("permission_denied", e.code, tostring(e))
    assert.is_truthy(e.message:find("rootfs", 1, true), e.message)
  end))

  it("takes what is read-only", virtual(function()
    local f, _, vm = launch(FORBID, { rootfs = "/root", read_only = true, args = { "sleep" }, mounts = { READ_ONLY } })
    assert.equal("running", f.containers.c.state)
    assert.is_nil(ignored(f))
    vm:stop()
  end))
end)

describe("a pod whose annotations ask for encryption", function()
  local LAYERED = { layers = { "/a.ext4" }, scratch = { size = "64M" }, args = { "sleep" } }

  it("has scratch disks of xfs that the guest encrypts; layers are as ever [#116]", virtual(function()
    local f, pod, vm = launch({ annotations = { [keys.ENCRYPTED] = "true" } }, LAYERED)
    local mounts = {}
    for _, receipt in ipairs(vm.ledger:under(pod.owner)) do
      if receipt.facts.mount then mounts[receipt.kind] = receipt.facts.mount end
    end
    assert.same({ "xfs", true, true }, { mounts.scratch.filesystem, mounts.scratch.encrypted, mounts.scratch.ensure_filesystem })
    assert.same({ false, "" }, { mounts.layer.encrypted or false, mounts.layer.filesystem or "" })
    local sent = {}
    for _, s in ipairs(f.disks_seen) do sent[#sent + 1] = s.Encrypted and s.Filesystem or s.ReadOnly and "layer" or "plain" end
    table.sort(sent)
    assert.same({ "layer", "xfs" }, sent)
    vm:stop()
  end))

  it("has no scratch disk rather than a plain one when the guest cannot", virtual(function()
    local f, pod, vm = given.pod()
    f:fault(function(op, _, what) return op == "guest.mount" and what:find "_1_0$" and "fail" or nil end)
    local spec = pod_spec.check({ name = "p", annotations = { [keys.ENCRYPTED] = "true" }, containers = { c = LAYERED } }, { base = "/" })
    local e = given.error(pod.launch, pod, spec, function() return IO end)
    assert.is_truthy(e.message:find(keys.ENCRYPTED, 1, true), e.message)
    assert.is_nil(f.containers.c)
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("does not share a scratch disk with a pod of the same VM that asks for none", virtual(function()
    local f, pod, vm = given.pod()
    given.created(pod, { "sleep", layers = { "/a.ext4" }, scratch = { path = "/s.img" } }, "plain")
    local other = vm:new_pod "other"
    other.settings = { encrypt_scratch = true }
    local c = other:new_container "c"
    local e = given.error(c.create, c, given.request { "sleep", layers = { "/a.ext4" }, scratch = { path = "/s.img" } })
    assert.equal("failed_precondition", e.code, e.message)
    assert.is_truthy(e.message:find("/s.img", 1, true), e.message)
    assert.equal(2, #f:called "^host.attach")
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("has plain ones where it says no", virtual(function()
    local f, _, vm = launch({ annotations = { [keys.ENCRYPTED] = "false" } }, LAYERED)
    for _, s in ipairs(f.disks_seen) do assert.is_falsy(s.Encrypted) end
    vm:stop()
  end))
end)

describe("annotations of a pod", function()
  it("size its VM", virtual(function()
    local f = fake_vm.new()
    local vm = f:vm { boot = false }
    local spec = pod_spec.check({
      name = "p", containers = { c = { rootfs = "/root", args = { "sleep" } } }, annotations = {
        [keys.MEMORY] = "512", [keys.PROCESSORS] = "2", [VM .. "computetopology.processor.limit"] = "50000",
        [VM .. "computetopology.processor.weight"] = "200",
      },
    }, { base = "/" })
    vm:boot { size = spec.vm }
    local topology = f.document.VirtualMachine.ComputeTopology
    assert.equal(512, topology.Memory.SizeInMB)
    assert.same({ Count = 2, Limit = 50000, Weight = 200 }, topology.Processor)
    vm:stop()
  end))

  it("choose how its NICs are routed", virtual(function()
    for _, wanted in ipairs { true, false } do
      local f, pod, vm = given.pod()
      pod.network.endpoints_of = function()
        return { { name = "eth0", kind = "bridge", bridge = "moonshim0", dns = { servers = {}, search = {} } } }
      end
      local spec = pod_spec.check({
        name = "p", network = "bridge", annotations = { [VM .. "lcow.network.policybasedrouting"] = wanted },
        containers = { c = { rootfs = "/root", args = { "sleep" } } },
      }, { base = "/" })
      pod:launch(spec, function() return IO end)
      assert.equal(wanted, f.nics_seen[1].PolicyBasedRouting or false)
      vm:stop()
    end
  end))

  it("reach its sandbox container, and change nothing that it says itself", virtual(function()
    local f, _, vm = launch { annotations = { ["org.example/x"] = 7, [keys.HOST_NETWORK] = true } }
    local map = f.containers.p.document.OciSpecification.annotations
    assert.same({ "7", "true", "sandbox" }, { map["org.example/x"], map[keys.HOST_NETWORK], map[keys.CONTAINER_TYPE] })
    assert.is_nil(f.containers.c.document.OciSpecification.annotations["org.example/x"])
    vm:stop()
  end))

  it("reach the only container of a pod without one, whose own win", virtual(function()
    local f, _, vm = launch({ sandbox = false, annotations = { a = "pod", b = "pod" } },
      { rootfs = "/root", args = { "sleep" }, annotations = { a = "own" } })
    assert.same({ a = "own", b = "pod" }, f.containers.c.document.OciSpecification.annotations)
    vm:stop()
  end))

  it("that belong to a container have no effect, also where the pod is one container", virtual(function()
    local f, _, vm = launch({ sandbox = false, annotations = { [keys.PRIVILEGED] = "true", [keys.SHM_SIZE] = "64" } }, {
      rootfs = "/root", args = { "sleep" }, spec = { linux = { seccomp = { defaultAction = "SCMP_ACT_ALLOW" } } },
    })
    local document = f.containers.c.document.OciSpecification
    assert.equal("SCMP_ACT_ALLOW", (document.linux.seccomp or {}).defaultAction)
    assert.is_nil(document.annotations)
    assert.is_truthy(table.concat(f.lines, "\n"):find("belongs to a container", 1, true))
    vm:stop()
  end))

  it("that have no effect are told once, with the pod", virtual(function()
    local f, _, vm = launch { annotations = { [VM .. "console.pipe"] = "x" } }
    assert.is_truthy(ignored(f):find("console.pipe", 1, true))
    assert.same({ "p", nil }, { f:event("ignored").pod, f:event("ignored").container })
    vm:stop()
  end))
end)

describe("access to a disk is asked for", function()
  it("when it is the scratch; a refusal gives the layers back, and names no scratch [#119]", virtual(function()
    local f, pod, vm = given.pod()
    f.read_only["/s.img"] = true
    local c = pod:new_container "c"
    local e = given.error(c.create, c, given.request { "sleep", layers = { "/a.ext4", "/b.ext4" }, scratch = { path = "/s.img" } })
    assert.equal("permission_denied", e.code)
    assert.is_truthy(e.message:find("/s.img", 1, true), e.message)
    assert.same({ 2, 2 }, { #f:called "^host.attach", #f:called "^host.detach" })
    assert.same({}, f:called "s.img")
    assert.same({}, f:leaks { running = true })
    vm:stop()
  end))

  it("to be written when it is a scratch or a data disk, and never of a layer [#120]", virtual(function()
    local f, pod, vm = given.pod()
    given.running(pod, { "sleep", layers = { "/a.ext4" }, scratch = { path = "/s.img" }, mounts = {
      { source = "/w.img", destination = "/w", type = "virtual-disk" },
      { source = "/r.img", destination = "/r", type = "virtual-disk", options = { "RO" } },
    } })
    assert.same({ "write /s.img", "write /w.img", "read /r.img" }, f.accesses)
    vm:stop()
  end))
end)

describe("a request as containerd makes it", function()
  local function spec()
    return core.json.decode [[{
      "ociVersion": "1.0.2", "root": { "path": "rootfs" }, "process": { "args": ["sleep"], "cwd": "/" }, "linux": {},
      "hooks": { "prestart": [{ "path": "/x" }] }, "windows": {},
      "mounts": [{ "destination": "/d", "type": "bind", "source": "/data", "options": ["ro"] }, { "destination": "/t", "type": "tmpfs" }],
      "annotations": { "a": "1", "io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "p" } }]]
  end

  local ROOTFS = { { type = "lcow-layer", source = "/snap/active", options = { 'parentLayerPaths=["/snap/top","/snap/base"]' } } }

  local function create(request)
    local f, pod, vm = given.pod()
    local c = pod:new_container "c"
    request.kind, request.io = request.kind or "workload", IO
    local ok, e = pcall(c.create, c, request)
    return f, vm, not ok and e or nil
  end

  -- Names of this form are folders to the fake host; these are images.
  local function images(f_files)
    local kind, detect = f_files.kind, f_files.detect
    f_files.kind = function(path) return path:find "%.vhdx?$" and "file" or kind(path) end
    f_files.detect = function(path) return path:find "%.vhdx?$" and { format = "ext4", size = 1 << 20 } or detect(path) end
  end

  local function created(request)
    local f, pod, vm = given.pod()
    images(f.world.files)
    local c = pod:new_container "c"
    request.kind, request.io = "workload", IO
    c:create(request)
    return f, vm
  end

  it("becomes layers, a scratch disk and mounts; its spec is not written to [#129] [#168]", virtual(function()
    local mine, untouched = spec(), spec()
    local f, vm = created { spec = mine, rootfs = ROOTFS, options = { default_container_annotations = { b = "2" } } }
    local attached = {}
    for _, path in pairs(f.attached) do attached[#attached + 1] = path end
    table.sort(attached)
    assert.same({ "/snap/active/sandbox.vhdx", "/snap/base/layer.vhd", "/snap/top/layer.vhd" }, attached)
    local document = f.containers.c.document.OciSpecification
    assert.same({ "1", "2" }, { document.annotations.a, document.annotations.b })
    assert.equal("/run/mounts/plan9/0", document.mounts[1].source)
    assert.is_nil(document.hooks)
    assert.same(untouched, mine)
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("may name its layers in the spec", virtual(function()
    local mine = spec()
    mine.windows = { layerFolders = { "/snap/top", "/snap/active" } }
    local f, vm = created { spec = mine, rootfs = {} }
    assert.equal(2, #f:called "^host.attach")
    assert.is_nil(f.containers.c.document.OciSpecification.windows)
    vm:stop()
  end))

  for name, case in pairs {
    ["both forms of a root [#132]"] = { { rootfs = ROOTFS, folders = { "/a", "/b" } }, "failed_precondition", "leave one out" },
    ["no root [#133]"] = { { rootfs = {} }, "failed_precondition", "neither a rootfs mount" },
    ["a default annotation that is no switch [#577]"] = {
      { rootfs = ROOTFS, options = { default_container_annotations = { [keys.PRIVILEGED] = "banana" } } }, "invalid_argument", "banana" },
    ["another type than what is created"] = { { rootfs = ROOTFS, kind = "sandbox" }, "invalid_argument", keys.CONTAINER_TYPE },
  } do
    it("is refused with " .. name .. ", and nothing is taken", virtual(function()
      local mine = spec()
      mine.windows = { layerFolders = case[1].folders }
      local f, vm, e = create { spec = mine, rootfs = case[1].rootfs, options = case[1].options, kind = case[1].kind }
      assert.equal(case[2], e.code, e.message)
      assert.is_truthy(e.message:find(case[3], 1, true), e.message)
      assert.same({}, f:called "^host.attach")
      assert.same({}, f:leaks { running = true })
      vm:stop()
    end))
  end
end)

describe("a container on its own", function()
  it("keeps its devices when it has a network, too", virtual(function()
    local f, pod, vm = given.pod()
    local c = pod:new_container "c"
    local request = given.request { "sleep", devices = { "/dev/card" } }
    request.network_namespace = "n1"
    c:create(request)
    local windows = f.containers.c.document.OciSpecification.windows
    assert.same({ "n1", 1 }, { windows.network.networkNamespace, #windows.devices })
    vm:stop()
  end))
end)

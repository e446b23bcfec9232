-- What a create asks of host and guest for its layers, mounts and devices, and in which order.
local given = require "support.given"
local virtual = require "support.virtual"

---Requests to the host of one kind: "Scsi", "Plan9", "VirtualPci".
local function requests(f, what)
  local out = {}
  for _, r in ipairs(f.requests) do
    if r.ResourcePath:find(what, 1, true) and r.RequestType == "Add" then out[#out + 1] = r.Settings end
  end
  return out
end

local function document(f, id) return f.containers[id or "c"].document.OciSpecification end

---Mounts of the guest's document by their destination.
local function mounts_of(f)
  local out = {}
  for _, m in ipairs(document(f).mounts) do out[m.destination] = m end
  return out
end

local function fails(pod, fields)
  local c = pod:new_container "c"
  return given.error(c.create, c, given.request(fields))
end

local function receipts(vm, pod, kind)
  local out = {}
  for _, r in ipairs(vm.ledger:under(pod.owner)) do
    if r.kind == kind then out[#out + 1] = r end
  end
  return out
end

describe("the layers of a create", function()
  it("are read-only disks below a scratch disk that the guest may format, combined once [#114]", virtual(function()
    local f, pod, vm = given.pod()
    given.created(pod, { "sleep", layers = { "/a.ext4" }, scratch = { path = "/s.img" } })
    local disks = {}
    for _, s in ipairs(requests(f, "Scsi")) do disks[s.Path] = s end
    assert.same({ Type = "VirtualDisk", Path = "/a.ext4", ReadOnly = true }, disks["/a.ext4"])
    assert.same({ Type = "VirtualDisk", Path = "/s.img" }, disks["/s.img"])
    assert.equal(2, #f.disks_seen)
    local layer, scratch = f.disks_seen[1], f.disks_seen[2]
    assert.same({ true, { "ro" } }, { layer.ReadOnly, { table.unpack(layer.Options) } })
    assert.same({ nil, "ext4", true }, { scratch.ReadOnly, scratch.Filesystem, scratch.EnsureFilesystem })
    assert.equal(1, #f.combined)
    assert.equal(layer.MountPath, f.combined[1].Layers[1].Path)
    vm:stop()
  end))

  it("are named in the order of the list and combined in it, the top-most first [#115]", virtual(function()
    local f, pod, vm = given.pod()
    given.created(pod, { "sleep", layers = { "/base.ext4", "/middle.ext4", "/top.ext4" }, scratch = { size = "64M" } })
    local names, paths, combined = {}, {}, {}
    for i, r in ipairs(receipts(vm, pod, "layer")) do names[i], paths[4 - i] = r.facts.path, r.facts.guest_path end
    assert.same({ "/base.ext4", "/middle.ext4", "/top.ext4" }, names)
    for i, layer in ipairs(f.combined[1].Layers) do combined[i] = layer.Path end
    assert.same(paths, combined)
    vm:stop()
  end))

  it("that cannot be found are an error, and nothing of them is taken [#117]", virtual(function()
    local f, pod, vm = given.pod()
    f.missing["/b.ext4"] = true
    local e = fails(pod, { "sleep", layers = { "/a.ext4", "/b.ext4" } })
    assert.equal("not_found", e.code)
    assert.is_truthy(e.message:find("layers[2]: there is no /b.ext4", 1, true), e.message)
    assert.same({}, requests(f, "Scsi"))
    assert.same({}, f:leaks { running = true })
    vm:stop()
  end))

  it("are attached by the path behind all links, so that one disk is one disk [#118]", virtual(function()
    local f, pod, vm = given.pod()
    f.links["/snapshots/1/base.ext4"], f.links["/snapshots/2/base.ext4"] = "/store/base.ext4", "/store/base.ext4"
    given.created(pod, { "sleep", layers = { "/snapshots/1/base.ext4" } }, "a")
    given.created(pod, { "sleep", layers = { "/snapshots/2/base.ext4" } }, "b")
    local disks = requests(f, "Scsi")
    assert.same({ 1, "/store/base.ext4" }, { #disks, disks[1].Path })
    vm:stop()
  end))

  it("of which one has no place give back those before it [#121]", virtual(function()
    local f, pod, vm = given.pod()
    given.created(pod, { "sleep", mounts = { { source = "/b.img", destination = "/b", type = "virtual-disk" } } }, "holder")
    local before = #f:called "^host.detach"
    local e = fails(pod, { "sleep", layers = { "/a.ext4", "/b.img" }, read_only = true })
    assert.is_truthy(e.message:find("/b.img", 1, true), e.message)
    assert.same({}, vm.ledger:under(pod.owner .. "/c"))
    assert.equal(#f:called "^host.attach" - 1, #f:called "^host.detach" - before)
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("that cannot be combined are given back, and no container is made of them", virtual(function()
    local f, pod, vm = given.pod()
    f:fault(function(op) return op == "guest.combine" and "fail" or nil end)
    fails(pod, { "sleep", layers = { "/a.ext4", "/b.ext4" }, scratch = { size = "64M" } })
    assert.same({}, f:called "^guest.create")
    assert.same({}, f:leaks { running = true })
    assert.same({}, f.wrong)
    vm:stop()
  end))

  it("of two containers stand on one scratch disk, each in a folder of its own that the guest is told [#126] [#127]", virtual(function()
    local f, pod, vm = given.pod()
    local shared = { "sleep", layers = { "/base.ext4" }, scratch = { path = "/s.img" } }
    given.created(pod, shared, "a")
    given.created(pod, shared, "b")
    local n = 0
    for _, s in ipairs(requests(f, "Scsi")) do n = n + (s.Path == "/s.img" and 1 or 0) end
    assert.equal(1, n)
    local one, other = f.containers.a.document.ScratchDirPath, f.containers.b.document.ScratchDirPath
    assert.same({ f.combined[1].ScratchPath, f.combined[2].ScratchPath }, { one, other })
    assert.is_truthy(one:find("/scratch/p/a$") and other:find("/scratch/p/b$"))
    vm:stop()
  end))
end)

describe("the mounts of a create", function()
  it("are disks as asked for, of which the document has the guest's paths [#137] [#138] [#139] [#161]", virtual(function()
    local f, pod, vm = given.pod()
    given.created(pod, { "sleep", mounts = {
      { source = "/w.img", destination = "/w", type = "virtual-disk", options = { "rshared", "nodev" } },
      { source = "/r.img", destination = "/r", type = "virtual-disk", options = { "RO" } },
      { source = "/dev/sdx", destination = "/p", type = "physical-disk" },
    } })
    local disks, at, seen = {}, {}, {}
    for _, s in ipairs(requests(f, "Scsi")) do disks[s.Path] = { s.Type, s.ReadOnly or false } end
    assert.same({
      ["/w.img"] = { "VirtualDisk", false }, ["/r.img"] = { "VirtualDisk", true }, ["/dev/sdx"] = { "PassThru", false },
    }, disks)
    for _, r in ipairs(receipts(vm, pod, "disk")) do at[r.facts.path] = r.facts.guest_path end
    for _, s in ipairs(f.disks_seen) do seen[s.MountPath] = s end
    assert.same({ "rshared", "nodev" }, { table.unpack(seen[at["/w.img"]].Options) })
    for destination, path in pairs { ["/w"] = "/w.img", ["/r"] = "/r.img", ["/p"] = "/dev/sdx" } do
      local m = mounts_of(f)[destination]
      assert.same({ "none", at[path] }, { m.type, m.source })
    end
    assert.same({ "write /w.img", "read /r.img", "write /dev/sdx" }, f.accesses)
    vm:stop()
  end))

  it("are folders and files of the host, shared as they are asked for [#149] [#150] [#151] [#152] [#153]", virtual(function()
    local f, pod, vm = given.pod()
    given.created(pod, { "sleep", read_only = true, mounts = {
      { source = "/data", destination = "/w" }, { source = "/data", destination = "/r", options = { "ro" } },
      { source = "/etc/a.conf", destination = "/a" }, { source = "/etc/b.conf", destination = "/b" },
    } })
    local by_name, mounts = {}, mounts_of(f)
    for _, s in ipairs(requests(f, "Plan9")) do by_name[s.Name] = s end
    local function share_at(destination)
      local name, file = mounts[destination].source:match "^/run/mounts/plan9/(%d+)/?(.*)$"
      local s = by_name[name]
      return { s.Path, s.Flags & 1 == 1, s.AllowedFiles and s.AllowedFiles[1] or "", file }
    end
    assert.same({ "/data", false, "", "" }, share_at "/w")
    assert.same({ "/data", true, "", "" }, share_at "/r")
    assert.same({ "/etc", false, "a.conf", "a.conf" }, share_at "/a")
    assert.same({ "/etc", false, "b.conf", "b.conf" }, share_at "/b")
    vm:stop()
  end))

  it("whose source is not there are an error before any of them is taken [#155]", virtual(function()
    local f, pod, vm = given.pod()
    f.missing["/none"] = true
    local calls = #f.calls
    local e = fails(pod, { "sleep", mounts = {
      { source = "/d.img", destination = "/a", type = "virtual-disk" }, { source = "/none", destination = "/b" } } })
    assert.equal("not_found", e.code)
    assert.is_truthy(e.message:find("mounts[9]", 1, true) and e.message:find('source "/none"', 1, true), e.message)
    assert.equal(calls, #f.calls)
    vm:stop()
  end))

  it("that are none of ours are passed on as they are [#148] [#157] [#158]", virtual(function()
    local f, pod, vm = given.pod()
    local calls = #f.calls
    given.created(pod, { "sleep", layers = { "/a.ext4" }, spec = { mounts = {
      { destination = "/t", type = "tmpfs", source = "" }, { destination = "/w", type = "weird", source = "x", options = { "y" } },
      { destination = "/s", type = "bind", source = "sandbox://x" }, { destination = "/u", type = "bind", source = "uvm://x" },
    } } })
    assert.same({
      { destination = "/t", type = "tmpfs", source = "" }, { destination = "/w", type = "weird", source = "x", options = { "y" } },
      { destination = "/s", type = "bind", source = "sandbox://x" }, { destination = "/u", type = "bind", source = "uvm://x" },
    }, document(f).mounts)
    assert.equal(1, #f.requests) -- the layer
    assert.is_true(#f.calls > calls)
    vm:stop()
  end))

  it("are reserved in the order of the spec, which the document keeps [#159]", virtual(function()
    local f, pod, vm = given.pod()
    given.created(pod, { "sleep", layers = { "/a.ext4" }, spec = { mounts = {
      { destination = "/1", type = "virtual-disk", source = "/d.img" }, { destination = "/2", type = "bind", source = "/data" },
      { destination = "/3", type = "bind", source = "uvm://x" }, { destination = "/4", type = "tmpfs", source = "tmpfs" },
      { destination = "/5", type = "virtual-disk", source = "/e.img" },
    } } })
    local order, destinations = {}, {}
    for _, r in ipairs(vm.ledger:under(pod.owner)) do
      if r.facts.mount_index then order[#order + 1] = r.facts.mount_index end
    end
    assert.same({ 1, 2, 5 }, order)
    for i, m in ipairs(document(f).mounts) do destinations[i] = m.destination end
    assert.same({ "/1", "/2", "/3", "/4", "/5" }, destinations)
    vm:stop()
  end))
end)

describe("the devices of a create", function()
  it("are assigned, and known to the guest by their instance, whatever their type is called [#162]", virtual(function()
    local f, pod, vm = given.pod()
    given.created(pod, { "sleep", spec = { windows = { devices = {
      { id = "/dev/a", idType = "vpci" }, { id = "/dev/b", idType = "vpci-instance-id" }, { id = "/dev/g", idType = "gpu" },
    } } } })
    local assigned = {}
    for i, s in ipairs(requests(f, "VirtualPci")) do assigned[i] = s.Functions[1].DeviceInstancePath end
    assert.same({ "/dev/a", "/dev/b", "/dev/g" }, assigned)
    local held = {}
    for _, r in ipairs(receipts(vm, pod, "device")) do held[r.facts.index] = r.facts.instance end
    for i, device in ipairs(document(f).windows.devices) do
      assert.equal(held[i], device.id)
      assert.equal(36, #device.id)
      assert.equal(device.id, f.assigned[device.id] and device.id)
    end
    assert.equal(3, #f:called "^guest.wait_device")
    vm:stop()
  end))

  it("are none without a Windows section, and that is fine [#167]", virtual(function()
    local f, pod, vm = given.pod()
    given.running(pod, { "sleep" })
    assert.is_nil(document(f).windows)
    vm:stop()
  end))
end)

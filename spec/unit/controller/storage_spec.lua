-- What a container takes of disks, shares and devices, and what becomes of it when one of them cannot be had.
local given = require "support.given"
local virtual = require "support.virtual"

local function create(pod, fields, id)
  local c = pod:new_container(id or "c")
  return c, given.error(c.create, c, given.request(fields))
end

local function nothing_left(f)
  assert.same({}, f:leaks { running = true })
  assert.same({}, f.wrong)
end

describe("a create that cannot have", function()
  it("its scratch disk, since it is in use otherwise, gives the layers back [#123]", virtual(function()
    local f, pod, vm = given.pod()
    local _, e = create(pod, { "sleep", layers = { "/a.ext4", "/b.ext4" }, scratch = { path = "/b.ext4" } })
    assert.equal("failed_precondition", e.code)
    assert.is_truthy(e.message:find("/b.ext4 is in use read-only in this VM", 1, true), e.message)
    assert.equal(0, #f:called "^guest.combine")
    nothing_left(f)
    vm:stop()
  end))

  it("its scratch disk mounted takes that back, too, and its file [#124]", virtual(function()
    local f, pod, vm = given.pod()
    f:fault(function(op, _, what) return op == "guest.mount" and what:find "_1_0$" and "fail" or nil end)
    local _, e = create(pod, { "sleep", layers = { "/a.ext4" }, scratch = { size = "64M" } })
    assert.equal("unknown", e.code)
    assert.equal(1, #f:called "^host.detach 0:1")
    nothing_left(f)
    vm:stop()
  end))

  it("the third of its mounts gives the first two back [#160]", virtual(function()
    local f, pod, vm = given.pod()
    f:fault(function(op, _, what) return op == "guest.map" and what:find "/1$" and "fail" or nil end)
    create(pod, { "sleep", mounts = {
      { source = "/d.img", destination = "/a", type = "virtual-disk" }, { source = "/x", destination = "/b" },
      { source = "/y", destination = "/c" },
    } })
    assert.equal(1, #f:called "^host.detach")
    nothing_left(f)
    vm:stop()
  end))

  it("a mount without a destination takes nothing [#156]", virtual(function()
    local f, pod, vm = given.pod()
    local calls = #f.calls
    local _, e = create(pod, { "sleep", spec = { mounts = { { destination = "", type = "tmpfs" } } } })
    assert.equal("invalid_argument", e.code)
    assert.is_truthy(e.message:find("mounts[1].destination", 1, true), e.message)
    assert.equal(calls, #f.calls)
    vm:stop()
  end))

  it("one of its devices gives the others back [#166]", virtual(function()
    for _, op in ipairs { "host.assign", "guest.wait_device" } do
      local f, pod, vm = given.pod()
      local n = 0
      f:fault(function(call)
        if call == op then n = n + 1 end
        return call == op and n == 2 and "fail" or nil
      end)
      create(pod, { "sleep", devices = { "/dev/a", "/dev/b", "/dev/c" } })
      assert.equal(op == "host.assign" and 2 or 3, #f:called "^host.unassign")
      nothing_left(f)
      vm:stop()
    end
  end))

  it("a device of a kind that there is not takes none of them [#163]", virtual(function()
    local f, pod, vm = given.pod()
    local calls = #f.calls
    local _, e = create(pod, { "sleep", devices = { "/dev/a" }, spec = { windows = { devices = { { id = "x", idType = "class" } } } } })
    assert.equal("invalid_argument", e.code)
    assert.equal(calls, #f.calls)
    vm:stop()
  end))

  it("a slot any more says so, and the containers that run go on [#229]", virtual(function()
    local f, pod, vm = given.pod()
    local mounts = {}
    for i = 1, 255 do mounts[i] = { source = ("/%d.img"):format(i), destination = "/d" .. i, type = "virtual-disk" } end
    local first = given.running(pod, { "sleep", mounts = mounts }, "first")
    local _, e = create(pod, { "sleep", layers = { "/a.ext4", "/b.ext4" } }, "second")
    assert.equal("resource_exhausted", e.code)
    assert.is_truthy(e.message:find("no free SCSI slot: all 256 of 4 controllers are taken", 1, true), e.message)
    assert.equal("running", first:state().state)
    assert.equal(255, #f:called "^host.attach" - #f:called "^host.detach")
    vm:stop()
    assert.same({}, f:leaks())
  end))
end)

describe("a container's storage", function()
  it("may be partitions of one disk, attached once and mounted one by one [#128]", virtual(function()
    local f, pod, vm = given.pod()
    given.created(pod, { "sleep", layers = { { path = "/all.ext4", partition = 1 }, { path = "/all.ext4", partition = 2 } } })
    assert.equal(1, #f:called "^host.attach")
    local mounts = f:called "^guest.mount"
    table.sort(mounts)
    assert.same({ "guest.mount /run/mounts/scsi/0_0_1", "guest.mount /run/mounts/scsi/0_0_2" }, mounts)
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("may be a device that another container has, too; the last one gives it back [#307] [#311]", virtual(function()
    local f, pod, vm = given.pod()
    local a = given.running(pod, { "exit", 0, 10, devices = { "/dev/card:/dev/mine:r" } }, "a")
    local b = given.running(pod, { "exit", 0, 10, devices = { "/dev/card" } }, "b")
    local seen = f.containers.a.document.OciSpecification.windows.devices[1]
    assert.equal(seen.id, f.containers.b.document.OciSpecification.windows.devices[1].id)
    assert.same({ "/dev/mine", "r", "vpci-instance-id" }, { seen.path, seen.access, seen.idType })
    assert.equal("/dev/card", f.containers.b.document.OciSpecification.windows.devices[1].path)
    assert.same({ 1, 1 }, { #f:called "^host.assign", #f:called "^guest.wait_device" })
    a:wait()
    a:delete()
    assert.equal(0, #f:called "^host.unassign")
    b:wait()
    b:delete()
    assert.equal(1, #f:called "^host.unassign")
    nothing_left(f)
    vm:stop()
  end))

  it("is kept for a retry when a device cannot be given back, and nothing is released twice [#319]", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod, { "exit", 0, devices = { "/dev/card" } })
    c:wait()
    f:fault(function(op) return op == "host.unassign" and "fail" or nil end)
    given.error(c.delete, c)
    f:fault(nil)
    local before = #f:called "^guest.delete_state"
    c:delete()
    assert.equal(before, #f:called "^guest.delete_state")
    nothing_left(f)
    vm:stop()
  end))

  it("of devices ends with the VM, whatever the guest did to them [#322]", virtual(function()
    local f, pod, vm = given.pod()
    given.running(pod, { "sleep", devices = { "/dev/card" } })
    f:die()
    vm:stop()
    assert.same({}, f:leaks())
  end))
end)

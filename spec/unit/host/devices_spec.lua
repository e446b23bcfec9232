local err = require "moonshim.err"
local fake = require "support.fake_host"
local task = require "moonshim.task"
local virtual = require "support.virtual"

local function disk(path, extra)
  local want = { bus = "scsi", path = path, read_only = true, type = "VirtualDisk", partition = 0, mount = { read_only = true,
    options = { "ro" } } }
  for k, v in pairs(extra or {}) do want[k] = v end
  return want
end

local function share(path, extra)
  local want = { bus = "plan9", path = path, read_only = false }
  for k, v in pairs(extra or {}) do want[k] = v end
  return want
end

local function failure(fn, ...)
  local ok, e = pcall(fn, ...)
  assert.is_false(ok, "did not fail")
  return err.from(e)
end

local function calls_of(w, word)
  local n = 0
  for _, call in ipairs(w.calls) do
    if call:find("^" .. word .. " ") then n = n + 1 end
  end
  return n
end

local function facts_of(w, want) return w.devices:reserve(want) end

-- Any GUID will do, as long as it is another one.
local guids = 0
local function device(path, vf)
  guids = guids + 1
  return { bus = "vpci", path = path, vf = vf, instance = ("%08x-0000-4000-8000-000000000000"):format(guids) }
end

describe("the device driver", function()
  it("reserves without a call [#232] [#278]", virtual(function()
    local w = fake.new()
    local facts = facts_of(w, disk "/a.img")
    assert.equal("/run/mounts/scsi/0_0_0", facts.guest_path)
    assert.equal("0", facts_of(w, share "/data").share)
    assert.same({}, w.calls)
  end))

  it("attaches, mounts, and goes the other way, the eject before the detach [#240] [#254] [#269] (known bugs 22, 108)", virtual(function()
    local w = fake.new()
    local facts = facts_of(w, disk "/a.img")
    local found = w.devices:map(facts)
    assert.equal("t0", found.loop.tag)
    w.devices:unmap(facts)
    assert.same({ "attach 0:0 /a.img ro", "mount /run/mounts/scsi/0_0_0", "unmount /run/mounts/scsi/0_0_0", "eject 0:0",
      "detach 0:0 loop" }, w.calls)
    assert.same({}, w.attached)
    assert.equal(0, w.devices.index:counts().slots_used)
  end))

  it("maps and unmaps twice without a further call [#241]", virtual(function()
    local w = fake.new()
    local facts = facts_of(w, disk "/a.img")
    w.devices:map(facts)
    assert.equal("t0", w.devices:map(facts).loop.tag)
    w.devices:unmap(facts)
    w.devices:unmap(facts)
    assert.equal(5, #w.calls)
  end))

  it("attaches a shared disk once; the second user waits for the attach in flight [#242] [#243] [#253] (known bug 104)", virtual(function()
    local w = fake.new()
    w.slow.attach = 2000
    local a, b = facts_of(w, disk "/a.img"), facts_of(w, disk "/a.img")
    task.all { function() w.devices:map(a) end, function() w.devices:map(b) end }
    assert.equal(1, calls_of(w, "attach"))
    assert.equal(1, calls_of(w, "mount"))
    w.devices:unmap(a)
    assert.equal(0, calls_of(w, "unmount"))
    assert.equal("0:0", w.mounted["/run/mounts/scsi/0_0_0"])
    w.devices:unmap(b)
    assert.same({}, w.attached)
  end))

  it("fails every waiter of a failed attach, and the next try starts clean [#245] [#247]", virtual(function()
    local w = fake.new()
    w.fail.attach = fake.host_error "internal"
    local a, b = facts_of(w, disk "/a.img"), facts_of(w, disk "/a.img")
    local codes = {}
    task.all {
      function() codes[1] = failure(w.devices.map, w.devices, a).code end,
      function() codes[2] = failure(w.devices.map, w.devices, b).code end,
    }
    assert.same({ "internal", "internal" }, codes)
    w.devices:unmap(a)
    assert.equal(1, w.devices.index:counts().slots_used)
    w.devices:unmap(b)
    assert.equal(0, w.devices.index:counts().slots_used)
    assert.equal(1, #w.calls)
    local c = facts_of(w, disk "/a.img")
    w.devices:map(c)
    assert.equal("/a.img", w.attached["0:0"])
  end))

  it("detaches a disk whose guest mount failed, and mounts anew afterwards [#250] [#252] (known bug 110)", virtual(function()
    local w = fake.new()
    w.fail.mount = fake.guest_error("mount", 0x80004005)
    local facts = facts_of(w, disk "/a.img")
    local e = failure(w.devices.map, w.devices, facts)
    assert.equal("unknown", e.code)
    assert.equal("guest", e.origin)
    assert.equal("/a.img: no", e.message) -- which of many disks it was
    w.devices:unmap(facts)
    assert.same({}, w.attached)
    local again = facts_of(w, disk "/a.img")
    w.devices:map(again)
    assert.equal(2, calls_of(w, "mount"))
  end))

  for _, case in ipairs { { "unmount", 256 }, { "eject", 257 }, { "detach", 258 } } do
    local step, number = table.unpack(case)
    it(("resumes at the %s that failed [#%d]"):format(step, number), virtual(function()
      local w = fake.new()
      local facts = facts_of(w, disk "/a.img")
      w.devices:map(facts)
      w.fail[step] = step == "detach" and fake.host_error "internal" or fake.guest_error(step, 0x80004005)
      failure(w.devices.unmap, w.devices, facts)
      w.devices:unmap(facts)
      for _, each in ipairs { "unmount", "eject", "detach" } do
        assert.equal(each == step and 2 or 1, calls_of(w, each), each)
      end
      assert.same({}, w.attached)
    end))
  end

  it("does not let one slow disk hold up another [#273]", virtual(function()
    local w = fake.new()
    w.slow.attach = 50000
    local slow = facts_of(w, disk "/slow.img")
    local t = task.spawn(function() w.devices:map(slow) end)
    task.sleep(1)
    w.slow.attach = nil
    local fast = facts_of(w, disk "/fast.img")
    w.devices:map(fast)
    assert.is_true(task.now() < 1000)
    t:join()
  end))

  it("takes the way down to its end before it uses a slot again whose attach timed out [#274] (known bug 100)", virtual(function()
    local w = fake.new()
    w.slow.attach = 90000 -- longer than the driver's patience
    local facts = facts_of(w, disk "/a.img")
    assert.equal("deadline_exceeded", failure(w.devices.map, w.devices, facts).code)
    w.slow.attach = nil
    local other = facts_of(w, disk "/b.img")
    assert.not_equal(facts.lun, other.lun)
    w.devices:unmap(facts)
    assert.equal(1, calls_of(w, "detach"))
    assert.equal(0, facts_of(w, disk "/c.img").lun)
  end))

  it("lets the effect run on when its caller gives up, and releases it afterwards", virtual(function()
    local w = fake.new()
    w.slow.attach = 5000
    local facts = facts_of(w, disk "/a.img")
    assert.equal("deadline_exceeded", failure(task.deadline, 1000, w.devices.map, w.devices, facts).code)
    w.devices:unmap(facts)
    assert.same({}, w.attached)
    assert.equal(1, calls_of(w, "attach"))
  end))

  it("ends the guest's part with the VM, and still does the host's [#275]", virtual(function()
    local w = fake.new()
    local facts = facts_of(w, disk "/a.img")
    w.devices:map(facts)
    w.kill_vm()
    w.guest = nil
    w.devices:unmap(facts)
    assert.same({}, w.attached)
    assert.equal(1, calls_of(w, "detach"))
  end))

  it("does not call a live VM's silence gone", virtual(function()
    local w = fake.new()
    local facts = facts_of(w, disk "/a.img")
    w.devices:map(facts)
    w.guest = nil
    assert.equal("unavailable", failure(w.devices.unmap, w.devices, facts).code)
    assert.equal("/a.img", w.attached["0:0"])
  end))

  it("repeats all fields of the mount in the unmount [#266] [#267] (known bug 109)", virtual(function()
    local w = fake.new()
    local facts = facts_of(w, disk("/a.img", { partition = 3, mount = { read_only = true, filesystem = "xfs", encrypted = true,
      options = { "ro" } } }))
    w.devices:map(facts)
    w.devices:unmap(facts)
    local up, down = w.guest_object.mounts_seen[1], w.guest_object.unmounts_seen[1]
    local messages = require "moonshim.guest.messages"
    assert.same(messages.disk_settings(up), messages.disk_settings(down))
    assert.equal(3, messages.disk_settings(down).Partition)
  end))

  it("has room for 256 disks and says so to the next [#229]", virtual(function()
    local w = fake.new()
    for i = 1, 256 do facts_of(w, disk(("/d%d.img"):format(i))) end
    assert.equal("resource_exhausted", failure(facts_of, w, disk "/more.img").code)
  end))

  it("shares one attachment between partitions [#236] [#255]", virtual(function()
    local w = fake.new()
    local p1, p2 = facts_of(w, disk("/a.img", { partition = 1 })), facts_of(w, disk("/a.img", { partition = 2 }))
    w.devices:map(p1)
    w.devices:map(p2)
    assert.equal(1, calls_of(w, "attach"))
    w.devices:unmap(p1)
    assert.equal(0, calls_of(w, "detach"))
    w.devices:unmap(p2)
    assert.equal(1, calls_of(w, "detach"))
  end))

  it("adds a share, mounts it on 564, and takes both away [#285]", virtual(function()
    local w = fake.new()
    local facts = facts_of(w, share "/data")
    w.devices:map(facts)
    assert.equal(564, w.guest_object.mounts_seen[1].port)
    w.devices:unmap(facts)
    assert.same({ "add 0 /data", "mount /run/mounts/plan9/0", "unmount /run/mounts/plan9/0", "remove 0" }, w.calls)
    assert.equal("1", facts_of(w, share "/data").share) -- names are never used again
  end))

  it("flags read-only shares and restricts single files [#286] [#287]", virtual(function()
    local w = fake.new()
    w.devices:map(facts_of(w, share("/data", { read_only = true })))
    w.devices:map(facts_of(w, share("/etc", { restrict = true, names = { "hosts" } })))
    assert.same({ true, true }, { w.guest_object.mounts_seen[1].read_only, not w.guest_object.mounts_seen[2].read_only })
    local dir, file = table.unpack(w.uvm_object.shares_seen)
    assert.equal(0x5, dir.Flags)
    assert.equal(0x84, file.Flags)
    assert.same({ "hosts" }, { table.unpack(file.AllowedFiles) })
    assert.same({ "0", "0", 564 }, { dir.Name, dir.AccessName, dir.Port })
  end))

  it("keeps a read-only and a writable view of one folder apart [#282]", virtual(function()
    local w = fake.new()
    local ro, rw = facts_of(w, share("/data", { read_only = true })), facts_of(w, share "/data")
    assert.not_equal(ro.share, rw.share)
  end))

  it("denies writable shares under the policy, before anything happens [#284] [#154]", virtual(function()
    local w = fake.new { no_writable_shares = true }
    assert.equal("permission_denied", failure(facts_of, w, share "/data").code)
    assert.truthy(facts_of(w, share("/data", { read_only = true })))
  end))

  it("resumes at the host's part of a share whose removal failed [#295] [#296]", virtual(function()
    local w = fake.new()
    local facts = facts_of(w, share "/data")
    w.devices:map(facts)
    w.fail.remove = fake.host_error "internal"
    failure(w.devices.unmap, w.devices, facts)
    w.devices:unmap(facts)
    assert.equal(1, calls_of(w, "unmount"))
    assert.equal(2, calls_of(w, "remove"))
  end))
end)

describe("device facts of an earlier process", function()
  -- What the first world held, released by a second one that never made it.
  local function successor(first, receipts, opts)
    local w = fake.new(opts)
    for key, path in pairs(first.attached) do w.attached[key] = path end
    for path, key in pairs(first.mounted) do w.mounted[path] = key end
    for name, s in pairs(first.shares) do w.shares[name] = s end
    if receipts then w.devices:restore(receipts) end
    return w
  end

  local function held(w, want)
    local facts = facts_of(w, want)
    for k, v in pairs(w.devices:map(facts)) do facts[k] = v end
    return { facts = facts, state = "held" }
  end

  it("are released from the facts alone, with the loop device that was found", virtual(function()
    local first = fake.new()
    local r = held(first, disk "/a.img")
    local w = successor(first, { r })
    w.devices:unmap(r.facts)
    w.devices:unmap(r.facts)
    assert.same({}, w.attached)
    assert.same({ "unmount /run/mounts/scsi/0_0_0", "eject 0:0", "detach 0:0 loop" }, w.calls)
  end))

  it("leave a disk to its other holder", virtual(function()
    local first = fake.new()
    local a, b = held(first, disk "/a.img"), held(first, disk "/a.img")
    local w = successor(first, { a, b })
    w.devices:unmap(a.facts)
    assert.same({}, w.calls)
    w.devices:unmap(b.facts)
    assert.same({}, w.attached)
  end))

  it("that were only intended are taken down as far as they may have come", virtual(function()
    local first = fake.new()
    local facts = facts_of(first, disk "/a.img")
    local w = successor(first, { { facts = facts, state = "intended" } })
    w.devices:unmap(facts)
    assert.equal("detach 0:0", w.calls[#w.calls])
  end))

  it("need no restore before a release, in any order", virtual(function()
    local first = fake.new()
    local a, b = held(first, disk "/a.img"), held(first, share "/data")
    local w = successor(first)
    w.devices:unmap(b.facts)
    w.devices:unmap(a.facts)
    assert.same({}, w.attached)
    assert.same({}, w.shares)
  end))

  it("of a dead VM cost no guest call, and the host's part is still done", virtual(function()
    local first = fake.new()
    local r, s = held(first, disk "/a.img"), held(first, share "/data")
    local removed = {}
    local w = fake.new { no_vm = true, host = {
      run_dir = function() return "/run/moonshim-spec/none" end,
      remains = function() return { modify = function(_, request, found) removed[#removed + 1] = { request.ResourcePath,
        found.loop.tag } end } end,
    } }
    w.devices:restore { r, s }
    w.devices:unmap(r.facts)
    w.devices:unmap(s.facts)
    assert.same({ { "VirtualMachine/Devices/Scsi/0/Attachments/0", "t0" } }, removed)
  end))
end)

describe("a random life of devices", function()
  it("ends with nothing held, whatever failed on the way", virtual.seeds(20, function(v)
    local w = fake.new()
    local random = v.seed * 7919
    local function pick(n)
      random = (random * 1103515245 + 12345) & 0x7fffffff
      return random % n
    end
    local live = {}
    for _ = 1, 200 do
      local action = pick(4)
      if action == 0 and #live < 30 then
        local want = pick(2) == 0 and disk(("/d%d.img"):format(pick(5))) or share(("/s%d"):format(pick(5)))
        live[#live + 1] = facts_of(w, want)
      elseif action == 1 and #live > 0 then
        local steps = { "attach", "mount", "unmount", "eject", "detach", "add", "remove" }
        w.fail[steps[pick(#steps) + 1]] = pick(2) == 0 and fake.host_error "internal" or err.new("deadline_exceeded", "late",
          { origin = "host" })
      elseif action == 2 and #live > 0 then
        pcall(w.devices.map, w.devices, live[pick(#live) + 1])
      elseif #live > 0 then
        local at = pick(#live) + 1
        if pcall(w.devices.unmap, w.devices, live[at]) then table.remove(live, at) end
      end
    end
    for step in pairs(w.fail) do w.fail[step] = nil end
    for _, facts in ipairs(live) do w.devices:unmap(facts) end
    assert.same({}, w.attached)
    assert.same({}, w.mounted)
    assert.same({}, w.shares)
    assert.equal(0, w.devices.index:counts().reservations)
  end))
end)

describe("the device driver and PCI devices", function()
  it("assigns, waits for the guest, and takes away without a word to it [#306] [#309] [#312] [#321]", virtual(function()
    local w = fake.new()
    local facts = facts_of(w, device("/dev/x", 3))
    assert.same({}, w.calls)
    w.devices:map(facts)
    assert.same({ Functions = { { DeviceInstancePath = "/dev/x", VirtualFunction = 3 } }, PropagateNumaAffinity = true },
      w.uvm_object.devices_seen[1])
    w.devices:unmap(facts)
    assert.same({ "assign #1 /dev/x vf 3", "wait #1", "unassign #1" }, w.calls)
    assert.not_equal(facts.instance, facts_of(w, device("/dev/x", 3)).instance)
  end))

  it("assigns once for all holders, and removes with the last [#307] [#308] [#314]", virtual(function()
    local w = fake.new()
    local a, b, other = facts_of(w, device "/dev/x"), facts_of(w, device "/dev/x"), facts_of(w, device("/dev/x", 1))
    assert.equal(a.instance, b.instance)
    assert.not_equal(a.instance, other.instance)
    w.devices:map(b)
    w.devices:unmap(a) -- it never added anything
    w.devices:unmap(other)
    assert.same({ "assign #1 /dev/x", "wait #1" }, w.calls)
    w.devices:map(b)
    w.devices:unmap(b)
    assert.same({}, w.assigned)
    assert.equal(3, #w.calls)
  end))

  it("asks nothing back of an assignment that failed [#315] [#316]", virtual(function()
    local w = fake.new()
    w.fail.assign = fake.host_error("permission_denied", "not yours")
    local a, b = facts_of(w, device "/dev/x"), facts_of(w, device "/dev/x")
    local e = failure(w.devices.map, w.devices, a)
    assert.equal("permission_denied", e.code)
    assert.equal("/dev/x: not yours", e.message)
    w.devices:unmap(a)
    w.devices:unmap(b)
    assert.same({ "assign #1 /dev/x" }, w.calls)
  end))

  it("refuses a device that the guest did not see, until it was taken back [#317] [#318]", virtual(function()
    local w = fake.new()
    w.fail.wait_device = fake.guest_error("modify.add.VPCIDevice", 0x80004005)
    local a, b = facts_of(w, device "/dev/x"), facts_of(w, device "/dev/x")
    assert.equal("unknown", failure(w.devices.map, w.devices, a).code)
    assert.equal("failed_precondition", failure(w.devices.map, w.devices, b).code)
    assert.equal(2, #w.calls)
    w.devices:unmap(a)
    w.fail.unassign = fake.host_error "internal"
    assert.equal("internal", failure(w.devices.unmap, w.devices, b).code)
    w.devices:unmap(b)
    assert.same({}, w.assigned)
    w.devices:map(facts_of(w, device "/dev/x"))
  end))

  it("repeats a removal that failed [#319]", virtual(function()
    local w = fake.new()
    local a = facts_of(w, device "/dev/x")
    w.devices:map(a)
    w.fail.unassign = fake.host_error "internal"
    failure(w.devices.unmap, w.devices, a)
    assert.equal("failed_precondition", failure(w.devices.map, w.devices, a).code)
    w.devices:unmap(a)
    assert.equal(2, calls_of(w, "unassign"))
    assert.same({}, w.assigned)
  end))

  it("lets a removal end within a limit, and knows then that it does not know (known bug 123)", virtual(function()
    local w = fake.new()
    local a = facts_of(w, device "/dev/x")
    w.devices:map(a)
    w.slow.unassign = 3600000
    local before = task.now()
    failure(w.devices.unmap, w.devices, a)
    assert.equal(30000, task.now() - before)
    w.slow.unassign = nil
    w.devices:unmap(a)
    assert.same({}, w.assigned)
  end))

  it("does not let one device wait for another [#324]", virtual(function()
    local w = fake.new()
    local a, b = facts_of(w, device "/dev/a"), facts_of(w, device "/dev/b")
    w.slow.wait_device = 60000
    local slow = task.spawn(function() w.devices:map(a) end)
    task.sleep(10)
    w.slow.wait_device = nil
    w.devices:map(b)
    assert.is_true(task.now() < 60000)
    slow:join()
  end))

  it("takes a device for gone with the VM, and what of it is on the host back [#322]", virtual(function()
    local w = fake.new()
    local a = facts_of(w, device "/dev/x")
    w.devices:map(a)
    w.kill_vm()
    w.devices:unmap(a)
    assert.equal(0, w.devices.index:counts().parents)
    assert.same({}, w.assigned)
  end))

  it("puts devices of an earlier process back by their facts", virtual(function()
    local w = fake.new()
    local a = facts_of(w, device "/dev/x")
    for k, v in pairs(w.devices:map(a)) do a[k] = v end
    w.devices = require("moonshim.devices").new(w, { core = w.core })
    w.devices:restore { { facts = a, state = "held" } }
    w.devices:unmap(a)
    assert.same({}, w.assigned)
    assert.equal("unassign #1", w.calls[3])
  end))

  it("releases everything in a hundred rounds, one in ten failing (known bug 124)", virtual(function()
    local w = fake.new()
    for round = 1, 100 do
      if round % 10 == 0 then w.fail[round % 20 == 0 and "assign" or "wait_device"] = fake.host_error "internal" end
      local a = facts_of(w, device "/dev/x")
      pcall(w.devices.map, w.devices, a)
      w.devices:unmap(a)
      assert.same({}, w.assigned)
    end
    assert.equal(0, w.devices.index:counts().reservations)
  end))
end)

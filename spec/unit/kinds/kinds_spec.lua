local core = require "moonshim.core"
local err = require "moonshim.err"
local fake = require "support.fake_host"
local journal = require "moonshim.journal"
local kind = require "moonshim.kind"
local ledger = require "moonshim.ledger"
local task = require "moonshim.task"
local virtual = require "support.virtual"

local FILES = {
  ["/img/base.ext4"] = { format = "ext4" }, ["/img/app.ext4"] = { format = "ext4" }, ["/img/x.squashfs"] = { format = "squashfs" },
  ["/data"] = "directory", ["/data/file.txt"] = "file", ["/scratch.img"] = { format = "ext4" }, ["/empty.img"] = { blank = true },
  ["/notes.txt"] = "file",
  ["/img/base.erofs"] = { format = "erofs" }, ["/img/erofs.vhd"] = { format = "vhd", inner = "erofs" },
  ["/dev/sdx"] = { kind = "block", format = "ext4" },
}

local function failure(fn, ...)
  local ok, e = pcall(fn, ...)
  assert.is_false(ok, "did not fail")
  return err.from(e)
end

-- A world whose file calls are remembered and do nothing, and a ledger over it.
local function given(opts)
  opts = opts or {}
  local files = {}
  local sys = setmetatable({
    make_sparse = function(path, bytes, cb)
      files[path] = bytes
      cb(true)
      return true
    end,
    remove_tree = function(path, cb)
      files[path] = nil
      files.removed = (files.removed or "") .. path
      cb(true)
      return true
    end,
    mkdir_p = function(path)
      files[path] = "directory"
      return true
    end,
  }, { __index = core.sys })
  opts.core = setmetatable({ sys = sys }, { __index = core })
  opts.devices = nil
  local w = fake.new(opts).with_files(FILES)
  rawset(w, "host_files", files)
  local L = ledger.open { journal = journal.memory(), world = w }
  return w, L, function(name, args) return L:acquire { owner = "vm/p/c", kind = name, args = args } end
end

local function release(w, receipt, step) kind.get(receipt.kind).release(w, receipt.facts, step or { goal = "delete" }) end

describe("kind layer", function()
  it("is a read-only disk for an image", virtual(function()
    local w, _, acquire = given()
    local r = acquire("layer", { path = "/img/base.ext4" })
    assert.same({ "attach 0:0 /img/base.ext4 ro", "mount /run/mounts/scsi/0_0_0" }, w.calls)
    assert.equal("t0", r.facts.loop.tag)
    assert.same({ "ro" }, { table.unpack(r.facts.mount.options) })
    release(w, r)
    release(w, r)
    assert.same({}, w.attached)
  end))

  it("is a read-only share for a directory", virtual(function()
    local w, _, acquire = given()
    local r = acquire("layer", { path = "/data" })
    assert.same({ "add 0 /data ro", "mount /run/mounts/plan9/0" }, w.calls)
    release(w, r)
    assert.same({}, w.shares)
  end))

  it("passes a block device through, and refuses what it cannot read", virtual(function()
    local _, L, acquire = given()
    assert.equal("PassThru", acquire("layer", { path = "/dev/sdx" }).facts.type)
    assert.truthy(failure(acquire, "layer", { path = "/img/x.squashfs" }).message:find("squashfs", 1, true))
    assert.equal("not_found", failure(acquire, "layer", { path = "/nope" }).code)
    assert.equal(1, #L:all())
  end))

  it("is intended when its mount failed, and can then be released [#122]", virtual(function()
    local w, L, acquire = given()
    w.fail.mount = fake.guest_error("mount", 0x80004005)
    failure(acquire, "layer", { path = "/img/base.ext4" })
    local r = L:all()[1]
    assert.equal("intended", r.state)
    release(w, r)
    assert.same({}, w.attached)
  end))
end)

describe("kind layer of erofs", function()
  it("says the file system, which not every guest finds out by itself", virtual(function()
    local _, _, acquire = given()
    assert.equal("erofs", acquire("layer", { path = "/img/base.erofs" }).facts.mount.filesystem)
    assert.is_nil(acquire("layer", { path = "/img/base.ext4" }).facts.mount.filesystem)
    assert.equal("erofs", acquire("layer", { path = "/img/erofs.vhd" }).facts.mount.filesystem)
  end))
end)

describe("kind device", function()
  it("is assigned under a random GUID, shared by containers, and given back by the last", virtual(function()
    local w, _, acquire = given()
    local a = acquire("device", { path = "/dev/fuse", index = 2, destination = "/dev/f", access = "r" })
    local b = acquire("device", { path = "/dev/fuse" })
    assert.truthy(a.facts.instance:find "^%x+%-%x%x%x%x%-4%x%x%x%-[89ab]%x%x%x%-%x+$", a.facts.instance)
    assert.equal(36, #a.facts.instance)
    assert.same({ 2, "/dev/f", "r", "vpci" }, { a.facts.index, a.facts.destination, a.facts.access, a.facts.bus })
    assert.equal(a.facts.instance, b.facts.instance)
    assert.same({ major = 1, minor = 2 }, a.facts.node)
    release(w, a)
    assert.equal(2, #w.calls)
    release(w, b)
    release(w, b)
    assert.same({}, w.assigned)
    assert.equal("held", a.state)
  end))

  it("is not even reserved when no GUID can be made for it [#325]", virtual(function()
    local w, L, acquire = given()
    w.core.sys.random_hex = function() return nil, err.new("unavailable", "no random numbers") end
    assert.equal("unavailable", failure(acquire, "device", { path = "/dev/fuse" }).code)
    assert.same({ {}, {}, 0 }, { w.calls, L:all(), w.devices.index:counts().parents })
  end))

  it("is intended when the guest did not see it, and can then be released [#166]", virtual(function()
    local w, L, acquire = given()
    w.fail.wait_device = fake.guest_error("modify.add.VPCIDevice", 0x80004005)
    failure(acquire, "device", { path = "/dev/fuse" })
    local r = L:all()[1]
    assert.equal("intended", r.state)
    release(w, r)
    assert.same({}, w.assigned)
  end))

  it("is taken back after a crash that came before its node was known", virtual(function()
    local w, _, acquire = given()
    local r = acquire("device", { path = "/dev/fuse" })
    r.facts.node = nil
    w.devices = require("moonshim.devices").new(w, { core = w.core })
    w.kill_vm()
    release(w, r, { goal = "crash" })
    assert.same({}, w.assigned)
  end))
end)

describe("slots that run out", function()
  it("are an error that says so, and leave everybody else alone [#229]", virtual(function()
    local list = {}
    for i = 1, 257 do list["/many/" .. i] = { format = "ext4" } end
    local w, L, acquire = given()
    w.with_files(list)
    for i = 1, 256 do acquire("layer", { path = "/many/" .. i }) end
    local e = failure(acquire, "layer", { path = "/many/257" })
    assert.equal("resource_exhausted", e.code)
    assert.truthy(e.message:find("no free SCSI slot: all 256 of 4 controllers are taken", 1, true), e.message)
    assert.equal(256, #L:all())
    assert.truthy(acquire("layer", { path = "/many/1" })) -- a disk that is there has its slot
    release(w, L:get "layer-3")
    assert.truthy(acquire("layer", { path = "/many/257" }))
  end))
end)

describe("one path read-only and writable", function()
  it("is two shares [#153]", virtual(function()
    local w, _, acquire = given()
    local ro = acquire("share", { path = "/data", read_only = true })
    local rw = acquire("share", { path = "/data", read_only = false })
    assert.not_equal(ro.facts.guest_path, rw.facts.guest_path)
    assert.same({ "add 0 /data ro", "mount /run/mounts/plan9/0", "add 1 /data", "mount /run/mounts/plan9/1" }, w.calls)
  end))

  it("is refused for a disk, and says how it is in use [#234]", virtual(function()
    local _, L, acquire = given()
    acquire("layer", { path = "/img/base.ext4" })
    local e = failure(acquire, "disk", { path = "/img/base.ext4", read_only = false })
    assert.equal("failed_precondition", e.code)
    assert.truthy(e.message:find("/img/base.ext4 is in use read-only in this VM and cannot be writable at the same time", 1, true),
      e.message)
    assert.equal(1, #L:all())
  end))
end)

describe("kind scratch", function()
  it("by size is a file of ours, formatted by the guest, deleted at the end", virtual(function()
    local w, _, acquire = given()
    local r = acquire("scratch", { size = 1 << 26, pod = "p", container = "c" })
    assert.equal(1 << 26, w.host_files[r.facts.file])
    assert.truthy(r.facts.file:find("^/run/moonshim%-spec/none/scratch%-%x+%.img$"))
    assert.is_true(r.facts.mount.ensure_filesystem)
    assert.equal("ext4", r.facts.mount.filesystem)
    assert.equal("/run/mounts/scsi/0_0_0/scratch/p/c", r.facts.scratch_dir)
    release(w, r)
    assert.is_nil(w.host_files[r.facts.file])
    release(w, r)
  end))

  it("by size may lie in another folder", virtual(function()
    local _, _, acquire = given()
    assert.truthy(acquire("scratch", { size = 1 << 26, folder = "/big", pod = "p", container = "c" }).facts.file:find("^/big/scratch%-"))
  end))

  it("by path is the user's file: shared by containers, each in its own folder, and never deleted [#126]", virtual(function()
    local w, _, acquire = given()
    local a = acquire("scratch", { path = "/scratch.img", pod = "p", container = "c1" })
    local b = acquire("scratch", { path = "/scratch.img", pod = "p", container = "c2" })
    assert.equal(a.facts.guest_path, b.facts.guest_path)
    assert.not_equal(a.facts.scratch_dir, b.facts.scratch_dir)
    release(w, a)
    assert.equal("0:0", w.mounted[b.facts.guest_path])
    release(w, b)
    assert.same({}, w.attached)
    assert.is_nil(w.host_files.removed)
  end))

  it("is never a file that holds something else", virtual(function()
    local _, _, acquire = given()
    assert.equal("failed_precondition", failure(acquire, "scratch", { path = "/notes.txt", pod = "p", container = "c" }).code)
    assert.truthy(acquire("scratch", { path = "/empty.img", pod = "p", container = "c" }))
    assert.equal("invalid_argument", failure(acquire, "scratch", { pod = "p", container = "c" }).code)
  end))

  it("deletes no file whose name is not its own", virtual(function()
    local w = given()
    local k = kind.get "scratch"
    local facts = w.devices:reserve { bus = "scsi", path = "/data/x", mount = {} }
    facts.file = "/data/precious.db"
    assert.equal("internal", failure(k.release, w, facts, {}).code)
    assert.is_nil(w.host_files.removed)
  end))
end)

describe("kind share", function()
  it("is a folder, writable unless asked otherwise", virtual(function()
    local w, _, acquire = given()
    local r = acquire("share", { path = "/data", mount_index = 7 })
    assert.equal(r.facts.guest_path, r.facts.source)
    assert.equal(7, r.facts.mount_index)
    assert.equal("add 0 /data", w.calls[1])
    release(w, r)
    assert.is_nil(w.host_files.removed)
  end))

  it("is one file of its folder [#151] [#287]", virtual(function()
    local w, _, acquire = given()
    local r = acquire("share", { path = "/data/file.txt", read_only = true })
    assert.equal("add 0 /data ro only file.txt", w.calls[1])
    assert.equal("/run/mounts/plan9/0/file.txt", r.facts.source)
  end))
end)

describe("kind disk", function()
  it("of a provider is his to open: nobody asks for access to its path [#140]", virtual(function()
    local w, _, acquire = given()
    local r = acquire("disk", { path = "/path/of/it", type = "ExtensibleVirtualDisk", provider = "prov" })
    assert.same({ "ExtensibleVirtualDisk", "prov", "/path/of/it" }, { r.facts.type, r.facts.provider, r.facts.path })
    assert.same({}, w.files.asked)
    acquire("disk", { path = "/img/base.ext4", type = "VirtualDisk", read_only = true })
    assert.same({ "read /img/base.ext4" }, w.files.asked)
  end))

  it("keeps the user's options and never formats", virtual(function()
    local _, _, acquire = given()
    local r = acquire("disk", { path = "/img/base.ext4", type = "VirtualDisk", options = { "rshared" }, mount_index = 2 })
    assert.is_false(r.facts.mount.ensure_filesystem)
    assert.equal("/run/mounts/scsi/0_0_0", r.facts.source)
  end))
end)

describe("kinds bundle and overlay", function()
  local function container(acquire, opts)
    opts = opts or {}
    local layers = { acquire("layer", { path = "/img/base.ext4" }), acquire("layer", { path = "/img/app.ext4" }) }
    local scratch = not opts.read_only and acquire("scratch", { path = "/scratch.img", pod = "p", container = "c" }) or nil
    local bundle = acquire("bundle", { pod = "p", container = "c", scratch = scratch })
    local overlay = acquire("overlay", { layers = layers, scratch = scratch, bundle = bundle, mount_points = opts.points })
    return overlay, bundle, layers, scratch
  end

  it("combine top-most layer first over the container's part of the scratch disk", virtual(function()
    local w, _, acquire = given()
    container(acquire)
    assert.equal("combine /run/gcs/pods/p/c/rootfs: /run/mounts/scsi/0_1_0 /run/mounts/scsi/0_0_0 + /run/mounts/scsi/0_2_0/scratch/p/c",
      w.calls[#w.calls])
  end))

  it("tell the guest which mount points a root needs that cannot be written", virtual(function()
    local w, _, acquire = given()
    local points = { { path = "/srv/app" }, { path = "/etc/app.conf", file = true } }
    container(acquire, { read_only = true, points = points })
    assert.same(points, w.guest_object.points_seen)
    assert.equal("combine /run/gcs/pods/p/c/rootfs: /run/mounts/scsi/0_1_0 /run/mounts/scsi/0_0_0", w.calls[#w.calls])
    container(acquire, { points = points })
    assert.is_nil(w.guest_object.points_seen)
  end))

  it("are released by what the guest says: gone containers are done, running ones are not", virtual(function()
    local w, _, acquire = given()
    local _, bundle = container(acquire)
    w.fail.delete_state = fake.guest_error("delete_state", 0xC037010E)
    release(w, bundle)
    w.fail.delete_state = fake.guest_error("delete_state", 0x80370105)
    assert.equal("failed_precondition", failure(release, w, bundle).code)
  end))

  it("count as gone with the VM", virtual(function()
    local w, _, acquire = given()
    local overlay, bundle = container(acquire)
    w.kill_vm()
    w.guest = nil
    release(w, overlay)
    release(w, bundle)
    assert.equal("gone", kind.get("overlay").verify(w, overlay.facts))
  end))

  it("name only what can be a folder", virtual(function()
    local _, L, acquire = given()
    assert.equal("invalid_argument", failure(acquire, "bundle", { pod = "p", container = "../c" }).code)
    assert.equal(0, #L:all())
  end))
end)

describe("kind process", function()
  local function spec()
    return { process = { args = { "sh" }, cwd = "/" }, root = {}, linux = {}, mounts = {
      { destination = "/d", type = "bind", source = "/data" } } }
  end

  local function container(acquire, opts)
    opts = opts or {}
    local bundle = acquire("bundle", { pod = "p", container = "c" })
    local rootfs = acquire("share", { path = "/data" })
    local mount = acquire("share", { path = "/data", read_only = true, mount_index = 1 })
    return acquire("process", { exec = "", pod = "p", container = "c", bundle = bundle, rootfs = rootfs, mounts = { mount },
      stdio = opts.stdio, spec = spec() })
  end

  local ladder = { goal = "stop", args = { ladder = { { "TERM", wait = "10s" }, { "KILL", wait = "10s" } } } }

  it("creates the container in the guest, with guest paths and nothing of the host", virtual(function()
    local w, L, acquire = given()
    local r = container(acquire)
    local doc = w.guest_object.documents.c
    assert.equal("/run/gcs/pods/p/c", doc.OciBundlePath)
    assert.equal("/run/mounts/plan9/0", doc.OciSpecification.root.path)
    assert.equal("/run/mounts/plan9/1", doc.OciSpecification.mounts[1].source)
    assert.same({ container = "c", exec = "" }, r.facts)
    assert.equal("held", L:get(r.name).state)
  end))

  it("starts it, keeps the pid in the journal, and brings its exit", virtual(function()
    local w, L, acquire = given()
    local k, r = kind.get "process", container(acquire)
    assert.equal(101, k.start(w, r, L))
    assert.equal(101, r.facts.pid)
    local waiting = task.spawn(function() return k.wait(w, r) end)
    w.guest_object.exits[101]:fire(7)
    assert.same({ code = 7 }, waiting:join())
    release(w, r, ladder)
    assert.is_nil(table.concat(w.calls, "\n"):find "signal")
  end))

  it("climbs the ladder only as far as needed", virtual(function()
    local w, L, acquire = given()
    local k, r = kind.get "process", container(acquire)
    k.start(w, r, L)
    w.guest_object.deadly = { [9] = true }
    release(w, r, ladder)
    assert.equal(10000, task.now())
    assert.equal(137, k.wait(w, r).code)
    local text = table.concat(w.calls, "\n")
    assert.truthy(text:find("signal c 101 15\nsignal c 101 9", 1, true))
  end))

  it("fails when nothing ends it", virtual(function()
    local w, L, acquire = given()
    local r = container(acquire)
    kind.get("process").start(w, r, L)
    w.guest_object.deadly = {}
    assert.equal("deadline_exceeded", failure(release, w, r, ladder).code)
    w.guest_object.exits[101]:fire(0)
  end))

  it("only waits for a delete, within the step", virtual(function()
    local w, L, acquire = given()
    local r = container(acquire)
    kind.get("process").start(w, r, L)
    assert.equal("deadline_exceeded", failure(task.deadline, 5000, release, w, r, { goal = "delete" }).code)
    assert.is_nil(table.concat(w.calls, "\n"):find "signal")
    w.guest_object.exits[101]:fire(0)
    release(w, r)
  end))

  it("has ended when the guest no longer knows it (known bug 14)", virtual(function()
    local w, L, acquire = given()
    local r = container(acquire)
    kind.get("process").start(w, r, L)
    w.fail.signal = fake.guest_error("signal", 0x80070490)
    w.guest_object.exits[101]:fire(fake.guest_error("wait", 0x80070490))
    release(w, r, ladder)
    local exit = kind.get("process").wait(w, r)
    assert.equal(255, exit.code)
    assert.truthy(exit.reason)
  end))

  it("ends with code 255 and a reason when the VM dies (known bug 134) [#373]", virtual(function()
    local w, L, acquire = given()
    local r = container(acquire)
    kind.get("process").start(w, r, L)
    w.kill_vm()
    local exit = kind.get("process").wait(w, r)
    assert.same({ code = 255, reason = "the VM is gone" }, exit)
    release(w, r, ladder)
  end))

  it("that was never started goes with the container's state", virtual(function()
    local w, _, acquire = given()
    local r = container(acquire)
    release(w, r, ladder)
    assert.is_nil(table.concat(w.calls, "\n"):find "signal")
  end))

  it("whose start came to no known end is shot", virtual(function()
    local w, L, acquire = given()
    local r = container(acquire)
    w.fail.execute = err.new("deadline_exceeded", "late", { origin = "shim" })
    failure(kind.get("process").start, w, r, L)
    release(w, r, ladder)
    assert.equal("shutdown c true", w.calls[#w.calls])
  end))

  it("of an exec is recorded first and run by start", virtual(function()
    local w, L, acquire = given()
    local init = container(acquire)
    local k = kind.get "process"
    k.start(w, init, L)
    local before = #w.calls
    local r = acquire("process", { exec = "e1", pod = "p", container = "c", oci_process = { args = { "ls" }, cwd = "/" } })
    assert.equal(before, #w.calls)
    assert.equal(102, k.start(w, r, L))
    assert.equal("execute c exec", w.calls[#w.calls])
    w.guest_object.exits[102]:fire(0)
    assert.equal(0, k.wait(w, r).code)
    w.guest_object.exits[101]:fire(0)
  end))

  it("puts no arguments and no environment into the journal", virtual(function()
    local _, L, acquire = given()
    acquire("process", { exec = "e1", pod = "p", container = "c", oci_process = { args = { "secret-word" }, cwd = "/" } })
    assert.is_nil(L.journal:bytes():find("secret-word", 1, true))
  end))
end)

describe("kind uvm", function()
  it("is terminated from facts alone by another process", virtual(function()
    local ended
    local w = given { no_vm = true, host = { run_dir = function() return "/x" end, terminate = function(facts) ended = facts end } }
    kind.get("uvm").release(w, { id = "vm1", run_dir = "/x", cgroup = "moonshim/0" }, {})
    assert.equal("vm1", ended.id)
  end))

  it("is terminated by its driver where it was made", virtual(function()
    local w = given()
    kind.get("uvm").release(w, {}, {})
    assert.equal("terminate", w.calls[1])
    assert.is_false(w.alive())
  end))
end)

describe("a dry world", function()
  it("reserves a whole container without a call", virtual(function()
    local w = given()
    local L = ledger.open { journal = journal.memory(), world = w, dry = true }
    local function acquire(name, args) return L:acquire { owner = "vm/p/c", kind = name, args = args } end
    local layer = acquire("layer", { path = "/img/base.ext4" })
    local scratch = acquire("scratch", { size = 1 << 26, pod = "p", container = "c" })
    local bundle = acquire("bundle", { pod = "p", container = "c", scratch = scratch })
    local overlay = acquire("overlay", { layers = { layer }, scratch = scratch, bundle = bundle })
    local stdio = acquire("stdio", { stdout = { fd = 1 } })
    acquire("process", { exec = "", pod = "p", container = "c", bundle = bundle, rootfs = overlay, stdio = stdio, spec = {} })
    assert.same({}, w.calls)
    assert.same({}, w.host_files)
    assert.equal(6, #L:all())
  end))
end)

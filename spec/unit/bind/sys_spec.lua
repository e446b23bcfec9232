local uv = require "luv"
local core = require "moonshim.core"
local sys = core.sys

local before, dir
before_each(function()
  collectgarbage()
  collectgarbage()
  before = core.stats()
  dir = assert(uv.fs_mkdtemp "/tmp/moonshim-bind-XXXXXX")
end)
after_each(function()
  local done
  sys.remove_tree(dir, function(ok) done = ok end)
  uv.run()
  assert.is_true(done)
  collectgarbage()
  collectgarbage()
  assert.same(before, core.stats())
end)

---Calls f(args..., done) and runs the loop until it has answered.
local function wait(f, ...)
  local args, got = table.pack(...), nil
  args[args.n + 1] = function(...) got = table.pack(...) end
  assert(f(table.unpack(args, 1, args.n + 1)))
  assert.is_nil(got)
  while not got do uv.run "once" end
  return table.unpack(got, 1, got.n)
end

describe("what may block", function()
  it("answers from the loop", function()
    assert.is_true((wait(sys.make_sparse, dir .. "/img", 1 << 20)))
    assert.same({ format = "unknown", inner = "unknown", size = 1 << 20 }, (wait(sys.detect_image, dir .. "/img")))
    local _, e = wait(sys.make_sparse, dir .. "/img", 1)
    assert.equal("already_exists", e.code)
  end)
  it("runs many at once, each with its own answer", function()
    local n = 0
    for i = 1, 200 do
      assert(sys.make_sparse(dir .. "/" .. i, i, function(ok) n = n + (ok and 1 or 0) end))
    end
    uv.run()
    assert.equal(200, n)
  end)
  it("says gone for what is not there", function()
    assert.equal("gone", select(2, wait(sys.umount, dir .. "/x", nil)).code)
    assert.equal("gone", select(2, wait(sys.loop_detach, { index = 4000, dev = 1, ino = -1, tag = "x" })).code)
    assert.equal("gone", select(2, wait(sys.loop_verify, { index = 4000, dev = 1, ino = -1, tag = "x" })).code)
  end)
  it("removes control groups that are not there", function() assert.is_true((wait(sys.cgroup_remove, { "moonshim-spec/none" }))) end)
  it("refuses a path that leads out of the control groups", function()
    assert.equal("invalid_argument", select(2, wait(sys.cgroup_remove, "../x")).code)
  end)
  it("reports what a callback raises", function()
    local reported
    core.on_error(function(e) reported = e end)
    assert(sys.detect_image(dir, function() error "boom" end))
    uv.run()
    core.on_error(nil)
    assert.truthy(reported:find("boom", 1, true))
  end)
end)

describe("quick calls", function()
  it("make folders, pipes and names", function()
    assert.is_true(sys.mkdir_p(dir .. "/a/b/c", 448))
    assert.equal("directory", uv.fs_stat(dir .. "/a/b/c").type)
    local r, w = sys.pipe()
    uv.fs_write(w, "x\0y")
    assert.equal("x\0y", uv.fs_read(r, 10))
    sys.close(r)
    sys.close(w)
    assert.equal(16, #sys.random_hex(8))
    assert.equal(36, #sys.boot_id())
  end)
  it("do not close the standard descriptors", function()
    assert.has_error(function() sys.close(1) end)
  end)
end)

describe("a process", function()
  local function child(script)
    local handle, pid
    handle, pid = uv.spawn("/bin/sh", { args = { "-c", script } }, function() handle:close() end)
    return pid
  end

  it("is watched to its end, and stays libuv's to reap", function()
    local pid = child "exit 7"
    local got
    assert(sys.watch_process({ pid = pid, start_time = sys.start_time(pid) }, function(how) got = how end))
    uv.run()
    assert.same({ code = 7, signal = 0 }, got)
  end)
  it("is killed only if it is the one that is meant (known bug 9)", function()
    local pid = child "exec sleep 100"
    local start = sys.start_time(pid)
    assert.equal("gone", select(2, sys.kill_process { pid = pid, start_time = start + 1, signal = 9 }).code)
    local got
    assert(sys.watch_process({ pid = pid, start_time = start }, function(how) got = how end))
    assert.is_true(sys.kill_process { pid = pid, start_time = start, signal = 9 })
    uv.run()
    assert.same({ code = 0, signal = 9 }, got)
    assert.equal("gone", select(2, sys.start_time(pid)).code)
    assert.equal("gone", select(2, sys.watch_process({ pid = pid }, print)).code)
  end)
  it("that is no longer watched says nothing", function()
    local pid = child "exit 0"
    local watch = assert(sys.watch_process({ pid = pid }, function() error "late" end))
    watch:close()
    watch:close()
    uv.run()
  end)
end)

describe("a lock", function()
  it("is held once, names its holder, and is gone after a close", function()
    local lock = assert(sys.lock_file(dir .. "/l"))
    local other, e = sys.lock_file(dir .. "/l")
    assert.is_nil(other)
    assert.equal("failed_precondition", e.code)
    assert.equal(uv.os_getpid(), e.holder)
    assert.equal("number", type(lock:fd()))
    lock:close()
    lock:close()
    assert.equal("gone", select(2, lock:fd()).code)
    local again <close> = assert(sys.lock_file(dir .. "/l"))
    assert.truthy(again)
  end)
  it("on a file that must exist is not found", function()
    assert.equal("not_found", select(2, sys.lock_file(dir .. "/none", { create = false })).code)
  end)
  it("cannot be reached through its metatable", function()
    local lock <close> = assert(sys.lock_file(dir .. "/l"))
    assert.is_false(getmetatable(lock))
    assert.has_error(function() setmetatable(lock, {}) end)
  end)
end)

describe("wrong arguments", function()
  for name, call in pairs {
    ["no callback"] = function() sys.umount("/x", nil) end,
    ["a callback that is none"] = function() sys.umount("/x", nil, 1) end,
    ["flags that are none of ours"] = function() sys.umount("/proc", 4 | 1, print) end,
    ["no path"] = function() sys.open_tree({}, print) end,
    ["a path with NUL"] = function() sys.remove_tree("/x\0", print) end,
    ["a size that is text"] = function() sys.make_sparse("/x", "1", print) end,
    ["a negative size"] = function() sys.make_sparse("/x", -1, print) end,
    ["a pid of 0"] = function() sys.kill_process { pid = 0, signal = 9 } end,
    ["no signal"] = function() sys.kill_process { pid = 1 } end,
    ["a list with a number"] = function() sys.cgroup_remove({ 1 }, print) end,
    ["random without size"] = function() sys.random_hex(0) end,
  } do
    it("raise and leave nothing behind: " .. name, function() assert.has_error(call) end)
  end
end)

describe("the relay", function()
  it("moves the output of a process and says when it is drained", function()
    local relay = assert(core.relay())
    local r, w = sys.pipe()
    local ready, report, io_, guest
    local function both() -- in whichever order they come
      if not (ready and guest) then return end
      guest:write("hello", function()
        guest:close()
        io_:exited(10000, 10000)
      end)
    end
    io_ = assert(relay:open {
      name = "p", dir = dir, stdout = { fd = w }, ports = { stdout = 4711 },
      on_ready = function(e)
        ready = e == nil
        both()
      end,
      on_drained = function(what)
        report = what
        io_:close()
      end,
    })
    sys.close(w)
    core.transport.connect_unix(dir .. "/4711", function(s)
      guest = s
      both()
    end)
    uv.run()
    assert.is_true(ready)
    assert.same({ stdin = 0, stdout = 5, stderr = 0, cut = false, dropped = {}, errors = {} }, report)
    assert.equal("hello", uv.fs_read(r, 100))
    assert.equal(5, io_:counts().stdout)
    assert.equal("gone", select(2, io_:exited(1, 1)).code)
    sys.close(r)
    relay:close()
    relay:close()
    assert.equal("gone", select(2, relay:open { name = "p", dir = dir }).code)
  end)
  it("closes what is open with it", function()
    local relay = assert(core.relay())
    local r, w = sys.pipe()
    local io_ = assert(relay:open { name = "p", dir = dir, stdout = { fd = w }, ports = { stdout = 1 } })
    relay:close()
    assert.equal("gone", select(2, io_:close_stdin()).code)
    io_:close()
    sys.close(r)
    sys.close(w)
    uv.run()
  end)
  it("raises for an end without a port, or with both fd and path", function()
    local relay <close> = assert(core.relay())
    assert.has_error(function() relay:open { name = "p", dir = dir, stdout = { fd = 1 } } end)
    assert.has_error(function() relay:open { name = "p", dir = dir, stdout = { fd = 1, path = "x" }, ports = { stdout = 1 } } end)
    assert.has_error(function() relay:open { dir = dir } end)
  end)
end)

-- Terminals of processes, seen from the host's end of the wire.
local descriptors = dofile "scripts/descriptors.lua"
local agent = require "support.agent"
local gcs = require "support.gcs"
local uv = require "luv"

local PTS = { destination = "/dev/pts", type = "devpts", source = "devpts",
              options = { "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5" } }

agent.describe("a process with a terminal", function()
  local vm, container_root, init
  local function spec(line, over)
    over = over or {}
    over.process = over.process or {}
    over.process.terminal = over.process.terminal ~= false
    over.extra_mounts = { PTS }
    return gcs.spec(container_root, { "sh", "-c", line }, over)
  end

  ---Execs with a terminal; the streams are stdin and stdout, as a host asks for them.
  local function exec(line, opts)
    opts = opts or {}
    local user = opts.user or { uid = 0, gid = 0 }
    local process = { args = { "sh", "-c", line }, cwd = "/", env = { "PATH=/bin" }, user = user, terminal = true }
    local result, body, io = vm:execute("c1", { OciProcess = process, ConsoleSize = opts.size }, opts.wanted or { "stdin", "stdout" })
    assert.equal(0, result, body.ErrorMessage)
    return body.ProcessId, io
  end

  local function fds() return (descriptors(vm.pid)) end
  ---For what no event of the loop tells.
  local function eventually(what, ready)
    local tick = uv.new_timer()
    tick:start(5, 5, function() end)
    gcs.until_ready(what, ready)
    tick:close()
  end

  ---Numbers in use in the container's devpts, and in the UVM's.
  local function pts() return vm:inside(("ls /proc/%d/root/dev/pts /dev/pts | grep -c '^[0-9]'; true"):format(init)) end

  local here = agent.root()
  agent.vm(function(booted, at)
    vm, container_root = booted, at
    vm:create("c1", spec("while :; do sleep 1000; done", { process = { terminal = false } }))
    init = vm:start "c1"
  end, here)

  it("as an exec has one on all three of its descriptors, and it is its controlling one", function()
    local pid, io = exec "test -t 0 && test -t 1 && test -t 2 && tty && echo to-me > /dev/tty && echo err >&2"
    assert.equal(0, vm:wait("c1", pid))
    assert.matches("^/dev/pts/%d+\r\nto%-me\r\nerr\r\n$", io.stdout:read_all())
  end)

  it("as an init has one, and /dev/console is the same", function()
    assert.equal(0, (vm:create("t1", spec "tty; stty size; echo typed: $(head -n 1); echo con > /dev/console; exit 5")))
    vm:must("start", "t1")
    local result, body, io = vm:execute("t1", { ConsoleSize = { 33, 77 } }, { "stdin", "stdout" })
    assert.equal(0, result, body.ErrorMessage)
    io.stdin:write "hello\r"
    assert.equal(5, vm:wait("t1", body.ProcessId))
    local text = io.stdout:read_all()
    assert.is_truthy(text:find("33 77\r\n", 1, true), text)
    assert.is_truthy(text:find("typed: hello\r\n", 1, true), text)
    assert.is_truthy(text:find("con\r\n", 1, true), text)
    vm:must("delete_state", "t1")
  end)

  it("knows the size that came with its start; an init before its first look, an exec of crun at nearly any time", function()
    local pid, io = exec("until [ \"$(stty size 2>&1)\" = '40 120' ]; do :; done; echo right", { size = { 40, 120 } })
    vm:wait("c1", pid)
    assert.equal("right\r\n", io.stdout:read_all())
    for i = 1, 5 do
      vm:create("t" .. i, spec "stty size")
      local _, body, streams = vm:execute("t" .. i, { ConsoleSize = { 40, 120 + i } }, { "stdout" })
      vm:wait("t" .. i, body.ProcessId)
      assert.equal(("40 %d\r\n"):format(120 + i), streams.stdout:read_all())
    end
  end)

  it("is told a new size, however odd", function()
    local pid, io = exec "trap 'stty size' WINCH; trap 'exit 0' USR1; echo up; while :; do sleep 0.05; done"
    io.stdout:read_until "up"
    for _, size in ipairs { { 50, 132 }, { 65535, 65535 }, { 0, 0 }, { 24, 80 } } do
      vm:must("resize", "c1", { ProcessId = pid, Height = size[1], Width = size[2] })
      -- stty of busybox takes sizes above 30000 for a mistake
      if size[1] > 0 and size[1] < 30000 then io.stdout:read_until(("%d %d\r\n"):format(size[1], size[2])) end
    end
    vm:must("signal", "c1", { ProcessId = pid, Options = { Signal = 10 } })
    assert.equal(0, vm:wait("c1", pid))
    io.stdout:close()
  end)

  it("cannot be resized beyond 16 bits, without a terminal, or when it is forgotten; after its exit that is no failure", function()
    assert.equal(0x80004005, (vm:call("resize", "c1", { ProcessId = init, Height = 1, Width = 1 })))
    assert.equal(0xc037010d, (vm:call("resize", "c1", { ProcessId = init, Height = 65536, Width = 1 })))
    assert.equal(0x80070490, (vm:call("resize", "c1", { ProcessId = 999999, Height = 1, Width = 1 })))
    assert.equal(0xc037010e, (vm:call("resize", "nosuch", { ProcessId = 1, Height = 1, Width = 1 })))
    local pid, io = exec "exit 0"
    io.stdout:read_all()
    eventually("its exit", function() return not uv.fs_stat(("/proc/%d/root/proc/%d"):format(vm.pid, pid)) end)
    vm:must("resize", "c1", { ProcessId = pid, Height = 1, Width = 1 })
    vm:wait("c1", pid)
    assert.equal(0x80070490, (vm:call("resize", "c1", { ProcessId = pid, Height = 1, Width = 1 })))
  end)

  it("refuses a size that is none", function()
    local process = { args = { "true" }, cwd = "/", env = { "PATH=/bin" }, user = { uid = 0, gid = 0 }, terminal = true }
    for _, size in ipairs { { 1 }, { 1, 65536 }, { -1, 1 }, { "a", "b" } } do
      assert.equal(0xc037010d, (vm:execute("c1", { OciProcess = process, ConsoleSize = size }, {})))
    end
  end)

  it("gets the signal of a key, not the end of its input", function()
    local pid, io = exec "trap 'echo got it; exit 9' INT; echo up; while :; do sleep 0.05; done"
    io.stdout:read_until "up"
    io.stdin:write "\3"
    assert.equal(9, vm:wait("c1", pid))
    assert.is_truthy(io.stdout:read_all():find "got it")
  end)

  it("ignores the end of the host's input, and hears its own", function()
    local pid, io = exec "echo up; cat; echo over"
    io.stdout:read_until "up"
    io.stdin:write "\4"
    assert.equal(0, vm:wait("c1", pid))
    assert.is_truthy(io.stdout:read_all():find "over")
    pid, io = exec "trap 'exit 7' USR1; echo up; while :; do sleep 0.05; done"
    io.stdout:read_until "up"
    io.stdin:finish()
    vm:must("signal", "c1", { ProcessId = pid, Options = { Signal = 10 } })
    assert.equal(7, vm:wait("c1", pid))
    io.stdout:close()
  end)

  it("ends its session at its exit, Ctrl-Z or not", function()
    local pid, io = exec "exec sh"
    io.stdin:write "\26\r"
    io.stdin:write "exit 3\r"
    assert.equal(3, vm:wait("c1", pid))
    io.stdout:read_all()
    io.stdin:close()
  end)

  it("delivers a flood to its last byte", function()
    local pid, io = exec("stty raw; yes 0123456789 | head -n 200000; echo end")
    assert.equal(0, vm:wait("c1", pid))
    local text = io.stdout:read_all()
    assert.equal(200000 * 11 + 4, #text)
    assert.equal("end\n", text:sub(-4))
  end)

  it("takes what is typed faster than it reads", function()
    local pid, io = exec("stty raw -echo; echo up; sleep 0.2; head -c 3000000 | wc -c")
    io.stdout:read_until "up"
    io.stdin:write(("x"):rep(3000000))
    assert.equal(0, vm:wait("c1", pid))
    assert.is_truthy(io.stdout:read_all():find "3000000")
  end)

  it("may close its terminal and open it again", function()
    local pid, io = exec "t=$(tty); exec 0<&- 1>&- 2>&-; sleep 0.3; exec 1<>$t; echo again; exit 4"
    assert.equal(4, vm:wait("c1", pid))
    assert.equal("again\r\n", io.stdout:read_all())
  end)

  it("is dialled for stderr when that is asked for, which ends at once", function()
    local pid, io = exec("sleep 0.1; echo both >&2", { wanted = { "stdin", "stdout", "stderr" } })
    assert.equal("", io.stderr:read_all())
    vm:wait("c1", pid)
    assert.equal("both\r\n", io.stdout:read_all())
  end)

  it("is not drained when nobody asked for its output: it waits", function()
    local pid = exec("yes", { wanted = {} })
    assert.equal(0xc0370109, (vm:call("wait", "c1", { ProcessId = pid, TimeoutInMs = 300 })))
    vm:must("signal", "c1", { ProcessId = pid })
    assert.equal(137, vm:wait("c1", pid))
  end)

  it("hangs up on who is left on the terminal, when the host has let go of it", function()
    local pid, io = exec [[
      (trap 'touch /tmp/hung; exit' HUP; touch /tmp/ready; while :; do sleep 0.05; done) &
      trap '' HUP
      until [ -e /tmp/ready ]; do :; done]]
    assert.equal(0, vm:wait("c1", pid))
    io.stdout:close()
    io.stdin:close()
    eventually("the hang-up", function() return uv.fs_stat(here.root .. "/tmp/hung") end)
  end)

  it("belongs to the user it runs as", function()
    local as = { user = { uid = 77, gid = 7 } }
    local pid, io = exec("while [ $(stat -c %u $(tty)) != 77 ]; do :; done; id -u; echo x > $(tty)", as)
    vm:wait("c1", pid)
    assert.equal("77\r\nx\r\n", io.stdout:read_all())
    vm:create("t1", spec("id -u; stat -c %u $(tty); echo x > $(tty)", { process = as }))
    pid, io = vm:start("t1", { "stdin", "stdout" })
    vm:wait("t1", pid)
    assert.equal("77\r\n77\r\nx\r\n", io.stdout:read_all())
  end)

  it("of the UVM itself has one, too, with its size", function()
    local result, body, io = vm:execute(gcs.NULL, {
      CommandArgs = { "/bin/sh", "-c", "tty; stty size; read a; echo got $a > /dev/tty; exit 6" }, EmulateConsole = true,
      Environment = { PATH = "/usr/bin:/bin" }, ConsoleSize = { 30, 90 },
    }, { "stdin", "stdout" })
    assert.equal(0, result, body.ErrorMessage)
    io.stdin:write "word\r"
    assert.equal(6, vm:wait(gcs.NULL, body.ProcessId))
    local text = io.stdout:read_all()
    assert.is_truthy(text:find("/dev/pts/%d+\r\n"), text)
    assert.is_truthy(text:find("30 90\r\n", 1, true), text)
    assert.is_truthy(text:find("got word\r\n", 1, true), text)
  end)

  it("leaves no terminal and no descriptor behind, whatever became of it", function()
    local function round(n)
      for i = 1, n do
        local pid, io = exec(i % 3 == 0 and "sleep 1000" or "echo hi", i % 5 == 0 and { wanted = {} } or nil)
        if i % 3 == 0 then vm:must("signal", "c1", { ProcessId = pid }) end
        vm:wait("c1", pid)
        if io.stdin then io.stdin:close() end
        if io.stdout then io.stdout:close() end
      end
      -- Programs that cannot run: the terminal that was made for them goes, too.
      local process = { args = { "nosuch" }, cwd = "/", env = { "PATH=/bin" }, user = { uid = 0, gid = 0 }, terminal = true }
      assert.equal(0x80070002, (vm:execute("c1", { OciProcess = process }, {})))
    end
    local numbers = pts()
    round(5)
    local before = fds()
    round(60)
    eventually("descriptors as before", function() return fds() <= before end)
    eventually("terminals as before", function() return pts() == numbers end)
    assert.equal("", vm:inside "find /run/moonshim-guest/tmp -mindepth 1")
  end)
end)

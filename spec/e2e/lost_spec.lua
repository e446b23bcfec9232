local command = require "e2e.command"
local driven = require "e2e.driven"
local stop = require "support.stop"

-- Connections that break and agents that die, on real containers. Where a connection is to break, the program's own side is
-- closed over whatever is on its way: core's bridge:cut() and io:cut().
describe("a real pod", function()
  local moonshim, task, uv, check_leaks
  setup(function()
    command.root()
    moonshim = require "moonshim"
    task = require "moonshim.task"
    uv = require "luv"
    check_leaks = command.leaks()
  end)
  after_each(function() check_leaks() end)
  teardown(function() command.cleanup() end)

  local serial = 0
  local function file(text)
    serial = serial + 1
    return command.write("stream-" .. serial, text or "")
  end

  local function script(text) return { rootfs = command.root(), args = { "/bin/sh", "-c", text } } end

  local IDLE = "trap 'exit 0' TERM; while :; do sleep 0.05; done"

  ---Calls fn(pod, vm).
  local function with_pod(containers, io, fn)
    local alone = containers.main ~= nil
    driven.with_pod({ name = "lost", sandbox = not alone, containers = containers }, function(pod) fn(pod, pod._vm) end, { io = io })
  end

  ---Looks again after every turn of the loop; the limit is far above what is needed.
  local function until_(what, met)
    local ok, e = pcall(task.deadline, "60s", function()
      while not met() do task.sleep(1) end
    end)
    if not ok then error(("no %s: %s"):format(what, tostring(e)), 2) end
  end

  local function cut(vm)
    local guest = vm.world.guest
    local before = guest.generation
    guest.bridge:cut()
    until_("loss", function() return guest.state ~= "open" or guest.generation > before end)
    return function() until_("new connection", function() return guest.generation > before end) end
  end

  local function io_of(process) return process.stdio.value.io end

  ---The pid on this machine of a process of the VM.
  local function outside(vm, pid)
    for _, name in ipairs(command.list("/proc")) do
      local groups = name:find("^%d+$") and command.read("/proc/" .. name .. "/cgroup")
      if groups and groups:find(vm.world.uvm.facts.cgroup, 1, true) then
        local seen = (command.read("/proc/" .. name .. "/status") or ""):match("NSpid:%s+%d+%s+(%d+)")
        if seen == tostring(pid) then return tonumber(name) end
      end
    end
    error(("no process %d in the VM"):format(pid))
  end

  local function numbers(n)
    local lines = {}
    for i = 1, n do lines[i] = ("line %d of a counter"):format(i) end
    return table.concat(lines, "\n") .. "\n"
  end

  local COUNT = "i=0; while [ $i -lt %d ]; do i=$((i+1)); echo line $i of a counter; done; exit 7"

  local function opened(path, flags, fn)
    local fd = assert(uv.fs_open(path, flags, 384))
    local ok, e = pcall(fn, fd)
    uv.fs_close(fd)
    if not ok then error(e, 0) end
  end

  it("goes on when its bridge is cut while a container prints a counter: no line is lost, and the exit is its own", function()
    local path = file()
    opened(path, "w", function(fd)
      with_pod({ main = script(COUNT:format(60000)) }, { main = { stdout = { fd = fd } } }, function(pod, vm)
        local init = pod.main._container.init
        for i = 1, 5 do
          until_("output", function() return init.code or io_of(init):counts().stdout > i * 100000 end)
          cut(vm)()
        end
        assert.equal(7, pod.main:wait())
        assert.equal("running", vm.machine:state())
        local topics = {}
        for _, event in ipairs(pod:events()) do topics[event.topic] = (topics[event.topic] or 0) + 1 end
        assert.equal(5, topics["guest-lost"])
        assert.equal(5, topics["guest-back"])
        assert.equal(1, topics.exit - (topics["sandbox-exit"] or 0))
      end)
    end)
    assert.equal(numbers(60000), command.read(path))
  end)

  it("loses and doubles no byte when the sockets of a container's streams are cut again and again", function()
    local path, errors = file(), file()
    opened(path, "w", function(out)
      opened(errors, "w", function(err)
        local text = "i=0; while [ $i -lt 40000 ]; do i=$((i+1)); echo line $i of a counter; echo line $i of a counter >&2; done; exit 7"
        with_pod({ main = script(text) }, { main = { stdout = { fd = out }, stderr = { fd = err } } }, function(pod)
          local init = pod.main._container.init
          for i = 1, 8 do
            until_("output", function() return init.code or io_of(init) == nil or io_of(init):counts().stdout > i * 50000 end)
            if init.code then break end
            io_of(init):cut(i % 2 == 0 and "stdout" or "stderr")
          end
          assert.equal(7, pod.main:wait())
        end)
      end)
    end)
    assert.equal(numbers(40000), command.read(path))
    assert.equal(numbers(40000), command.read(errors))
  end)

  it("carries 24 MiB through a container and back while stdin, stdout and the bridge are cut", function()
    local block = {}
    for i = 1, 4096 do block[i] = ("%08x"):format(i * 2654435761 & 0xffffffff) end
    local text = table.concat(block):rep(768)
    local from, to = file(text), file()
    opened(from, "r", function(stdin)
      opened(to, "w", function(stdout)
        with_pod({ main = { rootfs = command.root(), args = { "/bin/cat" } } },
          { main = { stdin = { fd = stdin }, stdout = { fd = stdout } } }, function(pod, vm)
          local init = pod.main._container.init
          for i = 1, 12 do
            until_("output", function() return init.code or io_of(init) == nil or io_of(init):counts().stdout > i * 1500000 end)
            if init.code then break end
            if i % 4 == 0 then cut(vm)() else io_of(init):cut(i % 4 == 1 and "stdin" or "stdout") end
          end
          assert.equal(0, pod.main:wait())
        end)
      end)
    end)
    assert.is_true(text == command.read(to), "what came back is not what went in")
  end)

  it("carries a terminal through cuts of its streams", function()
    local path = file()
    opened(path, "w", function(out)
      with_pod({ web = script(IDLE) }, nil, function(pod)
        local e = assert(pod.web:exec { "/bin/sh", "-c", COUNT:format(20000), tty = true, stdout = { fd = out } })
        local p = e._process
        for i = 1, 6 do
          until_("output", function() return p.code or io_of(p) == nil or io_of(p):counts().stdout > i * 50000 end)
          if p.code then break end
          io_of(p):cut "stdout"
        end
        assert.equal(7, e:wait())
      end)
    end)
    assert.equal((numbers(20000):gsub("\n", "\r\n")), command.read(path))
  end)

  it("learns an exit that happened while nobody was connected, of an init and of an exec", function()
    with_pod({ a = script "exec sleep 600", b = script(IDLE) }, nil, function(pod, vm)
      local e = assert(pod.b:exec { "sleep", "600" })
      local pids = { pod.a._container.init.pid, e.pid }
      local first = vm.world.guest
      local back = cut(vm)
      -- While the agent waits to call again: its processes end by a hand from outside.
      for _, pid in ipairs(pids) do uv.kill(outside(vm, pid), "sigkill") end
      back()
      assert.equal(first, vm.world.guest)
      assert.equal(137, pod.a:wait())
      assert.equal(137, e:wait())
      assert.equal(0, assert(pod.b:exec { "true" }):wait())
    end)
  end)

  it("can do everything after its bridge was cut, and in the middle of things", function()
    with_pod({ a = script(IDLE), b = script(IDLE) }, nil, function(pod, vm)
      local back = cut(vm)
      local p = assert(pod.a:exec { "sh", "-c", "echo waited; exit 4" }) -- asked for while nobody is there
      assert.equal(4, p:wait())
      assert.equal("waited\n", p:output())
      back()
      assert(pod.a:pids())
      cut(vm)
      assert(pod.a:kill("TERM"))
      assert.equal(0, pod.a:wait())
      cut(vm)
    end) -- the stop, too, begins without a connection
  end)

  it("is released without being asked when its agent is killed with -9; every container has one exit, 255 and a reason", function()
    local containers = {
      a = { layers = { command.image("base"), command.image("app") }, scratch = { size = "16M" }, args = { "/bin/sh", "-c", IDLE } },
      b = script(IDLE),
    }
    with_pod(containers, nil, function(pod, vm)
      local e = assert(pod.b:exec { "sleep", "600" })
      uv.kill(vm.world.uvm.facts.pid, "sigkill")
      for _, process in ipairs { pod.a._container.init, pod.b._container.init, e._process } do
        local code, reason = process:wait()
        assert.equal(255, code)
        assert.is_string(reason)
      end
      until_("release", function() return #vm.ledger:all() == 0 end)
      assert.equal("stopped", pod.a:state())
      local exits = {}
      for _, event in ipairs(pod:events()) do
        if event.topic == "exit" then
          local key = event.data.container .. "/" .. event.data.exec
          assert.is_nil(exits[key], key)
          exits[key] = event.data.code
        end
      end
      assert.equal(255, exits["a/"])
      assert.equal(255, exits["b/"])
      assert.equal(255, exits["b/" .. e.id])
    end)
  end)

  it("answers about its state while its agent hangs, and is stopped all the same", function()
    with_pod({ a = script(IDLE) }, nil, function(pod, vm)
      local pid = vm.world.uvm.facts.pid
      assert.is_true(stop(pid))
      assert.equal("running", pod.a:state())
      local stats, e = pod.a:pids()
      assert.is_nil(stats)
      assert.equal("deadline_exceeded", e.code)
      assert.equal("running", pod.a:state())
      assert(pod:stop { ladder = { { "TERM", wait = "100ms" } } })
      assert.equal("ended", vm.machine:state())
    end)
  end)

  it("is stopped in bounded time while a delete of its workload is stuck, and all of it is gone then", function()
    moonshim.run(function()
      local policy = command.write("hasty.lua", [[return { api = 1, teardown = function(plan)
        for _, kind in ipairs { "process", "overlay" } do plan:tune(kind, { within = "300ms" }) end -- what only the guest can do
      end }]])
      local pod = assert(moonshim.start(moonshim.pod { name = "stuck", containers = {
        a = { layers = { command.image("base") }, scratch = { size = "16M" }, args = { "/bin/sh", "-c", "exit 4" } }, b = script(IDLE),
      } }, { run_dir = command.run_dir, policy = policy }))
      local vm = pod._vm
      assert.equal(4, pod.a:wait())
      assert.is_true(stop(vm.world.uvm.facts.pid))
      local delete = task.spawn(function() return pod.a:delete() end)
      until_("delete that began", function() return pod.a:state() == "deleting" end)
      assert.equal("running", pod.b:state())
      assert(pod:stop())
      assert(delete:join()) -- it learns that all is gone
      assert.equal("ended", vm.machine:state())
      assert.same({}, vm.ledger:all())
      assert.same({}, command.list(command.run_dir))
      local seen = {}
      for _, event in ipairs(pod:events()) do
        local c = event.data.container
        if event.data.exec == "" then seen[c] = (seen[c] or "") .. " " .. event.topic end
      end
      assert.equal(" create start exit delete", seen.a)
      assert.equal(" create start exit delete", seen.b)
    end)
  end)

  it("driven by moonshim run ends with 255 when the agent of its VM is killed with -9, and leaves nothing", function()
    local process = command.spawn(command.program, command.run_args({ "/bin/sh", "-c", "echo up; sleep 600" },
      { "--name", "beheaded", "--layer", command.image("base"), "--scratch", "16M" }))
    process:wait_for("up\n")
    uv.kill(command.agent(), "sigkill")
    local result = process:wait()
    assert.equal(255, result.code)
    assert.same({}, command.list(command.run_dir))
  end)
end)

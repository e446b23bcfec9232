local command = require "e2e.command"
local driven = require "e2e.driven"
local task = require "moonshim.task"

-- `require "moonshim"` from a script, on real containers.
describe("a pod driven from code", function()
  local moonshim, check_leaks
  setup(function()
    command.root()
    moonshim = require "moonshim"
    check_leaks = command.leaks()
  end)
  after_each(function() check_leaks() end)
  teardown(function() command.cleanup() end)

  local plain, FOREVER = driven.plain, driven.FOREVER

  local function spec(containers) return { name = "driven", containers = containers } end

  local function with_pod(containers, fn) driven.with_pod(spec(containers), fn) end

  it("executes commands: output, code, environment over the container's, working directory, user (known bug 37)", function()
    with_pod({ web = plain { env = { BASE = "1", PATH = "/bin" } } }, function(pod)
      local p = assert(pod.web:exec { "sh", "-c", "pwd; echo $BASE $EXTRA; id -u; exit 5",
        env = { EXTRA = "2" }, cwd = "/etc", user = "nobody" })
      assert.equal(5, p:wait())
      assert.equal("/etc\n1 2\n65534\n", p:output())
    end)
  end)

  it("answers an exec of a program that is not there with an error that names it, and goes on", function()
    with_pod({ web = plain() }, function(pod)
      local p, e = pod.web:exec { "nosuchcmd" }
      assert.is_nil(p)
      assert.is_truthy(e.message:find("nosuchcmd", 1, true), e.message)
      assert.equal(0, assert(pod.web:exec { "true" }):wait())
    end)
  end)

  it("kills an exec whose time is over, with what it has started, and says so (known bug 36)", function()
    with_pod({ web = plain() }, function(pod)
      local p = assert(pod.web:exec { "sh", "-c", "sleep 1234 & sleep 1235; echo never", timeout = "500ms" })
      local code, e = p:wait()
      assert.is_nil(code)
      assert.equal("deadline_exceeded", e.code)
      assert.is_truthy(e.message:find("was killed after 500ms", 1, true), e.message)
      assert.equal("", p:output())
      local state, more = p:state()
      assert.same({ "stopped", 137, "deadline_exceeded" }, { state, more.code, more.reason })
      local function left() return assert(pod.web:exec { "ps", "-o", "args" }):output():find("sleep 123", 1, true) end
      task.deadline("60s", function()
        while left() do task.sleep(10) end
      end)
      local exit
      local events = assert(pod:follow { since = 0 })
      repeat exit = assert(events:next()) until exit.topic == "exit"
      events:close()
      assert.same({ p.id, 137, "deadline_exceeded" }, { exit.data.exec, exit.data.code, exit.data.reason })
      local inside = assert(pod:exec_in_vm { "sh", "-c", "sleep 1236 & wait", timeout = "500ms" })
      assert.equal("deadline_exceeded", select(2, inside:wait()).code)
      assert.equal(0, assert(pod.web:exec { "true", timeout = "1h" }):wait())
    end)
  end)

  it("ends an exec whose background child keeps stdout open within the drain deadline (known bug 18)", function()
    with_pod({ web = plain() }, function(pod)
      local p = assert(pod.web:exec { "sh", "-c", "sleep 600 & echo done" })
      assert.equal(0, p:wait())
      assert.equal("done\n", p:output())
    end)
  end)

  it("runs execs beside each other, each with its own exit", function()
    with_pod({ web = plain() }, function(pod)
      local processes = {}
      for i = 1, 20 do processes[i] = assert(pod.web:exec { "sh", "-c", "echo " .. i .. "; exit " .. i }) end
      for i, p in ipairs(processes) do
        assert.equal(i, p:wait())
        assert.equal(i .. "\n", p:output())
      end
    end)
  end)

  it("runs execs beside one that never waits for its children (known bug 40)", function()
    with_pod({ web = plain() }, function(pod)
      -- The shell's child ends, and what the shell has become does not ask for it.
      local careless = assert(pod.web:exec { "sh", "-c", "sh -c 'exit 3' & exec sleep 600" })
      local function zombies()
        local p = assert(pod.web:exec { "sh", "-c", "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l" })
        p:wait()
        return p:output()
      end
      local function one_zombie()
        task.deadline("60s", function()
          while zombies() ~= "1\n" do task.sleep(5) end
        end)
      end
      one_zombie()
      for _ = 1, 50 do assert.equal(0, assert(pod.web:exec { "true" }):wait()) end
      one_zombie()
      assert(careless:kill "KILL")
      assert.equal(137, careless:wait())
    end)
  end)

  it("kills an exec with its signal in the status, and refuses signals that do not exist", function()
    with_pod({ web = plain() }, function(pod)
      local p = assert(pod.web:exec { "sleep", "600" })
      for _, wrong in ipairs { "nope", 0, -1, 65, "" } do
        local ok, e = p:kill(wrong)
        assert.is_nil(ok)
        assert.equal("invalid_argument", e.code)
      end
      assert(p:kill("SIGKILL"))
      assert.equal(137, p:wait())
    end)
  end)

  it("ends at once an exec's data when its standard input is closed", function()
    with_pod({ web = plain() }, function(pod)
      local p = assert(pod.web:exec { "wc", "-c", stdin = ("x"):rep(100000) })
      assert.equal(0, p:wait())
      assert.equal("100000", p:output():match("%d+"))
    end)
  end)

  it("executes commands in the VM itself, beside the container, with streams or a terminal [#388]", function()
    with_pod({ web = plain() }, function(pod)
      local p = assert(pod:exec_in_vm { "sh", "-c", "cat /proc/1/comm; pwd; echo $WORD; cat; echo bad >&2; exit 3",
        env = { WORD = "hello" }, cwd = "/tmp", stdin = "fed\n" })
      assert.equal(3, p:wait())
      assert.same({ "moonshim-guest\n/tmp\nhello\nfed\n", "bad\n" }, { p:output() })
      p = assert(pod:exec_in_vm { "sh", "-c", "tty; stty size", tty = true, size = { rows = 30, columns = 90 } })
      assert.equal(0, p:wait())
      assert.is_truthy(p:output():find("^/dev/pts/%d+\r\n30 90\r\n$"), p:output())
      local none, e = pod:exec_in_vm { "sleep", "1", tty = true, stderr = { fd = 2 } }
      assert.is_nil(none)
      assert.equal("failed_precondition", e.code)
      none, e = pod:exec_in_vm { "nosuchcmd" }
      assert.is_nil(none)
      assert.is_truthy(e.message:find("nosuchcmd", 1, true), e.message)
      p = assert(pod:exec_in_vm { "sleep", "600" })
      p:kill "TERM"
      assert.equal(255, p:wait()) -- of these the guest tells no signal
      local _, more = p:state()
      assert.equal("ended by a signal", more.reason)
      assert(pod:exec_in_vm { "sleep", "600" }) -- ends with the VM
    end)
  end)

  it("tells the log of the agent, and waits for the last of it", function()
    moonshim.run(function()
      local lines = {}
      local log = require("moonshim.log").new { level = "info", sink = function(_, record) lines[#lines + 1] = record end }
      local vm = assert(moonshim.vm { name = "logged", run_dir = command.run_dir, log = log })
      local ready = 0
      assert(vm:stop())
      assert.is_string(assert(vm:wait()).reason)
      for _, record in ipairs(lines) do
        if record.fields.from == "guest" and record.message:find "^agent .* is ready" then ready = ready + 1 end
      end
      assert.equal(1, ready)
    end)
  end)

  it("removes one of two containers that share a layer and a scratch disk; the other is unharmed", function()
    local disk = command.empty_image("both.ext4")
    local function one()
      return { layers = { command.image("base"), command.image("app") }, scratch = { path = disk }, args = FOREVER }
    end
    with_pod({ a = one(), b = one() }, function(pod)
      assert.equal(0, assert(pod.a:exec { "sh", "-c", "echo A > /mine" }):wait())
      assert.equal(0, assert(pod.b:exec { "sh", "-c", "echo B > /mine" }):wait())
      assert(pod.a:stop())
      local p = assert(pod.b:exec { "sh", "-c", "cat /mine /app/greeting; echo more > /more; cat /more" })
      assert.equal(0, p:wait())
      assert.equal("B\nhello from the top layer\nmore\n", p:output())
      assert.equal("running", pod.b:state())
    end)
  end)

  it("prints the plan of its end, and the plan is the same after printing", function()
    with_pod({ web = plain() }, function(pod)
      local text = tostring(pod:plan("stop"))
      assert.is_truthy(text:find("process", 1, true))
      assert.equal(text, tostring(pod:plan("stop")))
      assert.equal("running", pod.web:state())
    end)
  end)

  it("tells its life as a timeline", function()
    local pod
    with_pod({ web = plain() }, function(p) pod = p end)
    assert.is_truthy(pod:timeline():find("web", 1, true))
  end)

  it("can be stopped twice and by two at a time", function()
    moonshim.run(function()
      local pod = assert(moonshim.start(moonshim.pod(spec { web = plain() }), { run_dir = command.run_dir }))
      task.all { function() return assert(pod:stop()) end, function() return assert(pod:stop()) end }
      assert(pod:stop())
    end)
  end)

  it("answers calls on what is gone with an error, and never crashes", function()
    local pod
    with_pod({ web = plain() }, function(p) pod = p end)
    moonshim.run(function()
      local p, e = pod:container("web"):exec { "true" }
      assert.is_nil(p)
      assert.is_string(e.code)
      collectgarbage()
    end)
  end)
end)

local err = require "moonshim.err"
local options = require "moonshim.cli.options"
local run = require "moonshim.cli.run"
local task = require "moonshim.task"
local uv = require "luv"

---A pod of one container that ends when it is told to; it remembers what was asked of it.
local function fake_pod(log)
  local ended = task.signal()
  local pod = {}
  local main = { wait = function() return ended:wait() end, state = function() return "stopped", log.known or {} end }
  function pod.container() return main end
  function pod.ends(_, code) ended:fire(code) end
  function pod.kill(_, signal)
    table.insert(log, "kill " .. signal)
    if signal == "KILL" then ended:fire(137) elseif log.obedient then ended:fire(143) end
    return true
  end
  function pod.terminate()
    table.insert(log, "terminate")
    ended:fire(255)
    return true
  end
  function pod.stop()
    table.insert(log, "stop")
    ended:fire(143)
    if log.stop_fails then return nil, err.new("deadline_exceeded", "release scratch: no answer within 10s") end
    return true
  end
  function pod.timeline() return "the timeline\n" end
  return pod
end

---Runs a command line against a fake; `play(pod)` says what happens once the pod is up.
local function play(line, log, script)
  local real, written = io.stderr, {}
  io.stderr = { write = function(_, ...) table.insert(written, table.concat { ... }) end } -- luacheck: ignore 122
  local ok, code = pcall(require("moonshim.cli").main, line, {
    start = function(_, opts)
      local pod = fake_pod(log)
      if log.before_answer then
        opts.made(pod)
        log.before_answer(pod)
      end
      if log.start_fails then return nil, log.start_fails end
      if script then task.detach(script, pod) end
      return pod
    end,
  })
  io.stderr = real -- luacheck: ignore 122
  if not ok then error(code, 0) end
  return code, table.concat(written)
end

local LINE = { "run", "--name", "x", "--rootfs", "/", "--", "sh" }

local function raise_signal(name) uv.kill(uv.os_getpid(), name) end

describe("moonshim run", function()
  it("gives the command's status and releases everything", function()
    local log = {}
    assert.equal(7, (play(LINE, log, function(pod) pod:ends(7) end)))
    assert.same({ "stop" }, log)
  end)

  it("says what want of memory did, after everything else", function()
    local code, line = play(LINE, { known = { reason = "oom", oom = { kills = 1, limit = 64 << 20 } } }, function(pod) pod:ends(137) end)
    assert.equal(137, code)
    assert.equal("moonshim: killed: out of memory (limit 64 MiB)\n", line)
    code, line = play(LINE, { known = { oom = { kills = 2 } } }, function(pod) pod:ends(0) end)
    assert.equal(0, code)
    assert.equal("moonshim: 2 processes killed: out of memory\n", line)
  end)

  it("says when the release failed, and that is a failure of its own", function()
    local code, line = play(LINE, { stop_fails = true }, function(pod) pod:ends(0) end)
    assert.equal(125, code)
    assert.equal("moonshim: release scratch: no answer within 10s\n", line)
  end)

  for name, case in pairs {
    ["127 for a program that is missing"] = { { origin = "guest", hresult = 0x80070002 }, 127 },
    ["126 for one that cannot be executed"] = { { origin = "guest", hresult = 0x80070005 }, 126 },
    ["126 also for the number as a signed one"] = { { origin = "guest", hresult = -2147024891 }, 126 },
    ["125 when the host said access denied"] = { { origin = "host", hresult = 0x80070005 }, 125 },
    ["125 for anything else"] = { {}, 125 },
  } do
    it("gives " .. name, function()
      local code, line = play(LINE, { start_fails = err.new("unknown", "it\nfailed", case[1]) })
      assert.equal(case[2], code)
      assert.equal("moonshim: it | failed\n", line)
    end)
  end

  it("forwards TERM to the command and ends with the command's status", function()
    local log = { obedient = true }
    assert.equal(143, (play(LINE, log, function() raise_signal("sigterm") end)))
    assert.equal("kill TERM, stop", table.concat(log, ", "))
  end)

  it("forwards the first INT, kills at the second, ends the VM at the third", function()
    local log = {}
    local code = play(LINE, log, function(pod)
      pod.kill = function(_, signal)
        table.insert(log, "kill " .. signal)
        raise_signal("sigint")
        return true
      end
      raise_signal("sigint")
    end)
    assert.same({ "kill INT", "kill KILL", "terminate", "stop" }, log)
    assert.equal(130, code)
  end)

  it("ends the VM once at a time, however many INTs come meanwhile", function()
    local log, most, now = {}, 0, 0
    local code = play(LINE, log, function(pod)
      pod.kill = function(_, signal)
        table.insert(log, "kill " .. signal)
        raise_signal("sigint")
        return true
      end
      local terminate = pod.terminate
      pod.terminate = function()
        now = now + 1
        most = math.max(most, now)
        for _ = 1, #log < 4 and 3 or 0 do
          raise_signal("sigint")
          for _ = 1, 5 do task.sleep(0) end -- it is heard of in one of the next turns of the loop
        end
        now = now - 1
        if #log < 3 then
          table.insert(log, "terminate failed")
          raise_signal("sigint")
          return nil, err.new("deadline_exceeded", "it does not end")
        end
        return terminate()
      end
      raise_signal("sigint")
    end)
    assert.same({ "kill INT", "kill KILL", "terminate failed", "terminate", "stop" }, log)
    assert.equal(1, most)
    assert.equal(130, code)
  end)

  describe("while the start has not been answered", function()
    -- A command that writes and is heard of before the guest has answered may be signalled by whoever reads it.
    local function signalled(log)
      log.before_answer = function()
        raise_signal "sighup"
        repeat task.sleep(0) until log[1]
      end
      return log
    end

    it("forwards a signal and does not cancel the start", function()
      local log = signalled {}
      local code = play(LINE, log, function(pod) pod:ends(9) end)
      assert.equal(9, code)
      assert.same({ "kill HUP", "stop" }, log and { log[1], log[2] })
    end)

    it("gives 128 + n when that ended the command before it began", function()
      local log = signalled { start_fails = err.new("failed_precondition", "main has exited") }
      local code, line = play(LINE, log)
      assert.equal(129, code)
      assert.equal("", line)
    end)
  end)

  it("ends the VM and releases everything after a fault of its own", function()
    local log = {}
    local code, line = play(LINE, log, function(pod)
      pod.container = function() error "a bug" end
      pod:ends(0)
    end)
    assert.equal(125, code)
    assert.is_truthy(line:find("a bug", 1, true))
    assert.same({ "terminate", "stop" }, log)
  end)

  it("prints the timeline when asked, also after a failure", function()
    local line = { "run", "--timeline", "--name", "x", "--rootfs", "/", "--", "sh" }
    local code, text = play(line, { stop_fails = true }, function(pod) pod:ends(0) end)
    assert.equal(125, code)
    assert.is_truthy(text:find("the timeline\n", 1, true))
  end)
end)

describe("the pod of a command line", function()
  it("is one container on its own", function()
    local pod = run.pod(options.parse { "run", "--name", "n", "--layer", "a", "--layer", "b", "--scratch", "64M", "--user", "web",
      "--env", "A=1", "--hostname", "h", "--cwd", "/w", "--", "sh", "-c", "x" })
    assert.is_false(pod.sandbox)
    assert.same({
      main = { layers = { "a", "b" }, scratch = { size = "64M" }, args = { "sh", "-c", "x" }, env = { A = "1" }, mounts = {}, devices = {},
        user = "web", hostname = "h", cwd = "/w" },
    }, pod.containers)
  end)
end)

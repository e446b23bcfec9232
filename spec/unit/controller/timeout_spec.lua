-- An exec that has a time of its own: when that is over it is killed, with its group, and everybody is told why.
local exec_handle = require "moonshim.handle.exec"
local fake_vm = require "support.fake_vm"
local given = require "support.given"
local layout = require "moonshim.guest.layout"
local task = require "moonshim.task"
local virtual = require "support.virtual"

local function exit_event(f) return f:event "exit" end

describe("an exec whose time is over", function()
  it("is killed with its group; its state and its exit event say why (known bug 36)", virtual(function()
    local e, f, vm, c = given.with_exec(nil, { "stubborn" }, { timeout = 1000 })
    e:start()
    local since = task.now()
    assert.same({ 137, "deadline_exceeded" }, { e:wait() })
    assert.equal(1000, e.exited_at - since)
    assert.same({ ("c/%d 9 group"):format(e.pid) }, f.signals)
    assert.same({ "stopped", 137, "deadline_exceeded" }, { e:state().state, e:state().code, e:state().reason })
    assert.same({ "e", 137, "deadline_exceeded" }, { exit_event(f).exec, exit_event(f).code, exit_event(f).reason })
    e.released:wait()
    assert.equal("running", c.machine:state())
    task.sleep "1h"
    assert.equal(1, #f.signals)
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("leaves nothing behind, however many there are", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod)
    local held, steps = #vm.ledger:all(), {}
    for i = 1, 50 do
      steps[i] = function()
        local e = given.exec(c, { "sleep" }, nil, { timeout = 1000, forget = true })
        e:start()
        assert.same({ 137, "deadline_exceeded" }, { e:wait() })
        e.released:wait()
      end
    end
    task.all(steps)
    assert.equal(held, #vm.ledger:all())
    assert.same({ c.init }, c:list())
    assert.equal(50, #f:called "guest.signal")
    vm:stop()
  end))

  it("is killed again until it is dead, when the guest does not answer", virtual(function()
    local e, f, vm = given.with_exec(nil, { "sleep" }, { timeout = 1000 })
    local asked = 0
    f:fault(function(op)
      if op ~= "guest.signal" then return end
      asked = asked + 1
      return asked == 1 and "hang" or asked == 2 and "fail" or nil
    end)
    e:start()
    assert.same({ 137, "deadline_exceeded" }, { e:wait() })
    assert.equal(3, asked)
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("keeps the exit of its own that it was quick enough for", virtual(function()
    local e, f, vm = given.with_exec(nil, { "exit", 5, 1010 }, { timeout = 1000 })
    f:fault(function(op) return op == "guest.signal" and { delay = 50 } or nil end)
    e:start()
    assert.same({ 5, nil }, { e:wait() })
    vm:stop()
  end))

  it("is killed in a container that is paused, which goes on then", virtual(function()
    local e, f, vm, c = given.with_exec(nil, { "sleep" }, { timeout = 1000 })
    e:start()
    c:pause()
    assert.same({ 137, "deadline_exceeded" }, { e:wait() })
    assert.equal("running", c.machine:state())
    assert.is_not_nil(f:event "resumed")
    vm:stop()
  end))

  it("is killed by itself where the guest knows no groups", virtual(function()
    local e, f, vm = given.with_exec({ plain = true }, { "sleep" }, { timeout = 1000 })
    e:start()
    assert.same({ 137, "deadline_exceeded" }, { e:wait() })
    assert.same({ ("c/%d 9"):format(e.pid) }, f.signals)
    vm:stop()
  end))

  it("in the VM itself is one, too", virtual(function()
    local f = fake_vm.new()
    local vm = f:vm()
    local e = vm.inside:exec { args = { "sleep" }, timeout = 1000 }
    e:start()
    assert.same({ 137, "deadline_exceeded" }, { e:wait() })
    assert.same({ ("%s/%d 9 group"):format(layout.NULL, e.pid) }, f.signals)
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("ends with its VM like all others", virtual(function()
    local e, f, vm = given.with_exec(nil, { "sleep" }, { timeout = 1000 })
    e:start()
    task.sleep(500)
    f:die()
    local code, reason = e:wait()
    assert.equal(255, code)
    assert.not_equal("deadline_exceeded", reason)
    task.sleep "1h"
    assert.same({}, f.signals)
    vm:stop()
  end))
end)

describe("an exec that has time", function()
  it("is left alone when it ends within it, also while its output takes longer", virtual(function()
    local e, f, vm = given.with_exec({ drain_takes = 900 }, { "exit", 0, 500 }, { timeout = 1000 })
    e:start()
    assert.same({ 0, nil }, { e:wait() })
    task.sleep "1h"
    assert.same({}, f.signals)
    vm:stop()
  end))

  it("has it from its start", virtual(function()
    local e, f, vm = given.with_exec(nil, { "sleep" }, { timeout = 1000 })
    task.sleep "1h"
    assert.equal("created", e:state().state)
    e:start()
    task.sleep(999)
    assert.same({}, f.signals)
    assert.same({ 137, "deadline_exceeded" }, { e:wait() })
    vm:stop()
  end))
end)

describe("exec with a timeout", function()
  local QUIET = { stdout = false, stderr = false }
  local function run(c, timeout)
    local options = { "sleep", timeout = timeout }
    for k, v in pairs(QUIET) do options[k] = v end
    return exec_handle.run(c, options)
  end

  it("answers deadline_exceeded and the time, every time it is asked", virtual(function()
    local _, pod, vm = given.pod()
    local handle = run(given.running(pod), "1.5s")
    for _ = 1, 2 do
      local code, e = handle:wait()
      assert.is_nil(code)
      assert.equal("deadline_exceeded", e.code)
      assert.equal("exec-1 was killed after 1.5s", e.message)
    end
    local state, more = handle:state()
    assert.same({ "stopped", 137, "deadline_exceeded" }, { state, more.code, more.reason })
    vm:stop()
  end))

  it("that is none is refused before anything is taken", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod)
    local calls = #f.calls
    for _, timeout in ipairs { "soon", "10 parsecs", -1, 0, "0s", {}, true } do
      assert.equal("invalid_argument", given.error(run, c, timeout).code)
    end
    assert.equal(calls, #f.calls)
    assert.same({ c.init }, c:list())
    vm:stop()
  end))
end)

-- A process from its start on.
local given = require "support.given"
local task = require "moonshim.task"
local virtual = require "support.virtual"

describe("a process that runs", function()
  it("cannot be started again [#189]", virtual(function()
    local e, f, vm = given.with_exec()
    e:start()
    assert.equal("failed_precondition", given.error(e.start, e).code)
    assert.equal(2, #f:called("^guest.execute"))
    vm:stop()
  end))

  it("says ids, pid and RUNNING [#220]", virtual(function()
    local e, _, vm = given.with_exec()
    local pid = e:start()
    assert.same({ "c", "e", pid, "running" }, { e:state().id, e:state().exec, e:state().pid, e:state().state })
    vm:stop()
  end))

  it("records the guest's exit: code, time, closed streams, event, waiters [#191]", virtual(function()
    local e, f, vm, c = given.with_exec({ drain_takes = 300 }, { "exit", 3, 500 })
    e:start()
    assert.equal(3, (e:wait()))
    assert.same({ "stopped", 3, 500 }, { e:state().state, e:state().code, e:state().exited_at })
    assert.equal(800, task.now())
    assert.same({ 3, 500 }, { f:event("exit").code, f:event("exit").at })
    given.settle()
    assert.same({}, vm.ledger:under(c.owner .. "/e"))
    vm:stop()
  end))

  it("has its code and time first, then its streams closed, then the event, and lets waiters go last [#227]", virtual(function()
    local e, f, vm = given.with_exec({ drain_takes = 300 }, { "exit", 3, 500 })
    e:start()
    local order = {}
    local function note(what) order[#order + 1] = ("%s: code %s, %s"):format(what, e.code, e.exited:fired() and "fired" or "not fired") end
    local on_drained = f.opened[2].on_drained
    f.opened[2].on_drained = function(...)
      note "drained"
      on_drained(...)
    end
    vm:subscribe(function(topic) if topic == "exit" then note "event" end end)
    e:wait()
    note "waited"
    assert.same({ "drained: code 3, not fired", "event: code 3, not fired", "waited: code 3, fired" }, order)
    vm:stop()
  end))

  it("is already stopped for those who ask while its output drains", virtual(function()
    local e, _, vm = given.with_exec({ drain_takes = 300 }, { "exit", 3, 500 })
    e:start()
    task.sleep(600)
    assert.same({ "stopped", 3 }, { e:state().state, e:state().code })
    vm:stop()
  end))

  it("says STOPPED, code and time after the exit, and still its pid [#221]", virtual(function()
    local e, _, vm = given.with_exec(nil, { "exit", 6, 100 })
    local pid = e:start()
    e:wait()
    local s = e:state()
    assert.same({ "stopped", 6, 100, pid }, { s.state, s.code, s.exited_at, s.pid })
    vm:stop()
  end))

  it("has an unknown code and a reason when the connection breaks [#192]", virtual(function()
    local e, f, vm = given.with_exec()
    e:start()
    f:break_bridge()
    local code, reason = e:wait()
    assert.equal(255, code)
    assert.is_string(reason)
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("has an unknown code, not 0, when the guest does not know it [#193]", virtual(function()
    local e, f, vm = given.with_exec()
    e:start()
    local p = f.processes[e.pid]
    f.processes[e.pid] = nil
    local late = given.exec(e.container, { "sleep" }, "late")
    -- The wait of `late` is answered with "no such process".
    local guest_wait = vm.world.guest.wait
    vm.world.guest.wait = function(_, id) return guest_wait(vm.world.guest, id, 424242) end
    late:start()
    local code, reason = late:wait()
    vm.world.guest.wait = nil
    assert.equal(255, code)
    assert.is_string(reason)
    f.processes[e.pid] = p
    vm:stop()
  end))

  it("drops late news of its exit [#194]", virtual(function()
    local e, _, vm = given.with_exec(nil, { "exit", 3 })
    e:start()
    e:wait()
    assert.is_false(e:finish(9, "late"))
    assert.same({ 3, 3 }, { e.code, (e:wait()) })
    vm:stop()
  end))

  it("that is init has one exit event, the container's [#195]", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod, { "exit", 0 })
    c:wait()
    given.settle()
    local exits = 0
    for _, e in ipairs(f.events) do exits = exits + (e.topic == "exit" and 1 or 0) end
    assert.equal(1, exits)
    vm:stop()
  end))

  for name, hresult in pairs {
    ["the container has stopped [#201]"] = 0xC0370110, ["the process has stopped [#202]"] = 0x8037011F,
    ["there is no such process [#202]"] = 0x80070490,
  } do
    it("has ended, as was wanted, when a kill is answered with: " .. name, virtual(function()
      local e, f, vm = given.with_exec()
      e:start()
      f:fault(function(op) return op == "guest.signal" and { hresult = hresult } or nil end)
      assert.equal("exited", e:kill(9))
      f:fault(nil)
      assert.equal(255, (e:wait())) -- nobody brought the code
      vm:stop()
    end))
  end

  it("is ended without options by a guest that knows no signals [#199]", virtual(function()
    local e, f, vm = given.with_exec { capabilities = { DeleteContainerStateSupported = true } }
    e:start()
    assert.equal("invalid_argument", given.error(e.kill, e, 1).code)
    assert.same({}, f.signals)
    assert.equal("delivered", e:kill(15))
    assert.same({ ("c/%d 9"):format(e.pid) }, f.signals) -- what no options mean
    assert.equal(137, (e:wait()))
    vm:stop { ladder = { { "QUIT", wait = "5m" }, { "KILL", wait = "1s" } } }
    assert.same({}, f:leaks())
    assert.is_true(task.now() < 60000, tostring(task.now()))
  end))

  it("still runs after a kill that failed [#203]", virtual(function()
    local e, f, vm = given.with_exec()
    e:start()
    f:fault(function(op) return op == "guest.signal" and "fail" or nil end)
    assert.equal("unknown", given.error(e.kill, e, 9).code)
    assert.equal("running", e:state().state)
    f:fault(nil)
    vm:stop()
  end))

  it("cannot be resized without a terminal [#210]", virtual(function()
    local e, f, vm = given.with_exec()
    e:start()
    assert.equal("failed_precondition", given.error(e.resize, e, 24, 80).code)
    assert.same({}, f.sizes)
    vm:stop()
  end))

  it("cannot be deleted [#207]", virtual(function()
    local e, _, vm, c = given.with_exec()
    e:start()
    assert.equal("failed_precondition", given.error(c.delete_exec, c, "e").code)
    assert.same({ e, "running" }, { c:process("e"), e:state().state })
    vm:stop()
  end))

  it("sets the size of its terminal, cut to 16 bits [#209] [#213]", virtual(function()
    local e, f, vm = given.with_exec(nil, nil, { terminal = true })
    e:start()
    e:resize(24, 80)
    e:resize(1, 70000)
    assert.same({ ("%d 24x80"):format(e.pid), ("%d 1x%d"):format(e.pid, 70000 & 0xffff) }, f.sizes)
    vm:stop()
  end))

  it("has exited when the guest does not know it any more: a clean error", virtual(function()
    local e, f, vm = given.with_exec(nil, nil, { terminal = true })
    e:start()
    f:fault(function(op) return op == "guest.resize" and { hresult = 0x80070490 } or nil end)
    local refusal = given.error(e.resize, e, 24, 80)
    assert.equal("failed_precondition", refusal.code)
    assert.is_truthy(refusal.message:find("has exited", 1, true))
    f:fault(nil)
    vm:stop()
  end))

  it("says why its size could not be set [#212]", virtual(function()
    local e, f, vm = given.with_exec(nil, nil, { terminal = true })
    e:start()
    f:fault(function(op) return op == "guest.resize" and "fail" or nil end)
    assert.is_truthy(given.error(e.resize, e, 24, 80).message:find("resize c/e", 1, true))
    f:fault(nil)
    vm:stop()
  end))

  it("closes its input once, when asked to [#215] [#216]", virtual(function()
    local e, f, vm = given.with_exec(nil, nil, { io = { stdin = { fd = 0 }, stdout = { fd = 1 } } })
    e:start()
    e:close_stdin(false)
    assert.is_nil(f.stdin_closed)
    e:close_stdin()
    e:close_stdin(true)
    assert.equal(1, f.stdin_closed)
    vm:stop()
  end))

  it("gets a signal that came while it was being started", virtual(function()
    local e, f, vm = given.with_exec()
    f:fault(function(op) return op == "guest.execute" and { delay = 100 } or nil end)
    local start = given.later(e.start, e)
    task.sleep(50)
    assert.equal("kept", e:kill(9))
    assert.is_true(start())
    assert.equal(137, (e:wait()))
    assert.same({ "exec-added e", "exec-started e", "exit e" }, { table.unpack(f:topics("c"), 3) })
    vm:stop()
  end))
end)

describe("a process that has stopped", function()
  it("cannot be started, resized or killed, and nobody is asked [#189] [#204] [#211]", virtual(function()
    local e, f, vm = given.with_exec(nil, { "exit", 0 }, { terminal = true })
    e:start()
    e:wait()
    given.settle()
    local calls = #f.calls
    assert.equal("failed_precondition", given.error(e.start, e).code)
    assert.equal("failed_precondition", given.error(e.resize, e, 1, 1).code)
    assert.equal("exited", e:kill(9))
    assert.equal(calls, #f.calls)
    vm:stop()
  end))

  it("takes a close of its input without complaint [#217]", virtual(function()
    local e, f, vm = given.with_exec(nil, { "exit", 0 }, { io = { stdin = { fd = 0 }, stdout = { fd = 1 } } })
    e:start()
    e:wait()
    given.settle()
    e:close_stdin(true)
    assert.is_nil(f.stdin_closed)
    vm:stop()
  end))

  it("is deleted by two at once: both succeed, and it is released once [#208]", virtual(function()
    local e, f, vm, c = given.with_exec({ drain_takes = 300 }, { "exit", 4, 100 })
    e:start()
    task.sleep(200)
    assert.equal("stopped", e:state().state)
    local one, two = given.later(c.delete_exec, c, "e"), given.later(c.delete_exec, c, "e")
    local _, first = one()
    local _, second = two()
    assert.same({ 4, 4 }, { first.code, second.code })
    assert.same({ "create", "start", "exec-added e", "exec-started e", "exit e" }, f:topics("c"))
    assert.same({}, vm.ledger:under(e.owner))
    vm:stop()
    assert.same({}, f:leaks())
  end))
end)

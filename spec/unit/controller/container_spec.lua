local given = require "support.given"
local task = require "moonshim.task"
local virtual = require "support.virtual"

-- Each of these is refused, and nobody is asked.
local function refused(c, names, f)
  local before = #f.calls
  for _, name in ipairs(names) do
    assert.equal("failed_precondition", given.code(given.error(c[name], c, {})), name)
  end
  assert.equal(before, #f.calls)
end

describe("a container that is new", function()
  it("refuses start, update, pids, stats, exec and kill, without a call [#22]", virtual(function()
    local f, pod, vm = given.pod()
    local c = pod:new_container("c")
    local calls = #f.calls
    refused(c, { "start", "update", "pids", "stats", "exec" }, f)
    assert.equal("failed_precondition", given.error(c.kill, c, 9).code)
    assert.equal(calls, #f.calls)
    vm:stop()
  end))
end)

describe("a container that is created", function()
  it("refuses a second create and keeps what it holds [#23]", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.created(pod)
    local calls, held = #f.calls, #vm.ledger:under(c.owner)
    assert.equal("failed_precondition", given.error(c.create, c, given.request { "sleep" }).code)
    assert.equal(calls, #f.calls)
    assert.same({ "created", held }, { c:state().state, #vm.ledger:under(c.owner) })
    vm:stop()
  end))

  it("refuses update, pids and stats; an exec may be added, as containerd wants it [#24]", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.created(pod)
    refused(c, { "update", "pids", "stats" }, f)
    given.exec(c, { "sleep" }, "e")
    assert.same({}, f:called("^guest.execute"))
    vm:stop()
  end))

  it("starts with one guest start and one launch, and says the pid [#42]", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.created(pod)
    local pid = c:start()
    assert.same({ "guest.start c", "guest.execute c" }, f:called("^guest.[se][tx][ae][rc][tu]"))
    assert.same({ pid, "running" }, { c:state().pid, c:state().state })
    vm:stop()
  end))

  for name, op in pairs { ["the start [#43]"] = "guest.start", ["the launch [#44]"] = "guest.execute" } do
    it("is stopped and deletable when the guest refuses " .. name .. " (known bug 25)", virtual(function()
      local f, pod, vm = given.pod()
      local c = given.created(pod, given.FULL)
      local held = #vm.ledger:under(c.owner)
      f:fault(function(call) return call == op and "fail" or nil end)
      assert.equal("unknown", given.error(c.start, c).code)
      f:fault(nil)
      given.settle()
      assert.same({ "stopped", 0, 1 }, { c:state().state, c:state().pid, c:state().code })
      assert.same({ "create" }, f:topics("c")) -- there was no process, so there is no exit
      assert.equal(held, #vm.ledger:under(c.owner))
      c:delete()
      assert.same({}, f:leaks { running = true })
      vm:stop()
    end))
  end

  for args, hresult in pairs { missing = 0x80070002, not_executable = 0x80070005 } do
    it(("says why when its program is %s"):format(args), virtual(function()
      local _, pod, vm = given.pod()
      local c = given.created(pod, { args })
      local e = given.error(c.start, c)
      assert.same({ hresult, "guest" }, { e.hresult, e.origin })
      assert.equal(1, (c:wait()))
      vm:stop()
    end))
  end
end)

describe("a container that runs", function()
  it("refuses a second start [#25]", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod)
    assert.equal("failed_precondition", given.error(c.start, c).code)
    assert.equal(1, #f:called("^guest.start"))
    vm:stop()
  end))

  -- The guest takes 100 ms to start it, and it runs for 100 more.
  for when, ms in pairs { ["while the guest was asked"] = 50, ["right after the start"] = 101 } do
    it(("keeps being watched although the caller of start went away %s [#45]"):format(when), virtual(function()
      local f, pod, vm = given.pod()
      local c = given.created(pod, { "exit", "4", "100" })
      f:fault(function(op) return op == "guest.execute" and { delay = 100 } or nil end)
      local caller = task.spawn(function()
        c:start()
        task.sleep("1h")
      end)
      task.sleep(ms)
      caller:cancel()
      assert.equal(4, (c:wait()))
      assert.same({ "create", "start", "exit" }, f:topics("c"))
      vm:stop()
    end))
  end

  for code, scenario in pairs { [0] = " [#46]", [1] = "", [137] = " [#47]", [255] = "" } do
    it(("is stopped when init exits %d, tells it once, and holds everything until the delete%s"):format(code, scenario), virtual(function()
      local f, pod, vm = given.pod()
      local c = given.running(pod, { "exit", code, 50 })
      local held, calls = #vm.ledger:under(c.owner), #f:called("^guest")
      assert.equal(code, (c:wait()))
      assert.equal("stopped", c:state().state)
      assert.equal(code, f:event("exit").code)
      given.settle()
      assert.same({ "create", "start", "exit" }, f:topics("c"))
      assert.equal(held, #vm.ledger:under(c.owner))
      assert.equal(calls, #f:called("^guest"))
      vm:stop()
    end))
  end

  it("ends with its execs, each with its own exit event [#48]", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod, { "exit", 3, 100 })
    given.exec(c, { "sleep" }, "e1"):start()
    given.exec(c, { "exit", 7 }, "e2"):start()
    c:wait()
    given.settle()
    local exits = {}
    for _, e in ipairs(f.events) do
      if e.topic == "exit" then exits[e.data.exec] = e.data.code end
    end
    assert.equal("stopped", c:state().state)
    assert.same({ [""] = 3, e1 = 137, e2 = 7 }, exits)
    vm:stop()
  end))

  it("answers many waiters with the same code and time [#49] [#224]", virtual(function()
    local _, pod, vm = given.pod()
    local c = given.running(pod, { "exit", 9, 100 })
    local steps, answers = {}, 0
    for i = 1, 10 do
      steps[i] = function()
        local code = c:wait()
        answers = answers + 1
        return { code, c:state().exited_at }
      end
    end
    for _, answer in ipairs(task.all(steps)) do assert.same({ 9, 100 }, answer) end
    assert.equal(10, answers)
    vm:stop()
  end))

  it("answers who waits after its end at once, with the code and the time of then [#50]", virtual(function()
    local _, pod, vm = given.pod()
    local c = given.running(pod, { "exit", 9, 100 })
    c:wait()
    task.sleep("1h")
    local now = task.now()
    assert.equal(9, (c:wait()))
    assert.same({ now, 100 }, { task.now(), c:state().exited_at })
    vm:stop()
  end))

  it("lets a waiter go without harm [#225] (known bug 83)", virtual(function()
    local _, pod, vm = given.pod()
    local c = given.running(pod, { "exit", 0, 100 })
    local other = given.later(c.wait, c)
    assert.equal("deadline_exceeded", given.error(task.deadline, 10, c.wait, c).code)
    assert.same({ true, 0 }, { other() })
    vm:stop()
  end))

  it("waits as long as it takes (known bug 74)", virtual(function()
    local _, pod, vm = given.pod()
    local c = given.running(pod, { "exit", 0, 60 * 24 * 3600 * 1000 })
    assert.equal(0, (c:wait()))
    vm:stop()
  end))

  it("passes new limits on [#65]", virtual(function()
    local f, pod, vm = given.pod()
    given.running(pod):update { memory = { limit = 1 << 20 } }
    assert.same({ { memory = { limit = 1 << 20 } } }, f.constraints)
    vm:stop()
  end))

  it("takes nothing but limits [#66]", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod)
    assert.equal("invalid_argument", given.error(c.update, c, nil).code)
    assert.equal("invalid_argument", given.error(c.update, c, { "fragment" }).code)
    assert.same({}, f.constraints)
    vm:stop()
  end))

  it("stays what it is when the guest refuses new limits [#67]", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod)
    f:fault(function(op) return op == "guest.update" and "fail" or nil end)
    assert.equal("unknown", given.error(c.update, c, {}).code)
    assert.equal("running", c:state().state)
    vm:stop()
  end))

  it("marks the processes that it knows [#68]", virtual(function()
    local _, pod, vm = given.pod()
    local c = given.running(pod)
    local e = given.exec(c, { "sleep" }, "e1")
    e:start()
    assert.same({ { pid = c.init.pid, exec = "" }, { pid = e.pid, exec = "e1" }, { pid = 9999 } }, c:pids())
    vm:stop()
  end))

  it("has empty statistics when the guest says nothing [#69] (known bug 132)", virtual(function()
    local _, pod, vm = given.pod { no_stats = true }
    assert.same({}, given.running(pod):stats())
    vm:stop()
  end))

  it("says not_found when the guest does not know the container whose statistics are asked for [#70]", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod)
    for _, hresult in ipairs { 0xC037010E, 0x80070490 } do
      f:fault(function(op) return op == "guest.properties" and { hresult = hresult } or nil end)
      assert.equal("not_found", given.error(c.stats, c).code)
    end
    f:fault(nil)
    assert.equal("running", c:state().state)
    vm:stop()
  end))

  for op, scenario in pairs { stats = "[#71]", kill = "[#223]" } do
    it(("is seen to exit, and told of, while a %s hangs %s"):format(op, scenario), virtual(function()
      local f, pod, vm = given.pod()
      local c = given.running(pod, { "exit", 5, 100 })
      f:fault(function(call) return (call == "guest.properties" or call == "guest.signal") and "hang" or nil end)
      local _, t = given.later(c[op], c, 28)
      assert.equal(5, (c:wait()))
      assert.equal(100, task.now())
      assert.is_false(t:done())
      assert.equal("stopped", c:state().state)
      assert.same({ "create", "start", "exit" }, f:topics("c"))
      t:cancel()
      f:fault(nil)
      vm:stop()
    end))
  end
end)

describe("a container that has stopped", function()
  it("refuses start, update, pids, stats and exec [#26]", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod, { "exit", 0 })
    c:wait()
    refused(c, { "start", "update", "pids", "stats", "exec" }, f)
    vm:stop()
  end))
end)

describe("a container whose create failed", function()
  local function failed(pod, f)
    local c = pod:new_container("c")
    f:fault(function(op) return op == "guest.create" and "fail" or nil end)
    given.error(c.create, c, given.request(given.FULL))
    f:fault(nil)
    assert.equal("failed", c.machine:state())
    return c
  end

  it("refuses create, start, update, pids, stats and exec [#27]", virtual(function()
    local f, pod, vm = given.pod()
    local c = failed(pod, f)
    refused(c, { "start", "update", "pids", "stats", "exec" }, f)
    local calls = #f.calls
    assert.equal("failed_precondition", given.error(c.create, c, given.request { "sleep" }).code)
    assert.equal(calls, #f.calls)
    vm:stop()
  end))

  it("says exited to a kill, and nobody is asked [#62]", virtual(function()
    local f, pod, vm = given.pod()
    local c = failed(pod, f)
    local calls = #f.calls
    assert.equal("exited", c:kill(9))
    assert.equal(calls, #f.calls)
    vm:stop()
  end))

  it("is deleted without a wait, with what its roll-back could not release [#81]", virtual(function()
    local f, pod, vm = given.pod()
    local c = pod:new_container("c")
    f:fault(function(op) return (op == "guest.create" or op == "guest.delete_state") and "fail" or nil end)
    given.error(c.create, c, given.request(given.FULL))
    f:fault(nil)
    assert.is_true(#f:leaks { running = true } > 0)
    local now = task.now()
    c:delete()
    assert.equal(now, task.now())
    assert.same({}, f:leaks { running = true })
    assert.equal("deleted", c.machine:state())
    assert.equal("not_found", given.error(pod.container, pod, "c").code)
    vm:stop()
  end))
end)

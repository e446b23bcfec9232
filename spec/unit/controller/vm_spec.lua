local fake_vm = require "support.fake_vm"
local given = require "support.given"
local task = require "moonshim.task"
local virtual = require "support.virtual"

describe("a VM that does not come up", function()
  for _, op in ipairs { "host.start", "host.accept", "guest.negotiate" } do
    for _, fault in ipairs { "fail", "hang", "die", "lost" } do
      it(("says so in bounded time and leaves nothing: %s, %s"):format(op, fault), virtual(function()
        local f = fake_vm.new()
        f:fault(function(call) return call == op and fault or nil end)
        local vm = f:vm { boot = false }
        local e = given.error(vm.boot, vm)
        assert.is_truthy(e.message:find("^boot the VM: "), e.message)
        assert.is_true(task.now() <= 4 * 60 * 1000, tostring(task.now()))
        assert.same({}, f:leaks())
        assert.equal("ended", vm.machine:state())
        assert.equal("failed_precondition", given.error(function()
          local pod = vm:new_pod("p")
          return pod:new_container("c")
        end).code)
      end))
    end
  end

  it("is not waited for by a stop", virtual(function()
    local f = fake_vm.new()
    local vm = f:vm { boot = false }
    vm:stop()
    assert.equal(0, task.now())
    assert.same({}, f.calls)
  end))
end)

describe("a VM that dies", function()
  it("gives every process an exit, whatever its state, each once", virtual(function()
    local f, pod, vm = given.pod()
    local a, b = given.running(pod, { "sleep" }, "a"), given.created(pod, { "sleep" }, "b")
    given.exec(a, { "sleep" }, "e1"):start()
    given.exec(a, { "sleep" }, "e2")
    f:die()
    assert.equal(255, (a:wait()))
    assert.equal(255, (b:wait()))
    assert.equal("lost", vm.machine:state())
    assert.is_table(f:event("vm-lost"))
    given.settle()
    local exits = {}
    for _, e in ipairs(f.events) do
      if e.topic == "exit" then
        local key = e.data.container .. "/" .. e.data.exec
        assert.is_nil(exits[key], key)
        exits[key] = e.data.code
      end
    end
    assert.same({ ["a/"] = 255, ["b/"] = 255, ["a/e1"] = 255, ["a/e2"] = 255 }, exits)
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("lets go all who wait", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod)
    local waits = {}
    for i = 1, 5 do waits[i] = given.later(c.wait, c) end
    f:die()
    for i = 1, 5 do assert.same({ true, 255 }, { waits[i]() }) end
    vm:stop()
  end))

  it("refuses new containers, and is stopped like any other", virtual(function()
    local f, pod, vm = given.pod()
    f:die()
    given.settle()
    assert.equal("failed_precondition", given.error(pod.new_container, pod, "c").code)
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("while a container starts fails the start", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.created(pod)
    f:fault(function(op) return op == "guest.execute" and "die" or nil end)
    local e = given.error(c.start, c)
    assert.is_string(e.code)
    c:wait()
    vm:stop()
    assert.same({}, f:leaks())
  end))
end)

describe("a VM that is told to end at once", function()
  it("does so, and its containers were killed", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod, { "immortal", layers = { "/a.ext4" }, scratch = { size = "64M" } })
    vm:terminate()
    assert.same({ 137, "ended with its VM" }, { c:wait() })
    assert.same({}, f:leaks())
    assert.is_true(task.now() < 10000)
  end))

  it("while a stop is stuck makes that one end, too", virtual(function()
    local f, pod, vm = given.pod()
    given.running(pod, { "immortal" })
    local stop = given.later(vm.stop, vm)
    task.sleep(1000)
    vm:terminate()
    assert.is_true(stop())
    assert.same({}, f:leaks())
  end))
end)

describe("what a stop cannot release", function()
  it("is named in the error and stays in the journal", virtual(function()
    local f, pod, vm = given.pod()
    given.running(pod, { "sleep", layers = { "/a.ext4" }, scratch = { size = "64M" } })
    f:fault(function(op, _, what) return op == "host.detach" and what == "0:0" and "fail" or nil end)
    local e = given.error(vm.stop, vm)
    assert.is_truthy(e.message:find("still held: layer-", 1, true), e.message)
    assert.equal(1, #vm.ledger:all())
    f:fault(nil)
    vm:stop()
    assert.same({}, f:leaks())
  end))
end)

describe("a listener of events", function()
  it("hears them in order until it leaves, and cannot break anything", virtual(function()
    local f, pod, vm = given.pod()
    local heard = {}
    local leave = vm:subscribe(function(topic) heard[#heard + 1] = topic end)
    vm:subscribe(function() error("a bug") end)
    local c = given.running(pod, { "exit", 0 })
    c:wait()
    leave()
    c:delete()
    assert.same({ "create", "start", "exit" }, heard)
    assert.is_truthy(f.lines[1]:find("a listener of events failed", 1, true))
    vm:stop()
  end))
end)

describe("the clock of the machine", function()
  it("may jump back: no exit is told before its start [#688]", virtual(function(v)
    local f, pod, vm = given.pod()
    v.clock.wall = function() return 1000000 - task.now() end -- backwards all the time
    local c = given.running(pod, { "exit", 3, 500 })
    local e = given.exec(c, { "exit", 0, 100 }, "e")
    e:start()
    c:wait()
    local last, at = 0, {}
    for _, event in ipairs(vm.ledger:events()) do
      assert.is_true(event.at >= last, event.topic)
      last = event.at
      at[event.topic .. (event.data.exec or "")] = event.data.at or event.at
    end
    assert.equal(500, at.exit - at.start)
    assert.equal(100, at.exite - at["exec-startede"])
    assert.same({ "create", "start", "exec-added e", "exec-started e", "exit e", "exit" }, f:topics "c")
    vm:stop()
  end))
end)

describe("what many ask of one VM at once", function()
  it("is answered by one table of devices, made when it is first needed [#390]", virtual.seeds(3, function()
    local f, pod, vm = given.pod()
    local made, real = 0, f.world.core.devices
    rawset(f.world.core, "devices", function(...)
      made = made + 1
      return real(...)
    end)
    assert.is_nil(rawget(f.world, "devices"))
    local steps = {}
    for i = 1, 8 do
      steps[i] = function() given.running(pod, { "sleep", layers = { "/base.ext4", ("/%d.ext4"):format(i) } }, "c" .. i) end
    end
    task.all(steps)
    assert.equal(1, made)
    assert.equal(9, #f:called "^host.attach") -- the base once
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("for one pod does not wait for a slow answer to another: a mount, a share, a create, a limit [#391]", virtual(function()
    for _, op in ipairs { "guest.mount", "guest.map", "guest.combine", "guest.create", "guest.update", "guest.delete_state" } do
      local f, a, vm = given.pod()
      local b = vm:new_pod("q")
      local old = given.running(a, given.FULL, "old")
      local slow = true
      f:fault(function(called)
        if called ~= op or not slow then return nil end
        slow = false
        return { delay = 20000 }
      end)
      local from = task.now()
      local works = {
        ["guest.update"] = function() old:update { memory = { limit = 1 << 30 } } end,
        ["guest.delete_state"] = function() old:stop() end,
      }
      local wait = given.later(works[op] or function() given.running(a, {
        "sleep", layers = { "/x.ext4" }, scratch = { size = "64M" }, mounts = { { source = "/folder", destination = "/f" } },
      }, "slow") end)
      task.sleep(1)
      assert.is_false(slow, op)
      local c = given.running(b, {
        "sleep", layers = { "/y.ext4" }, scratch = { size = "64M" }, mounts = { { source = "/other", destination = "/f" } },
      }, "quick")
      c:update { memory = { limit = 1 << 30 } }
      c:stop()
      assert.is_true(task.now() - from < 1000, op .. " held it up for " .. task.now() - from)
      assert.same({ true }, { wait() })
      assert.is_true(task.now() - from >= 20000)
      vm:stop()
      assert.same({}, f:leaks())
    end
  end))
end)

describe("100 cycles of create, start, exit and delete", function()
  it("leave as much as there was before [#684]", virtual(function()
    local f, pod, vm = given.pod()
    local before = #vm.ledger:all()
    for i = 1, 100 do
      local c = given.running(pod, { "exit", 0, layers = { "/base.ext4" }, scratch = { path = "/s.ext4" } }, "c" .. i % 3)
      c:wait()
      c:delete()
    end
    assert.equal(before, #vm.ledger:all())
    assert.same({}, f:leaks { running = true })
    assert.same({}, f.wrong)
    local states = {}
    for object in pairs(vm.ledger:states()) do states[#states + 1] = object end
    table.sort(states)
    assert.same({ "vm", "vm/p" }, states)
    vm:stop()
  end))

  it("of several pods in parallel do not touch each other [#685]", virtual.seeds(3, function()
    local f, _, vm = given.pod()
    local steps = {}
    for p = 1, 5 do
      local pod = vm:new_pod("p" .. p)
      for i = 1, 4 do
        steps[#steps + 1] = function()
          local id = ("c%d-%d"):format(p, i)
          local c = given.running(pod, { "exit", i, i * 10, layers = { "/base.ext4" }, scratch = { size = "64M" } }, id)
          assert.equal(i, (c:wait()))
          c:delete()
        end
      end
    end
    task.all(steps)
    for p = 1, 5 do
      for i = 1, 4 do assert.same({ "create", "start", "exit", "delete" }, f:topics(("c%d-%d"):format(p, i))) end
    end
    assert.same({}, f:leaks { running = true })
    assert.same({}, f.wrong)
    vm:stop()
  end))
end)

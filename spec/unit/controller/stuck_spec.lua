-- A guest or a host that does not answer while something goes, and who waits how long.
local given = require "support.given"
local task = require "moonshim.task"
local virtual = require "support.virtual"

local FULL = {
  "exit", "0", layers = { "/base.ext4" }, scratch = { size = "64M" }, mounts = { { source = "/shared", destination = "/shared" } },
}

---A container that has ended beside one that runs; `op` hangs from now on.
local function stuck(op)
  local f, pod, vm = given.pod()
  local c = given.running(pod, FULL, "c")
  given.running(pod, { "sleep", layers = { "/base.ext4" } }, "d")
  c:wait()
  f:fault(function(what) return what == op and "hang" or nil end)
  return f, pod, vm, c
end

describe("a workload whose delete is stuck", function()
  for _, op in ipairs { "guest.uncombine", "guest.delete_state", "guest.unmount", "guest.unmap", "guest.eject" } do
    it(("in %s does not keep its pod: the stop takes over and ends the VM within one step's limit [#683]"):format(op), virtual(function()
      local f, _, vm, c = stuck(op)
      local wait = given.later(c.delete, c)
      task.sleep(2000)
      local from = task.now()
      vm:stop()
      assert.is_true(task.now() - from <= 60000, "it took " .. task.now() - from)
      assert.equal("ended", vm.machine:state())
      assert.is_true((wait())) -- the delete learns that all is gone
      assert.same({ "create", "start", "exit", "delete" }, f:topics("c"))
      assert.same({ "create", "start", "exit", "delete" }, f:topics("d"))
      assert.same({}, f:leaks())
      assert.same({}, f.wrong)
    end))
  end

  it("can be stopped by many, and asked about, meanwhile", virtual(function()
    local f, pod, vm, c = stuck "guest.delete_state"
    local waits = { (given.later(c.delete, c)) }
    task.sleep(1000)
    for _, what in ipairs { vm, c, vm } do waits[#waits + 1] = (given.later(what.stop, what)) end
    task.sleep(10)
    assert.equal("deleting", c:state().state)
    assert.equal("c", pod:container("c").id)
    for _, wait in ipairs(waits) do wait() end
    assert.equal("ended", vm.machine:state())
    assert.same({}, f:leaks())
  end))

  it("in a VM that is shared fails within its limits, keeps what is left, and is done with when the guest answers", virtual(function()
    local f, pod, vm, c = stuck "guest.delete_state"
    local from = task.now()
    local e = given.error(c.delete, c)
    assert.equal("deadline_exceeded", e.code)
    assert.is_true(task.now() - from <= 2 * 60000)
    assert.equal("deleting", c:state().state)
    f:fault(nil)
    c:delete()
    pod:stop()
    assert.same({}, f:leaks { running = true })
    assert.equal("running", vm.machine:state())
    vm:stop()
    assert.same({}, f:leaks())
  end))
end)

describe("a stop that finds a delete waiting for a process", function()
  it("goes on by itself when that came to nothing: the delete signals nobody", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod, { "sleep" })
    local e = given.exec(c, { "stubborn" }, "e1")
    e:start()
    local delete = given.later(vm.release, vm, { goal = "delete", owner = e.owner, reason = "delete" })
    task.sleep(1)
    local from = task.now()
    vm:release { goal = "stop", owner = e.owner, reason = "stop" }
    assert.is_true(task.now() - from <= 60000)
    assert.is_false((delete()))
    assert.equal(137, (e:wait()))
    vm:stop()
    assert.same({}, f:leaks())
  end))
end)

describe("a create that is stuck", function()
  for _, op in ipairs { "guest.create", "guest.combine", "guest.mount", "host.attach", "guest.start", "guest.execute" } do
    it(("in %s is cancelled by the stop of its pod, and the VM ends within the limits of two steps"):format(op), virtual(function()
      local f, pod, vm = given.pod()
      f:fault(function(what) return what == op and "hang" or nil end)
      local wait = given.later(given.running, pod, FULL, "c")
      task.sleep(2000)
      local from = task.now()
      vm:stop()
      assert.is_true(task.now() - from <= 120000, "it took " .. task.now() - from)
      assert.is_false((wait()))
      assert.equal("ended", vm.machine:state())
      assert.same({}, f:leaks())
      assert.same({}, f.wrong)
    end))
  end
end)

describe("an agent that answers nothing any more", function()
  it("is given one answer's time by a stop, whatever its ladder: who hears no TERM hears no KILL", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod, given.FULL)
    f:fault(function(op) return op:find "^guest" and "hang" or nil end)
    vm:stop { ladder = { { "TERM", wait = "10m" }, { "KILL", wait = "10m" } } }
    assert.equal(5000, task.now())
    assert.same({ 137, "ended with its VM" }, { c:wait() })
    assert.same({}, f:leaks())
  end))

  it("fails the stop of one container in a shared VM as soon, and the next stop goes on", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod, { "stubborn" })
    f:fault(function(op) return op == "guest.signal" and "hang" or nil end)
    assert.equal("deadline_exceeded", given.error(c.stop, c).code)
    assert.equal(5000, task.now())
    f:fault(nil)
    c:stop()
    assert.same({ 137 }, { c:wait() })
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("is told from one whose container does not listen: every rung has its time", virtual(function()
    local f, pod, vm = given.pod()
    given.running(pod, { "stubborn" })
    vm:stop { ladder = { { "TERM", wait = "10m" }, { "KILL", wait = "10m" } } }
    assert.equal(600000, task.now())
    assert.same({ "c/101 15", "c/101 9" }, f.signals)
  end))
end)

describe("a host whose detach hangs", function()
  it("holds a stop up for one step, and then all of its disks at once for a while", virtual(function()
    local f, pod, vm = given.pod()
    given.running(pod, given.FULL)
    f:fault(function(op) return op == "host.detach" and "hang" or nil end)
    local e = given.error(vm.stop, vm)
    assert.is_true(task.now() <= 60000 + 2 * 15000, tostring(task.now()))
    assert.is_falsy(f.running)
    -- The death of the VM says nothing about the host: what it holds is still held, for the next try.
    assert.is_truthy(e.message:find("still held: ", 1, true), e.message)
    local disks = 0
    for _ in pairs(f.attached) do disks = disks + 1 end
    assert.equal(disks, #vm.ledger:all())
    f:fault(nil)
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("does not let a network adapter be forgotten", virtual(function()
    local f, pod, vm = given.pod()
    local eth0 = { name = "eth0", kind = "bridge", bridge = "moonshim0", dns = { servers = {}, search = {} } }
    pod.network.endpoints_of = function() return { eth0 } end
    pod.network:setup { mode = "bridge" }
    given.running(pod)
    f:fault(function(op) return op == "host.unnic" and "hang" or nil end)
    local e = given.error(vm.stop, vm)
    assert.is_truthy(e.message:find("still held: nic-", 1, true), e.message)
    f:fault(nil)
    vm:stop()
    assert.same({}, f:leaks())
  end))
end)

describe("the exit of a process whose VM died", function()
  it("waits for none of the output that cannot come any more", virtual(function()
    local f, pod, vm = given.pod { drain_takes = 5000 }
    local c = given.running(pod)
    f:die()
    assert.equal(255, (c:wait()))
    assert.equal(0, task.now())
    assert.is_table(f:event "exit")
    vm:stop()
  end))

  it("waits for output that its living VM may still send", virtual(function()
    local _, pod, vm = given.pod { drain_takes = 600 }
    local c = given.running(pod, { "exit", 0 })
    c:wait()
    assert.equal(600, task.now())
    vm:stop()
  end))
end)

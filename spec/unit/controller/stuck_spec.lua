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

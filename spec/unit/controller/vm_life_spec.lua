-- The life of a VM on its host: made, started, waited for, ended, each in every order and with every refusal.
local err = require "moonshim.err"
local fake_vm = require "support.fake_vm"
local given = require "support.given"
local journal = require "moonshim.journal"
local layout = require "moonshim.guest.layout"
local ledger = require "moonshim.ledger"
local task = require "moonshim.task"
local virtual = require "support.virtual"

local function faulty(op, fault)
  local f = fake_vm.new { wants_entropy = true, logs = true }
  f:fault(function(call, _, detail) return (call == op or call .. " " .. tostring(detail) == op) and fault or nil end)
  return f, f:vm { boot = false }
end

-- Another VM of the same id over the same host, as the next try of the same caller makes it.
local function next_try(f)
  f.ledger = ledger.open { journal = journal.memory(), world = f.world, boot_id = "boot-1" }
  f.ended = task.signal()
  return f:vm()
end

describe("a VM that is made", function()
  it("is asked of its host by the document that the policy gives, and has the slots that it names [#352]", virtual(function()
    local f = fake_vm.new()
    local vm = f:vm { boot = false }
    vm:boot { size = { memory_mb = 512, processors = 2 } }
    local machine = f.document.VirtualMachine
    assert.equal(512, machine.ComputeTopology.Memory.SizeInMB)
    assert.equal(2, machine.ComputeTopology.Processor.Count)
    local controllers = 0
    for _ in pairs(machine.Devices.Scsi) do controllers = controllers + 1 end
    assert.equal(controllers, f.world.scsi.controllers)
    f.world.scsi = { controllers = 1, boot = { { 0, 0, "/boot.ext4" } } } -- as of a document that says so
    local pod = vm:new_pod("p")
    given.running(pod, { "sleep", layers = { "/a.ext4" } })
    assert.same({ "host.attach 0:1 /a.ext4" }, f:called "^host.attach")
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("and refused by its host leaves nothing, and can be made again [#353]", virtual(function()
    local f, vm = faulty("host.create", "fail")
    local e = given.error(vm.boot, vm)
    assert.is_truthy(e.message:find("host.create: no", 1, true), e.message)
    assert.same({}, f:called "^host.start")
    assert.same({}, f:leaks())
    f:fault(nil)
    local again = next_try(f)
    assert.equal("running", again.machine:state())
    again:stop()
    assert.same({}, f:leaks())
  end))

  it("is not made a second time while it boots or runs [#354]", virtual(function()
    local f, vm = faulty("host.start", { delay = 1000 })
    local boot = given.later(vm.boot, vm)
    task.sleep(500)
    assert.equal("failed_precondition", given.error(vm.boot, vm).code)
    boot()
    assert.equal("failed_precondition", given.error(vm.boot, vm).code)
    assert.equal(1, #f:called "^host.create")
    assert.equal(1, #f:called "^host.start")
    vm:stop()
  end))
end)

describe("a VM that is started", function()
  it("finds everybody listening: entropy, log and agent, before its first step [#356]", virtual(function()
    local f = fake_vm.new { wants_entropy = true, logs = true }
    local vm = f:vm()
    assert.same({ "host.create", "host.listen 1", "host.listen 109", "host.listen 1073741824", "host.start" },
      table.move(f.calls, 1, 5, 1, {}))
    vm:stop()
  end))

  for _, port in ipairs { layout.ENTROPY_PORT, layout.LOG_PORT, layout.BRIDGE_PORT } do
    it(("is not started when nobody can listen on port %d, and says so at once [#357]"):format(port), virtual(function()
      local f, vm = faulty("host.listen " .. port, "fail")
      local e = given.error(vm.boot, vm)
      assert.is_truthy(e.message:find("host.listen: no", 1, true), e.message)
      assert.equal(0, task.now())
      assert.same({}, f:called "^host.start")
      assert.same({}, f:leaks())
      assert.equal("failed_precondition", given.error(vm.boot, vm).code)
    end))
  end

  it("and refuses has nobody listening any more [#358]", virtual(function()
    local f, vm = faulty("host.start", "fail")
    local listened
    local terminate = vm.world.host.terminate
    assert.is_function(terminate)
    f.on_terminate = function() listened = next(f.listening) end
    local e = given.error(vm.boot, vm)
    assert.is_truthy(e.message:find("host.start: no", 1, true), e.message)
    assert.is_nil(listened) -- before anything else was undone
    assert.same({}, f:leaks())
    assert.equal("failed_precondition", given.error(vm.boot, vm).code)
  end))

  it("and whose guest never dials is given up after two minutes [#361]", virtual(function()
    local f, vm = faulty("nothing")
    f.deaf = true
    local e = given.error(vm.boot, vm)
    assert.equal("deadline_exceeded", e.code)
    assert.equal(120000, task.now())
    assert.same({}, f:leaks())
  end))

  it("and exits while its guest is waited for fails the boot at once [#359] [#360]", virtual(function()
    for _, exit in ipairs { { reason = "exited", code = 0 }, { reason = "exited", code = 1 }, { reason = "exited", signal = 9 } } do
      local from = task.now()
      local f, vm = faulty("nothing")
      f.deaf = true
      local boot = given.later(vm.boot, vm)
      task.sleep(1000)
      f:die(exit)
      local ok, e = boot()
      assert.is_false(ok)
      assert.equal("unavailable", e.code)
      assert.is_truthy(e.message:find("exited during boot", 1, true), e.message)
      assert.is_true(task.now() - from < 2000)
      assert.same({}, f:leaks())
    end
  end))
end)

describe("a VM that is ended", function()
  it("before it was started is not told to end: what was open is closed [#367]", virtual(function()
    local f, vm = faulty("host.listen 1073741824", "fail")
    given.error(vm.boot, vm)
    assert.same({}, f:called "^host.start")
    assert.equal(1, f.closed)
    assert.equal("ended", vm.machine:state())
    assert.same({}, f:leaks())
  end))

  it("that was never made takes nothing to end, nor does one that has ended [#371]", virtual(function()
    local f = fake_vm.new()
    local vm = f:vm { boot = false }
    vm:stop()
    vm:stop()
    vm:terminate()
    assert.same({}, f.calls)
    local running = fake_vm.new()
    vm = running:vm()
    vm:stop()
    local calls = #running.calls
    assert.is_nil(vm:stop())
    assert.is_nil(vm:terminate())
    assert.equal(calls, #running.calls)
  end))

  it("and does not want to is an error; its connection is closed all the same [#369]", virtual(function()
    local f, pod, vm = given.pod()
    given.running(pod)
    f:fault(function(op) return op == "host.terminate" and "fail" or nil end)
    local e = given.error(vm.stop, vm)
    assert.is_truthy(e.message:find("host.terminate: no", 1, true), e.message)
    assert.is_truthy(e.message:find("still held: uvm-", 1, true), e.message)
    assert.is_nil(vm.world.guest)
    assert.equal("closed", f.bridge:state())
    assert.is_true(f.running)
    assert.is_table(f:event "release-failed")
    assert.is_truthy(table.concat(f.lines, "\n"):find("a step failed", 1, true))
  end))

  it("is ended by the next stop when it did not want to at first [#370]", virtual(function()
    for _, verb in ipairs { "stop", "terminate" } do
      local f, pod, vm = given.pod()
      local c = given.running(pod, given.FULL)
      f:fault(function(op) return op == "host.terminate" and "fail" or nil end)
      given.error(vm[verb], vm)
      assert.equal("stopping", vm.machine:state())
      assert.equal("failed_precondition", given.error(vm.new_pod, vm, "late").code)
      f:fault(nil)
      vm[verb](vm)
      assert.equal("ended", vm.machine:state())
      assert.is_number((c:wait()))
      assert.same({}, f:leaks())
      assert.same({}, f.wrong)
    end
  end))
end)

describe("who waits for a VM", function()
  it("is refused while it was not started [#377]", virtual(function()
    local vm = fake_vm.new():vm { boot = false }
    assert.equal("failed_precondition", given.error(vm.wait, vm).code)
    vm:stop()
  end))

  it("waits while it boots and runs, and hears how it ended [#375]", virtual(function()
    local f, vm = faulty("host.start", { delay = 1000 })
    local boot = given.later(vm.boot, vm)
    task.sleep(500)
    local wait = given.later(vm.wait, vm)
    boot()
    local guest = f:dial(layout.LOG_PORT)
    f:die { reason = "exited", signal = 9 }
    task.sleep(500)
    guest.say '{"level":"warn","msg":"the last words"}\n'
    local over = false
    task.detach(function()
      wait()
      over = true
    end)
    task.sleep(500)
    assert.is_false(over) -- there may be more of it
    guest.hang_up()
    local ok, exit = wait()
    assert.is_true(ok)
    assert.same({ reason = "exited", signal = 9 }, exit)
    assert.is_truthy(table.concat(f.lines, "\n"):find("the last words", 1, true))
    vm:stop()
  end))

  it("does not wait for ever for the end of its log", virtual(function()
    local f, vm = faulty("nothing")
    vm:boot()
    f:dial(layout.LOG_PORT)
    f:die()
    local from = task.now()
    vm:wait()
    assert.equal(2000, task.now() - from)
    vm:stop()
  end))

  it("does not wait at all when it ended before its log was listened for [#376]", virtual(function()
    local f, vm = faulty("host.listen 109", "fail")
    given.error(vm.boot, vm)
    assert.same({ reason = "ended" }, vm:wait())
    local other = fake_vm.new():vm { boot = false }
    other:stop()
    assert.same({ reason = "ended" }, other:wait())
    assert.equal(0, task.now())
    assert.same({}, f:leaks())
  end))

  it("hears of a stop like of an end by itself, and late as early", virtual(function()
    local f = fake_vm.new()
    local vm = f:vm()
    local wait = given.later(vm.wait, vm)
    vm:stop()
    assert.same({ true, { reason = "terminated" } }, { wait() })
    assert.same({ reason = "terminated" }, vm:wait())
    assert.is_true(err.is(given.error(vm.boot, vm), "failed_precondition"))
  end))
end)

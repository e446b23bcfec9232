-- Processes of the VM itself, beside its containers.
local fake_vm = require "support.fake_vm"
local given = require "support.given"
local layout = require "moonshim.guest.layout"
local task = require "moonshim.task"
local virtual = require "support.virtual"

local function exec(vm, args, more)
  local request = { args = args, io = { stdout = { fd = 1 }, stderr = { fd = 2 } } }
  for k, v in pairs(more or {}) do request[k] = v end
  return vm.inside:exec(request)
end

describe("a process of the VM itself", function()
  it("runs beside the containers, is waited for, and leaves nothing", virtual(function()
    local f, pod, vm = given.pod()
    given.running(pod)
    local before = #vm.ledger:all()
    local e = exec(vm, { "exit", "7" }, { env = { A = "1" }, cwd = "/tmp" })
    e:start()
    assert.equal(7, (e:wait()))
    e.released:wait()
    assert.equal(before, #vm.ledger:all())
    assert.same({ CommandArgs = { "exit", "7" }, WorkingDirectory = "/tmp", Environment = { A = "1" }, CreateStdOutPipe = true,
      CreateStdErrPipe = true }, f.asked)
    assert.is_false(f.opened[#f.opened].resume) -- the sockets are its own
    assert.same({ "exec-added exec-1", "exec-started exec-1", "exit exec-1" }, f:topics(vm.id))
    assert.same({}, vm.inside:list())
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("takes signals and sizes, and is named when it is asked what the VM does", virtual(function()
    local f = fake_vm.new()
    local vm = f:vm()
    local e = exec(vm, { "sleep" }, { terminal = true, io = { stdout = { fd = 1 }, size = { rows = 24, columns = 80 } } })
    e:start()
    task.sleep(1)
    assert.is_true(f.asked.EmulateConsole)
    assert.same({ 24, 80 }, f.asked.ConsoleSize)
    assert.is_true(f.opened[1].tty)
    e:resize(30, 90)
    assert.equal(("%d 30x90"):format(e.pid), f.sizes[#f.sizes])
    assert.is_truthy(require("moonshim.controller.dump").of(vm):find("in the VM itself:\n    exec-1: running", 1, true))
    e:kill(15)
    assert.equal(143, (e:wait()))
    assert.same({ ("%s/%d 15"):format(layout.NULL, e.pid) }, f.signals)
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("has a terminal or a stderr, not both: nothing is taken for it [#388]", virtual(function()
    local f = fake_vm.new()
    local vm = f:vm()
    local calls, before = #f.calls, #vm.ledger:all()
    local e = given.error(exec, vm, { "sleep" }, { terminal = true })
    assert.equal("failed_precondition", e.code)
    assert.is_truthy(e.message:find("stderr", 1, true), e.message)
    assert.equal(calls, #f.calls)
    assert.equal(before, #vm.ledger:all())
    vm:stop()
  end))

  it("needs a VM that runs, and a program; whose it is cannot be chosen [#386]", virtual(function()
    local f = fake_vm.new()
    local vm = f:vm { boot = false }
    assert.equal("failed_precondition", given.error(exec, vm, { "sleep" }).code)
    vm:boot()
    assert.equal("invalid_argument", given.error(exec, vm, {}).code)
    assert.equal("invalid_argument", given.error(exec, vm, { "sleep" }, { user = "nobody" }).code)
    assert.equal("invalid_argument", given.error(exec, vm, { "sleep" }, { id = "../x" }).code)
    exec(vm, { "sleep" }, { id = "one" })
    assert.equal("already_exists", given.error(exec, vm, { "sleep" }, { id = "one" }).code)
    vm:stop()
    assert.equal("failed_precondition", given.error(exec, vm, { "sleep" }).code)
    assert.same({}, f:leaks())
  end))

  it("that cannot be started says why, and is forgotten", virtual(function()
    local f = fake_vm.new()
    local vm = f:vm()
    local e = exec(vm, { "missing" })
    assert.equal("not_found", given.error(e.start, e).code)
    e.released:wait()
    assert.same({}, vm.inside:list())
    f.refuse_streams = true
    assert.equal("resource_exhausted", given.error(exec, vm, { "sleep" }).code)
    assert.same({}, vm.inside:list())
    assert.same({}, f:leaks { running = true })
    vm:stop()
  end))

  it("is told to end by the stop of the VM, and not by that of a pod", virtual(function()
    local f, pod, vm = given.pod()
    given.running(pod)
    local e, idle = exec(vm, { "stubborn" }), exec(vm, { "sleep" })
    e:start()
    pod:stop()
    assert.equal("running", e.machine:state())
    vm:stop()
    assert.equal(137, (e:wait()))
    assert.equal(137, (idle:wait())) -- it never ran
    local told = {}
    for _, line in ipairs(f.signals) do told[#told + 1] = line:match(("^%s/%d (%%d+)$"):format(layout.NULL:gsub("%-", "%%-"), e.pid)) end
    assert.same({ "15", "9" }, told)
    assert.same({}, f:leaks())
  end))

  it("ends with a VM that dies, whatever its state", virtual(function()
    local f = fake_vm.new()
    local vm = f:vm()
    local e, idle = exec(vm, { "sleep" }), exec(vm, { "sleep" })
    e:start()
    f:die()
    assert.equal(255, (e:wait()))
    assert.equal(255, (idle:wait()))
    vm:stop()
    assert.same({}, f:leaks())
  end))
end)

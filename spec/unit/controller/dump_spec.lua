local dump = require "moonshim.controller.dump"
local given = require "support.given"
local task = require "moonshim.task"
local virtual = require "support.virtual"

local function supports_dumps(f, text)
  f.world.guest.capabilities.DumpStacksSupported = true
  f.guest_says = text
end

describe("a dump of a VM", function()
  it("tells states, calls, processes and what is not held, and what its agent says", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod, { "sleep" }, "web")
    given.exec(c, { "exit", "3" }, "job"):start()
    given.settle()
    supports_dumps(f, "threads:\n  1 agent\n")
    local text = dump.of(vm)
    for _, part in ipairs {
      "vm hello@vm: running\n", "guest: connection 1, open", "pod p: active\n", "  container web: running\n",
      "    init: running, pid %d+", "    job: stopped, pid %d+, code 3", "ledger: %d+ held\n", "inside %(.+%):\nthreads:\n  1 agent\n$",
    } do
      assert.is_truthy(text:find(part), ("no %q in:\n%s"):format(part, text))
    end
    vm:stop()
  end))

  it("of a guest that cannot say anything is ours alone [#387]", virtual(function()
    local _, pod, vm = given.pod()
    given.running(pod)
    local text = dump.of(vm)
    assert.is_truthy(text:find("container c: running", 1, true))
    assert.is_nil(text:find("inside", 1, true))
    vm:stop()
  end))

  it("of a guest that is silent comes all the same", virtual(function()
    local f, _, vm = given.pod()
    supports_dumps(f, "")
    f:fault(function(op) return op == "guest.dump_stacks" and "hang" or nil end)
    local from = task.now()
    assert.is_truthy(dump.of(vm):find("\ninside: .+\n$"))
    assert.is_true(task.now() - from <= 5000)
    vm:stop()
  end))

  it("of one that has ended is refused [#386]", virtual(function()
    local _, _, vm = given.pod()
    vm:stop()
    assert.equal("failed_precondition", given.error(dump.of, vm).code)
  end))
end)

local given = require "support.given"
local task = require "moonshim.task"
local virtual = require "support.virtual"

describe("a create", function()
  it("without options of a runtime, of nothing but a root and a program, goes by the defaults [#30]", virtual(function()
    local f, pod, vm = given.pod()
    pod:new_container("d"):create { container = given.container { "sleep", hostname = "c" }, kind = "standalone", options = {} }
    local c = pod:new_container("c")
    c:create { container = given.container { "sleep" }, kind = "standalone" }
    local absent, empty = f.containers.c.document.OciSpecification, f.containers.d.document.OciSpecification
    empty.root = absent.root
    assert.same(empty, absent)
    assert.equal("created", c:state().state)
    local process = f.containers.c.document.OciSpecification.process
    assert.same({ "/", 0, 0 }, { process.cwd, process.user.uid, process.user.gid })
    assert.is_truthy(table.concat(process.env, "\n"):find("PATH=/usr/local/sbin:", 1, true))
    c:start()
    assert.same({ "running", false }, { c:state().state, c:state().terminal })
    vm:stop()
    assert.same({}, f:leaks())
  end))
end)

describe("a create that fails", function()
  -- What is wrong is found before anything is taken.
  for name, wrong in pairs {
    ["options of a foreign type [#31]"] = function(request) request.options = "foreign" end,
    ["an option of a foreign type [#31]"] = function(request) request.options = { vm_processor_count = "two" } end,
    ["a field of a foreign type"] = function(request) request.container.tty = "yes" end,
    ["a user that is none"] = function(request) request.container.user = "a b" end,
    ["no Linux section [#34]"] = function(request) request.container.spec = { linux = require("cjson").null } end,
  } do
    it(("because of %s takes nothing, and the id is free for a good one [#33] [#40]"):format(name), virtual(function()
      local f, pod, vm = given.pod()
      local c = pod:new_container("c")
      local calls = #f.calls
      local request = given.request { "sleep" }
      wrong(request)
      assert.equal("invalid_argument", given.error(c.create, c, request).code)
      assert.equal(calls, #f.calls)
      assert.same({}, vm.ledger:under(c.owner))
      assert.equal("failed", c.machine:state())
      assert.equal("not_found", given.error(pod.container, pod, "c").code)
      assert.equal("running", given.running(pod):state().state)
      vm:stop()
    end))
  end

  it("releases the layers before it, and lets waiters go [#35] [#122]", virtual(function()
    local f, pod, vm = given.pod()
    local c = pod:new_container("c")
    local wait = given.later(c.wait, c)
    f:fault(function(op, _, what) return op == "guest.mount" and what:find("_1_0$") and "fail" or nil end)
    local e = given.error(c.create, c, given.request { "sleep", layers = { "/a.ext4", "/b.ext4" }, scratch = { size = "64M" } })
    assert.equal("unknown", e.code)
    assert.same({}, f:leaks { running = true })
    assert.same({ 2, 1 }, { #f:called("^host.attach"), #f:called("^guest.unmount") })
    assert.same({}, f:topics("c"))
    assert.is_true((wait()))
    assert.equal("failed", c.machine:state())
    assert.same({ "failed_precondition", "exited" }, { given.error(c.start, c).code, c:kill(9) })
    vm:stop()
  end))

  it("in the guest takes the overlay, the state and the disks back [#36]", virtual(function()
    local f, pod, vm = given.pod()
    local c = pod:new_container("c")
    f:fault(function(op) return op == "guest.create" and "fail" or nil end)
    given.error(c.create, c, given.request(given.FULL))
    local after = table.concat(f.calls, "\n")
    assert.is_truthy(after:find("guest.uncombine.*guest.delete_state.*guest.unmount"))
    assert.equal("failed", c.machine:state())
    assert.same({}, f:leaks { running = true })
    assert.same({}, f.wrong)
    vm:stop()
  end))

  it("at its streams closes them and releases the rest [#37]", virtual(function()
    local f, pod, vm = given.pod()
    f.refuse_streams = true
    local c = pod:new_container("c")
    assert.equal("resource_exhausted", given.error(c.create, c, given.request(given.FULL)).code)
    assert.equal("failed", c.machine:state())
    assert.equal("failed_precondition", given.error(c.start, c).code)
    assert.equal("not_found", given.error(pod.container, pod, "c").code)
    assert.same({}, f.containers)
    assert.same({}, f:leaks { running = true })
    vm:stop()
  end))

  it("says why it failed, not why its roll-back did; the rest is retried later [#38] [#39]", virtual(function()
    local f, pod, vm = given.pod()
    local c = pod:new_container("c")
    f:fault(function(op)
      if op == "guest.create" then return { hresult = 0x80070005 } end
      return op == "host.detach" and "fail" or nil
    end)
    assert.equal("permission_denied", given.error(c.create, c, given.request(given.FULL)).code)
    assert.is_truthy(table.concat(f.lines, "\n"):find("a step failed", 1, true)) -- told, not raised
    assert.is_true(#f:leaks { running = true } > 0)
    f:fault(nil)
    given.running(pod, { "sleep" }, "d"):stop()
    assert.same({}, f:leaks { running = true })
    assert.is_table(f:event("debt-settled"))
    vm:stop()
  end))

  it("does not lend its id while the guest still has its state", virtual(function()
    local f, pod, vm = given.pod()
    local c = pod:new_container("c")
    f:fault(function(op) return (op == "guest.create" or op == "guest.delete_state") and "fail" or nil end)
    given.error(c.create, c, given.request { "sleep" })
    f:fault(function(op) return op == "guest.delete_state" and "fail" or nil end)
    local again = pod:new_container("c")
    local e = given.error(again.create, again, given.request { "sleep" })
    assert.equal("failed_precondition", e.code)
    assert.is_truthy(e.message:find("bundle", 1, true), e.message)
    f:fault(nil)
    assert.equal("running", given.running(pod):state().state)
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("because its caller gave up leaves nothing in the guest, which answered later [#41]", virtual(function()
    local f, pod, vm = given.pod()
    local c = pod:new_container("c")
    f:fault(function(op) return op == "guest.create" and { delay = 3000 } or nil end)
    local wait, t = given.later(c.create, c, given.request(given.FULL))
    task.sleep(1000)
    t:cancel()
    local _, e = wait()
    assert.equal("cancelled", e.code)
    assert.equal(1, #f:called("^guest.delete_state c"))
    assert.same({}, f:leaks { running = true })
    assert.same({}, f.wrong)
    vm:stop()
  end))
end)

describe("a container that is being created", function()
  for _, how in ipairs { "kill", "delete", "stop" } do
    it(("ends at its next step after a %s, and create says cancelled (known bug 29)"):format(how), virtual(function()
      local f, pod, vm = given.pod()
      local c = pod:new_container("c")
      f:fault(function(op) return op == "guest.mount" and { delay = 3000 } or nil end)
      local wait = given.later(c.create, c, given.request { "sleep", layers = { "/a.ext4", "/b.ext4" }, scratch = { size = "64M" } })
      task.sleep(1000)
      assert.equal("creating", c:state().state)
      if how == "kill" then assert.equal("kept", c:kill(9)) else pcall(c[how], c) end
      local ok, e = wait()
      assert.is_false(ok)
      assert.equal("cancelled", e.code)
      assert.same({}, f:called("^guest.create c"))
      assert.same({}, f:leaks { running = true })
      assert.same({}, f:topics("c"))
      assert.equal("running", given.running(pod):state().state)
      vm:stop()
    end))
  end

  it("answers state at once, and does not delay another container", virtual(function()
    local f, pod, vm = given.pod()
    local other = given.running(pod, { "sleep" }, "other")
    f:fault(function(op, _, what) return op == "guest.create" and what == "c" and { delay = 5000 } or nil end)
    local c = pod:new_container("c")
    local wait = given.later(c.create, c, given.request { "sleep" })
    given.settle()
    local before = task.now()
    assert.equal("creating", c:state().state)
    assert.equal("running", other:state().state)
    given.exec(other, { "exit", 0 }, "e"):start()
    other:kill("WINCH")
    assert.equal(before, task.now())
    assert.is_true(wait())
    vm:stop()
  end))
end)

local given = require "support.given"
local task = require "moonshim.task"
local virtual = require "support.virtual"

describe("a pod", function()
  it("starts empty and active, under its id [#1] [#9]", virtual(function()
    local f, pod, vm = given.pod()
    assert.equal("p", pod.id)
    assert.same({}, pod:containers())
    assert.same({ "active", "not_configured" }, { pod.machine:state(), pod.network.machine:state() })
    given.created(pod)
    assert.equal("/run/gcs/pods/p/c", f.containers.c.document.OciBundlePath) -- it has the same id in the guest
    vm:stop()
  end))

  it("hands out the same controller every time [#2]", virtual(function()
    local _, pod, vm = given.pod()
    local c = pod:new_container("c")
    assert.equal(c, pod:container("c"))
    assert.equal(c, pod:container("c"))
    vm:stop()
  end))

  it("says not_found for a container it does not have [#3] [#11]", virtual(function()
    local _, pod, vm = given.pod()
    local other = pod:new_container("other")
    assert.equal("not_found", given.error(pod.container, pod, "c").code)
    assert.equal("not_found", given.error(pod.delete_container, pod, "c").code)
    assert.same({ other }, pod:containers())
    vm:stop()
  end))

  it("registers a new container, and all of its containers share the device table of the VM [#4]", virtual(function()
    local f, pod, vm = given.pod()
    local made, make = 0, f.world.core.devices
    f.world.core.devices = function(...)
      made = made + 1
      return make(...)
    end
    local calls = #f.calls
    local c = pod:new_container("c")
    assert.same({ "new", c }, { c.machine:state(), pod:container("c") })
    assert.same({ calls, 0 }, { #f.calls, made }) -- nothing is asked for before it is needed
    c:create(given.request(given.FULL))
    given.created(pod, given.FULL, "d")
    assert.equal(1, made)
    vm:stop()
  end))

  it("refuses an id twice and keeps the first [#5]", virtual(function()
    local f, pod, vm = given.pod()
    local c = pod:new_container("c")
    local calls = #f.calls
    assert.equal("already_exists", given.error(pod.new_container, pod, "c").code)
    assert.same({ c, calls }, { pod:container("c"), #f.calls })
    vm:stop()
  end))

  it("refuses containers while the VM is not there, and takes them afterwards [#6]", virtual(function()
    local f = require("support.fake_vm").new()
    local vm = f:vm { boot = false }
    local pod = vm:new_pod("p")
    assert.equal("failed_precondition", given.error(pod.new_container, pod, "c").code)
    assert.same({}, pod:containers())
    vm:boot()
    assert.is_table(pod:new_container("c"))
    vm:stop()
  end))

  it("gives out copies of its list [#8]", virtual(function()
    local _, pod, vm = given.pod()
    local a, b = pod:new_container("a"), pod:new_container("b")
    local list = pod:containers()
    list[1] = nil
    assert.same({ a, b }, pod:containers())
    vm:stop()
  end))

  it("forgets a container without releasing anything, once [#10] [#12]", virtual(function()
    local f, pod, vm = given.pod()
    pod:new_container("c")
    local calls = #f.calls
    pod:delete_container("c")
    assert.equal(calls, #f.calls)
    assert.equal("not_found", given.error(pod.delete_container, pod, "c").code)
    vm:stop()
  end))

  it("takes an id again after its container is gone, with a fresh controller [#13]", virtual(function()
    local _, pod, vm = given.pod()
    local first = given.running(pod)
    first:stop()
    local second = given.running(pod)
    assert.is_true(first ~= second)
    assert.equal("running", second:state().state)
    vm:stop()
  end))

  it("registers 20 ids that come at once [#17]", virtual.seeds(5, function()
    local _, pod, vm = given.pod()
    local steps = {}
    for i = 1, 20 do steps[i] = function() return pod:new_container("c" .. i) end end
    task.all(steps)
    local ids = {}
    for _, c in ipairs(pod:containers()) do ids[c.id] = (ids[c.id] or 0) + 1 end
    for i = 1, 20 do assert.equal(1, ids["c" .. i]) end
    assert.equal(20, #pod:containers())
    vm:stop()
  end))

  it("gives one id to exactly one of 20 that ask for it [#18]", virtual.seeds(5, function()
    local _, pod, vm = given.pod()
    local won, lost, steps = 0, 0, {}
    for i = 1, 20 do
      steps[i] = function()
        local ok, e = pcall(pod.new_container, pod, "c")
        if ok then won = won + 1 elseif e.code == "already_exists" then lost = lost + 1 end
      end
    end
    task.all(steps)
    assert.same({ 1, 19 }, { won, lost })
    vm:stop()
  end))

  it("does not take an id that another pod of the VM has [#19]", virtual(function()
    local _, pod, vm = given.pod()
    pod:new_container("c")
    local other = vm:new_pod("q")
    local e = given.error(other.new_container, other, "c")
    assert.equal("already_exists", e.code)
    assert.is_truthy(e.message:find("pod p", 1, true))
    assert.equal(pod, vm.claimed.c)
    vm:stop()
  end))

  it("takes nothing more while it is being stopped", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod)
    f:fault(function(op) return op == "guest.signal" and { delay = 1000 } or nil end)
    local wait = given.later(vm.stop, vm)
    given.settle()
    local calls = #f.calls
    assert.equal("failed_precondition", given.error(pod.new_container, pod, "d").code)
    assert.same({ { c }, calls }, { pod:containers(), #f.calls })
    assert.is_true(wait())
    assert.equal("deleted", pod.machine:state())
  end))

  for _, id in ipairs { "a/b", "..", "", "a b", ("x"):rep(300) } do
    it(("refuses the id %q"):format(id:sub(1, 20)), virtual(function()
      local _, pod, vm = given.pod()
      assert.equal("invalid_argument", given.error(pod.new_container, pod, id).code)
      vm:stop()
    end))
  end
end)

describe("a pod from a file", function()
  local function launch(f, containers, io)
    local vm = f.controller or f:vm()
    local pod = vm:new_pod("hello")
    pod:launch(require("moonshim.pod_spec").check({ name = "hello", containers = containers }, { base = "/" }),
      io or function() return { stdout = { fd = 1 } } end)
    return pod, vm
  end

  it("has its sandbox first, and workloads that join its namespaces", virtual(function()
    local f = require("support.fake_vm").new()
    local pod, vm = launch(f, { web = { rootfs = "/r", args = { "sleep" } }, db = { layers = { "/a.ext4" }, args = { "sleep" } } })
    local creates = f:called("^guest.create")
    assert.equal("guest.create hello", creates[1])
    assert.equal(3, #creates)
    local pid = pod.sandbox.init.pid
    local namespaces = {}
    for _, ns in ipairs(f.containers.web.document.OciSpecification.linux.namespaces) do namespaces[ns.type] = ns.path end
    assert.equal(("/proc/%d/ns/net"):format(pid), namespaces.network)
    assert.equal(("/proc/%d/ns/ipc"):format(pid), namespaces.ipc)
    assert.equal(("/proc/%d/ns/uts"):format(pid), namespaces.uts)
    assert.is_nil(namespaces.pid)
    vm:stop()
    assert.same({}, f:leaks())
    assert.same({}, f.wrong)
  end))

  it("gives the sandbox the agent as its pause program and no root of the host", virtual(function()
    local f = require("support.fake_vm").new()
    local _, vm = launch(f, { web = { rootfs = "/r", args = { "sleep" } } })
    local spec = f.containers.hello.document.OciSpecification
    assert.same({ "/pause", "pause" }, spec.process.args)
    assert.equal("/run/gcs/pods/hello/hello/rootfs", spec.root.path)
    assert.equal("/sbin/moonshim-guest", spec.mounts[1].source)
    assert.equal("/pause", spec.mounts[1].destination)
    vm:stop()
  end))

  it("ends its workloads before the sandbox, and the VM last", virtual(function()
    local f = require("support.fake_vm").new()
    local _, vm = launch(f, { web = { rootfs = "/r", args = { "sleep" } }, db = { rootfs = "/r", args = { "sleep" } } })
    vm:stop()
    local order = {}
    for _, e in ipairs(f.events) do
      if e.topic == "exit" then order[#order + 1] = e.data.container end
    end
    assert.equal("hello", order[3])
    assert.equal("host.terminate", f.calls[#f.calls])
  end))

  it("ends its workloads at the same time, not one after the other", virtual(function()
    local f = require("support.fake_vm").new()
    local _, vm = launch(f, { a = { rootfs = "/r", args = { "stubborn" } }, b = { rootfs = "/r", args = { "stubborn" } } })
    local started = task.now()
    vm:stop()
    assert.equal(10000, task.now() - started) -- one ladder, not two
    assert.same({}, f:leaks())
  end))

  it("goes on without its sandbox container until somebody stops it", virtual(function()
    local f = require("support.fake_vm").new()
    local pod, vm = launch(f, { web = { rootfs = "/r", args = { "sleep" } } })
    pod.sandbox:kill(9)
    given.settle()
    assert.equal("unready", pod.machine:state())
    assert.is_table(f:event("sandbox-lost"))
    assert.equal("running", pod:container("web"):state().state)
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("signals all its workloads and joins the errors", virtual(function()
    local f = require("support.fake_vm").new()
    local pod, vm = launch(f, { a = { rootfs = "/r", args = { "sleep" } }, b = { rootfs = "/r", args = { "sleep" } } })
    pod:kill("TERM")
    assert.equal(143, (pod:container("a"):wait()))
    assert.equal(143, (pod:container("b"):wait()))
    assert.equal("running", pod.sandbox:state().state)
    vm:stop()
  end))

  it("is rolled back as a whole when one container cannot be created", virtual(function()
    local f = require("support.fake_vm").new()
    f.missing["/nowhere.ext4"] = true
    local vm = f:vm()
    local e = given.error(launch, f, {
      web = { rootfs = "/r", args = { "sleep" } }, db = { layers = { "/nowhere.ext4" }, args = { "sleep" } },
    })
    assert.equal("not_found", e.code)
    assert.is_truthy(e.message:find("containers.db.layers[1]", 1, true), e.message)
    vm:stop { goal = "roll_back" }
    assert.same({}, f:leaks())
    assert.same({}, f.wrong)
  end))
end)

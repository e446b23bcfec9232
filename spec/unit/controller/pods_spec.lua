-- Several pods in one VM: what each has of its own, and what none of them can do to the others.
local err = require "moonshim.err"
local fake_vm = require "support.fake_vm"
local given = require "support.given"
local pod_spec = require "moonshim.pod_spec"
local policy = require "moonshim.policy"
local task = require "moonshim.task"
local virtual = require "support.virtual"

local LAYERED = { "sleep", layers = { "/base.ext4" }, scratch = { size = "64M" } }

local function spec_of(name, containers, more)
  local spec = { name = name, containers = containers }
  for k, v in pairs(more or {}) do spec[k] = v end
  for _, c in pairs(containers) do
    c.args = c.args or { c[1] or "sleep", c[2] }
    c[1], c[2] = nil, nil
    if not c.layers then c.rootfs = c.rootfs or "/roots/busybox" end
  end
  return pod_spec.check(spec, { base = "/" })
end

local function streams() return { stdout = { fd = 1 }, stderr = { fd = 2 } } end

local function start(vm, name, containers, opts, more) return vm:start_pod(spec_of(name, containers, more), streams, opts) end

---What of a pod is left, in the ledger and in the guest.
local function left_of(f, pod)
  local out = {}
  for _, receipt in ipairs(f.ledger:under("vm/" .. pod)) do out[#out + 1] = receipt.name end
  for object in pairs(f.ledger:states()) do
    if object == "vm/" .. pod or object:sub(1, #pod + 4) == "vm/" .. pod .. "/" then out[#out + 1] = object end
  end
  for id, c in pairs(f.containers) do
    if c.bundle:find("/" .. pod .. "/", 1, true) then out[#out + 1] = "container " .. id end
  end
  return out
end

describe("two pods in one VM", function()
  it("start and stop on their own; the VM goes on until it is stopped", virtual(function()
    local f = fake_vm.new()
    local vm = f:vm()
    local a = start(vm, "a", { web = LAYERED })
    local b = start(vm, "b", { db = { "sleep" } })
    assert.is_true(a:stop().ok)
    assert.same({}, left_of(f, "a"))
    assert.equal("deleted", a.machine:state())
    assert.is_nil(vm.pods.a)
    assert.equal("running", b:container("db"):state().state)
    assert.equal("running", vm.machine:state())
    assert.same({ "create", "start", "exit", "delete" }, f:topics("web"))
    assert.same({ "create", "start" }, f:topics("db"))
    b:stop()
    assert.equal("running", vm.machine:state())
    vm:stop()
    assert.same({}, f:leaks())
    assert.same({}, f.wrong)
  end))

  it("have a plan each that names nothing of the other or of the VM", virtual(function()
    local f = fake_vm.new()
    local vm = f:vm()
    local a, b = start(vm, "a", { web = LAYERED }), start(vm, "b", { db = LAYERED })
    for _, pod in ipairs { a, b } do
      for _, step in ipairs(vm:plan("stop", pod.owner).steps) do
        assert.is_truthy(step.owner == pod.owner or step.owner:find("^" .. pod.owner .. "/"), step.owner)
      end
    end
    assert.same(#vm:plan("stop").steps, #vm:plan("stop", a.owner).steps + #vm:plan("stop", b.owner).steps + 2)
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("share a layer: attached once, kept for the second when the first has gone [#112]", virtual(function()
    local f = fake_vm.new()
    local vm = f:vm()
    local a = start(vm, "a", { web = { "sleep", layers = { "/base.ext4" } } })
    local b = start(vm, "b", { db = { "sleep", layers = { "/base.ext4" } } })
    assert.equal(1, #f:called("^host.attach"))
    a:stop()
    assert.equal(0, #f:called("^host.detach"))
    b:stop()
    assert.equal(1, #f:called("^host.detach"))
    vm:stop()
    assert.same({}, f.wrong)
  end))

  it("keep ids apart: of pods, of containers, and between the two [#19]", virtual(function()
    local f = fake_vm.new()
    local vm = f:vm()
    start(vm, "a", { web = { "sleep" } })
    for _, case in ipairs { { "a", "other" }, { "b", "web" }, { "web", "other" }, { "b", "a" } } do
      local e = given.error(start, vm, case[1], { [case[2]] = { "sleep" } })
      assert.equal("already_exists", e.code)
      assert.is_truthy(e.message:find(case[2] == "other" and case[1] or case[2], 1, true), e.message)
    end
    assert.equal("running", vm.pods.a:container("web"):state().state)
    assert.same({ "a" }, (function()
      local ids = {}
      for id in pairs(vm.pods) do ids[#ids + 1] = id end
      return ids
    end)())
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("take each other's ids once those are free", virtual(function()
    local f = fake_vm.new()
    local vm = f:vm()
    start(vm, "a", { web = { "sleep" } }):stop()
    start(vm, "web", { a = { "sleep" } })
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("fail on their own: what a start had reached is rolled back, the other pod and the VM go on", virtual(function()
    local f = fake_vm.new()
    f.missing["/nowhere.ext4"] = true
    local vm = f:vm()
    local a = start(vm, "a", { web = LAYERED })
    local before = #f.ledger:all()
    local e = given.error(start, vm, "b", { db = { "sleep", layers = { "/nowhere.ext4" } }, cache = LAYERED })
    assert.equal("not_found", e.code)
    assert.equal(before, #f.ledger:all())
    assert.same({}, left_of(f, "b"))
    assert.is_nil(vm.pods.b)
    assert.equal("running", a:container("web"):state().state)
    start(vm, "b", { db = { "sleep" } })
    vm:stop()
    assert.same({}, f:leaks())
    assert.same({}, f.wrong)
  end))

  it("do not wait for each other: a pod whose stop is stuck keeps nobody else", virtual(function()
    local f = fake_vm.new()
    local vm = f:vm()
    local a, b = start(vm, "a", { web = LAYERED }), start(vm, "b", { db = LAYERED })
    f:fault(function(op, _, detail) return op == "guest.delete_state" and detail == "web" and "hang" or nil end)
    local wait = given.later(a.stop, a)
    task.sleep(100)
    local from = task.now()
    b:stop()
    local c = start(vm, "c", { cache = LAYERED })
    assert.is_true(task.now() - from < 100)
    assert.equal("running", c:container("cache"):state().state)
    local ok, e = wait()
    assert.is_false(ok)
    assert.is_truthy(e.message:find("vm/a", 1, true), e.message)
    assert.equal("stopping", a.machine:state())
    assert.equal("running", vm.machine:state())
    f:fault(nil)
    a:stop()
    assert.same({}, left_of(f, "a"))
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("are stopped by one plan with the VM, each workload before its own sandbox", virtual(function()
    local f = fake_vm.new()
    local vm = f:vm()
    start(vm, "a", { web = LAYERED })
    start(vm, "b", { db = LAYERED })
    vm:stop()
    local place = {}
    for i, e in ipairs(f.events) do
      if e.topic == "exit" then place[e.data.container] = i end
    end
    assert.is_true(place.web < place.a and place.db < place.b)
    assert.same({}, f:leaks())
    assert.same({}, f.wrong)
  end))

  it("can be stopped by many at once, and while the VM is being stopped", virtual.seeds(10, function()
    local f = fake_vm.new()
    local vm = f:vm()
    local a, b = start(vm, "a", { web = LAYERED }), start(vm, "b", { db = LAYERED })
    local stops = {}
    for i = 1, 3 do
      stops[#stops + 1] = function() a:stop() end
      stops[#stops + 1] = function() b:container("db"):stop() end
      stops[#stops + 1] = function()
        task.sleep(i)
        vm:stop()
      end
    end
    task.all(stops)
    assert.equal("ended", vm.machine:state())
    for _, id in ipairs { "a", "web", "b", "db" } do assert.same({ "create", "start", "exit", "delete" }, f:topics(id)) end
    assert.same({}, f:leaks())
    assert.same({}, f.wrong)
  end))

  it("may be stopped while they come up: the start says so, and nothing is left", virtual.seeds(30, function(v)
    local f = fake_vm.new()
    local vm = f:vm()
    local b = start(vm, "b", { db = { "sleep" } })
    local pod
    f:fault(function() return { delay = 5 } end)
    local wait = given.later(start, vm, "a", { web = LAYERED, cache = LAYERED })
    task.sleep(v.seed * 4)
    pod = vm.pods.a
    if pod then pod:stop() end
    local ok, e = wait()
    if not ok then assert.is_true(err.is(e, "cancelled", "failed_precondition", "aborted"), tostring(e)) end
    if vm.pods.a then vm.pods.a:stop() end
    assert.same({}, left_of(f, "a"))
    assert.equal("running", b:container("db"):state().state)
    vm:stop()
    assert.same({}, f:leaks())
    assert.same({}, f.wrong)
  end))

  it("leave nothing in a VM that lives on, round after round", virtual(function()
    local f = fake_vm.new()
    local vm = f:vm()
    start(vm, "a", { web = LAYERED })
    local function size()
      local n = #f.ledger:all() + #f.world.devices:dump()
      for _, t in ipairs { f.containers, f.mounts, f.overlays, f.attached, f.shares, f.streams, f.ledger:states(), f.processes,
        vm.claimed, vm.pods, vm.pending } do
        for _ in pairs(t) do n = n + 1 end
      end
      return n
    end
    local before = size()
    for _ = 1, 30 do
      start(vm, "p3", { one = LAYERED, two = { "exit", "0" } }):stop()
      assert.equal(before, size())
    end
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("end the VM with the last of them when that was asked for", virtual(function()
    local f = fake_vm.new()
    local vm = f:vm()
    vm.empty_ends = true
    local a, b = start(vm, "a", { web = { "sleep" } }), start(vm, "b", { db = { "sleep" } })
    a:stop()
    task.sleep("1m")
    assert.equal("running", vm.machine:state())
    b:stop()
    task.sleep("1m")
    assert.equal("ended", vm.machine:state())
    assert.same({}, f:leaks())
  end))

  it("take no more of them once the VM is being stopped", virtual(function()
    local f = fake_vm.new()
    local vm = f:vm()
    vm:stop()
    assert.equal("failed_precondition", given.error(start, vm, "a", { web = { "sleep" } }).code)
  end))

  it("have what a failed start left behind released by whatever comes next [#39]", virtual(function()
    local f = fake_vm.new()
    local vm = f:vm()
    local broken = true
    f:fault(function(op, _, detail)
      if op == "guest.execute" and detail == "web" then return "fail" end
      return broken and op == "guest.unmap" and "fail" or nil
    end)
    given.error(start, vm, "a", { web = { "sleep" } })
    assert.is_true(#f.ledger:debts() > 0 or vm.pods.a ~= nil)
    broken = false
    f:fault(nil)
    local b = start(vm, "b", { db = { "sleep" } })
    assert.same({}, left_of(f, "a"))
    assert.is_nil(vm.pods.a)
    b:stop()
    assert.same({}, f:leaks { running = true })
    vm:stop()
    assert.same({}, f:leaks())
  end))
end)

describe("scripts of several pods", function()
  local function script(text)
    local path = os.tmpname()
    local file = assert(io.open(path, "w"))
    file:write(text)
    file:close()
    return path
  end

  it("edit their own pod's steps in the plan of the whole VM, with their own ladders and names", virtual(function()
    local function one(signal) return ([[return { api = 1, stop = { { "%s", wait = "1s" }, { "KILL", wait = "5s" } },
      teardown = function(plan) plan:before("scratch", { name = "flush", run = function() end }) end }]]):format(signal) end
    local first, second = script(one "TERM"), script(one "QUIT")
    local f = fake_vm.new()
    local vm = f:vm()
    start(vm, "a", { web = LAYERED }, { policy = policy.load { operator = first } })
    start(vm, "b", { db = LAYERED }, { policy = policy.load { operator = second } })
    start(vm, "c", { plain = { "sleep" } })
    local p, fallback = vm:plan("stop")
    assert.is_nil(fallback)
    local hooks, ladders = {}, {}
    for _, step in ipairs(p.steps) do
      if step.hook then hooks[#hooks + 1] = step.owner end
      if step.kind == "process" then ladders[step.owner] = tostring(step.args.ladder[1][1]) end
    end
    table.sort(hooks)
    assert.same({ "vm/a/web", "vm/b/db" }, hooks)
    assert.equal("TERM", ladders["vm/a/web"])
    assert.equal("QUIT", ladders["vm/b/db"])
    assert.equal("TERM", ladders["vm/c/plain"])
    vm:stop()
    assert.same({}, f:leaks())
    os.remove(first)
    os.remove(second)
  end))

  it("are refused on their own: one that is wrong does not cost the others their edits", virtual(function()
    local wrong = script [[return { api = 1, teardown = function(plan) plan:tune("uvm", { retries = 5 }) end }]]
    local right = script [[return { api = 1, teardown = function(plan) plan:tune("scratch", { retries = 7 }) end }]]
    local f = fake_vm.new()
    local vm = f:vm()
    start(vm, "a", { web = LAYERED }, { policy = policy.load { operator = wrong } })
    start(vm, "b", { db = LAYERED }, { policy = policy.load { operator = right } })
    local p, fallback = vm:plan("stop")
    assert.is_truthy(fallback:find("belongs to the VM", 1, true))
    local retries = {}
    for _, step in ipairs(p.steps) do
      if step.kind == "scratch" then retries[step.owner] = step.retries end
    end
    assert.equal(7, retries["vm/b/db"])
    assert.is_true(retries["vm/a/web"] < 7)
    vm:stop()
    os.remove(wrong)
    os.remove(right)
  end))

  it("see nothing of the other pods", virtual(function()
    local path = script [[return { api = 1, teardown = function(plan)
      for _, step in ipairs(plan.steps) do
        if step.owner:find("^vm/b") then error("it sees " .. step.owner) end
      end
    end }]]
    local f = fake_vm.new()
    local vm = f:vm()
    start(vm, "a", { web = LAYERED }, { policy = policy.load { operator = path } })
    start(vm, "b", { db = LAYERED })
    local _, fallback = vm:plan("stop")
    assert.is_nil(fallback)
    vm:stop()
    os.remove(path)
  end))
end)

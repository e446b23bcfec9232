local given = require "support.given"
local task = require "moonshim.task"
local virtual = require "support.virtual"

-- Calls from the `from`-th on, without what has no part in the order.
local function calls_since(f, from)
  local out = {}
  for i = from + 1, #f.calls do
    if not f.calls[i]:find("^relay") then out[#out + 1] = f.calls[i] end
  end
  return out
end

local function index_of(list, pattern, from)
  for i = from or 1, #list do
    if list[i]:find(pattern) then return i end
  end
  error(("no call %s in:\n%s"):format(pattern, table.concat(list, "\n")))
end

local function stopped(pod, fields, id)
  local copy = {}
  for k, v in pairs(fields) do copy[k] = v end
  copy[1], copy[2] = "exit", "0"
  local c = given.running(pod, copy, id)
  c:wait()
  return c
end

describe("the release of a container", function()
  it("keeps its order: overlay, guest state, scratch, layers, disks, share, devices [#87] [#88]", virtual(function()
    local f, pod, vm = given.pod()
    local c = stopped(pod, given.FULL)
    local from = #f.calls
    c:delete()
    local calls = calls_since(f, from)
    -- 0:0 and 0:1 are the layers, 0:2 the scratch, 0:3 and 0:4 the data disks.
    local order = {
      "^guest.uncombine", "^guest.delete_state",
      "^guest.unmount .*0_2_0$", "^guest.eject 0:2", "^host.detach 0:2",
      "^guest.unmount .*0_[01]_0$", "^guest.eject", "^host.detach 0:[01]",
      "^guest.unmount .*0_[01]_0$", "^guest.eject", "^host.detach 0:[01]",
      "^guest.unmount .*0_[34]_0$", "^guest.eject 0:[34]", "^host.detach 0:[34]",
      "^guest.unmount .*0_[34]_0$", "^guest.eject 0:[34]", "^host.detach 0:[34]",
      "^guest.unmap", "^host.unshare", "^host.unassign", "^host.unassign",
    }
    assert.equal(#order, #calls, table.concat(calls, "\n"))
    for i, pattern in ipairs(order) do assert.is_truthy(calls[i]:find(pattern), ("%d: %s is no %s"):format(i, calls[i], pattern)) end
    assert.same({}, f.wrong)
    assert.same({}, f:leaks { running = true })
    vm:stop()
  end))

  it("of a whole pod leaves nothing in the guest, each disk unmounted, ejected, detached in this order", virtual(function()
    local f, pod, vm = given.pod()
    given.running(pod, {
      "sleep", layers = { "/1.ext4", "/2.ext4", "/3.ext4" }, scratch = { size = "64M" },
      mounts = { { source = "/shared", destination = "/s" } },
    })
    local from = #f.calls
    vm:stop()
    local calls = calls_since(f, from)
    local uncombine, state = index_of(calls, "^guest.uncombine"), index_of(calls, "^guest.delete_state")
    assert.is_true(index_of(calls, "^guest.signal") < uncombine)
    assert.is_true(uncombine < state)
    for lun = 0, 3 do
      local unmount = index_of(calls, ("^guest.unmount .*0_%d_0$"):format(lun))
      local eject = index_of(calls, lun == 0 and "^guest.eject$" or "^guest.eject 0:" .. lun)
      local detach = index_of(calls, "^host.detach 0:" .. lun)
      assert.is_true(state < unmount and unmount < eject and eject < detach, "lun " .. lun)
    end
    assert.is_true(index_of(calls, "^guest.unmount .*0_3_0") < index_of(calls, "^guest.unmount .*0_0_0"))
    assert.equal("host.terminate", calls[#calls])
    assert.same({}, f.wrong)
    assert.same({}, f:leaks())
  end))

  it("of nothing calls nobody [#89]", virtual(function()
    local f, pod, vm = given.pod()
    local c = pod:new_container("c")
    local calls = #f.calls
    assert.is_nil(vm:release { goal = "delete", owner = c.owner })
    assert.equal(calls, #f.calls)
    vm:stop()
  end))

  it("makes no call when it was done before [#90]", virtual(function()
    local f, pod, vm = given.pod()
    local c = stopped(pod, given.FULL)
    c:delete()
    local calls = #f.calls
    assert.is_nil(vm:release { goal = "delete", owner = c.owner })
    assert.equal(calls, #f.calls)
    vm:stop()
  end))

  it("sends nothing for an overlay that never came [#91]", virtual(function()
    local f, pod, vm = given.pod()
    local c = pod:new_container("c")
    f:fault(function(op, _, what) return op == "guest.mount" and what:find("0_1_0") and "fail" or nil end)
    given.error(c.create, c, given.request { "sleep", layers = { "/a.ext4" }, scratch = { size = "64M" } })
    assert.same({}, f:called("^guest.uncombine"))
    assert.equal(1, #f:called("^host.detach 0:0"))
    assert.same({}, f:leaks { running = true })
    vm:stop()
  end))

  it("works without any layer: disks, shares and devices go all the same [#92]", virtual(function()
    local f, pod, vm = given.pod()
    local c = stopped(pod, { mounts = given.FULL.mounts, devices = given.FULL.devices })
    local from = #f.calls
    c:delete()
    local calls = table.concat(calls_since(f, from), "\n")
    assert.is_nil(calls:find("uncombine", 1, true))
    for op, times in pairs { ["host.detach"] = 2, ["host.unshare"] = 2, ["host.unassign"] = 2 } do
      assert.equal(times, select(2, calls:gsub(op, "")), op)
    end
    assert.same({}, f:leaks { running = true })
    vm:stop()
  end))

  -- What is still held, by kind.
  local function held(vm, c)
    local out = {}
    for _, receipt in ipairs(vm.ledger:under(c.owner)) do out[receipt.kind] = (out[receipt.kind] or 0) + 1 end
    return out
  end

  -- A step that fails for good stops the container's release; what was done stays done.
  local ALL = { overlay = 1, bundle = 1, scratch = 1, layer = 2, disk = 2, share = 1, device = 2 }
  local AFTER_OVERLAY = { bundle = 1, scratch = 1, layer = 2, disk = 2, share = 1, device = 2 }
  local AFTER_STATE = { scratch = 1, layer = 2, disk = 2, share = 1, device = 2 }
  local STEPS = {
    { "the overlay [#93] [#111]", "guest.uncombine", nil, ALL },
    { "the guest state [#100]", "guest.delete_state", nil, AFTER_OVERLAY },
    { "the scratch [#101] [#103] [#111]", "guest.unmount", "0_2_0", AFTER_STATE },
    { "a data disk [#101] [#105] [#111]", "host.detach", "0:3", { disk = 1, share = 1, device = 2 } },
    { "the share [#101] [#111]", "host.unshare", nil, { share = 1, device = 2 } },
    { "a device [#108] [#111]", "host.unassign", nil, { device = 2 } },
  }
  for _, step in ipairs(STEPS) do
    it("goes on where it failed, and repeats nothing that was done: " .. step[1], virtual(function()
      local f, pod, vm = given.pod()
      local c = stopped(pod, given.FULL)
      f:fault(function(op, _, what) return op == step[2] and (not step[3] or what:find(step[3])) and "fail" or nil end)
      local from = #f.calls
      local e = given.error(c.delete, c)
      assert.is_truthy(e.message:find("vm/p/c: %a+%-%d+: "), e.message) -- container, leg and reservation
      assert.same(step[4], held(vm, c))
      local first = calls_since(f, from)
      f:fault(nil)
      from = #f.calls
      c:delete()
      for _, call in ipairs(calls_since(f, from)) do
        for _, before in ipairs(first) do
          if before == call then assert.is_truthy(call:find(step[2], 1, true), call) end
        end
      end
      assert.same({}, f:leaks { running = true })
      assert.same({}, f.wrong)
      vm:stop()
    end))
  end

  it("keeps the layers from the one that fails on, and goes on with it [#104]", virtual(function()
    local f, pod, vm = given.pod()
    local c = stopped(pod, { layers = { "/1.ext4", "/2.ext4", "/3.ext4" }, scratch = { size = "64M" } })
    local slots, order = {}, {}
    for _, receipt in ipairs(vm.ledger:under(c.owner)) do
      if receipt.kind == "layer" then slots[("0:%d"):format(receipt.facts.lun)] = receipt.name end
    end
    f:fault(function(op, _, slot)
      if op ~= "host.detach" or not slots[slot] then return end
      if order[#order] ~= slot then order[#order + 1] = slot end
      return #order == 2 and "fail" or nil
    end)
    given.error(c.delete, c)
    assert.equal(2, #order)
    assert.is_nil(vm.ledger:get(slots[order[1]]))
    assert.same({ layer = 2 }, held(vm, c))
    f:fault(nil)
    local from = #f.calls
    c:delete()
    local calls = calls_since(f, from)
    assert.equal("host.detach " .. order[2], calls[1])
    assert.is_nil(table.concat(calls, "\n"):find("host.detach " .. order[1], 1, true))
    assert.same({}, f:leaks { running = true })
    vm:stop()
  end))

  it("leaves a layer to the other container that stands on it [#112] [#126]", virtual(function()
    local f, pod, vm = given.pod()
    f.missing["/nothing"] = true
    local shared = { "sleep", layers = { "/base.ext4" }, scratch = { path = "/scratch.img" } }
    local a, b = given.running(pod, shared, "a"), given.running(pod, shared, "b")
    assert.equal(2, #f:called("^host.attach"))
    a:stop()
    assert.same({}, f:called("^guest.unmount"))
    assert.same({}, f:called("^host.detach"))
    assert.equal("running", b:state().state)
    given.exec(b, { "exit", 0 }):start()
    assert.is_true(f.containers.b.document.ScratchDirPath ~= "")
    b:stop()
    assert.equal(2, #f:called("^host.detach"))
    assert.same({}, f:leaks { running = true })
    assert.same({}, f.wrong)
    vm:stop()
  end))

  it("asks once for the state of the sandbox [#113]", virtual(function()
    local f, _, vm = given.pod()
    local pod = vm:new_pod("hello")
    pod:launch_sandbox()
    vm:stop()
    assert.same({ "guest.delete_state hello" }, f:called("^guest.delete_state"))
    assert.same({}, f:leaks())
  end))

  it("ends in bounded time when the guest says nothing at all any more", virtual(function()
    local f, pod, vm = given.pod()
    given.running(pod, given.FULL, "a")
    given.running(pod, given.FULL, "b")
    f:fault(function(op) return op:find("^guest") and "hang" or nil end)
    vm:stop()
    assert.is_true(task.now() < 5 * 60 * 1000, tostring(task.now()))
    assert.same({}, f:leaks())
  end))

  it("drains what the processes have written before the streams are closed", virtual(function()
    local f, pod, vm = given.pod()
    f.drain_takes = 400
    given.running(pod)
    vm:stop()
    assert.is_true(task.now() >= 400)
    assert.same({}, f:leaks())
  end))

  it("does not wait longer than a second for output that never ends [#534] [#527] (known bug 60)", virtual(function()
    local f, pod, vm = given.pod()
    f.drain_takes = 3600000
    local c = given.running(pod, { "exit", 0 })
    c:wait()
    assert.equal(1000, task.now())
    assert.equal("exit", f:topics("c")[3])
    vm:stop()
  end))
end)

describe("stops", function()
  it("that come together share one run and one outcome (known bugs 19, 164)", virtual.seeds(10, function()
    local f, pod, vm = given.pod()
    given.running(pod, given.FULL)
    local steps = {}
    for i = 1, 3 do steps[i] = function() return vm:stop() or true end end
    task.all(steps)
    assert.equal(1, #f:called("^host.terminate"))
    assert.equal(1, #f:called("^guest.delete_state"))
    assert.same({}, f:leaks())
    assert.is_nil(vm:stop())
  end))

  it("of a container and of its pod come together well", virtual.seeds(20, function(v)
    local f, pod, vm = given.pod()
    local c = given.running(pod, given.FULL)
    local one = given.later(c.stop, c)
    if v.seed % 3 == 0 then task.sleep(v.seed) end
    local all = given.later(vm.stop, vm)
    assert.is_true(all())
    one()
    assert.same({}, f:leaks())
    assert.same({}, f.wrong)
    assert.same({ "create", "start", "exit", "delete" }, f:topics("c"))
  end))

  it("while a create is under way end it", virtual.seeds(20, function(v)
    local f, pod, vm = given.pod()
    f:fault(function(op) return op:find("^guest.m") and { delay = 50 } or nil end)
    local c = pod:new_container("c")
    local create = given.later(c.create, c, given.request(given.FULL))
    task.sleep(v.seed * 7)
    vm:stop()
    local ok, e = create()
    if not ok then assert.is_true(e.code == "cancelled" or e.code == "failed_precondition", tostring(e)) end
    assert.same({}, f:leaks())
    assert.same({}, f.wrong)
  end))
end)

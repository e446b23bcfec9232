-- Every call to the outside fails once, in turn, in every way there is. What counts is what is left at the end.
local given = require "support.given"
local task = require "moonshim.task"
local virtual = require "support.virtual"

local SPEC = {
  "sleep", layers = { "/base.ext4", "/app.ext4" }, scratch = { size = "64M" },
  mounts = { { source = "/shared", destination = "/shared" }, { source = "/d.img", destination = "/d", type = "virtual-disk" } },
}

-- How many calls an action makes when nothing fails.
local function count(prepare, act)
  local n
  virtual.run(function()
    local f, pod, vm = given.pod()
    local thing = prepare(pod)
    local from = f.count
    act(pod, thing, vm)
    n = f.count - from
    if vm.machine:state() ~= "ended" then vm:stop() end
  end)
  assert(n > 0)
  return n
end

local function sweep(name, prepare, act, check)
  describe(name, function()
    local n = count(prepare, act)
    for _, fault in ipairs { "fail", "hang", "lost", "die" } do
      it(("in every one of its %d calls, by %s"):format(n, fault), function()
        for i = 1, n do
          local ok, e = pcall(virtual.run, function()
            local f, pod, vm = given.pod()
            local thing = prepare(pod)
            local from = f.count
            f:fault(function(_, at) return at == from + i and fault or nil end)
            local fine, why = pcall(act, pod, thing, vm)
            if not fine and type(why) == "string" then error(why, 0) end
            assert.is_true(task.now() < 15 * 60 * 1000, "it took " .. task.now())
            f:fault(nil)
            check(f, pod, thing, vm, fine)
            assert.same({}, f.wrong)
          end)
          if not ok then
            error(("fault in call %d: %s"):format(i, type(e) == "table" and tostring(e.message) or tostring(e)), 0)
          end
        end
      end)
    end
  end)
end

sweep("a fault during a create [#679] [#681]", function(pod) return pod:new_container("c") end, function(_, c)
  c:create(given.request(SPEC))
end, function(f, pod, c, vm, fine)
  if fine then
    c:stop()
  elseif f.running then
    -- What the roll-back could not do is done by whatever comes next.
    pcall(function() given.running(pod, { "sleep" }, "d"):stop() end)
    assert.same({}, f:leaks { running = true })
  end
  vm:stop()
  assert.same({}, f:leaks())
end)

sweep("a fault during a start", function(pod) return given.created(pod, SPEC) end, function(_, c) c:start() end,
  function(f, _, c, vm)
    if f.running then
      pcall(c.stop, c)
      c:stop()
      assert.same({}, f:leaks { running = true })
    end
    vm:stop()
    assert.same({}, f:leaks())
  end)

sweep("a fault during a delete [#680] [#682] (known bug 4)", function(pod)
  local c = given.running(pod, { "exit", "0", layers = SPEC.layers, scratch = SPEC.scratch, mounts = SPEC.mounts })
  c:wait()
  return c
end, function(_, c) c:delete() end, function(f, _, c, vm, fine)
  if not fine then c:delete() end
  if f.running then assert.same({}, f:leaks { running = true }) end
  assert.same({ "create", "start", "exit", "delete" }, f:topics("c"))
  vm:stop()
  assert.same({}, f:leaks())
end)

sweep("a fault during the stop of a container", function(pod) return given.running(pod, SPEC) end, function(_, c) c:stop() end,
  function(f, _, c, vm, fine)
    if not fine then pcall(c.stop, c) end
    vm:stop()
    assert.same({ "create", "start", "exit", "delete" }, f:topics("c"))
    assert.same({}, f:leaks())
  end)

sweep("a fault during the stop of a pod", function(pod) return given.running(pod, SPEC) end, function(_, _, vm) vm:stop() end,
  function(f, _, _, vm, fine)
    if not fine then vm:stop() end
    assert.same({ "create", "start", "exit", "delete" }, f:topics("c"))
    assert.same({}, f:leaks())
  end)

describe("a cancel", function()
  -- The action is cancelled after each number of its calls.
  local function cancelled_at(prepare, act, check)
    local n = count(prepare, act)
    for i = 1, n do
      virtual.run(function()
        local f, pod, vm = given.pod()
        local thing = prepare(pod)
        local from, t = f.count, nil
        f:fault(function(_, at)
          if at == from + i then t:cancel("enough") end
        end)
        local wait
        wait, t = given.later(act, pod, thing, vm)
        wait()
        f:fault(nil)
        check(f, pod, thing, vm)
        vm:stop()
        assert.same({}, f:leaks())
        assert.same({}, f.wrong)
      end)
    end
  end

  it("at any step of a create leaves nothing", function()
    cancelled_at(function(pod) return pod:new_container("c") end, function(_, c) c:create(given.request(SPEC)) end, function(f, _, c)
      if c.machine:is("failed") then assert.same({}, f:leaks { running = true }) end
    end)
  end)

  it("at any step of a start leaves a container whose exit is seen", function()
    cancelled_at(function(pod) return given.created(pod, SPEC) end, function(_, c) c:start() end, function(_, _, c)
      c:kill(9)
      assert.equal(137, (c:wait()))
    end)
  end)

  it("of who waits for a delete does not stop the delete", function()
    cancelled_at(function(pod)
      local c = given.running(pod, { "exit", "0", layers = SPEC.layers, scratch = SPEC.scratch })
      c:wait()
      return c
    end, function(_, c) c:delete() end, function(f, _, c)
      task.sleep("5m")
      assert.same({}, f:leaks { running = true })
      assert.is_true(c.machine:is("deleting", "deleted"))
      if c.machine:is("deleting") then c:delete() end
    end)
  end)

  it("of a whole pod that is coming up leaves nothing", function()
    local spec = require("moonshim.pod_spec").check({
      name = "hello",
      containers = {
        a = { layers = { "/a.ext4" }, scratch = { size = "64M" }, args = { "sleep" } }, b = { rootfs = "/r", args = { "sleep" } },
      },
    }, { base = "/" })
    local function act(_, _, vm)
      local ok, e = pcall(function() vm:new_pod("hello"):launch(spec, function() return { stdout = { fd = 1 } } end) end)
      if not ok then
        pcall(task.shield, vm.stop, vm, { goal = "roll_back" })
        error(e, 0)
      end
    end
    cancelled_at(function() end, act, function() end)
  end)
end)

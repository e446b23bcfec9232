-- What running a plan does: order, retries, limits, widths, hooks. What a failed step means is in plan_failure_spec.lua,
-- who may run a plan in plan_execute_spec.lua.
local err = require "moonshim.err"
local fake = require "support.fake_world"
local plan = require "moonshim.plan"
local plans = require "support.plans"
local raised = require "support.raised"
local task = require "moonshim.task"
local virtual = require "support.virtual"

local given, reloaded, execute = plans.given, plans.reloaded, plans.execute
local fails, outcomes, names = plans.fails, plans.outcomes, plans.names

describe("a run", function()
  it("releases everything in order, believes and reports it", virtual(function()
    local L, world, j = given()
    fake.container(L)
    local seen = {}
    local report = execute(L, "vm", "stop", {
      on_step = function(step, what)
        if what ~= "start" then seen[#seen + 1] = step.name .. " " .. what end
      end,
    })
    assert.is_true(report.ok)
    assert.is_nil(report.error)
    assert.same({ "process-6 done", "overlay-5 done", "disk-4 done", "disk-3 done", "bridge-2 done", "uvm-1 done" }, seen)
    assert.same({}, world:left())
    assert.same({}, L:all())
    assert.same({}, reloaded(j):all())
    assert.equal(1, report.steps[1].attempts)
    assert.is_true(report.ms >= 8)
  end))

  it("again finds nothing to do and makes no call [#90]", virtual(function()
    local L, world = given()
    fake.container(L)
    execute(L, "vm/pod/ctr")
    local calls = world.calls
    assert.is_true(execute(L, "vm/pod/ctr").ok)
    assert.equal(calls, world.calls)
  end))

  it("hands each release its goal, its time, its attempt and its arguments", virtual(function()
    local L, world = given()
    fake.container(L)
    world.fault = function(_, op, name)
      return op == "remove" and name:find("process") and not world.steps[2] and "before" or nil
    end
    execute(L, "vm", "stop", { edit = function(p) p:tune("process", { args = { mark = 1 } }) end })
    local first, second = world.steps[1], world.steps[2]
    assert.same({ "stop", 1, 25000, 1 }, { first.goal, first.attempt, first.within, first.args.mark })
    assert.same({ 2, 24900 }, { second.attempt, second.within })
    assert.equal("TERM", second.args.ladder[1][1])
  end))

  it("counts gone as done", virtual(function()
    local L, world = given()
    fake.container(L)
    world.effects = { vm = world.effects.vm, loop0 = world.effects.loop0 }
    local report = execute(L, "vm/pod/ctr")
    assert.is_true(report.ok)
    assert.equal("gone", outcomes(report)["overlay-5"])
    assert.same({ "vm" }, world:left())
  end))

  it("tries again with a growing pause, as often as told, and within its limit", virtual(function()
    local L, world = given()
    L:acquire { owner = "vm/c", kind = "file", args = { name = "f" } }
    fails(world, "f")
    local pauses, last = {}, nil
    local report = execute(L, "vm/c", "delete", {
      edit = function(p) p:tune("file", { retries = 4, backoff = "100ms", within = "30s" }) end,
      on_step = function(_, what)
        if what == "retry" then
          if last then pauses[#pauses + 1] = task.now() - last end
          last = task.now()
        end
      end,
    })
    assert.is_false(report.ok)
    assert.equal(5, report.steps[1].attempts)
    assert.same({ 100, 200, 400 }, pauses)
    assert.equal(5, L:get("file-1").attempts)
    report = execute(L, "vm/c", "delete", {
      edit = function(p) p:tune("file", { retries = 100, backoff = "1s", within = "5s" }) end,
    })
    assert.equal(3, report.steps[1].attempts) -- at 0, 1 and 3 s; the next would have been at 7 s
  end))

  it("gives each step its own limit; an outcome nobody knows leaves the receipt intended", virtual(function()
    local L, world, j = given()
    L:acquire { owner = "vm/c", kind = "file", args = { name = "f" } }
    world.fault = function() return "lost" end
    local report = execute(L, "vm/c")
    assert.equal("deadline_exceeded", report.error.code)
    assert.truthy(report.error.message:find("file-1", 1, true))
    assert.equal(10000, report.steps[1].ms)
    assert.equal("intended", L:get("file-1").state)
    assert.equal("deadline_exceeded", reloaded(j):get("file-1").last_error.code)
    world.fault = nil
    assert.is_true(execute(L, "vm/c").ok)
  end))

  it("believes verify where the kernel can lie", virtual(function()
    local L, world, _, kinds = given()
    local lies = 2
    kinds:define("liar", {
      reserve = function() return { name = "m" } end,
      acquire = function(_, facts) world:make(facts.name, 1) end,
      release = function(_, facts)
        lies = lies - 1
        if lies < 0 then world:remove(facts.name, 1) end
      end,
      verify = function(_, facts) return world.effects[facts.name] and "held" or "gone" end,
      check_release = true, defaults = { retries = 1, backoff = "1ms" },
    })
    L:acquire { owner = "vm/c", kind = "liar" }
    local report = execute(L, "vm/c")
    assert.is_false(report.ok)
    assert.truthy(report.error.message:find("still held", 1, true))
    assert.is_true(execute(L, "vm/c").ok)
    assert.same({}, world:left())
  end))

  it("turns a bug in a kind into a failed step, with its traceback, and goes on", virtual(function()
    local L, _, _, kinds = given()
    kinds:define("buggy", { reserve = function() return {} end, acquire = function() end, release = function() error("oops") end })
    L:acquire { owner = "vm/c", kind = "buggy" }
    local report = execute(L, "vm/c")
    assert.equal("internal", report.error.code)
    assert.truthy(report.error.message:find("oops", 1, true))
  end))

  it("is not disturbed by a watcher that fails", virtual(function(v)
    local L = given()
    fake.container(L)
    assert.is_true(execute(L, "vm", "delete", { on_step = function() error("watcher bug") end }).ok)
    assert.truthy(v.lines[1]:find("watcher bug", 1, true))
  end))

  it("of one plan happens once", virtual(function()
    local L = given()
    local p = plan.derive(L, { owner = "vm", goal = "delete" })
    p:run()
    assert.equal("failed_precondition", raised(p.run, p).code)
  end))
end)

describe("steps without a path between them", function()
  local function wide(width, owners)
    local L, world = given()
    for _, owner in ipairs(owners) do
      for _ = 1, 6 do L:acquire { owner = owner, kind = "file" } end
    end
    world.most = 0
    assert.is_true(execute(L, "vm", "delete", { width = width }).ok)
    return world.most
  end

  it("run one at a time within a container, unless it is made wider", virtual(function()
    assert.equal(1, wide(nil, { "vm/pod/a" }))
    assert.equal(1, wide(nil, { "vm/pod/a", "vm/pod/a/exec" }))
    assert.equal(4, wide(4, { "vm/pod/a" }))
    assert.equal(6, wide(10, { "vm/pod/a" }))
  end))

  it("run in parallel in different containers", virtual(function()
    assert.equal(3, wide(nil, { "vm/pod/a", "vm/pod/b", "vm/pod2/c" }))
    assert.equal(6, wide(2, { "vm/pod/a", "vm/pod/b", "vm/pod2/c" }))
  end))

  it("never overlap along a path, whatever the width and the order of events", virtual.seeds(30, function()
    local L = given()
    fake.container(L, "vm/pod/a")
    fake.container(L, "vm/pod/b")
    local running, before = {}, {}
    local p = plan.derive(L, { owner = "vm", goal = "delete", order = fake.ORDER })
    p:before("disk", { name = "flush", run = function() task.sleep(3) end })
    for _, step in ipairs(p.steps) do before[step.name] = step.after end
    local over = {}
    p:run { width = 8, on_step = function(step, what)
      if what == "start" then
        running[step.name] = true
        for _, name in ipairs(before[step.name]) do
          assert(over[name] and not running[name], step.name .. " overtook " .. name)
        end
      elseif what ~= "retry" then
        running[step.name], over[step.name] = nil, true
      end
    end }
    assert.same({}, L:all())
  end))

  it("of the VM itself have their turn when nothing below is left to do", virtual(function()
    local L = given()
    fake.container(L)
    local order = {}
    execute(L, "vm", "delete", {
      on_step = function(step, what)
        if what == "start" then order[#order + 1] = step.name end
      end,
    })
    assert.equal("process-6 overlay-5 disk-4 disk-3 bridge-2 uvm-1", table.concat(order, " "))
  end))

  it("of the VM go first all the same when a container's receipt is needed by one of them", virtual(function()
    local L = given()
    local a = L:acquire { owner = "vm/pod/c", kind = "file" }
    L:acquire { owner = "vm", kind = "file", args = { on = { a } } }
    assert.is_true(execute(L, "vm").ok)
  end))
end)

describe("a hook", function()
  local function with_hook(run, extra)
    local L = given()
    fake.container(L)
    local h = { name = "flush", within = "5s", run = run }
    for k, v in pairs(extra or {}) do h[k] = v end
    local report = execute(L, "vm/pod/ctr", "stop", { ctx = { mark = 7 }, edit = function(p) p:before("disk", h) end })
    return report, L
  end

  it("runs at its place, with its step and the context", virtual(function()
    local seen
    local report = with_hook(function(step, ctx) seen = { step.name, step.owner, ctx.mark } end)
    assert.same({ "flush", "vm/pod/ctr", 7 }, seen)
    assert.equal("done", outcomes(report).flush)
    assert.is_true(report.ok)
  end))

  it("that fails does not hold up a delete, unless it was told to", virtual(function()
    local report, L = with_hook(function() err.raise("internal", "x") end)
    assert.is_true(report.ok)
    assert.equal("failed", outcomes(report).flush)
    assert.same({}, L:under("vm/pod/ctr"))
    report, L = with_hook(function() error("bug") end, { on_failure = "stop" })
    assert.is_false(report.ok)
    assert.truthy(report.error.message:find("^flush: .*bug"))
    assert.same({ "disk-3", "disk-4" }, names(L:under("vm/pod/ctr")))
  end))

  it("that overruns ends at its limit", virtual(function()
    local report = with_hook(function() task.sleep("1h") end)
    assert.equal(5000, report.steps[3].ms)
    assert.equal("deadline_exceeded", report.steps[3].error.code)
    assert.is_true(report.ok)
  end))

  it("that would delete its own container does not hang for ever (known bug 179)", virtual(function()
    local L = given()
    fake.container(L)
    local function again() execute(L, "vm/pod/ctr") end
    local report = execute(L, "vm/pod/ctr", "stop", {
      edit = function(p) p:before("disk", { name = "again", run = again }) end,
    })
    assert.is_true(report.ok)
    assert.equal("deadline_exceeded", report.steps[3].error.code)
  end))
end)

describe("a receipt that somebody else came to need after the plan was derived", function()
  it("is left alone", virtual(function()
    local L, world = given()
    local a = L:acquire { owner = "vm/pod/a", kind = "file", args = { name = "a" } }
    L:acquire { owner = "vm/pod/b", kind = "file", args = { name = "b" } }
    local p = plan.derive(L, { owner = "vm/pod/b", goal = "delete", include = { a.name } })
    L:acquire { owner = "vm/pod/c", kind = "file", args = { name = "c", on = { a } } }
    local report = p:run()
    assert.is_false(report.ok)
    assert.truthy(report.error.message:find("file-3 needs it", 1, true))
    assert.same({ "a", "c" }, world:left())
  end))
end)

describe("a thousand containers", function()
  it("go in one plan, in reasonable time", virtual(function()
    local L, world = given()
    L:acquire { owner = "vm", kind = "uvm" }
    for i = 1, 1000 do
      local file = L:acquire { owner = "vm/pod/c" .. i, kind = "file" }
      L:acquire { owner = "vm/pod/c" .. i, kind = "file", args = { on = { file } } }
    end
    world.remove = function(self, name) self.effects[name] = nil end -- the fake's own search is quadratic
    assert.is_true(execute(L, "vm").ok)
    assert.same({}, world:left())
  end, { level = "error" }))
end)

-- What running a plan does: retries, failures, debts, widths, the end of the VM, and who may run one.
local err = require "moonshim.err"
local fake = require "support.fake_world"
local journal = require "moonshim.journal"
local ledger = require "moonshim.ledger"
local plan = require "moonshim.plan"
local task = require "moonshim.task"
local virtual = require "support.virtual"

local function given(defaults)
  local world, j = fake.new(), journal.memory()
  local kinds = fake.kinds(defaults)
  local L = ledger.open { journal = j, world = world, kinds = kinds, log = task.log() }
  return L, world, j, kinds
end

local function reloaded(j)
  return ledger.open { journal = journal.memory(j:bytes()), world = fake.new(), kinds = fake.kinds(), log = task.log() }
end

local function execute(L, owner, goal, extra)
  local spec = { owner = owner, goal = goal or "delete", order = fake.ORDER }
  for k, v in pairs(extra or {}) do spec[k] = v end
  return plan.execute(L, spec)
end

local function fails(world, ...)
  local names = {}
  for i = 1, select("#", ...) do names[select(i, ...)] = true end
  function world.fault(_, op, name)
    return op ~= "make" and names[name] and "before" or nil
  end
end

local function outcomes(report)
  local t = {}
  for _, line in ipairs(report.steps) do t[line.name] = line.outcome end
  return t
end

local function raised(fn, ...)
  local ok, e = pcall(fn, ...)
  assert.is_false(ok)
  return e
end

local function names(list)
  local t = {}
  for i, r in ipairs(list) do t[i] = r.name end
  return t
end

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

describe("a step that fails", function()
  it("with stop keeps back what depends on it and the rest of its container, and the error names it", virtual(function()
    local L, world = given()
    fake.container(L)
    L:acquire { owner = "vm/pod/ctr", kind = "file", args = { name = "f" } }
    fails(world, "loop1")
    local report = execute(L, "vm/pod/ctr")
    assert.is_false(report.ok)
    assert.same({
      ["process-6"] = "done", ["overlay-5"] = "done", ["disk-4"] = "failed", ["disk-3"] = "skipped", ["file-7"] = "skipped",
    }, outcomes(report))
    assert.truthy(report.error.message:find("^disk%-4: "))
    assert.equal("owed", L:get("disk-4").state)
    assert.equal("held", L:get("disk-3").state)
    world.fault = nil -- the retry does what is missing, nothing else
    local again = execute(L, "vm/pod/ctr")
    assert.is_true(again.ok)
    assert.equal(3, #again.steps)
  end))

  it("with stop leaves other containers alone", virtual(function()
    local L, world = given()
    fake.container(L, "vm/pod/a")
    local b = fake.container(L, "vm/pod/b")
    fails(world, b.overlay.facts.name)
    local report = execute(L, "vm/pod")
    assert.same({}, names(L:under("vm/pod/a")))
    assert.equal("failed", outcomes(report)["overlay-9"])
    assert.equal("skipped", outcomes(report)["disk-7"])
  end))

  it("with continue lets the rest run, and the plan fails", virtual(function()
    local L, world = given()
    fake.container(L)
    L:acquire { owner = "vm/pod/ctr", kind = "file", args = { name = "f" } }
    fails(world, "loop1")
    local report = execute(L, "vm/pod/ctr", "delete", { edit = function(p) p:tune("disk", { on_failure = "continue" }) end })
    assert.is_false(report.ok)
    assert.same({ "disk-4" }, names(L:under("vm/pod/ctr")))
    assert.equal("vm/pod/ctr", L:get("disk-4").owner)
  end))

  it("with debt makes the VM owe it, with all it still needs; the plan succeeds, the container is free of it", virtual(function()
    local L, world, j = given()
    local r = fake.container(L)
    fails(world, r.overlay.facts.name)
    local report = execute(L, "vm/pod/ctr", "delete", { edit = function(p) p:tune("overlay", { on_failure = "debt" }) end })
    assert.is_true(report.ok)
    assert.is_nil(report.error)
    assert.same({ "overlay-5", "disk-4", "disk-3" }, report.debts)
    assert.same({}, L:under("vm/pod/ctr"))
    for _, name in ipairs(report.debts) do
      assert.equal("vm", L:get(name).owner)
      assert.equal("owed", L:get(name).state)
      assert.equal("vm", reloaded(j):get(name).owner)
    end
    assert.equal(0, L:get("disk-3").attempts) -- it was never tried
    assert.same({ "disk-3", "disk-4", "overlay-5" }, names(L:debts()))
  end))

  it("as a debt is retried by later operations", virtual(function()
    local L, world = given()
    local r = fake.container(L)
    fails(world, r.overlay.facts.name)
    local function as_debt(p) p:tune("overlay", { on_failure = "debt" }) end
    execute(L, "vm/pod/ctr", "delete", { edit = as_debt })
    local report = plan.retry_debts(L, { owner = "vm", order = fake.ORDER })
    assert.same(3, #report.debts)
    assert.equal("owed", L:get("overlay-5").state)
    world.fault = nil
    report = plan.retry_debts(L, { owner = "vm", order = fake.ORDER })
    assert.is_true(report.ok)
    assert.same({}, L:debts())
    assert.same({ "bridge", "vm" }, world:left())
    assert.is_nil(plan.retry_debts(L, { owner = "vm" }))
  end))

  it("as a debt of the whole VM is a failure: nobody is left to owe it", virtual(function()
    local L, world = given()
    L:acquire { owner = "vm", kind = "file", args = { name = "f" } }
    fails(world, "f")
    local report = execute(L, "vm", "delete", { edit = function(p) p:tune("file", { on_failure = "debt" }) end })
    assert.is_false(report.ok)
    assert.equal("internal", report.error.code)
  end))

  it("in a roll-back never keeps a failed create alive", virtual(function()
    local L, world = given()
    fake.container(L)
    fails(world, "mount0", "loop0")
    local report = execute(L, "vm/pod/ctr", "roll_back")
    assert.is_true(report.ok)
    assert.same({ "disk-3" }, report.debts)
    assert.same({}, L:under("vm/pod/ctr"))
  end))
end)

describe("ending the VM", function()
  it("happens whatever failed before, settles what dies with it, and gives the rest one more go", virtual(function()
    local L, world = given()
    local r = fake.container(L)
    fails(world, r.overlay.facts.name) -- the guest refuses for good
    local told = {}
    local report = execute(L, "vm", "stop", {
      on_step = function(step, what, detail) told[#told + 1] = ("%s %s %s"):format(step.name, what, tostring(detail)) end,
    })
    assert.is_true(report.ok, tostring(report.error))
    assert.same({}, world:left())
    assert.same({}, L:all())
    assert.same({
      ["process-6"] = "done", ["overlay-5"] = "gone", ["disk-4"] = "done", ["disk-3"] = "done", ["bridge-2"] = "done", ["uvm-1"] = "done",
    }, outcomes(report))
    local text = table.concat(told, "\n")
    assert.truthy(text:find("overlay-5 gone with uvm-1", 1, true))
    assert.truthy(text:find("disk-3 again uvm-1 has ended", 1, true))
    assert.truthy(text:find("disk-3 skipped", 1, true))
  end))

  it("leaves what still fails on the host, once more tried and no more", virtual(function()
    local L, world = given({ within = "10s", retries = 0 })
    fake.container(L)
    fails(world, "loop1")
    local report = execute(L, "vm", "stop")
    assert.is_false(report.ok)
    assert.same({ "loop1" }, world:left())
    assert.same({ "disk-4" }, names(L:all()))
    assert.same({}, L:get("disk-4").needs)
    assert.equal(2, L:get("disk-4").attempts)
    world.fault = nil
    assert.is_true(execute(L, "vm", "stop").ok)
    assert.same({}, world:left())
  end))

  it("that itself fails keeps everything that dies with it, and the next one ends it", virtual(function()
    local L, world = given()
    local r = fake.container(L)
    fails(world, "vm", r.overlay.facts.name)
    local report = execute(L, "vm", "crash")
    assert.is_false(report.ok)
    assert.is_table(L:get("overlay-5"))
    assert.is_table(L:get("disk-4")) -- the living guest still uses it
    world.fault = nil
    assert.is_true(execute(L, "vm", "crash").ok)
    assert.same({}, world:left())
    assert.same({}, L:all())
  end))

  it("with a dead VM is a success, whatever the guest would say", virtual(function()
    local L, world = given()
    fake.container(L)
    for name, e in pairs(world.effects) do
      if name == "vm" or e.vm == "vm" then world.effects[name] = nil end
    end
    assert.is_true(execute(L, "vm").ok)
    assert.same({}, world:left())
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

describe("execute", function()
  it("runs once per owner: a second caller joins, with the same outcome", virtual(function()
    local L, world = given()
    fake.container(L)
    local calls = 0
    world.on_effect = function(op) calls = calls + (op == "remove" and 1 or 0) end
    local reports = task.all {
      function() return execute(L, "vm/pod/ctr") end,
      function() return execute(L, "vm/pod/ctr") end,
      function() task.sleep(2) return execute(L, "vm/pod/ctr", "stop") end,
    }
    assert.is_true(reports[1].ok and reports[2].ok and reports[3].ok)
    assert.equal(6, calls)
    assert.equal(reports[1], reports[2])
  end))

  it("joins the run of a parent, and gets its own part of the report", virtual(function()
    local L, world = given()
    fake.container(L, "vm/pod/a")
    local b = fake.container(L, "vm/pod/b")
    fails(world, b.overlay.facts.name)
    local reports = task.all {
      function() return execute(L, "vm/pod") end,
      function() task.sleep(1) return execute(L, "vm/pod/a") end,
      function() task.sleep(1) return execute(L, "vm/pod/b") end,
    }
    assert.is_false(reports[1].ok)
    assert.is_true(reports[2].ok)
    assert.is_false(reports[3].ok)
    assert.equal(4, #reports[2].steps)
  end))

  it("of a parent takes over from the runs below it, whose callers get its outcome; nothing is released twice", virtual(function()
    local L, world = given()
    fake.container(L)
    local removed = {}
    world.fault = function(_, op, name)
      if op ~= "remove" then return end
      removed[name] = (removed[name] or 0) + 1
      return "late"
    end
    local reports = task.all {
      function() return execute(L, "vm/pod/ctr") end,
      function() task.sleep(1) return execute(L, "vm") end,
    }
    assert.is_true(reports[1].ok)
    assert.is_true(reports[2].ok)
    assert.equal(4, #reports[1].steps)
    assert.equal(6, #reports[2].steps)
    for name, times in pairs(removed) do assert.equal(1, times, name) end
    assert.same({}, world:left())
  end))

  it("of a parent that does not end the VM waits for the running steps of those below, and does the rest itself", virtual(function()
    local L, world = given()
    fake.container(L)
    local running, most = 0, 0
    world.fault = function(_, op) return op == "remove" and "late" or nil end
    local steps = {}
    local function on_step(step, what)
      if what == "start" then running = running + 1 elseif what == "done" then running = running - 1 end
      most = math.max(most, running)
      steps[#steps + 1] = what .. " " .. step.name
    end
    local reports = task.all {
      function() return execute(L, "vm/pod/ctr", "delete", { on_step = on_step }) end,
      function() task.sleep(1) return execute(L, "vm/pod", "delete", { on_step = on_step }) end,
    }
    assert.is_true(reports[1].ok)
    assert.equal(3, #reports[2].steps) -- the first was over by then
    assert.equal(1, most)
    assert.same({ "bridge", "vm" }, world:left())
  end))

  it("lets a caller shorten only its own wait", virtual(function()
    local L, world = given()
    fake.container(L)
    world.fault = function(_, op) return op == "remove" and "late" or nil end
    local first = task.spawn(function() return execute(L, "vm/pod/ctr") end)
    local e = raised(task.deadline, "1s", execute, L, "vm/pod/ctr")
    assert.equal("deadline_exceeded", e.code)
    first:cancel("the client went away")
    raised(first.join, first)
    assert.is_true(execute(L, "vm/pod/ctr").ok)
    assert.same({ "bridge", "vm" }, world:left())
  end))

  it("closes the owner while it runs, and settles first what is being acquired", virtual(function()
    local L, world = given()
    fake.container(L)
    world.fault = function(_, op) return op == "make" and "late" or nil end
    local create = task.spawn(function() L:acquire { owner = "vm/pod/ctr", kind = "file", args = { name = "late" } } end)
    task.sleep(1)
    local stop = task.spawn(function() return execute(L, "vm/pod/ctr") end)
    task.sleep(1)
    assert.is_true(L:is_closing("vm/pod/ctr/exec"))
    assert.equal("failed_precondition", raised(L.acquire, L, { owner = "vm/pod/ctr", kind = "file" }).code)
    create:join()
    assert.is_true(stop:join().ok)
    assert.same({ "bridge", "vm" }, world:left())
    assert.is_false(L:is_closing("vm/pod/ctr"))
    L:acquire { owner = "vm/pod/ctr", kind = "file" }
  end))

  it("that is refused tells all who joined, and opens the owner again", virtual(function()
    local L = given()
    local r = fake.container(L, "vm/pod/a")
    L:acquire { owner = "vm/pod/b", kind = "overlay", args = { disks = { r.base } } }
    local first = task.spawn(function() return execute(L, "vm/pod/a") end)
    assert.equal("failed_precondition", raised(execute, L, "vm/pod/a").code)
    raised(first.join, first)
    assert.is_false(L:is_closing("vm/pod/a"))
  end))

  it("runs the plan without edits when the edits fail, and says so [#689]", virtual(function(v)
    local L = given()
    fake.container(L)
    local report = execute(L, "vm/pod/ctr", "stop", {
      edit = function(p)
        p:tune("disk", { retries = 9 })
        error("script:3: attempt to call a nil value")
      end,
    })
    assert.is_true(report.ok)
    assert.truthy(report.fallback.message:find("script:3", 1, true))
    assert.truthy(table.concat(v.lines):find("default plan", 1, true))
  end))

  it("asks no script in a crash clean-up", virtual(function()
    local L = given()
    fake.container(L)
    assert.is_true(execute(L, "vm", "crash", { edit = function() error("never") end }).ok)
  end))

  it("ends with its run's steps shielded: a cancelled run finishes what is running and starts nothing more", virtual(function()
    local L, world = given()
    fake.container(L)
    world.fault = function(_, op) return op == "remove" and "late" or nil end
    local p = plan.derive(L, { owner = "vm/pod/ctr", goal = "delete", order = fake.ORDER })
    local t = task.spawn(function() return p:run() end)
    task.sleep(10)
    t:cancel()
    assert.equal("cancelled", raised(t.join, t).code)
    assert.same({ "disk-3", "disk-4", "overlay-5" }, names(L:under("vm/pod/ctr")))
    assert.is_false(L:is_closing("vm/pod/ctr"))
    world.fault = nil
    assert.is_true(execute(L, "vm/pod/ctr").ok)
  end))

  it("and a retry of debts never release one receipt twice at once", virtual.seeds(20, function()
    local L, world = given()
    local r = fake.container(L, "vm/pod/a")
    local x = L:acquire { owner = "vm/pod/b", kind = "overlay", args = { disks = { r.base } } }
    fails(world, x.facts.name)
    execute(L, "vm/pod/b", "delete", { edit = function(p) p:tune("overlay", { on_failure = "debt" }) end })
    assert.equal("vm", x.owner)
    world.fault = function(_, op, name) return op == "remove" and name == x.facts.name and "late" or nil end
    local inside, twice, remove = {}, nil, world.remove
    function world:remove(name, ...)
      twice = twice or inside[name] and name
      inside[name] = true
      local ok, e = pcall(remove, self, name, ...)
      inside[name] = nil
      if not ok then error(e, 0) end
    end
    local report
    task.all {
      function() plan.retry_debts(L, { owner = "vm", order = fake.ORDER }) end,
      function() report = execute(L, "vm/pod/a") end, -- takes the debt along, since it stands on a disk of this one
      function() task.sleep(1) execute(L, "vm") end,
    }
    assert.is_nil(twice)
    assert.is_true(report.ok, tostring(report.error))
    assert.same({}, world:left())
    assert.same({}, L:all())
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

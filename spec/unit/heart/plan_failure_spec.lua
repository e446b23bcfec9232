-- What a step that fails means: for what depends on it, for the rest, for the end of the VM.
local fake = require "support.fake_world"
local plan = require "moonshim.plan"
local plans = require "support.plans"
local virtual = require "support.virtual"

local given, reloaded, execute = plans.given, plans.reloaded, plans.execute
local fails, outcomes, names = plans.fails, plans.outcomes, plans.names

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

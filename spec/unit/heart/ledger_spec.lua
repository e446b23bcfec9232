local err = require "moonshim.err"
local fake = require "support.fake_world"
local journal = require "moonshim.journal"
local ledger = require "moonshim.ledger"
local plan = require "moonshim.plan"
local raised = require "support.raised"
local task = require "moonshim.task"
local virtual = require "support.virtual"

local function given(opts)
  opts = opts or {}
  local g = { world = opts.world or fake.new(), journal = opts.journal or journal.memory(), kinds = opts.kinds or fake.kinds() }
  g.ledger = ledger.open { journal = g.journal, world = g.world, kinds = g.kinds, dry = opts.dry, log = opts.log or task.log() }
  return g, g.ledger
end

-- What the journal says, told by a process that knows nothing else.
local function reloaded(g)
  return ledger.open { journal = journal.memory(g.journal:bytes()), world = fake.new(), kinds = fake.kinds(), log = task.log() }
end

describe("acquire", function()
  it("journals the receipt as intended before the first effect, and as held after the last", virtual(function()
    local g, L = given()
    local seen = {}
    function g.world.on_effect()
      local r = reloaded(g):get("disk-2")
      seen[#seen + 1] = r and r.state .. " " .. r.facts.slot
    end
    L:acquire { owner = "vm", kind = "uvm" }
    seen = {}
    local r = L:acquire { owner = "vm/pod/c", kind = "disk", args = { path = "a.ext4" } }
    assert.same({ "intended 0", "intended 0" }, seen)
    assert.equal("held", r.state)
    assert.equal("/run/mounts/0", r.facts.guest_path)
    local again = reloaded(g):get("disk-2")
    assert.equal("held", again.state)
    assert.same(r.facts, again.facts)
    assert.is_nil(again.value)
  end))

  it("keeps the value for this process only", virtual(function()
    local g, L = given()
    L:acquire { owner = "vm", kind = "uvm" }
    local r = L:acquire { owner = "vm", kind = "process" }
    assert.is_function(r.value.close)
    assert.is_number(r.facts.pid)
    assert.is_nil(reloaded(g):get(r.name).value)
  end))

  it("makes needs of the receipts in its arguments, four tables deep", virtual(function()
    local _, L = given()
    local a, b = L:acquire { owner = "vm", kind = "file" }, L:acquire { owner = "vm", kind = "file" }
    local c = L:acquire { owner = "vm", kind = "file" }
    local r = L:acquire { owner = "vm", kind = "file", args = { x = { y = { z = a } }, list = { b }, far = { { { { c } } } } } }
    assert.same({ a.name, b.name }, r.needs)
    assert.same({ r.name }, { L:needed_by(a)[1].name })
  end))

  it("gives names that are never used again, not after a reload either", virtual(function()
    local g, L = given()
    L:acquire { owner = "vm/a", kind = "file" }
    assert.is_true(plan.execute(L, { owner = "vm/a", goal = "delete" }).ok)
    assert.equal("file-2", L:acquire({ owner = "vm/a", kind = "file" }).name)
    assert.is_true(plan.execute(L, { owner = "vm/a", goal = "delete" }).ok)
    L:compact()
    assert.equal("file-3", reloaded(g):acquire({ owner = "vm/a", kind = "file" }).name)
    assert.equal("already_exists", raised(L.acquire, L, { owner = "vm", kind = "file", name = "file-1" }).code)
    assert.equal("mine-9", L:acquire({ owner = "vm", kind = "file", name = "mine-9" }).name)
  end))

  it("that fails leaves the receipt as intended, with the error, and raises with the name in front", virtual(function()
    local g, L = given()
    g.world.fault = function() return "before" end
    local e = raised(L.acquire, L, { owner = "vm", kind = "file" })
    assert.equal("internal", e.code)
    assert.truthy(e.message:find("^acquire file%-1: "))
    local r = L:get("file-1")
    assert.equal("intended", r.state)
    assert.equal("internal", r.last_error.code)
    assert.equal("intended", reloaded(g):get("file-1").state)
  end))

  it("that fails in reserve leaves nothing", virtual(function()
    local g, L = given()
    g.kinds:define("picky", {
      reserve = function() err.raise("invalid_argument", "no") end, acquire = function() end, release = function() end,
    })
    assert.equal("invalid_argument", raised(L.acquire, L, { owner = "vm", kind = "picky" }).code)
    assert.same({}, L:all())
  end))

  it("whose facts are no plain data gives the reservation back and leaves nothing", virtual(function()
    local g, L = given()
    local given_back
    g.kinds:define("live", {
      reserve = function() return { handle = print } end,
      acquire = function() error("never") end,
      release = function(_, _, step) given_back = step.goal end,
    })
    assert.equal("invalid_argument", raised(L.acquire, L, { owner = "vm", kind = "live" }).code)
    assert.equal("roll_back", given_back)
    assert.same({}, L:all())
  end))

  it("is not cancelled half way: the effect is finished and known, then the cancel is raised", virtual(function()
    local g, L = given()
    local t = task.spawn(function() L:acquire { owner = "vm", kind = "file" } end)
    g.world.fault = function() return "late" end
    task.sleep(10)
    t:cancel()
    assert.equal("cancelled", raised(t.join, t).code)
    assert.equal("held", L:get("file-1").state)
    assert.same({ "file1" }, g.world:left())
  end))

  it("is not begun for a caller that is cancelled already", virtual(function()
    local g, L = given()
    local t = task.spawn(function()
      pcall(task.sleep, "1h")
      L:acquire { owner = "vm", kind = "file" }
    end)
    task.sleep(1)
    t:cancel()
    assert.equal("cancelled", raised(t.join, t).code)
    assert.equal(0, g.world.calls)
    assert.same({}, L:all())
  end))

  it("ends at its own limit, or the caller's if that is sooner, and leaves an outcome nobody knows as intended", virtual(function()
    local g, L = given()
    g.world.fault = function() return "lost" end
    assert.equal("deadline_exceeded", raised(L.acquire, L, { owner = "vm", kind = "file" }).code)
    assert.equal(10000, task.now())
    raised(L.acquire, L, { owner = "vm", kind = "file", within = "2s" })
    assert.equal(12000, task.now())
    raised(task.deadline, "1s", L.acquire, L, { owner = "vm", kind = "file" })
    assert.equal(13000, task.now())
    assert.equal("intended", L:get("file-3").state)
  end))

  for name, case in pairs {
    ["an unknown kind"] = { { owner = "vm", kind = "hologram" }, "invalid_argument" },
    ["no owner"] = { { kind = "file" }, "invalid_argument" },
    ["a broken owner path"] = { { owner = "vm//x", kind = "file" }, "invalid_argument" },
    ["a need that is not there"] = { { owner = "vm", kind = "file", needs = { "disk-9" } }, "failed_precondition" },
    ["something to die with that is not there"] = { { owner = "vm", kind = "file", dies_with = { "uvm-9" } }, "failed_precondition" },
  } do
    it("refuses " .. name, virtual(function()
      local g, L = given()
      assert.equal(case[2], raised(L.acquire, L, case[1]).code)
      assert.same({}, L:all())
      assert.equal(0, g.world.calls)
    end))
  end

  it("refuses what stands on a receipt that is not held any more, or never was", virtual(function()
    local g, L = given()
    local a = L:acquire { owner = "vm/a", kind = "file" }
    plan.execute(L, { owner = "vm/a", goal = "delete" })
    assert.equal("failed_precondition", raised(L.acquire, L, { owner = "vm", kind = "file", args = { on = { a } } }).code)
    g.world.fault = function() return "after" end
    raised(L.acquire, L, { owner = "vm/b", kind = "file" })
    g.world.fault = nil
    local e = raised(L.acquire, L, { owner = "vm", kind = "file", needs = { "file-2" } })
    assert.truthy(e.message:find("file-2, which is intended", 1, true))
  end))
end)

describe("an owner that is closing", function()
  it("takes nothing more, and neither does anything below it", virtual(function()
    local _, L = given()
    L:close_owner("vm/pod")
    for _, owner in ipairs { "vm/pod", "vm/pod/c", "vm/pod/c/exec" } do
      local e = raised(L.acquire, L, { owner = owner, kind = "file" })
      assert.equal("failed_precondition", e.code)
      assert.truthy(e.message:find("vm/pod is being taken down", 1, true))
    end
    L:acquire { owner = "vm", kind = "file" }
    L:acquire { owner = "vm/pod2", kind = "file" }
    L:reopen_owner("vm/pod")
    L:acquire { owner = "vm/pod", kind = "file" }
  end))

  it("lends nothing to others either", virtual(function()
    local _, L = given()
    local a = L:acquire { owner = "vm/a", kind = "file" }
    L:close_owner("vm/a")
    assert.equal("failed_precondition", raised(L.acquire, L, { owner = "vm/b", kind = "file", args = { on = { a } } }).code)
  end))

  it("refuses an acquire that was in its reserve when the closing began, and takes the slot back", virtual(function()
    local g, L = given()
    local slots = {}
    g.kinds:define("slow", {
      reserve = function() slots[1] = true task.sleep(10) return {} end,
      acquire = function() error("never") end,
      release = function() slots[1] = nil end,
    })
    local t = task.spawn(function() L:acquire { owner = "vm/a", kind = "slow" } end)
    task.sleep(5)
    L:close_owner("vm/a")
    assert.equal("failed_precondition", raised(t.join, t).code)
    assert.is_nil(slots[1])
    assert.same({}, L:all())
  end))

  it("is waited for until what it was acquiring has settled", virtual(function()
    local g, L = given()
    g.world.fault = function() return "late" end
    task.spawn(function() L:acquire { owner = "vm/a/c", kind = "file" } end)
    task.sleep(1)
    L:settle("vm/b")
    assert.equal(1, task.now())
    L:settle("vm/a")
    assert.equal("held", L:get("file-1").state)
  end))
end)

describe("a receipt that leaves", function()
  it("takes along what dies with it, directly or not, and closes what stood for that in this process", virtual(function()
    local g, L = given()
    local r = fake.container(L)
    local gone = L:released(r.uvm, "done")
    local names = {}
    for i, x in ipairs(gone) do names[i] = x.name end
    assert.same({ "uvm-1", "bridge-2", "overlay-5", "process-6" }, names)
    assert.equal(1, g.world.closed)
    local left = {}
    for i, x in ipairs(L:all()) do left[i] = x.name end
    assert.same({ "disk-3", "disk-4" }, left)
    assert.same({}, L:get("disk-3").needs)
    assert.same(2, #reloaded(g):all())
  end))
end)

describe("a journal that cannot be written", function()
  local function full(g, on)
    local append, rewrite = journal.memory().append, journal.memory().rewrite
    local function refuse() err.raise("resource_exhausted", "disk full") end
    g.journal.append = on and refuse or append
    g.journal.rewrite = on and refuse or rewrite
  end

  it("stops the way up: no record, no effect, no slot", virtual(function()
    local g, L = given()
    L:acquire { owner = "vm", kind = "uvm" }
    local calls = g.world.calls
    full(g, true)
    local e = raised(L.acquire, L, { owner = "vm", kind = "disk", args = { path = "x" } })
    assert.equal("resource_exhausted", e.code)
    assert.equal(1, #L:all())
    assert.equal(calls + 2, g.world.calls) -- the two removals of taking back, which found nothing
    assert.is_nil(next(g.world.slots))
  end))

  it("after the effect leaves the receipt as intended with all its facts, so that it can be rolled back", virtual(function()
    local g, L = given()
    L:acquire { owner = "vm", kind = "uvm" }
    function g.world.on_effect() full(g, true) end
    raised(L.acquire, L, { owner = "vm/c", kind = "process" })
    assert.equal("intended", L:get("process-2").state)
    assert.is_number(L:get("process-2").facts.pid)
    full(g, false)
    g.world.on_effect = nil
    assert.is_true(plan.execute(L, { owner = "vm", goal = "roll_back" }).ok)
    assert.same({}, g.world:left())
    assert.same({}, reloaded(g):all())
  end, { level = "error" }))

  it("stops nothing on the way down, and is made up for later", virtual(function()
    local g, L = given()
    fake.container(L)
    full(g, true)
    assert.is_true(plan.execute(L, { owner = "vm/pod/ctr", goal = "delete", order = fake.ORDER }).ok)
    assert.same({ "bridge", "vm" }, g.world:left())
    assert.equal(6, #reloaded(g):all())
    full(g, false)
    L:state("vm", "running")
    assert.equal(2, #reloaded(g):all())
  end, { level = "error" }))
end)

describe("update", function()
  it("adds facts, in the journal too", virtual(function()
    local g, L = given()
    local r = L:acquire { owner = "vm", kind = "file" }
    L:update(r, { pid = 9007199254740993 })
    assert.equal(9007199254740993, r.facts.pid)
    assert.equal(9007199254740993, reloaded(g):get(r.name).facts.pid)
    assert.equal("not_found", raised(L.update, L, "file-9", {}).code)
  end))
end)

describe("states, events and history", function()
  it("are folds of the journal", virtual(function()
    local g, L = given()
    L:state("c1", "created")
    L:state("c1", "running", { pid = 7 })
    L:state("c2", "created")
    L:state("c2", nil)
    assert.equal(1, L:event("start", { id = "c1" }))
    assert.equal(2, L:event("exit", { id = "c1", code = 137 }))
    L:acquire { owner = "vm", kind = "file" }
    local again = reloaded(g)
    assert.same(L:states(), again:states())
    assert.equal("running", again:states().c1.state)
    assert.is_nil(again:states().c2)
    assert.same(L:events(), again:events())
    assert.same(L:history(), again:history())
    assert.equal(3, again:event("more"))
  end))

  it("are bounded", virtual(function()
    local _, L = given()
    for i = 1, 5000 do L:event("tick", { i = i }) end
    assert.is_true(#L:events() <= 1280 and #L:events() >= 1024)
    assert.equal(5000, L:events()[#L:events()].seq)
    assert.is_true(#L:history() <= 2560)
  end))
end)

describe("the journal of a long life", function()
  it("is rewritten when it has grown, and says the same", virtual(function()
    local g, L = given()
    local kept = L:acquire { owner = "vm", kind = "file" }
    L:state("vm", "running", { text = ("x"):rep(1000) })
    local most = 0
    for i = 1, 1500 do
      L:acquire { owner = "vm/c" .. i, kind = "file" }
      L:released(L:under("vm/c" .. i)[1], "done")
      most = math.max(most, g.journal.size)
    end
    assert.is_true(most < 300 * 1024)
    local again = reloaded(g)
    assert.equal(1, #again:all())
    assert.same(kept.facts, again:get(kept.name).facts)
    assert.equal("running", again:states().vm.state)
    assert.equal("file-1502", again:acquire({ owner = "vm", kind = "file" }).name)
  end, { level = "error" }))
end)

describe("a dry ledger", function()
  it("reserves and acquires nothing", virtual(function()
    local g, L = given { dry = true }
    fake.container(L)
    assert.equal(0, g.world.calls)
    local p = plan.derive(L, { owner = "vm", goal = "stop", order = fake.ORDER })
    assert.equal(6, #p.steps)
    assert.equal("failed_precondition", raised(p.run, p).code)
  end))

  it("works outside a run, for printing", function()
    local L = ledger.open {
      journal = journal.memory(), world = fake.new(), kinds = fake.kinds(), dry = true, now = function() return 0 end,
    }
    fake.container(L)
    assert.truthy(tostring(plan.derive(L, { owner = "vm", goal = "stop" })):find("process-6", 1, true))
  end)
end)

describe("what a kind is handed", function()
  it("are copies of the facts: what is not journaled is not known", virtual(function()
    local g, L = given()
    local seen
    g.kinds:define("forgetful", {
      reserve = function() return { x = 1 } end,
      acquire = function(_, facts) facts.secret = true end,
      release = function(_, facts) seen = facts.secret end,
    })
    L:acquire { owner = "vm", kind = "forgetful" }
    assert.is_nil(L:get("forgetful-1").facts.secret)
    plan.execute(L, { owner = "vm", goal = "delete" })
    assert.is_nil(seen)
  end))
end)

-- Derive, print, edit, validate: what a plan is. What running one does is in plan_run_spec.lua.
local cjson = require "cjson"
local err = require "moonshim.err"
local fake = require "support.fake_world"
local journal = require "moonshim.journal"
local ledger = require "moonshim.ledger"
local plan = require "moonshim.plan"
local task = require "moonshim.task"
local virtual = require "support.virtual"

local function given()
  local world, j = fake.new(), journal.memory()
  local L = ledger.open { journal = j, world = world, kinds = fake.kinds(), log = task.log() }
  return L, world, j
end

local function derive(L, owner, goal, extra)
  local spec = { owner = owner, goal = goal or "delete", order = fake.ORDER }
  for k, v in pairs(extra or {}) do spec[k] = v end
  return plan.derive(L, spec)
end

local function names(p)
  local list = {}
  for i, step in ipairs(p.steps) do list[i] = step.name end
  return table.concat(list, " ")
end

local function step(p, name)
  for _, s in ipairs(p.steps) do
    if s.name == name then return s end
  end
end

local function refused(code, fn, ...)
  local ok, e = pcall(fn, ...)
  assert.is_false(ok)
  assert.equal(code, err.is(e) and e.code or e)
  return e.message
end

describe("a derived plan", function()
  it("has a step for every receipt below the owner, what needs something before what it needs", virtual(function()
    local L = given()
    fake.container(L)
    assert.equal("process-6 overlay-5 disk-4 disk-3 bridge-2 uvm-1", names(derive(L, "vm")))
    assert.equal("process-6 overlay-5 disk-4 disk-3", names(derive(L, "vm/pod/ctr")))
    assert.same({ "overlay-5" }, step(derive(L, "vm"), "disk-3").after)
  end))

  it("orders by the list where needs leave it free, then the younger before the older; unlisted kinds first", virtual(function()
    local L = given()
    for _, kind in ipairs { "file", "boot", "file", "boot" } do L:acquire { owner = "vm/c", kind = kind } end
    assert.equal("file-3 file-1 boot-4 boot-2", names(derive(L, "vm/c", "delete", { order = { "file", "boot" } })))
    assert.equal("boot-4 boot-2 file-3 file-1", names(derive(L, "vm/c", "delete", { order = { "boot", "file" } })))
    assert.equal("boot-4 boot-2 file-3 file-1", names(derive(L, "vm/c", "delete", { order = { "file" } })))
    assert.equal("boot-4 file-3 boot-2 file-1", names(derive(L, "vm/c", "delete", { order = {} })))
  end))

  it("lets needs outweigh the list", virtual(function()
    local L = given()
    fake.container(L)
    local p = derive(L, "vm", "delete", { order = { "uvm", "disk", "overlay", "process" } })
    assert.equal("bridge-2 process-6 overlay-5 disk-4 disk-3 uvm-1", names(p))
  end))

  it("changes nothing, nor does printing it", virtual(function()
    local L, world, j = given()
    fake.container(L)
    local before, calls = j:bytes(), world.calls
    local p = derive(L, "vm", "stop")
    local _ = tostring(p) .. p:table() .. p:json()
    p:validate()
    assert.equal(before, j:bytes())
    assert.equal(calls, world.calls)
  end))

  it("is refused when a receipt outside needs one inside, naming both, unless the goal takes it along", virtual(function()
    local L = given()
    local r = fake.container(L, "vm/pod/a")
    L:acquire { owner = "vm/pod/b", kind = "overlay", args = { disks = { r.base } } }
    local text = refused("failed_precondition", derive, L, "vm/pod/a")
    assert.truthy(text:find("overlay-7 of vm/pod/b needs disk-3", 1, true))
    assert.equal("process-6 overlay-7 overlay-5 disk-4 disk-3", names(derive(L, "vm/pod/a", "delete", { include = { "vm/pod/b" } })))
    derive(L, "vm/pod/a", "delete", { include = { "overlay-7" } })
    derive(L, "vm/pod/a", "delete", { include = function(x) return x.kind == "overlay" end })
    derive(L, "vm/pod")
    derive(L, "vm/pod/b")
    local with_vm = derive(L, "vm/pod", "stop", { include = { "vm" } })
    assert.equal("stop", step(with_vm, "uvm-1").on_failure)
    assert.is_true(with_vm:validate())
  end))

  it("is not held up by a debt that dies with what is included", virtual(function()
    local L = given()
    local r = fake.container(L, "vm/pod/a")
    local x = L:acquire { owner = "vm/pod/b", kind = "file", needs = { r.base }, dies_with = { r.overlay } }
    refused("failed_precondition", derive, L, "vm/pod/a")
    L:failed(x, err.new("internal", "x"), 1)
    assert.equal("owed", x.state)
    derive(L, "vm/pod/a")
  end))

  it("takes along a debt of the VM that stands on it, as a debt", virtual(function()
    local L = given()
    local r = fake.container(L, "vm/pod/a")
    L:failed(r.overlay, err.new("internal", "busy"), 3, "vm")
    local p = derive(L, "vm/pod/a")
    assert.equal("process-6 overlay-5 disk-4 disk-3", names(p))
    assert.equal("debt", step(p, "overlay-5").on_failure)
    assert.truthy(tostring(p):find("owed, 3 attempts failed", 1, true))
  end))

  it("asks of edges into the VM for completion, not success, and ends the VM last", virtual(function()
    local L = given()
    fake.container(L)
    L:acquire { owner = "vm/pod/ctr", kind = "file" } -- says nothing of the VM
    local vm = step(derive(L, "vm"), "uvm-1")
    for _, name in ipairs(vm.after) do assert.is_true(vm.soft[name], name) end
    assert.equal("process-6 overlay-5 disk-4 disk-3 file-7 bridge-2 uvm-1", names(derive(L, "vm")))
    assert.truthy(table.concat(vm.after, " "):find("file-7", 1, true))
  end))

  it("after a crash ends the VM first and asks nothing of what dies with it", virtual(function()
    local L = given()
    fake.container(L)
    local p = derive(L, "vm", "crash")
    assert.equal("uvm-1 disk-4 disk-3", names(p))
    assert.same({ ["bridge-2"] = "uvm-1", ["overlay-5"] = "uvm-1", ["process-6"] = "uvm-1" }, p.settled)
    assert.same({ "uvm-1" }, step(p, "disk-3").after)
    assert.equal("continue", step(p, "disk-3").on_failure)
    assert.truthy(tostring(p):find("overlay-5 with uvm-1", 1, true))
  end))

  it("gives processes the ladder for stop, and an empty one otherwise", virtual(function()
    local L = given()
    fake.container(L)
    assert.equal("TERM", step(derive(L, "vm", "stop"), "process-6").args.ladder[1][1])
    assert.is_true(step(derive(L, "vm", "stop"), "process-6").within >= 20000)
    assert.same({}, step(derive(L, "vm", "delete"), "process-6").args.ladder)
    assert.same({}, step(derive(L, "vm", "roll_back"), "process-6").args.ladder)
  end))

  it("leaves to the VM what a roll-back cannot release", virtual(function()
    local L = given()
    fake.container(L)
    assert.equal("debt", step(derive(L, "vm/pod/ctr", "roll_back"), "disk-3").on_failure)
    assert.equal("continue", step(derive(L, "vm", "roll_back"), "uvm-1").on_failure)
  end))

  it("of an owner that holds nothing is empty", virtual(function()
    local L = given()
    local p = derive(L, "vm/none")
    assert.same({}, p.steps)
    assert.truthy(tostring(p):find("nothing is held", 1, true))
    assert.is_true(p:run().ok)
  end))

  it("for a goal that does not exist is refused", virtual(function()
    local L = given()
    refused("invalid_argument", derive, L, "vm", "destroy")
  end))
end)

describe("a printed plan", function()
  it("is a table that people can read", virtual(function()
    local L = given()
    fake.container(L)
    local p = derive(L, "vm/pod/ctr", "stop", { reason = "operator" })
    p:before("disk", { name = "flush", run = function() end })
    assert.equal([[
stop vm/pod/ctr (operator): 5 steps
  #  step          what          after               within  retry     on failure
  1  process-6                                       25s     1x 100ms  stop        TERM 10s, then KILL 10s
  2  overlay-5                   process-6           10s     1x 100ms  stop
  3  flush (hook)                overlay-5           5s      -         continue
  4  disk-4        scratch.ext4  overlay-5, (flush)  10s     1x 100ms  stop
  5  disk-3        base.ext4     overlay-5, (flush)  10s     1x 100ms  stop
]], p:table())
    assert.equal(p:table(), tostring(p))
  end))

  it("is JSON for machines, with lists that stay lists", virtual(function()
    local L = given()
    fake.container(L)
    local text = derive(L, "vm/pod/ctr", "stop"):json()
    local back = cjson.decode(text)
    assert.equal("stop", back.goal)
    assert.equal(4, #back.steps)
    assert.equal("process-6", back.steps[1].name)
    assert.equal(10000, back.steps[2].within_ms)
    assert.same({ "process-6" }, back.steps[2].after)
    assert.same({ signal = "TERM", wait_ms = 10000 }, back.steps[1].ladder[1])
    assert.truthy(text:find('"after":[]', 1, true))
  end))
end)

describe("an edit", function()
  local L, p
  local function up(goal, owner)
    L = given()
    fake.container(L)
    p = derive(L, owner or "vm/pod/ctr", goal or "stop")
  end
  local function hook(extra)
    local h = { name = "flush", within = "5s", on_failure = "continue", run = function() end }
    for k, v in pairs(extra or {}) do h[k] = v end
    return h
  end

  it("before a kind adds one step before all of them, behind what they wait for", virtual(function()
    up()
    assert.equal(1, p:before("disk", hook()))
    assert.equal("process-6 overlay-5 flush disk-4 disk-3", names(p))
    assert.same({ "overlay-5" }, step(p, "flush").after)
    assert.is_true(step(p, "disk-4").soft.flush)
  end))

  it("whose failure must stop makes a hard edge", virtual(function()
    up()
    p:before("disk", hook { on_failure = "stop" })
    assert.is_nil(step(p, "disk-4").soft.flush)
  end))

  it("after a kind adds a step that its followers wait for", virtual(function()
    up()
    assert.equal(1, p:after("overlay", hook()))
    assert.equal("process-6 overlay-5 flush disk-4 disk-3", names(p))
    assert.same({ "overlay-5", "flush" }, step(p, "disk-3").after)
    assert.equal(1, p:after("disk", hook { name = "last" }))
    assert.equal("process-6 overlay-5 flush disk-4 disk-3 last", names(p))
  end))

  it("by the name of a step reaches that step alone", virtual(function()
    up()
    p:before("disk-3", hook())
    assert.same({ "overlay-5" }, step(p, "disk-4").after)
    assert.equal(1, p:tune("disk-3", { retries = 7 }))
    assert.equal(1, step(p, "disk-4").retries)
  end))

  it("where nothing matches does nothing", virtual(function()
    up()
    assert.equal(0, p:before("nic", hook()))
    assert.equal(0, p:after("nic-4", hook()))
    assert.equal(0, p:tune("nic", { retries = 3 }))
    assert.equal(4, #p.steps)
  end))

  it("gives each container its own hook", virtual(function()
    up()
    fake.container(L, "vm/pod/b")
    p = derive(L, "vm")
    assert.equal(2, p:before("overlay", hook()))
    assert.is_table(step(p, "flush@ctr"))
    assert.equal("vm/pod/b", step(p, "flush@b").owner)
    assert.same({ "process-6" }, step(p, "flush@ctr").after)
  end))

  it("can hang a hook before a hook, and between steps of the same kind that depend on each other", virtual(function()
    L = given()
    local a = L:acquire { owner = "vm/c", kind = "file" }
    L:acquire { owner = "vm/c", kind = "file", args = { on = { a } } }
    p = derive(L, "vm/c")
    p:before("file", hook())
    assert.equal("flush file-2 file-1", names(p))
    p:before("flush", hook { name = "ready" })
    assert.equal("ready flush file-2 file-1", names(p))
    p:after("file", hook { name = "done" })
    assert.equal("ready flush file-2 file-1 done", names(p))
  end))

  it("tunes limits, in words or milliseconds", virtual(function()
    up()
    assert.equal(2, p:tune("disk", { retries = 3, backoff = "200ms", within = "1m", on_failure = "debt", args = { force = true } }))
    local s = step(p, "disk-4")
    assert.same({ 3, 200, 60000, "debt", true }, { s.retries, s.backoff, s.within, s.on_failure, s.args.force })
    assert.is_nil(step(p, "overlay-5").args.force)
  end))

  it("with a ladder makes room for its waits", virtual(function()
    up()
    p:tune("process", { args = { ladder = { { "TERM", wait = "20s" }, { "QUIT", wait = "2s" }, { "KILL", wait = "10s" } } } })
    assert.equal(37000, step(p, "process-6").within)
    assert.same({ { "TERM", wait = 20000 }, { "QUIT", wait = 2000 }, { "KILL", wait = 10000 } }, step(p, "process-6").args.ladder)
    assert.truthy(tostring(p):find("TERM 20s, then QUIT 2s, then KILL 10s", 1, true))
  end))

  it("re-orders kinds that needs leave free", virtual(function()
    L = given()
    L:acquire { owner = "vm/c", kind = "file" }
    L:acquire { owner = "vm/c", kind = "boot" }
    p = derive(L, "vm/c")
    assert.equal("file-1 boot-2", names(p))
    p:order { "boot", "file" }
    assert.equal("boot-2 file-1", names(p))
  end))

  for name, case in pairs {
    ["an order against needs"] = { "failed_precondition", function() p:order { "disk", "overlay" } end, "overlay-5 needs disk" },
    ["an order with a kind twice"] = { "invalid_argument", function() p:order { "disk", "disk" } end },
    ["a debt of the VM itself"] = { "failed_precondition", function() p:tune("uvm", { on_failure = "debt" }) end, "the VM itself" },
    ["a hook as a debt"] = { "failed_precondition", function() p:before("disk", hook { on_failure = "debt" }) end },
    ["a ladder in a delete"] = {
      "failed_precondition", function() p:tune("process", { args = { ladder = { { "KILL", wait = 1 } } } }) end, "never signals", "delete",
    },
    ["a ladder that names no signal"] = { "invalid_argument", function() p:tune("process", { args = { ladder = { { wait = 1 } } } }) end },
    ["a field that does not exist"] = { "invalid_argument", function() p:tune("disk", { retry = 3 }) end, "not retry" },
    ["too many retries"] = { "invalid_argument", function() p:tune("disk", { retries = 1e6 }) end },
    ["a limit of zero"] = { "invalid_argument", function() p:tune("disk", { within = 0 }) end },
    ["a limit of a day"] = { "invalid_argument", function() p:tune("disk", { within = "24h" }) end },
    ["a strange on_failure"] = { "invalid_argument", function() p:tune("disk", { on_failure = "ignore" }) end },
    ["a hook without a function"] = { "invalid_argument", function() p:before("disk", { name = "x" }) end },
    ["a hook without a name"] = { "invalid_argument", function() p:before("disk", { run = print }) end },
    ["a hook under the name of a step"] = { "already_exists", function() p:before("disk", hook { name = "overlay-5" }) end },
  } do
    it("refuses " .. name .. " and changes nothing", virtual(function()
      up(case[4], "vm")
      local before = p:json()
      local text = refused(case[1], case[2])
      if case[3] then
        assert.truthy(text:find(case[3], 1, true), text)
      end
      assert.equal(before, p:json())
      p:validate()
    end))
  end

  it("through a view reaches only that owner's steps", virtual(function()
    up()
    fake.container(L, "vm/pod2/b")
    p = derive(L, "vm")
    local view = p:only("vm/pod2")
    assert.equal(2, view:tune("disk", { retries = 9 }))
    assert.equal(1, step(p, "disk-3").retries)
    assert.equal(0, view:tune("uvm", { retries = 9 }))
    assert.equal(1, view:before("overlay", hook()))
    assert.equal("vm/pod2/b", step(p, "flush").owner)
    refused("failed_precondition", function() view.steps = {} end)
    assert.equal(tostring(p), tostring(view))
  end))
end)

describe("the order of kinds", function()
  it("may differ from pod to pod in one plan", virtual(function()
    local L = given()
    for _, owner in ipairs { "vm/a/c", "vm/b/c" } do
      for _, kind in ipairs { "file", "boot" } do L:acquire { owner = owner, kind = kind } end
    end
    local p = derive(L, "vm", "delete", { order = { "file", "boot" } })
    assert.equal("file-3 file-1 boot-4 boot-2", names(p))
    p:only("vm/b"):order { "boot", "file" }
    assert.equal("boot-4 file-1 file-3 boot-2", names(p))
    p:validate()
  end))
end)

describe("validate", function()
  local L, p
  local function up()
    L = given()
    fake.container(L)
    p = derive(L, "vm", "stop")
    assert.is_true(p:validate())
  end

  for name, case in pairs {
    ["a step that was taken out"] = { function() table.remove(p.steps, 2) end, "taken out" },
    ["a step that was put in"] = { function() p.steps[7] = { name = "mine", after = {} } end, "not the step" },
    ["an edge that was turned round"] = {
      function()
        step(p, "disk-3").after = {}
      end, "overlay-5 must go before disk-3",
    },
    ["a cycle"] = { function() table.insert(step(p, "process-6").after, "disk-3") end, "wait for each other" },
    ["an edge to nowhere"] = { function() table.insert(step(p, "process-6").after, "disk-9") end, "which is no step" },
    ["a limit that is no number"] = { function() step(p, "disk-3").within = "1s" end, "within" },
    ["a debt of the VM itself"] = { function() step(p, "uvm-1").on_failure = "debt" end, "debt" },
  } do
    it("refuses " .. name, virtual(function()
      up()
      case[1]()
      assert.truthy(refused("failed_precondition", p.validate, p):find(case[2], 1, true))
      refused("failed_precondition", p.run, p)
      assert.equal(6, #L:all())
    end))
  end

  it("refuses a plan that the ledger has outgrown", virtual(function()
    up()
    L:acquire { owner = "vm/pod", kind = "file" }
    assert.truthy(refused("failed_precondition", p.run, p):find("file-7 came after", 1, true))
    assert.equal(7, #L:all())
    L:acquire { owner = "vm/pod", kind = "file" } -- the owner is open again
  end))
end)

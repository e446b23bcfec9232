-- Who may run a plan: one run per owner and what is below it, everybody else joins.
local fake = require "support.fake_world"
local plan = require "moonshim.plan"
local plans = require "support.plans"
local raised = require "support.raised"
local task = require "moonshim.task"
local virtual = require "support.virtual"

local given, execute, fails, names = plans.given, plans.execute, plans.fails, plans.names

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

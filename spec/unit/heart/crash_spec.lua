-- What a killed process leaves behind: a journal that ends anywhere, and a world in the state that went with it. Loading
-- that journal and running the derived plan must leave nothing, at every byte.
local err = require "moonshim.err"
local fake = require "support.fake_world"
local journal = require "moonshim.journal"
local ledger = require "moonshim.ledger"
local plan = require "moonshim.plan"
local task = require "moonshim.task"
local virtual = require "support.virtual"

-- Runs `scenario` and records every instant at which the process could have died: { from, to, world } says that while the
-- journal was between `from` and `to` bytes long, the world was like that.
local function film(scenario)
  local world, j = fake.new(), journal.memory()
  local instants = {}
  local append = j.append
  function j:append(record)
    local from, snapshot = self.size, world:snapshot()
    append(self, record)
    table.insert(instants, { from = from, to = self.size, world = snapshot })
  end
  function world.on_effect()
    table.insert(instants, { from = j.size, to = j.size, world = world:snapshot() })
  end
  scenario(world, ledger.open { journal = j, world = world, kinds = fake.kinds() })
  table.insert(instants, { from = j.size, to = j.size, world = world:snapshot() })
  return instants, j:bytes()
end

-- A life with all that can happen in it: up, a second container on the same VM, a failed release that becomes a debt, a
-- stop, and the end of the VM.
local function life(world, L)
  fake.container(L, "vm/pod/a")
  fake.container(L, "vm/pod/b")
  L:state("vm/pod/a", "running", { pid = 7 })
  world.fault = function(_, op, name)
    return op == "remove" and name == "mount1" and "before" or nil
  end
  local report = plan.execute(L, {
    owner = "vm/pod/a", goal = "stop", order = fake.ORDER,
    edit = function(p) p:tune("disk", { on_failure = "debt", retries = 0 }) end,
  })
  assert.is_true(report.ok)
  assert.equal(1, #report.debts)
  world.fault = nil
  L:event("exit", { id = "a", code = 137 })
  assert.is_true(plan.execute(L, { owner = "vm", goal = "delete", order = fake.ORDER }).ok)
  assert.same({}, world:left())
end

-- The next process: nothing is left but journal and effects.
local function clean_up(bytes, effects, goal, connected)
  local world = fake.new(effects)
  world.connected = connected
  local j = journal.memory(bytes)
  local L = ledger.open { journal = j, world = world, kinds = fake.kinds(), log = task.log() }
  local report = plan.derive(L, { owner = "vm", goal = goal, order = fake.ORDER }):run()
  return world, L, report, j
end

local function copy(state)
  return fake.new(state):snapshot()
end

describe("a journal that was cut off", function()
  for _, case in ipairs {
    { goal = "crash", connected = false, step = 1, name = "at every byte: a crash clean-up, without the guest, leaves nothing #slow" },
    { goal = "delete", connected = true, step = 1e6, name = "at every record: a delete by a process that took over leaves nothing" },
  } do
    it(case.name, virtual(function()
      local instants, bytes = film(life)
      local cuts = 0
      for _, instant in ipairs(instants) do
        for at = instant.from, math.max(instant.from, instant.to - 1), case.step do
          local where = ("cut at byte %d of %d"):format(at, #bytes)
          local world, L, report = clean_up(bytes:sub(1, at), copy(instant.world), case.goal, case.connected)
          assert.same({}, world:left(), where)
          assert.is_true(report.ok, where .. ": " .. tostring(report.error))
          assert.same({}, L:all(), where)
          cuts = cuts + 1
        end
      end
      assert.is_true(cuts > (case.step == 1 and #bytes or 60))
    end, { level = "error" }))
  end

  it("inside a record loads as if that record had never been begun", virtual(function()
    local instants, bytes = film(life)
    local function names(at)
      local L = ledger.open { journal = journal.memory(bytes:sub(1, at)), world = fake.new(), kinds = fake.kinds(), log = task.log() }
      local list = {}
      for i, r in ipairs(L:all()) do
        list[i] = r.name .. " " .. r.state .. " " .. tostring(r.facts.pid)
      end
      return list
    end
    for _, instant in ipairs(instants) do
      for at = instant.from + 1, instant.to - 1 do
        assert.same(names(instant.from), names(at))
      end
    end
  end, { level = "error" }))

  it("can be cleaned up by a process that is killed itself, at every effect and byte of that", virtual(function()
    local instants, bytes = film(life)
    local last
    for i, instant in ipairs(instants) do
      if instant.from ~= last and i % 3 == 0 then -- the clean-up of a third of all record boundaries
        last = instant.from
        local first, inner = {}, journal.memory(bytes:sub(1, instant.from))
        local world = fake.new(copy(instant.world))
        world.connected = false
        local append = inner.append
        function inner:append(record)
          table.insert(first, { bytes = self:bytes(), world = world:snapshot() })
          append(self, record)
        end
        function world.on_effect()
          table.insert(first, { bytes = inner:bytes(), world = world:snapshot() })
        end
        local L = ledger.open { journal = inner, world = world, kinds = fake.kinds() }
        plan.derive(L, { owner = "vm", goal = "crash", order = fake.ORDER }):run()
        for _, moment in ipairs(first) do
          local again, _, report = clean_up(moment.bytes, copy(moment.world), "crash", false)
          assert.same({}, again:left())
          assert.is_true(report.ok)
        end
      end
    end
  end, { level = "error" }))

  it("with a flipped bit anywhere still loads, up to the damaged record", virtual(function()
    local _, bytes = film(life)
    local whole = 0
    for at = 1, #bytes, 7 do
      local damaged = bytes:sub(1, at - 1) .. string.char(bytes:byte(at) ~ 0x10) .. bytes:sub(at + 1)
      local j = journal.memory(damaged)
      local seen = 0
      j:fold(function() seen = seen + 1 end)
      assert.is_true(j.size < at, "damage at " .. at)
      whole = math.max(whole, seen)
    end
    assert.is_true(whole > 10)
  end))
end)

describe("given that every host and guest call fails once, in turn", function()
  local MODES = { "before", "after", "lost" }

  local function count_calls(fn)
    local world = fake.new()
    fn(world, ledger.open { journal = journal.memory(), world = world, kinds = fake.kinds() })
    return world.calls
  end

  local function with_fault(at, mode)
    local world = fake.new()
    world.fault = function(n)
      return n == at and mode or nil
    end
    return world, ledger.open { journal = journal.memory(), world = world, kinds = fake.kinds(), log = task.log() }
  end

  for _, mode in ipairs(MODES) do
    it(("(%s) during create, the roll-back leaves nothing, no slot either [#679]"):format(mode), virtual(function()
      local calls = count_calls(function(_, L) fake.container(L) end)
      for at = 1, calls do
        local world, L = with_fault(at, mode)
        local ok, e = pcall(fake.container, L)
        assert.is_false(ok)
        assert.is_true(err.is(e))
        local report = plan.execute(L, { owner = "vm", goal = "roll_back", order = fake.ORDER })
        assert.is_true(report.ok, tostring(report.error))
        assert.same({}, world:left())
        assert.same({}, L:all())
        assert.is_nil(next(world.slots or {}))
      end
    end, { level = "error" }))

    it(("(%s) during delete, a second delete succeeds and leaves nothing [#680]"):format(mode), virtual(function()
      local up = count_calls(function(_, L) fake.container(L) end)
      local total = count_calls(function(_, L)
        fake.container(L)
        plan.execute(L, { owner = "vm", goal = "delete", order = fake.ORDER })
      end)
      for at = up + 1, total do
        local world, L = with_fault(at, mode)
        fake.container(L)
        local function delete(owner)
          return plan.execute(L, {
            owner = owner, goal = "delete", order = fake.ORDER,
            edit = function(p)
              for _, step in ipairs(p.steps) do step.retries = 0 end
            end,
          })
        end
        delete("vm/pod/ctr")
        delete("vm")
        assert.is_true(delete("vm").ok)
        assert.same({}, world:left())
        assert.same({}, L:all())
      end
    end, { level = "error" }))
  end

  it("and the process dies at each of them, the next one leaves nothing", virtual(function()
    local function all(_, L)
      fake.container(L)
      plan.execute(L, { owner = "vm", goal = "stop", order = fake.ORDER })
    end
    for at = 1, count_calls(all) do
      local world, j = fake.new(), journal.memory()
      world.fault = function(n)
        return n >= at and "die" or nil
      end
      pcall(all, world, ledger.open { journal = j, world = world, kinds = fake.kinds(), log = task.log() })
      -- What a dead process still writes here is more than a real one would: cut it back to what it knew.
      local next_world, L, report = clean_up(j:bytes(), world:snapshot(), "crash", false)
      assert.same({}, next_world:left())
      assert.same({}, L:all())
      assert.is_true(report.ok)
    end
  end, { level = "error" }))

  it("and the VM is killed at each step of create and of delete, it ends in success, in bounded time [#681] [#682]", virtual(function()
    local function all(_, L)
      fake.container(L)
      plan.execute(L, { owner = "vm/pod/ctr", goal = "delete", order = fake.ORDER })
    end
    for at = 2, count_calls(all) do
      local world = fake.new()
      world.on_effect = function()
        if world.calls == at then
          for name, e in pairs(world.effects) do
            if name == "vm" or e.vm == "vm" then world.effects[name] = nil end
          end
        end
      end
      local L = ledger.open { journal = journal.memory(), world = world, kinds = fake.kinds(), log = task.log() }
      local since = task.now()
      pcall(all, world, L)
      local report = plan.execute(L, { owner = "vm", goal = "delete", order = fake.ORDER })
      assert.is_true(report.ok, tostring(report.error))
      assert.same({}, world:left())
      assert.is_true(task.now() - since < 60000)
    end
  end, { level = "error" }))
end)

describe("after a reboot", function()
  it("what ends with a boot is gone unasked, the rest is released", virtual(function()
    local world, j = fake.new(), journal.memory()
    local L = ledger.open { journal = j, world = world, kinds = fake.kinds(), boot_id = "boot-1" }
    local b = L:acquire { owner = "vm", kind = "boot" }
    L:acquire { owner = "vm", kind = "file", args = { name = "scratch.img", on = { b } } }
    world.effects[b.facts.name] = nil -- the machine restarted
    local asked = 0
    world.fault = function(_, _, name)
      asked = asked + (name == b.facts.name and 1 or 0)
    end
    L = ledger.open { journal = journal.memory(j:bytes()), world = world, kinds = fake.kinds(), boot_id = "boot-2" }
    assert.is_nil(L:get(b.name))
    assert.same({ "file-2" }, { L:all()[1].name })
    assert.same({}, L:all()[1].needs)
    assert.is_true(plan.derive(L, { owner = "vm", goal = "crash" }):run().ok)
    assert.same({}, world:left())
    assert.equal(0, asked)
  end))

  it("the same boot changes nothing", virtual(function()
    local world, j = fake.new(), journal.memory()
    local L = ledger.open { journal = j, world = world, kinds = fake.kinds(), boot_id = "boot-1" }
    L:acquire { owner = "vm", kind = "boot" }
    L = ledger.open { journal = journal.memory(j:bytes()), world = world, kinds = fake.kinds(), boot_id = "boot-1" }
    assert.equal(1, #L:all())
  end))
end)

describe("a journal written by another version of the program", function()
  local function reopened(change)
    local world, j = fake.new(), journal.memory()
    local L = ledger.open { journal = j, world = world, kinds = fake.kinds() }
    local vm = L:acquire { owner = "vm", kind = "uvm" }
    L:acquire { owner = "vm", kind = "file", args = { name = "odd" } }
    L:acquire { owner = "vm", kind = "file", args = { name = "plain" }, needs = {} }
    local records = {}
    j:fold(function(record) records[#records + 1] = change(record) or record end)
    local k = journal.memory()
    k:rewrite(records)
    return world, ledger.open { journal = k, world = world, kinds = fake.kinds(), log = task.log() }, vm
  end

  it("keeps a receipt of an unknown kind as owed and never guesses", virtual(function()
    local world, L = reopened(function(record)
      if record.n == "file-2" and record.t == "r" then record.k = "hologram" end
    end)
    local r = L:get("file-2")
    assert.equal("owed", r.state)
    assert.truthy(r.last_error.message:find("hologram", 1, true))
    local p = plan.derive(L, { owner = "vm", goal = "crash", order = fake.ORDER })
    assert.truthy(tostring(p):find("kind hologram is unknown", 1, true))
    local report = p:run()
    assert.is_false(report.ok)
    assert.equal("unimplemented", report.error.code)
    assert.same({ "odd" }, world:left())
    assert.same({ "file-2" }, { L:all()[1].name })
  end))

  it("does the same for an unknown version of a known kind", virtual(function()
    local world, L = reopened(function(record)
      if record.n == "file-2" and record.t == "r" then record.v = 9 end
    end)
    plan.derive(L, { owner = "vm", goal = "crash", order = fake.ORDER }):run()
    assert.same({ "odd" }, world:left())
    assert.equal("owed", L:get("file-2").state)
  end))

  it("settles it when it dies with the VM", virtual(function()
    local _, L = reopened(function(record)
      if record.n == "file-2" and record.t == "r" then record.k, record.dies = "hologram", { "uvm-1" } end
    end)
    assert.is_true(plan.derive(L, { owner = "vm", goal = "crash", order = fake.ORDER }):run().ok)
    assert.same({}, L:all())
  end))

  it("refuses a journal whose format is newer", virtual(function()
    local j = journal.memory()
    j:append { t = "head", v = 99 }
    local ok, e = pcall(ledger.open, { journal = j, world = {}, kinds = fake.kinds() })
    assert.is_false(ok)
    assert.equal("failed_precondition", e.code)
  end))
end)

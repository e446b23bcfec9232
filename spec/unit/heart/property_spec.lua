-- Random lives over the fake kinds: acquire, fail, release, crash, in seeded disorder. After every act the invariants of the
-- heart are looked at (the numbers are those of DESIGN section 6):
--   1 whatever exists in the world is named by a receipt of the journal   2 what has left the ledger does not exist
--   3 needs names only receipts that exist, older ones                     4 nothing of another incarnation was touched
--   5 releasing again, in any process, does no harm                        6 the slot table is an index of the ledger
local err = require "moonshim.err"
local fake = require "support.fake_world"
local journal = require "moonshim.journal"
local ledger = require "moonshim.ledger"
local plan = require "moonshim.plan"
local task = require "moonshim.task"
local virtual = require "support.virtual"

local OWNERS = { "vm/p/a", "vm/p/b", "vm/p/b/exec", "vm/q/c", "vm/p", "vm" }
local GOALS = { "delete", "stop", "roll_back" }

local Life = {}
Life.__index = Life

local function new(seed)
  local x = seed * 7919 + 17
  local self = setmetatable({ kinds = fake.kinds(), past = {} }, Life)
  function self.random(n)
    x = (x * 6364136223846793005 + 1442695040888963407) & math.maxinteger
    return (x >> 33) % n + 1
  end
  self.world = fake.new()
  self:open(journal.memory())
  return self
end

function Life:pick(list)
  return list[self.random(#list)]
end

function Life:chance(percent)
  return self.random(100) <= percent
end

function Life:open(j)
  self.journal = j
  self.L = ledger.open { journal = j, world = self.world, kinds = self.kinds, log = task.log() }
end

function Life:faults(percent)
  self.world.fault = function()
    return self:chance(percent) and self:pick { "before", "after", "late", "lost" } or nil
  end
end

-- ---------------------------------------------------------------------------------------------------------------
-- Acts

function Life:acquire()
  local L, owner = self.L, self:pick(OWNERS)
  local held = {}
  for _, r in ipairs(L:all()) do
    if r.state == "held" then held[r.kind] = held[r.kind] or {} table.insert(held[r.kind], r) end
  end
  if not held.uvm then
    return L:acquire { owner = "vm", kind = "uvm" }
  end
  local kind = self:pick { "disk", "disk", "overlay", "process", "file", "boot", "bridge" }
  local args = { path = "p" .. self.random(9) }
  if kind == "overlay" then
    args.disks = held.disk and { self:pick(held.disk), self:chance(50) and self:pick(held.disk) or nil }
  elseif kind == "process" then
    args.overlay = held.overlay and self:pick(held.overlay)
  elseif kind == "file" and held.file and self:chance(50) then
    args.on = { self:pick(held.file) }
  elseif kind == "bridge" and held.bridge then
    return
  end
  L:acquire { owner = owner, kind = kind, args = args }
end

function Life:release()
  local on_failure = self:pick { "stop", "continue", "debt" }
  local report = plan.execute(self.L, {
    owner = self:pick(OWNERS), goal = self:pick(GOALS), order = fake.ORDER, width = self.random(3),
    edit = self:chance(50) and function(p)
      for _, kind in ipairs { "disk", "overlay", "file" } do
        p:tune(kind, { retries = self.random(3) - 1, on_failure = on_failure })
      end
      p:before("disk", { name = "hook", run = function()
        if self:chance(50) then err.raise("internal", "hook") end
      end })
    end or nil,
  })
  for _, line in ipairs(report.steps) do
    assert(line.outcome and line.outcome ~= "running", line.name .. " came to nothing")
  end
end

function Life:retry_debts()
  plan.retry_debts(self.L, { owner = "vm", order = fake.ORDER })
end

-- The process is killed: every task of it, with all it knew. What it had begun in the world may still happen.
function Life:crash()
  local bytes = self.journal:bytes()
  local torn = self:chance(50) and bytes .. ("0000001c 5f1d3a90 {"):sub(1, self.random(19)) or bytes
  self.world.slots, self.world.harm = nil, {}
  self:open(journal.memory(torn))
  self.world.slots = {}
  for _, r in ipairs(self.L:all()) do -- the index is rebuilt, never saved
    if r.kind == "disk" then self.world.slots[r.facts.slot] = true end
  end
  if self:chance(50) then
    self.world.connected = false
    plan.derive(self.L, { owner = "vm", goal = "crash", order = fake.ORDER }):run()
    self.world.connected = true
  end
end

-- ---------------------------------------------------------------------------------------------------------------
-- Invariants

function Life:check()
  local L, world = self.L, self.world
  local slots = {}
  for _, r in ipairs(L:all()) do
    if r.kind == "disk" then slots[r.facts.slot] = true end
    for _, name in ipairs(r.needs) do -- 3
      assert(L:get(name) and L:get(name).seq < r.seq, ("%s needs %s"):format(r.name, name))
    end
  end
  local known = {}
  local again = ledger.open { journal = journal.memory(self.journal:bytes()), world = fake.new(), kinds = self.kinds, log = task.log() }
  for _, r in ipairs(again:all()) do
    known[r.facts.tag or r.facts.run] = true
    local mine = L:get(r.name) -- live and loaded agree
    assert(mine, r.name .. " is in the journal but not in the ledger")
    assert.same({ mine.state, mine.owner, mine.needs, mine.facts, mine.attempts }, { r.state, r.owner, r.needs, r.facts, r.attempts })
  end
  assert.equal(#L:all(), #again:all())
  for name, e in pairs(world.effects) do
    assert(known[e.tag], name .. " exists and no receipt names it") -- 1, 2
  end
  assert.same(slots, world.slots or {}) -- 6
  for _, r in ipairs(L:all()) do
    self.past[r.name] = { kind = r.kind, facts = r.facts, name = r.name }
  end
end

-- 4, 5: releases of receipts that left long ago, out of order, change nothing in a world where others live.
function Life:release_the_past()
  local fault = self.world.fault
  self.world.fault = nil
  local before = self.world:left()
  local slots = self.world.slots
  self.world.slots = nil
  for name, r in pairs(self.past) do
    if not self.L:get(name) and self:chance(30) then
      pcall(self.kinds:get(r.kind).release, self.world, r.facts, { goal = "delete", args = {} })
    end
  end
  self.world.slots = slots
  assert.same(before, self.world:left())
  self.world.fault = fault
end

-- In the end everything works again, and nothing may be left.
function Life:finish()
  self.world.fault = nil
  for _ = 1, 3 do
    if plan.execute(self.L, { owner = "vm", goal = "delete", order = fake.ORDER }).ok then break end
  end
  assert.same({}, self.world:left())
  assert.same({}, self.L:all())
end

local function outcome(fn, ...)
  local ok, e = pcall(fn, ...)
  if not ok and not err.is(e) then error(e, 0) end -- a bug
end

describe("a random life", function()
  it("keeps the invariants one act after the other, and leaves nothing", virtual.seeds(60, function(v)
    local life = new(v.seed)
    life:faults(15)
    for _ = 1, 40 do
      local act = life.random(100)
      if act <= 60 then
        outcome(life.acquire, life)
      elseif act <= 85 then
        outcome(life.release, life)
      elseif act <= 90 then
        outcome(life.retry_debts, life)
      else
        outcome(life.crash, life)
      end
      life:check()
      if life:chance(20) then life:release_the_past() end
    end
    life:finish()
  end, { level = "error" }))

  it("keeps them with many acts at once, in any order of events", virtual.seeds(60, function(v)
    local life = new(v.seed + 1000)
    life:faults(10)
    for _ = 1, 8 do
      local acts = {}
      for i = 1, 8 do
        acts[i] = function()
          outcome(life:chance(70) and life.acquire or life:chance(80) and life.release or life.retry_debts, life)
        end
      end
      task.all(acts)
      life:check()
      if life:chance(30) then
        outcome(life.crash, life)
        life:check()
      end
    end
    life:finish()
  end, { level = "error" }))
end)

--- support/fake_world - a small world in which things can be held, and an oracle that knows what is left.
--
-- A VM has a host side and a guest side. `effects` is all that exists: name -> { tag, on = {names it stands on}, vm = id or
-- nil }. The world refuses what a kernel would refuse (unmounting under something), ends what is in the guest when the VM
-- ends, and notes as harm any removal of a thing that another incarnation owns.
--
-- Faults: world.fault(n, op, name) is asked before the n-th effect and may answer "before" (an error, no effect), "after"
-- (the effect, then an error), "lost" (the effect, then no answer until the deadline), "late" (takes a second), "die"
-- (raises world.DEATH, as if the process were killed: the spec throws everything but journal and effects away).

local err = require "moonshim.err"
local kind = require "moonshim.kind"
local task = require "moonshim.task"

local fake = {}

local World = {}
World.__index = World

---What a killed process "raises"; specs compare by identity.
fake.DEATH = setmetatable({}, { __tostring = function() return "the process died here" end })

---@param state table? what an earlier world's `snapshot` gave
function fake.new(state)
  state = state or { effects = {}, counter = 0 }
  return setmetatable({
    effects = state.effects, counter = state.counter, calls = 0, harm = {}, connected = true, log = nil, on_effect = nil,
    busy = 0, most = 0,
  }, World)
end

local function deep(v)
  if type(v) ~= "table" then
    return v
  end
  local copy = {}
  for k, x in pairs(v) do
    copy[k] = deep(x)
  end
  return copy
end

function World:snapshot()
  return deep { effects = self.effects, counter = self.counter }
end

---Names of all that exists, sorted.
function World:left()
  local names = {}
  for name in pairs(self.effects) do
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

---A number that was never given out before: incarnations, pids, tags.
function World:fresh()
  self.counter = self.counter + 1
  return self.counter
end

local function perform(self, op, name, change)
  self.calls = self.calls + 1
  local fault = self.fault and self.fault(self.calls, op, name)
  if fault == "die" then
    error(fake.DEATH, 0)
  elseif fault == "before" then
    err.raise("internal", "%s %s: injected", op, name)
  end
  self.busy = self.busy + 1
  self.most = math.max(self.most, self.busy)
  local ok, e = pcall(function()
    if task.current() then
      task.sleep(fault == "late" and 1000 or 1)
    end
    change()
  end)
  self.busy = self.busy - 1
  if not ok then
    error(e, 0)
  end
  if self.on_effect then
    self.on_effect(op, name)
  end
  if fault == "after" then
    err.raise("unknown", "%s %s: injected after the effect", op, name)
  elseif fault == "lost" then
    task.await(function() end)
  end
end

---Makes a thing. on: names that must exist. vm: it lives inside this VM.
function World:make(name, tag, on, vm)
  perform(self, "make", name, function()
    if vm and (not self.effects[vm] or not self.connected) then
      err.raise("unavailable", "make %s: no guest", name)
    end
    for _, below in ipairs(on or {}) do
      if not self.effects[below] then
        err.raise("failed_precondition", "make %s: there is no %s", name, below)
      end
    end
    if self.effects[name] and self.effects[name].tag ~= tag then
      err.raise("already_exists", "make %s: it exists", name)
    end
    self.effects[name] = { tag = tag, on = on or {}, vm = vm }
  end)
end

---Removes it: `gone` when it is not there or is another one's; refuses while something stands on it.
function World:remove(name, tag, vm)
  perform(self, "remove", name, function()
    if vm and not self.effects[vm] then
      err.raise("gone", "remove %s: the VM is gone", name)
    elseif vm and not self.connected then
      err.raise("unavailable", "remove %s: no guest", name)
    end
    local there = self.effects[name]
    if not there or there.tag ~= tag then
      err.raise("gone", "remove %s: it is not there", name)
    end
    for other, e in pairs(self.effects) do
      for _, below in ipairs(e.on) do
        if below == name then
          err.raise("failed_precondition", "remove %s: busy, %s stands on it", name, other)
        end
      end
    end
    self.effects[name] = nil
  end)
end

---Ends a VM and all inside.
function World:kill(name, tag)
  perform(self, "kill", name, function()
    local there = self.effects[name]
    if not there then
      err.raise("gone", "kill %s: it is not there", name)
    elseif there.tag ~= tag then
      err.raise("gone", "kill %s: that is another one", name)
    end
    self.effects[name] = nil
    for other, e in pairs(self.effects) do
      if e.vm == name then
        self.effects[other] = nil
      end
    end
  end)
end

-- Removes name if it is ours; gone counts as done.
local function drop(world, name, tag, vm)
  local ok, e = pcall(world.remove, world, name, tag, vm)
  if not ok and not err.is(e, "gone") then
    error(e, 0)
  end
  return ok
end

---Small kinds that behave like the real ones, in a set of their own:
---  uvm      the VM: ends the world
---  bridge   in the guest, needs uvm, dies with it
---  disk     slot on the host (survives the VM) and a mount in the guest; two effects each way
---  overlay  in the guest, on disks; dies with the VM
---  process  in the guest, on an overlay; its pid is found; dies with the VM
---  file     host only
---  boot     host only, ends with a boot
---@return moonshim.Kinds
function fake.kinds(defaults)
  local kinds = kind.set()
  defaults = defaults or { within = "10s", retries = 1, backoff = "100ms" }

  local function in_vm(_, _, L)
    local vm = L:of_kind("uvm")[1]
    return { needs = { vm }, dies_with = { vm } }
  end

  kinds:define("uvm", {
    reserve = function(world) return { id = "vm", run = world:fresh() } end,
    acquire = function(world, facts) world:make(facts.id, facts.run) end,
    release = function(world, facts) world:kill(facts.id, facts.run) end,
    defaults = defaults,
  })

  kinds:define("bridge", {
    ties = in_vm,
    reserve = function(world) return { name = "bridge", tag = world:fresh() } end,
    acquire = function(world, facts) world:make(facts.name, facts.tag, {}, "vm") end,
    release = function(world, facts) world:remove(facts.name, facts.tag, "vm") end,
    defaults = defaults,
  })

  kinds:define("disk", {
    ties = function(_, _, L) return { needs = { L:of_kind("uvm")[1] } } end,
    reserve = function(world, args)
      local slot = 0
      world.slots = world.slots or {}
      while world.slots[slot] do
        slot = slot + 1
      end
      world.slots[slot] = true -- an index, not an effect
      return { path = args.path, slot = slot, tag = world:fresh() }
    end,
    acquire = function(world, facts)
      world:make("loop" .. facts.slot, facts.tag)
      world:make("mount" .. facts.slot, facts.tag, { "loop" .. facts.slot }, "vm")
      return { guest_path = "/run/mounts/" .. facts.slot }
    end,
    release = function(world, facts)
      drop(world, "mount" .. facts.slot, facts.tag, "vm")
      drop(world, "loop" .. facts.slot, facts.tag)
      if world.slots then
        world.slots[facts.slot] = nil
      end
    end,
    verify = function(world, facts)
      local there = world.effects["loop" .. facts.slot]
      return there and there.tag == facts.tag and "held" or "gone"
    end,
    defaults = defaults,
  })

  kinds:define("overlay", {
    ties = in_vm,
    reserve = function(world, args)
      local on = {}
      for i, disk in ipairs(args.disks or {}) do
        on[i] = "mount" .. disk.facts.slot
      end
      local tag = world:fresh()
      return { name = "overlay" .. tag, tag = tag, on = on }
    end,
    acquire = function(world, facts) world:make(facts.name, facts.tag, facts.on, "vm") end,
    release = function(world, facts) world:remove(facts.name, facts.tag, "vm") end,
    defaults = defaults,
  })

  kinds:define("process", {
    ties = in_vm,
    reserve = function(world, args)
      local tag = world:fresh()
      return { name = "process" .. tag, tag = tag, on = args.overlay and { args.overlay.facts.name } or {} }
    end,
    acquire = function(world, facts)
      world:make(facts.name, facts.tag, facts.on, "vm")
      return { pid = world:fresh() }, { close = function() world.closed = (world.closed or 0) + 1 end }
    end,
    release = function(world, facts, step)
      world.steps = world.steps or {}
      table.insert(world.steps, step)
      world:remove(facts.name, facts.tag, "vm")
    end,
    defaults = defaults,
  })

  local function host_only(name, extra)
    local spec = {
      reserve = function(world, args) return { name = args.name or name .. world:fresh(), tag = world:fresh(), path = args.path } end,
      acquire = function(world, facts, args)
        local on = {}
        for i, r in ipairs(args.on or {}) do
          on[i] = r.facts.name
        end
        world:make(facts.name, facts.tag, on)
      end,
      release = function(world, facts) world:remove(facts.name, facts.tag) end,
      verify = function(world, facts) return world.effects[facts.name] and "held" or "gone" end,
      defaults = defaults,
    }
    for k, v in pairs(extra or {}) do
      spec[k] = v
    end
    kinds:define(name, spec)
  end
  host_only("file")
  host_only("boot", { ends_with_boot = true })
  return kinds
end

---The order list that goes with these kinds.
fake.ORDER = { "process", "overlay", "disk", "file", "boot", "bridge", "uvm" }

---Brings up a VM with one container "vm/pod/ctr" on two disks. Returns its receipts by a short name.
---@async
function fake.container(L, owner)
  owner = owner or "vm/pod/ctr"
  local r = {}
  local function need(name, kind_name, at)
    r[name] = L:of_kind(kind_name)[1] or L:acquire { owner = at, kind = kind_name }
  end
  need("uvm", "uvm", "vm")
  need("bridge", "bridge", "vm")
  r.base = L:acquire { owner = owner, kind = "disk", args = { path = "base.ext4" } }
  r.scratch = L:acquire { owner = owner, kind = "disk", args = { path = "scratch.ext4" } }
  r.overlay = L:acquire { owner = owner, kind = "overlay", args = { disks = { r.base, r.scratch } } }
  r.process = L:acquire { owner = owner, kind = "process", args = { overlay = r.overlay } }
  return r
end

return fake

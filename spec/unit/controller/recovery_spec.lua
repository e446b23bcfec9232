-- A shim that is killed: its journal is all there is. Here the journal of a run is taken as it stood after each record
-- and loaded by somebody else, over the world as it was left.
local fake_vm = require "support.fake_vm"
local given = require "support.given"
local journal = require "moonshim.journal"
local ledger = require "moonshim.ledger"
local plan = require "moonshim.plan"
local policy = require "moonshim.policy"
local recovery = require "moonshim.recovery"
local task = require "moonshim.task"
local virtual = require "support.virtual"

local SPEC = { "sleep", layers = { "/base.ext4" }, scratch = { size = "64M" }, mounts = { { source = "/shared", destination = "/s" } } }

local ORDER = policy.load().teardown.order

---Another process finds the journal `bytes` and the world of `f`, whose own process is gone: no guest connection, no
---device table, no live objects.
local function clean_up(f, bytes)
  local after = fake_vm.new()
  for _, name in ipairs { "attached", "shares", "mounts", "overlays", "containers", "processes", "files", "made" } do
    after[name] = f[name]
  end
  after.running = f.running
  local held = ledger.open { journal = journal.memory(bytes), world = after.world, boot_id = "boot-1" }
  local open = after.world.host.open
  after.world.host.open = function(facts)
    if after.running then return after.world.host.create(facts.id) end
    return open(facts)
  end
  recovery.open_vm(after.world, held)
  if #held:all() > 0 then
    after.world.devices:restore(held:all())
    local report = plan.execute(held, { owner = "vm", goal = "crash", order = ORDER })
    assert.is_true(report.ok, report.error and report.error.message)
  end
  after.ledger = held
  after.streams = {}
  return after
end

describe("a shim that is killed", function()
  -- Kills it at each call to the outside, before and after the effect, and cleans up.
  local function killed_at(act, fields)
    local n
    virtual.run(function()
      local f, pod, vm = given.pod()
      act(f, pod, vm, fields)
      n = f.count
      if vm.machine:state() ~= "ended" then vm:stop() end
    end)
    for i = 1, n do
      for _, when in ipairs { "before", "after" } do
        virtual.run(function()
          local f = fake_vm.new()
          local bytes, problem
          local outside = f.outside
          function f.outside(self, op, detail, effect, refuse)
            if self.count + 1 == i and not bytes then
              if when == "after" then effect() end
              bytes = self.ledger.journal:bytes()
              local fine, e = pcall(function()
                assert.same({}, clean_up(self, bytes):leaks(), ("killed %s call %d, %s"):format(when, i, op))
              end)
              problem = not fine and { e } or nil
              error(require("moonshim.err").new("cancelled", "killed"), 0)
            end
            return outside(self, op, detail, effect, refuse)
          end
          pcall(function()
            local vm = f:vm()
            act(f, vm:new_pod("p"), vm, fields)
          end)
          assert.is_string(bytes, "call " .. i .. " was not reached")
          if problem then error(problem[1], 0) end
          f.outside = nil
          f.running = nil
          if f.controller.machine:state() ~= "ended" then pcall(f.controller.terminate, f.controller) end
        end)
      end
    end
  end

  it("in the middle of a create leaves nothing after the clean-up", function()
    killed_at(function(_, pod) given.created(pod, SPEC) end)
  end)

  it("in the middle of a run leaves nothing after the clean-up", function()
    killed_at(function(_, pod)
      local c = given.running(pod, SPEC)
      given.exec(c, { "sleep" }, "e"):start()
      c:kill("WINCH")
    end)
  end)

  it("in the middle of a stop leaves nothing after the clean-up", function()
    killed_at(function(_, pod, vm)
      given.running(pod, SPEC)
      vm:stop()
    end)
  end)

  it("twice, the second time while it is cleaned up, leaves nothing in the end", virtual(function()
    local f, pod = given.pod()
    given.running(pod, SPEC)
    local bytes = f.ledger.journal:bytes()
    local first = clean_up(f, bytes)
    assert.same({}, first:leaks())
    local second = clean_up(first, bytes) -- the first one's journal was lost with it
    assert.same({}, second:leaks())
    f.running = nil
    pcall(f.controller.terminate, f.controller)
  end))
end)

describe("gc", function()
  local root

  before_each(function()
    root = os.tmpname()
    os.remove(root)
    assert(require("luv").fs_mkdir(root, 448))
  end)

  after_each(function() os.execute(("rm -rf '%s'"):format(root)) end)

  it("finds nothing where nothing is", function()
    assert.same({}, recovery.folders(root))
    assert.same({}, recovery.folders(root .. "/nosuch"))
    task.run(function() assert.same({}, recovery.gc { root = root }) end)
  end)

  it("removes the folder of a run that had released everything, and leaves a living one alone", function()
    local uv = require "luv"
    for _, name in ipairs { "dead", "alive" } do uv.fs_mkdir(root .. "/" .. name, 448) end
    local dead = journal.file(root .. "/dead/journal")
    ledger.open { journal = dead, world = {}, boot_id = "boot-1" }
    dead:close()
    local alive = journal.file(root .. "/alive/journal")
    ledger.open { journal = alive, world = {}, boot_id = "boot-1" }
    task.run(function()
      local reports = recovery.gc { root = root }
      assert.equal(1, #reports)
      assert.same({ "dead", true }, { reports[1].id, reports[1].ok })
      local ok, e = pcall(recovery.run, root .. "/alive")
      assert.is_false(ok)
      assert.equal("failed_precondition", e.code)
    end)
    assert.is_nil(uv.fs_stat(root .. "/dead"))
    assert.is_table(uv.fs_stat(root .. "/alive/journal"))
    alive:close()
  end)
end)

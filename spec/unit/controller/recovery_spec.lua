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

  local HEX = "0123456789abcdef"

  -- What stands in a run folder at the end: the journal and its lock, what a rewrite or a damage left, files of the host.
  local function run_folder(name)
    local dir = root .. "/" .. name
    assert(require("luv").fs_mkdir(dir, 448))
    local j = journal.file(dir .. "/journal")
    ledger.open { journal = j, world = {}, boot_id = "boot-1" }
    j:close()
    for _, file in ipairs { "agent.log", "journal.bad", "journal.new", "zz" } do assert(io.open(dir .. "/" .. file, "w")):close() end
    return dir
  end

  -- A removal that ends for good before its n-th unlinking; the number of those there were.
  local function removed_up_to(n, dir)
    local sys = require("moonshim.core").sys
    local real, count = sys.remove_tree, 0
    sys.remove_tree = function(...)
      count = count + 1
      if count == n then error("killed", 0) end
      return real(...)
    end
    pcall(recovery.remove, dir)
    sys.remove_tree = real
    return count
  end

  it("removes what is left of a run folder whose owner was killed while it removed it, wherever that was", function()
    task.run(function()
      local all = removed_up_to(-1, run_folder(HEX))
      assert.is_true(all >= 6)
      for n = 1, all do
        local dir = run_folder(HEX)
        removed_up_to(n, dir)
        local reports = recovery.gc { root = root }
        assert.same({ 1, true }, { #reports, reports[1].ok }, "killed before unlinking " .. n)
        assert.is_nil(require("luv").fs_stat(dir), "killed before unlinking " .. n)
        assert.same({}, recovery.gc { root = root })
      end
    end)
  end)

  it("leaves a folder alone that somebody holds before there is a journal in it, and folders that are none of ours", function()
    local uv, core = require "luv", require "moonshim.core"
    for _, name in ipairs { HEX, "empty", "fedcba9876543210" } do assert(uv.fs_mkdir(root .. "/" .. name, 448)) end
    assert(io.open(root .. "/fedcba9876543210/notes", "w")):close()
    local lock = assert(core.sys.lock_file(root .. "/" .. HEX .. "/journal.lock", { create = true, mode = 384 }))
    task.run(function() assert.same({}, recovery.gc { root = root }) end)
    lock:close()
    for _, path in ipairs { HEX .. "/journal.lock", "empty", "fedcba9876543210/notes" } do
      assert.is_table(uv.fs_stat(root .. "/" .. path), path)
    end
  end)

  it("may meet the folder of a start that has no journal yet: the start makes it again", function()
    local launch, sys = require "moonshim.launch", require("moonshim.core").sys
    local spec = require("moonshim.pod_spec").check({ name = "web", containers = { a = { rootfs = "/", args = { "x" } } } }, { base = "/" })
    local real, swept = sys.mkdir_p, 0
    sys.mkdir_p = function(path, mode)
      local answer = table.pack(real(path, mode))
      if path:find("/%x+$") and swept < 2 then
        swept = swept + 1
        recovery.gc { root = root }
        assert.is_nil(require("luv").fs_stat(path))
      end
      return table.unpack(answer, 1, answer.n)
    end
    local fine, e = pcall(task.run, function()
      local vm = launch.vm(spec, { run_dir = root })
      assert.is_table(require("luv").fs_stat(vm.world.run_dir .. "/journal"))
      vm:stop()
    end)
    sys.mkdir_p = real
    assert.is_true(fine, tostring(e))
    assert.equal(2, swept)
  end)

  -- Somebody who is just ending has the lock: the program flock, which took it, has ended already, and one whom it gave the
  -- descriptor has not. That is how a run looks that was killed while it forked. `act` runs with the lock held; at its first
  -- refusal the last holder ends, and `before_that` happens.
  local function with_dying_holder(dir, act, before_that)
    local sys, uv = require("moonshim.core").sys, require "luv"
    local pipe = io.popen(("exec 9>>'%s/journal.lock'; flock 9; echo $$; exec sleep 1000"):format(dir))
    local pid = pipe:read "n"
    local real, refusals = sys.lock_file, 0
    sys.lock_file = function(...)
      local lock, e = real(...)
      if not lock and e.code == "failed_precondition" then
        refusals = refusals + 1
        if refusals == 1 then
          if before_that then before_that() end
          uv.kill(pid, "sigkill")
          pipe:close() -- waits for its end
        end
      end
      return lock, e
    end
    local ok, e = pcall(task.run, act)
    sys.lock_file = real
    if refusals == 0 then
      uv.kill(pid, "sigkill")
      pipe:close()
    end
    assert(ok, e)
    assert.equal(1, refusals)
  end

  it("waits for the end of somebody who has just been killed", function()
    for _, what in ipairs { "journal", "husk" } do
      local dir = what == "journal" and run_folder(HEX) or root .. "/" .. HEX
      require("luv").fs_mkdir(dir, 448)
      with_dying_holder(dir, function()
        local reports = recovery.gc { root = root }
        assert.same({ 1, true }, { #reports, reports[1] and reports[1].ok }, what)
      end)
      assert.is_nil(require("luv").fs_stat(dir), what)
    end
  end)

  describe("before a run of the same name", function()
    local launch = require "moonshim.launch"
    local spec, dir

    before_each(function()
      local driver = require("moonshim.host").get "local"
      local containers = { c = { rootfs = "/", args = { "true" } } }
      spec = require("moonshim.pod_spec").check({ name = "again", containers = containers }, { base = "/" })
      dir = root .. "/" .. driver.run_dir("again@vm"):match "[^/]+$"
    end)

    local function started()
      local vm = launch.vm(spec, { run_dir = root })
      assert.same({}, vm.ledger:all())
      assert.equal(0, vm.ledger.book.last)
      recovery.remove(dir)
      vm.ledger.journal:close()
    end

    it("waits for the end of somebody who has just been killed", function()
      os.rename(run_folder(HEX), dir)
      with_dying_holder(dir, started)
    end)

    it("also releases what somebody wrote down who was about to begin when he was killed", function()
      assert(require("luv").fs_mkdir(dir, 448))
      with_dying_holder(dir, started, function()
        local book = journal.file(dir .. "/journal", { lock = function() return { close = function() end } end })
        local held = ledger.open { journal = book, world = {}, boot_id = require("moonshim.core").sys.boot_id() }
        book:append { t = "r", n = "stdio-7", k = "stdio", v = 1, o = "vm", needs = {}, dies = {}, f = { ports = {} }, at = 1 }
        assert.equal(0, #held:all())
        book:close()
      end)
    end)

    it("leaves somebody alone who lives, and says who that is", function()
      assert(require("luv").fs_mkdir(dir, 448))
      local alive = journal.file(dir .. "/journal")
      task.run(function()
        local ok, e = pcall(launch.vm, spec, { run_dir = root })
        assert.same({ false, "already_exists" }, { ok, e.code })
        assert.is_truthy(e.message:find("again is there already", 1, true), e.message)
      end)
      alive:close()
    end)
  end)
end)

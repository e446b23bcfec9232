local err = require "moonshim.err"
local fake_vm = require "support.fake_vm"
local given = require "support.given"
local operator = require "moonshim.policy.operator"
local policy = require "moonshim.policy"
local task = require "moonshim.task"
local virtual = require "support.virtual"

-- Each spec file gets its scripts as real files: paths and line numbers are part of what is promised.
local written = {}

local function script(text)
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
  written[#written + 1] = path
  return path
end

after_each(function()
  for _, path in ipairs(written) do os.remove(path) end
  written = {}
end)

local function refusal(text)
  local path = script(text)
  local ok, e = pcall(operator.load, path)
  assert.is_false(ok, "expected a refusal")
  assert.is_true(err.is(e), tostring(e))
  return e, path
end

local FULL = { "sleep", layers = { "/base.ext4" }, scratch = { size = "64M" }, mounts = { { source = "/shared", destination = "/s" } } }

---A pod under a script, with one full container.
local function under(text, fields)
  local f, pod, vm = given.pod { operator = script(text) }
  local c = given.running(pod, fields or FULL)
  return f, c, vm
end

local function order_of(f, ...)
  local out = {}
  for _, call in ipairs(f.calls) do
    for _, pattern in ipairs { ... } do
      if call:find(pattern) then out[#out + 1] = pattern end
    end
  end
  return out
end

describe("an operator's script is refused at start-up", function()
  local CASES = {
    { "with a syntax error", "return {\n  api = = 1 }", ":2:" },
    { "that fails at its top", "local x = nil\nreturn x.y", ":2:" },
    { "that raises a table", "error({})", "" },
    { "that returns nothing", "", "this one returned nothing" },
    { "that returns a string", "return 'x'", "this one returned string" },
    { "that returns a function", "return function() end", "this one returned function" },
    { "that returns two values", "return { api = 1 }, 2", "returns one table" },
    { "without api", "return {}", "api is missing" },
    { "of a newer api", "return { api = 2 }", "api = 2 is not known" },
    { "of api true", "return { api = true }", "api = true is not known" },
    { "with an unknown field", "return { api = 1, teardwon = 1 }", 'did you mean "teardown"?' },
    { "with a teardown that is no function", "return { api = 1, teardown = true }", "must be a function, got boolean" },
    { "with a ladder that is a function", "return { api = 1, stop = function() end }", "must be a list" },
    { "with an empty ladder", "return { api = 1, stop = {} }", "stop is empty" },
    { "with a ladder of unknown signals", "return { api = 1, stop = { { 'TREM', wait = '1s' } } }", 'there is no signal "TREM"' },
    { "with a ladder without waits", "return { api = 1, stop = { { 'TERM' } } }", "stop[1]: wait is missing" },
    { "with a wait that is no duration", "return { api = 1, stop = { { 'TERM', wait = 'soon' } } }", "is no duration" },
    { "with a wait of a day", "return { api = 1, stop = { { 'TERM', wait = '24h' } } }", "longer than the 10m" },
    { "with a wait of NaN", "return { api = 1, stop = { { 'TERM', wait = 0/0 } } }", "" },
    { "with a rung of strange fields", "return { api = 1, stop = { { 'TERM', wiat = '1s' } } }", 'did you mean "wait"?' },
    { "that never ends", "while true do end", "budget" },
    { "that eats memory", "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1000) .. i end return { api = 1 }", "" },
    { "that contains itself", "local t = { api = 1 } t.stop = t return t", "" },
    { "that wants io", "return { api = 1, stop = io.open('/etc/passwd') }", ":1:" },
    { "that wants os", "os.exit(3)", ":1:" },
    { "that wants modules", "require 'moonshim'", ":1:" },
    { "that loads code", "load('return 1')", ":1:" },
  }
  for _, case in ipairs(CASES) do
    it(case[1], function()
      local e = refusal(case[2])
      assert.is_truthy(e.message:find(case[3], 1, true), e.message)
    end)
  end

  it("naming the file in every message", function()
    local e, path = refusal("return { api = 7 }")
    assert.is_truthy(e.message:find(path, 1, true), e.message)
  end)

  it("when it is not there or is a folder", function()
    assert.equal("not_found", given.error(operator.load, "/no/such/policy.lua").code)
    assert.is_string(given.error(operator.load, "/tmp").code)
  end)

  it("and nothing is started", virtual(function()
    local f = fake_vm.new()
    assert.equal("invalid_argument", given.error(f.vm, f, { operator = script("return { api = 3 }") }).code)
    assert.same({}, f.calls)
  end))
end)

describe("two scripts", function()
  it("share nothing", function()
    local a = policy.load { operator = script("leak = 'a' string.leak = 1 return { api = 1 }") }
    local b = policy.load { operator = script("assert(leak == nil) assert(string.leak == nil) return { api = 1 }") }
    a:close()
    b:close()
  end)
end)

describe("a script's ladder", function()
  it("is what a stop climbs", virtual(function()
    local f, c, vm = under("return { api = 1, stop = { { 'QUIT', wait = '2s' }, { 9, wait = '1s' } } }", { "stubborn" })
    c:stop()
    assert.same({ ("c/%d 3"):format(c.init.pid), ("c/%d 9"):format(c.init.pid) }, f.signals)
    assert.equal(2000, task.now())
    vm:stop()
  end))

  it("is seen in the printed plan", virtual(function()
    local _, _, vm = under("return { api = 1, stop = { { 'QUIT', wait = '2s' } } }")
    assert.is_truthy(tostring(vm:plan("stop")):find("QUIT 2s", 1, true))
    vm:stop()
  end))
end)

describe("a script's edits", function()
  local FLUSH = [[
    return { api = 1, teardown = function(plan, ctx)
      plan:before("scratch", { name = "flush", within = "5s", on_failure = "continue",
        run = function() ctx.guest:syncfs(ctx.scratch) end })
      plan:tune("layer", { retries = 3, backoff = "200ms", on_failure = "debt" })
    end }
  ]]

  it("add a step before the scratch goes, and the guest really flushes", virtual(function()
    local f, c, vm = under(FLUSH)
    c:stop()
    assert.same({ "guest.uncombine", "guest.delete_state c", "guest.execute$", "guest.unmount .*0_1_0" },
      order_of(f, "guest.uncombine", "guest.delete_state c", "guest.execute$", "guest.unmount .*0_1_0"))
    local flush
    for _, p in pairs(f.processes) do
      if p.args and p.args[2] == "syncfs" then flush = p.args[3] end
    end
    assert.equal("/run/mounts/scsi/0_1_0", flush)
    assert.is_nil(f:event("policy-fallback"))
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("come once per container, each for its own scratch", virtual(function()
    local f, _, vm = under(FLUSH)
    given.running(vm.pods.p, FULL, "d")
    local flushed = {}
    local syncfs = vm.world.guest.syncfs
    vm.world.guest.syncfs = function(guest, path)
      flushed[#flushed + 1] = path
      return syncfs(guest, path)
    end
    vm:stop()
    table.sort(flushed)
    assert.same({ "/run/mounts/scsi/0_1_0", "/run/mounts/scsi/0_2_0" }, flushed)
    assert.same({}, f:leaks())
  end))

  it("do nothing where there is nothing to edit", virtual(function()
    local f, c, vm = under(FLUSH, { "sleep" })
    c:stop()
    assert.is_nil(f:event("policy-fallback"))
    vm:stop()
  end))

  it("are heard for roll-backs, too", virtual(function()
    local f, pod, vm = given.pod { operator = script [[
      return { api = 1, teardown = function(plan, ctx)
        assert(ctx.goal == plan.goal)
        plan:after("overlay", { name = "note-" .. ctx.goal, run = function() end })
      end }
    ]] }
    local seen
    local execute = vm.execute
    function vm.execute(self, request)
      local report = execute(self, request)
      for _, step in ipairs(report.steps) do seen = seen or step.name:match("^note%-.*") end
      return report
    end
    f:fault(function(op) return op == "guest.create" and "fail" or nil end)
    local c = pod:new_container("c")
    given.error(c.create, c, given.request(FULL))
    assert.equal("note-roll_back", seen)
    vm.execute = nil
    vm:stop()
  end))

  it("see the steps, as copies", virtual(function()
    local f, c, vm = under [[
      return { api = 1, teardown = function(plan, ctx)
        local kinds = {}
        for i, step in ipairs(plan.steps) do kinds[i] = step.kind step.within = 0 step.owner = "vm" end
        plan.steps[1] = nil
        local text = table.concat(kinds, " ")
        assert(text:find("process", 1, true) and text:find("scratch", 1, true), text)
        assert(ctx.reason == "stop" and ctx.pod == "p" and ctx.container == "c")
      end }
    ]]
    c:stop()
    assert.is_nil(f:event("policy-fallback"))
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("may reorder what is free", virtual(function()
    local f, c, vm = under([[
      return { api = 1, teardown = function(plan) plan:order { "share", "layer" } end }
    ]])
    c:stop()
    assert.same({ "host.unshare", "host.detach 0:0" }, order_of(f, "host.unshare", "host.detach 0:0"))
    vm:stop()
  end))

  it("may tune limits", virtual(function()
    local _, _, vm = under [[
      return { api = 1, teardown = function(plan) plan:tune("layer", { within = "7s", retries = 5, backoff = 10 }) end }
    ]]
    for _, step in ipairs(vm:plan("stop").steps) do
      if step.kind == "layer" then assert.same({ 7000, 5, 10 }, { step.within, step.retries, step.backoff }) end
    end
    vm:stop()
  end))
end)

-- Whatever a script does, the delete happens, by the default plan, and the fallback is told.
describe("a script that", function()
  local CASES = {
    { "raises in teardown", "plan.nothing.at.all()", ":1:" },
    { "raises a table", "error({ code = 'x' })", "" },
    { "never ends", "while true do end", "budget" },
    { "catches its own end and goes on", "while true do pcall(function() while true do end end) end", "budget" },
    { "eats memory", "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1000) .. i end", "" },
    { "recurses for ever", "local function f() return 1 + f() end f()", "" },
    { "asks the guest while the plan is edited", "ctx.guest:syncfs(ctx.scratch)", "in a step's run function only" },
    { "waits inside a comparator", "table.sort({ 1, 2, 3 }, function() ctx.guest:syncfs('/x') return true end)", "" },
    { "wants a verb that is not there", "ctx.guest:reboot()", "no verb reboot" },
    { "edits the VM", "plan:before('uvm', { name = 'x', run = function() end })", "belongs to the VM" },
    { "edits the bridge", "plan:tune('bridge', { within = '1s' })", "belongs to the VM" },
    { "edits a step of the VM by its name", "plan:tune('uvm-1', { within = '1s' })", "" },
    { "moves the VM forward", "plan:order { 'uvm', 'process' }", "belongs to the VM" },
    { "turns the order of needs round", "plan:order { 'scratch', 'overlay' }", "scratch cannot go before overlay" },
    { "orders kinds that are not there", "plan:order { 'scrach' }", 'did you mean "scratch"?' },
    { "tunes unknown fields", "plan:tune('layer', { wihtin = 1 })", "unknown field wihtin" },
    { "tunes the ladder past its limits", "plan:tune('process', { args = {} })", "unknown field args" },
    { "retries for ever", "plan:tune('layer', { retries = 1000000 })", "from 0 to 20" },
    { "retries 1.5 times", "plan:tune('layer', { retries = 1.5 })", "whole number" },
    { "waits for a day", "plan:tune('layer', { within = '24h' })", "longer than the 10m" },
    { "waits for NaN", "plan:tune('layer', { within = 0/0 })", "" },
    { "waits for a huge number", "plan:tune('layer', { within = 1e400 })", "" },
    { "fails in a new way", "plan:tune('layer', { on_failure = 'explode' })", "not \"explode\"" },
    { "adds a step without a name", "plan:before('scratch', { run = function() end })", "name is missing" },
    { "adds a step that runs nothing", "plan:before('scratch', { name = 'x', run = 7 })", "run must be a function" },
    { "adds a step that owes", "plan:before('scratch', { name = 'x', on_failure = 'debt', run = function() end })",
      "holds nothing that could be owed" },
    { "adds two steps of one name", "for i = 1, 2 do plan:before('scratch', { name = 'x', run = function() end }) end", "x" },
    { "adds a thousand steps", "for i = 1, 1000 do plan:before('scratch', { name = 'x' .. i, run = function() end }) end", "at most" },
    { "edits nil", "plan:before(nil, {})", "got nil" },
    { "edits a table", "plan:before({}, {})", "got table" },
    { "sets fields of the plan", "plan.steps = nil plan.edits = 7", "" },
    { "replaces the plan's functions", "getmetatable(plan).__index = nil plan:before('scratch', {})", "" },
  }
  for _, case in ipairs(CASES) do
    it(case[1] .. " never blocks a delete" .. (case[3] == "budget" and " [#690]" or ""), virtual(function()
      local f, c, vm = under(("return { api = 1, teardown = function(plan, ctx) %s end }"):format(case[2]))
      c:stop()
      assert.equal("deleted", c.machine:state())
      assert.same({}, f:leaks { running = true })
      local told = f:event("policy-fallback")
      if case[3] ~= "" then
        assert.is_table(told, "no fallback was told")
        assert.is_truthy(told.message:find(case[3], 1, true), told.message)
      end
      vm:stop()
      assert.same({}, f:leaks())
    end))
  end

  it("makes one unsafe edit loses all of them: together or not at all", virtual(function()
    local f, c, vm = under [[
      return { api = 1, teardown = function(plan)
        plan:tune("layer", { within = "7s" })
        plan:order { "scratch", "overlay" }
      end }
    ]]
    for _, step in ipairs(vm:plan("stop").steps) do
      if step.kind == "layer" then assert.equal(60000, step.within) end
    end
    c:stop()
    assert.is_truthy(f:event("policy-fallback").message:find(":3: ", 1, true), f:event("policy-fallback").message)
    vm:stop()
  end))
end)

describe("the function of a step that", function()
  local function hook(body, options)
    return ([[
      return { api = 1, teardown = function(plan, ctx)
        plan:before("scratch", { name = "hook", %s run = function(step) %s end })
      end }
    ]]):format(options or "", body)
  end

  local CASES = {
    { "raises", "error('boom')", "boom" },
    { "never ends", "while true do end", "budget" },
    { "is refused by the guest", "ctx.guest:syncfs(ctx.scratch)", "" },
    { "asks for a path of somebody else", "ctx.guest:syncfs('/run/gcs/pods')", "is not below anything" },
    { "climbs out of its own mount", "ctx.guest:syncfs('/run/mounts/scsi/0_1_0/../0_0_0')", "is not below anything" },
    { "asks for nil", "ctx.guest:syncfs(nil)", "got nil" },
  }
  for _, case in ipairs(CASES) do
    it(case[1] .. " is told and passed over", virtual(function()
      local f, c, vm = under(hook(case[2]))
      if case[1] == "is refused by the guest" then
        f:fault(function(op, _, what) return op == "guest.execute" and what == "" and "fail" or nil end)
      end
      c:stop()
      assert.is_truthy(f:event("policy-hook-failed").message:find(case[3], 1, true), f:event("policy-hook-failed").message)
      assert.same({}, f:leaks { running = true })
      vm:stop()
    end))
  end

  it("never blocks a delete, whatever it asks for", virtual(function()
    local f, c, vm = under(hook("error('no')", "on_failure = 'stop',"), { "exit", "0", layers = { "/a.ext4" }, scratch = { size = "64M" } })
    c:wait()
    c:delete()
    assert.same({}, f:leaks { running = true })
    vm:stop()
  end))

  it("fails on purpose can keep a stop from going on, until it succeeds", virtual(function()
    local f, c, vm = under(hook("ctx.guest:syncfs(ctx.scratch)", "on_failure = 'stop',"))
    f:fault(function(op, _, what) return op == "guest.execute" and what == "" and "fail" or nil end)
    assert.is_string(given.error(c.stop, c).code)
    assert.same({}, f:called("^guest.unmount"))
    f:fault(nil)
    c:stop()
    assert.same({}, f:leaks { running = true })
    vm:stop()
  end))

  it("hangs in the guest ends with its own time", virtual(function()
    local f, c, vm = under(hook("ctx.guest:syncfs(ctx.scratch)", "within = '3s',"))
    f:fault(function(op, _, what) return op == "guest.execute" and what == "" and "hang" or nil end)
    c:stop()
    assert.is_true(task.now() >= 3000 and task.now() < 10000, tostring(task.now()))
    assert.is_table(f:event("policy-hook-failed"))
    f:fault(nil)
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("catches a refusal goes on", virtual(function()
    local f, c, vm = under(hook([[
      local ok, e = pcall(ctx.guest.syncfs, ctx.guest, "/nowhere")
      assert(not ok and e.code == "permission_denied")
    ]]))
    c:stop()
    assert.is_nil(f:event("policy-hook-failed"))
    vm:stop()
  end))

  it("does not know its memory's bounds leaves the engine alone, time after time", virtual(function()
    local f, _, vm = under(hook("seen = seen or {} seen[#seen + 1] = step"))
    for i = 1, 20 do given.running(vm.pods.p, FULL, "c" .. i):stop() end
    assert.is_true(vm.policy.operator.script:counts().functions < 10)
    vm:stop()
    assert.same({}, f:leaks())
  end))
end)

describe("after a crash", function()
  it("no script takes part", virtual(function()
    local f, _, vm = under [[
      return { api = 1, teardown = function() error("must not be called") end }
    ]]
    local spec = vm.policy:plan_spec(vm, { goal = "crash", owner = "vm" }, function() error("told") end)
    spec.edit(require("moonshim.plan").derive(vm.ledger, spec))
    vm:stop()
    assert.same({}, f:leaks())
  end))
end)

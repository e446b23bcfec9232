local err = require "moonshim.err"
local fake = require "support.fake_host"
local fake_programs = require "support.fake_programs"
local journal = require "moonshim.journal"
local kind = require "moonshim.kind"
local ledger = require "moonshim.ledger"
local task = require "moonshim.task"
local virtual = require "support.virtual"

local logger, stdio = kind.get "logger", kind.get "stdio"

local function relay()
  local opened = {}
  local function open(_, want)
    local io = { want = want, close = function() end }
    opened[#opened + 1] = io
    return io
  end
  return { opened = opened, open = open }
end

local function given(how)
  local programs, thread = fake_programs.new(how), relay()
  local lines = {}
  local w = fake.new { relay = thread }
  w.programs = programs
  local function sink(line) lines[#lines + 1] = line end
  w.log = require("moonshim.log").new { level = "warn", sink = sink, wall = function() return 0 end }
  local L = ledger.open { journal = journal.memory(), world = w }
  local function acquire(name, args) return L:acquire { owner = "vm/p/c", kind = name, args = args } end
  return {
    world = w, programs = programs, relay = thread, lines = lines,
    start = function(args) return acquire("logger", args or { path = "/l", args = { "a" }, id = "c", namespace = "default" }) end,
    connect = function(receipt, more)
      local args = { logger = receipt }
      for k, v in pairs(more or {}) do args[k] = v end
      return acquire("stdio", args)
    end,
  }
end

local function release(g, receipt, goal)
  logger.release(g.world, receipt.facts, { goal = goal or "delete", args = logger.defaults.args })
end

describe("kind logger", function()
  it("starts the program with what it was told, and names it by pid and start time, not by its words", virtual(function()
    local g = given()
    local r = g.start()
    assert.same({ path = "/l", args = { "a" }, id = "c", namespace = "default" }, g.programs.started[1].opts)
    assert.same({ path = "/l", pid = 5001, start_time = 77 }, r.facts)
    assert.equal("held", logger.verify(g.world, r.facts))
  end))

  it("gives it both outputs, and lets it end early", virtual(function()
    local g = given()
    local r = g.start()
    local s = g.connect(r)
    local want = g.relay.opened[1].want
    assert.same({ { fd = 102, lossy = true }, { fd = 103, lossy = true } }, { want.stdout, want.stderr })
    assert.is_nil(want.stdin)
    assert.same({ r.name }, s.needs)
    assert.same({}, r.value.open) -- the data thread has the only writing ends
  end))

  it("with a terminal has an output that stays idle, until the end (known bug 86)", virtual(function()
    local g = given()
    local r = g.start()
    g.connect(r, { tty = true, stdin = { fd = 0 } })
    assert.is_nil(g.relay.opened[1].want.stderr)
    assert.same({ stderr = true }, r.value.open)
    release(g, r)
    assert.same({}, r.value.open)
  end))

  it("is waited for until it is ready", virtual(function()
    local g = given { ready = 9000 }
    g.connect(g.start())
    assert.equal(9000, task.now())
  end))

  it("that is never ready fails the create after ten seconds, is killed and leaves nothing [#549] (known bug 84)", virtual(function()
    local g = given { ready = false, hangs = true }
    local r = g.start()
    local ok, e = pcall(g.connect, r)
    assert.is_false(ok)
    assert.is_true(err.is(e, "deadline_exceeded"))
    assert.is_truthy(e.message:find("/l was not ready within 10s", 1, true), e.message)
    assert.equal(10000, task.now())
    assert.equal(0, #g.relay.opened)
    release(g, r, "roll_back")
    assert.equal(10000, task.now())
    assert.same({ 1, {}, true }, { r.value.kills, r.value.open, r.value.closed })
    assert.equal("gone", logger.verify(g.world, r.facts))
  end))

  it("that ends before it is ready fails the create with how it ended (known bug 84)", virtual(function()
    local g = given()
    g.programs.next = { ends = { 3, 0 } }
    local ok, e = pcall(g.connect, g.start())
    assert.is_false(ok)
    assert.is_true(err.is(e, "failed_precondition"))
    assert.is_truthy(e.message:find("/l ended with status 3 before it was ready", 1, true), e.message)
    assert.equal(0, #g.relay.opened)
  end))

  it("that cannot be started leaves nothing to release [#550]", virtual(function()
    local g = given()
    g.programs.refuse = fake_programs.refusal()
    local ok, e = pcall(g.start)
    assert.is_false(ok)
    assert.is_true(err.is(e, "not_found"))
    release(g, { facts = { path = "/l" } }, "roll_back")
  end))

  it("outlives the request that started it [#553]", virtual(function()
    local g = given()
    local r
    local t = task.spawn(function()
      r = g.start()
      g.connect(r)
      task.sleep "1h"
    end)
    task.sleep "1s"
    t:cancel("the caller went away")
    pcall(t.join, t)
    assert.same({ 0, false }, { r.value.kills, r.value.ended:fired() })
  end))

  it("that ends by itself is waited for and not killed [#554]", virtual(function()
    local g = given()
    g.programs.next = { takes = 9000 }
    local r = g.start()
    release(g, r)
    assert.equal(9000, task.now())
    assert.equal(0, r.value.kills)
    assert.same({}, g.lines)
  end))

  it("that hangs is killed after ten seconds, once [#555]", virtual(function()
    local g = given()
    g.programs.next = { hangs = true }
    local r = g.start()
    release(g, r)
    assert.equal(10000, task.now())
    release(g, r)
    assert.equal(1, r.value.kills)
    assert.is_truthy(g.lines[1]:find("is killed", 1, true))
  end))

  it("that does not even end when it is killed stays owed, and is killed once [#555]", virtual(function()
    local g = given()
    g.programs.next = { immortal = true }
    local r = g.start()
    for _ = 1, 2 do
      local ok, e = pcall(release, g, r)
      assert.is_false(ok)
      assert.is_true(err.is(e, "deadline_exceeded"))
    end
    assert.equal(1, r.value.kills)
  end))

  it("of a process of ours that crashed is ended by its pid and start time, and nobody else is", virtual(function()
    local g = given()
    g.programs.next = { hangs = true }
    local r = g.start()
    g.world.live_loggers = {}
    release(g, { facts = { path = "/l", pid = r.facts.pid, start_time = 78 } }, "crash")
    assert.equal(0, r.value.kills)
    release(g, r, "crash")
    assert.same({ 1, 2000 }, { r.value.kills, task.now() })
    assert.equal("gone", logger.verify(g.world, r.facts))
  end))

  it("has one program for each process [#552]", virtual(function()
    local g = given()
    local a = g.start { path = "/l", args = {}, id = "e1", namespace = "default" }
    local b = g.start { path = "/l", args = {}, id = "e2", namespace = "default" }
    g.connect(a)
    g.connect(b)
    assert.same({ "e1", "e2" }, { g.programs.started[1].opts.id, g.programs.started[2].opts.id })
    assert.not_equal(g.relay.opened[1].want.stdout.fd, g.relay.opened[2].want.stdout.fd)
    release(g, a)
    assert.is_false(b.value.ended:fired())
  end))

  it("wants a name for all that it passes on", virtual(function()
    local g = given()
    local ok, e = pcall(g.start, { path = "/l", args = {}, id = "c" })
    assert.is_false(ok)
    assert.is_true(err.is(e, "invalid_argument"))
  end))

  it("counts for the kind stdio as two outputs, and one with a terminal", virtual(function()
    local g = given()
    assert.same({ "stderr", "stdout" }, (function()
      local names = {}
      for name in pairs(g.connect(g.start()).facts.ports) do names[#names + 1] = name end
      table.sort(names)
      return names
    end)())
    assert.is_nil(stdio.reserve(g.world, { logger = {}, tty = true }).ports.stderr)
  end))
end)

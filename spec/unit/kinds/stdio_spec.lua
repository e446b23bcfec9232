local err = require "moonshim.err"
local fake = require "support.fake_host"
local journal = require "moonshim.journal"
local kind = require "moonshim.kind"
local ledger = require "moonshim.ledger"
local task = require "moonshim.task"
local virtual = require "support.virtual"

-- A data thread that remembers what it was asked.
local function given()
  local relay = { opened = {}, closed = 0 }
  function relay:open(want)
    if self.refuse then return nil, self.refuse end
    local io = { want = want, log = {} }
    function io.exited(_, idle, most) io.log[#io.log + 1] = ("exited %d %d"):format(idle, most) end
    function io.close_stdin() io.log[#io.log + 1] = "close_stdin" end
    function io.close() io.log[#io.log + 1] = "close" end
    function io.counts() return { stdout = 5 } end
    self.opened[#self.opened + 1] = io
    return io
  end
  local w = fake.new { relay = relay }
  local L = ledger.open { journal = journal.memory(), world = w }
  return w, relay, function(args) return L:acquire { owner = "vm/p/c", kind = "stdio", args = args } end
end

local stdio = kind.get "stdio"

describe("kind stdio", function()
  it("opens the streams that are asked for, on ports of their own", virtual(function()
    local _, relay, acquire = given()
    local a = acquire { stdin = { fd = 0 }, stdout = { fd = 1 }, stderr = { path = "/fifo" } }
    local b = acquire { stdout = { fd = 1 } }
    assert.same({ stdin = 0x40000001, stdout = 0x40000002, stderr = 0x40000003 }, a.facts.ports)
    assert.same({ stdout = 0x40000004 }, b.facts.ports)
    local want = relay.opened[1].want
    assert.same({ { fd = 0 }, { fd = 1 }, { path = "/fifo" } }, { want.stdin, want.stdout, want.stderr })
    assert.equal("/run/moonshim-spec/none/s", want.dir)
  end))

  it("has no stderr with a terminal", virtual(function()
    local _, relay, acquire = given()
    local r = acquire { stdin = { fd = 0 }, stdout = { fd = 1 }, stderr = { fd = 2 }, tty = true }
    assert.is_nil(r.facts.ports.stderr)
    assert.is_nil(relay.opened[1].want.stderr)
    assert.is_true(relay.opened[1].want.tty)
  end))

  it("opens nothing when nothing is asked for", virtual(function()
    local w, relay, acquire = given()
    local r = acquire {}
    assert.equal(0, #relay.opened)
    assert.same({}, stdio.drain(w, r, 1000, 10000))
    stdio.close_stdin(w, r)
    stdio.release(w, r.facts, {})
  end))

  it("refuses what is no stream", virtual(function()
    local _, _, acquire = given()
    local ok, e = pcall(acquire, { stdin = 0 })
    assert.is_false(ok)
    assert.is_true(err.is(e, "invalid_argument"))
  end))

  it("drains what is left after an exit and says how much it was", virtual(function()
    local w, relay, acquire = given()
    local r = acquire { stdout = { fd = 1 } }
    local t = task.spawn(function() return stdio.drain(w, r, 1000, 10000) end)
    task.sleep(10)
    assert.same({ "exited 1000 10000" }, relay.opened[1].log)
    relay.opened[1].want.on_drained { stdout = 42, cut = false }
    assert.same({ stdout = 42, cut = false }, t:join())
    assert.same({ stdout = 5 }, stdio.counts(w, r))
  end))

  it("is closed by its release, at most once, and by whoever ends the VM [#529]", virtual(function()
    local w, relay, acquire = given()
    local r = acquire { stdout = { fd = 1 } }
    stdio.release(w, r.facts, {})
    stdio.release(w, r.facts, {})
    r.value:close()
    assert.same({ "close" }, relay.opened[1].log)
    assert.equal("gone", stdio.verify(w, r.facts))
  end))

  it("lets output that is on its way finish before it is closed, when the plan says so", virtual(function()
    local w, relay, acquire = given()
    local r = acquire { stdout = { fd = 1 } }
    local t = task.spawn(function() stdio.release(w, r.facts, { args = { drain = 500, most = 700 } }) end)
    task.sleep(10)
    relay.opened[1].want.on_drained { stdout = 1 }
    t:join()
    assert.same({ "exited 500 700", "close" }, relay.opened[1].log)
  end))

  it("gives the data thread a limit of its own", virtual(function()
    local w, _, acquire = given()
    local r = acquire { stdout = { fd = 1 } }
    local ok, e = pcall(stdio.drain, w, r, 1000, 2000)
    assert.is_false(ok)
    assert.is_true(err.is(e, "deadline_exceeded"))
    assert.equal(7000, task.now())
  end))

  it("stays intended when the sockets cannot be made", virtual(function()
    local w, relay, acquire = given()
    relay.refuse = err.new("resource_exhausted", "no descriptors")
    assert.is_false(pcall(acquire, { stdout = { fd = 1 } }))
    stdio.release(w, { ports = { stdout = 7 }, tty = false }, {})
  end))
end)

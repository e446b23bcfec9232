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

  it("says in the log when output was cut, and when it was dropped (known bug 60)", virtual(function(v)
    local w, relay, acquire = given()
    w.log = v.log
    local r = acquire { stdout = { fd = 1 }, name = "web" }
    local t = task.spawn(function() return stdio.drain(w, r, 1000, 1000) end)
    task.sleep(10)
    relay.opened[1].want.on_drained { stdout = 1, cut = true, dropped = { stdout = 9 }, errors = { stdout = "Broken pipe" } }
    t:join()
    stdio.release(w, r.facts, { args = { drain = 1000, most = 1000 } })
    assert.equal(2, #v.lines) -- each is said once
    assert.is_truthy(v.lines[1]:find("output was cut", 1, true))
    assert.is_truthy(v.lines[2]:find("output was dropped", 1, true) and v.lines[2]:find("Broken pipe", 1, true))
    assert.is_truthy(v.lines[2]:find("web", 1, true))
  end))
end)

describe("kind stdio, a file", function()
  local uv = require "luv"
  local folder

  before_each(function() folder = assert(uv.fs_mkdtemp "/tmp/msh-stdio-XXXXXX") end)
  after_each(function()
    for _, name in ipairs { "out", "in" } do os.remove(folder .. "/" .. name) end
    uv.fs_rmdir(folder .. "/dir")
    assert(uv.fs_rmdir(folder))
  end)

  -- What the data thread would write comes from `write`, while it has the descriptor.
  local function given_files(write)
    local w, relay, acquire = given()
    local open = relay.open
    function relay:open(want)
      for _, name in ipairs { "stdout", "stderr" } do
        if want[name] then assert(uv.fs_write(want[name].fd, write or name)) end
      end
      self.read = want.stdin and uv.fs_read(want.stdin.fd, 100)
      return open(self, want)
    end
    return w, relay, acquire
  end

  local function text() return assert(io.open(folder .. "/out", "rb")):read "a" end
  local function put(name, what) assert(io.open(folder .. "/" .. name, "wb")):write(what):close() end

  it("is made for its owner alone, appended to, and shared by both outputs [#556]", virtual(function()
    local _, _, acquire = given_files()
    local file = folder .. "/out"
    acquire { stdout = { file = file }, stderr = { file = file } }
    acquire { stdout = { file = file } }
    assert.equal("stdoutstderrstdout", text())
    assert.equal("600", ("%o"):format(uv.fs_stat(file).mode & 511))
  end))

  it("is taken by a plain path, too, when there is one, and as input it is read", virtual(function()
    local _, relay, acquire = given_files "+"
    put("out", "before")
    put("in", "input")
    acquire { stdin = { path = folder .. "/in" }, stdout = { path = folder .. "/out" } }
    assert.equal("before+", text())
    assert.equal("input", relay.read)
  end))

  it("is refused without its folder, as a folder, and as an input that is not there", virtual(function()
    local _, relay, acquire = given_files()
    assert(uv.fs_mkdir(folder .. "/dir", 448))
    for what, case in pairs {
      ["there is no folder " .. folder .. "/none; make it first"] = { { stdout = { file = folder .. "/none/out" } }, "not_found" },
      ["stderr: EISDIR"] = { { stderr = { file = folder .. "/dir" } }, "invalid_argument" },
      ["stdin: ENOENT"] = { { stdin = { file = folder .. "/none" } }, "not_found" },
      ["stdin: " .. folder .. "/dir is a directory"] = { { stdin = { file = folder .. "/dir" } }, "invalid_argument" },
    } do
      local ok, e = pcall(acquire, case[1])
      assert.is_false(ok)
      assert.equal(case[2], e.code)
      assert.is_truthy(e.message:find(what, 1, true), e.message)
    end
    assert.equal(0, #relay.opened)
  end))

  it("is not kept open by us when the data thread has it, nor when it cannot", virtual(function()
    local w, relay, acquire = given_files()
    local closed = {}
    local close = uv.fs_close
    uv.fs_close = function(fd)
      closed[#closed + 1] = fd
      return close(fd)
    end
    acquire { stdout = { file = folder .. "/out" } }
    relay.refuse = err.new("resource_exhausted", "no descriptors")
    local ok = pcall(acquire, { stdout = { file = folder .. "/out" }, stderr = { file = folder .. "/out" } })
    uv.fs_close = close
    assert.is_false(ok)
    assert.equal(3, #closed)
    assert.equal(relay.opened[1].want.stdout.fd, closed[1])
    stdio.release(w, { ports = {}, tty = false }, {})
  end))
end)

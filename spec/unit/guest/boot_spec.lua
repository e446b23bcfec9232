-- What a guest dials at boot: entropy, and the stream of its log.
local fake_vm = require "support.fake_vm"
local layout = require "moonshim.guest.layout"
local task = require "moonshim.task"
local virtual = require "support.virtual"

-- A VM whose guest dials what is asked of it; its log is kept from `level` on, as records.
local function booted(opts)
  local f = fake_vm.new(opts)
  local records = {}
  f.world.log = require("moonshim.log").new { level = opts.level or "debug", sink = function(_, record) records[#records + 1] = record end }
  return f, f:vm(), records
end

local function texts(records)
  local out = {}
  for i, r in ipairs(records) do out[i] = r.level .. " " .. r.message end
  return out
end

describe("entropy", function()
  it("is 512 random bytes for a guest that dials, and then the end [#362]", virtual(function()
    local f, vm = booted { wants_entropy = true }
    local guest = f:dial(layout.ENTROPY_PORT)
    assert.equal(512, #guest.got)
    assert.is_true(guest.closed)
    assert.is_nil(f.listening[layout.ENTROPY_PORT]) -- once
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("is not the same for two guests", virtual(function()
    local got = {}
    for i = 1, 2 do
      local f, vm = booted { wants_entropy = true }
      f.world.core.sys.random_hex = require("moonshim.core").sys.random_hex
      got[i] = f:dial(layout.ENTROPY_PORT).got
      vm:stop()
    end
    assert.equal(512, #got[1])
    assert.not_equal(got[1], got[2])
  end))

  it("is not offered where the host's guests want none", virtual(function()
    local f, vm = booted {}
    assert.is_nil(f.listening[layout.ENTROPY_PORT])
    assert.is_nil(f.listening[layout.LOG_PORT])
    vm:stop()
  end))

  it("that nobody asks for keeps nothing from its end", virtual(function()
    local f, vm = booted { wants_entropy = true, logs = true }
    vm:stop()
    assert.equal(0, task.now())
    assert.same({}, f:leaks())
  end))
end)

describe("the log of a guest", function()
  local function logged(fn, opts)
    return virtual(function()
      local f, vm, records = booted { logs = true, level = opts and opts.level }
      local guest = f:dial(layout.LOG_PORT)
      fn(guest, records, f, vm)
      vm:stop()
    end)
  end

  it("is told on, at its level, as words of that VM's guest", logged(function(guest, records)
    guest.say '{"time":"t","level":"info","msg":"agent is ready","runtime":"crun"}\n{"level":"warn","msg":"a disk is busy"}\n'
    assert.same({ "info agent is ready", "warn a disk is busy" }, texts(records))
    assert.same({ vm = "hello@vm", from = "guest", runtime = "crun" }, records[1].fields)
  end))

  it("is put together from whatever pieces it comes in", logged(function(guest, records)
    for c in ('{"level":"info","msg":"one"}\n\n{"level":"info","msg":"two"}\n'):gmatch "." do guest.say(c) end
    assert.same({ "info one", "info two" }, texts(records))
  end))

  it("never ends us, however severe its words are", logged(function(guest, records)
    for _, level in ipairs { "trace", "debug", "warning", "error", "fatal", "panic", "shouting" } do
      guest.say(('{"level":"%s","msg":"x"}\n'):format(level))
    end
    assert.same({ "debug x", "debug x", "warn x", "error x", "error x", "error x", "info x" }, texts(records))
  end))

  it("may end in the text of a panic", logged(function(guest, records)
    guest.say "panic: no moon\ngoroutine 1"
    guest.hang_up()
    task.sleep(1)
    assert.same({ "error panic: no moon", "error goroutine 1" }, texts(records))
  end))

  it("is cut where a line has no end", logged(function(guest, records)
    for _ = 1, 100 do guest.say(("x"):rep(1000)) end
    guest.say 'y\n{"level":"info","msg":"next"}\n'
    assert.equal(2, #records)
    assert.is_true(#records[1].message <= 16384)
    assert.equal("next", records[2].message)
  end))

  it("that floods is counted, not told", logged(function(guest, records)
    for _ = 1, 3000 do guest.say '{"level":"info","msg":"x"}\n' end
    assert.equal(1000, #records)
    task.sleep(10000)
    guest.say '{"level":"info","msg":"y"}\n'
    assert.equal("warn records of the guest's log were left out", texts(records)[1001])
    assert.equal(2000, records[1001].fields.count)
    assert.equal("y", records[1002].message)
  end))

  it("masks what must not be told", logged(function(guest, records)
    guest.say '{"level":"info","msg":"x","env":["SECRET=1"]}\n'
    assert.is_nil(require("moonshim.log").new { sink = function(line) records.line = line end }:info("x", records[1].fields))
    assert.is_nil(records.line:find("SECRET", 1, true), records.line)
  end))
end)

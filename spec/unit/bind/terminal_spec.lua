local core = require "moonshim.core"
local uv = require "luv"

local terminal = core.terminal

describe("a terminal", function()
  local master, slave
  before_each(function() master, slave = assert(terminal.open()) end)
  after_each(function()
    terminal.restore()
    core.sys.close(master)
    core.sys.close(slave)
  end)

  -- What `stty -g` says: all modes, as text.
  local function modes()
    local pipe = assert(io.popen(("stty -g < /proc/%d/fd/%d"):format(uv.os_getpid(), slave)))
    local text = pipe:read "a"
    pipe:close()
    return text
  end

  it("is told from what is none", function()
    assert.is_true(terminal.is(slave))
    local null = assert(uv.fs_open("/dev/null", "r+", 0))
    assert.is_false(terminal.is(null))
    local rows, e = terminal.size(null)
    assert.is_nil(rows)
    assert.equal("failed_precondition", e.code)
    assert.equal("failed_precondition", select(2, terminal.raw(null)).code)
    uv.fs_close(null)
  end)

  it("has one size, seen from both sides", function()
    assert.is_true(terminal.resize(master, 40, 120))
    assert.same({ 40, 120 }, { terminal.size(slave) })
    assert.is_true(terminal.resize(slave, 0, 65535))
    assert.same({ 0, 65535 }, { terminal.size(master) })
    assert.has_error(function() terminal.resize(slave, 1, 65536) end)
    assert.has_error(function() terminal.resize(slave, -1, 1) end)
  end)

  it("is raw until its modes are given back", function()
    local before = modes()
    assert.is_true(terminal.raw(slave))
    assert.not_equal(before, modes())
    assert.is_true(terminal.raw(slave))
    terminal.restore()
    assert.equal(before, modes())
    terminal.restore()
  end)
end)

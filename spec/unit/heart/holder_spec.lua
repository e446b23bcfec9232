local err = require "moonshim.err"
local holder = require "moonshim.journal.holder"
local task = require "moonshim.task"
local virtual = require "support.virtual"

describe("the holder of a lock", function()
  local proc

  before_each(function()
    proc = os.tmpname()
    os.remove(proc)
  end)
  after_each(function() os.execute(("rm -rf '%s'"):format(proc)) end)

  local function thread(pid, tid, state, flags, pending)
    local dir = ("%s/%d/task/%d"):format(proc, pid, tid)
    os.execute(("mkdir -p '%s'"):format(dir))
    local stat = assert(io.open(dir .. "/stat", "w"))
    stat:write(("%d (a) b (c) %s 1 2 3 0 -1 %d 5 0\n"):format(tid, state, flags))
    stat:close()
    local status = assert(io.open(dir .. "/status", "w"))
    status:write(("Name:\ta) b (c\nSigPnd:\t%016x\nShdPnd:\t%016x\nSigBlk:\t0000000000000100\n"):format(pending or 0, 0))
    status:close()
  end

  -- A thread of a process that lives: 0x40 stands for all flags that say nothing.
  local function living(pid) thread(pid, pid, "S", 0x400040) end

  it("is not ending while all its threads live, whatever else they have before them", function()
    living(7)
    thread(7, 8, "D", 0x40, 1 << 14)
    assert.is_false(holder.is_ending(7, proc))
  end)

  for what, fields in pairs {
    ["has a SIGKILL before it"] = { "S", 0x40, 1 << 8 }, ["is on its way out"] = { "R", 0x44 }, ["is a zombie"] = { "Z", 0x40 },
    ["is as good as gone"] = { "X", 0x40 },
  } do
    it("is ending when one of its threads " .. what, function()
      living(7)
      thread(7, 8, table.unpack(fields))
      assert.is_true(holder.is_ending(7, proc))
    end)
  end

  it("is ending when there is no such process any more, and this one is not", function()
    assert.is_true(holder.is_ending(7, proc))
    assert.is_false(holder.is_ending(require("luv").os_getpid()))
  end)

  local function refused(pid) error(err.new("failed_precondition", "it is locked", { holder = pid }), 0) end

  it("is waited for while it is ending, and no longer", virtual(function()
    local tries = 0
    assert.equal("lock", holder.outlast(function()
      tries = tries + 1
      return tries < 100 and refused(7) or "lock"
    end, proc))
  end))

  it("is not waited for while it lives", virtual(function()
    living(7)
    local tries, from = 0, task.now()
    local ok, e = pcall(holder.outlast, function()
      tries = tries + 1
      refused(7)
    end, proc)
    assert.same({ false, "failed_precondition", 1, from }, { ok, e.code, tries, task.now() })
  end))

  it("that cannot be told is waited for, for a second, and then believed to live", virtual(function()
    local from = task.now()
    local ok, e = pcall(holder.outlast, refused, proc)
    assert.same({ false, "failed_precondition" }, { ok, e.code })
    assert.is_true(task.now() - from >= 1000 and task.now() - from < 1100)
  end))

  it("whose end does not come is named in the end", virtual(function()
    local ok, e = pcall(holder.outlast, function() refused(7) end, proc)
    assert.same({ false, "unavailable" }, { ok, e.code })
    assert.is_truthy(e.message:find("it is locked", 1, true))
  end))

  it("is nobody's business when a lock fails for another reason", virtual(function()
    local ok, e = pcall(holder.outlast, function() err.raise("not_found", "no such folder") end, proc)
    assert.same({ false, "not_found" }, { ok, e.code })
  end))
end)

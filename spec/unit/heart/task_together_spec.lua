-- What several tasks do together: all at once, one after the other, by signal, by queue.
local err = require "moonshim.err"
local raised = require "support.raised"
local task = require "moonshim.task"
local virtual = require "support.virtual"

describe("task.all", function()
  it("settles all, then raises what failed first with the others beside it", virtual(function()
    local ended = 0
    local e = raised(task.all, {
      function() task.sleep(20) ended = ended + 1 err.raise("internal", "second") end,
      function() task.sleep(10) ended = ended + 1 err.raise("not_found", "first") end,
      function() task.sleep(30) ended = ended + 1 end,
    })
    assert.equal("not_found: first", tostring(e))
    assert.equal("internal: second", tostring(e.others[1]))
    assert.equal(3, ended)
  end))

  it("keeps to its width", virtual(function()
    local now, most = 0, 0
    local fns = {}
    for i = 1, 10 do
      fns[i] = function()
        now = now + 1
        most = math.max(most, now)
        task.sleep(i)
        now = now - 1
        return i
      end
    end
    assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, n = 10 }, task.all(fns, { width = 3 }))
    assert.equal(3, most)
  end))

  it("when cancelled cancels and awaits what runs, and begins nothing more", virtual(function()
    local begun, cleaned = 0, 0
    local function work()
      begun = begun + 1
      pcall(task.sleep, "1h")
      task.shield(task.sleep, 5)
    end
    local t = task.spawn(function()
      task.all({
        function() pcall(work) cleaned = cleaned + 1 end,
        function() pcall(work) cleaned = cleaned + 1 end,
        work,
      }, { width = 2 })
    end)
    task.sleep(1)
    t:cancel()
    raised(t.join, t)
    assert.same({ 2, 2 }, { begun, cleaned })
  end))

  it("lets a bug outrank an outcome", virtual(function()
    local e = raised(task.all, {
      function() err.raise("not_found", "x") end,
      function() error("a bug") end,
    })
    assert.equal("string", type(e))
    assert.truthy(e:find("a bug", 1, true))
  end))

  it("of nothing is nothing", virtual(function()
    assert.same({ n = 0 }, task.all {})
  end))
end)

describe("a signal", function()
  it("wakes all who wait and all who come later, once", virtual(function()
    local s, got = task.signal(), {}
    for i = 1, 3 do
      task.spawn(function() got[i] = s:wait() end)
    end
    task.sleep(1)
    assert.is_false(s:fired())
    assert.is_true(s:fire("v"))
    assert.is_false(s:fire("w"))
    task.sleep(1)
    assert.same({ "v", "v", "v" }, got)
    assert.equal("v", s:wait())
  end))
end)

describe("a queue", function()
  it("gives values in order, waits for one, ends when closed", virtual(function()
    local q = task.queue()
    q:put(1)
    q:put(2)
    assert.equal(2, #q)
    assert.same({ 1, 2 }, { q:get(), q:get() })
    local t = task.spawn(function() return q:get() end)
    task.sleep(1)
    q:put(3)
    assert.equal(3, t:join())
    local u = task.spawn(function() return q:get() end)
    task.sleep(1)
    q:close()
    assert.is_nil(u:join())
    assert.is_nil(q:get())
    assert.equal("failed_precondition", raised(q.put, q, 1).code)
  end))

  it("refuses more than its bound", virtual(function()
    local q = task.queue(2)
    q:put(1)
    q:put(2)
    assert.equal("resource_exhausted", raised(q.put, q, 3).code)
  end))

  it("loses no value to a getter that was cancelled", virtual(function()
    local q = task.queue()
    local t = task.spawn(function() return q:get() end)
    task.sleep(1)
    t:cancel()
    q:put("kept")
    raised(t.join, t)
    assert.equal("kept", q:get())
  end))
end)

describe("an operation queue", function()
  it("runs one at a time in the order of arrival", virtual.seeds(20, function()
    local run, order, inside = task.serial(), {}, 0
    local fns = {}
    for i = 1, 5 do
      fns[i] = function()
        task.sleep(i) -- arrival
        run(function()
          inside = inside + 1
          assert.equal(1, inside)
          task.sleep(10)
          order[#order + 1] = i
          inside = inside - 1
        end)
      end
    end
    task.all(fns)
    assert.same({ 1, 2, 3, 4, 5 }, order)
  end))

  it("goes on after a failure and after a waiter that was cancelled", virtual(function()
    local run = task.serial()
    local first = task.spawn(function() run(function() task.sleep(10) err.raise("internal", "x") end) end)
    local second = task.spawn(function() run(function() error("never") end) end)
    local third = task.spawn(function() return run(function() return "ran" end) end)
    task.sleep(1)
    second:cancel()
    assert.equal("internal", raised(first.join, first).code)
    assert.equal("cancelled", raised(second.join, second).code)
    assert.equal("ran", third:join())
  end))

  it("refuses an operation that would wait for itself", virtual(function()
    local run = task.serial()
    assert.equal("failed_precondition", raised(run, function() run(function() end) end).code)
    assert.equal(1, run(function() return 1 end))
  end))
end)

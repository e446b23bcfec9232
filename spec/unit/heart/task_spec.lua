local clock = require "moonshim.clock"
local err = require "moonshim.err"
local task = require "moonshim.task"
local virtual = require "support.virtual"

local function raised(fn, ...)
  local ok, e = pcall(fn, ...)
  assert.is_false(ok)
  return e
end

-- The same behaviour on both clocks; on the real one with waits of a few milliseconds.
for _, case in ipairs {
  { name = "on luv's loop", clock = clock.real },
  { name = "on virtual time", clock = clock.virtual },
  { name = "on virtual time in seeded order", clock = function() return clock.virtual { seed = 11 } end },
} do
  describe("a run " .. case.name, function()
    local function run(fn)
      return task.run(fn, { clock = case.clock() })
    end

    it("returns what its function returns", function()
      assert.same({ 1, nil, 3, n = 3 }, table.pack(run(function() return 1, nil, 3 end)))
    end)

    it("raises what its function raises, a value untouched", function()
      local value = { strange = true }
      assert.equal(value, raised(run, function() error(value, 0) end))
      assert.equal("gone: x", tostring(raised(run, function() err.raise("gone", "x") end)))
    end)

    it("lets time pass in sleep", function()
      run(function()
        local since = task.now()
        task.sleep("3ms")
        assert.is_true(task.now() - since >= 3)
      end)
    end)

    it("joins a child and gets its results, or its error", function()
      run(function()
        local child = task.spawn(function(a) task.sleep(1) return a, nil, 3 end, 1)
        assert.same({ 1, nil, 3, n = 3 }, table.pack(child:join()))
        assert.is_true(child:done())
        local bad = task.spawn(function() err.raise("not_found", "x") end)
        assert.equal("not_found", raised(bad.join, bad).code)
      end)
    end)

    it("cancels children that nobody joined, and waits for them, when their parent's function ends", function()
      local ended
      run(function()
        task.spawn(function()
          local e = raised(task.sleep, "1h")
          task.shield(task.sleep, 1)
          ended = e.code
        end)
        task.sleep(1)
      end)
      assert.equal("cancelled", ended)
    end)

    it("ends a wait at its deadline, and only what stands under it", function()
      run(function()
        local e = raised(task.deadline, 3, function() task.sleep("1h") end)
        assert.equal("deadline_exceeded", e.code)
        assert.truthy(e.message:find("3ms", 1, true))
        task.sleep(1)
      end)
    end)

    it("runs functions in parallel and keeps their order", function()
      run(function()
        local results = task.all {
          function() task.sleep(4) return "a" end,
          function() task.sleep(1) return "b" end,
          function() end,
        }
        assert.same({ "a", "b", n = 3 }, results)
      end)
    end)

    it("reports a deadlock, naming the tasks and where they wait", function()
      local e = raised(run, function()
        task.spawn(function() task.signal():wait() end):join()
      end)
      assert.equal("internal", e.code)
      assert.truthy(e.message:find("deadlock", 1, true))
      assert.truthy(e.message:find("task_spec.lua", 1, true))
      assert.same({}, task.names())
    end)
  end)
end

describe("a wait", function()
  it("is answered once; later answers are dropped and told so", virtual(function()
    local late
    local v = task.await(function(resume)
      assert.is_true(resume(1))
      late = resume(2)
    end)
    assert.equal(1, v)
    assert.is_false(late)
  end))

  it("raises what resume.fail gives", virtual(function()
    local e = raised(task.await, function(resume) resume.fail(err.new("gone", "x")) end)
    assert.equal("gone", e.code)
  end))

  it("runs its cancel function once, on its own task, when it is cancelled", virtual(function()
    local calls, on = 0, nil
    local t
    t = task.spawn(function()
      task.await(function()
        return function()
          calls, on = calls + 1, task.current()
        end
      end)
    end)
    task.sleep(1)
    t:cancel("enough")
    t:cancel("again")
    assert.equal("cancelled: enough", tostring(raised(t.join, t)))
    assert.equal(1, calls)
    assert.equal(t, on)
  end))

  it("keeps an answer that came before the cancel", virtual(function()
    local give
    local t = task.spawn(function()
      return task.await(function(resume) give = resume end)
    end)
    task.sleep(1)
    assert.is_true(give("kept"))
    t:cancel()
    assert.equal("kept", t:join())
  end))

  it("drops an answer that came after it was cancelled", virtual(function()
    local give
    local t = task.spawn(function()
      return task.await(function(resume) give = resume end)
    end)
    task.sleep(1)
    t:cancel()
    assert.is_false(give("late"))
    assert.equal("cancelled", raised(t.join, t).code)
  end))

  it("drops late answers when its start raised", virtual(function()
    local give
    local e = raised(task.await, function(resume)
      give = resume
      err.raise("unavailable", "could not start")
    end)
    assert.equal("unavailable", e.code)
    assert.is_false(give(1))
  end))

  it("is refused outside a task, in a foreign coroutine, and inside a call that C made", virtual(function()
    assert.equal("failed_precondition", raised(coroutine.wrap(function() task.sleep(1) end)).code)
    local e = raised(table.sort, { 2, 1, 3 }, function() task.sleep(1) return true end)
    assert.truthy(e.message:find("cannot wait here", 1, true))
  end))

  it("outside a run is refused", function()
    assert.equal("failed_precondition", raised(task.sleep, 1).code)
    assert.equal("failed_precondition", raised(task.detach, function() end).code)
  end)
end)

describe("a cancel", function()
  it("keeps a task that was not started from starting", virtual(function()
    local ran = false
    local t = task.spawn(function() ran = true end)
    t:cancel()
    raised(t.join, t)
    assert.is_false(ran)
  end))

  it("stays: every further wait outside a shield raises again", virtual(function()
    local count = 0
    local t = task.spawn(function()
      for _ = 1, 3 do
        if not pcall(task.sleep, "1h") then count = count + 1 end
      end
    end)
    task.sleep(1)
    t:cancel()
    t:join()
    assert.equal(3, count)
    assert.equal(1, task.now())
  end))

  it("of a task that swallows it for ever neither freezes the others nor keeps the run from ending", function()
    local lines, others = nil, 0
    virtual.run(function(v)
      lines = v.lines
      task.spawn(function()
        while true do pcall(task.sleep, 10) end
      end):cancel()
      local stubborn = task.spawn(function()
        while true do pcall(task.sleep, 10) end
      end)
      task.sleep(1)
      stubborn:cancel()
      for _ = 1, 100 do
        task.await(function(resume) task.spawn(resume) end)
        others = others + 1
      end
    end)
    assert.equal(100, others)
    assert.equal(1, #lines)
    assert.truthy(lines[1]:find("abandoned", 1, true))
  end)

  it("does not reach into a shield, and is raised when the shield ends", virtual(function()
    local inside, after = false, false
    local t = task.spawn(function()
      task.shield(function()
        task.sleep(50)
        inside = true
      end)
      after = true
    end)
    task.sleep(1)
    t:cancel()
    assert.equal("cancelled", raised(t.join, t).code)
    assert.is_true(inside)
    assert.is_false(after)
    assert.equal(50, task.now())
  end))

  it("may carry an error value of its own", virtual(function()
    local t = task.spawn(task.sleep, "1h")
    task.sleep(1)
    t:cancel(err.new("aborted", "killed by a signal"))
    assert.equal("aborted", raised(t.join, t).code)
  end))

  it("of the one who joins leaves the joined task alone", virtual(function()
    local worker = task.spawn(function() task.sleep(20) return "done" end)
    local waiter = task.spawn(function() return worker:join() end)
    task.sleep(1)
    waiter:cancel()
    raised(waiter.join, waiter)
    assert.equal("done", worker:join())
  end))

  it("a task that cancels itself ends at its next wait", virtual(function()
    local t = task.spawn(function()
      task.current():cancel("suicide")
      task.sleep(1)
    end)
    assert.equal("cancelled: suicide", tostring(raised(t.join, t)))
  end))
end)

describe("a deadline", function()
  it("nests: an inner one only shortens", virtual(function()
    raised(task.deadline, 10, task.deadline, "1h", task.sleep, "2h")
    assert.equal(10, task.now())
    raised(task.deadline, "1h", task.deadline, 5, task.sleep, "2h")
    assert.equal(15, task.now())
  end))

  it("hands down what remains", virtual(function()
    assert.is_nil(task.remaining())
    task.deadline(100, function()
      task.sleep(30)
      assert.equal(70, task.remaining())
      assert.equal(70, task.all({ task.remaining })[1])
      task.shield(function() assert.is_nil(task.remaining()) end)
    end)
  end))

  it("does not reach into a shield; the shield's own does", virtual(function()
    local e = raised(task.deadline, 5, task.shield, task.deadline, 50, task.sleep, "1h")
    assert.equal("deadline_exceeded", e.code)
    assert.equal(50, task.now())
  end))

  it("lets results through that need no wait", virtual(function()
    assert.same({ 1, 2 }, { task.deadline(0, function() return 1, 2 end) })
  end))

  it("leaves no timer behind", virtual(function()
    for _ = 1, 1000 do
      task.deadline("1h", task.await, function(resume) task.spawn(resume) end)
    end
    assert.is_nil(task.current().run.timers:next_due())
  end))
end)

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

describe("an error in a task that nobody joins", function()
  it("goes to the log, with the place", virtual(function(v)
    task.spawn(function() error("lost?") end)
    task.sleep(1)
    assert.equal(1, #v.lines)
    assert.truthy(v.lines[1]:find("lost?", 1, true))
    assert.truthy(v.lines[1]:find("task_spec.lua", 1, true))
  end))

  it("is not logged when somebody waits for it, nor when it is its own cancel", virtual(function(v)
    local t = task.spawn(function() task.sleep(1) error("seen") end)
    raised(t.join, t)
    local c = task.spawn(task.sleep, "1h")
    task.sleep(1)
    c:cancel()
    task.sleep(1)
    assert.same({}, v.lines)
  end))
end)

describe("a detached task", function()
  it("outlives the task that started it, and ends with the root", function()
    local ended_at
    virtual.run(function()
      task.spawn(function()
        task.detach(function()
          pcall(task.sleep, "1h")
          ended_at = task.now()
        end)
      end):join()
      task.sleep(5)
      assert.is_nil(ended_at)
    end)
    assert.equal(5, ended_at)
  end)

  it("may be started from a luv callback", function()
    local uv = require "luv"
    task.run(function()
      local signal = task.signal()
      local timer = uv.new_timer()
      timer:start(1, 0, function()
        assert(task.current() == nil)
        task.detach(function()
          timer:close()
          signal:fire(task.current())
        end)
      end)
      assert.is_table(signal:wait())
    end)
  end)
end)

describe("a luv callback", function()
  it("never runs user code on the coroutine that asked", function()
    local uv = require "luv"
    task.run(function()
      local mine, theirs = coroutine.running(), nil
      local timer = uv.new_timer()
      task.await(function(resume)
        timer:start(1, 0, function()
          theirs = coroutine.running()
          resume()
        end)
        return function() timer:stop() end
      end)
      timer:close()
      assert.are_not.equal(mine, theirs)
      assert.equal(mine, coroutine.running())
    end)
  end)
end)

describe("task.callback", function()
  it("returns the value, raises the error that the completion brings", virtual(function()
    assert.equal(5, task.callback(function(cb) task.spawn(cb, 5) return true end))
    local e = raised(task.callback, function(cb) task.spawn(cb, nil, { code = "gone", message = "exited" }) return true end)
    assert.equal("gone: exited", tostring(e))
  end))

  it("raises the start's own nil, err", virtual(function()
    local e = raised(task.callback, function() return nil, { code = "invalid_argument", message = "no" } end)
    assert.equal("invalid_argument", e.code)
  end))

  it("cancels a request with the wait", virtual(function()
    local cancelled = 0
    raised(task.deadline, 5, task.callback, function()
      return { cancel = function() cancelled = cancelled + 1 end }
    end)
    assert.equal(1, cancelled)
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

describe("a seed", function()
  local function order(seed)
    local seen = {}
    virtual.run(function()
      local fns = {}
      for i = 1, 8 do
        fns[i] = function() seen[#seen + 1] = i end
      end
      task.all(fns)
    end, { seed = seed })
    return table.concat(seen)
  end

  it("gives the same order every time, and different seeds different ones", function()
    assert.equal(order(3), order(3))
    local different = {}
    for seed = 1, 20 do different[order(seed)] = true end
    local n = 0
    for _ in pairs(different) do n = n + 1 end
    assert.is_true(n > 10)
    assert.equal("12345678", order(nil))
  end)
end)

describe("a second run inside a run", function()
  it("is refused", virtual(function()
    assert.equal("failed_precondition", raised(task.run, function() end).code)
  end))
end)

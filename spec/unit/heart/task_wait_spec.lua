-- What waiting means: one answer, a cancel, a deadline.
local err = require "moonshim.err"
local raised = require "support.raised"
local task = require "moonshim.task"
local virtual = require "support.virtual"

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

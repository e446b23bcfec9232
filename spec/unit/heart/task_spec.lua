-- A run and the tasks in it, on both clocks: results, errors, parents and children, the order. What waiting means is in
-- task_wait_spec.lua, what several tasks do together in task_together_spec.lua.
local clock = require "moonshim.clock"
local err = require "moonshim.err"
local raised = require "support.raised"
local task = require "moonshim.task"
local virtual = require "support.virtual"

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

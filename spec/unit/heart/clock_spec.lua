local clock = require "moonshim.clock"
local Timers = require "moonshim.task.timers"

describe("a duration", function()
  for _, case in ipairs {
    { "100ms", 100 }, { "30s", 30000 }, { "1.5s", 1500 }, { "2m", 120000 }, { "1h", 3600000 }, { 1500, 1500 }, { 0, 0 }, { 0.2, 1 },
  } do
    it(("%s is %d ms"):format(case[1], case[2]), function()
      local ms = clock.ms(case[1])
      assert.equal(case[2], ms)
      assert.equal("integer", math.type(ms))
    end)
  end

  for _, bad in ipairs { "", "5", "s", "-1s", "5 s", "1d", -1, 0 / 0, 1 / 0, 2 ^ 53 + 1, true, {} } do
    it(("that reads %s is refused, saying how to write one"):format(tostring(bad):gsub("0x%x+", "")), function()
      local ok, e = pcall(clock.ms, bad)
      assert.is_false(ok)
      assert.equal("invalid_argument", e.code)
      assert.truthy(e.message:find('"30s"', 1, true))
    end)
  end

  it("nil is refused too", function()
    assert.is_false(pcall(clock.ms, nil))
  end)

  it("is written for people", function()
    assert.same({ "5ms", "1.5s", "30s", "2m", "2m5s" }, {
      clock.text(5), clock.text(1500), clock.text(30000), clock.text(120000), clock.text(125000),
    })
  end)
end)

describe("the virtual clock", function()
  it("jumps to what is due and never goes back", function()
    local c = clock.virtual { start = 5 }
    assert.equal(5, c.now())
    assert.is_true(c.pass(100))
    assert.is_true(c.pass(50))
    assert.equal(100, c.now())
    assert.is_false(c.pass(nil))
  end)
end)

describe("the heap of timers", function()
  it("gives them back in order of time, ties in the order they were set, whatever is dropped meanwhile", function()
    local timers, kept, seed = Timers.new(), {}, 7
    local function random(n)
      seed = (seed * 1103515245 + 12345) % 2147483648
      return seed // 65536 % n + 1
    end
    local all = {}
    for i = 1, 500 do
      local timer = timers:set(random(50), i)
      all[i] = timer
      kept[timer] = true
    end
    for _ = 1, 300 do
      local timer = all[random(500)]
      timers:drop(timer)
      kept[timer] = nil
    end
    local last = { due = 0, seq = 0 }
    local timer = timers:take(math.huge)
    while timer do
      assert.is_true(kept[timer])
      kept[timer] = nil
      assert.is_true(timer.due > last.due or (timer.due == last.due and timer.seq > last.seq))
      last, timer = timer, timers:take(math.huge)
    end
    assert.is_nil(next(kept))
  end)
end)

describe("the real clock", function()
  it("comes back when time is up, although something else that waits never happens", function()
    local uv = require "luv"
    local c = clock.real()
    local never = uv.new_async(function() end)
    local late = uv.new_timer() -- so that a failure is one, and no hang
    local fired = false
    late:start(5000, 0, function() fired = true end)
    for _ = 1, 20 do assert.is_true(c.pass(c.now())) end
    late:close()
    never:close()
    c.close()
    assert.is_false(fired)
  end)
end)

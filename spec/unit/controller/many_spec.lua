-- Many at once: interleavings by seed, what an item costs among many, and the order of what is told.
local events = require "moonshim.events"
local given = require "support.given"
local task = require "moonshim.task"
local virtual = require "support.virtual"

local LAYERED = { "sleep", layers = { "/base.ext4" }, scratch = { size = "64M" } }

-- xorshift of its own: what a seed means must not depend on who else draws numbers.
local function dice(seed)
  local x = seed * 2654435769 + 88172645463325252
  return function(n)
    x = x ~ (x << 13)
    x = x ~ (x >> 7)
    x = x ~ (x << 17)
    return (x & 0x7fffffff) % n + 1
  end
end

local ORDER = { create = 1, start = 2, exit = 3, delete = 4, ["exec-added"] = 1, ["exec-started"] = 2 }

---Each event of each object at most once, in order; an id may come again after its end.
local function check_order(f)
  local seen = {}
  for _, e in ipairs(f.events) do
    local place = ORDER[e.topic]
    if place and e.data.container then
      local key = e.data.container .. "/" .. e.data.exec
      local last = seen[key] or 0
      if e.topic == "exec-added" and last == 1 then last = 0 end -- one that could not be started never was a process
      assert(place > last, ("%s: %s after %d"):format(key, e.topic, last))
      seen[key] = (e.topic == "delete" or e.topic == "exit" and e.data.exec ~= "") and 0 or place
    end
  end
end

local EXPECTED = { cancelled = true, failed_precondition = true, already_exists = true, not_found = true, aborted = true, gone = true,
  deadline_exceeded = true }

---Calls; errors that callers must be ready for when others are at work are answers, anything else fails the spec.
local function try(fn, ...)
  local ok, v = pcall(fn, ...)
  if ok then return v end
  if type(v) ~= "table" or not EXPECTED[v.code] then error(v, 0) end
end

describe("everything at once", function()
  local function chaos(seed, faults)
    local roll = dice(seed)
    local f, pod, vm = given.pod()
    if faults then
      f:fault(function()
        if roll(6) == 1 then return { delay = roll(40) } end
      end)
    end
    local function any()
      local list = pod:containers()
      return list[roll(math.max(1, #list))]
    end
    local verbs = {
      function()
        local c = try(pod.new_container, pod, "c" .. roll(6))
        if not c then return end
        try(c.create, c, given.request(roll(2) == 1 and LAYERED or { roll(3) == 1 and "exit" or "sleep", "7" }))
        task.sleep(roll(5))
        try(c.start, c)
      end,
      function(c)
        local e = try(given.exec, c, { roll(2) == 1 and "exit" or "sleep", "3" }, roll(2) == 1 and "e" .. roll(4) or nil)
        if not e then return end
        task.sleep(roll(3))
        try(e.start, e)
        if roll(2) == 1 then try(task.deadline, roll(20), e.wait, e) end
      end,
      function(c) try(c.kill, c, roll(2) == 1 and 9 or 15, { all = roll(2) == 1 }) end,
      function(c)
        local list = c:list()
        local p = list[roll(#list)]
        if p then try(c.kill, c, 9, { exec = p.id }) end
      end,
      function(c)
        local list = c:list()
        local p = list[roll(#list)]
        if p and p.id ~= "" then try(c.delete_exec, c, p.id) end
      end,
      function(c) try(task.deadline, roll(30), c.wait, c) end,
      function(c) try(task.deadline, roll(200), c.delete, c) end,
      function(c) if roll(3) == 1 then try(c.stop, c) end end,
      function(c)
        assert(c:state().state)
        try(c.pids, c)
        try(vm.plan, vm, "stop", c.owner)
      end,
    }
    local workers = {}
    for i = 1, 8 do
      workers[i] = function()
        for _ = 1, 25 do
          local verb = roll(#verbs)
          local c = any()
          if verb == 1 or not c then verbs[1]() else verbs[verb](c) end
          task.sleep(roll(10))
        end
      end
    end
    task.all(workers)
    for _, c in ipairs(pod:containers()) do try(c.stop, c) end
    assert.same({}, f:leaks { running = true })
    assert.same({}, pod:containers())
    vm:stop()
    check_order(f)
    assert.same({}, f:leaks())
    assert.same({}, f.wrong)
    assert.is_nil(next(f.ledger:states()) and next(f.ledger:states(), "vm"))
  end

  it("at random ends in nothing, with no unexpected error, whatever the order", virtual.seeds(6, function(v)
    chaos(v.seed, false)
  end))

  it("does so when every answer may be late", virtual.seeds(6, function(v)
    chaos(v.seed, true)
  end))
end)

describe("one id", function()
  it("asked for by two execs at once is given to exactly one [#83] (known bug 34)", virtual.seeds(20, function()
    local _, pod, vm = given.pod()
    local c = given.running(pod)
    local won, lost = 0, 0
    local steps = {}
    for i = 1, 4 do
      steps[i] = function()
        local ok, e = pcall(given.exec, c, { "sleep" }, "e1")
        if ok then won = won + 1 elseif e.code == "already_exists" then lost = lost + 1 end
      end
    end
    task.all(steps)
    assert.same({ 1, 3 }, { won, lost })
    vm:stop()
  end))

  it("is free again after its exec was deleted, while others still wait for that one", virtual(function()
    local _, pod, vm = given.pod()
    local c = given.running(pod)
    local first = given.exec(c, { "exit", "4", "10" }, "e1")
    first:start()
    local wait = given.later(first.wait, first)
    first:wait()
    assert.equal(4, c:delete_exec("e1").code)
    local second = given.exec(c, { "exit", "5" }, "e1")
    second:start()
    assert.equal(5, (second:wait()))
    assert.same({ true, 4 }, { wait() })
    vm:stop()
  end))
end)

describe("two creates that share disks", function()
  local function layers(...) return { "sleep", layers = { ... } } end

  it("in opposite order do not wait for each other", virtual.seeds(20, function()
    local f, pod, vm = given.pod()
    f:fault(function(op) return (op == "host.attach" or op == "guest.mount") and { delay = 50 } or nil end)
    task.all {
      function() given.created(pod, layers("/a.ext4", "/b.ext4"), "one") end,
      function() given.created(pod, layers("/b.ext4", "/a.ext4"), "two") end,
    }
    assert.equal(100, task.now()) -- one attach and one mount deep, not more
    assert.equal(2, #f:called("^host.attach"))
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("both wait for the one attach, and both learn that it failed; the next try starts clean", virtual.seeds(10, function()
    local f, pod, vm = given.pod()
    local broken = true
    f:fault(function(op)
      if op ~= "host.attach" then return end
      task.sleep(2000)
      return broken and "fail" or nil
    end)
    local one = given.later(given.created, pod, layers("/a.ext4"), "one")
    local two = given.later(given.created, pod, layers("/a.ext4"), "two")
    assert.is_false((one()))
    assert.is_false((two()))
    assert.same({}, f:leaks { running = true })
    broken = false
    given.created(pod, layers("/a.ext4"), "three")
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("take a shared layer down with the last of them, in any order of going (known bug 103)", virtual.seeds(20, function(v)
    local roll = dice(v.seed)
    local f, pod, vm = given.pod()
    for i = 1, 3 do given.running(pod, layers("/a.ext4", "/b.ext4", "/c.ext4"), "c" .. i) end
    assert.equal(3, #f:called("^host.attach"))
    while #pod:containers() > 0 do
      assert.equal(0, #f:called("^host.detach"))
      local list = pod:containers()
      list[roll(#list)]:stop()
    end
    assert.equal(3, #f:called("^host.detach"))
    vm:stop()
    assert.same({}, f.wrong)
  end))
end)

describe("what is told of a process", function()
  it("that ends at once comes in order, 1000 times [#226]", virtual.seeds(4, function()
    local f, pod, vm = given.pod()
    local c = given.running(pod)
    local steps = {}
    for i = 1, 250 do
      steps[i] = function()
        local e = given.exec(c, { "exit", i % 256 }, nil, { forget = true })
        e:start()
        assert.equal(i % 256, (e:wait()))
      end
    end
    task.all(steps, { width = 16 })
    task.sleep(10)
    check_order(f)
    local told = {}
    for _, e in ipairs(f.events) do told[e.topic] = (told[e.topic] or 0) + 1 end
    assert.same({ 250, 250, 250 }, { told["exec-added"], told["exec-started"], told.exit })
    vm:stop()
  end))

  it("reaches whoever waits after the end, and whoever follows late (known bug 77)", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod, { "exit", "9" })
    c:wait()
    task.sleep("1h")
    assert.equal(9, (c:wait()))
    local stream = vm.events:follow { since = 0, wanted = function(e) return e.topic == "exit" end }
    assert.equal(9, stream:next().data.code)
    vm:stop()
    assert.is_nil(stream:next())
    assert.same({}, f:leaks())
  end))
end)

describe("a stream of events", function()
  it("gives everyone everything, at their own pace", virtual(function()
    local f, _, vm = given.pod()
    local fast, slow = vm.events:follow(), vm.events:follow()
    local heard = {}
    local reader = task.spawn(function()
      for e in function() return fast:next() end do heard[#heard + 1] = e.data.n end
    end)
    for i = 1, 50 do
      vm:emit("tick", { n = i })
      if i % 10 == 0 then task.sleep(1) end
    end
    task.sleep(1)
    assert.equal(50, #heard)
    for i = 1, 50 do assert.equal(i, slow:poll().data.n) end
    assert.is_nil(slow:poll())
    fast:close()
    reader:join()
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("tells a reader that is too slow how much it missed; nobody waits for it and nothing grows (known bug 79)", virtual(function()
    local _, _, vm = given.pod()
    local stream = vm.events:follow()
    for i = 1, 5000 do vm:emit("tick", { n = i }) end
    assert.is_true(#vm.ledger:events() <= 1280)
    local first = stream:poll()
    assert.equal("missed", first.topic)
    local rest = 0
    while stream:poll() do rest = rest + 1 end
    assert.equal(5000, first.data.count + rest)
    vm:stop()
  end))

  it("ends with the VM, also for who waits", virtual(function()
    local _, _, vm = given.pod()
    local stream = vm.events:follow { wanted = function(e) return e.topic == "never" end }
    local wait = given.later(stream.next, stream)
    task.sleep(5)
    vm:stop()
    local ok, event = wait()
    assert.is_true(ok)
    assert.is_nil(event)
  end))

  it("may be left by a reader that is cancelled", virtual(function()
    local _, _, vm = given.pod()
    local stream = vm.events:follow()
    local wait, t = given.later(stream.next, stream)
    task.sleep(5)
    t:cancel()
    assert.is_false((wait()))
    vm:emit("tick", { n = 1 })
    assert.equal(1, stream:next().data.n)
    vm:stop()
  end))

  it("can be made of any ledger", virtual(function()
    local ledger = { list = {}, events = function(self) return self.list end }
    local source = events.source(ledger)
    local stream = source:follow()
    assert.is_nil(stream:poll())
    ledger.list[1] = { seq = 1, topic = "a", at = 0 }
    source:added()
    assert.equal("a", stream:next().topic)
    source:close()
    assert.is_nil(stream:next())
  end))
end)

-- Lua instructions that a function takes, in tasks that it starts, too: what a clock would say, without the clock.
-- luacheck: push ignore 122 (there is no other way into coroutines that others make)
local function instructions(fn)
  local count, create = 0, coroutine.create
  local function hook() count = count + 100 end
  coroutine.create = function(f)
    local co = create(f)
    debug.sethook(co, hook, "", 100)
    return co
  end
  debug.sethook(hook, "", 100)
  local ok, e = pcall(fn)
  debug.sethook()
  coroutine.create = create
  if not ok then error(e, 0) end
  return count
end

-- luacheck: pop

describe("the cost of one among many", function()
  ---Costs per item of a life of n containers: { execs, plan, stop }.
  local function costs(n)
    local out = {}
    virtual.run(function()
      local f, pod, vm = given.pod()
      for i = 1, n do given.running(pod, { "sleep", layers = { "/base.ext4" } }, "c" .. i) end
      local c = pod:container("c1")
      out.exec = instructions(function()
        for _ = 1, n do
          local e = given.exec(c, { "exit", "0" }, nil, { forget = true })
          e:start()
          e:wait()
          e.released:wait()
        end
      end) / n
      out.plan = instructions(function() vm:plan("stop") end) / n
      out.validate = instructions(function() vm:plan("stop"):validate() end) / n
      out.stop = instructions(function() vm:stop() end) / n
      assert.same({}, f:leaks())
    end)
    return out
  end

  it("is the same with 40 as with 240: an exec, a plan, a stop", function()
    local few, many = costs(40), costs(240)
    for what, cost in pairs(many) do
      -- A logarithm (sorting) and the fake's own lists are in it; anything quadratic would be a factor of 3 and more.
      assert(cost < 1.6 * few[what], ("%s: %.0f with 40, %.0f with 240"):format(what, few[what], cost))
    end
  end)

  it("leaves no memory behind: 1,700 execs, 170 containers one after the other", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod)
    local function live()
      f.ledger:compact()
      collectgarbage()
      collectgarbage()
      return collectgarbage("count")
    end
    local function work(n)
      for i = 1, n do
        local e = given.exec(c, { "exit", "0" }, nil, { forget = true })
        e:start()
        e:wait()
        e.released:wait()
        if i % 10 == 0 then
          local d = given.running(pod, { "exit", "0" }, "d" .. i)
          d:wait()
          d:delete()
        end
        f.calls, f.events, f.signals, f.opened, f.processes = {}, {}, {}, {}, { [c.init.pid] = f.processes[c.init.pid] }
      end
    end
    work(700) -- the ledger's history is full from then on; it is cut in lumps of a few hundred entries
    local before = live()
    work(1000)
    assert(live() < before + 300, ("%.0f KiB before, %.0f after"):format(before, live()))
    vm:stop()
  end))
end)


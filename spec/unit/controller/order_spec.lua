-- What is told of containers and execs, whatever order the guest answers in: an answer may come long after its effect, so
-- an exit is seen, and told by a notification, before the create, the start or the execute was answered.
local given = require "support.given"
local signals = require "moonshim.signals"
local task = require "moonshim.task"
local virtual = require "support.virtual"

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

---A VM whose guest answers each call at a time of its own and says more than it is asked.
local function unruly(seed)
  local roll = dice(seed)
  local f, pod, vm = given.pod()
  f.late = function() return roll(3) > 1 and roll(30) or nil end
  f:fault(function(op) return op:find "^guest" and roll(3) == 1 and { delay = roll(10) } or nil end)
  f.init_ended = function(id)
    for _ = 1, roll(3) - 1 do f:notify(id, "UnexpectedExit") end
    task.detach(function()
      task.sleep(roll(40))
      if f.running then f:notify(id, "UnexpectedExit") end
    end)
  end
  return f, pod, vm, roll
end

---A program, and the codes that it may end with when `kill` is sent to it at any time after its start was asked for.
local function program(roll)
  local code, signal = roll(256) - 1, ({ 1, 2, 9, 15 })[roll(4)]
  local kind = roll(4)
  if kind == 1 then return { "exit", code }, { [code] = true } end -- ends before the start is answered
  if kind == 2 then return { "exit", code, roll(60) }, { [code] = true } end
  if kind == 3 then return { "sleep" }, { [128 + signal] = true }, signal end
  return { "exit", code, roll(60) }, { [code] = true, [128 + signal] = true }, signal
end

---Kills after a while, as often as it takes: a kill is sent to who runs.
local function kill_later(roll, process, signal, exec)
  return given.later(function()
    task.sleep(roll(40))
    process:kill(signal, { exec = exec })
  end)
end

local function codes_of(f, container, exec)
  local out = {}
  for _, e in ipairs(f.events) do
    if e.topic == "exit" and e.data.container == container and e.data.exec == exec then out[#out + 1] = e.data.code end
  end
  return out
end

local function topics_of(f, container, exec)
  local out = {}
  for _, e in ipairs(f.events) do
    if e.data.container == container and e.data.exec == exec then out[#out + 1] = e.topic end
  end
  return out
end

describe("whatever the timing of the guest, given a container", function()
  it("create, start, exit and delete are told once each, in order, with its code (known bugs 75, 76, 81)", virtual.seeds(25, function(v)
    local f, pod, vm, roll = unruly(v.seed)
    local steps = {}
    for i = 1, 8 do
      steps[i] = function()
        local id = "c" .. i
        local args, codes, signal = program(roll)
        local c = pod:new_container(id)
        c:create(given.request(args))
        local waits = { (given.later(c.wait, c)) }
        local kill = signal and kill_later(roll, c, signal)
        c:start()
        waits[2] = given.later(c.wait, c)
        local code = c:wait()
        if kill then kill() end
        assert(codes[code], ("%s ended with %d"):format(id, code))
        for _, wait in ipairs(waits) do assert.same({ true, code }, { wait() }) end
        assert.same({ code }, codes_of(f, id, ""))
        local deletes = { (given.later(c.delete, c)), (given.later(c.delete, c)) }
        for _, delete in ipairs(deletes) do delete() end
        assert.equal(code, (c:wait()))
        assert.same({ "create", "start", "exit", "delete" }, topics_of(f, id, ""))
      end
    end
    task.all(steps)
    task.sleep(100) -- what the guest had yet to say
    for i = 1, 8 do assert.same({ "create", "start", "exit", "delete" }, topics_of(f, "c" .. i, "")) end
    vm:stop()
    assert.same({}, f:leaks())
    assert.same({}, f.wrong)
  end))

  it("it is refused by the guest in the end: nothing is told of a process that never ran (known bug 64)", virtual.seeds(10, function(v)
    local f, pod, vm = unruly(v.seed)
    local c = given.created(pod, { "missing" })
    given.error(c.start, c)
    c:delete()
    assert.same({ "create", "delete" }, topics_of(f, "c", ""))
    local again = given.running(pod, { "exit", "3" }, "c")
    assert.equal(3, (again:wait()))
    vm:stop()
    assert.same({}, f:leaks())
  end))
end)

describe("whatever the timing of the guest, given execs", function()
  it("exec-added, exec-started and exit are told once each, in order, with their codes (known bugs 32, 75)", virtual.seeds(15, function(v)
    local f, pod, vm, roll = unruly(v.seed)
    local c = given.running(pod, { "sleep" })
    local steps = {}
    for i = 1, 20 do
      steps[i] = function()
        local id = "e" .. i
        local args, codes, signal = program(roll)
        local e = given.exec(c, args, id)
        local wait = given.later(e.wait, e)
        local kill = signal and kill_later(roll, c, signal, id)
        e:start()
        local code = e:wait()
        if kill then kill() end
        assert(codes[code], ("%s ended with %d"):format(id, code))
        assert.same({ true, code }, { wait() })
        assert.same({ "exec-added", "exec-started", "exit" }, topics_of(f, "c", id))
        assert.same({ code }, codes_of(f, "c", id))
      end
    end
    task.all(steps)
    c:stop()
    for i = 1, 20 do assert.same({ "exec-added", "exec-started", "exit" }, topics_of(f, "c", "e" .. i)) end
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("that end with their container: their exit comes before its own, each once", virtual.seeds(15, function(v)
    local f, pod, vm, roll = unruly(v.seed)
    local c = given.running(pod, { "exit", "4", 20 + roll(40) })
    local started = {}
    local steps = {}
    for i = 1, 5 do
      steps[i] = function()
        local ok, e = pcall(given.exec, c, { "sleep" }, "e" .. i)
        if ok then started[i] = pcall(e.start, e) end
      end
    end
    task.all(steps)
    assert.equal(4, (c:wait()))
    c:delete()
    task.sleep(100)
    for i = 1, 5 do
      local topics = topics_of(f, "c", "e" .. i)
      if started[i] then
        assert.same({ "exec-added", "exec-started", "exit" }, topics)
        assert.same({ 137 }, codes_of(f, "c", "e" .. i))
      else
        assert.not_equal("exec-started", topics[2])
      end
    end
    assert.same({ "create", "start", "exit", "delete" }, topics_of(f, "c", ""))
    vm:stop()
    assert.same({}, f:leaks())
  end))
end)

describe("a signal's status", function()
  it("is 128 + n, for init and for an exec, and plain codes are as they are (known bug 63)", virtual(function()
    local f, pod, vm = given.pod()
    for _, name in ipairs { "HUP", "INT", "QUIT", "KILL", "SEGV", "TERM", "RTMIN+3" } do
      local number = signals.number(name)
      local c = given.running(pod, { "sleep" }, "c")
      local e = given.exec(c, { "sleep" }, "e")
      e:start()
      c:kill(number, { exec = "e" })
      assert.equal(128 + number, (e:wait()))
      c:kill(number)
      assert.equal(128 + number, (c:wait()))
      c:delete()
    end
    for _, code in ipairs { 0, 1, 126, 127, 137, 255 } do
      local c = given.running(pod, { "exit", code }, "c")
      assert.equal(code, (c:wait()))
      c:delete()
    end
    vm:stop()
    assert.same({}, f:leaks())
  end))
end)

describe("a TERM that is not obeyed", function()
  it("is never followed by a KILL that nobody asked for (known bug 73)", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod, { "stubborn" })
    c:kill(15)
    task.sleep("24h")
    assert.equal("running", c:state().state)
    assert.same({ "c/101 15" }, f.signals)
    c:kill(9)
    assert.equal(137, (c:wait()))
    vm:stop()
    assert.same({}, f:leaks())
  end))
end)

describe("ids that begin like each other", function()
  it("are told apart by what is deleted, listed and held (known bug 152)", virtual(function()
    local f, pod, vm = given.pod()
    local made = {}
    for _, id in ipairs { "a", "ab", "abc", "A" } do made[id] = given.running(pod, { "sleep", layers = { "/base.ext4" } }, id) end
    local e = given.exec(made.ab, { "sleep" }, "a")
    e:start()
    made.a:stop()
    assert.same({}, f.ledger:under(made.a.owner))
    for _, id in ipairs { "ab", "abc", "A" } do assert.equal("running", made[id]:state().state) end
    assert.equal("not_found", given.error(pod.container, pod, "a").code)
    made.ab:kill(9, { exec = "a" })
    assert.equal(137, (e:wait()))
    made.abc:stop()
    assert.equal("running", made.ab:state().state)
    vm:stop()
    assert.same({}, f:leaks())
    assert.same({}, f.wrong)
  end))
end)

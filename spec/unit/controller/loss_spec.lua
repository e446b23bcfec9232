local fake_vm = require "support.fake_vm"
local given = require "support.given"
local policy = require "moonshim.policy"
local task = require "moonshim.task"
local virtual = require "support.virtual"

-- A policy whose answer to a loss is given: { bridge = { "wait", "10s" }, ... }.
local function deciding(answers)
  local p = policy.load()
  p.vm = setmetatable({
    on_lost = function(kind)
      local answer = answers[kind] or { "end" }
      return answer[1], answer[2]
    end,
  }, { __index = p.vm })
  return p
end

local function exits(f)
  local out = {}
  for _, e in ipairs(f.events) do
    if e.topic == "exit" then
      local key = e.data.container .. (e.data.exec ~= "" and "/" .. e.data.exec or "")
      assert.is_nil(out[key], key .. " exited twice")
      out[key] = e.data.code
    end
  end
  return out
end

local function script(text)
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
  return path
end

describe("a connection that breaks while the agent calls again", function()
  it("changes nothing: containers run on, and their own exit codes are learnt", virtual(function()
    local f, pod, vm = given.pod()
    local a, b = given.running(pod, { "exit", 3, 1000 }, "a"), given.running(pod, { "sleep" }, "b")
    local e1 = given.exec(a, { "exit", "4", "500" }, "e1")
    e1:start()
    f:break_bridge()
    task.sleep(200)
    assert.equal("running", vm.machine:state())
    assert.is_table(f:event("guest-lost"))
    assert.is_table(f:event("guest-back"))
    assert.equal(4, (e1:wait()))
    assert.equal(3, (a:wait()))
    b:kill("TERM")
    assert.equal(143, (b:wait()))
    assert.same({ a = 3, ["a/e1"] = 4, b = 143 }, exits(f))
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("again and again, and nothing is ever told twice", virtual.seeds(5, function()
    local f, pod, vm = given.pod()
    local c = given.running(pod, { "exit", 7, 5000 })
    for _ = 1, 10 do
      f:break_bridge()
      task.sleep(200)
    end
    assert.equal(7, (c:wait()))
    assert.same({ c = 7 }, exits(f))
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("is asked with new ids, never with one that was used", virtual(function()
    local f, pod, vm = given.pod()
    given.running(pod)
    local first = f.bridge
    f:break_bridge()
    task.sleep(200)
    assert.not_equal(first, f.bridge)
    assert.is_true(f.bridge.handlers.first_id > first.last)
    vm:stop()
  end))

  it("brings an exit that was missed meanwhile", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod, { "exit", 9, 300 })
    f.deaf = true
    f:break_bridge()
    task.sleep(2000)
    assert.equal("reconnecting", vm.machine:state())
    assert.equal("running", c:state().state)
    f.deaf = nil
    assert.equal(9, (c:wait()))
    vm:stop()
  end))

  it("says unknown, never 0, for a process that the guest has forgotten [#399]", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod)
    local e = given.exec(c, { "sleep" }, "e")
    e:start()
    f.deaf = true
    f:break_bridge()
    f.processes[e.pid] = nil
    f.deaf = nil
    local code, reason = e:wait()
    assert.equal(255, code)
    assert.is_truthy(reason:find("no such process", 1, true), reason)
    vm:stop()
  end))

  it("makes what is asked meanwhile wait, and answers it then", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod)
    f.deaf = true
    f:break_bridge()
    task.sleep(200)
    local kill = given.later(c.kill, c, "TERM")
    local create = given.later(given.created, pod, { "sleep" }, "late")
    task.sleep(3000)
    assert.equal("running", c:state().state)
    f.deaf = nil
    assert.is_true(kill())
    assert.equal(143, (c:wait()))
    assert.is_true((create()))
    vm:stop()
    assert.same({}, f:leaks())
  end))

  for _, op in ipairs { "guest.create", "guest.mount", "guest.combine", "guest.map" } do
    it(("leaves a change that was under way unknown, and it is undone: " .. op), virtual(function()
      local f, pod, vm = given.pod()
      local done = false
      f:fault(function(call)
        if call ~= op or done then return end
        done = true
        task.detach(function() f:break_bridge() end)
        return { delay = 5 } -- it happens all the same, and nobody hears of it
      end)
      local e = given.error(given.created, pod, given.FULL)
      assert.equal("unavailable", e.code)
      task.sleep(60000)
      assert.same({}, f:leaks { running = true })
      local c = given.running(pod, given.FULL)
      vm:stop()
      assert.equal("deleted", c:state().state)
      assert.same({}, f:leaks())
      assert.same({}, f.wrong)
    end))
  end

  it("in the middle of a stop does not keep it from its end", virtual.seeds(5, function()
    for n = 1, 12 do
      local f, pod, vm = given.pod()
      given.running(pod, given.FULL)
      local count = 0
      f:fault(function(call)
        if not call:find("^guest") then return end
        count = count + 1
        if count == n then f:break_bridge() end
      end)
      vm:stop()
      assert.same({}, f:leaks())
      assert.equal("ended", vm.machine:state())
    end
  end))
end)

describe("a connection that stays broken", function()
  it("ends the VM after the limit; every process has one exit, and everything is released [#374]", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod, given.FULL)
    f.deaf = true
    f:break_bridge()
    local code, reason = c:wait()
    assert.equal(255, code)
    assert.is_string(reason)
    task.sleep(60000)
    assert.same({ c = 255 }, exits(f))
    assert.equal("lost", vm.machine:state())
    assert.same({}, f:leaks { running = true })
    assert.is_falsy(f.running)
    assert.equal("stopped", c:state().state)
    c:delete()
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("fails what waits for it in bounded time", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod)
    f.deaf = true
    f:break_bridge()
    task.sleep(200)
    local from = task.now()
    local e = given.error(c.stats, c)
    assert.equal("unavailable", e.code)
    assert.is_true(task.now() - from <= 15000, tostring(task.now() - from))
    vm:stop()
  end))

  it("is only marked when the policy says so: new containers are refused at once, old ones go on [#374]", virtual(function()
    local f, pod, vm = given.pod { policy = deciding { bridge = { "mark" } } }
    local c = given.running(pod, { "exit", 5, 3000 })
    f.deaf = true
    f:break_bridge()
    task.sleep(1000)
    assert.equal("unreachable", vm.machine:state())
    local from = task.now()
    assert.equal("unavailable", given.error(pod.new_container, pod, "late").code)
    assert.equal("unavailable", given.error(c.kill, c, "TERM").code)
    assert.equal("unavailable", given.error(c.stats, c).code)
    assert.equal(from, task.now())
    assert.equal("running", c:state().state)
    task.sleep(600000)
    assert.is_true(f.running)
    assert.same({}, exits(f))
    f.deaf = nil
    assert.equal(5, (c:wait()))
    assert.equal("running", vm.machine:state())
    given.running(pod, { "sleep" }, "late")
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("that is marked can be stopped", virtual(function()
    local f, pod, vm = given.pod { policy = deciding { bridge = { "mark" } } }
    local c = given.running(pod, given.FULL)
    f.deaf = true
    f:break_bridge()
    task.sleep(1000)
    vm:stop()
    assert.same({ 137, "ended with its VM" }, { c:wait() })
    assert.same({}, f:leaks())
  end))

  it("ends the VM at once when the policy says so", virtual(function()
    local f, pod, vm = given.pod { policy = deciding { bridge = { "end" } } }
    local c = given.running(pod)
    f:break_bridge()
    assert.equal(255, (c:wait()))
    assert.is_true(task.now() < 5000)
    task.sleep(10000)
    assert.is_falsy(f.running)
    assert.is_nil(f:event("guest-back"))
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("asks the policy again when it waited in vain", virtual(function()
    local f, pod, vm = given.pod { policy = deciding { bridge = { "wait", "3s" }, agent = { "mark" } } }
    given.running(pod)
    f.deaf = true
    f:break_bridge()
    task.sleep(2000)
    assert.equal("reconnecting", vm.machine:state())
    task.sleep(2000)
    assert.equal("unreachable", vm.machine:state())
    f.deaf = nil
    task.sleep(100)
    assert.equal("running", vm.machine:state())
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("while the VM dies is the loss of the VM", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod)
    f.deaf = true
    f:break_bridge()
    task.sleep(1000)
    f:die()
    assert.equal(255, (c:wait()))
    assert.is_table(f:event("vm-lost"))
    task.sleep(60000)
    assert.same({ c = 255 }, exits(f))
    vm:stop()
    assert.same({}, f:leaks())
  end))
end)

describe("a VM that dies", function()
  it("has everything released without being asked; its containers can still be asked and deleted [#372] [#373]", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod, given.FULL)
    local e = given.exec(c, { "sleep" }, "e")
    e:start()
    f:die()
    assert.equal(255, (c:wait()))
    assert.equal(255, (e:wait()))
    task.sleep(30000)
    assert.same({}, f:leaks())
    assert.equal("stopped", c:state().state)
    c:delete()
    assert.same({ c = 255, ["c/e"] = 255 }, exits(f))
    assert.equal("ended", (vm:stop() or vm) and vm.machine:state())
  end))

  it("keeps what it held until it is deleted when the policy says so", virtual(function()
    local f, pod, vm = given.pod { policy = deciding { vm = { "mark" } } }
    local c = given.running(pod, given.FULL)
    f:die()
    assert.equal(255, (c:wait()))
    task.sleep(60000)
    assert.is_true(#f:leaks() > 0)
    c:delete()
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("while everything waits for its agent lets everything go [#396]", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod)
    f.deaf = true
    f:break_bridge()
    task.sleep(200)
    local asked = {}
    for i = 1, 5 do asked[i] = given.later(c.stats, c) end
    f:die()
    for i = 1, 5 do
      local ok, e = asked[i]()
      assert.is_false(ok)
      assert.equal("unavailable", e.code)
    end
    vm:stop()
    assert.same({}, f:leaks())
  end))
end)

describe("an operator's script", function()
  local function with(text, fn)
    return virtual(function()
      local path = script(text)
      local f = fake_vm.new()
      local vm = f:vm { operator = path }
      os.remove(path)
      fn(f, vm:new_pod("p"), vm)
      vm:stop()
      assert.same({}, f:leaks())
    end)
  end

  it("decides what a loss means", with([[return { api = 1, on_lost = function(kind)
    if kind == "bridge" then return "wait", "1s" end
    return "mark"
  end }]], function(f, pod, vm)
    given.running(pod)
    f.deaf = true
    f:break_bridge()
    task.sleep(500)
    assert.equal("reconnecting", vm.machine:state())
    task.sleep(1000)
    assert.equal("unreachable", vm.machine:state())
    assert.is_nil(f:event("policy-fallback"))
  end))

  it("may leave it to the default", with([[return { api = 1, on_lost = function() end }]], function(f, pod, vm)
    given.running(pod)
    f:break_bridge()
    task.sleep(200)
    assert.equal("running", vm.machine:state())
    assert.is_nil(f:event("policy-fallback"))
  end))

  for name, body in pairs {
    ["that fails"] = "error('no idea')", ["that says something else"] = "return 'panic'", ["that waits for the dead"] = "return 'wait'",
    ["that never ends"] = "while true do end",
  } do
    it(name .. " is reported, and the default holds", with("return { api = 1, on_lost = function() " .. body .. " end }", function(f, pod)
      local c = given.running(pod)
      f:die()
      assert.equal(255, (c:wait()))
      task.sleep(30000)
      assert.is_table(f:event("policy-fallback"))
      assert.same({}, f:leaks())
    end))
  end

  it("is refused when on_lost is no function", virtual(function()
    local path = script "return { api = 1, on_lost = 'end' }"
    local e = given.error(policy.load, { operator = path })
    os.remove(path)
    assert.equal("invalid_argument", e.code)
    assert.is_truthy(e.message:find("on_lost must be a function", 1, true), e.message)
  end))
end)

describe("an agent that answers nothing", function()
  it("does not keep state from answering, and a stop ends the VM [#683] [#392]", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod, given.FULL)
    local e = given.exec(c, { "sleep" }, "e")
    e:start()
    f:fault(function(op) return op:find("^guest") and "hang" or nil end)
    local from = task.now()
    local stats = given.later(c.stats, c)
    assert.equal("running", c:state().state)
    assert.equal(from, task.now())
    assert.is_false((stats()))
    assert.is_true(task.now() - from <= 10000)
    assert.equal("open", vm.world.guest.state)
    vm:stop()
    assert.is_true(task.now() - from < 120000, tostring(task.now() - from))
    assert.same({}, f:leaks())
    assert.same({ c = 137, ["c/e"] = 137 }, exits(f))
  end))

  it("to one request answers the others [#392]", virtual(function()
    local f, pod, vm = given.pod()
    local a = given.running(pod, { "sleep" }, "a")
    local b = given.running(pod, { "sleep" }, "b")
    f:fault(function(op, _, id) return op == "guest.signal" and id == "a" and "hang" or nil end)
    local stuck = given.later(a.kill, a, "TERM")
    b:kill("TERM")
    assert.equal(143, (b:wait()))
    assert.is_false((stuck()))
    f:fault(nil)
    a:kill("TERM")
    assert.equal(143, (a:wait()))
    vm:stop()
  end))
end)

describe("what watches a VM", function()
  it("goes on when the caller of the boot has gone [#363]", virtual(function()
    local f = fake_vm.new()
    local vm
    local caller = task.spawn(function()
      vm = f:vm()
      task.signal():wait()
    end)
    task.sleep(10)
    caller:cancel()
    f:die()
    task.sleep(10)
    assert.is_table(f:event("vm-lost"))
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("lets no VM that is lost or ended be booted again [#365]", virtual(function()
    local f = fake_vm.new()
    local vm = f:vm()
    f:die()
    task.sleep(10)
    assert.equal("failed_precondition", given.error(vm.boot, vm).code)
    vm:stop()
    assert.equal("failed_precondition", given.error(vm.boot, vm).code)
  end))

  it("does not keep the id of a container whose create the guest refused [#395]", virtual(function()
    local f, pod, vm = given.pod()
    local refused = false
    f:fault(function(op)
      if op ~= "guest.create" or refused then return end
      refused = true
      return "fail"
    end)
    given.error(given.created, pod)
    local c = given.running(pod, { "exit", 2 })
    assert.equal(2, (c:wait()))
    vm:stop()
    assert.same({}, f:leaks())
  end))
end)

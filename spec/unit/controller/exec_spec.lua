local given = require "support.given"
local task = require "moonshim.task"
local virtual = require "support.virtual"

describe("execs", function()
  it("of one id that are asked for at once: one gets it [#83]", virtual.seeds(10, function()
    local _, pod, vm = given.pod()
    local c = given.running(pod)
    local won, lost, steps = 0, 0, {}
    for i = 1, 2 do
      steps[i] = function()
        local ok, e = pcall(given.exec, c, { "sleep" }, "e1")
        if ok then won = won + 1 elseif e.code == "already_exists" then lost = lost + 1 end
      end
    end
    task.all(steps)
    assert.same({ 1, 1 }, { won, lost })
    c:process("e1"):start()
    assert.equal("already_exists", given.error(given.exec, c, { "sleep" }, "e1").code)
    assert.equal("running", c:process("e1"):state().state)
    vm:stop()
  end))

  it("whose streams cannot be opened leave the id free [#84]", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod)
    f.refuse_streams = true
    assert.equal("resource_exhausted", given.error(given.exec, c, { "sleep" }, "e1").code)
    f.refuse_streams = false
    given.exec(c, { "exit", 0 }, "e1"):start()
    assert.same({ "create", "start", "exec-added e1", "exec-started e1" }, { table.unpack(f:topics("c"), 1, 4) })
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("are listed as copies, init first [#85]", virtual(function()
    local _, pod, vm = given.pod()
    local c = given.running(pod)
    local e = given.exec(c, { "sleep" }, "e1")
    local list = c:list()
    assert.same({ c.init, e }, list)
    list[1] = nil
    assert.same({ c.init, e }, c:list())
    vm:stop()
  end))

  it("that run cannot be deleted [#72]", virtual(function()
    local _, pod, vm = given.pod()
    local c = given.running(pod)
    local e = given.exec(c, { "sleep" }, "e1")
    e:start()
    assert.equal("failed_precondition", given.error(c.delete_exec, c, "e1").code)
    assert.equal(e, c:process("e1"))
    vm:stop()
  end))

  it("that ended are deleted once [#73]", virtual(function()
    local _, pod, vm = given.pod()
    local c = given.running(pod)
    local e = given.exec(c, { "exit", 6 }, "e1")
    e:start()
    e:wait()
    assert.equal(6, c:delete_exec("e1").code)
    assert.equal("not_found", given.error(c.delete_exec, c, "e1").code)
    vm:stop()
  end))

  it("work in a container that is created, and take a deleted one's id", virtual(function()
    local _, pod, vm = given.pod()
    local c = given.created(pod)
    given.exec(c, { "sleep" }, "e1")
    c:delete_exec("e1")
    given.exec(c, { "sleep" }, "e1")
    vm:stop()
  end))

  it("release what they held as soon as they end", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod)
    local held = #vm.ledger:all()
    for i = 1, 20 do
      local e = given.exec(c, { "exit", i })
      e:start()
      assert.equal(i, (e:wait()))
    end
    given.settle()
    assert.equal(held, #vm.ledger:all())
    assert.equal(1, #(function()
      local open = {}
      for _, name in pairs(f.streams) do open[#open + 1] = name end
      return open
    end)())
    vm:stop()
  end))

  it("200 at once: 200 exits, each once, each after its start", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod)
    local steps = {}
    for i = 1, 200 do
      steps[i] = function()
        local e = given.exec(c, { "exit", 0 }, "e" .. i)
        e:start()
        return e:wait()
      end
    end
    task.all(steps)
    local seen = {}
    for _, e in ipairs(f.events) do
      local id = e.data.exec
      if id and id ~= "" then seen[id] = (seen[id] or "") .. e.topic .. " " end
    end
    for i = 1, 200 do assert.equal("exec-added exec-started exit ", seen["e" .. i]) end
    vm:stop()
  end))

  for _, id in ipairs { "a/b", "..", "a b", ("x"):rep(77) } do
    it(("refuse the id %q"):format(id:sub(1, 12)), virtual(function()
      local _, pod, vm = given.pod()
      local c = given.running(pod)
      assert.equal("invalid_argument", given.error(given.exec, c, { "sleep" }, id).code)
      vm:stop()
    end))
  end
end)

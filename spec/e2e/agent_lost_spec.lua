local agent = require "support.agent"
local gcs = require "support.gcs"
local stop = require "support.stop"
local uv = require "luv"

agent.describe("the agent of a local UVM", function()
  local vm, container_root
  local here = agent.root()
  agent.vm(function(booted, at) vm, container_root = booted, at end, here)

  local function sh(line, over) return gcs.spec(container_root, { "sh", "-c", line }, over) end

  local function wait_result(container, pid)
    return vm:call("wait", container, { ProcessId = pid, TimeoutInMs = gcs.FOREVER })
  end

  describe("whose connection breaks", function()
    it("answers with an exit once per connection, and again to a later one that may have missed it", function()
      vm:create("c1", sh "sleep 1000")
      vm:start "c1"
      local pid = vm:exec("c1", { "sh", "-c", "exit 5" })
      assert.equal(5, vm:wait("c1", pid))
      assert.equal(0x80070490, (wait_result("c1", pid)))
      vm:reconnect()
      vm:negotiate()
      assert.equal(5, vm:wait("c1", pid))
      assert.equal(0x80070490, (wait_result("c1", pid)))
      vm:reconnect()
      vm:negotiate()
      assert.equal(5, vm:wait("c1", pid))
    end)

    it("keeps the exits that happen meanwhile, of execs and of the UVM's own processes", function()
      vm:create("c1", sh "sleep 1000")
      vm:start "c1"
      local pid, io = vm:exec("c1", { "sh", "-c", "read line; exit 6" }, { "stdin" })
      vm:request("wait", "c1", { ProcessId = pid, TimeoutInMs = gcs.FOREVER })
      -- Both at once: mostly the answer meets a connection that is gone, whatever the agent sees first.
      assert.is_true(stop(vm.pid))
      io.stdin:finish()
      vm.bridge:close()
      vm.bridge = nil
      uv.kill(vm.pid, "sigcont")
      gcs.until_ready("the agent to dial again", function() return vm.bridge end)
      vm:negotiate()
      assert.equal(6, vm:wait("c1", pid))
    end)

    it("answers an exit that comes after the next connection under the id of the last, and to who asks again", function()
      vm:create("c1", sh "sleep 1000")
      vm:start "c1"
      local pid, io = vm:exec("c1", { "sh", "-c", "read line; exit 6" }, { "stdin" })
      local waited = vm:request("wait", "c1", { ProcessId = pid, TimeoutInMs = gcs.FOREVER })
      vm:reconnect()
      vm:negotiate()
      io.stdin:finish()
      assert.equal(6, vm:answer(waited).ExitCode)
      assert.equal(6, vm:wait("c1", pid))
      assert.equal(0x80070490, (wait_result("c1", pid)))
    end)

    it("forgets the exits of a container with the container", function()
      vm:create("c1", sh "sleep 1000")
      local init = vm:start "c1"
      local pid = vm:exec("c1", { "true" })
      vm:wait("c1", pid)
      vm:must("signal", "c1", { ProcessId = init })
      vm:wait("c1", init)
      vm:must("delete_state", "c1")
      vm:reconnect()
      vm:negotiate()
      assert.equal(0xc037010e, (wait_result("c1", pid)))
      vm:create("c1", sh "sleep 1000")
      vm:start "c1"
      assert.equal(0x80070490, (wait_result("c1", pid)))
    end)

    it("sends an output that nobody has read once more to a host that cannot say where to go on", function()
      vm:create("c1", sh "echo first; echo up >&2; read line; echo last; exit 3")
      local pid, io = vm:start("c1", { "stdin", "stdout", "stderr" })
      io.stdout.pipe:read_stop()
      io.stderr:read_until "up"
      local again = io.stdout
      again.pipe:close()
      again.text, again.ended, again.pipe = "", nil, nil
      vm:listen(again)
      gcs.until_ready("stdout to be dialled again", function() return again.pipe end)
      io.stdin:finish()
      assert.equal(3, vm:wait("c1", pid))
      assert.is_truthy(again:read_all():find("last\n$"))
    end)
  end)

  it("says what it is doing", function()
    vm:create("c1", sh "read line", { })
    local pid = vm:start("c1", { "stdin", "stdout" })
    vm:request("wait", "c1", { ProcessId = pid, TimeoutInMs = gcs.FOREVER })
    local text = vm:must("dump_stacks", gcs.NULL).GuestStacks
    for _, part in ipairs {
      "requests in flight: 2", "WaitForProcess id %d+ for c1", "DumpStacks id %d+ for the UVM", "c1: running",
      ("process %d %%(init%%): runs, owner %%d+, 1 waits"):format(pid), "input: moving", "output: moving", "threads:\n  1 ",
    } do
      assert.is_truthy(text:find(part), ("no %q in:\n%s"):format(part, text))
    end
  end)

  it("refuses a security policy clearly, since it would enforce none", function()
    for _, resource in ipairs { "SecurityPolicy", "SecurityPolicyFragment" } do
      local result, body = vm:modify("Add", resource, { EnforcerType = "rego", EncodedSecurityPolicy = "cGFja2FnZQ==" })
      assert.equal(0x80004001, result)
      assert.is_truthy(body.ErrorMessage:find("enforces no security policy", 1, true), body.ErrorMessage)
    end
  end)

  it("grants the extensions that it knows, and nothing to a host that asks for none", function()
    vm:reconnect()
    assert.is_nil(vm:negotiate().Extensions)
    vm:reconnect()
    local granted = vm:must("negotiate", "", { MinimumVersion = 4, MaximumVersion = 4, Extensions = { "StdioResume", "Telepathy" } })
    assert.same({ "StdioResume" }, granted.Extensions)
  end)
end)

-- What every host must do: with a guest that is none, or that breaks its protocol. The specs play the guest.
local contract = require "support.contract"
local err = require "moonshim.err"
local kind = require "moonshim.kind"
local layout = require "moonshim.guest.layout"
local log = require "moonshim.log"
local task = require "moonshim.task"
local uv = require "luv"
local world = require "moonshim.world"

local core, assert_nothing_left, document, failure = contract.core, contract.assert_nothing_left, contract.document, contract.failure
local new_id, run, shell, write = contract.new_id, contract.run, contract.shell, contract.write

contract.every_host(function(at)
  local driver, with_vm = at.driver, at.with_vm

  -- A program in place of the agent: gets the run folder as $DIR.
  local function impostor(body)
    local path = at.folder .. "/" .. new_id "impostor"
    write(path, "#!/bin/sh\nwhile [ $# -gt 0 ]; do case $1 in --root-dir) DIR=$2;; esac; shift; done\n" .. body .. "\n")
    shell("chmod 755 '%s'", path)
    uv.os_setenv("MOONSHIM_GUEST", path)
  end
  local SAYS_PID = [[set -- $(cat /proc/$$/stat); echo "{\"pid\":$$,\"start_time\":${22}}"; exec sleep 1000]]

  local function boot()
    local uvm = driver.create(new_id(), document())
    local ok, e = pcall(uvm.start, uvm)
    if ok then return uvm end
    assert.is_nil(uv.fs_stat(("%s/%d"):format(uvm:socket_dir(), layout.BRIDGE_PORT))) -- nobody listens
    uvm:terminate()
    assert_nothing_left(uvm.facts)
    return nil, e
  end

  for what, case in pairs {
    ["says why it cannot boot"] = { [[echo '{"error":"no namespaces here"}'; exit 1]], "no namespaces here" },
    ["says garbage"] = { "echo hello; exec sleep 1000", "instead of a pid" },
    ["ends without a word"] = { "exit 3", "without a word" },
    ["never ends its line"] = { "yes | tr -d '\\n'", "instead of a pid" },
    ["says pid 1"] = { [[echo '{"pid":1,"start_time":1}']], "instead of a pid" },
  } do
    it(("fails clearly when boot %s [#358] (known bug 129)"):format(what), run(function()
      impostor(case[1])
      local _, e = boot()
      assert.truthy(e.message:find(case[2], 1, true), tostring(e))
      assert.equal("host", e.origin)
    end))
  end

  it("gives up on a boot that says nothing, within the deadline (known bug 136)", run(function()
    impostor "exec sleep 1000"
    local uvm = driver.create(new_id(), document())
    local e = failure(task.deadline, 300, uvm.start, uvm)
    assert.equal("deadline_exceeded", e.code)
    uvm:terminate()
    assert_nothing_left(uvm.facts)
  end))

  it("says where it looked when there is no agent", run(function()
    uv.os_setenv("MOONSHIM_GUEST", "/no/such/agent")
    local _, e = boot()
    assert.equal("not_found", e.code)
    assert.truthy(e.message:find("/no/such/agent", 1, true))
  end))

  -- A VM of our own making whose "agent" the spec plays: play(stream) gets the connection. `within` is for a wait that is to run
  -- into its limit.
  local function with_peer(play, check, within)
    return run(function()
      impostor(SAYS_PID)
      local uvm = assert(boot())
      local w = world.new { id = uvm.facts.id, host = driver, log = log.new(), uvm = uvm }
      task.spawn(function()
        local path = ("%s/%d"):format(uvm:socket_dir(), layout.BRIDGE_PORT)
        local stream = task.callback(function(cb) return core.transport.connect_unix(path, cb) end)
        play(stream, uvm)
        stream:close()
      end)
      local ok, e = pcall(task.deadline, within or "5m", kind.get("bridge").acquire, w, { port = layout.BRIDGE_PORT })
      assert.is_false(ok)
      check(err.from(e), uvm)
      w:close()
      uvm:terminate()
      assert_nothing_left(uvm.facts)
    end)
  end

  it("calls garbage from the guest a breach of the protocol", with_peer(function(stream)
    stream:write(("garbage!"):rep(100))
    task.sleep "1h"
  end, function(e)
    assert.is_true(err.is(e, "protocol", "unavailable"), tostring(e))
    assert.truthy(e.message:find("does not answer", 1, true))
  end))

  it("refuses a frame of 10 MB without reading it", with_peer(function(stream)
    stream:write(("<I4I4I8"):pack(0x20100b01, 10 << 20, 0))
    task.sleep "1h"
  end, function(e) assert.is_true(err.is(e, "protocol", "unavailable"), tostring(e)) end))

  it("gives up on a guest that connects and says nothing", with_peer(function() task.sleep "1h" end, function(e)
    assert.equal("deadline_exceeded", e.code)
  end, 300))

  it("notices a guest that hangs up", with_peer(function() end, function(e)
    assert.is_true(err.is(e, "unavailable"), tostring(e))
  end))

  it("says that the VM exited during boot when it ends cleanly [#360]", run(function()
    impostor((SAYS_PID:gsub("exec sleep 1000", "sleep 0.05; exit 0")))
    local uvm = assert(boot())
    local w = world.new { id = uvm.facts.id, host = driver, log = log.new(), uvm = uvm }
    local e = failure(kind.get("bridge").acquire, w, { port = layout.BRIDGE_PORT })
    assert.equal("unavailable", e.code)
    assert.truthy(e.message:find("exited during boot", 1, true), e.message)
    uvm:terminate()
    assert_nothing_left(uvm.facts)
  end))

  it("says that the VM exited during boot, with its last words [#359]", run(function()
    impostor(SAYS_PID)
    local uvm = assert(boot())
    local w = world.new { id = uvm.facts.id, host = driver, log = log.new(), uvm = uvm }
    write(uvm.facts.run_dir .. "/agent.log", "first\npanic: no moon\n")
    task.spawn(function()
      task.sleep(50)
      core.sys.kill_process { pid = uvm.facts.pid, start_time = uvm.facts.start_time, signal = 9 }
    end)
    local e = failure(kind.get("bridge").acquire, w, { port = layout.BRIDGE_PORT })
    assert.equal("unavailable", e.code)
    assert.truthy(e.message:find("exited during boot", 1, true), e.message)
    assert.truthy(e.message:find("panic: no moon", 1, true), e.message)
    assert.is_nil(uv.fs_stat(("%s/%d"):format(uvm:socket_dir(), layout.BRIDGE_PORT))) -- the listener is closed
    uvm:terminate()
  end))

  it("listens before anything can dial [#356] (known bug 128)", run(function()
    impostor([[test -S "$DIR/s/1073741824" && test -S "$DIR/s/564" || { echo '{"error":"nobody listens"}'; exit 1; }]] .. "\n"
      .. SAYS_PID)
    local uvm = assert(boot())
    uvm:terminate()
  end))

  it("closes connections on the share port that ask nothing sensible", with_vm(function(uvm)
    local path = uvm:socket_dir() .. "/564"
    for _, ask in ipairs { "garbage\n", ("x"):rep(10000), '{"aname":7}\n', '{"aname":"../x"}\n' } do
      local stream = task.callback(function(cb) return core.transport.connect_unix(path, cb) end)
      local answer = task.await(function(resume)
        local got = ""
        stream:read(function(bytes)
          if bytes then got = got .. bytes else resume(got) end
        end)
        stream:write(ask)
      end)
      stream:close()
      assert.equal("E", answer:sub(1, 1))
    end
  end))
end)

-- What every host must do: the life of a VM, from its creation to the last thing that is left of it.
local contract = require "support.contract"
local host = require "moonshim.host"
local layout = require "moonshim.guest.layout"
local task = require "moonshim.task"
local uv = require "luv"

local core, assert_nothing_left, document, failure = contract.core, contract.assert_nothing_left, contract.document, contract.failure
local groups_of, new_id, read, run = contract.groups_of, contract.new_id, contract.read, contract.run
local shell, write = contract.shell, contract.write

contract.every_host(function(at)
  local driver, with_vm = at.driver, at.with_vm

  it("boots a guest that answers, and names the incarnation", with_vm(function(uvm, guest)
    assert.is_true(uvm:alive())
    assert.equal(uvm.facts.start_time, core.sys.start_time(uvm.facts.pid))
    assert.is_true(guest.capabilities.SignalProcessSupported)
    assert.equal("running", uvm:query().state)
  end))

  it("starts once: the next start only says who runs [#364]", with_vm(function(uvm, guest)
    assert.same({ pid = uvm.facts.pid, start_time = uvm.facts.start_time }, uvm:start())
    assert.equal(0, guest:run { layout.AGENT, "syncfs", "/" }) -- undisturbed
    assert.equal(uvm.facts.start_time, core.sys.start_time(uvm.facts.pid))
  end))

  it("is listened to before its start, and sends its log where it has one", run(function()
    local uvm = driver.create(new_id(), document())
    local can = uvm:capabilities()
    assert.is_boolean(can.entropy)
    local listener = can.guest_log and uvm:listen(layout.LOG_PORT)
    local bridge = uvm:listen(layout.BRIDGE_PORT)
    uvm:start()
    assert.equal(bridge, uvm:listen(layout.BRIDGE_PORT))
    if listener then
      local stream, text = listener:accept(), ""
      local first = task.await(function(resume)
        stream:read(function(bytes)
          text = text .. (bytes or "")
          if text:find "\n" then resume(text:match "^[^\n]*") end
        end)
      end)
      assert.equal("info", core.json.decode(first).level)
      assert.is_truthy(core.json.decode(first).msg:find("^agent "), first)
      local over = task.signal()
      stream:read(function(bytes)
        if not bytes then over:fire() end
      end)
      uvm:terminate()
      over:wait() -- its end is the end of the VM
      stream:close()
    end
    uvm:terminate()
    assert_nothing_left(uvm.facts)
  end))

  it("whose listener is closed lets go who waits for a connection", run(function()
    local uvm = driver.create(new_id(), document())
    local listener = uvm:listen(layout.LOG_PORT)
    local wait = task.spawn(function() return failure(listener.accept, listener) end)
    task.sleep(1)
    listener:close()
    assert.equal("unavailable", wait:join().code)
    uvm:terminate()
    assert_nothing_left(uvm.facts)
  end))

  it("that was made and never started is ended by closing it [#367] [#376]", run(function()
    local uvm = driver.create(new_id(), document())
    uvm:listen(layout.BRIDGE_PORT)
    assert.equal("created", uvm:query().state)
    uvm:terminate()
    assert.equal("ended", uvm:query().state)
    assert.equal("terminated", uvm:wait().reason)
    assert.equal("failed_precondition", failure(uvm.start, uvm).code)
    assert_nothing_left(uvm.facts)
  end))

  it("is not started when its listener cannot be bound, and says so at once [#357]", run(function()
    local id = new_id()
    local facts = driver.reserve(id, document())
    shell("mkdir -p '%s/s/%d'", facts.run_dir, layout.BRIDGE_PORT)
    local uvm = driver.create(id, document(), facts)
    local e = failure(uvm.start, uvm)
    assert.equal("host", e.origin)
    assert.is_truthy(e.message:find(tostring(layout.BRIDGE_PORT), 1, true), e.message)
    assert.is_nil(uvm.facts.pid)
    assert.same({}, groups_of(uvm.facts))
    uvm:terminate()
    assert_nothing_left(uvm.facts)
  end))

  it("leaves nothing after the end, which may be asked for again and again [#368] [#371]", run(function()
    local id = new_id()
    local uvm = driver.create(id, document())
    uvm:start()
    assert.truthy(#groups_of(uvm.facts) > 0)
    uvm:terminate()
    assert.equal("terminated", uvm:wait().reason)
    assert.is_false(uvm:alive())
    assert_nothing_left(uvm.facts)
    uvm:terminate()
    driver.terminate(uvm.facts)
  end))

  it("notices that the VM ends by itself [#372]", run(function()
    local uvm = driver.create(new_id(), document())
    uvm:start()
    assert(core.sys.kill_process { pid = uvm.facts.pid, start_time = uvm.facts.start_time, signal = 9 })
    assert.equal("exited", uvm:wait().reason)
    assert.equal("gone", failure(uvm.modify, uvm, { ResourcePath = host.scsi_path(0, 0), RequestType = "Add",
      Settings = { Type = "VirtualDisk", Path = "/x" } }).code)
    uvm:terminate()
    assert_nothing_left(uvm.facts)
  end))

  it("is opened by its facts from elsewhere, and gone after its end", run(function()
    local uvm = driver.create(new_id(), host.document())
    uvm:start()
    uvm:close() -- as if this process had never been
    local again = driver.open(uvm.facts)
    assert.is_true(again:alive())
    again:terminate()
    assert_nothing_left(uvm.facts)
    assert.equal("gone", failure(driver.open, uvm.facts).code)
  end))

  it("is gone when the facts name another boot or another incarnation", run(function()
    local uvm = driver.create(new_id(), document())
    uvm:start()
    local facts = {}
    for k, v in pairs(uvm.facts) do facts[k] = v end
    facts.start_time = facts.start_time + 1
    assert.equal("gone", failure(driver.open, facts).code)
    facts.start_time, facts.boot_id = uvm.facts.start_time, "11111111-2222-3333-4444-555555555555"
    assert.equal("gone", failure(driver.open, facts).code)
    uvm:terminate()
  end))

  it("is ended from facts that never learnt a pid", run(function()
    local id = new_id()
    local facts = driver.reserve(id, host.document())
    driver.terminate(facts) -- nothing happened yet
    local own = {}
    for k, v in pairs(facts) do own[k] = v end
    local uvm = driver.create(id, host.document(), own)
    uvm:start()
    uvm:close()
    driver.terminate(facts) -- what a journal would know that was cut right after boot was started
    assert.is_nil(core.sys.start_time(own.pid))
    assert_nothing_left(own)
  end))

  it("keeps the journal that lies in the run folder", run(function()
    local id = new_id()
    local uvm = driver.create(id, document())
    uvm:start()
    local path = write(driver.run_dir(id) .. "/journal", "kept")
    uvm:terminate()
    assert.equal("kept", read(path))
    os.remove(path)
    driver.terminate(uvm.facts)
    assert_nothing_left(uvm.facts)
  end))

  it("takes ids of any length and spelling (known bug 149)", run(function()
    for _, id in ipairs { ("x"):rep(300), "with space/and..dots", "ümlaut" } do
      local uvm = driver.create(id .. new_id(), document())
      uvm:start()
      assert.is_true(#(uvm:socket_dir() .. "/1073741999") < 108)
      uvm:terminate()
    end
    assert.equal("invalid_argument", failure(driver.reserve, "").code)
    assert.equal("invalid_argument", failure(driver.reserve, "a\nb").code)
  end))

  it("makes folders and sockets for its owner alone, whatever the umask (known bug 151)", run(function()
    local uvm = driver.create(new_id(), document())
    uvm:start()
    assert.equal(0x1c0, uv.fs_stat(uvm.facts.run_dir).mode & 0x1ff)
    assert.equal(0x1c0, uv.fs_stat(uvm:socket_dir()).mode & 0x1ff)
    assert.equal(0x180, uv.fs_stat(uvm:socket_dir() .. "/564").mode & 0x1ff)
    uvm:terminate()
  end))

  it("runs several VMs side by side, and ends only the one it is asked to", run(function()
    local vms = {}
    for i = 1, 3 do vms[i] = driver.create(new_id(), document()) end
    local starts = {}
    for i, uvm in ipairs(vms) do starts[i] = function() return uvm:start() end end
    task.all(starts)
    vms[2]:terminate()
    assert.same({ true, false, true }, { vms[1]:alive(), vms[2]:alive(), vms[3]:alive() })
    vms[1]:terminate()
    vms[3]:terminate()
  end))

  it("starts while others end", run(function()
    local rounds = {}
    for i = 1, 4 do
      rounds[i] = function()
        for _ = 1, 5 do
          local uvm = driver.create(new_id(), document())
          uvm:start()
          uvm:terminate()
        end
      end
    end
    task.all(rounds)
  end))

  it("ends the VM with the process that made it, when asked to", run(function()
    local id, out = new_id(), at.folder .. "/child.out"
    write(at.folder .. "/child.lua", ([[
      package.path, package.cpath = %q, %q
      local host, task = require "moonshim.host", require "moonshim.task"
      task.run(function()
        local uvm = host.get(%q).create(%q, host.document { dies_with_shim = true })
        uvm:start()
        local file = io.open(%q, "w")
        file:write(uvm.facts.pid, " ", uvm.facts.start_time, " ", tostring(uvm:capabilities().die_with_parent), " ", uvm.facts.cgroup)
        file:close()
        local uv = require "luv"
        uv.kill(uv.os_getpid(), "sigkill")
        task.sleep("1m")
      end)]]):format(package.path, package.cpath, at.name, id, out))
    os.execute(("lua5.4 '%s' 2>/dev/null"):format(at.folder .. "/child.lua"))
    local pid, start_time, able, group = assert(read(out)):match "^(%d+) (%d+) (%a+) (%S+)$"
    pid, start_time = math.tointeger(tonumber(pid)), math.tointeger(tonumber(start_time))
    if able == "true" then
      task.await(function(resume)
        local watch = core.sys.watch_process({ pid = pid, start_time = start_time }, function() resume() end)
        if not watch then resume() end
        return watch and function() watch:close() end
      end)
    end
    local facts = driver.reserve(id, host.document())
    facts.cgroup = group -- as its journal has it
    driver.terminate(facts)
    assert_nothing_left(facts)
  end))

  it("shares nothing with an earlier VM of its name that is still being cleared away", run(function()
    local id = new_id()
    local first = driver.reserve(id, document())
    local uvm = driver.create(id, document())
    uvm:start()
    assert.not_equal(first.cgroup, uvm.facts.cgroup)
    task.callback(function(cb) return core.sys.cgroup_remove({ first.cgroup }, cb) end) -- what a late boot program does
    assert.is_true(uvm:alive())
    assert.truthy(#groups_of(uvm.facts) > 0)
    uvm:terminate()
    assert_nothing_left(uvm.facts)
  end))

  it("refuses a document that it cannot be", function()
    for _, vm in ipairs {
      { Devices = { VirtualPMem = {} } }, { GuestState = { GuestStateFilePath = "/x" } }, { SecuritySettings = { Isolation = {} } },
      { Devices = { Scsi = { a = { Attachments = { ["0"] = { Path = "/x" } } } } } },
    } do
      assert.equal("unimplemented", failure(driver.create, "x", { VirtualMachine = vm }).code)
    end
    assert.equal("invalid_argument", failure(driver.create, "x", "text").code)
    assert.equal("invalid_argument", failure(driver.create, "x",
      { VirtualMachine = { ComputeTopology = { Memory = { SizeInMB = "1" } } } }).code)
  end)
end)

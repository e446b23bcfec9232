-- One suite over every host that this machine can run. Needs root and the built programs.
local err = require "moonshim.err"
local host = require "moonshim.host"
local kind = require "moonshim.kind"
local layout = require "moonshim.guest.layout"
local log = require "moonshim.log"
local task = require "moonshim.task"
local uv = require "luv"
local world = require "moonshim.world"

local build = os.getenv "MOONSHIM_BUILD" or "build/release"
local agent = uv.fs_realpath(build .. "/bin/moonshim-guest")
local has_core, core = pcall(require, "moonshim.core")

local function missing()
  if not has_core then return "moonshim.core (build it)" end
  if not agent then return "moonshim-guest (build it)" end
  if uv.getuid() ~= 0 then return "root" end
end

local why = missing()

-- A folder of this file: run dirs, images, roots.
local folder
local function shell(fmt, ...)
  local ok = os.execute((fmt:format(...)) .. " >/dev/null 2>&1")
  assert(ok, "failed: " .. fmt:format(...))
end

local function write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
  return path
end

local function read(path)
  local file = io.open(path, "r")
  if not file then return nil end
  local text = file:read "a"
  file:close()
  return text
end

local count = 0
local function new_id(prefix)
  count = count + 1
  return ("%s-%d-%d"):format(prefix or "contract", uv.os_getpid(), count)
end

local function failure(fn, ...)
  local ok, e = pcall(fn, ...)
  assert.is_false(ok, "did not fail")
  assert.is_true(err.is(e), tostring(e))
  return e
end

-- Runs a spec's body as a task, quietly, within a minute.
local function run(fn)
  return function()
    return task.run(function() return task.deadline("60s", fn) end, { log = log.new() })
  end
end

local function groups_of(facts)
  local found = {}
  for _, base in ipairs { "/sys/fs/cgroup", "/sys/fs/cgroup/*" } do
    local pipe = io.popen(("ls -d %s/%s 2>/dev/null"):format(base, facts.cgroup))
    for line in pipe:lines() do found[#found + 1] = line end
    pipe:close()
  end
  return found
end

local function assert_nothing_left(facts)
  assert.is_nil(uv.fs_stat(facts.run_dir), "the run folder is still there")
  assert.same({}, groups_of(facts))
  if facts.pid then assert.not_equal(facts.start_time, core.sys.start_time(facts.pid)) end
end

for _, name in ipairs(host.NAMES) do
  describe(("the host %q"):format(name), function()
    if why then
      pending("needs " .. why)
      return
    end

    local driver = host.get(name)

    setup(function()
      folder = assert(uv.fs_mkdtemp "/tmp/moonshim-contract.XXXXXX")
      uv.os_setenv("MOONSHIM_RUN", folder .. "/run")
      uv.os_setenv("MOONSHIM_GUEST", agent)
    end)

    teardown(function()
      uv.os_unsetenv "MOONSHIM_RUN"
      uv.os_unsetenv "MOONSHIM_GUEST"
      shell("rm -rf --one-file-system '%s'", folder)
    end)

    before_each(function() uv.os_setenv("MOONSHIM_GUEST", agent) end)

    local function document() return host.document { dies_with_shim = true } end

    -- A VM that runs, with its world; fn gets both. It is terminated whatever happens.
    local function with_vm(fn)
      return run(function()
        local id = new_id()
        local w = world.new { id = id, host = driver, log = log.new() }
        local facts = driver.reserve(id, document())
        local uvm = driver.create(id, document(), facts)
        w.uvm = uvm
        local ok, e = xpcall(function()
          uvm:start()
          local _, guest = kind.get("bridge").acquire(w, { port = layout.BRIDGE_PORT })
          fn(uvm, guest, w)
        end, err.traceback)
        w:close()
        uvm:terminate()
        if not ok then error(e, 0) end
        assert_nothing_left(uvm.facts)
      end)
    end

    local function image(path, label)
      shell("truncate -s 4M '%s' && mkfs.ext4 -q -F -L %s '%s'", path, label or "spec", path)
      return path
    end

    -- Life ---------------------------------------------------------------------------------------------------------

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
      local id, out = new_id(), folder .. "/child.out"
      write(folder .. "/child.lua", ([[
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
        end)]]):format(package.path, package.cpath, name, id, out))
      os.execute(("lua5.4 '%s' 2>/dev/null"):format(folder .. "/child.lua"))
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

    -- Disks --------------------------------------------------------------------------------------------------------

    local function add_disk(lun, path, read_only)
      return { ResourcePath = host.scsi_path(0, lun), RequestType = "Add", Settings = { Type = "VirtualDisk", Path = path,
        ReadOnly = read_only } }
    end
    local function remove_disk(lun) return { ResourcePath = host.scsi_path(0, lun), RequestType = "Remove" } end
    local function disk_facts(lun)
      return { guest_path = layout.scsi(0, lun), controller = 0, lun = lun, partition = 0, mount = { read_only = true,
        options = { "ro" } } }
    end

    it("attaches an image that the guest mounts, and lets it go", with_vm(function(uvm, guest)
      local found = uvm:modify(add_disk(3, image(folder .. "/disk.ext4"), true))
      guest:map_disk(disk_facts(3))
      guest:syncfs(layout.scsi(0, 3))
      guest:unmap_disk(disk_facts(3))
      guest:eject(0, 3)
      uvm:modify(remove_disk(3), found)
      uvm:modify(remove_disk(3), found)
      if found.loop then
        assert.equal("gone", failure(task.callback, function(cb) return core.sys.loop_verify(found.loop, cb) end).code)
      end
    end))

    it("keeps the disk of a VM that is gone nowhere", run(function()
      local id = new_id()
      local w = world.new { id = id, host = driver, log = log.new() }
      local uvm = driver.create(id, document())
      w.uvm = uvm
      uvm:start()
      local _, guest = kind.get("bridge").acquire(w, { port = layout.BRIDGE_PORT })
      local found = uvm:modify(add_disk(0, image(folder .. "/left.ext4"), true))
      guest:map_disk(disk_facts(0))
      uvm:terminate()
      w:close()
      if not uvm:capabilities().disks_die_with_vm then driver.remains(uvm.facts.run_dir):modify(remove_disk(0), found) end
      if found.loop then
        assert.equal("gone", failure(task.callback, function(cb) return core.sys.loop_verify(found.loop, cb) end).code)
      end
    end))

    it("says which image is not there, and forgets the slot", with_vm(function(uvm)
      local e = failure(uvm.modify, uvm, add_disk(0, folder .. "/nope.ext4"))
      assert.equal("not_found", e.code)
      assert.equal("host", e.origin)
      assert.truthy(e.message:find("nope.ext4", 1, true))
      uvm:modify(remove_disk(0))
    end))

    it("refuses slots, requests and disk types that there are not", with_vm(function(uvm)
      assert.equal("invalid_argument", failure(uvm.modify, uvm, { ResourcePath = host.scsi_path(4, 0), RequestType = "Add" }).code)
      assert.equal("invalid_argument", failure(uvm.modify, uvm, { ResourcePath = host.scsi_path(0, 64), RequestType = "Add" }).code)
      assert.equal("invalid_argument", failure(uvm.modify, uvm, { ResourcePath = host.PLAN9_PATH, RequestType = "Swap" }).code)
      assert.equal("unimplemented", failure(uvm.modify, uvm, { ResourcePath = "VirtualMachine/Devices/Moon", RequestType = "Add" }).code)
      assert.equal("unimplemented", failure(uvm.modify, uvm, { ResourcePath = host.scsi_path(0, 0), RequestType = "Add",
        Settings = { Type = "ExtensibleVirtualDisk", Path = "x" } }).code)
    end))

    it("knows a controller by its GUID, too", function()
      local controller, lun = host.scsi_address "VirtualMachine/Devices/Scsi/0110F83B-DE10-5172-A266-78BCA56BF50A/Attachments/7"
      assert.same({ 1, 7 }, { controller, lun })
    end)

    -- Devices ------------------------------------------------------------------------------------------------------

    local INSTANCE = "0aa5a4b6-4f6c-4c3e-9a57-0123456789ab"
    local function add_device(path, vf)
      return { ResourcePath = host.vpci_path(INSTANCE), RequestType = "Add", Settings = {
        Functions = { { DeviceInstancePath = path, VirtualFunction = vf or 0 } }, PropagateNumaAffinity = true,
      } }
    end
    local function remove_device() return { ResourcePath = host.vpci_path(INSTANCE), RequestType = "Remove" } end

    it("gives a device that the guest sees, and takes it back without a word to it [#309] [#321]", with_vm(function(uvm, guest)
      if not uvm:capabilities().vpci then return end
      local found = uvm:modify(add_device "/dev/null")
      guest:wait_device(INSTANCE)
      guest:wait_device(INSTANCE:upper())
      assert.equal("already_exists", failure(uvm.modify, uvm, add_device "/dev/null").code)
      uvm:modify(remove_device(), found)
      uvm:modify(remove_device(), found)
      uvm:modify(add_device "/dev/null")
    end))

    it("lets the guest wait for a device that comes later, and not for ever (known bug 107)", with_vm(function(uvm, guest)
      if not uvm:capabilities().vpci then return end
      local waited = task.spawn(function() guest:wait_device(INSTANCE) end)
      task.sleep(50)
      assert.is_false(waited:done())
      uvm:modify(add_device "/dev/null")
      waited:join()
      uvm:modify(remove_device())
      local e = failure(guest.wait_device, guest, INSTANCE)
      assert.truthy(e.message:find(INSTANCE, 1, true), e.message)
      assert.equal("invalid_argument", failure(guest.wait_device, guest, "../../..").code)
    end))

    it("refuses what is no device, and leaves nothing of it", with_vm(function(uvm, guest)
      if not uvm:capabilities().vpci then return end
      assert.equal("invalid_argument", failure(uvm.modify, uvm, add_device "/etc").code)
      assert.equal("not_found", failure(uvm.modify, uvm, add_device(folder .. "/nothing")).code)
      assert.equal("invalid_argument", failure(uvm.modify, uvm, add_device "PCIP\\X").code)
      assert.equal("unimplemented", failure(uvm.modify, uvm, add_device("/dev/null", 4)).code)
      local request = add_device "/dev/null"
      request.ResourcePath = host.vpci_path ".."
      assert.equal("invalid_argument", failure(uvm.modify, uvm, request).code)
      uvm:modify(add_device "/dev/null")
      guest:wait_device(INSTANCE)
    end))

    it("takes a device back from a VM that is gone", run(function()
      local uvm = driver.create(new_id(), document())
      if not uvm:capabilities().vpci then return end
      uvm:start()
      uvm:modify(add_device "/dev/null")
      uvm:terminate()
      driver.remains(uvm.facts.run_dir):modify(remove_device())
      assert_nothing_left(uvm.facts)
    end))

    -- Shares -------------------------------------------------------------------------------------------------------

    local function add_share(share, path, flags, file)
      return { ResourcePath = host.PLAN9_PATH, RequestType = "Add", Settings = {
        Name = share, AccessName = share, Path = path, Port = 564, Flags = flags or 4, AllowedFiles = file and { file },
      } }
    end
    local function share_facts(share) return { guest_path = layout.plan9(share), share = share, port = 564, read_only = false } end

    -- A bridge of this file's own, so that no pod of the machine is ever on it.
    local function adapter(verb, mac)
      return {
        ResourcePath = host.adapter_path "0d6f2a3c-0000-4000-8000-000000000001", RequestType = verb,
        Settings = { EndpointId = "0d6f2a3c-0000-4000-8000-000000000001", MacAddress = mac or "02-6D-73-00-00-01",
          Endpoint = { Bridge = "mshspec0", HostMacAddress = "02:6d:73:00:00:02", Seed = "contract" } },
      }
    end

    local function links()
      local found = {}
      for _, link in ipairs(task.callback(function(cb) return core.net.state({}, cb) end).links) do found[link.name] = link end
      return found
    end

    local function announce(guest, found)
      guest:modify(layout.NULL, "Add", "Network", {
        NamespaceID = "contract", ID = "0d6f2a3c-0000-4000-8000-000000000001", MacAddress = "02:6d:73:00:00:01",
        IPConfigs = { { IPAddress = found.address, PrefixLength = found.prefix } },
      })
    end

    it("gives a network adapter that the guest finds, and takes it back after the guest let go", with_vm(function(uvm, guest)
      if not uvm:capabilities().network_adapters then return end
      local found = uvm:modify(adapter "Add")
      assert.equal(links()["mshspec0"].index, links()[found.link].master)
      announce(guest, found)
      guest:modify(layout.NULL, "Remove", "Network", { NamespaceID = "contract", ID = "0d6f2a3c-0000-4000-8000-000000000001" })
      for _ = 1, 2 do uvm:modify(adapter "Remove", found) end
      assert.is_nil(links()[found.link])
      assert.is_nil(links()["mshspec0"])
    end))

    it("takes an adapter back from a VM that is gone", run(function()
      local id = new_id()
      local facts = driver.reserve(id, document())
      local uvm = driver.create(id, document(), facts)
      if not uvm:capabilities().network_adapters then return end
      uvm:start()
      uvm:modify(adapter "Add")
      uvm:terminate()
      driver.remains(facts.run_dir):modify(adapter "Remove")
      assert.is_nil(links()["mshspec0"])
      assert_nothing_left(facts)
    end))

    it("refuses an adapter that it cannot make, and leaves no link and no bridge", with_vm(function(uvm)
      if not uvm:capabilities().network_adapters then return end
      assert.equal("invalid_argument", failure(uvm.modify, uvm, adapter("Add", "not-an-address")).code)
      local request = adapter "Add"
      request.Settings.Endpoint = nil
      assert.equal("invalid_argument", failure(uvm.modify, uvm, request).code)
      assert.is_nil(links()["mshspec0"])
    end))

    it("shares a folder, which the guest sees and the host keeps", with_vm(function(uvm, guest)
      shell("mkdir -p '%s/shared'", folder)
      write(folder .. "/shared/mark", "here")
      uvm:modify(add_share("0", folder .. "/shared"))
      guest:map_directory(share_facts "0")
      assert.equal(0, guest:run { layout.AGENT, "syncfs", layout.plan9 "0" })
      guest:unmap_directory(share_facts "0")
      uvm:modify { ResourcePath = host.PLAN9_PATH, RequestType = "Remove", Settings = { Name = "0", AccessName = "0", Port = 564 } }
      assert.equal("here", read(folder .. "/shared/mark"))
    end))

    it("keeps a shared folder whole when the VM is killed over it", run(function()
      shell("mkdir -p '%s/precious/deep'", folder)
      write(folder .. "/precious/deep/file", "still here")
      local id = new_id()
      local w = world.new { id = id, host = driver, log = log.new() }
      local uvm = driver.create(id, document())
      w.uvm = uvm
      uvm:start()
      local _, guest = kind.get("bridge").acquire(w, { port = layout.BRIDGE_PORT })
      uvm:modify(add_share("0", folder .. "/precious"))
      guest:map_directory(share_facts "0")
      w:close()
      driver.terminate(uvm.facts)
      assert.equal("still here", read(folder .. "/precious/deep/file"))
      assert_nothing_left(uvm.facts)
    end))

    it("shares one file of a folder", with_vm(function(uvm, guest)
      if not uvm:capabilities().share_files then return end
      write(folder .. "/one.txt", "one")
      uvm:modify(add_share("5", folder, 0x84, "one.txt"))
      guest:map_directory(share_facts "5")
      guest:unmap_directory(share_facts "5")
      assert.equal("one", read(folder .. "/one.txt"))
    end))

    it("refuses a share that is not there, with the reason", with_vm(function(uvm, guest)
      assert.truthy(failure(guest.map_directory, guest, share_facts "9").message:find("no share", 1, true))
      uvm:modify(add_share("1", folder .. "/nothing"))
      assert.truthy(failure(guest.map_directory, guest, share_facts "1").message:find("nothing", 1, true))
      uvm:modify(add_share("2", folder, 0x84, "no-such-file"))
      failure(guest.map_directory, guest, share_facts "2")
    end))

    it("refuses share names and file names that are none (known bug 120)", with_vm(function(uvm)
      for _, share in ipairs { "..", "a/b", "", "a\nb" } do
        assert.equal("invalid_argument", failure(uvm.modify, uvm, add_share(share, folder)).code)
      end
      for _, file in ipairs { "..", "a/b", "" } do
        assert.equal("invalid_argument", failure(uvm.modify, uvm, add_share("3", folder, 0x84, file)).code)
      end
      assert.equal("already_exists", (function()
        uvm:modify(add_share("4", folder))
        return failure(uvm.modify, uvm, add_share("4", folder)).code
      end)())
    end))

    -- A guest that is none -------------------------------------------------------------------------------------------

    -- A program in place of the agent: gets the run folder as $DIR.
    local function impostor(body)
      local path = folder .. "/" .. new_id "impostor"
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

    -- A VM of our own making whose "agent" the spec plays. fn(stream) gets the connection.
    local function with_peer(play, check)
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
        local ok, e = pcall(task.deadline, 1500, kind.get("bridge").acquire, w, { port = layout.BRIDGE_PORT })
        assert.is_false(ok)
        check(err.from(e), uvm)
        w:close()
        uvm:terminate()
        assert_nothing_left(uvm.facts)
      end)
    end

    it("calls garbage from the guest a breach of the protocol", with_peer(function(stream)
      stream:write(("garbage!"):rep(100))
      task.sleep(5000)
    end, function(e)
      assert.is_true(err.is(e, "protocol", "unavailable"), tostring(e))
      assert.truthy(e.message:find("does not answer", 1, true))
    end))

    it("refuses a frame of 10 MB without reading it", with_peer(function(stream)
      stream:write(("<I4I4I8"):pack(0x20100b01, 10 << 20, 0))
      task.sleep(5000)
    end, function(e) assert.is_true(err.is(e, "protocol", "unavailable"), tostring(e)) end))

    it("gives up on a guest that connects and says nothing", with_peer(function() task.sleep(5000) end, function(e)
      assert.equal("deadline_exceeded", e.code)
    end))

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
end

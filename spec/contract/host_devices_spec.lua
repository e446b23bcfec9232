-- What every host must do: what a running VM is given and what is taken back (disks, devices, network adapters, shares).
local contract = require "support.contract"
local host = require "moonshim.host"
local kind = require "moonshim.kind"
local layout = require "moonshim.guest.layout"
local log = require "moonshim.log"
local task = require "moonshim.task"
local world = require "moonshim.world"

local core, assert_nothing_left, document, failure = contract.core, contract.assert_nothing_left, contract.document, contract.failure
local new_id, read, run, shell, write = contract.new_id, contract.read, contract.run, contract.shell, contract.write

contract.every_host(function(at)
  local driver, with_vm = at.driver, at.with_vm

  -- Disks --------------------------------------------------------------------------------------------------------

  local function image(path, label)
    shell("truncate -s 4M '%s' && mkfs.ext4 -q -F -L %s '%s'", path, label or "spec", path)
    return path
  end

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
    local found = uvm:modify(add_disk(3, image(at.folder .. "/disk.ext4"), true))
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
    local found = uvm:modify(add_disk(0, image(at.folder .. "/left.ext4"), true))
    guest:map_disk(disk_facts(0))
    uvm:terminate()
    w:close()
    if not uvm:capabilities().disks_die_with_vm then driver.remains(uvm.facts.run_dir):modify(remove_disk(0), found) end
    if found.loop then
      assert.equal("gone", failure(task.callback, function(cb) return core.sys.loop_verify(found.loop, cb) end).code)
    end
  end))

  it("says which image is not there, and forgets the slot", with_vm(function(uvm)
    local e = failure(uvm.modify, uvm, add_disk(0, at.folder .. "/nope.ext4"))
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
    assert.equal("not_found", failure(uvm.modify, uvm, add_device(at.folder .. "/nothing")).code)
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

  -- Network adapters ---------------------------------------------------------------------------------------------

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

  -- Shares -------------------------------------------------------------------------------------------------------

  local function add_share(share, path, flags, file)
    return { ResourcePath = host.PLAN9_PATH, RequestType = "Add", Settings = {
      Name = share, AccessName = share, Path = path, Port = 564, Flags = flags or 4, AllowedFiles = file and { file },
    } }
  end
  local function share_facts(share) return { guest_path = layout.plan9(share), share = share, port = 564, read_only = false } end

  it("shares a folder, which the guest sees and the host keeps", with_vm(function(uvm, guest)
    shell("mkdir -p '%s/shared'", at.folder)
    write(at.folder .. "/shared/mark", "here")
    uvm:modify(add_share("0", at.folder .. "/shared"))
    guest:map_directory(share_facts "0")
    assert.equal(0, guest:run { layout.AGENT, "syncfs", layout.plan9 "0" })
    guest:unmap_directory(share_facts "0")
    uvm:modify { ResourcePath = host.PLAN9_PATH, RequestType = "Remove", Settings = { Name = "0", AccessName = "0", Port = 564 } }
    assert.equal("here", read(at.folder .. "/shared/mark"))
  end))

  it("keeps a shared folder whole when the VM is killed over it", run(function()
    shell("mkdir -p '%s/precious/deep'", at.folder)
    write(at.folder .. "/precious/deep/file", "still here")
    local id = new_id()
    local w = world.new { id = id, host = driver, log = log.new() }
    local uvm = driver.create(id, document())
    w.uvm = uvm
    uvm:start()
    local _, guest = kind.get("bridge").acquire(w, { port = layout.BRIDGE_PORT })
    uvm:modify(add_share("0", at.folder .. "/precious"))
    guest:map_directory(share_facts "0")
    w:close()
    driver.terminate(uvm.facts)
    assert.equal("still here", read(at.folder .. "/precious/deep/file"))
    assert_nothing_left(uvm.facts)
  end))

  it("shares one file of a folder", with_vm(function(uvm, guest)
    if not uvm:capabilities().share_files then return end
    write(at.folder .. "/one.txt", "one")
    uvm:modify(add_share("5", at.folder, 0x84, "one.txt"))
    guest:map_directory(share_facts "5")
    guest:unmap_directory(share_facts "5")
    assert.equal("one", read(at.folder .. "/one.txt"))
  end))

  it("refuses a share that is not there, with the reason", with_vm(function(uvm, guest)
    assert.truthy(failure(guest.map_directory, guest, share_facts "9").message:find("no share", 1, true))
    uvm:modify(add_share("1", at.folder .. "/nothing"))
    assert.truthy(failure(guest.map_directory, guest, share_facts "1").message:find("nothing", 1, true))
    uvm:modify(add_share("2", at.folder, 0x84, "no-such-file"))
    failure(guest.map_directory, guest, share_facts "2")
  end))

  it("refuses share names and file names that are none (known bug 120)", with_vm(function(uvm)
    for _, share in ipairs { "..", "a/b", "", "a\nb" } do
      assert.equal("invalid_argument", failure(uvm.modify, uvm, add_share(share, at.folder)).code)
    end
    for _, file in ipairs { "..", "a/b", "" } do
      assert.equal("invalid_argument", failure(uvm.modify, uvm, add_share("3", at.folder, 0x84, file)).code)
    end
    assert.equal("already_exists", (function()
      uvm:modify(add_share("4", at.folder))
      return failure(uvm.modify, uvm, add_share("4", at.folder)).code
    end)())
  end))
end)

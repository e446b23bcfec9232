local agent = require "support.agent"
local filesystems = require "support.filesystems"
local gcs = require "support.gcs"
local DEVICE, OTHER = "0aa5a4b6-4f6c-4c3e-9a57-0123456789ab", "1aa5a4b6-4f6c-4c3e-9a57-0123456789ab"

agent.describe("the agent's devices", function()
  local vm, at
  local here = agent.root()
  agent.vm(function(booted, root) vm, at = booted, root end, here)

  ---As the host does it: the folder of a device appears whole. nodes: { name = "c 1 5", ... }
  local function give(instance, nodes)
    local half = ("%s/vpci/.%s"):format(vm.dir, instance)
    gcs.sh("mkdir -p " .. half)
    for name, node in pairs(nodes) do gcs.sh(("mknod -m 0640 %s/%s %s"):format(half, name, node)) end
    gcs.sh(("mv %s %s/vpci/%s"):format(half, vm.dir, instance))
  end

  local function run(line, over) return vm:run("c1", gcs.spec(at, { "sh", "-c", line }, over)) end

  local function asked(...)
    local list = {}
    for i, one in ipairs { ... } do
      one.idType = one.idType or "vpci-instance-id"
      list[i] = one
    end
    return { windows = { devices = list } }
  end

  it("are there when the host has made them, also when that comes late", function()
    local id = vm:request("modify", gcs.NULL, { Request = { RequestType = "Add", ResourceType = "VPCIDevice",
      Settings = { VMBusGUID = DEVICE } } })
    give(DEVICE, { zero = "c 1 5" })
    assert.equal(0, vm:answer(id).Result)
    assert.equal(0, (vm:modify("Add", "VPCIDevice", { VMBusGUID = DEVICE:upper() })))
  end)

  it("are waited for within a limit, and called by name when they do not come", function()
    local result, body = vm:modify("Add", "VPCIDevice", { VMBusGUID = DEVICE })
    assert.equal(0x80004005, result)
    assert.is_truthy(body.ErrorMessage:find(DEVICE, 1, true), body.ErrorMessage)
  end)

  it("are not removed by a message, and have a GUID", function()
    assert.equal(0x80004005, (vm:modify("Remove", "VPCIDevice", { VMBusGUID = DEVICE })))
    assert.equal(0x80070057, (vm:modify("Add", "VPCIDevice", { VMBusGUID = "../scsi" })))
    assert.equal(0xc037010d, (vm:modify("Add", "VPCIDevice", { VMBusGUID = 7 })))
    assert.equal(0x80070057, (vm:modify("Add", "VPCIDevice", {})))
  end)

  it("become nodes of a container, with all functions, under the names they have here or were given", function()
    give(DEVICE, { card0 = "c 195 0", card1 = "c 195 1" })
    give(OTHER, { zero = "c 1 5" })
    local code, out, err = run("stat -c '%n %t %T %a' /dev/card0 /dev/card1 /dev/z; head -c3 /dev/z | wc -c",
      asked({ id = DEVICE, idType = "gpu" }, { id = OTHER, path = "/dev/z", access = "r" }, { id = "x", idType = "class" }))
    assert.equal(0, code, type(err) == "table" and err.ErrorMessage or err)
    assert.equal("/dev/card0 c3 0 640\n/dev/card1 c3 1 640\n/dev/z 1 5 640\n3\n", out)
  end)

  it("that are not here fail the create, and leave nothing of it", function()
    local code, _, body = run("true", asked { id = DEVICE })
    assert.is_nil(code)
    assert.is_truthy(body.ErrorMessage:find("windows.devices[0]", 1, true), body.ErrorMessage)
    assert.equal("", vm:inside "find /run/gcs/pods -mindepth 1")
  end)

  it("of the host's folders are nothing that a spec can reach by a name", function()
    give(DEVICE, { zero = "c 1 5" })
    for _, id in ipairs { "../scsi", ".", DEVICE .. "/zero", "" } do assert.is_nil((run("true", asked { id = id }))) end
  end)

  for kind, over in pairs { ["on its own"] = {}, ["of a pod"] = {
    annotations = { ["io.kubernetes.cri.container-type"] = "sandbox", ["io.kubernetes.cri.sandbox-id"] = "c1" } } } do
    it(("are closed to a container %s that makes its own nodes"):format(kind), function()
      over.process = { capabilities = { bounding = { "CAP_MKNOD" }, effective = { "CAP_MKNOD" }, permitted = { "CAP_MKNOD" } } }
      local code, out, err = run("mknod /dev/mine b 7 0 && ls /dev/mine; cat /dev/mine", over)
      assert.not_equal(0, code, out)
      assert.equal("/dev/mine\n", out)
      assert.is_truthy(err:find("Operation not permitted", 1, true), err)
    end)
  end

  it("of a disk are found out to be erofs, or believed to be", function()
    if gcs.sh "command -v mkfs.erofs || true" == "" or not filesystems.known "erofs" then
      return pending "needs mkfs.erofs and a kernel with erofs"
    end
    gcs.sh(("mkfs.erofs %s/root.erofs %s/etc >/dev/null 2>&1"):format(here.folder, here.root))
    vm:attach(1, here.folder .. "/root.erofs", true)
    for _, filesystem in ipairs { "", "erofs" } do
      local settings = { MountPath = "/run/mounts/scsi/0_1_0", Lun = 1, ReadOnly = true, Filesystem = filesystem }
      assert.equal(0, (vm:modify("Add", "MappedVirtualDisk", settings)))
      assert.equal("erofs\n", vm:inside "stat -f -c %T /run/mounts/scsi/0_1_0 | sed 's/UNKNOWN (0xe0f5e1e2)/erofs/'")
      assert.equal(0, (vm:modify("Remove", "MappedVirtualDisk", settings)))
    end
    local wrong = { MountPath = "/run/mounts/scsi/0_1_0", Lun = 1, Filesystem = "ext4" }
    assert.equal(0x80004005, (vm:modify("Add", "MappedVirtualDisk", wrong)))
    assert.equal("", vm:inside "ls /run/mounts/scsi")
  end)
end)

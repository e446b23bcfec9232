local cjson = require "cjson"
local layout = require "moonshim.guest.layout"
local messages = require "moonshim.guest.messages"

-- The payloads of the protocol's vectors, without the newline that the bridge adds.
local NULL = layout.NULL
local VECTORS = {
  { "V1 negotiate", messages.negotiate(), 0x10100b01, "negotiate",
    [[{"ContainerId":"","ActivityId":"00000000-0000-0000-0000-000000000000","MinimumVersion":4,"MaximumVersion":4}]] },
  { "V3 a read-only SCSI layer",
    messages.modify(NULL, "Add", "MappedVirtualDisk", messages.disk_settings {
      guest_path = "/run/mounts/scsi/m0", controller = 0, lun = 1, partition = 0, mount = { read_only = true, options = { "ro" } },
    }), 0x10100a01, "modify",
    [[{"ContainerId":"00000000-0000-0000-0000-000000000000","ActivityId":"00000000-0000-0000-0000-000000000000","Request":{"RequestType":"Add","ResourceType":"MappedVirtualDisk","Settings":{"MountPath":"/run/mounts/scsi/m0","Lun":1,"ReadOnly":true,"Options":["ro"]}}}]] }, -- luacheck: ignore 631
  { "V5 combine layers",
    messages.modify(NULL, "Add", "CombinedLayers", messages.layers_settings {
      container = "c1", root = "/run/gcs/c/c1/rootfs", layers = { "/run/mounts/scsi/m0" }, scratch = "/run/gcs/c/c1/scratch/c1",
    }), 0x10100a01, "modify",
    [[{"ContainerId":"00000000-0000-0000-0000-000000000000","ActivityId":"00000000-0000-0000-0000-000000000000","Request":{"RequestType":"Add","ResourceType":"CombinedLayers","Settings":{"ContainerID":"c1","ContainerRootPath":"/run/gcs/c/c1/rootfs","Layers":[{"Path":"/run/mounts/scsi/m0"}],"ScratchPath":"/run/gcs/c/c1/scratch/c1"}}}]] }, -- luacheck: ignore 631
  { "V6 create",
    messages.create("c1", cjson.encode(messages.container_document {
      bundle = "/run/gcs/c/c1", scratch_dir = "/run/gcs/c/c1/scratch/c1",
      spec = {
        ociVersion = "1.1.0",
        process = { user = { uid = 0, gid = 0 }, args = { "/bin/sh" }, env = { "PATH=/bin" }, cwd = "/" },
        root = { path = "/run/gcs/c/c1/rootfs" }, linux = { resources = {} },
      },
    })), 0x10100101, "create",
    [[{"ContainerId":"c1","ActivityId":"00000000-0000-0000-0000-000000000000","ContainerConfig":"{\"SchemaVersion\":{\"Major\":2,\"Minor\":1},\"OciBundlePath\":\"/run/gcs/c/c1\",\"OciSpecification\":{\"ociVersion\":\"1.1.0\",\"process\":{\"user\":{\"uid\":0,\"gid\":0},\"args\":[\"/bin/sh\"],\"env\":[\"PATH=/bin\"],\"cwd\":\"/\"},\"root\":{\"path\":\"/run/gcs/c/c1/rootfs\"},\"linux\":{\"resources\":{}}},\"ScratchDirPath\":\"/run/gcs/c/c1/scratch/c1\"}"}]], -- luacheck: ignore 631
    "ContainerConfig" },
  { "V8 start", messages.plain "c1", 0x10100201, "start",
    [[{"ContainerId":"c1","ActivityId":"00000000-0000-0000-0000-000000000000"}]] },
  { "V9 execute init",
    messages.execute("c1", cjson.encode(messages.process_parameters({}, { stdin = 1073741825, stdout = 1073741826, stderr = 1073741827 })),
      { stdin = 1073741825, stdout = 1073741826, stderr = 1073741827 }), 0x10100501, "execute",
    [[{"ContainerId":"c1","ActivityId":"00000000-0000-0000-0000-000000000000","Settings":{"ProcessParameters":"{\"CreateStdInPipe\":true,\"CreateStdOutPipe\":true,\"CreateStdErrPipe\":true}","VsockStdioRelaySettings":{"StdIn":1073741825,"StdOut":1073741826,"StdErr":1073741827}}}]], -- luacheck: ignore 631
    "Settings.ProcessParameters" },
  { "V11 wait for ever", messages.wait("c1", 173), 0x10100601, "wait",
    [[{"ContainerId":"c1","ActivityId":"00000000-0000-0000-0000-000000000000","ProcessId":173,"TimeoutInMs":4294967295}]] },
  { "V12 exec, with an ampersand",
    messages.execute("c1", cjson.encode(messages.process_parameters(
      { OciProcess = { user = { uid = 0, gid = 0 }, args = { "echo", "a&b" }, cwd = "/" } }, { stdout = 1073741828 })),
      { stdout = 1073741828 }), 0x10100501, "execute",
    [[{"ContainerId":"c1","ActivityId":"00000000-0000-0000-0000-000000000000","Settings":{"ProcessParameters":"{\"CreateStdOutPipe\":true,\"OciProcess\":{\"user\":{\"uid\":0,\"gid\":0},\"args\":[\"echo\",\"a\\u0026b\"],\"cwd\":\"/\"}}","VsockStdioRelaySettings":{"StdOut":1073741828}}}]], -- luacheck: ignore 631
    "Settings.ProcessParameters" },
  { "V13 a process of the VM",
    messages.execute(NULL, cjson.encode(messages.process_parameters(
      { CommandArgs = { "uname", "-a" }, WorkingDirectory = "/", Environment = { PATH = "/bin" } }, { stdout = 1073741829 })),
      { stdout = 1073741829 }), 0x10100501, "execute",
    [[{"ContainerId":"00000000-0000-0000-0000-000000000000","ActivityId":"00000000-0000-0000-0000-000000000000","Settings":{"ProcessParameters":"{\"CommandArgs\":[\"uname\",\"-a\"],\"WorkingDirectory\":\"/\",\"Environment\":{\"PATH\":\"/bin\"},\"CreateStdOutPipe\":true}","VsockStdioRelaySettings":{"StdOut":1073741829}}}]], -- luacheck: ignore 631
    "Settings.ProcessParameters" },
  { "V14 TERM", messages.signal("c1", 173, 15), 0x10100701, "signal",
    [[{"ContainerId":"c1","ActivityId":"00000000-0000-0000-0000-000000000000","ProcessId":173,"Options":{"Signal":15}}]] },
  { "V16 resize to 40 rows x 120 columns", messages.resize("c1", 173, 40, 120), 0x10100801, "resize",
    [[{"ContainerId":"c1","ActivityId":"00000000-0000-0000-0000-000000000000","ProcessId":173,"Height":40,"Width":120}]] },
  { "V17 process list", messages.properties("c1", cjson.encode { PropertyTypes = { "ProcessList" } }), 0x10100901, "properties",
    [[{"ContainerId":"c1","ActivityId":"00000000-0000-0000-0000-000000000000","Query":"{\"PropertyTypes\":[\"ProcessList\"]}"}]],
    "Query" },
  { "V21 delete state", messages.plain "c1", 0x10100d01, "delete_state",
    [[{"ContainerId":"c1","ActivityId":"00000000-0000-0000-0000-000000000000"}]] },
}

-- JSON inside a string is compared as JSON, too: spelling is free, content is not.
local function unfold(message, path)
  local at = message
  local keys = {}
  for key in (path or ""):gmatch "[^.]+" do keys[#keys + 1] = key end
  if #keys == 0 then return message end
  for i = 1, #keys - 1 do at = at[keys[i]] end
  at[keys[#keys]] = cjson.decode(at[keys[#keys]])
  return message
end

describe("a request to the guest", function()
  for _, v in ipairs(VECTORS) do
    local name, message, kind, op, expected, inner = table.unpack(v)
    it("is the payload of " .. name, function()
      assert.same(unfold(cjson.decode(expected), inner), unfold(cjson.decode(cjson.encode(message)), inner))
      assert.equal(kind, messages.types[op])
    end)
  end

  it("repeats every field of a mount when it unmounts, and sends neither zero controller nor zero LUN", function()
    local facts = {
      guest_path = "/run/mounts/scsi/0_0_2", controller = 0, lun = 0, partition = 2,
      mount = { read_only = true, encrypted = true, options = { "ro" }, ensure_filesystem = true, filesystem = "xfs", block_dev = false },
    }
    local expected = {
      MountPath = "/run/mounts/scsi/0_0_2", Partition = 2, ReadOnly = true, Encrypted = true, Options = { "ro" },
      EnsureFilesystem = true, Filesystem = "xfs",
    }
    for _, verb in ipairs { "Add", "Remove" } do
      local m = messages.modify(NULL, verb, "MappedVirtualDisk", messages.disk_settings(facts))
      assert.same(expected, m.Request.Settings)
    end
  end)

  it("names mount points only where there are some", function()
    local function settings(points)
      local s = messages.layers_settings { container = "c", root = "/r", layers = { "/l" }, points = points }
      return messages.modify(NULL, "Add", "CombinedLayers", s).Request.Settings
    end
    assert.is_nil(settings(nil).MountPoints)
    assert.same({ "/srv", { Path = "/etc/x", File = true } }, settings({ { path = "/srv" }, { path = "/etc/x", file = true } }).MountPoints)
  end)

  it("keeps settings that became empty as an object", function()
    local m = messages.modify(NULL, "Remove", "SCSIDevice", { Controller = 0, Lun = 0 })
    assert.equal("{}", cjson.encode(m.Request.Settings))
  end)

  it("leaves signal options out when there is no signal", function()
    assert.is_nil(messages.signal("c1", 1, 0).Options)
    assert.is_nil(messages.signal("c1", 1).Options)
  end)

  it("shares a folder on port 564 under its generated name", function()
    assert.same({ MountPath = "/run/mounts/plan9/7", Port = 564, ShareName = "7", ReadOnly = true },
      messages.without_zero(messages.directory_settings { guest_path = "/run/mounts/plan9/7", share = "7", port = 564, read_only = true }))
  end)
end)

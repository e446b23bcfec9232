local devices = require "moonshim.oci.devices"
local document = require "moonshim.oci.document"
local err = require "moonshim.err"
local fake = require "support.fake_host"
local oci = require "moonshim.oci"

local files = fake.files {
  ["/dev/fuse"] = "char", ["/dev/disk/by-id/x"] = { kind = "block", real = "/dev/sdx" }, ["/dev/sdx"] = "block",
  ["/dev/bus/usb/001/004"] = "char", ["/etc"] = "directory", ["/root"] = "directory",
}

local function spec(list) return { windows = { devices = list }, linux = {} } end

local function refusal(list, code)
  local ok, e = pcall(devices.dispatch, spec(list), files)
  assert.is_false(ok, "was accepted")
  assert.is_true(err.is(e, code or "invalid_argument"), tostring(e))
  return e.message
end

describe("the id of a device", function()
  for id, want in pairs {
    ["PCIP\\X\\4"] = { "PCIP\\X", 4, "[#164]" },
    ["PCIP\\X/65535"] = { "PCIP\\X", 65535 }, ["PCIP\\X/65536"] = { "PCIP\\X/65536", 0 }, ["PCIP\\X/0"] = { "PCIP\\X", 0 },
    ["PCI\\VEN_8086\\0008"] = { "PCI\\VEN_8086\\0008", 0, "[#165]" },
    ["PCI\\VEN_8086\\3&1&0"] = { "PCI\\VEN_8086\\3&1&0", 0 }, ["/dev/bus/usb/001/004"] = { "/dev/bus/usb/001/004", 0, "[#165]" },
  } do
    it(("%s is %s, function %d %s"):format(id, want[1], want[2], want[3] or ""), function()
      assert.same({ want[1], want[2] }, { devices.parse_id(id) })
    end)
  end
end)

describe("the devices of a spec", function()
  it("are none without a Windows section [#167]", function()
    assert.same({}, devices.dispatch({ linux = {} }, files))
    assert.same({}, devices.dispatch({ windows = {} }, files))
  end)

  it("are found in spec order, links followed, with the name that the container will use", function()
    local out = devices.dispatch(spec {
      { id = "/dev/fuse", idType = "vpci" }, { id = "PCIP\\X\\4", idType = "vpci-instance-id" },
      { id = "/dev/disk/by-id/x", idType = "gpu", path = "/dev/card", access = "r" },
    }, files)
    assert.same({
      { index = 1, kind = "device", args = { path = "/dev/fuse", vf = 0, index = 1, destination = "/dev/fuse" } },
      { index = 2, kind = "device", args = { path = "PCIP\\X", vf = 4, index = 2 } },
      { index = 3, kind = "device", args = { path = "/dev/sdx", vf = 0, index = 3, destination = "/dev/card", access = "r" } },
    }, out)
  end)

  it("are refused before anything is taken, wherever the wrong one stands [#163]", function()
    assert.truthy(refusal({ { id = "/dev/fuse", idType = "vpci" }, { id = "x", idType = "class" } }):find("windows.devices[2]", 1, true))
    assert.truthy(refusal({ { id = "x" } }):find("idType is missing", 1, true))
    assert.truthy(refusal({ { idType = "vpci" } }):find("id is missing", 1, true))
    refusal { "x" }
  end)

  it("have to be devices", function()
    assert.truthy(refusal({ { id = "/etc", idType = "vpci" } }):find("/etc is a directory, not a device", 1, true))
    assert.truthy(refusal({ { id = "/dev/nope", idType = "vpci" } }, "not_found"):find("windows.devices[1]: device /dev/nope", 1, true))
  end)

  it("have a place each", function()
    assert.truthy(refusal({ { id = "/dev/fuse", idType = "vpci" }, { id = "/dev/sdx", idType = "vpci", path = "/dev/fuse" } })
      :find("windows.devices[1] is at /dev/fuse already", 1, true))
  end)

  it("reach the guest as instances, and only in its copy [#168]", function()
    local mine = spec { { id = "/dev/fuse", idType = "vpci" }, { id = "PCIP\\X\\4", idType = "vpci" } }
    mine.windows.layerFolders = { "x" }
    local doc = document.build {
      spec = mine, bundle = "/run/b", root = "/run/r",
      devices = { { index = 2, instance = "g2" }, { index = 1, instance = "g1", destination = "/dev/fuse", access = "rw" } },
    }
    assert.same({ devices = { { id = "g1", idType = "vpci", path = "/dev/fuse", access = "rw" }, { id = "g2", idType = "vpci" } } },
      doc.OciSpecification.windows)
    assert.equal("/dev/fuse", mine.windows.devices[1].id)
  end)

  it("come from the pod file, too", function()
    local built = oci.build({ rootfs = "/root", args = { "sh" },
      devices = { { path = "/dev/disk/by-id/x", destination = "/dev/x", access = "r" } } }, { id = "c", files = files })
    assert.same({ { index = 1, kind = "device", args = { path = "/dev/sdx", vf = 0, index = 1, destination = "/dev/x", access = "r" } } },
      built.devices)
  end)
end)

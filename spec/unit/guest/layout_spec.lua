local err = require "moonshim.err"
local layout = require "moonshim.guest.layout"

local function refusal(...)
  local ok, e = pcall(...)
  assert.is_false(ok)
  assert.is_true(err.is(e, "invalid_argument"))
  return e.message
end

describe("guest paths", function()
  it("are those of the protocol", function()
    assert.equal("/run/gcs/pods/p1/c1", layout.bundle("p1", "c1"))
    assert.equal("/run/gcs/pods/p1/c1/rootfs", layout.rootfs("p1", "c1"))
    assert.equal("/run/mounts/scsi/1_63_2", layout.scsi(1, 63, 2))
    assert.equal("/run/mounts/scsi/0_0_0", layout.scsi(0, 0))
    assert.equal("/run/mounts/plan9/12", layout.plan9 "12")
    assert.equal("/run/mounts/plan9/12/hosts", layout.share_file("12", "hosts"))
    assert.equal("/run/mounts/scsi/0_1_0/scratch/p1/c1", layout.scratch_dir("/run/mounts/scsi/0_1_0", "p1", "c1"))
  end)

  for name, id in pairs {
    ["a slash"] = "a/b", ["dots"] = "..", ["a leading dot"] = ".x", ["a space"] = "a b", ["a newline"] = "a\n", ["a NUL"] = "a\0b",
    ["nothing"] = "", ["300 bytes"] = ("x"):rep(300), ["a leading dash"] = "-v",
  } do
    it("are never made of an id with " .. name, function()
      refusal(layout.bundle, "p1", id)
      refusal(layout.bundle, id, "c1")
      refusal(layout.scratch_dir, "/run/mounts/scsi/0_0_0", "p1", id)
    end)
  end

  it("say which id was wrong, in one line", function()
    local text = refusal(layout.bundle, "p1", "a\nb")
    assert.truthy(text:find("container id", 1, true))
    assert.is_nil(text:find("\n", 1, true))
    assert.truthy(refusal(layout.name, "pod id", 7):find("must be text", 1, true))
  end)

  it("of shared files have plain names only", function()
    for _, name in ipairs { "..", ".", "", "a/b", "a\0b", ("x"):rep(256) } do refusal(layout.share_file, "1", name) end
    assert.equal("/run/mounts/plan9/1/a b,c", layout.share_file("1", "a b,c"))
  end)
end)

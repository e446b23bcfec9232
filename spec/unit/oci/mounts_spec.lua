local err = require "moonshim.err"
local fake = require "support.fake_host"
local mounts = require "moonshim.oci.mounts"

local files = fake.files {
  ["/data"] = "directory", ["/etc/app.conf"] = "file", ["/etc/other.conf"] = "file", ["/disks/a.vhd"] = { format = "vhd" },
  ["/dev/sdx"] = { kind = "block" }, ["/link"] = { kind = "directory", real = "/data" },
}

local function dispatch(list) return mounts.dispatch({ mounts = list }, files) end
local function one(m)
  m.destination = m.destination or "/mnt"
  return dispatch({ m })[1]
end

local function refusal(m)
  local ok, e = pcall(one, m)
  assert.is_false(ok, "was accepted")
  assert.is_true(err.is(e), tostring(e))
  return e.message, e.code
end

describe("mount dispatch", function()
  it("shares a host directory", function()
    assert.same({ index = 1, kind = "share", args = { path = "/data", file = false, read_only = false, mount_index = 1 } },
      one { type = "bind", source = "/data" })
  end)

  it("shares it read-only when asked, in any case", function()
    assert.is_true(one({ type = "bind", source = "/data", options = { "rbind", "RO" } }).args.read_only)
  end)

  it("shares a single file as a file", function()
    local e = one { type = "bind", source = "/etc/app.conf" }
    assert.is_true(e.args.file)
    assert.equal("/etc/app.conf", e.args.path)
  end)

  it("takes two files of one directory, and one directory twice", function()
    local list = dispatch {
      { type = "bind", source = "/etc/app.conf", destination = "/a" }, { type = "bind", source = "/etc/other.conf", destination = "/b" },
      { type = "bind", source = "/data", destination = "/c", options = { "ro" } }, { type = "bind", source = "/data", destination = "/d" },
    }
    assert.equal(4, #list)
    assert.same({ true, false }, { list[3].args.read_only, list[4].args.read_only })
  end)

  it("uses the canonical path", function() assert.equal("/data", one({ type = "bind", source = "/link" }).args.path) end)

  it("takes a bind without type by its option", function()
    assert.equal("share", one({ source = "/data", options = { "rbind" } }).kind)
    assert.equal("share", one({ type = "none", source = "/data", options = { "bind" } }).kind)
  end)

  it("attaches a virtual disk writable unless it says ro [#138]", function()
    local e = one { type = "virtual-disk", source = "/disks/a.vhd" }
    assert.equal("disk", e.kind)
    assert.equal("VirtualDisk", e.args.type)
    assert.is_false(e.args.read_only)
    assert.is_true(one({ type = "virtual-disk", source = "/disks/a.vhd", options = { "RO" } }).args.read_only)
  end)

  it("passes a physical disk through", function()
    assert.equal("PassThru", one({ type = "physical-disk", source = "/dev/sdx" }).args.type)
    refusal { type = "physical-disk", source = "/data" }
    refusal { type = "virtual-disk", source = "/dev/sdx" }
  end)

  it("splits an extensible disk at the first separator [#140] [#142]", function()
    local e = one { type = "extensible-virtual-disk", source = "evd://prov/path/to/it" }
    assert.same({ "ExtensibleVirtualDisk", "prov", "path/to/it" }, { e.args.type, e.args.provider, e.args.path })
  end)

  for _, source in ipairs { "evd:///path", "evd://prov", "evd://prov/", "prov/path" } do
    it("refuses the extensible disk " .. source .. " [#141]", function() refusal { type = "extensible-virtual-disk", source = source } end)
  end

  it("refuses a disk that is not there [#143]", function()
    local text, code = refusal { type = "virtual-disk", source = "/disks/none" }
    assert.equal("not_found", code)
    assert.truthy(text:find("mounts[1]", 1, true))
  end)

  it("marks a block device destination [#144]", function()
    local e = one { type = "virtual-disk", source = "/disks/a.vhd", destination = "blockdev:///dev/x" }
    assert.is_true(e.args.block_dev)
    local spec = { mounts = { { type = "virtual-disk", source = "/disks/a.vhd", destination = "blockdev:///dev/x" } }, linux = {} }
    mounts.rewrite(spec, { { bus = "scsi", mount_index = 1, guest_path = "/run/mounts/scsi/0_0_0", mount = { block_dev = true } } })
    assert.same({ "bind", "blockdev:///dev/x", "/run/mounts/scsi/0_0_0" }, { spec.mounts[1].type, spec.mounts[1].destination,
      spec.mounts[1].source })
    assert.same({}, spec.linux.resources)
  end)

  it("leaves huge pages of 2M to the guest, and refuses others [#145] [#146] [#147]", function()
    assert.is_nil(one { type = "bind", source = "hugepages://2M/name" })
    for _, source in ipairs { "hugepages://1G/name", "hugepages://2M", "hugepages://", "hugepages://2M/" } do
      refusal { type = "bind", source = source }
    end
  end)

  it("leaves guest sources alone [#148]", function()
    for _, source in ipairs { "sandbox://x", "sandbox-tmp://x", "uvm://x" } do assert.is_nil(one { type = "bind", source = source }) end
    refusal { type = "bind", source = "moon://x" }
  end)

  it("refuses a bind whose source is missing, relative or not there", function()
    refusal { type = "bind" }
    refusal { type = "bind", source = "" }
    refusal { type = "bind", source = "data" }
    local _, code = refusal { type = "bind", source = "/none" }
    assert.equal("not_found", code)
  end)

  it("passes everything else through [#157] [#158]", function()
    assert.same({}, dispatch { { type = "tmpfs", destination = "/tmp" }, { type = "weird", source = "x", destination = "/w" },
      { destination = "/n" } })
  end)

  it("keeps spec order and knows each entry's place", function()
    local list = dispatch {
      { type = "virtual-disk", source = "/disks/a.vhd", destination = "/1" }, { type = "tmpfs", destination = "/2" },
      { type = "bind", source = "/data", destination = "/3" }, { type = "bind", source = "uvm://x", destination = "/4" },
    }
    assert.same({ { 1, "disk" }, { 3, "share" } }, { { list[1].index, list[1].kind }, { list[2].index, list[2].kind } })
  end)

  it("passes the options of a disk on unchanged", function()
    assert.same({ "rshared", "nodev" }, one({ type = "virtual-disk", source = "/disks/a.vhd", options = { "rshared",
      "nodev" } }).args.options)
  end)
end)

describe("rewriting", function()
  it("puts guest paths in and makes every entry a bind", function()
    local spec = { linux = {}, mounts = {
      { type = "proc", source = "proc", destination = "/proc" }, { type = "bind", source = "/data", destination = "/d",
        options = { "ro" } },
      { type = "virtual-disk", source = "/disks/a.vhd", destination = "/v", options = { "ro" } },
    } }
    mounts.rewrite(spec, {
      { bus = "scsi", mount_index = 3, guest_path = "/run/mounts/scsi/0_0_0", mount = {} },
      { bus = "plan9", mount_index = 2, source = "/run/mounts/plan9/0" },
    })
    assert.same({ type = "proc", source = "proc", destination = "/proc" }, spec.mounts[1])
    assert.same({ type = "bind", source = "/run/mounts/plan9/0", destination = "/d", options = { "rbind", "ro" } }, spec.mounts[2])
    assert.same({ type = "none", source = "/run/mounts/scsi/0_0_0", destination = "/v", options = { "bind", "ro" } }, spec.mounts[3])
  end)
end)

describe("mount points", function()
  it("are the destinations, files where a file goes, the guest's own files and the working directory", function()
    local spec = { process = { cwd = "/srv/app" }, mounts = {
      { type = "proc", destination = "/proc" }, { type = "bind", source = "/etc/app.conf", destination = "/etc/app.conf" },
    } }
    local points = {}
    for _, p in ipairs(mounts.points(spec, mounts.dispatch(spec, files))) do points[p.path] = p.file and "file" or "folder" end
    assert.same({ ["/proc"] = "folder", ["/etc/app.conf"] = "file", ["/etc/hostname"] = "file", ["/etc/hosts"] = "file",
      ["/etc/resolv.conf"] = "file", ["/srv/app"] = "folder" }, points)
  end)
end)

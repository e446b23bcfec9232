local err = require "moonshim.err"
local fake = require "support.fake_host"
local root = require "moonshim.oci.root"

local files = fake.files {
  ["/roots/busybox"] = "directory",
  ["/img/base.ext4"] = { format = "ext4" }, ["/img/app.ext4"] = { format = "ext4" },
  ["/img/link.ext4"] = { format = "ext4", real = "/img/app.ext4" },
  ["/img/layer.vhd"] = { format = "vhd", inner = "ext4" }, ["/img/ntfs.vhd"] = { format = "vhd", inner = "unknown" },
  ["/img/x.squashfs"] = { format = "squashfs" }, ["/img/notes.txt"] = { format = "unknown" },
  ["/img/base.erofs"] = { format = "erofs" }, ["/img/erofs.vhd"] = { format = "vhd", inner = "erofs" },
  ["/img/scratch.vhd"] = { format = "vhd", inner = "unknown", blank = true }, ["/img/x.vhdx"] = { format = "vhdx" },
  ["/img/blank"] = { format = "unknown", blank = true },
  ["/dev/vg/lv"] = { kind = "block", format = "ext4" }, ["/run/pipe"] = "fifo",
}

local function refusal(container, code)
  local ok, e = pcall(root.choose, container, files, "containers.web")
  assert.is_false(ok, "was accepted")
  assert.is_true(err.is(e, code or "invalid_argument"), tostring(e))
  return e.message
end

describe("the root file system", function()
  it("is a directory used in place", function()
    assert.same({ mode = "share", read_only = false, share = { path = "/roots/busybox", read_only = false } },
      root.choose({ rootfs = "/roots/busybox" }, files))
  end)

  it("is an overlay without scratch when a directory may not be written", function()
    local r = root.choose({ rootfs = "/roots/busybox", read_only = true }, files)
    assert.equal("overlay", r.mode)
    assert.is_true(r.read_only)
    assert.equal("directory", r.layers[1].format)
    assert.is_nil(r.scratch)
  end)

  it("leaves a directory untouched when there is a scratch disk", function()
    local r = root.choose({ rootfs = "/roots/busybox", scratch = { size = 1 << 26 } }, files)
    assert.equal("overlay", r.mode)
    assert.is_false(r.read_only)
    assert.same({ size = 1 << 26 }, r.scratch)
  end)

  it("is read-only for an image without scratch", function()
    local r = root.choose({ rootfs = "/img/base.ext4" }, files)
    assert.same({ { path = "/img/base.ext4", partition = 0, format = "ext4" } }, r.layers)
    assert.is_true(r.read_only)
  end)

  it("keeps the order of layers, base first, and mixes images and directories", function()
    local r = root.choose({ layers = { { path = "/img/base.ext4" }, { path = "/roots/busybox" }, { path = "/img/layer.vhd",
      partition = 2 } },
      scratch = { path = "/img/blank" } }, files)
    assert.same({ "/img/base.ext4", "/roots/busybox", "/img/layer.vhd" }, { r.layers[1].path, r.layers[2].path, r.layers[3].path })
    assert.equal(2, r.layers[3].partition)
    assert.same({ path = "/img/blank" }, r.scratch)
  end)

  it("may be erofs, and any of them in a fixed VHD", function()
    for path, format in pairs { ["/img/base.erofs"] = "erofs", ["/img/erofs.vhd"] = "erofs", ["/img/layer.vhd"] = "ext4" } do
      assert.equal(format, root.choose({ rootfs = path }, files).layers[1].format)
    end
    assert.same({ path = "/img/scratch.vhd" }, root.choose({ rootfs = "/img/base.erofs", scratch = { path = "/img/scratch.vhd" } },
      files).scratch)
    refusal({ rootfs = "/img/base.ext4", scratch = { path = "/img/base.erofs" } }, "failed_precondition")
  end)

  it("takes block devices and canonical paths", function()
    assert.equal("/dev/vg/lv", root.choose({ rootfs = "/dev/vg/lv" }, files).layers[1].path)
    assert.equal("/img/app.ext4", root.choose({ rootfs = "/img/link.ext4" }, files).layers[1].path)
  end)

  for path, what in pairs { ["/img/x.squashfs"] = "squashfs", ["/img/notes.txt"] = "unknown format", ["/img/ntfs.vhd"] = "unknown",
    ["/img/x.vhdx"] = "is a vhdx image", ["/run/pipe"] = "fifo" } do
    it("names what is supported when it gets " .. what .. " " .. path, function()
      local text = refusal { rootfs = path }
      assert.truthy(text:find(what, 1, true), text)
      assert.truthy(text:find("ext4 and erofs images, fixed VHDs of these, and directories", 1, true), text)
      assert.truthy(text:find("containers.web.rootfs", 1, true), text)
    end)
  end

  it("says what is not there", function()
    assert.truthy(refusal({ rootfs = "/nope" }, "not_found"):find("/nope", 1, true))
    assert.truthy(refusal({ layers = { { path = "/img/base.ext4" }, { path = "/gone" } } }, "not_found"):find("layers[2]", 1, true))
  end)

  it("is either rootfs or layers", function()
    refusal {}
    refusal { rootfs = "/roots/busybox", layers = { { path = "/img/base.ext4" } } }
    refusal { layers = {} }
  end)

  it("takes a layer once, whatever it is called (known bug 112)", function()
    assert.truthy(refusal({ layers = { { path = "/img/app.ext4" }, { path = "/img/link.ext4" } } }):find("layers[1] already", 1, true))
    assert.truthy(root.choose({ layers = { { path = "/img/app.ext4", partition = 1 }, { path = "/img/app.ext4", partition = 2 } } }, files))
  end)

  it("has a limit of layers", function()
    local many = {}
    for i = 1, 101 do many[i] = { path = "/img/base.ext4", partition = i } end
    assert.truthy(refusal({ layers = many }):find("101 layers", 1, true))
  end)

  it("never lets the guest format a file that holds something", function()
    local text = refusal({ layers = { { path = "/img/base.ext4" } }, scratch = { path = "/img/notes.txt" } }, "failed_precondition")
    assert.truthy(text:find("notes.txt", 1, true))
    assert.truthy(root.choose({ layers = { { path = "/img/base.ext4" } }, scratch = { path = "/img/app.ext4" } }, files))
  end)
end)

local command = require "e2e.command"
local filesystems = require "support.filesystems"
local uv = require "luv"
local vhd = require "support.vhd"

local function has(program)
  for _, dir in ipairs { "/usr/bin", "/usr/sbin", "/sbin", "/bin" } do
    if uv.fs_access(dir .. "/" .. program, "X") then return dir .. "/" .. program end
  end
end

local mkfs_erofs = has "mkfs.erofs"
local kernel = filesystems.known "erofs"

local function erofs(name, root)
  local path = command.folder .. "/" .. name
  local result = command.execute(mkfs_erofs, { "-x-1", path, root })
  assert(result.code == 0, result.err)
  return path
end

local function scratch_files()
  local out = {}
  for _, name in ipairs(command.list(command.run_dir)) do
    local dir = command.run_dir .. "/" .. name
    for _, file in ipairs(command.list(dir)) do
      if file:find "^scratch%-" then out[#out + 1] = dir .. "/" .. file end
    end
  end
  return out
end

describe("moonshim run with an image", function()
  local check_leaks, images
  setup(function()
    check_leaks = command.leaks()
    images = { ext4 = command.image "base" }
    images["ext4 in a fixed VHD"] = vhd.write(images.ext4, command.folder .. "/base.vhd")
    if mkfs_erofs and kernel then
      images.erofs = erofs("base.erofs", command.root())
      images["erofs in a fixed VHD"] = vhd.write(images.erofs, command.folder .. "/base.erofs.vhd")
    end
  end)
  after_each(function() check_leaks() end)
  teardown(function() command.cleanup() end)

  for _, format in ipairs { "ext4", "ext4 in a fixed VHD", "erofs", "erofs in a fixed VHD" } do
    it(("of %s has a root that cannot be written, and that is as it was"):format(format), function()
      if not images[format] then return pending "needs mkfs.erofs and a kernel with erofs" end
      local before = command.execute("/usr/bin/sha256sum", { images[format] }).out
      local result = command.run({ "sh", "-c", "touch /x 2>&1; grep -c root: /etc/passwd" }, { "--rootfs", images[format] })
      assert.equal(0, result.code, result.err)
      assert.is_truthy(result.out:find("Read-only file system", 1, true), result.out)
      assert.is_truthy(result.out:find("\n1\n", 1, true), result.out)
      assert.equal(before, command.execute("/usr/bin/sha256sum", { images[format] }).out)
    end)
  end

  it("of erofs below another layer and a scratch disk can be written", function()
    if not images.erofs then return pending "needs mkfs.erofs and a kernel with erofs" end
    local result = command.run({ "sh", "-c", "cat /app/greeting; echo mine > /etc/passwd; cat /etc/passwd; rm /bin/vi; ls /bin/vi 2>&1" },
      { "--layer", images.erofs, "--layer", command.image "app", "--scratch", "32M" })
    assert.is_truthy(result.out:find("\nmine\n", 1, true), result.err)
    assert.is_truthy(result.out:find("No such file", 1, true), result.out)
  end)

  it("may keep what is written in a fixed VHD, whose footer stays", function()
    local disk = vhd.write(32 << 20, command.folder .. "/scratch.vhd")
    local result = command.run({ "sh", "-c", "echo kept > /kept && cat /kept" }, { "--layer", images.ext4, "--scratch", disk })
    assert.equal("kept\n", result.out, result.err)
    local file = assert(io.open(disk, "rb"))
    file:seek("set", 32 << 20)
    assert.equal(vhd.footer(32 << 20), file:read "a")
    file:close()
  end)

  for what, make in pairs {
    ["a squashfs image"] = function() return command.write("x.squashfs", "hsqs" .. ("\0"):rep(8192)) end,
    ["a vhdx image"] = function() return command.write("x.vhdx", "vhdxfile" .. ("\0"):rep(8192)) end,
    ["a qcow2 image"] = function() return command.write("x.qcow2", "QFI\xfb" .. ("\0"):rep(8192)) end,
    ["a VHD with unknown content"] = function() return vhd.write(1 << 20, command.folder .. "/empty.vhd") end,
    ["unknown format"] = function() return command.write("notes.txt", ("text\n"):rep(4096)) end,
  } do
    it(("that is of no use (%s) is refused in one line that says what is supported"):format(what), function()
      local path = make()
      local result = command.run({ "true" }, { "--rootfs", path })
      assert.equal(125, result.code)
      for _, text in ipairs { path, what, "supported are ext4 and erofs images, fixed VHDs of these, and directories" } do
        assert.is_truthy(result.err:find(text, 1, true), result.err)
      end
      assert.equal(1, select(2, result.err:gsub("\n", "")), result.err)
    end)
  end

  it("makes a scratch disk on demand: sparse while it is used, gone with the run", function()
    local process = command.spawn(command.program,
      command.run_args({ "sh", "-c", "trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done" },
        { "--layer", images.ext4, "--scratch", "1G" }))
    process:wait_for("up\n")
    local files = scratch_files()
    assert.equal(1, #files)
    local stat = uv.fs_stat(files[1])
    assert.equal(1 << 30, stat.size)
    assert.equal(0x180, stat.mode & 0x1ff)
    assert.is_true(stat.blocks * 512 < (1 << 30) // 8, "the file takes its whole size")
    process:kill("sigterm")
    assert.equal(0, process:wait().code)
    assert.is_nil(uv.fs_stat(files[1]))
  end)
end)

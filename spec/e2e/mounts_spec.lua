local command = require "e2e.command"
local uv = require "luv"

local hugepages = uv.fs_stat "/sys/kernel/mm/hugepages/hugepages-2048kB" ~= nil

local function sh(script, options) return command.run({ "sh", "-c", script }, options) end

local function refused(options, ...)
  local result = command.run({ "true" }, options)
  assert.equal(125, result.code)
  for _, text in ipairs { ... } do assert.is_truthy(result.err:find(text, 1, true), result.err) end
  assert.equal(1, select(2, result.err:gsub("\n", "")), result.err)
end

describe("a container's mounts", function()
  local check_leaks, disk
  setup(function()
    check_leaks = command.leaks()
    disk = command.empty_image("data.ext4")
    command.execute("/bin/sh", { "-c", ("mkdir -p %s/share/sub && echo first > %s/share/file && echo second > %s/share/other"):format(
      command.folder, command.folder, command.folder) })
  end)
  after_each(function() check_leaks() end)
  teardown(function() command.cleanup() end)

  local function folder() return command.folder .. "/share" end

  describe("of block devices", function()
    it("show the device where they are asked for, with a rule that lets it be written [#144]", function()
      local result = sh("stat -c %F /dev/data; dd if=/dev/data bs=1 skip=1080 count=2 2>/dev/null | od -An -tx1; "
        .. "echo mark | dd of=/dev/data conv=notrunc 2>/dev/null; head -c5 /dev/data",
        { "--mount", "type=virtual-disk,source=" .. disk .. ",destination=blockdev:///dev/data" })
      assert.equal("block special file\n 53 ef\nmark\n", result.out, result.err)
      assert.equal("mark\n", command.read(disk):sub(1, 5))
    end)

    it("may be read-only, in a root that is read-only, too", function()
      local result = sh("head -c1 /dev/some/disk | wc -c; echo x > /dev/some/disk", { "--rootfs", command.image "base",
        "--mount", "type=virtual-disk,source=" .. disk .. ",destination=blockdev:///dev/some/disk,ro" })
      assert.equal("1\n", result.out, result.err)
      assert.is_truthy(result.err:find("not permitted", 1, true) or result.err:find("Read-only", 1, true), result.err)
      assert.not_equal(0, result.code)
    end)

    it("of the host are passed through", function()
      local loop = command.execute("/sbin/losetup", { "-f", "--show", command.image "app" }).out:match "%S+"
      local result = sh("stat -c %F /dev/data; ls /mnt", {
        "--mount", "type=physical-disk,source=" .. loop .. ",destination=blockdev:///dev/data,ro" })
      command.execute("/sbin/losetup", { "-d", loop })
      assert.equal("block special file\n", result.out, result.err)
    end)
  end)

  it("of a disk have its file system", function()
    local image = command.empty_image("files.ext4")
    local option = "type=virtual-disk,source=" .. image .. ",destination=/data"
    assert.equal("kept\n", sh("echo kept > /data/file; cat /data/file", { "--mount", option }).out)
    local result = sh("cat /data/file; touch /data/new", { "--mount", option .. ",ro" })
    assert.equal("kept\n", result.out, result.err)
    assert.is_truthy(result.err:find("Read-only", 1, true))
  end)

  it("of a disk that can only be read are refused unless they are read-only, and so is a scratch", function()
    local at = command.folder .. "/sealed"
    local made = command.execute("/bin/sh", { "-c", ("mkdir %s && mount -t tmpfs tmpfs %s && truncate -s 8M %s/disk"
      .. " && mkfs.ext4 -q -F %s/disk && mount -o remount,ro %s"):format(at, at, at, at, at) })
    assert.equal(0, made.code, made.err)
    local disk_there = at .. "/disk"
    local option = "type=virtual-disk,source=" .. disk_there .. ",destination=/d"
    local readable = sh("grep -c ' /d ext4 ro' /proc/mounts", { "--mount", option .. ",ro" })
    local ok, e = pcall(function()
      refused({ "--mount", option }, disk_there, "cannot be written")
      refused({ "--rootfs", command.image "base", "--scratch", disk_there }, disk_there, "cannot be written")
    end)
    command.execute("/bin/umount", { at })
    assert(ok, e)
    assert.equal("1\n", readable.out, readable.err)
  end)

  it("of one folder, once read-only and once writable, stand side by side [#153]", function()
    local result = sh("echo new > /rw/file; cat /ro/file; echo x > /ro/file; echo $?", {
      "--mount", "source=" .. folder() .. ",destination=/ro,ro", "--mount", "source=" .. folder() .. ",destination=/rw" })
    assert.equal("new\n1\n", result.out, result.err)
    assert.equal("new\n", command.read(folder() .. "/file"))
  end)

  it("of two files of one folder are two shares, each of its file alone [#151] [#152]", function()
    local result = sh("cat /a /b; ls / | grep -c other", {
      "--mount", "source=" .. folder() .. "/file,destination=/a", "--mount", "source=" .. folder() .. "/other,destination=/b,ro" })
    assert.equal("new\nsecond\n0\n", result.out, result.err)
  end)

  it("of one disk cannot be read-only and writable at once, and say so [#234]", function()
    refused({ "--mount", "type=virtual-disk,source=" .. disk .. ",destination=blockdev:///dev/a",
      "--mount", "type=virtual-disk,source=" .. disk .. ",destination=blockdev:///dev/b,ro" }, disk, "in this VM and cannot be")
  end)

  it("of more disks than there are slots are refused, and nothing of them is left [#229]", function()
    local made = command.execute("/bin/sh", { "-c", ("mkdir %s/many && cd %s/many && truncate -s 1M 1 && mkfs.ext4 -q -F 1 2>&1 && "
      .. "for i in $(seq 2 257); do cp --sparse=always 1 $i; done"):format(command.folder, command.folder) })
    assert.equal(0, made.code, made.err)
    local pod = command.write("many.lua", [[
local moonshim = require "moonshim"
local mounts = {}
for i = 1, 257 do mounts[i] = { source = "many/" .. i, destination = "/d/" .. i, type = "virtual-disk" } end
return moonshim.pod { name = "many", sandbox = false, containers = {
  c = { rootfs = "roots/busybox", args = { "true" }, mounts = mounts } } }
]])
    command.root()
    local result = command.moonshim { "run", pod }
    assert.equal(125, result.code)
    assert.is_truthy(result.err:find("no free SCSI slot: all 256 of 4 controllers are taken", 1, true), result.err)
    assert.equal(1, select(2, result.err:gsub("\n", "")), result.err)
  end)

  it("of huge pages are of 2M [#145]", function()
    if not hugepages then return pending "needs huge pages of 2M" end
    local result = sh("grep ' /huge ' /proc/mounts", { "--mount", "source=hugepages://2M/mine,destination=/huge" })
    assert.is_truthy(result.out:find("hugetlbfs /huge hugetlbfs", 1, true), result.out .. result.err)
    assert.is_truthy(result.out:find("pagesize=2M", 1, true), result.out)
  end)

  for source, text in pairs {
    ["hugepages://1G/x"] = '"1G" are not supported, only 2M',
    ["hugepages://2M"] = "must look like hugepages://2M/name",
    ["hugepages://"] = "must look like hugepages://2M/name",
    ["sandpit://x"] = "there is no sandpit://; known are hugepages, sandbox",
    ["uvm:///no/such/folder"] = "mounts[",
  } do
    local tag = source:find "1G" and " [#146]" or source:find "hugepages" and " [#147]" or ""
    it(("from %s are refused%s"):format(source, tag), function()
      refused({ "--mount", "source=" .. source .. ",destination=/x" }, text)
    end)
  end

  it("from the VM itself show its files [#148]", function()
    local result = sh("test -d /u/bin && echo yes; touch /u/x", { "--mount", "source=uvm:///usr,destination=/u,ro" })
    assert.equal("yes\n", result.out, result.err)
  end)

  it("of a container on its own may use the folders of a pod", function()
    local result = sh("echo x > /s/file; echo y > /t/file; cat /s/file /t/file; grep -c '^tmpfs /t ' /proc/mounts", {
      "--mount", "source=sandbox://a/b,destination=/s", "--mount", "source=sandbox-tmp://c,destination=/t" })
    assert.equal("x\ny\n1\n", result.out, result.err)
  end)

  it("of a pod share folders that live as long as it, and stay inside [#148]", function()
    local pod = command.write("shared.lua", [[
local moonshim = require "moonshim"
local function c(args, mounts) return { rootfs = "roots/busybox", args = { "sh", "-c", args }, mounts = mounts, user = "1000:1000" } end
return moonshim.pod { name = "shared", containers = {
  a = c("echo disk > /s/file; echo memory > /t/file; while ! test -s /s/seen; do sleep 0.01; done; cat /s/seen",
    { { source = "sandbox://one/two", destination = "/s" }, { source = "sandbox-tmp://three", destination = "/t" } }),
  b = c("while ! test -s /t/file; do sleep 0.01; done; cat /s/file /t/file; echo seen > /s/seen; grep -c ' /t tmpfs' /proc/mounts; ls /all",
    { { source = "sandbox://one/two", destination = "/s" }, { source = "sandbox-tmp://../../three", destination = "/t" },
      { source = "sandbox://../../../../..", destination = "/all" } }),
} }
]])
    command.root()
    local result = command.moonshim { "run", pod }
    assert.equal(0, result.code, result.err)
    for _, line in ipairs { "a | seen", "b | disk", "b | memory", "b | 1", "b | one" } do
      assert.is_truthy(("\n" .. result.out):find("\n" .. line .. "\n", 1, true), line .. " is missing in " .. result.out .. result.err)
    end
  end)
end)

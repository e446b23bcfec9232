local agent = require "support.agent"
local gcs = require "support.gcs"
local uv = require "luv"

agent.describe("the agent's storage", function()
  local vm, folder, root
  agent.root(function(made)
    folder, root = made.folder, made.root
    -- base and app overlap in one file; app deletes another.
    gcs.sh(("mkdir -p %s/app/etc %s/app/only && echo app > %s/app/etc/which && echo base > %s/etc/which"):format(
      folder, folder, folder, root))
    gcs.sh(("echo gone > %s/etc/gone && mknod %s/app/etc/gone c 0 0"):format(root, folder))
    for name, from in pairs { base = root, app = folder .. "/app" } do
      gcs.sh(("truncate -s 32M %s/%s.img && mkfs.ext4 -q -d %s %s/%s.img"):format(folder, name, from, folder, name))
    end
  end)
  agent.vm(function(booted) vm = booted end)

  local function scratch_image(name, size)
    local path = ("%s/%s.img"):format(folder, name)
    gcs.sh(("rm -f %s && truncate -s %s %s"):format(path, size or "64M", path))
    return path
  end

  local function disk(lun, settings)
    settings = settings or {}
    settings.MountPath, settings.Lun = settings.MountPath or ("/run/mounts/scsi/0_%d_0"):format(lun), lun
    return vm:modify("Add", "MappedVirtualDisk", settings)
  end

  local function undisk(lun, settings)
    settings = settings or {}
    settings.MountPath, settings.Lun = settings.MountPath or ("/run/mounts/scsi/0_%d_0"):format(lun), lun
    return vm:modify("Remove", "MappedVirtualDisk", settings)
  end

  ---Layers 1 (base) and 2 (app) and, with `scratch`, disk 3 on top; a root for container `id`.
  local function combine(id, opts)
    opts = opts or {}
    local settings = {
      ContainerID = id,
      ContainerRootPath = gcs.bundle(id) .. "/rootfs",
      Layers = { { Path = "/run/mounts/scsi/0_2_0" }, { Path = "/run/mounts/scsi/0_1_0" } },
      ScratchPath = opts.scratch and "/run/mounts/scsi/0_3_0/scratch/pod/" .. id or nil,
      MountPoints = opts.mount_points,
    }
    local result, body = vm:modify("Add", "CombinedLayers", settings)
    return result, settings, body
  end

  local function attach_layers()
    vm:attach(1, folder .. "/base.img", true)
    vm:attach(2, folder .. "/app.img", true)
    for lun = 1, 2 do assert.equal(0, (disk(lun, { ReadOnly = true, Options = { "ro" } }))) end
  end

  local function attach_scratch()
    vm:attach(3, scratch_image "scratch")
    assert.equal(0, (disk(3, { EnsureFilesystem = true, Filesystem = "ext4" })))
  end

  local function mounts() return vm:inside "grep -c ' /run/' /proc/self/mounts" end

  it("mounts a disk by its place, read-only and without a journal, and takes it away", function()
    local before = mounts()
    vm:attach(1, folder .. "/base.img", true)
    assert.equal(0, (disk(1, { ReadOnly = true })))
    assert.equal("base\n", vm:inside "cat /run/mounts/scsi/0_1_0/etc/which")
    assert.is_truthy(vm:inside("touch /run/mounts/scsi/0_1_0/x"):find "[Rr]ead%-only")
    assert.equal(0, (undisk(1)))
    assert.equal(0, (undisk(1)))
    assert.equal(0, (vm:modify("Remove", "SCSIDevice", { Lun = 1 })))
    assert.equal(before, mounts())
    assert.equal("", vm:inside "ls /run/mounts/scsi")
  end)

  it("makes a file system once and keeps it", function()
    attach_scratch()
    assert.equal("", vm:inside "echo kept > /run/mounts/scsi/0_3_0/file")
    assert.equal(0, (undisk(3)))
    assert.equal(0, (disk(3, { EnsureFilesystem = true, Filesystem = "ext4" })))
    assert.equal("kept\n", vm:inside "cat /run/mounts/scsi/0_3_0/file")
  end)

  it("refuses disks that it cannot use, in bounded time, naming them", function()
    vm:attach(4, scratch_image("blank", "16M"))
    local result, body = disk(4)
    assert.equal(0x80004005, result)
    assert.is_truthy(body.ErrorMessage:find "0:4")
    result, body = disk(9)
    assert.equal(0x80004005, result)
    assert.is_truthy(body.ErrorMessage:find "0:9")
    assert.equal(0x80070057, (disk(4, { EnsureFilesystem = true, Filesystem = "vfat" })))
    assert.equal(0x80070057, (disk(4, { Controller = 4 })))
    assert.equal(0xc037010d, (disk(4, { ReadOnly = "yes" })))
    assert.equal("", vm:inside "ls /run/mounts/scsi 2>/dev/null; true")
  end)

  it("gives a block device as a link", function()
    vm:attach(1, folder .. "/base.img", true)
    assert.equal(0, (disk(1, { BlockDev = true })))
    assert.equal("block special file\n", vm:inside "stat -L -c %F /run/mounts/scsi/0_1_0")
    assert.equal(0, (undisk(1, { BlockDev = true })))
    assert.equal("", vm:inside "ls /run/mounts/scsi")
  end)

  it("combines layers and scratch: the top-most wins, whiteouts hide, writes stay in scratch (known bug 114)", function()
    attach_layers()
    attach_scratch()
    local result, settings = combine("c1", { scratch = true })
    assert.equal(0, result)
    local spec = gcs.spec(settings.ContainerRootPath, { "sh", "-c", "cat /etc/which; ls /etc/gone; echo new > /written; ls -d /only" })
    vm:create("c1", spec, { scratch = settings.ScratchPath })
    local pid, io = vm:start "c1"
    vm:wait("c1", pid)
    assert.equal("app\n/only\n", io.stdout:read_all())
    assert.is_truthy(io.stderr:read_all():find "gone")
    assert.equal("new\n", vm:inside("cat " .. settings.ScratchPath .. "/upper/written"))
    assert.equal(0x80370105, (vm:call("delete_state", "c1"))) -- its layers are still combined
    assert.equal(0, (vm:modify("Remove", "CombinedLayers", settings)))
    vm:must("delete_state", "c1")
    assert.equal("", vm:inside "find /run/mounts/scsi/0_3_0/scratch/pod/c1 /run/gcs/pods -mindepth 1 2>/dev/null")
    for lun = 3, 1, -1 do assert.equal(0, (undisk(lun))) end
    assert.equal("", vm:inside "ls /run/mounts/scsi")
  end)

  it("deletes what somebody has unmounted and removed by hand (known bug 21)", function()
    attach_layers()
    attach_scratch()
    local _, settings = combine("c1", { scratch = true })
    vm:create("c1", gcs.spec(settings.ContainerRootPath, { "sleep", "600" }), { scratch = settings.ScratchPath })
    local pid = vm:start "c1"
    vm:must("signal", "c1", { ProcessId = pid, Options = { Signal = 9 } })
    vm:wait("c1", pid)
    vm:inside("umount " .. settings.ContainerRootPath .. "; umount /run/mounts/scsi/0_1_0")
    vm:inside "find /sys/fs/cgroup -depth -type d -name c1 -exec rmdir {} +"
    assert.equal(0, (vm:modify("Remove", "CombinedLayers", settings)))
    vm:must("delete_state", "c1")
    for lun = 3, 1, -1 do assert.equal(0, (undisk(lun))) end
    assert.equal("", vm:inside "ls /run/mounts/scsi; find /run/gcs/pods -mindepth 1")
  end)

  it("makes a read-only root out of layers that lack mount points", function()
    attach_layers()
    local result, settings = combine("c1", { mount_points = { "/data/in", { Path = "/etc/one.conf", File = true } } })
    assert.equal(0, result)
    local _, share = vm:share("1", folder)
    local line = "cat /etc/which; cat /data/in/app/etc/which; cat /etc/one.conf; touch /x"
    local spec = gcs.spec(settings.ContainerRootPath, { "sh", "-c", line }, {
      root = { path = settings.ContainerRootPath, readonly = true },
      extra_mounts = {
        { destination = "/data/in", type = "bind", source = share, options = { "bind", "ro" } },
        { destination = "/etc/one.conf", type = "bind", source = share .. "/app/etc/which", options = { "bind", "ro" } },
        { destination = "/sys", type = "sysfs", source = "sysfs", options = { "ro" } },
      },
    })
    vm:create("c1", spec)
    local pid, io = vm:start "c1"
    vm:wait("c1", pid)
    assert.equal("app\napp\napp\n", io.stdout:read_all())
    assert.is_truthy(io.stderr:read_all():find "[Rr]ead%-only")
    assert.equal(0, (vm:modify("Remove", "CombinedLayers", settings)))
    vm:must("delete_state", "c1")
    assert.equal("", vm:inside "find /run/moonshim-guest/skeleton /run/gcs/pods -mindepth 1")
  end)

  it("undoes layers of a container that was never created", function()
    attach_layers()
    attach_scratch()
    local before = mounts()
    local result, settings = combine("c1", { scratch = true })
    assert.equal(0, result)
    local bad = gcs.spec(settings.ContainerRootPath, { "nosuch" })
    assert.equal(0x80070002, (vm:create("c1", bad, { scratch = settings.ScratchPath })))
    assert.equal(0, (vm:modify("Remove", "CombinedLayers", settings)))
    vm:must("delete_state", "c1")
    assert.equal(before, mounts())
    assert.equal("", vm:inside "find /run/mounts/scsi/0_3_0/scratch/pod/c1 /run/gcs/pods -mindepth 1 2>/dev/null")
    assert.equal(0xc037010e, (vm:call("delete_state", "c1")))
  end)

  it("lets two containers share layers and scratch, one removed, the other unharmed", function()
    attach_layers()
    attach_scratch()
    local all = {}
    for _, id in ipairs { "c1", "c2" } do
      local result, settings = combine(id, { scratch = true })
      assert.equal(0, result)
      all[id] = settings
      vm:create(id, gcs.spec(settings.ContainerRootPath, { "sh", "-c", "read line; cat /etc/which; echo alive > /file; cat /file" }),
        { scratch = settings.ScratchPath })
    end
    local pid2, io2 = vm:start("c2", { "stdin", "stdout" })
    local pid1 = vm:start("c1", {})
    assert.equal(0, vm:wait("c1", pid1))
    assert.equal(0, (vm:modify("Remove", "CombinedLayers", all.c1)))
    vm:must("delete_state", "c1")
    io2.stdin:write "go\n"
    assert.equal("app\nalive\n", io2.stdout:read_all())
    assert.equal(0, vm:wait("c2", pid2))
  end)

  it("combines a hundred layers", function()
    local layers = {}
    for i = 1, 100 do
      local dir = ("%s/many/%03d-%s"):format(folder, i, ("x"):rep(60))
      gcs.sh(("mkdir -p %s && echo %d > %s/file && touch %s/file%d"):format(dir, i, dir, dir, i))
      layers[101 - i] = { Path = ("/run/mounts/plan9/7/%03d-%s"):format(i, ("x"):rep(60)) }
    end
    vm:share("7", folder .. "/many", { read_only = true })
    local settings = { ContainerRootPath = "/run/gcs/pods/pod/c1/rootfs", Layers = layers }
    local result, body = vm:modify("Add", "CombinedLayers", settings)
    assert.equal(0, result, body.ErrorMessage)
    assert.equal("100\n", vm:inside "cat /run/gcs/pods/pod/c1/rootfs/file")
    assert.equal("101\n", vm:inside "ls /run/gcs/pods/pod/c1/rootfs | grep -c file")
    assert.equal(0, (vm:modify("Remove", "CombinedLayers", settings)))
  end)

  it("refuses layers that would say something else to mount", function()
    for _, path in ipairs { "/run/a:/run/b", "/run/a,upperdir=/run/b", "/run/a\\" } do
      local settings = { ContainerRootPath = "/run/gcs/pods/pod/c1/rootfs", Layers = { { Path = path } } }
      assert.equal(0x80070057, (vm:modify("Add", "CombinedLayers", settings)))
    end
    assert.equal(0x80070057, (vm:modify("Add", "CombinedLayers", { ContainerRootPath = "/run/gcs/x/rootfs", Layers = nil })))
    local missing = { ContainerRootPath = "/run/gcs/pods/pod/c1/rootfs", Layers = { { Path = "/run/mounts/none" } } }
    assert.is_true((vm:modify("Add", "CombinedLayers", missing)) ~= 0)
    assert.equal("", vm:inside "find /run/gcs/pods /run/moonshim-guest/skeleton -mindepth 1 2>/dev/null")
  end)

  describe("with shares", function()
    it("mounts a folder read-only when asked", function()
      local result, at = vm:share("1", root, { read_only = true })
      assert.equal(0, result)
      assert.equal("base\n", vm:inside("cat " .. at .. "/etc/which"))
      assert.is_truthy(vm:inside("touch " .. at .. "/x"):find "[Rr]ead%-only")
      assert.equal(0, (vm:unshare "1"))
      assert.equal("", vm:inside "ls /run/mounts/plan9")
    end)

    it("mounts a single file in a folder of its own", function()
      local result, at = vm:share("1", root .. "/etc", { file = "which" })
      assert.equal(0, result)
      assert.equal("which\n", vm:inside("ls " .. at))
      assert.equal("base\n", vm:inside("cat " .. at .. "/which"))
      assert.equal(0, (vm:unshare "1"))
      assert.equal("", vm:inside "ls /run/mounts/plan9")
      assert.equal("base\n", gcs.sh("cat " .. root .. "/etc/which"))
    end)

    it("shares the same folder at two places, removed one by one (known bug 121)", function()
      vm:share("1", root)
      vm:share("2", root)
      assert.equal(0, (vm:unshare "1"))
      assert.equal("base\n", vm:inside "cat /run/mounts/plan9/2/etc/which")
    end)

    it("refuses a place that is taken, names that are none, and what the host refuses", function()
      vm:share("1", root)
      assert.equal(0x80004005, (vm:share("2", root, { at = "/run/mounts/plan9/1" })))
      for _, name in ipairs { "a", "1,2", "../1", "1\n" } do assert.equal(0x80070057, (vm:share(name, root))) end
      vm.shares["5"] = nil
      assert.equal(0x80004005, (vm:modify("Add", "MappedDirectory", { MountPath = "/run/mounts/plan9/5", Port = 564, ShareName = "5" })))
      assert.equal("base\n", vm:inside "cat /run/mounts/plan9/1/etc/which")
    end)

    it("stays busy while somebody uses it and goes afterwards (known bug 111)", function()
      vm:share("1", root)
      vm:execute(gcs.NULL, { CommandArgs = { "/usr/bin/sleep", "1000" }, WorkingDirectory = "/run/mounts/plan9/1" }, {})
      assert.equal(0x80004005, (vm:unshare "1"))
      assert.equal("base\n", vm:inside "cat /run/mounts/plan9/1/etc/which")
      vm:inside "pkill -x sleep; while pgrep -x sleep; do :; done"
      assert.equal(0, (vm:unshare "1"))
    end)
  end)

  -- The one promise that matters most: whatever goes wrong, the user's own files stay.
  describe("never deletes a folder that a user mounted", function()
    local precious, before

    before_each(function()
      precious = folder .. "/precious"
      gcs.sh(("rm -rf %s && mkdir -p %s/sub/deeper"):format(precious, precious))
      gcs.sh(("cd %s && echo 1 > a && echo 2 > sub/b && echo 3 > sub/deeper/c && ln -s /run/gcs link"):format(precious))
      before = gcs.sh(("cd %s && find . | sort"):format(precious))
      vm:share("1", precious)
    end)

    after_each(function() assert.equal(before, gcs.sh(("cd %s && find . | sort"):format(precious))) end)

    local at = "/run/mounts/plan9/1"

    local function alive_root()
      local _, path = vm:share("2", root)
      return path
    end

    it("when it is named as bundle or scratch of a container", function()
      local path = alive_root()
      for _, bad in ipairs { at, at .. "/sub", at .. "/new", at .. "/sub/../sub" } do
        assert.equal(0x80070057, (vm:create("c1", gcs.spec(path, { "true" }), { bundle = bad })))
        assert.equal(0x80070057, (vm:create("c1", gcs.spec(path, { "true" }), { scratch = bad })))
        vm:call("delete_state", "c1")
      end
    end)

    it("when it is named as scratch or root of combined layers", function()
      local path = alive_root()
      for _, bad in ipairs { at, at .. "/sub", at .. "/sub/deeper" } do
        local layers = { { Path = path } }
        assert.equal(0x80070057, (vm:modify("Add", "CombinedLayers", {
          ContainerID = "c1", ContainerRootPath = "/run/gcs/pods/pod/c1/rootfs", Layers = layers, ScratchPath = bad,
        })))
        assert.equal(0x80070057, (vm:modify("Add", "CombinedLayers", { ContainerID = "c1", ContainerRootPath = bad, Layers = layers })))
        assert.equal(0x80070057, (vm:modify("Remove", "CombinedLayers", { ContainerRootPath = bad })))
        vm:call("delete_state", "c1")
      end
    end)

    it("when it is removed as a disk or as a block device", function()
      vm:modify("Remove", "MappedVirtualDisk", { MountPath = at .. "/sub/deeper" })
      vm:modify("Remove", "MappedVirtualDisk", { MountPath = at .. "/a", BlockDev = true })
      vm:modify("Remove", "MappedVirtualDisk", { MountPath = at .. "/link", BlockDev = true })
    end)

    it("when it lies in the bundle of a container, running or not", function()
      local path = alive_root()
      vm:share("3", precious, { at = "/run/gcs/pods/pod/c1/inside" })
      vm:share("4", precious, { at = "/run/gcs/pods/pod/c1/rootfs" })
      vm:create("c1", gcs.spec(path, { "nosuch" }))
      vm:create("c1", gcs.spec(path, { "true" }))
      local pid = vm:start("c1", {})
      vm:wait("c1", pid)
      vm:call("delete_state", "c1")
      assert.equal("1\n", vm:inside "cat /run/gcs/pods/pod/c1/inside/a")
    end)

    it("when it is the root file system itself", function()
      local own = gcs.busybox_root(folder, "own")
      local held = gcs.sh(("cd %s && find . | sort"):format(own))
      vm:share("5", own, { at = "/run/gcs/pods/pod/c1/rootfs" })
      vm:create("c1", gcs.spec("/run/gcs/pods/pod/c1/rootfs", { "nosuch" }))
      vm:create("c1", gcs.spec("/run/gcs/pods/pod/c1/rootfs", { "true" }))
      vm:call("delete_state", "c1")
      for path in held:gmatch "[^\n]+" do assert.is_truthy(uv.fs_lstat(own .. "/" .. path), path) end
    end)

    it("when a container mounts it and puts links to it everywhere", function()
      local path = alive_root()
      local spec = gcs.spec(path, { "sh", "-c", "ln -sf /mnt/sub /tmp/link; ln -sf /mnt /etc/hosts.d; exit 0" }, {
        extra_mounts = { { destination = "/mnt", type = "bind", source = at, options = { "rbind", "rw" } } },
      })
      assert.equal(0, (vm:run("c1", spec)))
    end)

    it("when a link on scratch leads to it", function()
      vm:attach(3, scratch_image "scratch")
      disk(3, { EnsureFilesystem = true, Filesystem = "ext4" })
      local scratch = "/run/mounts/scsi/0_3_0/scratch"
      vm:inside(("mkdir -p %s && ln -s %s %s/pod"):format(scratch, at, scratch))
      local path = alive_root()
      assert.is_true((vm:modify("Add", "CombinedLayers", {
        ContainerID = "c1", ContainerRootPath = "/run/gcs/pods/pod/c1/rootfs", Layers = { { Path = path } },
        ScratchPath = scratch .. "/pod/sub",
      })) ~= 0)
      vm:call("delete_state", "c1")
    end)

    it("when it is mounted inside of scratch, of the bundle and of the root, and everything is deleted", function()
      vm:attach(3, scratch_image "scratch")
      disk(3, { EnsureFilesystem = true, Filesystem = "ext4" })
      local path = alive_root()
      local settings = { ContainerID = "c1", ContainerRootPath = "/run/gcs/pods/pod/c1/rootfs", Layers = { { Path = path } },
                         ScratchPath = "/run/mounts/scsi/0_3_0/scratch/pod/c1" }
      assert.equal(0, (vm:modify("Add", "CombinedLayers", settings)))
      for _, place in ipairs { settings.ScratchPath .. "/upper/mnt", "/run/gcs/pods/pod/c1/here", settings.ContainerRootPath .. "/mnt" } do
        vm:inside(("mkdir -p %s && mount --bind %s %s"):format(place, at, place))
      end
      vm:create("c1", gcs.spec(settings.ContainerRootPath, { "true" }), { scratch = settings.ScratchPath })
      vm:modify("Remove", "CombinedLayers", settings)
      vm:call("delete_state", "c1")
      vm:inside("umount " .. settings.ContainerRootPath .. "/mnt")
      vm:modify("Remove", "CombinedLayers", settings)
      vm:call("delete_state", "c1")
      vm:call("delete_state", "c1")
    end)

    it("when the UVM is killed in the middle of it all", function()
      local path = alive_root()
      vm:create("c1", gcs.spec(path, { "sleep", "1000" }, {
        extra_mounts = { { destination = "/mnt", type = "bind", source = at, options = { "rbind", "rw" } } },
      }))
      vm:start("c1", {})
      vm:request("delete_state", "c1")
      local settings = { MountPath = at }
      vm:request("modify", gcs.NULL, { Request = { RequestType = "Remove", ResourceType = "MappedDirectory", Settings = settings } })
    end)
  end)
end)

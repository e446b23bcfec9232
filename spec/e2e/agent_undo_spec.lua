-- What the agent takes back when something fails, or when it is told to remove what it does not know, is its own alone.
local agent = require "support.agent"
local gcs = require "support.gcs"

agent.describe("the agent takes back only what is its own", function()
  local vm, folder, root
  agent.root(function(made)
    folder, root = made.folder, made.root
    gcs.sh(("truncate -s 32M %s/base.img && mkfs.ext4 -q -d %s %s/base.img"):format(folder, root, folder))
    gcs.sh(("mkdir %s/data && echo kept > %s/data/file"):format(folder, folder))
  end)
  agent.vm(function(booted)
    vm = booted
    vm:attach(1, folder .. "/base.img", true)
    local result = vm:modify("Add", "MappedVirtualDisk", { MountPath = "/run/mounts/scsi/1", Lun = 1, ReadOnly = true })
    assert.equal(0, result)
    gcs.sh(("rm -f %s/scratch.img && truncate -s 64M %s/scratch.img"):format(folder, folder))
    vm:attach(3, folder .. "/scratch.img")
    assert.equal(0, (vm:modify("Add", "MappedVirtualDisk",
      { MountPath = "/run/mounts/scsi/3", Lun = 3, EnsureFilesystem = true, Filesystem = "ext4" })))
  end)

  local function inside(line) return vm:inside(line) end
  local function mounted(path) return inside("grep -c ' " .. path .. " ' /proc/self/mounts; true") == "1\n" end

  ---CombinedLayers of a container whose bundle is bound to scratch.
  local function combine(id, over)
    local settings = {
      ContainerID = id, ContainerRootPath = gcs.bundle(id) .. "/rootfs",
      Layers = { { Path = "/run/mounts/scsi/1" } }, ScratchPath = "/run/mounts/scsi/3/scratch/" .. id,
    }
    for k, v in pairs(over or {}) do settings[k] = v end
    return (vm:modify("Add", "CombinedLayers", settings)), settings
  end

  describe("of a share", function()
    it("that the host refuses: a disk at its place stays", function()
      vm.shares["5"] = nil
      assert.is_true(vm:modify("Add", "MappedDirectory", { MountPath = "/run/mounts/scsi/1", Port = 564, ShareName = "5" }) ~= 0)
      assert.is_true(mounted "/run/mounts/scsi/1")
    end)

    it("that would cover a disk: it is refused, and its removal leaves the disk", function()
      for _, at in ipairs { "/run/mounts/scsi/1", "/run/mounts/scsi", "/run/mounts" } do
        assert.is_true(vm:share("5", folder .. "/data", { at = at }) ~= 0, at)
        vm:unshare("5", at)
        assert.is_true(mounted "/run/mounts/scsi/1", at)
      end
    end)

    it("that nobody added: disks and roots stay", function()
      assert.equal(0, (combine "c1"))
      for _, at in ipairs { "/run/mounts/scsi/1", gcs.bundle "c1" .. "/rootfs", gcs.bundle "c1" } do
        assert.equal(0, (vm:unshare("5", at)))
        assert.is_true(mounted(at), at)
      end
    end)

    it("of a file whose name is taken: what has the name stays", function()
      inside "mkdir -p /run/mounts/mine && : > /run/mounts/mine/file"
      assert.is_true(vm:share("5", folder .. "/data", { file = "file", at = "/run/mounts/mine" }) ~= 0)
      assert.equal("file\n", inside "ls /run/mounts/mine")
    end)
  end)

  describe("of layers", function()
    it("that nobody combined: disks and shares stay", function()
      vm:share("5", folder .. "/data")
      vm:modify("Remove", "CombinedLayers", { ContainerRootPath = "/run/mounts/scsi/1" })
      vm:modify("Remove", "CombinedLayers", { ContainerRootPath = "/run/mounts/plan9/5" })
      assert.is_true(mounted "/run/mounts/scsi/1")
      assert.is_true(mounted "/run/mounts/plan9/5")
    end)

    it("that are combined again and fail: bundle and scratch are still known, and can be deleted", function()
      local _, settings = combine "c1"
      inside("echo kept > " .. gcs.bundle "c1" .. "/config.json")
      assert.equal(0, (vm:modify("Remove", "CombinedLayers", settings)))
      assert.is_true(combine("c1", { Layers = { { Path = "/run/mounts/none" } } }) ~= 0)
      assert.equal("kept\n", inside("cat " .. gcs.bundle "c1" .. "/config.json"))
      assert.equal(0, (combine "c1"))
      assert.equal("kept\n", inside("cat " .. gcs.bundle "c1" .. "/config.json"))
      assert.equal(0, (vm:modify("Remove", "CombinedLayers", settings)))
      assert.is_true(combine("c1", { Layers = { { Path = "/run/mounts/none" } } }) ~= 0)
      vm:must("delete_state", "c1")
      assert.equal("", inside "find /run/mounts/scsi/3/scratch /run/gcs/pods -mindepth 1 2>/dev/null")
    end)

    it("that are combined again on another scratch: refused, and the first is deleted in the end", function()
      local _, settings = combine "c1"
      assert.equal(0, (vm:modify("Remove", "CombinedLayers", settings)))
      assert.is_true(combine("c1", { ScratchPath = "/run/mounts/scsi/3/scratch/other" }) ~= 0)
      vm:must("delete_state", "c1")
      assert.equal("", inside "find /run/mounts/scsi/3/scratch /run/gcs/pods -mindepth 1 2>/dev/null")
    end)

    it("whose scratch is another container's, or around it, or in it: refused, and the other's is whole", function()
      local scratch = "/run/mounts/scsi/3/scratch/c1"
      assert.equal(0, (combine "c1"))
      inside("echo kept > " .. scratch .. "/upper/file")
      for _, path in ipairs { scratch, scratch .. "/upper/in", "/run/mounts/scsi/3/scratch" } do
        local result, settings = combine("c2", { ScratchPath = path })
        assert.is_true(result ~= 0, path)
        vm:modify("Remove", "CombinedLayers", settings)
        vm:call("delete_state", "c2")
        assert.equal("kept\n", inside("cat " .. scratch .. "/upper/file"), path)
      end
    end)

    it("whose bundle would cover what is mounted: refused", function()
      vm:share("5", folder .. "/data", { at = gcs.bundle "c1" .. "/share" })
      local result, settings = combine "c1"
      assert.is_true(result ~= 0)
      assert.equal("kept\n", inside("cat " .. gcs.bundle "c1" .. "/share/file"))
      vm:modify("Remove", "CombinedLayers", settings)
      vm:call("delete_state", "c1")
      assert.equal(0, (vm:unshare("5", gcs.bundle "c1" .. "/share")))
      assert.equal("", inside "grep /run/gcs /proc/self/mounts; find /run/mounts/scsi/3/scratch -mindepth 1; true")
    end)

    it("that a link stands for: refused", function()
      inside "mkdir /run/mounts/links && ln -s /etc /run/mounts/links/layer"
      gcs.sh(("ln -sfn /etc %s/data/layer"):format(folder))
      vm:share("5", folder .. "/data")
      for _, layer in ipairs { "/run/mounts/links/layer", "/run/mounts/plan9/5/layer" } do
        assert.is_true(combine("c1", { Layers = { { Path = layer } } }) ~= 0, layer)
      end
    end)

    it("whose scratch is the mount point of a disk: refused", function()
      local result = combine("c1", { ScratchPath = "/run/mounts/scsi/3" })
      assert.is_true(result ~= 0)
      assert.equal("lost+found\n", inside "ls /run/mounts/scsi/3")
    end)
  end)
end)

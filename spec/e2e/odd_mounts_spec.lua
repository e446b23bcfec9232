-- Mounts and roots that are unusual, and must stay inside all the same.
local command = require "e2e.command"
local uv = require "luv"

---A root of its own, which a run may change.
local function root(script)
  local folder = command.folder .. "/odd"
  local made = command.execute("/bin/sh", { "-c", ('rm -rf "%s" && cp -a "%s" "%s" && cd "%s" && %s'):format(folder, command.root(), folder,
    folder, script or "true") })
  assert(made.code == 0, made.err)
  return folder
end

local function sh(script, rootfs, mounts)
  local options = { "--rootfs", rootfs }
  for _, mount in ipairs(mounts) do
    options[#options + 1] = "--mount"
    options[#options + 1] = mount
  end
  return command.run({ "sh", "-c", script }, options)
end

describe("what is unusual:", function()
  local check_leaks, share
  setup(function()
    check_leaks = command.leaks()
    share = command.folder .. "/share"
    command.execute("/bin/sh", { "-c", ("mkdir -p %s/deep && echo one > %s/file && echo two > %s/deep/file"):format(share, share, share) })
  end)
  after_each(function() check_leaks() end)
  teardown(function() command.cleanup() end)

  describe("mounts (known bug 144)", function()
    it("may be hundreds", function()
      local mounts = {}
      for i = 1, 500 do mounts[i] = ("{ source = %q, destination = '/many/%d', options = { 'ro' } }"):format(share, i) end
      local path = command.write("many.lua", ([[return require("moonshim").pod { name = "many", sandbox = false, containers = { c = {
        rootfs = %q, args = { "sh", "-c", "cat /many/*/file | sort | uniq -c; grep -c ' /many/' /proc/mounts" }, mounts = { %s } } } }]])
        :format(root(), table.concat(mounts, ",\n")))
      local result = command.moonshim { "run", path }
      assert.equal("    500 one\n500\n", result.out, result.err)
    end)

    it("of which two go to one place are the later one", function()
      local result = sh("cat /m/file", root(), { "source=" .. share .. ",destination=/m", "source=" .. share .. "/deep,destination=/m" })
      assert.equal("two\n", result.out, result.err)
    end)

    it("may lie inside of each other, with rights of their own", function()
      local result = sh("echo x > /m/new; echo y > /m/deep/new && cat /m/deep/new", root(), {
        "source=" .. share .. ",destination=/m,ro", "source=" .. share .. "/deep,destination=/m/deep" })
      assert.equal("y\n", result.out)
      assert.is_truthy(result.err:find("Read-only", 1, true), result.err)
      assert.equal("y\n", command.read(share .. "/deep/new"))
    end)

    it("of a file to a place where a folder is say which place", function()
      local result = sh("true", root "mkdir place", { "source=" .. share .. "/file,destination=/place" })
      assert.not_equal(0, result.code)
      assert.is_truthy(result.err:find("place", 1, true), result.err)
      assert.equal(1, select(2, result.err:gsub("\n", "")), result.err)
    end)
  end)

  describe("links in a root that lead out of it (known bug 150)", function()
    for name, link in pairs { absolute = "/outside", relative = "../../../../../../../../outside" } do
      it(("do not carry a mount out: %s"):format(name), function()
        local outside = command.folder .. "/outside"
        uv.fs_mkdir(outside, 448)
        local target = link:gsub("/outside", function() return outside end)
        local result = sh("cat /way/in/file; ls -d " .. outside .. "/in", root(("ln -s %s way"):format(target)),
          { "source=" .. command.folder .. "/share,destination=/way/in,ro" })
        assert.is_nil(uv.fs_stat(outside .. "/in"), "made outside of the root")
        assert.is_truthy(result.out:find("one\n", 1, true) or result.code ~= 0, result.out .. result.err)
      end)
    end

    it("end a run with one line when they are endless", function()
      local result = sh("true", root "ln -s loop loop", { "source=" .. command.folder .. "/share,destination=/loop/in" })
      assert.not_equal(0, result.code)
      assert.equal(1, select(2, result.err:gsub("\n", "")), result.err)
    end)

    it("do not carry the names of a pod out", function()
      local outside = command.folder .. "/etc-outside"
      uv.fs_mkdir(outside, 448)
      local result = sh("cat /etc/hostname", root(("rm -rf etc && ln -s ../../../../../../../..%s etc"):format(outside)), {})
      assert.same({}, command.list(outside))
      assert.is_truthy(result.code == 0 or result.err:find("etc", 1, true), result.err)
    end)
  end)

  describe("layers (known bug 114)", function()
    local function image(name, script)
      local folder, path = command.folder .. "/layer-" .. name, command.folder .. "/" .. name .. ".ext4"
      local made = command.execute("/bin/sh", { "-c", ("mkdir %s && cd %s && %s && /sbin/mkfs.ext4 -q -d . %s 4M"):format(folder, folder,
        script, path) })
      assert(made.code == 0, made.err)
      return path
    end

    it("hide each other from the top: the top-most version, and what it took away", function()
      command.root()
      local middle = image("middle", "echo middle > which && echo here > gone")
      local top = image("top", "echo top > which && mknod gone c 0 0")
      local result = command.run({ "sh", "-c", "cat /which; ls /gone" },
        { "--layer", command.image "base", "--layer", middle, "--layer", top })
      assert.equal("top\n", result.out)
      assert.is_truthy(result.err:find("No such file", 1, true), result.err)
    end)
  end)
end)

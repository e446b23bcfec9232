local err = require "moonshim.err"
local options = require "moonshim.cli.options"

local UNSAFE = "io.microsoft.disable-unsafe-operations"

local function refusal(...)
  local found, e = err.guarded(options.parse)({ ... })
  assert.is_nil(found)
  assert.equal("invalid_argument", e.code)
  assert.is_nil(e.message:find("\n"), "one line")
  return e.message
end

describe("the command line", function()
  describe("of run with a root file system", function()
    local found
    before_each(function()
      found = options.parse {
        "run", "-i", "--rootfs", "/srv/root", "--read-only", "--env", "A=", "--env", "B=x=y", "--env", "PATH",
        "--mount", "type=bind,source=/a,destination=/b,ro", "--mount", "src=c,dst=/d",
        "--mount", "type=virtual-disk,src=x.img,dst=blockdev:///dev/x", "--device", "/dev/fuse", "--device", "/dev/a:/dev/b:r",
        "--", "sh", "-c", "--", "-i",
      }
    end)

    it("takes everything behind the first -- as the command", function()
      assert.same({ "sh", "-c", "--", "-i" }, found.args)
    end)

    it("keeps empty values and values with '=' and takes the caller's for a bare name", function()
      assert.same({ A = "", B = "x=y", PATH = os.getenv("PATH") }, found.env)
    end)

    it("reads mounts, bind being the type when none is given", function()
      assert.same({
        { type = "bind", source = "/a", destination = "/b", options = { "ro" } },
        { type = "bind", source = "c", destination = "/d", options = {} },
        { type = "virtual-disk", source = "x.img", destination = "blockdev:///dev/x", options = {} },
      }, found.mounts)
    end)

    it("gathers limits as a pod file has them", function()
      local limited = options.parse { "run", "--rootfs", "/r", "--memory", "64M", "--cpuset-cpus", "0", "--pids-limit", "5", "--", "sh" }
      assert.same({ memory = "64M", cpuset = "0", pids = "5" }, limited.resources)
      assert.is_nil(found.resources)
    end)

    it("takes devices as they are", function() assert.same({ "/dev/fuse", "/dev/a:/dev/b:r" }, found.devices) end)

    it("reads flags", function()
      assert.is_true(found.stdin)
      assert.is_true(found.read_only)
    end)
  end)

  describe("of run with layers", function()
    it("keeps their order and reads a size or a path as scratch", function()
      local sized = options.parse { "run", "--layer", "base", "--layer", "top", "--scratch", "64M", "--", "true" }
      assert.same({ "base", "top" }, sized.layers)
      assert.same({ size = "64M" }, sized.scratch)
      assert.same({ path = "disk.ext4" },
        options.parse({ "run", "--layer", "base", "--scratch", "disk.ext4", "--", "true" }).scratch)
    end)
  end)

  describe("of run and plan", function()
    for name, line in pairs {
      ["run with a root"] = { "run", "--rootfs", "/r" }, ["run with a pod file"] = { "run", "pod.lua" }, ["plan"] = { "plan", "pod.lua" },
    } do
      local function with(...)
        local words = table.move(line, 1, #line, 1, {})
        for _, text in ipairs { ... } do table.move({ "--annotation", text }, 1, 2, #words + 1, words) end
        if line[2] == "--rootfs" then table.move({ "--", "sh" }, 1, 2, #words + 1, words) end
        return table.unpack(words)
      end

      it("takes annotations of the pod, the last of each key: " .. name, function()
        assert.same({ ["org.example/x"] = "a=b", y = "2", z = "" },
          options.parse({ with("org.example/x=a=b", "y=1", "y=2", "z=") }).annotations)
        assert.is_nil(options.parse({ with() }).annotations)
      end)

      for what, case in pairs {
        ["no value"] = { { "x" }, '--annotation "x" is not KEY=VALUE' },
        ["no key"] = { { "=x" }, '--annotation "=x" is not KEY=VALUE' },
        ["a control character"] = { { "a\tb=1" }, "character" },
        ["a key that is no text"] = { { "a\xff=1" }, "character" },
        ["a value that is no text"] = { { "a=\xff" }, "--annotation.a: is not UTF-8" },
        ["a switch that is none"] = { { UNSAFE .. "=maybe" },
          "--annotation: " .. UNSAFE .. ': "maybe" is neither true nor false; write "true" or "false"' },
        ["what contradicts itself"] = { { UNSAFE .. "=true", "io.microsoft.virtualmachine.fileshares.disablewritable=false" },
          "leave one of them out" },
        ["what moonshim sets"] = { { "io.kubernetes.cri.sandbox-id=x" }, "leave it out" },
      } do
        it(("refuses an annotation with %s: %s"):format(what, name), function()
          local message = refusal(with(table.unpack(case[1])))
          assert.is_truthy(message:find(case[2], 1, true), message)
          assert.is_truthy(message:find("--annotation", 1, true), message)
        end)
      end
    end

    it("tells of annotations in its help", function()
      for _, topic in ipairs { "run", "plan" } do assert.is_truthy(options.help(topic):find("--annotation KEY=VALUE", 1, true)) end
    end)
  end)

  it("shows help for the command that stands before --help, also among other options", function()
    assert.same({ command = "help", topic = "run" }, options.parse { "run", "--rootfs", "x", "--help" })
    assert.is_truthy(options.help("run"):find("--rootfs DIR|IMAGE", 1, true))
    assert.is_truthy(options.help():find("Commands:", 1, true))
  end)

  it("leaves --help behind -- to the command that runs", function()
    assert.equal("run", options.parse({ "run", "--rootfs", "x", "--", "ls", "--help" }).command)
  end)

  describe("refuses with a line that says what to write", function()
    for name, case in pairs {
      ["nothing to run"] = { { "run" }, "needs a pod file" },
      ["a root without a command"] = { { "run", "--rootfs", "/r" }, "end with -- CMD" },
      ["an empty command"] = { { "run", "--rootfs", "/r", "--" }, "end with -- CMD" },
      ["a pod file and a root"] = { { "run", "pod.lua", "--rootfs", "/r", "--", "sh" }, "not both" },
      ["a pod file and a command"] = { { "run", "pod.lua", "--", "sh" }, "names its own" },
      ["a pod file and an option of its containers"] = { { "run", "pod.lua", "--user", "web" }, "into the pod file" },
      ["two pod files"] = { { "run", "a.lua", "b.lua" }, "too many arguments" },
      ["an unknown option"] = { { "run", "--rotfs", "x", "--", "sh" }, "did you mean '--rootfs'" },
      ["an unknown command"] = { { "rum", "x" }, "did you mean 'run'" },
      ["a variable without a name"] = { { "run", "--rootfs", "/r", "--env", "=x", "--", "sh" }, '"=x"' },
      ["a mount without a destination"] = { { "run", "--rootfs", "/r", "--mount", "source=/a", "--", "sh" }, "destination" },
      ["a mount to a relative path"] = { { "run", "--rootfs", "/r", "--mount", "src=/a,dst=b", "--", "sh" }, "absolute" },
      ["a block device at a relative place"] = { { "run", "--rootfs", "/r", "--mount", "type=virtual-disk,src=/a,dst=blockdev://x", "--",
        "sh" }, "absolute" },
      ["a disk without a source"] = { { "run", "--rootfs", "/r", "--mount", "type=virtual-disk,dst=/b", "--", "sh" }, "needs source=" },
      ["a limit for a pod file"] = { { "run", "pod.lua", "--pids-limit", "5" }, "--pids-limit goes with --rootfs" },
      ["a device for a pod file"] = { { "run", "pod.lua", "--device", "/dev/x" }, "--device goes with --rootfs" },
      ["a mount of an unknown type"] = { { "run", "--rootfs", "/r", "--mount", "type=nfs,dst=/b", "--", "sh" }, '"nfs"' },
      ["a mount with an unknown word"] = { { "run", "--rootfs", "/r", "--mount", "src=/a,dst=/b,rox", "--", "sh" }, '"rox"' },
      ["a plan without a file"] = { { "plan" }, "missing argument 'file'" },
      ["a plan for an unknown goal"] = { { "plan", "x.lua", "--goal", "win" }, "'stop'" },
    } do
      it(name, function()
        local line = refusal(table.unpack(case[1]))
        assert.is_truthy(line:find(case[2], 1, true), line)
      end)
    end
  end)
end)

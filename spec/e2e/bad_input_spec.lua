local command = require "e2e.command"

---One line, a status of our own, nothing on standard output.
local function refused(result, text, code)
  assert.equal(code or 125, result.code, result.err)
  assert.equal("", result.out)
  local _, n = result.err:gsub("\n", "\n")
  assert.equal(1, n, result.err)
  assert.is_truthy(result.err:find("^moonshim: "), result.err)
  if text then assert.is_truthy(result.err:find(text, 1, true), result.err) end
end

local CONTAINERS = 'containers = { a = { rootfs = "roots/busybox", args = { "true" } } }'

---A pod of one container "a" in the root folder "/", with these fields.
local function one(fields) return ('return require("moonshim").pod { name = "p", containers = { a = { %s } } }'):format(fields) end

local function pod(fields) return ('return require("moonshim").pod { %s }'):format(fields) end

describe("bad input is answered with one line, and nothing is left", function()
  local check_leaks
  setup(function()
    command.root()
    check_leaks = command.leaks()
  end)
  after_each(function() check_leaks() end)
  teardown(function() command.cleanup() end)

  describe("in a pod file:", function()
    for name, case in pairs {
      ["a syntax error"] = { "return {", "broken.lua:1:" },
      ["an error while it runs"] = { "local x = nil\nreturn x.y", "broken.lua:2:" },
      ["an error that is no text"] = { "error({})" },
      ["a loop without end"] = { "while true do end" },
      ["a string without end"] = { "local s = 'x' while true do s = s .. s end" },
      ["nothing returned"] = { "local x = 1", "return moonshim.pod" },
      ["something else returned"] = { "return 7", "number" },
      ["bytecode"] = { string.dump(function() end) },
      ["a reach for the file system"] = { "return io.open('/etc/passwd')" },
      ["a reach for a module"] = { "return require 'os'" },
      ["a name that is missing"] = { pod(CONTAINERS), "name" },
      ["a name with a slash"] = { pod('name = "a/b", ' .. CONTAINERS), '"/"' },
      ["a name with dots"] = { pod('name = "..", ' .. CONTAINERS), '".."' },
      ["a name with spaces"] = { pod('name = "a b", ' .. CONTAINERS), "spaces" },
      ["a name of 300 bytes"] = { pod(('name = "%s", %s'):format(("n"):rep(300), CONTAINERS)), "300" },
      ["a container's name with a slash"] = {
        pod 'name = "p", containers = { ["../x"] = { rootfs = "/", args = { "true" } } }', '".."' },
      ["no containers"] = { pod('name = "p"'), "containers" },
      ["containers without any"] = { pod('name = "p", containers = {}'), "at least one" },
      ["a field with a typing error"] = { one 'rootfs = "/", agrs = { "true" }', 'did you mean "args"' },
      ["no command"] = { one 'rootfs = "/"', "args" },
      ["an empty command"] = { one 'rootfs = "/", args = {}', "args" },
      ["a command of an empty word"] = { one 'rootfs = "/", args = { "" }', "args" },
      ["a variable without a value"] = { one 'rootfs = "/", args = { "true" }, env = { "A" }', '"A"' },
      ["a variable without a name"] = { one 'rootfs = "/", args = { "true" }, env = { "=x" }', '"=x"' },
      ["a relative working directory"] = { one 'rootfs = "/", args = { "true" }, cwd = "tmp"', "absolute" },
      ["a root folder that is missing"] = { one 'rootfs = "nowhere", args = { "true" }', "nowhere" },
      ["an image that is missing"] = { one 'layers = { "nowhere.ext4" }, args = { "true" }', "nowhere.ext4" },
      ["a mount whose source is missing"] = {
        one 'rootfs = "roots/busybox", args = { "true" }, mounts = { { source = "nowhere", destination = "/x" } }', "nowhere" },
      ["a size that is none"] = {
        one 'layers = { "images/base.ext4" }, scratch = { size = "lots" }, args = { "true" }', "lots" },
      ["an unknown host"] = { pod('name = "p", host = "moon", ' .. CONTAINERS), "moon" },
      ["a policy that is missing"] = { pod('name = "p", policy = "nowhere.lua", ' .. CONTAINERS), "nowhere.lua" },
    } do
      it(name, function()
        local path = command.write("broken.lua", case[1])
        refused(command.moonshim { "run", path }, case[2])
      end)
    end

    it("a file that is missing", function()
      refused(command.moonshim { "run", "/nowhere/pod.lua" }, "/nowhere/pod.lua")
    end)

    it("a folder instead of a file", function()
      refused(command.moonshim { "run", "/etc" }, "/etc")
    end)
  end)

  describe("on the command line:", function()
    for _, name in ipairs { "a/b", "..", ".", "a b", ("n"):rep(300), "", "-x" } do
      it(("the name %q"):format(#name > 20 and "300 bytes" or name), function()
        refused(command.run({ "true" }, { "--name=" .. name }))
      end)
    end

    it("a root that is missing", function()
      refused(command.run({ "true" }, { "--rootfs", "/nowhere" }), "/nowhere")
    end)

    it("a relative working directory", function()
      refused(command.run({ "true" }, { "--cwd", "tmp" }), "absolute")
    end)

    it("a policy that is missing", function()
      refused(command.run({ "true" }, { "--policy", "/nowhere.lua" }), "/nowhere.lua")
    end)

    it("a policy that is broken", function()
      refused(command.run({ "true" }, { "--policy", command.write("bad_policy.lua", "return {\n  teardown = ") }), "bad_policy.lua:2")
    end)
  end)

  describe("in an image:", function()
    it("an unknown format is answered with the formats that are known", function()
      local path = command.write("noise.img", ("noise"):rep(300000))
      refused(command.run({ "true" }, { "--rootfs", path }), "ext4")
    end)

    it("an empty file", function()
      refused(command.run({ "true" }, { "--rootfs", command.write("empty.img", "") }), "empty.img")
    end)

    it("an ext4 image whose content is cut off", function()
      local whole = command.read(command.image("base"))
      local result = command.run({ "true" }, { "--layer", command.write("cut.ext4", whole:sub(1, 64 * 1024)) })
      refused(result, "cut.ext4")
    end)

    it("a bad layer among good ones", function()
      local path = command.write("noise.img", ("noise"):rep(300000))
      refused(command.run({ "true" }, { "--layer", command.image("base"), "--layer", path, "--scratch", "64M" }), "noise.img")
    end)
  end)

  describe("in an OCI override:", function()
    for name, case in pairs {
      ["a process that is no table"] = "spec = { process = 7 }",
      ["mounts that are no list"] = "spec = { mounts = 'all' }",
      ["a value that is no data"] = "spec = { process = string.rep }",
    } do
      it(name, function()
        local path = command.write("override.lua",
          one('rootfs = "roots/busybox", args = { "true" }, ' .. case))
        refused(command.moonshim { "run", path })
      end)
    end
  end)
end)

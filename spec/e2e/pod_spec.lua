local command = require "e2e.command"

local function pod_file(name, text)
  command.root()
  return command.write(name, text)
end

local TWO = [[
  return require("moonshim").pod {
    name = "two",
    containers = {
      a = { rootfs = "roots/busybox", args = { "sh", "-c", "echo one; echo two >&2; exit %d" } },
      longer = { rootfs = "roots/busybox", args = { "sh", "-c", "printf 'no newline'; exit %d" } },
    },
  }]]

local function sorted(text)
  local lines = {}
  for line in text:gmatch("[^\n]*\n") do lines[#lines + 1] = line end
  table.sort(lines)
  return table.concat(lines)
end

describe("moonshim run with a pod file", function()
  local check_leaks
  setup(function()
    command.root()
    check_leaks = command.leaks()
  end)
  after_each(function() check_leaks() end)
  teardown(function() command.cleanup() end)

  it("prints each line behind its container's name and ends when all have", function()
    local result = command.moonshim { "run", pod_file("two.lua", TWO:format(0, 0)) }
    assert.equal("a      | one\nlonger | no newline\n", sorted(result.out))
    assert.equal("a      | two\n", result.err)
    assert.equal(0, result.code)
  end)

  it("gives the first status other than 0, by the order of the names", function()
    assert.equal(3, command.moonshim({ "run", pod_file("two.lua", TWO:format(0, 3)) }).code)
    assert.equal(4, command.moonshim({ "run", pod_file("two.lua", TWO:format(4, 3)) }).code)
  end)

  it("leaves the output of a single container as it is", function()
    local result = command.moonshim { "run", pod_file("single.lua",
      'return require("moonshim").pod { name = "single", '
        .. 'containers = { a = { rootfs = "roots/busybox", args = { "echo", "as it is" } } } }') }
    assert.equal("as it is\n", result.out)
  end)

  it("finds relative paths from the pod file's folder, wherever it is called from", function()
    pod_file("two.lua", TWO:format(0, 0))
    assert.equal(0, command.moonshim({ "run", "../two.lua" }, { cwd = command.folder .. "/images" }).code)
  end)

  describe("that ends in no time of its own", function()
    local FOREVER = [[
      return require("moonshim").pod {
        name = "forever",
        containers = {
          polite = { rootfs = "roots/busybox",
            args = { "sh", "-c", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done" } },
          other = { rootfs = "roots/busybox",
            args = { "sh", "-c", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done" } },
        },
      }]]

    for signal, number in pairs { sigterm = 15, sigint = 2, sighup = 1 } do
      it("is stopped by " .. signal .. ", with 128 + its number as the status", function()
        local process = command.spawn(command.program, { "run", pod_file("forever.lua", FOREVER) })
        process:wait_for("polite | up")
        process:wait_for("other  | up")
        process:kill(signal)
        local result = process:wait()
        assert.equal(128 + number, result.code, result.err)
        assert.is_truthy(result.out:find("polite | bye\n", 1, true))
        assert.is_truthy(result.out:find("other  | bye\n", 1, true))
      end)
    end

    it("is ended by INTs that do not stop, whatever it does", function()
      local process = command.spawn(command.program, { "run", pod_file("stubborn.lua", [[
        return require("moonshim").pod {
          name = "stubborn",
          containers = { deaf = { rootfs = "roots/busybox",
            args = { "sh", "-c", "trap '' TERM INT; echo up; while :; do sleep 0.05; done" } } },
        }]]) })
      process:wait_for("up")
      process:insist("sigint")
      local result = process:wait()
      -- The last of them may meet a program that has released everything and is on its way out.
      assert.is_true(result.code == 130 or result.signal == 2, result.err)
    end)

    it("is rolled back when the signal comes while it is being made", function()
      local process = command.spawn(command.program, { "run", pod_file("forever.lua", FOREVER) })
      process:until_("a run folder", function() return #command.list(command.run_dir) > 0 end)
      process:kill("sigterm")
      assert.equal(143, process:wait().code)
    end)
  end)

  it("rolls everything back when one container cannot be made", function()
    local result = command.moonshim { "run", pod_file("half.lua", [[
      return require("moonshim").pod {
        name = "half",
        containers = {
          a = { layers = { "images/base.ext4" }, scratch = { size = "16M" }, args = { "sleep", "600" } },
          b = { rootfs = "roots/busybox", args = { "nosuchcmd" } },
        },
      }]]) }
    assert.equal(127, result.code)
    assert.is_truthy(result.err:find("nosuchcmd", 1, true), result.err)
  end)

  it("runs two containers of one base layer and one shared scratch disk", function()
    command.empty_image("shared.ext4")
    local result = command.moonshim { "run", pod_file("sharing.lua", [[
      local function one(text)
        return { layers = { "images/base.ext4" }, scratch = { path = "shared.ext4" },
          args = { "sh", "-c", "echo " .. text .. " > /mine; sleep 0.2; cat /mine" } }
      end
      return require("moonshim").pod { name = "sharing", containers = { a = one "A", b = one "B" } }]]) }
    assert.equal("a | A\nb | B\n", sorted(result.out), result.err)
  end)
end)

local command = require "e2e.command"
local uv = require "luv"

-- A recursive delete that follows a bind mount is the worst thing that a container system can do to its user. So: a folder
-- of the user's is mounted in, and then everything goes wrong around it.
describe("a folder that a user mounted in", function()
  local folder, check_leaks

  before_each(function()
    command.root()
    folder = command.folder .. "/precious"
    command.write("precious/a/b/c/deep", "deep\n")
    command.write("precious/top", "top\n")
    command.execute("/bin/sh", { "-c", "mkdir -p x; ln -sf ../top x/link; [ -p fifo ] || mkfifo fifo; chmod 700 a" }, { cwd = folder })
    check_leaks = command.leaks()
  end)

  after_each(function()
    command.moonshim { "gc" }
    assert.equal("deep\n", command.read(folder .. "/a/b/c/deep"))
    assert.equal("top\n", command.read(folder .. "/top"))
    assert.equal("../top", uv.fs_readlink(folder .. "/x/link"))
    assert.is_truthy(uv.fs_stat(folder .. "/fifo"))
    check_leaks()
  end)

  teardown(function() command.cleanup() end)

  local function mount(destination, flags) return "type=bind,source=" .. folder .. ",destination=" .. destination .. (flags or "") end

  it("is there after an ordinary run", function()
    assert.equal("top\n", command.run({ "cat", "/data/top" }, { "--mount", mount("/data") }).out)
  end)

  it("is there after runs that mount it at places that the system cleans up itself", function()
    for _, place in ipairs { "/run", "/tmp", "/dev/shm", "/run/x/y", "/root", "/etc/resolv.d" } do
      local result = command.run({ "cat", place .. "/top" }, { "--mount", mount(place) })
      assert.equal("top\n", result.out, result.err)
    end
  end)

  it("is there when it is mounted several times, over itself and inside of itself", function()
    local result = command.run({ "cat", "/data/a/top" },
      { "--mount", mount("/data"), "--mount", mount("/data/a"), "--mount", mount("/other", ",ro"), "--mount", mount("/data") })
    assert.is_true(result.code == 0 or result.code == 1, result.err)
  end)

  it("is there when the command is not found", function()
    assert.equal(127, command.run({ "nosuchcmd" }, { "--mount", mount("/data") }).code)
  end)

  it("is there when a mount after it cannot be made", function()
    local file = command.write("plain", "x\n")
    local result = command.run({ "true" }, { "--mount", mount("/data"), "--mount", "source=" .. file .. ",destination=/etc" })
    assert.is_true(result.code == 0 or result.code == 125, result.err)
  end)

  it("is there when the user does not exist", function()
    assert.equal(125, command.run({ "true" }, { "--mount", mount("/data"), "--user", "nosuch" }).code)
  end)

  it("is there when a layer is broken", function()
    local noise = command.write("noise.img", ("noise"):rep(300000))
    local result = command.run({ "true" },
      { "--layer", command.image("base"), "--layer", noise, "--scratch", "64M", "--mount", mount("/data") })
    assert.equal(125, result.code)
  end)

  it("is there when the scratch disk runs full", function()
    command.run({ "/bin/sh", "-c", "dd if=/dev/zero of=/fill bs=1M 2>/dev/null; true" },
      { "--layer", command.image("base"), "--scratch", "16M", "--mount", mount("/data") })
  end)

  it("is there when a process in the container holds it busy and is killed", function()
    local process = command.spawn(command.program, command.run_args(
      { "/bin/sh", "-c", "cd /data/a/b; exec 9</data/top; trap '' TERM INT; sleep 600 & echo up; sleep 600" },
      { "--mount", mount("/data") }))
    process:wait_for("up\n")
    process:insist("sigint")
  end)

  it("is there when moonshim is killed while it runs, and cleaned up after", function()
    local process = command.spawn(command.program, command.run_args({ "/bin/sh", "-c", "echo up; sleep 600" },
      { "--mount", mount("/data") }))
    process:wait_for("up\n")
    process:kill("sigkill")
    process:wait()
    command.moonshim { "gc" }
  end)

  it("is there when the agent is killed while it runs", function()
    local process = command.spawn(command.program, command.run_args({ "/bin/sh", "-c", "echo up; sleep 600" },
      { "--mount", mount("/data"), "--mount", mount("/run/data") }))
    process:wait_for("up\n")
    local children = command.execute("/bin/sh", { "-c", "cat /proc/" .. process.pid .. "/task/*/children" }).out
    for pid in children:gmatch("%d+") do uv.kill(tonumber(pid), "sigkill") end
    process:wait()
  end)

  it("is there when the command moves and replaces what is around it", function()
    local root = command.folder .. "/roots/mess"
    command.execute("/bin/cp", { "-a", command.root(), root })
    command.run({ "/bin/sh", "-c", "mv /data /elsewhere; mkdir -p /data; ln -s /mnt /data/link; rm -rf /etc /home; true" },
      { "--rootfs", root, "--mount", mount("/mnt/data") })
  end)

  it("is there when the root's own folders are links to it", function()
    local root = command.folder .. "/roots/links"
    command.execute("/bin/sh", { "-c", ("cp -a '%s' '%s' && cd '%s' && rmdir tmp run && ln -s /mnt/data tmp && ln -s /mnt/data run")
      :format(command.root(), root, root) })
    command.run({ "/bin/sh", "-c", "true" }, { "--rootfs", root, "--mount", mount("/mnt/data"), "--mount", mount("/run/inner") })
  end)

  it("that is the root itself is there, too", function()
    local root = command.folder .. "/roots/own"
    command.execute("/bin/cp", { "-a", command.root(), root })
    command.run({ "nosuchcmd" }, { "--rootfs", root })
    command.run({ "true" }, { "--rootfs", root, "--user", "nosuch" })
    local process = command.spawn(command.program, command.run_args({ "/bin/sh", "-c", "echo up; sleep 600" }, { "--rootfs", root }))
    process:wait_for("up\n")
    process:kill("sigkill")
    process:wait()
    command.moonshim { "gc" }
    assert.is_truthy(uv.fs_stat(root .. "/bin/busybox"))
    assert.is_truthy(uv.fs_stat(root .. "/etc/passwd"))
  end)
end)

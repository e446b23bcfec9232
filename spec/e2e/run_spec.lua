local command = require "e2e.command"
local stop = require "support.stop"

-- The SHA-256 of 64 MiB of "y\n".
local function sha256_of_yes(bytes)
  local result = command.execute("/bin/sh", { "-c", "yes | head -c " .. bytes .. " | sha256sum" })
  return result.out:match("^%x+")
end

local function lines(text)
  local out = {}
  for line in text:gmatch("[^\n]*\n") do out[#out + 1] = line end
  return out
end

describe("moonshim run --rootfs", function()
  local check_leaks
  setup(function() check_leaks = command.leaks() end)
  after_each(function() check_leaks() end)

  describe("ends with the status of the command", function()
    for name, case in pairs {
      ["its own code"] = { "echo hi; exit 7", 7, "hi\n" },
      ["success"] = { "exit 0", 0, "" },
      ["126 as it is"] = { "exit 126", 126, "" },
      ["127 as it is"] = { "exit 127", 127, "" },
      ["255 as it is"] = { "exit 255", 255, "" },
      ["128 + 9 for SIGKILL of a child"] = { 'sh -c "kill -9 \\$\\$"; exit $?', 137, "" },
      ["128 + 15 for SIGTERM of a child"] = { 'sh -c "kill -15 \\$\\$"; exit $?', 143, "" },
      ["128 + 11 for SIGSEGV of a child"] = { 'sh -c "kill -11 \\$\\$"; exit $?', 139, "" },
    } do
      it(name, function()
        local result = command.run { "/bin/sh", "-c", case[1] }
        assert.equal(case[2], result.code, result.err)
        assert.equal(case[3], result.out)
        assert.is_nil(result.err:find("moonshim", 1, true))
      end)
    end
  end)

  describe("without a program that can run", function()
    local root
    setup(function()
      root = command.folder .. "/roots/programs"
      command.execute("/bin/cp", { "-a", command.root(), root })
      assert.equal(0, command.execute("/bin/sh", { "-c", [[
        echo data > bin/plain; chmod 644 bin/plain
        echo true > bin/text; : > bin/empty
        printf '#!/no/such\n' > bin/script
        cp bin/busybox bin/foreign; printf '\26' | dd of=bin/foreign bs=1 seek=18 conv=notrunc status=none
        chmod 755 bin/text bin/empty bin/script bin/foreign]] }, { cwd = root }).code)
    end)

    for name, case in pairs {
      ["gives 127 for a name that is nowhere"] = { "nosuchcmd", 127 },
      ["gives 127 for a path that is not there"] = { "/bin/nosuch", 127 },
      ["gives 126 for a file that is not executable"] = { "/bin/plain", 126 },
      ["gives 126 for a folder"] = { "/etc", 126 },
      ["gives 126 for a text that is no script"] = { "text", 126 },
      ["gives 126 for an empty file"] = { "/bin/empty", 126 },
      ["gives 126 for a script without its interpreter"] = { "script", 126 },
      ["gives 126 for a program for another machine"] = { "foreign", 126 },
    } do
      it(name .. " (known bug 64)", function()
        local result = command.run({ case[1] }, { "--rootfs", root })
        assert.equal(case[2], result.code, result.err)
        assert.equal("", result.out)
        assert.equal(1, #lines(result.err), result.err)
        assert.is_truthy(result.err:find(case[1], 1, true), result.err)
      end)
    end

    it("leaves the name free for the next run", function()
      assert.equal(127, command.run({ "nosuchcmd" }, { "--name", "again" }).code)
      local second = command.run({ "echo", "here" }, { "--name", "again" })
      assert.equal("here\n", second.out)
      assert.equal(0, second.code)
    end)
  end)

  describe("passes on", function()
    it("arguments and environment, whatever blanks and quotes are in them", function()
      local result = command.run({ "/bin/sh", "-c", 'printf "%s|" "$@" "$A" "$B"', "sh", "a b", "", "'\"$x", "\u{e9}\n" },
        { "--env", "A=x=y z", "--env", "B=" })
      assert.equal("a b||'\"$x|\u{e9}\n|x=y z||", result.out)
    end)

    it("no argument that is no UTF-8, since an OCI specification cannot hold it", function()
      local result = command.run { "echo", "\195\40\255" }
      assert.equal(125, result.code)
      assert.equal(1, #lines(result.err))
      assert.is_truthy(result.err:find("UTF-8", 1, true), result.err)
    end)

    it("environments and arguments as long as the kernel takes, and says when they are longer (known bug 92)", function()
      local options = { "--env", "BIG=" .. ("b"):rep(120000) }
      for i = 1, 200 do
        options[#options + 1] = "--env"
        options[#options + 1] = ("V%d=%s"):format(i, ("v"):rep(1000))
      end
      local result = command.run({ "sh", "-c", "echo ${#BIG} $V200 ${#1}", "sh", ("a"):rep(100000) }, options)
      assert.equal(("120000 %s 100000\n"):format(("v"):rep(1000)), result.out, result.err:sub(1, 300))
      -- More than that fits on no command line, a pod file can say it.
      local file = command.write("long.lua", ([[return require("moonshim").pod { name = "long", containers = { main = {
        rootfs = %q, args = { "true" }, env = { BIG = ("b"):rep(132000) } } } }]]):format(command.root()))
      result = command.moonshim { "run", file }
      assert.equal(125, result.code)
      assert.equal(1, #lines(result.err), result.err:sub(1, 300))
      assert.is_truthy(result.err:find("BIG", 1, true), result.err:sub(1, 300))
    end)

    it("an environment with a PATH under the caller's additions", function()
      local result = command.run({ "env" }, { "--env", "FOO=bar" })
      assert.is_truthy(result.out:find("\nFOO=bar\n", 1, true) or result.out:find("^FOO=bar\n"))
      assert.is_truthy(result.out:find("PATH=[^\n]*/bin"))
    end)

    it("the caller's value for a bare name", function()
      assert.equal("from outside\n", command.run({ "/bin/sh", "-c", "echo $OUTER" }, { "--env", "OUTER" },
        { env = { OUTER = "from outside" } }).out)
    end)

    it("the working directory", function()
      assert.equal("/etc\n", command.run({ "pwd" }, { "--cwd", "/etc" }).out)
    end)

    it("no working directory outside of the container, by whatever descriptor (known bug 142)", function()
      for n = 3, 12 do
        local result = command.run({ "pwd" }, { "--cwd", "/proc/self/fd/" .. n })
        assert.equal("", result.out)
        assert.equal(125, result.code)
        assert.is_truthy(result.err:find("/proc/self/fd/" .. n, 1, true), result.err)
      end
    end)

    it("the host name", function()
      assert.equal("moon\n", command.run({ "hostname" }, { "--hostname", "moon" }).out)
    end)

    it("standard input with -i, to its end", function()
      local result = command.run({ "wc", "-c" }, { "-i" }, { stdin = ("x"):rep(3000000) })
      assert.equal("3000000", result.out:match("%d+"))
    end)

    it("nothing as standard input without -i", function()
      assert.equal("0", command.run({ "wc", "-c" }, nil, { stdin = "ignored" }).out:match("%d+"))
    end)

    it("standard output and standard error apart, also through /dev and /proc", function()
      local result = command.run { "/bin/sh", "-c",
        "echo a > /dev/stdout; echo b > /dev/stderr; echo c > /proc/self/fd/1; echo d >&2" }
      assert.equal("a\nc\n", result.out)
      assert.equal("b\nd\n", result.err)
    end)

    it("64 MiB from its standard input to its standard output without changing a byte", function()
      local bytes = 64 << 20
      local args = {}
      for i, word in ipairs(command.run_args({ "/bin/cat" }, { "-i" })) do args[i] = "'" .. word .. "'" end
      local result = command.execute("/bin/sh", { "-c",
        ("yes | head -c %d | '%s' %s | sha256sum"):format(bytes, command.program, table.concat(args, " ")) })
      assert.equal("", result.err)
      assert.equal(sha256_of_yes(bytes), result.out:match("^%x+"))
    end)

    it("only descriptors 0, 1 and 2", function()
      local result = command.run { "/bin/sh", "-c", "exec ls /proc/self/fd" }
      -- 3 is the folder that ls reads.
      assert.equal("0\n1\n2\n3\n", result.out)
    end)

    it("descriptors that block", function()
      local result = command.run { "/bin/sh", "-c", "for n in 0 1 2; do grep flags /proc/self/fdinfo/$n; done" }
      for flags in result.out:gmatch("flags:%s*(%d+)") do
        assert.equal(0, tonumber(flags, 8) & 2048, result.out)
      end
    end)
  end)

  describe("as a user", function()
    for name, case in pairs {
      ["of a number"] = { "1", "uid=1(daemon) gid=1(daemon)" },
      ["and a group, both of numbers"] = { "1:5", "uid=1(daemon) gid=5" },
      ["of a name"] = { "nobody", "uid=65534(nobody) gid=65534(nogroup)" },
      ["of a name and a group's name"] = { "web:staff", "uid=1000(web) gid=50(staff)" },
      ["of the number nought"] = { "0", "uid=0(root) gid=0(root)" },
      ["of a number that no file knows"] = { "4242", "uid=4242 gid=0(root)" },
    } do
      it(name, function()
        local result = command.run({ "id" }, { "--user", case[1] })
        assert.equal("", result.err)
        assert.equal(case[2], result.out:match("^uid=%S+ gid=%S+"))
      end)
    end

    for _, user in ipairs { "nosuch", "0x1", "-1", "4294967296", ":5", "web:nosuch", "a b" } do
      it(("refuses %q, and never falls back to root"):format(user), function()
        local result = command.run({ "id" }, { "--user=" .. user })
        assert.equal(125, result.code)
        assert.equal("", result.out)
        assert.equal(1, #lines(result.err), result.err)
      end)
    end

    it("by number works where no passwd file is", function()
      local root = command.folder .. "/roots/bare"
      command.execute("/bin/cp", { "-a", command.root(), root })
      command.execute("/bin/rm", { root .. "/etc/passwd", root .. "/etc/group" })
      assert.equal("uid=7 gid=0", command.run({ "id" }, { "--rootfs", root, "--user", "7" }).out:match("^uid=%S+ gid=%S+"))
      assert.equal(125, command.run({ "id" }, { "--rootfs", root, "--user", "web" }).code)
    end)
  end)

  describe("with a root", function()
    it("that is a folder writes into it", function()
      local root = command.folder .. "/roots/written"
      command.execute("/bin/cp", { "-a", command.root(), root })
      assert.equal(0, command.run({ "/bin/sh", "-c", "echo new > /etc/new" }, { "--rootfs", root }).code)
      assert.equal("new\n", command.read(root .. "/etc/new"))
    end)

    it("that is a folder leaves it alone with --read-only", function()
      local result = command.run({ "/bin/sh", "-c", "echo new > /etc/new" }, { "--read-only" })
      assert.not_equal(0, result.code)
      assert.is_truthy(result.err:find("ead-only file system", 1, true), result.err)
      assert.is_nil(command.read(command.root() .. "/etc/new"))
    end)

    it("that is an image is read-only", function()
      local result = command.run({ "/bin/sh", "-c", "head -n 1 /etc/passwd; echo new > /etc/new" },
        { "--rootfs", command.image("base") })
      assert.is_truthy(result.out:find("^root:"))
      assert.is_truthy(result.err:find("ead-only file system", 1, true), result.err)
    end)

    it("of layers and a fresh scratch disk is writable, the top layer above the base", function()
      local before = command.read(command.image("base"))
      local result = command.run({ "/bin/sh", "-c", "cat /app/greeting; echo x > /etc/passwd; cat /etc/passwd" },
        { "--layer", command.image("base"), "--layer", command.image("app"), "--scratch", "64M" })
      assert.equal("hello from the top layer\nx\n", result.out)
      assert.equal("", result.err)
      assert.is_true(before == command.read(command.image("base")), "the layer is as it was")
    end)

    it("of layers and a scratch disk of the user's keeps that file", function()
      local disk = command.empty_image("mine.ext4")
      local options = { "--layer", command.image("base"), "--scratch", disk }
      assert.equal(0, command.run({ "/bin/sh", "-c", "echo kept > /etc/kept" }, options).code)
      assert.is_not_nil(command.read(disk))
    end)
  end)

  describe("with a mount", function()
    it("shows a folder, writable", function()
      local file = command.write("shared/inside", "from the host\n")
      local result = command.run({ "/bin/sh", "-c", "cat /data/inside; echo back > /data/answer" },
        { "--mount", "type=bind,source=" .. file:match("^(.*)/") .. ",destination=/data" })
      assert.equal("from the host\n", result.out)
      assert.equal("", result.err)
      assert.equal("back\n", command.read(command.folder .. "/shared/answer"))
    end)

    it("shows a folder, read-only", function()
      local file = command.write("shared-ro/inside", "still here\n")
      local result = command.run({ "/bin/sh", "-c", "cat /data/inside; rm /data/inside; echo x > /data/inside" },
        { "--mount", "type=bind,source=" .. file:match("^(.*)/") .. ",destination=/data,ro" })
      assert.equal("still here\n", result.out)
      assert.is_truthy(result.err:find("ead-only file system", 1, true), result.err)
      assert.equal("still here\n", command.read(file))
    end)

    it("shows a single file", function()
      local file = command.write("one/conf", "setting\n")
      command.write("one/secret", "not to be seen\n")
      local result = command.run({ "/bin/sh", "-c", "cat /etc/app.conf; grep -r 'not to be' /etc /run 2>/dev/null; true" },
        { "--mount", "type=bind,source=" .. file .. ",destination=/etc/app.conf,ro" })
      assert.equal("setting\n", result.out)
    end)

    it("gives a tmpfs", function()
      local result = command.run({ "/bin/sh", "-c", "echo x > /scratch/x; grep -c ' /scratch tmpfs ' /proc/mounts" },
        { "--mount", "type=tmpfs,destination=/scratch" })
      assert.equal("1\n", result.out)
    end)

    it("has the ordinary mounts of a container besides", function()
      local result = command.run { "/bin/sh", "-c",
        "for m in /proc /dev /dev/pts /dev/shm /sys; do grep -q \" $m \" /proc/mounts || echo no $m; done" }
      assert.equal("", result.out)
    end)
  end)

  it("prints the timeline to standard error when asked", function()
    local result = command.run({ "echo", "hi" }, { "--timeline", "--name", "timed" })
    assert.equal("hi\n", result.out)
    assert.is_truthy(result.err:find("timed", 1, true), result.err)
    assert.is_truthy(result.err:find("running", 1, true), result.err)
  end)

  describe("while the command runs", function()
    for _, signal in ipairs { "TERM", "INT", "HUP" } do
      it("forwards " .. signal, function()
        local process = command.spawn(command.program, command.run_args {
          "/bin/sh", "-c", ("trap 'echo got it; exit 9' %s; echo up; while :; do sleep 0.05; done"):format(signal) })
        process:wait_for("up\n")
        process:kill("sig" .. signal:lower())
        local result = process:wait()
        assert.equal("up\ngot it\n", result.out)
        assert.equal(9, result.code)
      end)
    end

    it("kills at the second INT what ignored the first", function()
      local process = command.spawn(command.program, command.run_args {
        "/bin/sh", "-c", "trap 'echo no' INT; echo up; while :; do sleep 0.05; done" })
      process:wait_for("up\n")
      process:kill("sigint")
      process:wait_for("no\n")
      process:kill("sigint")
      assert.equal(137, process:wait().code)
    end)

    it("ends the VM at the third INT, whatever became of the first two", function()
      local process = command.spawn(command.program, command.run_args { "/bin/sh", "-c", "echo up; sleep 600" })
      process:wait_for("up\n")
      local agent = command.agent()
      assert.is_true(stop(agent))
      process:deliver(2) -- would be forwarded, but nobody takes it
      process:deliver(2) -- would kill
      assert.is_truthy(command.read(("/proc/%d/stat"):format(agent)):find(") T ", 1, true))
      process:deliver(2)
      assert.equal(130, process:wait().code)
      assert.is_nil((command.read(("/proc/%d/stat"):format(agent)) or ""):match "%) [^ZX] ")
      assert.same({}, command.list(command.run_dir))
    end)
  end)

  teardown(function() command.cleanup() end)
end)

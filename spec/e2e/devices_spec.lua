local command = require "e2e.command"
local uv = require "luv"

-- Loop device 0 stands for a device that no container has by itself: it can be opened whether it is in use or not.
local LOOP = "/dev/loop0"
-- Makes a node of it in the container, as anybody with the capability can, and tries to read it.
local TRY = "mknod /dev/try b 7 0; head -c1 /dev/try 2>&1"
local DENIED = "Operation not permitted"

local function sh(script, options) return command.run({ "sh", "-c", script }, options) end

describe("a container's devices", function()
  local check_leaks, nodes
  setup(function()
    check_leaks = command.leaks()
    if not uv.fs_stat(LOOP) then command.execute("/sbin/losetup", { "-f" }) end
    nodes = command.folder .. "/nodes"
    command.execute("/bin/sh", { "-c", ("mkdir -p %s && mknod -m 0666 %s/zero c 1 5 && mknod -m 0640 %s/loop b 7 0 && chgrp 44 %s/loop")
      :format(nodes, nodes, nodes, nodes) })
  end)
  after_each(function() check_leaks() end)
  teardown(function() command.cleanup() end)

  it("are closed to it, whoever makes a node, unless they were given", function()
    assert.is_truthy(sh(TRY).out:find(DENIED, 1, true))
    assert.is_nil(sh(TRY, { "--device", LOOP }).out:find(DENIED, 1, true))
  end)

  it("that every program needs are there", function()
    local result = sh "head -c4 /dev/zero | wc -c; head -c4 /dev/urandom | wc -c; echo x > /dev/null; ls /dev | tr '\\n' ' '"
    assert.equal("4\n4\n", result.out:sub(1, 4), result.err)
    assert.is_nil(result.out:find("loop", 1, true))
  end)

  it("come under their own name or another, with number, mode and owner of the host's node", function()
    local result = sh("stat -c '%F %t %T %a %g' /dev/loop0 /dev/given /dev/deep/er/zero; head -c4 /dev/deep/er/zero | wc -c",
      { "--device", LOOP, "--device", nodes .. "/loop:/dev/given", "--device", nodes .. "/zero:/dev/deep/er/zero" })
    assert.is_truthy(result.out:find("^block special file 7 0 %d+ %d+\n"), result.out .. result.err)
    assert.is_truthy(result.out:find("\nblock special file 7 0 640 44\ncharacter special file 1 5 666 0\n4\n", 1, true), result.out)
  end)

  it("may be given for reading alone", function()
    local result = sh("head -c1 /dev/given && echo read; echo x > /dev/given; echo wrote $?",
      { "--device", nodes .. "/loop:/dev/given:r" })
    assert.is_truthy(result.out:find("read\nwrote 1\n", 1, true), result.out .. result.err)
    assert.is_truthy(result.err:find(DENIED, 1, true), result.err)
  end)

  it("have their modes whatever the umask of the caller (known bug 143)", function()
    local line = ("umask 077; exec %s run --rootfs %s --device %s/zero:/dev/given/ -- stat -c %%a /dev/given"):format(
      command.program, command.root(), nodes)
    local result = command.execute("/bin/sh", { "-c", line })
    assert.equal("666\n", result.out, result.err)
  end)

  for what, case in pairs {
    ["is not there"] = { "/dev/nosuch", "/dev/nosuch: there is no such file" }, ["is a folder"] = { "/dev", "is a directory" },
    ["is a file"] = { "/etc/passwd", "is a file" }, ["cannot be read"] = { "/dev/null:x:y:z", "is no device; write /dev/NAME" },
    ["has a wrong access"] = { "/dev/null:rr", "is no access" },
  } do
    it(("are refused in one line when one %s"):format(what), function()
      local result = command.run({ "true" }, { "--device", case[1] })
      assert.equal(125, result.code)
      assert.is_truthy(result.err:find(case[2], 1, true), result.err)
      assert.equal(1, select(2, result.err:gsub("\n", "")), result.err)
    end)
  end

  describe("in a pod", function()
    local pod
    setup(function()
      pod = command.write("devices.lua", ([[
local moonshim = require "moonshim"
local function c(args, devices) return { rootfs = "roots/busybox", args = { "sh", "-c", args }, devices = devices } end
return moonshim.pod { name = "devices", containers = {
  one = c("trap 'exit 0' TERM; head -c1 /dev/loop0 >/dev/null; echo one $?; while :; do sleep 0.1; done", { "/dev/loop0" }),
  two = c("trap 'exit 0' TERM; head -c1 /dev/disk >/dev/null; echo two $?; while :; do sleep 0.1; done",
    { { path = "/dev/loop0", destination = "/dev/disk", access = "r" } }),
  none = c([=[%s]=]),
} }
]]):format(TRY:gsub("\\", "\\\\")))
      command.root()
    end)

    it("may be shared by containers, and are closed to the others", function()
      local process = command.spawn(command.program, { "run", pod })
      process:wait_for("one  | one 0\n")
      process:wait_for("two  | two 0\n")
      process:wait_for(DENIED)
      process:kill("sigterm")
      assert.equal(143, process:wait().code)
    end)

    it("are steps of the plan", function()
      local result = command.moonshim { "plan", pod }
      assert.equal(0, result.code, result.err)
      assert.equal(2, select(2, result.out:gsub("device[^\n]*/dev/loop0", "")), result.out)
    end)

    it("are given back when the shim was killed (known bug 124)", function()
      local process = command.spawn(command.program, { "run", pod })
      process:wait_for("two  | two 0\n")
      process:kill("sigkill")
      process:wait()
      command.gc()
    end)
  end)

  it("can be named a hundred times", function()
    local options = {}
    for i = 1, 100 do
      options[#options + 1] = "--device"
      options[#options + 1] = ("%s/zero:/dev/z%d"):format(nodes, i)
    end
    assert.equal("100\n", sh("ls -d /dev/z[0-9]* | wc -l", options).out)
  end)
end)

local agent = require "support.agent"
local cjson = require "cjson"
local gcs = require "support.gcs"
local uv = require "luv"

agent.describe("the agent of a local UVM", function()
  local vm, container_root
  local here = agent.root()
  agent.vm(function(booted, at) vm, container_root = booted, at end, here)

  local function sh(line, over) return gcs.spec(container_root, { "sh", "-c", line }, over) end

  describe("between a host and its containers", function()
    it("runs a container and gives its output and code", function()
      local code, out, err = vm:run("c1", sh "echo hi; echo no >&2; exit 7")
      assert.equal(7, code)
      assert.equal("hi\n", out)
      assert.equal("no\n", err)
    end)

    for signal, code in pairs { [9] = 137, [15] = 143, [11] = 139 } do
      it(("gives %d for a container that signal %d ended"):format(code, signal), function()
        local spec = sh(("kill -%d $$"):format(signal))
        spec.linux.namespaces = { { type = "mount" }, { type = "uts" } } -- pid 1 of a namespace could not do that to itself
        assert.equal(code, (vm:run("c1", spec)))
      end)
    end

    for deaf, dialled in pairs { stdin = {}, stdout = { "stdin" }, stderr = { "stdin", "stdout" } } do
      it(("dials in the order stdin, stdout, stderr: without %s it stops there and starts nothing"):format(deaf), function()
        vm:create("c1", sh "exit 8")
        local result, _, io = vm:execute("c1", {}, { "stderr", "stdin", "stdout" }, deaf)
        assert.equal(0x80004005, result)
        for _, name in ipairs(dialled) do
          gcs.until_ready("the end of " .. name, function() return io[name].ended end)
          io[name] = nil
        end
        for name, stream in pairs(io) do assert.is_nil(stream.pipe, name) end
        local pid = vm:start "c1"
        assert.equal(8, vm:wait("c1", pid))
      end)
    end

    it("ends the input of a process when the host has written everything", function()
      vm:create("c1", sh "wc -c")
      local pid, io = vm:start("c1", { "stdin", "stdout" })
      io.stdin:write(("x"):rep(8 << 20))
      io.stdin:finish()
      assert.equal("8388608\n", io.stdout:read_all())
      assert.equal(0, vm:wait("c1", pid))
    end)

    it("gives processes blocking pipes that can be opened again, also without root", function()
      local spec = sh("echo a > /dev/stdout; echo b > /dev/stderr; echo c > /proc/self/fd/1; grep flags /proc/self/fdinfo/1",
        { process = { user = { username = "nobody" } } })
      local code, out, err = vm:run("c1", spec)
      assert.equal(0, code)
      assert.equal("b\n", err)
      local flags = out:match "^a\nc\nflags:%s+(%d+)\n$"
      assert.equal(0, tonumber(flags, 8) & tonumber("4000", 8), "O_NONBLOCK")
    end)

    it("lets no descriptor of its own into a container (known bug 142)", function()
      local _, out = vm:run("c1", sh "ls /proc/self/fd | wc -l")
      assert.equal("4\n", out) -- 0, 1, 2 and the folder that ls reads
      vm:create("c2", sh "sleep 1000")
      local pid = vm:start "c2"
      local _, io = vm:exec("c2", { "sh", "-c", "ls /proc/self/fd | wc -l" })
      assert.equal("4\n", io.stdout:read_all())
      assert.is_number(pid)
    end)

    it("drops output that nobody asked for instead of ending the writer", function()
      vm:create("c1", sh "head -c 300000 /dev/zero && exit 5")
      local pid = vm:start("c1", {})
      assert.equal(5, vm:wait("c1", pid))
    end)

    it("answers a wait at the exit, though a background child keeps the output open", function()
      vm:create("c1", sh "sleep 1000")
      vm:start "c1"
      local pid, io = vm:exec("c1", { "sh", "-c", "echo here; sleep 1000 &" })
      assert.equal(0, vm:wait("c1", pid))
      assert.matches("here", io.stdout:read_until "here")
      assert.is_nil(io.stdout.ended)
    end)

    it("forgets an exec after one wait and keeps an init until it is deleted", function()
      vm:create("c1", sh "read line; exit 4")
      local init, io = vm:start("c1", { "stdin" })
      local pid = vm:exec("c1", { "true" }, {})
      assert.equal(0, vm:wait("c1", pid))
      assert.equal(0x80070490, (vm:call("wait", "c1", { ProcessId = pid, TimeoutInMs = gcs.FOREVER })))
      io.stdin:finish()
      assert.equal(4, vm:wait("c1", init))
      assert.equal(4, vm:wait("c1", init))
    end)

    it("lets a wait expire and answers a later one", function()
      vm:create("c1", sh "read line; exit 4")
      local pid, io = vm:start("c1", { "stdin" })
      assert.equal(0xc0370109, (vm:call("wait", "c1", { ProcessId = pid, TimeoutInMs = 1 })))
      io.stdin:finish()
      assert.equal(4, vm:wait("c1", pid))
    end)

    it("sends one notification, after the exit and a wait", function()
      vm:create("c1", sh "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done")
      local pid, io = vm:start "c1"
      io.stdout:read_until "up"
      vm:must("signal", "c1", { ProcessId = pid, Options = { Signal = 15 } })
      gcs.until_ready("the end of the output", function() return io.stdout.ended end)
      assert.same({}, vm.notifications)
      assert.equal(3, vm:wait("c1", pid))
      vm:wait("c1", pid)
      vm:must("delete_state", "c1")
      assert.equal(1, #vm.notifications)
      assert.equal("GracefulExit", vm.notifications[1].Type)
      assert.equal("c1", vm.notifications[1].ContainerId)
    end)

    it("lets an exec end without the container, and refuses what comes after the end", function()
      vm:create("c1", sh "read line")
      local init, io = vm:start("c1", { "stdin" })
      local pid = vm:exec("c1", { "sh", "-c", "exit 9" })
      assert.equal(9, vm:wait("c1", pid))
      io.stdin:finish()
      vm:wait("c1", init)
      assert.equal(0x80070490, (vm:call("signal", "c1", { ProcessId = init })))
      assert.equal(0xc0370110, (vm:call("shutdown", "c1")))
      assert.equal(0xc0370110, select(2, vm:exec("c1", { "true" })))
    end)

    it("lists the processes of a container", function()
      vm:create("c1", sh "sleep 1000")
      local init = vm:start "c1"
      local pid = vm:exec("c1", { "sleep", "1000" }, {})
      local reply = vm:must("properties", "c1", { Query = '{"PropertyTypes":["ProcessList"]}' })
      local seen = {}
      for _, row in ipairs(cjson.decode(reply.Properties).ProcessList) do seen[row.ProcessId] = true end
      assert.is_true(seen[init] and seen[pid])
    end)

    it("runs processes of the UVM itself", function()
      local result, body, io = vm:execute(gcs.NULL, { CommandArgs = { "sh", "-c", "echo $A; exit 4" }, Environment = { A = "b" } })
      assert.equal(0, result)
      assert.equal(4, vm:wait(gcs.NULL, body.ProcessId))
      assert.equal("b\n", io.stdout:read_all())
    end)

    it("runs fifty execs at once and gives each its own code", function()
      vm:create("c1", sh "sleep 1000")
      vm:start "c1"
      local ids, pids = {}, {}
      for i = 1, 50 do
        local process = { args = { "sh", "-c", "exit " .. i }, cwd = "/", env = { "PATH=/bin" }, user = { uid = 0, gid = 0 } }
        ids[i] = vm:request("execute", "c1", { Settings = { ProcessParameters = cjson.encode { OciProcess = process } } })
      end
      for i = 1, 50 do pids[i] = vm:answer(ids[i]).ProcessId end
      for i = 1, 50 do assert.equal(i, vm:wait("c1", pids[i])) end
    end)
  end)

  describe("asked for a program that cannot run", function()
    local function result_of(args)
      local _, result = vm:run("c1", gcs.spec(container_root, args))
      return result
    end

    before_each(function()
      gcs.sh(([[cd %s/bin
        echo data > plain; chmod 644 plain
        echo true > text
        printf '#!/no/such -x\\n' > script
        cp busybox foreign; printf '\\26' | dd of=foreign bs=1 seek=18 conv=notrunc status=none
        chmod 755 text script foreign]]):format(here.root))
    end)

    for name, case in pairs {
      ["a name that is nowhere"] = { "nosuch", 0x80070002 },
      ["a path that is not there"] = { "/bin/nosuch", 0x80070002 },
      ["a path through a file"] = { "/etc/passwd/x", 0x80070002 },
      ["a file that is not executable"] = { "plain", 0x80070005 },
      ["a folder"] = { "/etc", 0x80070005 },
      ["a text that is no script"] = { "text", 0x80070005 },
      ["a script without its interpreter"] = { "script", 0x80070005 },
      ["a program for another machine"] = { "foreign", 0x80070005 },
    } do
      it(("tells %s apart (known bug 64)"):format(name), function()
        assert.equal(case[2], result_of { case[1] })
        assert.equal(0, (vm:run("c1", sh "true"))) -- the id is free again
        assert.is_nil(vm.notifications[2]) -- one for the run that was, none for the one that never ran
        vm:create("c2", sh "sleep 1000")
        vm:start "c2"
        assert.equal(case[2], select(2, vm:exec("c2", { case[1] })))
      end)
    end

    it("looks for it where the container's mounts are", function()
      gcs.sh(("mkdir -p %s/good %s/app && cd %s/good && printf '#!/bin/sh\\nexit 6\\n' > run && chmod 755 run && cp %s/bin/text %s/app/run")
        :format(here.folder, here.root, here.folder, here.root, here.root))
      local _, good = vm:share("2", here.folder .. "/good")
      assert.equal(6, (vm:run("c1", gcs.spec(container_root, { "/app/run" }, {
        extra_mounts = { { destination = "/app", type = "bind", source = good, options = { "bind" } } },
      }))))
    end)
  end)

  describe("asked for a user", function()
    for name, want in pairs {
      ["1"] = "1 7\n", ["1:5"] = "1 5\n", nobody = "65534 65534\n", ["nobody:5"] = "65534 5\n", ["1:daemon"] = "1 7\n",
      ["0"] = "0 0\n", ["77"] = "77 0\n",
    } do
      it(("finds %q in the container"):format(name), function()
        local spec = sh("echo $(id -u) $(id -g)", { process = { user = { username = name } } })
        local code, out = vm:run("c1", spec)
        assert.equal(0, code)
        assert.equal(want, out)
      end)
    end

    for _, name in ipairs { ":5", "0x1", "-1", "4294967295", "4294967296", "nosuch", "1:nosuch", "nobody:" } do
      it(("refuses %q and never runs as root (known bug 42)"):format(name), function()
        assert.is_nil((vm:run("c1", sh("id", { process = { user = { username = name } } }))))
      end)
    end

    it("gives a named user its further groups, also in an exec", function()
      local _, out = vm:run("c1", sh("id -G", { process = { user = { username = "nobody" } } }))
      assert.equal("65534 50\n", out)
      vm:create("c2", sh "sleep 1000")
      vm:start "c2"
      local _, io = vm:exec("c2", { "id", "-G" }, nil, { user = { username = "nobody" } })
      assert.equal("65534 50\n", io.stdout:read_all())
    end)

    it("reads no passwd file outside of the container through a link (known bug 150)", function()
      local linked = gcs.busybox_root(here.folder, "linked")
      gcs.sh(("rm %s/etc/passwd && ln -s ../../../../../../../../etc/passwd %s/etc/passwd"):format(linked, linked))
      local _, at = vm:share("2", linked)
      local spec = gcs.spec(at, { "id" }, { process = { user = { username = "daemon" } } })
      assert.is_nil((vm:run("c1", spec)))
    end)
  end)

  describe("facing a host that breaks the rules", function()
    it("answers 0x80004001 before negotiation and to a second one", function()
      assert.equal(0x80004001, (vm:call("negotiate", "", { MinimumVersion = 4, MaximumVersion = 4 })))
      vm:reconnect()
      assert.equal(0x80004001, (vm:call("start", "c1")))
      vm:negotiate()
      vm:must("start", "c1")
    end)

    it("refuses versions that it does not speak", function()
      vm:reconnect()
      assert.equal(0xc037010c, (vm:call("negotiate", "", { MinimumVersion = 5, MaximumVersion = 6 })))
      vm:negotiate()
    end)

    it("answers requests that nobody knows", function()
      local id = vm:post(0x10109901, "{}")
      local body, kind = vm:answer(id)
      assert.equal(0x80004001, body.Result & 0xffffffff)
      assert.equal(0x20109901, kind)
    end)

    for name, text in pairs {
      ["nothing"] = "", ["no JSON"] = "hello", ["a list"] = "[]", ["an open brace"] = "{", ["ten million letters"] = ("x"):rep(10000000),
      ["ten million brackets"] = ("["):rep(10000000), ["bytes"] = "\255\254\0", ["a number for a name"] = '{"ContainerId":5}',
    } do
      it(("answers a request of %s with 0xC037010D and lives on"):format(name), function()
        local body = vm:answer(vm:post(gcs.types.start, text))
        assert.equal(0xc037010d, body.Result & 0xffffffff)
        assert.equal(0, (vm:run("c1", sh "true")))
      end)
    end

    it("takes a valid frame of ten megabytes", function()
      local body = vm:answer(vm:post(gcs.types.start, { ContainerId = "c1", Padding = ("x"):rep(10000000) }))
      assert.equal(0, body.Result)
    end)

    for name, header in pairs {
      ["a size below the header"] = ("<I4I4I8"):pack(0x10100201, 15, 9),
      ["a size of four gigabytes"] = ("<I4I4I8"):pack(0x10100201, 0xffffffff, 9),
      ["a response"] = ("<I4I4I8"):pack(0x20100201, 16, 9),
      ["text"] = "GET / HTTP/1.1\r\n\r\n",
    } do
      it(("drops the connection at %s, dials again and keeps its containers"):format(name), function()
        vm:create("c1", sh "read line; exit 6")
        local pid, io = vm:start("c1", { "stdin" })
        vm:send(header)
        gcs.until_ready("the agent to hang up", function() return vm.lost end)
        vm.bridge = nil
        gcs.until_ready("the agent to dial again", function() return vm.bridge end)
        vm:negotiate()
        io.stdin:finish()
        assert.equal(6, vm:wait("c1", pid))
      end)
    end

    for name, change in pairs {
      ["process"] = function(s) s.process = nil end,
      ["root"] = function(s) s.root = nil end,
      ["linux"] = function(s) s.linux = nil end,
      ["root.path"] = function(s) s.root.path = nil end,
      ["process.args"] = function(s) s.process.args = nil end,
      ["process.cwd"] = function(s) s.process.cwd = "tmp" end,
      ["process.env"] = function(s) s.process.env = { "novalue" } end,
      ["mounts"] = function(s) s.mounts = { { type = "bind" } } end,
      ["annotations"] = function(s) s.annotations = { "x" } end,
      ["user.uid"] = function(s) s.process.user.uid = -1 end,
    } do
      it(("refuses a spec with a wrong %s, naming it"):format(name), function()
        local spec = sh "true"
        change(spec)
        local result, body = vm:create("c1", spec)
        assert.is_true(result ~= 0)
        assert.is_truthy(body.ErrorMessage:find(name:match "[^.]+$", 1, true), body.ErrorMessage)
        assert.equal(0, (vm:run("c1", sh "true")))
      end)
    end

    it("refuses documents that are none", function()
      for _, text in ipairs { "", "x", "[]", '{"SchemaVersion":{"Major":2,"Minor":0}}', '{"SchemaVersion":{"Major":2,"Minor":1}}' } do
        assert.equal(0xc037010d, (vm:create("c1", text)))
      end
    end)

    it("refuses a second container with the same id, and an id that is none", function()
      assert.equal(0, (vm:create("c1", sh "true")))
      assert.equal(0xc037010f, (vm:create("c1", sh "true")))
      for _, id in ipairs { "a/b", "..", "a b", ("x"):rep(300), "" } do
        assert.equal(0x80070057, (vm:create(id, sh "true", { bundle = "/run/gcs/pods/pod/x" })))
      end
    end)

    for _, path in ipairs { "relative", "/etc", "/", "/run", "/run/../etc/x", "/run/host/s", "/run/moonshim-guest/x", "/usr" } do
      it(("touches nothing at %s"):format(path), function()
        assert.equal(0x80070057, (vm:share("9", here.root, { at = path })))
        assert.equal(0x80070057, (vm:unshare("9", path)))
        assert.equal(0x80070057, (vm:create("c1", sh "true", { bundle = path })))
        assert.equal(0x80070057, (vm:modify("Add", "CombinedLayers", { ContainerRootPath = path, Layers = { { Path = container_root } } })))
        assert.equal(0x80070057, (vm:modify("Remove", "CombinedLayers", { ContainerRootPath = path })))
        assert.equal(0x80070057, (vm:modify("Remove", "MappedVirtualDisk", { MountPath = path })))
      end)
    end

    it("says what it does not have", function()
      assert.equal(0x80004005, (vm:modify("Add", "Nonsense", { x = 1 })))
      assert.equal(0x80004005, (vm:modify("Update", "MappedDirectory", { x = 1 })))
      assert.equal(0xc037010d, (vm:modify("Add", "MappedDirectory", nil)))
      assert.equal(0x80004005, (vm:modify("Add", "MappedVirtualDisk", { MountPath = "/run/mounts/scsi/x", Lun = 7, Encrypted = true })))
      assert.equal(0xc037010e, (vm:call("delete_state", "nosuch")))
      assert.equal(0xc037010e, (vm:call("wait", "nosuch", { ProcessId = 1 })))
      assert.equal(0x80004005, (vm:modify("Add", "MappedDirectory", { MountPath = "/run/mounts/plan9/99", Port = 564, ShareName = "99" })))
    end)
  end)

  describe("losing its host", function()
    it("keeps waits and sends the notification that it could not", function()
      vm:create("c1", sh "read line; exit 6")
      local pid, io = vm:start("c1", { "stdin" })
      vm:request("wait", "c1", { ProcessId = pid, TimeoutInMs = gcs.FOREVER })
      local id = vm.next_id - 1
      vm.bridge:close()
      io.stdin:finish()
      vm.bridge = nil
      gcs.until_ready("the agent to dial again", function() return vm.bridge end)
      vm:negotiate()
      vm:wait("c1", pid)
      gcs.until_ready("the notification", function() return vm.notifications[1] end)
      assert.is_true(id >= 0)
    end)
  end)

  describe("made by boot", function()
    local boot = function(args)
      local pipe = io.popen(("%s boot %s 2>/dev/null; echo $?"):format(gcs.program, args))
      local text = pipe:read "a"
      pipe:close()
      return text
    end

    it("dies with the process that made it", function()
      vm.process:kill "sigkill"
      gcs.until_ready("the end of boot", function() return vm.boot_code end)
      gcs.until_ready("the end of pid 1", function() return not uv.fs_stat("/proc/" .. vm.pid) end)
      -- Nobody was left to remove its groups, and the kernel lets each go only when the last of its tasks is.
      gcs.until_ready("the end of its groups", function()
        gcs.sh(("find /sys/fs/cgroup -depth -type d -path '*/%s' -exec rmdir {} + || true"):format(vm.cgroup))
        return gcs.holdings().cgroups == 0
      end)
    end)

    -- As when it was killed while its child was about to become boot.
    it("makes nothing for a process that has ended before boot began", function()
      local gone = tonumber(gcs.sh "echo $$")
      local text = boot(("--root-dir %s/none --id x --cgroup moonshim-spec/none --die-with-parent=%d"):format(here.folder, gone))
      assert.equal("1\n", text)
      assert.equal("0\n", gcs.sh "find /sys/fs/cgroup -type d -path '*moonshim-spec/none*' 2>/dev/null | wc -l")
    end)

    it("says on one line why it could not, and leaves nothing", function()
      local text = boot(("--root-dir %s/none --id x --cgroup moonshim-spec/none"):format(here.folder))
      local line, status = text:match "^([^\n]+)\n(%d+)\n$"
      assert.is_truthy(cjson.decode(line).error:find("none/s", 1, true))
      assert.equal("1", status)
      assert.equal("0\n", gcs.sh "find /sys/fs/cgroup -type d -path '*moonshim-spec/none*' 2>/dev/null | wc -l")
      assert.equal("2\n", boot "--id x")
      assert.equal("2\n", boot "--root-dir relative --id x --cgroup a")
      assert.equal("2\n", boot "--root-dir /tmp --id x --cgroup ../a")
    end)

    it("has the UVM's id as its name, as far as it is one", function()
      assert.equal("spec-vm\n", vm:inside "hostname")
      local other = gcs.boot { id = "pod/one ä" .. ("x"):rep(200) }
      finally(function() other:stop() end)
      other:negotiate()
      local name = other:inside "hostname"
      assert.matches("^pod%-one%-%-%-x+\n$", name)
      assert.equal(64, #name)
    end)

    it("has no network but its own loopback, and sees no process of the host", function()
      assert.equal("1\n", vm:inside "ls /sys/class/net | wc -l")
      assert.equal("1: moonshim-guest\n", vm:inside "echo 1: $(cat /proc/1/comm)")
      assert.is_truthy(vm:inside("touch /usr/x /sys/x 2>&1"):find "[Rr]ead%-only")
    end)
  end)

  describe("told to end", function()
    it("ends a container by TERM or by KILL", function()
      for name, code in pairs { shutdown = 3, shutdown_forced = 137 } do
        vm:create("c1", sh "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done")
        local pid, io = vm:start "c1"
        io.stdout:read_until "up"
        vm:must(name, "c1")
        assert.equal(code, vm:wait("c1", pid))
        vm:must("delete_state", "c1")
      end
    end)

    it("ends everything when the UVM is shut down", function()
      vm:create("c1", sh "sleep 1000")
      vm:start "c1"
      vm:request("shutdown_forced", gcs.NULL)
      gcs.until_ready("the end", function() return vm.boot_code end)
      assert.equal(0, vm.boot_code)
      assert.same({}, vm:pids())
    end)
  end)

  describe("deleting a container", function()
    it("refuses while it runs and works before it was started", function()
      vm:create("c1", sh "sleep 1000")
      vm:create("c2", sh "sleep 1000")
      local pid = vm:start "c1"
      assert.equal(0x80370105, (vm:call("delete_state", "c1")))
      vm:must("delete_state", "c2")
      vm:must("signal", "c1", { ProcessId = pid })
      vm:wait("c1", pid)
      vm:must("delete_state", "c1")
      assert.equal(0xc037010e, (vm:call("delete_state", "c1")))
      assert.equal("", vm:inside "find /run/gcs/pods /run/moonshim-guest/crun /run/moonshim-guest/tmp -mindepth 1")
    end)

    it("leaves no process and no cgroup of it, without a pid namespace too", function()
      local spec = sh "sleep 1000 & exit 0"
      spec.linux.namespaces = { { type = "mount" } }
      assert.equal(0, (vm:run("c1", spec)))
      assert.equal("0\n", vm:inside "pgrep -x sleep | wc -l")
      assert.equal("", vm:inside "find /sys/fs/cgroup -type d -name c1")
    end)
  end)
end)

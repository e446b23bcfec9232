local descriptors = dofile "scripts/descriptors.lua"
local command = require "e2e.command"
local driven = require "e2e.driven"
local pty = require "support.pty"
local uv = require "luv"

describe("terminals from code", function()
  local moonshim, task, check_leaks
  setup(function()
    command.root()
    moonshim = require "moonshim"
    task = moonshim.task
    check_leaks = command.leaks()
  end)
  after_each(function() check_leaks() end)
  teardown(function() command.cleanup() end)

  local function with_pod(web, fn, opts)
    driven.with_pod({ name = "driven", containers = { web = driven.plain(web) } }, fn, opts)
  end

  it("an exec has one, and all it prints is its output [#539]", function()
    with_pod({}, function(pod)
      local p = assert(pod.web:exec { "sh", "-c", "stty size; echo err >&2; exit 5", tty = true, size = { rows = 40, columns = 120 } })
      assert.equal(5, p:wait())
      local out, errors = p:output()
      assert.equal("", errors)
      assert.equal("err\r\n", out:sub(-5))
    end)
  end)

  it("a text as input ends where its Ctrl-D is", function()
    with_pod({}, function(pod)
      local p = assert(pod.web:exec { "cat", tty = true, stdin = "one\ntwo\n\4" })
      assert.equal(0, p:wait())
      assert.is_truthy(p:output():find("two\r\n", 1, true))
    end)
  end)

  it("a new size arrives; after the exit there is a clean error (known bug 39)", function()
    with_pod({}, function(pod)
      local p = assert(pod.web:exec { "sh", "-c", "until [ \"$(stty size 2>&1)\" = '50 132' ]; do :; done", tty = true })
      assert(p:resize(0, 0))
      assert(p:resize(65535, 65535))
      assert(p:resize(50, 132))
      assert.equal(0, p:wait())
      local ok, e = p:resize(1, 1)
      assert.is_nil(ok)
      assert.equal("failed_precondition", e.code)
      local plain = assert(pod.web:exec { "sleep", "1000" })
      ok, e = plain:resize(1, 1)
      assert.is_nil(ok)
      assert.equal("failed_precondition", e.code)
      assert.is_truthy(e.message:find("has no terminal", 1, true))
      plain:kill "KILL"
      plain:wait()
    end)
  end)

  it("a container has one by tty = true, with the size that it is started with, and is resized", function()
    local path = command.write("printed", "")
    local fd = assert(uv.fs_open(path, "w", 420))
    local args = { "sh", "-c", "trap 'stty size; exit 3' WINCH; stty size; while :; do sleep 0.05; done" }
    with_pod({ tty = true, args = args }, function(pod)
      while not command.read(path):find("\n", 1, true) do task.sleep(5) end
      assert(pod.web:resize(33, 99))
      assert.equal(3, pod.web:wait())
      local ok, e = pod.web:resize(1, 1)
      assert.is_nil(ok)
      assert.equal("failed_precondition", e.code)
    end, { io = { web = { stdout = { fd = fd }, size = { rows = 20, columns = 60 } } } })
    uv.fs_close(fd)
    assert.equal("20 60\r\n33 99\r\n", command.read(path))
  end)

  it("an interactive exec has the user's own, raw until it has ended", function()
    local script = command.write("interactive.lua", ([[
      local moonshim = require "moonshim"
      moonshim.run(function()
        local pod = assert(moonshim.start(moonshim.pod { name = "talk", containers = {
          web = { rootfs = %q, args = { "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done" } } } }, { run_dir = %q }))
        local p = assert(pod.web:exec { "sh", interactive = true })
        print("ended with " .. p:wait())
        assert(pod:stop())
      end)]]):format(command.root(), command.run_dir))
    local env = {}
    for name, value in pairs(uv.os_environ()) do
      if name ~= "LUA_PATH" then env[#env + 1] = name .. "=" .. value end
    end
    env[#env + 1] = ("LUA_PATH=%s/lua/?.lua;%s/lua/?/init.lua;%s/?.lua;;"):format(uv.cwd(), uv.cwd(), uv.cwd())
    env[#env + 1] = "LUA_CPATH=" .. package.cpath
    local session = pty.spawn("/usr/bin/lua5.4", { script }, { env = env, rows = 30, columns = 90 })
    session:expect "# "
    session:type "until [ \"$(stty size)\" = '44 111' ]; do :; done; echo $((40+4))\r"
    session:resize(44, 111)
    session:expect "44\r\n"
    session:type "exit 6\r"
    session:expect "ended with 6\r\n" -- by the terminal's own modes again
    local result = session:wait()
    assert.equal(0, result.code, result.out)
    assert.is_true(result.restored)
  end)

  it("an interactive exec is refused without a terminal", function()
    with_pod({}, function(pod)
      local null = assert(uv.fs_open("/dev/null", "r", 0))
      local p, e = pod.web:exec { "sh", interactive = true, stdin = { fd = null } }
      assert.is_nil(p)
      assert.equal("invalid_argument", e.code)
      uv.fs_close(null)
    end)
  end)

  it("hundreds of execs, some of which nobody waits for, leave no terminal and no descriptor", function()
    with_pod({}, function(pod)
      local function count() return assert(pod.web:exec { "sh", "-c", "ls /dev/pts | grep -c '^[0-9]'" }) end
      local function terminals()
        local p = count()
        p:wait()
        return p:output()
      end
      local function round(n)
        local jobs = {}
        for i = 1, n do
          jobs[i] = function()
            if i % 4 == 0 then -- its client goes away, at any moment
              pcall(task.deadline, i % 17, function()
                local p = assert(pod.web:exec { "sh", "-c", "echo hi", tty = true })
                p:resize(10, 10)
                p:wait()
              end)
            else
              local p = assert(pod.web:exec { "echo", "hi", tty = true })
              if i % 3 == 0 then p:resize(i, i) end
              p:wait()
              assert.equal("hi\r\n", p:output())
            end
          end
        end
        task.all(jobs, { width = 8 })
      end
      local pts = terminals() -- before the first of those that nobody waits for
      round(24)
      local mine = descriptors "self"
      round(200)
      -- Those that nobody waited for end by themselves.
      task.deadline("60s", function()
        while descriptors "self" > mine or terminals() ~= pts do task.sleep(20) end
      end)
    end)
  end)
end)

local command = require "e2e.command"
local pty = require "support.pty"
local uv = require "luv"

local function environment(extra)
  local env = uv.os_environ()
  env.MOONSHIM_RUN = command.run_dir
  for name, value in pairs(extra or {}) do env[name] = value end
  local list = {}
  for name, value in pairs(env) do list[#list + 1] = name .. "=" .. value end
  return list
end

---`moonshim ARGS...` on a terminal.
local function start(args, opts)
  opts = opts or {}
  opts.env = environment(opts.env)
  return pty.spawn(command.program, args, opts)
end

---`moonshim run OPTIONS --rootfs ROOT -- sh -c LINE` on a terminal.
local function run(line, options, opts) return start(command.run_args({ "/bin/sh", "-c", line }, options or { "-it" }), opts) end

local BUSY = "while :; do sleep 0.05; done"

describe("a terminal", function()
  local check_leaks
  setup(function() check_leaks = command.leaks() end)
  after_each(function() check_leaks() end)
  teardown(function() command.cleanup() end)

  describe("moonshim run -it", function()
    it("gives the command a terminal of the window's size, and its status", function()
      local result = run("tty; stty size; echo $TERM; exit 7", nil, { rows = 31, columns = 99 }):wait()
      assert.equal(7, result.code)
      assert.matches("^/dev/pts/%d+\r\n31 99\r\nxterm\r\n$", result.out)
      assert.is_true(result.restored)
    end)

    it("tells it a new size", function()
      local session = run("trap 'stty size' WINCH; trap 'exit 5' TERM; echo up; " .. BUSY)
      session:expect "up"
      for _, size in ipairs { { 40, 120 }, { 50, 132 }, { 24, 80 } } do
        session:resize(size[1], size[2])
        session:expect(("%d %d\r\n"):format(size[1], size[2]))
      end
      session:kill "sigterm"
      assert.equal(5, session:wait().code)
    end)

    it("is a place to work in", function()
      local session = start(command.run_args({ "/bin/sh" }, { "-it" }))
      session:expect "# "
      session:type "stty size; echo $((6*7))\r"
      session:expect "24 80\r\n42\r\n"
      session:type "sh -c 'echo up; sleep 1000'\r"
      session:expect "up\r\n"
      session:type "\3"
      session:expect "# "
      session:type "echo code $?\r"
      session:expect "code 130\r\n"
      session:type "\26" -- Ctrl-Z is the shell's to ignore
      session:type "exit 3\r"
      local result = session:wait()
      assert.equal(3, result.code)
      assert.is_true(result.restored)
    end)

    it("passes every key on, Ctrl-C too, and the signal goes on being one", function()
      local session = run("trap 'echo int' INT; trap 'echo term; exit 9' TERM; stty -echo; echo up; " .. BUSY)
      session:expect "up"
      session:type "\3"
      session:expect "int\r\n"
      session:kill "sigterm"
      session:expect "term\r\n"
      assert.equal(9, session:wait().code)
    end)

    it("passes bytes through as they are", function()
      local session = run("stty raw -echo; echo up; head -c 256 | od -An -v -tu1 | tr -d ' \\n'; echo over")
      session:expect "up"
      local bytes, numbers = {}, {}
      for i = 0, 255 do bytes[#bytes + 1], numbers[#numbers + 1] = string.char(i), tostring(i) end
      session:type(table.concat(bytes))
      session:expect(table.concat(numbers) .. "over")
      session:wait()
    end)

    it("kills at the second INT, and the terminal is as it was", function()
      local session = run("trap 'echo no' INT; echo up; " .. BUSY)
      session:expect "up"
      assert.is_true(session:is_raw())
      session:kill "sigint"
      session:expect "no"
      session:kill "sigint"
      local result = session:wait()
      assert.equal(137, result.code)
      assert.is_true(result.restored)
    end)

    for signal, number in pairs { sigsegv = 11, sigquit = 3, sigabrt = 6, sigusr1 = 10 } do
      it(("gives the terminal back when %s ends it"):format(signal), function()
        local session = run("echo up; " .. BUSY)
        session:expect "up"
        assert.is_true(session:is_raw())
        session:kill(signal)
        local result = session:wait()
        assert.equal(number, result.signal)
        assert.is_true(result.restored)
        assert.equal(0, command.moonshim({ "gc" }).code)
      end)
    end

    for name, case in pairs {
      ["for a program that is not there"] = { { "/bin/nosuch" }, {}, 127 },
      ["for a root that is not there"] = { { "sh" }, { "--rootfs", "/nonexistent" }, 125 },
      ["for a user that is not there"] = { { "sh" }, { "--user", "nosuch" }, 125 },
    } do
      it("gives the terminal back " .. name .. ", and then says why", function()
        local options = { "-it" }
        table.move(case[2], 1, #case[2], 2, options)
        local result = start(command.run_args(case[1], options)):wait()
        assert.equal(case[3], result.code)
        assert.is_true(result.restored)
        assert.matches("^moonshim: [^\n]+\r\n$", result.out)
      end)
    end

    it("gives the terminal back when our own Lua fails, and then says so", function()
      local tree = command.folder .. "/tree"
      command.execute("/bin/sh", { "-c", ("mkdir -p %s && cp -r lua scripts %s"):format(tree, tree) })
      local file = tree .. "/lua/moonshim/terminal.lua"
      local text = command.read(file):gsub("function Terminal:follow%(tell%)", "%0 error 'a bug' ")
      command.write("tree/lua/moonshim/terminal.lua", text)
      local result = run("exec sleep 1000", nil, { env = { MOONSHIM_LUA = tree .. "/lua" } }):wait()
      assert.equal(125, result.code)
      assert.is_true(result.restored)
      assert.is_truthy(result.out:find("a bug", 1, true), result.out)
    end)

    it("lends the terminal to the shell while it is stopped", function()
      local session = run("trap 'echo size; stty size' WINCH; echo up; " .. BUSY)
      session:expect "up"
      session:kill "sigtstp"
      session:until_("it to be stopped", function() return session:is_stopped() end)
      assert.is_false(session:is_raw())
      session:resize(33, 77)
      session:kill "sigcont"
      session:until_("raw again", function() return session:is_raw() end)
      session:expect "33 77\r\n"
      session:kill "sigint"
      session:kill "sigkill"
      session:wait()
      assert.equal(0, command.moonshim({ "gc" }).code)
    end)

    it("stops the command when the terminal goes away", function()
      local session = run("trap 'echo hup' HUP; trap 'exit 0' TERM; echo up; " .. BUSY)
      session:expect "up"
      session:hang_up(true)
      session:until_("the end", function() return session.code end)
      assert.equal(129, session.code)
    end)

    it("keeps up with a flood, to its last byte", function()
      local session = run("stty raw; yes 0123456789 | head -n 100000; echo end")
      local result = session:wait()
      assert.equal(100000 * 11 + 4, #result.out)
      assert.equal("end\n", result.out:sub(-4))
    end)

    it("uses the caller's TERM when told to", function()
      assert.equal("vt220\r\n", run("echo $TERM", { "-it", "--env", "TERM" }, { env = { TERM = "vt220" } }):wait().out)
      assert.equal("linux\r\n", run("echo $TERM", { "-it", "--env", "TERM=linux" }, { env = { TERM = "vt220" } }):wait().out)
    end)

    it("prints to a file when it is told to, and still has the window's size", function()
      local path = command.folder .. "/printed"
      local fd = assert(uv.fs_open(path, "w", 420))
      local result = run("stty size; echo err >&2", nil, { stdio = { [1] = fd }, rows = 20, columns = 60 }):wait()
      uv.fs_close(fd)
      assert.equal(0, result.code)
      assert.is_true(result.restored)
      assert.equal("20 60\r\nerr\r\n", command.read(path))
    end)

    it("does not begin without a terminal, and says what is none", function()
      for _, options in ipairs { { "-it" }, { "-t" } } do
        local result = command.run({ "echo", "hi" }, options, { stdin = "" })
        assert.equal(125, result.code)
        assert.equal("", result.out)
        local which = options[1] == "-it" and "input" or "output"
        assert.equal(("moonshim: -t needs a terminal, and standard %s is none; leave -t out\n"):format(which), result.err)
      end
    end)
  end)

  describe("moonshim run -t", function()
    it("without -i passes no keys, and Ctrl-C is the signal", function()
      local session = run("trap 'echo got it; exit 4' INT; stty size; echo up; " .. BUSY, { "-t" })
      session:expect "24 80"
      session:expect "up"
      assert.is_false(session:is_raw())
      session:type "typed\r"
      session:type "\3"
      local result = session:wait()
      assert.equal(4, result.code)
      assert.is_truthy(result.out:find("got it", 1, true))
    end)
  end)

  describe("moonshim run -i", function()
    it("without -t reads lines from a terminal, and Ctrl-D ends them", function()
      local session = run("tty; wc -c; exit 2", { "-i" })
      session:expect "not a tty"
      assert.is_false(session:is_raw())
      session:type "four\n\4"
      local result = session:wait()
      assert.equal(2, result.code)
      assert.is_truthy(result.out:find("5\r\n", 1, true), result.out)
    end)
  end)

  describe("a pod file", function()
    local function pod_file(name, text)
      return command.write(name, ('local moonshim = require "moonshim"\nreturn moonshim.pod { name = "%s", containers = { %s } }\n')
        :format(name:match "^[^.]+", text))
    end

    it("gives a container a terminal, seen by nobody's window", function()
      local file = pod_file("one.lua", ('web = { rootfs = "%s", tty = true, args = { "sh", "-c", "tty; echo err >&2" } }')
        :format(command.root()))
      local result = command.moonshim { "run", file }
      assert.equal("", result.err)
      assert.matches("^/dev/pts/%d+\r\nerr\r\n$", result.out)
    end)

    it("with several containers prints the lines of a terminal behind the container's name", function()
      local file = pod_file("two.lua", ('a = { rootfs = "%s", tty = true, args = { "tty" } }, b = { rootfs = "%s", args = { "tty" } }')
        :format(command.root(), command.root()))
      local result = command.moonshim { "run", file }
      assert.is_truthy(result.out:find("a | /dev/pts/0", 1, true), result.out .. result.err)
      assert.is_truthy(result.out:find("b | not a tty", 1, true), result.out)
      result = command.moonshim { "run", "-t", file }
      assert.equal(125, result.code)
      assert.is_truthy(result.err:find("-t needs a pod with one container; this one has 2", 1, true), result.err)
    end)

    it("is worked in with -it", function()
      local file = pod_file("it.lua", ('web = { rootfs = "%s", args = { "sh" } }'):format(command.root()))
      local session = start { "run", "-it", file }
      session:expect "# "
      session:type "stty size; exit 6\r"
      session:expect "24 80\r\n"
      local result = session:wait()
      assert.equal(6, result.code)
      assert.is_true(result.restored)
    end)
  end)
end)

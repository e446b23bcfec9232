local command = require "e2e.command"
local uv = require "luv"

-- Streams that a pod file names: files, programs and fifos, real ones.
describe("a container's stream", function()
  local check_leaks
  setup(function()
    command.root()
    check_leaks = command.leaks()
  end)
  after_each(function() check_leaks() end)
  teardown(function() command.cleanup() end)

  ---A pod file with one container; `fields` is Lua text.
  local function pod_file(script, fields)
    local text = "return { name = 'streams', sandbox = false, containers = { c = { rootfs = %q, args = { 'sh', '-c', %q }, %s } } }"
    return command.write("pods/pod.lua", text:format(command.root(), script, fields))
  end

  local function run(script, fields, opts) return command.moonshim({ "run", pod_file(script, fields) }, opts) end

  ---A logging program that is a shell script.
  local function logger(name, script)
    local path = command.write("loggers/" .. name, "#!/bin/sh\n" .. script)
    assert(uv.fs_chmod(path, 448))
    return path
  end

  it("goes into a file, both outputs in one, and a second run goes on behind the first [#556] (known bug 52)", function()
    local path = command.folder .. "/both.log"
    for round = 1, 2 do
      local fields = ("stdout = 'file://%s', stderr = 'file://%s'"):format(path, path)
      local result = run(("echo out %d; echo err %d >&2"):format(round, round), fields)
      assert.equal("", result.err)
      assert.same({ 0, "" }, { result.code, result.out })
    end
    local lines = {}
    for line in command.read(path):gmatch "[^\n]+" do lines[#lines + 1] = line end
    assert.same({ "1", "1", "2", "2" }, { lines[1]:sub(-1), lines[2]:sub(-1), lines[3]:sub(-1), lines[4]:sub(-1) })
    table.sort(lines)
    assert.same({ "err 1", "err 2", "out 1", "out 2" }, lines)
  end)

  it("is refused when its file has no folder, and the run leaves nothing", function()
    local result = run("echo x", ("stdout = 'file://%s/none/x.log'"):format(command.folder))
    assert.equal(125, result.code)
    assert.is_truthy(result.err:find("there is no folder " .. command.folder .. "/none; make it first", 1, true), result.err)
  end)

  it("comes from a file", function()
    local path = command.write("input", "one\ntwo\n")
    local result = run("cat; echo end", ("stdin = %q"):format(path))
    assert.equal("one\ntwo\nend\n", result.out)
  end)

  it("goes to a program, whole, before the run ends; that has what is its own and no more [#535] [#541] [#547]", function()
    local all = command.folder .. "/loggers/all"
    local path = logger("log", ([[
exec 5>&-
ls /proc/self/fd >%s.fds
env | grep -v -e ^PWD= -e ^OLDPWD= -e ^_= >%s.env
echo "$@" >%s.args
cat <&4 >%s.err &
cat <&3 >%s.out
wait
]]):format(all, all, all, all, all))
    local process = command.spawn("/bin/sh", { "-c", 'exec 9</dev/null; exec "$@"', "sh", command.program, "run",
      pod_file("head -c 3000000 /dev/zero; echo oops >&2", ("stdout = 'binary://%s?a=1&flag'"):format(path)) })
    local result = process:wait()
    assert.same({ 0, "", "" }, { result.code, result.out, result.err })
    assert.equal(3000000, #command.read(all .. ".out"))
    assert.equal("oops\n", command.read(all .. ".err"))
    assert.equal("a 1 flag \n", command.read(all .. ".args"))
    local env = {}
    for line in command.read(all .. ".env"):gmatch "[^\n]+" do env[#env + 1] = line end
    table.sort(env)
    assert.same({ "CONTAINER_ID=c", "CONTAINER_NAMESPACE=default" }, env)
    -- ls has one more for the folder, and 5 is closed. What the shell of this run had open (9) is not there.
    assert.equal("0\n1\n2\n3\n4\n5\n", command.read(all .. ".fds"))
  end)

  it("of a terminal goes to a program with all that is printed on it [#539] (known bug 86)", function()
    local seen = command.folder .. "/loggers/tty"
    local path = logger("tty", ("exec 5>&-\ncat <&4 >%s.err\ncat <&3 >%s.out\n"):format(seen, seen))
    local result = run("tty; echo oops >&2; exit 3", ("tty = true, stdout = 'binary://%s'"):format(path))
    assert.same({ 3, "", "" }, { result.code, result.out, result.err })
    local printed = command.read(seen .. ".out")
    assert.is_truthy(printed:find("^/dev/pts/%d+\r\noops\r\n$"), printed)
    assert.equal("", command.read(seen .. ".err"))
  end)

  it("to a program that is not there fails the run, which leaves nothing [#550] (known bug 84)", function()
    local result = run("echo x", ("stdout = 'binary://%s/nowhere'"):format(command.folder))
    assert.equal(125, result.code)
    assert.is_truthy(result.err:find("start the program " .. command.folder .. "/nowhere", 1, true), result.err)
  end)

  it("to a program that ends with an error before it is ready fails the run (known bug 84)", function()
    local result = run("echo x", ("stdout = 'binary://%s'"):format(logger("broken", "exit 3\n")))
    assert.equal(125, result.code)
    assert.is_truthy(result.err:find("ended with status 3 before it was ready", 1, true), result.err)
  end)

  it("to a program that ends early is dropped and counted, and the command runs to its end [#551]", function()
    local early = logger("early", "echo >&5\n")
    local result = run("head -c 3000000 /dev/zero && echo done >&2; exit 7", ("stdout = 'binary://%s'"):format(early))
    assert.equal(7, result.code, result.err)
    assert.is_truthy(result.err:find("output was dropped", 1, true), result.err)
  end)

  it("to a program that hangs ends with moonshim's clean-up after a crash", function()
    local mark = command.folder .. "/loggers/pid"
    local path = logger("hangs", ("trap '' TERM\necho $$ >%s\nexec 5>&-\nexec sleep 3600\n"):format(mark))
    local process = command.spawn(command.program, { "run", pod_file("sleep 3600", ("stdout = 'binary://%s'"):format(path)) })
    process:until_("logger", function() return (command.read(mark) or ""):find "\n" ~= nil end)
    local pid = math.tointeger(tonumber(command.read(mark)))
    -- It runs a moment before we know of it.
    process:until_("logger in the journal", function() return command.journal():find(('"pid":%d[^%%d]'):format(pid)) ~= nil end)
    local function alive() return (command.read(("/proc/%d/stat"):format(pid)) or ""):find "%) [^ZX] " ~= nil end
    process:kill "sigkill"
    process:wait()
    assert.is_true(alive()) -- its own life
    local result = command.moonshim { "gc" }
    assert.equal(0, result.code, result.err)
    assert.is_false(alive(), result.err)
  end)

  it("into a fifo waits while its reader is away, and loses and doubles nothing [#521] [#525] (known bug 51)", function()
    local path = command.folder .. "/fifo"
    assert.equal(0, command.execute("/usr/bin/mkfifo", { path }).code)
    local process = command.spawn(command.program, { "run", pod_file("seq 1 200000", ("stdout = %q"):format(path)) })
    local got = ""
    for _ = 1, 3 do got = got .. command.execute("/usr/bin/dd", { "if=" .. path, "bs=1", "count=50000", "status=none" }).out end
    got = got .. command.execute("/bin/cat", { path }).out
    local result = process:wait()
    assert.same({ 0, "" }, { result.code, result.err })
    assert.equal(command.execute("/usr/bin/seq", { "1", "200000" }).out, got)
  end)

  it("into a fifo that nobody reads any more ends by the container's patience [#522]", function()
    local path = command.folder .. "/nobody"
    assert.equal(0, command.execute("/usr/bin/mkfifo", { path }).code)
    local result = run("yes; exit 5", ("stdout = %q, io_retry = '100ms'"):format(path))
    assert.equal(5, result.code, result.err)
  end)

  it("of an exec goes where its exec says, into a file or to a program [#552]", function()
    local moonshim = require "moonshim"
    local file = command.folder .. "/exec.log"
    command.root()
    local program = "binary:///bin/sh?-c=exec+5>%26-;exec+cat+<%263+>" .. command.folder .. "/$CONTAINER_ID"
    moonshim.run(function()
      local pod = assert(moonshim.start({ name = "execs", sandbox = false, containers = {
        c = { rootfs = command.root(), args = { "sleep", "600" } } } }, { run_dir = command.run_dir }))
      local ok, e = pcall(function()
        local p = assert(pod.c:exec { "echo", "filed", stdout = "file://" .. file })
        assert.equal(0, p:wait())
        local a = assert(pod.c:exec { "echo", "of a", id = "a", stdout = program })
        local b = assert(pod.c:exec { "echo", "of b", id = "b", stdout = program })
        assert.same({ 0, 0 }, { a:wait(), b:wait() })
        local refused, why = pod.c:exec { "true", stdout = "syslog://x" }
        assert.is_nil(refused)
        assert.equal("invalid_argument", why.code)
      end)
      assert(pod:stop { ladder = { { "KILL", wait = "10s" } } })
      if not ok then error(e, 0) end
    end)
    assert.same({ "filed\n", "of a\n", "of b\n" },
      { command.read(file), command.read(command.folder .. "/a"), command.read(command.folder .. "/b") })
  end)
end)

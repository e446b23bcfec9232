local given = require "support.given"
local task = require "moonshim.task"
local virtual = require "support.virtual"

local LOGGER = "binary:///opt/logger?level=info"

describe("the streams of a container", function()
  it("are those that it names itself, and its caller's for the rest", virtual(function()
    local f, pod, vm = given.pod()
    given.running(pod, { "sleep", stderr = "fifo:///run/err" }, "c", { stdout = { fd = 1 }, stderr = { fd = 2 } })
    assert.same({ { fd = 1 }, { path = "/run/err" } }, { f.opened[1].stdout, f.opened[1].stderr })
    vm:stop()
  end))

  it("are called after their process in messages", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod)
    given.exec(c, { "sleep" }, "e1")
    assert.same({ "c", "c/e1" }, { f.opened[1].name, f.opened[2].name })
    vm:stop()
  end))

  it("are shown as they were named", virtual(function()
    local _, pod, vm = given.pod()
    local c = given.running(pod, { "sleep" }, "c", { stdout = LOGGER, stderr = LOGGER })
    assert.same({ stdout = LOGGER, stderr = LOGGER }, c.init:state().io)
    vm:stop()
  end))

  it("have the patience of the container, its execs too, and theirs when they have one [#559]", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod, { "sleep", stdout = "/run/out", io_retry = "2s" })
    given.exec(c, { "sleep" }, "e1")
    given.exec(c, { "sleep" }, "e2", { io = { stdout = { fd = 1 }, retry = "5s" } })
    assert.same({ 2000, 2000, 5000 }, { f.opened[1].away, f.opened[2].away, f.opened[3].away })
    vm:stop()
  end))

  it("wait for ever when nothing is said [#523]", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod, { "sleep", stdout = "/run/out" })
    given.exec(c, { "sleep" }, "e1")
    assert.same({}, { f.opened[1].away, f.opened[2].away })
    vm:stop()
  end))

  it("with a terminal have no stderr, and a create that names one is refused [#183] [#540]", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod)
    local e = given.error(given.exec, c, { "sleep" }, "e", { terminal = true, io = { stdout = "/run/out", stderr = "/run/err" } })
    assert.equal("failed_precondition", e.code)
    assert.equal(1, #f.opened)
    given.exec(c, { "sleep" }, "e") -- its id is free
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("of an unknown scheme fail the create, which leaves nothing [#557]", virtual(function()
    local f, pod, vm = given.pod()
    local e = given.error(given.created, pod, { "sleep" }, "c", { stdout = "syslog://local" })
    assert.equal("invalid_argument", e.code)
    assert.is_truthy(e.message:find("syslog://", 1, true))
    given.running(pod)
    vm:stop()
    assert.same({}, f:leaks())
  end))
end)

describe("a container with a logger", function()
  it("has it before it is created, and until its streams have ended", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod, { "sleep", stdout = LOGGER })
    local p = f.programs.started[1]
    assert.same({ path = "/opt/logger", args = { "level", "info" }, id = "c", namespace = "default" }, p.opts)
    assert.is_true(f.opened[1].stdout.lossy)
    c:stop()
    assert.same({ true, 0 }, { p.ended:fired(), p.kills })
    vm:stop()
    assert.same({}, f:leaks())
    assert.same({}, f.wrong)
  end))

  it("that is never ready is not created, and nothing is left [#549] (known bug 84)", virtual(function()
    local f, pod, vm = given.pod()
    f.programs.next = { ready = false, hangs = true }
    local e = given.error(given.created, pod, { "sleep", stdout = LOGGER })
    assert.equal("deadline_exceeded", e.code)
    assert.is_truthy(e.message:find("/opt/logger was not ready", 1, true), e.message)
    assert.equal(1, f.programs.started[1].kills)
    assert.same({}, f:leaks { running = true })
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("that is not there is not created [#550]", virtual(function()
    local f, pod, vm = given.pod()
    f.programs.refuse = require("support.fake_programs").refusal()
    assert.equal("not_found", given.error(given.created, pod, { "sleep", stdout = LOGGER }).code)
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("goes on when the logger ends early [#551]", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod, { "sleep", stdout = LOGGER })
    f.programs.started[1]:finish(1, 0)
    task.sleep "1h"
    assert.equal("running", c:state().state)
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("has another one for each exec, which ends with it [#552]", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod, { "sleep", stdout = LOGGER })
    local e1 = given.exec(c, { "exit", 0 }, "e1", { io = { stdout = LOGGER } })
    local e2 = given.exec(c, { "sleep" }, "e2", { io = { stdout = LOGGER } })
    e1:start()
    e2:start()
    e1:wait()
    e1.released:wait()
    local started = f.programs.started
    assert.same({ "c", "e1", "e2" }, { started[1].opts.id, started[2].opts.id, started[3].opts.id })
    assert.same({ false, true, false }, { started[1].ended:fired(), started[2].ended:fired(), started[3].ended:fired() })
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("whose logger hangs has its exit told first, and is gone ten seconds later [#555]", virtual(function()
    local f, pod, vm = given.pod()
    f.programs.next = { hangs = true }
    local c = given.running(pod, { "exit", 0, stdout = LOGGER })
    c:wait()
    assert.equal("exit", f:topics("c")[3])
    local before = task.now()
    c:delete()
    assert.equal(10000, task.now() - before)
    assert.equal(1, f.programs.started[1].kills)
    vm:stop()
    assert.same({}, f:leaks())
  end))
end)

describe("a pod file", function()
  local pod_spec = require "moonshim.pod_spec"
  local function container(fields)
    fields.rootfs, fields.args = "root", { "sh" }
    return pod_spec.check({ name = "p", containers = { web = fields } }, { base = "/base" }).containers.web
  end
  local function refusal(fields) return given.error(container, fields) end

  it("names streams by a path, which starts at its folder, or a URI", function()
    local c = container { stdin = "in/./fifo", stdout = "file:///var/log/x", stderr = "/e", io_retry = "1.5s" }
    assert.same({ "/base/in/fifo", "file:///var/log/x", "/e", 1500 }, { c.stdin, c.stdout, c.stderr, c.io_retry })
  end)

  for what, case in pairs {
    ["a scheme that nobody knows"] = { { stdout = "syslog://x" }, 'containers.web.stdout: there is nothing behind "syslog://"' },
    ["an empty place"] = { { stdin = "" }, "containers.web.stdin: must not be empty" },
    ["what is no text"] = { { stderr = 2 }, "containers.web.stderr: expected string, got number" },
    ["a program as stderr"] = { { stderr = "binary:///l" }, "containers.web.stderr: a program takes both outputs" },
    ["a stderr beside a program"] = { { stdout = "binary:///l", stderr = "/e" }, "containers.web.stderr: stdout names a program" },
    ["a patience that is no time"] = { { io_retry = "long" }, "containers.web.io_retry: not a duration" },
    ["a misspelt stream"] = { { stdot = "/x" }, 'did you mean "stdout"' },
  } do
    it("is refused with " .. what, function()
      local e = refusal(case[1])
      assert.equal("invalid_argument", e.code)
      assert.is_truthy(e.message:find(case[2], 1, true), e.message)
    end)
  end

  it("is refused with a stderr beside a terminal [#540]", function()
    local e = refusal { tty = true, stderr = "/e" }
    assert.equal("failed_precondition", e.code)
    assert.is_truthy(e.message:find("containers.web.stderr", 1, true))
  end)
end)

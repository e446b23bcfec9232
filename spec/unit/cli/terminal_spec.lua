local err = require "moonshim.err"
local options = require "moonshim.cli.options"
local run = require "moonshim.cli.run"
local task = require "moonshim.task"
local terminal = require "moonshim.terminal"
local uv = require "luv"

---A core whose descriptor 0 (and `also`) is a terminal; it remembers what was done to it.
local function fake_core(log, also)
  local f = { rows = 24, columns = 80, log = log }
  f.terminal = {
    is = function(fd) return fd == 0 and not f.gone or fd == also end,
    size = function() return f.rows, f.columns end,
    raw = function() table.insert(log, "raw") return true end,
    restore = function() table.insert(log, "restore") end,
  }
  return f
end

local function turn()
  for _ = 1, 5 do task.sleep(1) end
end

describe("the user's terminal", function()
  local log, core
  before_each(function()
    log = {}
    core = fake_core(log)
  end)

  it("is none when the descriptor is none", function()
    local ok, e = pcall(terminal.open, 1, core)
    assert.is_false(ok)
    assert.equal("failed_precondition", e.code)
  end)

  it("is raw once, and given back once", function()
    local t = terminal.open(0, core)
    t:raw()
    t:raw()
    t:close()
    t:close()
    assert.same({ "raw", "restore" }, log)
  end)

  it("is not touched when nobody made it raw", function()
    terminal.open(0, core):close()
    assert.same({}, log)
  end)

  it("is given back at the end of its block, also on the way of an error", function()
    pcall(function()
      local t <close> = terminal.open(0, core)
      t:raw()
      error "a bug"
    end)
    assert.same({ "raw", "restore" }, log)
  end)

  it("has a size when somebody knows it", function()
    local t = terminal.open(0, core)
    assert.same({ rows = 24, columns = 80 }, t:size())
    core.rows, core.columns = 0, 0
    assert.is_nil(t:size())
  end)

  it("tells its size at first and after each change, one at a time, the newest last", function()
    task.run(function()
      local t, told, running, most = terminal.open(0, core), {}, 0, 0
      local release = task.signal()
      t:follow(function(rows, columns)
        running = running + 1
        most = math.max(most, running)
        told[#told + 1] = rows .. "x" .. columns
        if #told == 1 then release:wait() end
        running = running - 1
      end)
      turn()
      for i = 1, 5 do
        core.rows = 24 + i
        uv.kill(uv.os_getpid(), "sigwinch")
        turn()
      end
      release:fire()
      turn()
      assert.same({ "24x80", "29x80" }, told)
      assert.equal(1, most)
      t:close()
      core.rows = 99
      turn()
      assert.equal(2, #told)
    end)
  end)

  it("is raw again after we were stopped, and its size is told anew", function()
    task.run(function()
      local t, told = terminal.open(0, core), {}
      t:raw()
      t:follow(function(rows) told[#told + 1] = rows end)
      turn()
      core.rows = 50
      uv.kill(uv.os_getpid(), "sigcont")
      turn()
      t:close()
      assert.same({ "raw", "raw", "restore" }, log)
      assert.same({ 24, 50 }, told)
    end)
  end)

  it("that has hung up is gone", function()
    local t = terminal.open(0, core)
    assert.is_false(t:gone())
    core.gone = true
    assert.is_true(t:gone())
  end)
end)

describe("moonshim run with -t", function()
  local real_is, real_open, log, core
  before_each(function()
    log = {}
    core = fake_core(log)
    real_is, real_open = terminal.is, terminal.open
    terminal.is = function(fd) return core.terminal.is(fd) end
    terminal.open = function(fd) return real_open(fd, core) end
  end)
  after_each(function() terminal.is, terminal.open = real_is, real_open end)

  local function found(...) return options.parse { "run", ... } end
  local function spec(tty, n)
    local s = { order = {}, containers = {} }
    for i = 1, n or 1 do
      s.order[i] = "c" .. i
      s.containers["c" .. i] = { tty = tty }
    end
    return s
  end
  local CMD = { "--rootfs", "/", "--", "sh" }

  it("may be written -it, -i -t or in words", function()
    for _, words in ipairs { { "-it" }, { "-ti" }, { "-i", "-t" }, { "--stdin", "--tty" } } do
      local line = { "run" }
      table.move(words, 1, #words, 2, line)
      table.move(CMD, 1, #CMD, #line + 1, line)
      local f = options.parse(line)
      assert.is_true(f.stdin and f.tty, table.concat(words, " "))
    end
    assert.is_nil(found(table.unpack(CMD)).tty)
  end)

  it("takes the terminal that is typed on, or without -i the one that is printed on", function()
    assert.equal(0, run.terminal(found("-it", table.unpack(CMD)), spec(true)).fd)
    local ok, e = pcall(run.terminal, found("-t", table.unpack(CMD)), spec(true))
    assert.is_false(ok)
    assert.equal("failed_precondition", e.code)
    assert.is_truthy(e.message:find("standard output is none", 1, true))
    core.terminal.is = function(fd) return fd == 1 end
    assert.equal(1, run.terminal(found("-t", table.unpack(CMD)), spec(true)).fd)
    ok, e = pcall(run.terminal, found("-it", table.unpack(CMD)), spec(true))
    assert.is_false(ok)
    assert.is_truthy(e.message:find("standard input is none", 1, true))
  end)

  it("leaves the terminal alone without a container that wants one", function()
    assert.is_nil(run.terminal(found("-i", table.unpack(CMD)), spec(false)))
    assert.is_nil(run.terminal(found "pod.lua", spec(true, 2)))
  end)

  it("is not needed for a pod file that wants a terminal", function()
    assert.equal(0, run.terminal(found("-i", "pod.lua"), spec(true)).fd)
    core.gone = true
    assert.is_nil(run.terminal(found("-i", "pod.lua"), spec(true)))
  end)

  ---Runs `run -it` against `start`; what is written to standard error is noted in the log.
  local function play(start)
    local real = io.stderr
    io.stderr = { write = function(_, ...) table.insert(log, table.concat { ... }) end } -- luacheck: ignore 122
    local ok, code = pcall(require("moonshim.cli").main, { "run", "-it", "--name", "x", "--rootfs", "/", "--", "sh" }, { start = start })
    io.stderr = real -- luacheck: ignore 122
    assert(ok, code)
    return code
  end

  local function pod_that(fields)
    local main = { wait = function() return 0 end, resize = function(_, r, c) table.insert(log, r .. "x" .. c) return true end,
      state = function() return "stopped", {} end }
    local pod = { container = function() return main end, stop = function() return true end }
    for k, v in pairs(fields or {}) do pod[k] = v end
    return pod, main
  end

  it("is raw when the VM is up, tells the size, and is given back", function()
    local io_given
    local code = play(function(_, opts)
      assert.same({}, log)
      io_given = opts.io "main"
      local pod, main = pod_that()
      main.wait = function()
        turn()
        return 3
      end
      return pod
    end)
    assert.equal(3, code)
    assert.same({ stdin = { fd = 0 }, stdout = { fd = 1 }, stderr = { fd = 2 }, size = { rows = 24, columns = 80 } }, io_given)
    assert.same({ "raw", "24x80", "restore" }, log)
  end)

  it("is given back before it is said why the start failed", function()
    assert.equal(125, play(function(_, opts)
      opts.io "main"
      return nil, err.new("unknown", "no")
    end))
    assert.same({ "raw", "restore", "moonshim: no\n" }, log)
  end)

  it("is given back before a bug is reported", function()
    assert.equal(125, play(function(_, opts)
      opts.io "main"
      return error "a bug"
    end))
    assert.same({ "raw", "restore" }, { log[1], log[2] })
    assert.is_truthy(log[3]:find("a bug", 1, true))
  end)

  it("stops the command when it has hung up, and forwards HUP while it has not", function()
    local function hang_up(gone)
      log = {}
      core = fake_core(log)
      return play(function(_, opts)
        opts.io "main"
        local ended = task.signal()
        local pod, main = pod_that {
          kill = function(_, name)
            table.insert(log, "kill " .. name)
            ended:fire(9)
            return true
          end,
          stop = function()
            table.insert(log, "stop")
            if not ended:fired() then ended:fire(143) end
            return true
          end,
        }
        main.wait = function() return ended:wait() end
        task.detach(function()
          turn()
          core.gone = gone
          uv.kill(uv.os_getpid(), "sighup")
        end)
        return pod
      end)
    end
    assert.equal(9, hang_up(false))
    assert.is_truthy(table.concat(log, " "):find("kill HUP", 1, true))
    assert.equal(129, hang_up(true))
    assert.is_nil(table.concat(log, " "):find("kill", 1, true))
  end)
end)

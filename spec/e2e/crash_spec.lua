local command = require "e2e.command"

local LAYERED

-- Until it is told to go. (Input that nobody gives has ended.)
local STAY = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"

local function start(script)
  local options = { "--name", "victim" }
  table.move(LAYERED, 1, #LAYERED, 3, options)
  return command.spawn(command.program, command.run_args({ "/bin/sh", "-c", script }, options))
end

-- The heart's own specs cover every record boundary exactly; here the kernel's side is real.
describe("after SIGKILL of moonshim run, moonshim gc leaves nothing", function()
  local check_leaks, whole, before_teardown
  setup(function()
    LAYERED = { "--layer", command.image("base"), "--layer", command.image("app"), "--scratch", "64M" }
    check_leaks = command.leaks()
    -- One undisturbed run tells how many records a life has.
    local process = start(STAY)
    process:wait_for("up\n")
    process:until_("start in the journal", function() return command.journal():find('"k":"start"', 1, true) ~= nil end)
    before_teardown = command.records()
    process:kill("sigterm")
    whole = before_teardown
    process:until_("end", function()
      whole = math.max(whole, command.records())
      return process.open == 0
    end)
    check_leaks()
  end)
  after_each(function() check_leaks() end)
  teardown(function() command.cleanup() end)

  it("in the middle of a create, wherever that is", function()
    for count = 1, before_teardown, 2 do
      command.kill_at(start("sleep 600"), count)
      command.gc()
      check_leaks()
    end
  end)

  it("in the middle of a run: no VM, no container, no journal [#686]", function()
    local process = start("echo up; sleep 600")
    process:wait_for("up\n")
    process:kill("sigkill")
    process:wait()
    assert.is_truthy(command.gc().out:find("released", 1, true))
  end)

  it("in the middle of a teardown, wherever that is", function()
    for count = before_teardown + 1, whole do
      command.kill_at(start("echo up"), count)
      command.gc()
      check_leaks()
    end
  end)

  it("also when the last record of the journal is torn", function()
    local process = start("echo up; sleep 600")
    process:wait_for("up\n")
    process:kill("sigkill")
    process:wait()
    local path = command.run_dir .. "/" .. command.list(command.run_dir)[1] .. "/journal"
    local text = command.read(path)
    local file = assert(io.open(path, "wb"))
    file:write(text:sub(1, #text - 7))
    file:close()
    assert.is_truthy(command.gc().err:find("a torn record", 1, true))
  end)

  it("also when the clean-up itself was killed", function()
    local process = start("echo up; sleep 600")
    process:wait_for("up\n")
    process:kill("sigkill")
    process:wait()
    local cleaner = command.spawn(command.program, { "gc" })
    cleaner:kill("sigkill")
    cleaner:wait()
    command.gc()
  end)

  it("also when nobody waits for the end of who was killed, before gc or before the next run of that name", function()
    local words = {}
    for round, next_one in ipairs { "gc", "run", "gc", "run" } do
      local process = start("echo up; sleep 600")
      process:wait_for("up\n")
      process:kill("sigkill")
      if next_one == "gc" then
        command.gc()
      else
        local again = start("echo again; exit 3"):wait()
        words[round] = ("%d %s%s"):format(again.code, again.out, again.err)
      end
      process:wait()
      assert.same({}, command.list(command.run_dir), next_one)
      check_leaks()
    end
    assert.same({ [2] = "3 again\n", [4] = "3 again\n" }, words)
  end)

  it("and a second gc finds nothing to do", function()
    local process = start("echo up; sleep 600")
    process:wait_for("up\n")
    process:kill("sigkill")
    process:wait()
    command.gc()
    local again = command.moonshim { "gc" }
    assert.same({ 0, "", "" }, { again.code, again.out, again.err })
  end)

  it("while a run that is alive is left alone", function()
    local process = start(STAY)
    process:wait_for("up\n")
    assert.equal("", command.gc().err)
    assert.equal(nil, process.code)
    process:kill("sigterm")
    assert.equal(0, process:wait().code)
  end)
end)

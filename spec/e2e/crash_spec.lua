local command = require "e2e.command"

---The journal of the one run below the suite's run folder, or nil while there is none.
local function journal()
  for _, name in ipairs(command.list(command.run_dir)) do
    local text = command.read(command.run_dir .. "/" .. name .. "/journal")
    if text then return text end
  end
end

local function records(text)
  local _, n = (text or ""):gsub("\n", "")
  return n
end

local LAYERED

local function start(script, extra)
  local options = { "--name", "victim" }
  table.move(LAYERED, 1, #LAYERED, 3, options)
  for _, word in ipairs(extra or {}) do options[#options + 1] = word end
  return command.spawn(command.program, command.run_args({ "/bin/sh", "-c", script }, options))
end

---@param warning string? what it may say on standard error
local function gc(warning)
  local result = command.moonshim { "gc" }
  if warning then assert.is_truthy(result.err:find(warning, 1, true), result.err) else assert.equal("", result.err) end
  assert.equal(0, result.code)
  return result
end

-- SIGKILL cannot be seen coming, so the program is watched from outside and killed as soon as its journal has grown to a
-- certain length. The heart's own specs cover every record boundary exactly; here the kernel's side is real.
describe("after SIGKILL of moonshim run, moonshim gc leaves nothing", function()
  local check_leaks, whole, before_teardown
  setup(function()
    LAYERED = { "--layer", command.image("base"), "--layer", command.image("app"), "--scratch", "64M" }
    check_leaks = command.leaks()
    -- One undisturbed run tells how many records a life has.
    local process = start("echo up; cat", { "-i" })
    process:wait_for("up\n")
    before_teardown = records(journal())
    local last = before_teardown
    process:until_("end", function()
      last = math.max(last, records(journal()))
      return process.open == 0
    end)
    whole = last
    check_leaks()
  end)
  after_each(function() check_leaks() end)
  teardown(function() command.cleanup() end)

  -- How many records a life has by when is not the same each time: what comes before the count ends the wait, too.
  local function kill_at(process, count)
    process:until_("record " .. count, function()
      return process.open == 0 or records(journal()) >= count or process.out:find("up\n", 1, true) and count <= before_teardown
    end)
    process:kill("sigkill")
    process:wait()
  end

  it("in the middle of a create, wherever that is", function()
    for count = 1, before_teardown, 2 do
      kill_at(start("echo up; sleep 600"), count)
      gc()
      check_leaks()
    end
  end)

  it("in the middle of a run: no VM, no container, no journal [#686]", function()
    local process = start("echo up; sleep 600")
    process:wait_for("up\n")
    process:kill("sigkill")
    process:wait()
    assert.is_truthy(gc().out:find("released", 1, true))
  end)

  it("in the middle of a teardown, wherever that is", function()
    for count = before_teardown + 1, whole do
      kill_at(start("echo up"), count)
      gc()
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
    gc("a torn record")
  end)

  it("also when the clean-up itself was killed", function()
    local process = start("echo up; sleep 600")
    process:wait_for("up\n")
    process:kill("sigkill")
    process:wait()
    local cleaner = command.spawn(command.program, { "gc" })
    cleaner:kill("sigkill")
    cleaner:wait()
    gc()
  end)

  it("and a second gc finds nothing to do", function()
    local process = start("echo up; sleep 600")
    process:wait_for("up\n")
    process:kill("sigkill")
    process:wait()
    gc()
    assert.equal("", gc().out)
  end)

  it("while a run that is alive is left alone", function()
    local process = start("echo up; cat", { "-i" })
    process:wait_for("up\n")
    gc()
    assert.equal(nil, process.code)
    process:kill("sigterm")
    process:wait()
  end)
end)

---The command `moonshim`. `main` is what the executable calls; nothing here ends the process.
local err = require "moonshim.err"
local options = require "moonshim.cli.options"
local status = require "moonshim.cli.status"

local cli = {}

local commands = {}

function commands.help(found)
  local stream = found.usage_error and io.stderr or io.stdout
  stream:write(options.help(found.topic), "\n")
  return found.usage_error and status.OWN_FAILURE or 0
end

function commands.version()
  io.stdout:write("moonshim ", require("moonshim.core").version, "\n")
  return 0
end

function commands.run(found, api) return require("moonshim.cli.run").main(found, api) end

function commands.plan(found, api)
  local spec = require("moonshim.pod_file").load(found.file, { annotations = found.annotations })
  if found.policy then spec.policy = found.policy end
  local plan = err.try((api or require "moonshim").plan(spec, found.goal))
  io.stdout:write(found.json and plan:json() .. "\n" or plan:table())
  return 0
end

function commands.gc(_, api)
  local reports = err.try((api or require "moonshim").gc {})
  local worst = 0
  for _, report in ipairs(reports) do
    if report.ok then
      io.stdout:write(("%s: released\n"):format(report.id))
    else
      io.stderr:write(("moonshim: %s: %s\n"):format(report.id, err.from(report.error).message))
      worst = status.OWN_FAILURE
    end
  end
  return worst
end

---Runs one command line.
---@param argv string[] without the program's name
---@param api table? stands in for `require "moonshim"` in specs
---@return integer exit status
function cli.main(argv, api)
  local sound, code, e = xpcall(err.guarded(function()
    local found = options.parse(argv)
    return commands[found.command](found, api)
  end), err.traceback)
  if not sound then
    io.stderr:write("moonshim: this is a bug of moonshim; please report it with what follows\n", tostring(code), "\n")
    return status.OWN_FAILURE
  end
  if code then return code end
  io.stderr:write(status.line(e))
  return status.of_error(e)
end

return cli

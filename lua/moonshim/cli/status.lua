---From an outcome to the exit status of `moonshim`. Pure.
local err = require "moonshim.err"

local status = { OWN_FAILURE = 125, NOT_EXECUTABLE = 126, NOT_FOUND = 127, SIGNALS = 128 }

-- What the agent says about the program of a process, and about nothing else: Win32's "file not found" and
-- "access denied" as HRESULTs.
local FROM_GUEST = { [0x80070002] = status.NOT_FOUND, [0x80070005] = status.NOT_EXECUTABLE }

---@param e moonshim.Err why a pod could not be run
---@return integer
function status.of_error(e)
  e = err.from(e)
  local number = e.origin == "guest" and math.tointeger(e.hresult)
  return number and FROM_GUEST[number & 0xffffffff] or status.OWN_FAILURE
end

---@param e moonshim.Err
---@return string one line
function status.line(e)
  e = err.from(e)
  return ("moonshim: %s\n"):format((e.message:gsub("%s*\n%s*", " | ")))
end

return status

---Signal names and numbers (Linux, the only guest there is).
local err = require "moonshim.err"

local signals = {}

local NUMBERS = {
  HUP = 1, INT = 2, QUIT = 3, ILL = 4, TRAP = 5, ABRT = 6, BUS = 7, FPE = 8, KILL = 9, USR1 = 10, SEGV = 11, USR2 = 12,
  PIPE = 13, ALRM = 14, TERM = 15, STKFLT = 16, CHLD = 17, CONT = 18, STOP = 19, TSTP = 20, TTIN = 21, TTOU = 22,
  URG = 23, XCPU = 24, XFSZ = 25, VTALRM = 26, PROF = 27, WINCH = 28, IO = 29, PWR = 30, SYS = 31,
}
local RTMIN, RTMAX = 34, 64
signals.KILL, signals.TERM = 9, 15

-- What a process that has not set up anything yet ignores: such a signal ends no container that waits for its start.
local IGNORED = { [17] = true, [18] = true, [23] = true, [28] = true }

---The number of a signal: 15, "15", "TERM", "SIGTERM", "RTMIN+3" (any case). Raises invalid_argument for anything
---else: an unknown name must never become signal 0 and "succeed".
---@param v any
---@return integer
function signals.number(v)
  local n
  if type(v) == "string" then
    local name = v:upper():gsub("^SIG", "")
    local sign, offset = name:match("^RTM[IA][NX]([+-])(%d%d?)$")
    if sign then
      local base = name:find("^RTMIN") and RTMIN or RTMAX
      n = base + math.tointeger(tonumber(offset)) * (sign == "+" and 1 or -1)
      if n < RTMIN then n = nil end
    else
      n = NUMBERS[name] or name == "RTMIN" and RTMIN or name == "RTMAX" and RTMAX or math.tointeger(tonumber(name:match("^%d+$")))
    end
  elseif math.type(v) == "integer" then
    n = v
  end
  if not n or n < 1 or n > RTMAX or n == 32 or n == 33 then
    err.raise("invalid_argument", 'there is no signal %s; use a name such as "TERM" or a number from 1 to %d',
      type(v) == "string" and ('"%s"'):format(v) or tostring(v), RTMAX)
  end
  return n
end

---Whether the signal would end a process that has no handler for it.
---@param number integer
---@return boolean
function signals.ends(number) return not IGNORED[number] end

return signals

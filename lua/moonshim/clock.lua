--- clock - where time comes from, as a value that is handed in.
--
-- A clock tells the time and knows how to let it pass; task.lua does everything else. The real clock lets libuv
-- block until something happens. The virtual clock jumps: a wait of an hour costs nothing, and the same seed gives the
-- same order of everything that is ready at once.

local err = require "moonshim.err"

local clock = {}

local UNITS = { ms = 1, s = 1000, m = 60000, h = 3600000 }

---Milliseconds of a duration: "30s", "100ms", "2m", "1h", "1.5s" or a number of milliseconds.
---@param duration string|number
---@return integer ms
function clock.ms(duration)
  local ms
  if type(duration) == "number" then
    ms = duration
  elseif type(duration) == "string" then
    local number, unit = duration:match("^(%d+%.?%d*)(%a+)$")
    ms = number and UNITS[unit] and tonumber(number) * UNITS[unit]
  end
  -- The upper bound (some 300 years) also keeps infinity and NaN out.
  if not ms or not (ms >= 0 and ms < 1e13) then
    err.raise("invalid_argument", 'not a duration: %s (write "100ms", "30s", "2m" or milliseconds)', tostring(duration))
  end
  return math.ceil(ms)
end

---A short text for people: 1500 -> "1.5s".
---@param ms integer
---@return string
function clock.text(ms)
  if ms < 1000 then
    return ("%dms"):format(ms)
  elseif ms < 120000 then
    return ("%gs"):format(math.floor(ms / 100 + 0.5) / 10)
  end
  local minutes, seconds = ms // 60000, (ms % 60000) // 1000
  return seconds == 0 and ("%dm"):format(minutes) or ("%dm%ds"):format(minutes, seconds)
end

---@class moonshim.Clock
---@field virtual boolean
---@field seed integer? chooses among the tasks that are ready at once; nil = first come, first served
---@field now fun(): integer monotonic milliseconds
---@field wall fun(): number seconds since 1970, for logs only
---@field pass fun(due: integer?): boolean lets time pass until `due` (nil: until anything happens); false = nothing can ever happen
---@field poll fun() looks for events without waiting
---@field close fun() gives back what the clock holds

---The clock of this machine, on luv's default loop. Whoever runs with it closes it (task.run does).
---@return moonshim.Clock
function clock.real()
  local uv = require "luv"
  local timer
  local self = { virtual = false }

  function self.now()
    return uv.hrtime() // 1000000
  end

  function self.wall()
    local s, us = uv.gettimeofday()
    return s + us / 1e6
  end

  function self.pass(due)
    if not due then
      if not uv.loop_alive() then
        return false
      end
      uv.run("once")
      return true
    end
    uv.update_time()
    timer = timer or assert(uv.new_timer())
    -- A timer that is due before the loop looks for events fires first; without the stop it would wait for those all the
    -- same, for ever when nothing else happens.
    timer:start(math.max(0, due - self.now()), 0, function() uv.stop() end)
    uv.run("once")
    timer:stop()
    return true
  end

  function self.poll()
    uv.run("nowait")
  end

  function self.close()
    if timer then
      timer:close()
      timer = nil
    end
    -- A handle that was closed in the last moment is only gone after one more turn of the loop, and luv must not be
    -- asked for it when the state that knew it is closed.
    uv.run("nowait")
  end

  return self
end

---Time that jumps to the next timer whenever nothing is ready.
---@param opts { seed: integer?, start: integer?, poll: boolean|fun()|nil }? poll: before each jump, look at luv's loop
---too (true), or call this
---@return moonshim.Clock
function clock.virtual(opts)
  opts = opts or {}
  local now = opts.start or 0
  local self = { virtual = true, seed = opts.seed }
  local poll, uv = opts.poll, nil
  if poll == true then
    uv = require "luv"
    -- In-memory streams need a few turns of the loop before their bytes show up as a callback.
    poll = function()
      for _ = 1, 8 do
        uv.run("nowait")
      end
    end
  end

  function self.now()
    return now
  end

  function self.wall()
    return now / 1000
  end

  function self.pass(due)
    if due then
      now = math.max(now, due)
      return true
    elseif uv and uv.loop_alive() then
      uv.run("once")
      return true
    end
    return false
  end

  self.poll = poll or function() end
  self.close = function() end
  return self
end

return clock

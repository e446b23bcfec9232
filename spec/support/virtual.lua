--- support/virtual - run the body of a spec as a task on virtual time.
--
--   local virtual = require "support.virtual"
--   it("waits an hour in no time", virtual(function(v)
--     task.sleep("1h")
--     assert.equal(3600000, task.now())
--     assert.same({}, v.lines) -- what went to the log of the run, warnings and errors
--   end))
--
-- `virtual.seeds(n, fn)` makes the body run once for each of n seeds, each with its own order of ready tasks.

local clock = require "moonshim.clock"
local log = require "moonshim.log"
local task = require "moonshim.task"

local virtual = {}

---@param opts { seed: integer?, poll: boolean?, level: string? }? poll: for C streams in memory, see clock.virtual
function virtual.run(fn, opts)
  opts = opts or {}
  local v = { lines = {}, records = {}, seed = opts.seed, clock = clock.virtual { seed = opts.seed, poll = opts.poll } }
  v.log = log.new {
    level = opts.level or "warn",
    wall = v.clock.wall,
    sink = function(line, record)
      v.lines[#v.lines + 1] = line
      v.records[#v.records + 1] = record
    end,
  }
  return task.run(function()
    return fn(v)
  end, { clock = v.clock, log = v.log })
end

---@param n integer
function virtual.seeds(n, fn, opts)
  return function()
    for seed = 1, n do
      local ok, e = pcall(virtual.run, fn, { seed = seed, poll = opts and opts.poll, level = opts and opts.level })
      if not ok then
        if type(e) == "string" then
          e = ("seed %d: %s"):format(seed, e)
        elseif type(e) == "table" and type(e.message) == "string" then
          e.message = ("seed %d: %s"):format(seed, e.message)
        end
        error(e, 0)
      end
    end
  end
end

return setmetatable(virtual, {
  __call = function(_, fn, opts)
    return function()
      return virtual.run(fn, opts)
    end
  end,
})

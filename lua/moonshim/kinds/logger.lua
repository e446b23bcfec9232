--- kind "logger": a program of the user's that is given the output of a process.
--
-- args    { path = program, args = words, id = container or exec, namespace }
-- facts   { path }, then pid and start_time. Not the words: they may be somebody's secret.
-- Always  1. its life is its own: it is started before the process and outlives the request, and what it does on its end
--            is its business. It ends when it has read the end of both outputs.
--         2. release closes its pipes, waits for it, and kills it once. A roll-back does not wait for one that the process
--            never was with; after a crash it is given a moment, since its pipes closed when our process ended.
-- The kind also exports ready and lend, for the kind "stdio".
local clock = require "moonshim.clock"
local err = require "moonshim.err"
local kind = require "moonshim.kind"
local task = require "moonshim.task"

-- How long it may take to say that it is ready.
local READY = "10s"
-- How long release waits for its end, by goal; else step.args.wait.
local WAIT = { roll_back = 0, crash = 2000 }
-- From the kill to the end of it, milliseconds.
local KILLED = 4000

local function live(world)
  local all = rawget(world, "live_loggers") or {}
  world.live_loggers = all
  return all
end

local function ends_within(program, ms)
  local ok, e = pcall(task.deadline, ms, program.wait, program)
  if not ok and not err.is(e, "deadline_exceeded") then error(e, 0) end
  return ok
end

local k
k = {
  v = 1,
  ends_with_boot = true,
  reserve = function(_, args)
    for _, name in ipairs { "path", "id", "namespace" } do
      if type(args[name]) ~= "string" then err.raise("invalid_argument", "logger: %s is missing", name) end
    end
    return { path = args.path }
  end,
  acquire = function(world, _, args)
    local program = world.programs.start(args)
    live(world)[program.pid] = program
    return { pid = program.pid, start_time = program.start_time }, program
  end,
  -- step.args.wait: milliseconds.
  release = function(world, facts, step)
    if not facts.pid then return end
    local ours = live(world)[facts.pid]
    local program = ours or world.programs.open(facts)
    if not program then return end
    program:close()
    local wait = WAIT[step.goal] or step.args and step.args.wait or k.defaults.args.wait
    if not ends_within(program, wait) then
      if not program.killed then
        world.log:warn("a logger did not end by itself and is killed", { path = facts.path, pid = facts.pid, waited = clock.text(wait) })
        program:kill()
        program.killed = true
      end
      if not ends_within(program, KILLED) then
        err.raise("deadline_exceeded", "the logger %s (pid %d) does not end", facts.path, facts.pid)
      end
    end
    live(world)[facts.pid] = nil
  end,
  show = function(facts) return facts.path end,
  verify = function(world, facts)
    if not facts.pid then return "gone" end
    local program = live(world)[facts.pid] or world.programs.open(facts)
    return program and not program:ending() and "held" or "gone"
  end,
  defaults = { within = "15s", retries = 1, backoff = "100ms", on_failure = "continue", args = { wait = 10000 } },
}

local function how(code, signal)
  if not code then return "nobody knows how" end
  return signal ~= 0 and ("by signal %d"):format(signal) or ("with status %d"):format(code)
end

--- Waits until it says that it is ready. Raises failed_precondition when it ends instead, deadline_exceeded when it says
--- nothing in time.
---@async
---@param receipt moonshim.Receipt
function k.ready(receipt)
  local program, path = receipt.value, receipt.facts.path
  local ok, byte = pcall(task.deadline, READY, program.ready.wait, program.ready)
  if not ok then
    if err.is(byte, "deadline_exceeded") then
      err.raise("deadline_exceeded", "the logger %s was not ready within %s; it has to close descriptor 5", path, READY)
    end
    error(byte, 0)
  end
  if byte or not program:ending() then return end
  local ended, code, signal = pcall(task.deadline, READY, program.wait, program)
  if not ended then error(code, 0) end
  err.raise("failed_precondition", "the logger %s ended %s before it was ready", path, how(code, signal))
end

--- Our ends of its pipes, as streams of the kind "stdio". When it ends early its process goes on: what comes then is counted
--- and dropped.
---@param receipt moonshim.Receipt
---@param stream "stdout"|"stderr"
---@return moonshim.IoEnd
function k.lend(receipt, stream) return { fd = receipt.value[stream], lossy = true } end

--- The borrower has a descriptor of its own.
function k.lent(receipt, stream) receipt.value:close_stream(stream) end

return kind.define("logger", k)

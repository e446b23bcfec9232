-- Scenario of scripts/soak: whole lives that SIGKILL ends at a random moment, and what is left of them afterwards.
local uv = require "luv"
local task = require "moonshim.task"
local ground = require "soaks.ground"
local lives = require "soaks.lives"
local look = require "soaks.look"

local scenarios = {}

local function children(pid)
  return math.tointeger(tonumber(look.read(("/proc/%d/task/%d/children"):format(pid, pid)):match "%d+"))
end

-- The only child of a run is the boot process, and its only child the agent.
local FIND = {
  boot = children,
  agent = function(pid)
    local boot = children(pid)
    return boot and children(boot)
  end,
}

---Kills `who` of a run once it is there and the moment has come. False: it never was, or the run was over before.
local function kill_of(who, life, at)
  lives.sleep_until(at)
  if who == "moonshim" then
    local over = life.code ~= nil
    life:kill()
    return not over
  end
  while not life.code do
    local pid = FIND[who](life.pid)
    if pid then return uv.kill(pid, "sigkill") == 0 end
    task.sleep(1)
  end
  return false
end

-- What a number stands for: which kind of run, who is killed, when, and who cleans up. So one kill can be had again by its
-- number.
local function choose(n)
  math.randomseed(n)
  local who = n % 3 == 0 and ({ "boot", "agent", "gc" })[n // 3 % 3 + 1] or "moonshim"
  local kinds = lives.KINDS
  return {
    who = who, part = math.random(), gc_part = math.random(), kind = kinds[math.random(#kinds)],
    how = n % 2 == 0 and "gc" or kinds[math.random(#kinds)],
    at_once = who == "moonshim" and math.random(2) == 1, -- who cleans up does not wait for the end of who was killed
  }
end

-- A gc after the kill is killed, too. The first of all goes to its end: so long does one take.
local gc_length
local function kill_of_gc(it, where)
  local from = uv.hrtime()
  local cleaner = lives.start(lives.gc())
  local hit = false
  if gc_length then
    where = ("%s, and the gc after it after %.1f of %.0f ms"):format(where, it.gc_part * gc_length, gc_length)
    lives.sleep_until(from + math.floor(it.gc_part * gc_length * 1e6))
    hit = not cleaner.code
    cleaner:kill()
  end
  cleaner:wait()
  gc_length = gc_length or look.ms_since(from)
  return hit, where
end

function scenarios.kills(want)
  lives.prepare()
  local lengths = {}
  for _, kind in ipairs(lives.KINDS) do lengths[kind] = lives.length(kind) end
  local count = { moonshim = 0, boot = 0, agent = 0, gc = 0, over = 0, released = 0 }
  for n = want.seed, want.seed + want.kills - 1 do
    local it = choose(n)
    local length, from = lengths[it.kind], uv.hrtime()
    local life = lives.start(lives.run(it.kind))
    local where = ("seed %d: %s (%s) killed after %.1f of %.0f ms"):format(n, it.who, it.kind, it.part * length, length)
    if it.at_once then where = where .. ", and cleaned up at once" end
    local hit = kill_of(it.who == "gc" and "moonshim" or it.who, life, from + math.floor(it.part * length * 1e6))
    if not it.at_once and not life:wait() then look.complain("%s: the run did not end; it said %q, %q", where, life.out, life.err) end
    if it.who == "gc" then hit, where = kill_of_gc(it, where) end
    count[hit and it.who or "over"] = count[hit and it.who or "over"] + 1
    local cleaner = lives.clean_up(it.how, where)
    life:wait()
    if it.how == "gc" and cleaner.out ~= "" then count.released = count.released + 1 end
  end
  look.say("  lives of %.0f, %.0f and %.0f ms, seeds %d to %d: moonshim killed %d times, boot %d, the agent %d, a gc at work %d; "
    .. "%d were over before; gc had something to do after %d", lengths.options, lengths.file, lengths.library, want.seed,
    want.seed + want.kills - 1, count.moonshim, count.boot, count.agent, count.gc, count.over, count.released)
  if look.entries(ground.run_dir) > 0 then look.complain("the run root is not empty") end
end

return scenarios

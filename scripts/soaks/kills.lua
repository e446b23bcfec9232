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
  local who = n % 3 == 0 and ({ "boot", "agent", "cleaner" })[n // 3 % 3 + 1] or "moonshim"
  local kinds = lives.KINDS
  return {
    who = who, part = math.random(), kind = kinds[math.random(#kinds)], how = n % 2 == 0 and "gc" or kinds[math.random(#kinds)],
    cleaner = math.random(2) == 1 and "gc" or kinds[math.random(#kinds)], cleaner_part = math.random(),
    at_once = (who == "moonshim" or who == "cleaner") and math.random(2) == 1, -- nobody waits for the end of who was killed
  }
end

---Who cleans up after a kill is killed, too.
---@return boolean hit, string where, soak.Life cleaner
local function kill_of_cleaner(it, where, lengths)
  local length, from = lengths[it.cleaner], uv.hrtime()
  local cleaner = lives.start(lives.words(it.cleaner))
  lives.sleep_until(from + math.floor(it.cleaner_part * length * 1e6))
  local hit = not cleaner.code
  cleaner:kill()
  return hit, ("%s, and the next %s after %.1f of %.0f ms"):format(where, it.cleaner, it.cleaner_part * length, length), cleaner
end

-- Milliseconds that undisturbed lives take, and a gc with something to do.
local function measure()
  local lengths = {}
  for _, kind in ipairs(lives.KINDS) do lengths[kind] = lives.length(kind) end
  lives.killed_when_up(lives.KINDS[1])
  lengths.gc = lives.clean_up("gc", "to measure gc").ms
  return lengths
end

function scenarios.kills(want)
  lives.prepare()
  local lengths = measure()
  local count = { moonshim = 0, boot = 0, agent = 0, cleaner = 0, over = 0, released = 0 }
  for n = want.seed, want.seed + want.kills - 1 do
    local it = choose(n)
    local length, from = lengths[it.kind], uv.hrtime()
    local life, second = lives.start(lives.run(it.kind)), nil
    local first = it.who == "cleaner" and "moonshim" or it.who
    local where = ("seed %d: %s (%s) killed after %.1f of %.0f ms"):format(n, first, it.kind, it.part * length, length)
    if it.at_once then where = where .. ", and cleaned up at once" end
    local hit = kill_of(first, life, from + math.floor(it.part * length * 1e6))
    if not it.at_once and not life:wait() then look.complain("%s: the run did not end; it said %q, %q", where, life.out, life.err) end
    if it.who == "cleaner" then hit, where, second = kill_of_cleaner(it, where, lengths) end
    if second and not it.at_once then second:wait() end
    if not hit and life.signal == 0 and first == "moonshim" then lengths[it.kind] = life.ms end
    count[hit and it.who or "over"] = count[hit and it.who or "over"] + 1
    local cleaner = lives.clean_up(it.how, where)
    if it.how ~= "gc" then lengths[it.how] = (3 * lengths[it.how] + cleaner.ms) / 4 end -- a busy machine is not always as busy
    life:wait()
    if second then second:wait() end
    if it.how == "gc" and cleaner.out ~= "" then count.released = count.released + 1 end
  end
  look.say("  lives of %.0f, %.0f and %.0f ms in the end, seeds %d to %d: moonshim killed %d times, boot %d, the agent %d, who "
    .. "cleaned up %d; %d were over before; gc had something to do after %d", lengths.options, lengths.file, lengths.library, want.seed,
    want.seed + want.kills - 1, count.moonshim, count.boot, count.agent, count.cleaner, count.over, count.released)
  if look.entries(ground.run_dir) > 0 then look.complain("the run root is not empty") end
end

return scenarios

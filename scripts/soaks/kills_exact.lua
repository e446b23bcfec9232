-- Scenario of scripts/soak: moonshim is killed before each single system call that changes something.
--
-- strace kills, before the n-th time that one thread of moonshim makes a certain call; programs that moonshim starts it lets
-- go when they have become another program. Which calls there are is read from an undisturbed life. Threads of the pool
-- share the work as they come, so the n-th call of one is not the same thing in each life; that of the main thread is.
local ground = require "soaks.ground"
local lives = require "soaks.lives"
local look = require "soaks.look"

local scenarios = {}

local CHANGING = {
  "mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "mknod",
  "mknodat", "open", "openat", "openat2", "creat", "close", "write", "pwrite64", "writev", "ftruncate", "truncate", "fallocate", "chmod",
  "fchmod", "fchmodat", "chown", "fchown", "fchownat", "flock", "ioctl", "mount", "umount2", "move_mount", "open_tree", "mount_setattr",
  "bind", "listen", "connect", "sendto", "sendmsg", "sendmmsg", "splice", "clone", "clone3", "fork", "vfork", "kill", "tgkill",
  "pidfd_send_signal", "setns", "unshare", "fsync",
}

local function strace(out, set, more, argv)
  local words = { "/usr/bin/strace", "-f", "-y", "-b", "execve", "-qq", "-o", out, "-e", "signal=none", "-e", "trace=" .. set }
  table.move(more, 1, #more, #words + 1, words)
  return table.move(argv, 1, #argv, #words + 1, words)
end

-- Whether a call that was seen once changes anything. What failed has not; what was interrupted may have.
local function changes(name, rest)
  if rest:find " = %-1 E" then return false end
  if name:find "^open" and name ~= "open_tree" then return rest:find("O_CREAT", 1, true) ~= nil end
  -- A loop device goes with its last descriptor, a lock with its own, and who listens or talks at the other end hears of it.
  return name ~= "close" or rest:find "^%d+<[^>]*loop%d" ~= nil or rest:find "^%d+<[^>]*lock>" ~= nil or rest:find "^%d+<socket:" ~= nil
end

---@class soak.Point
---@field call string
---@field n integer

---The points of a life: each call that changes something, by its name and how often the same thread had made it.
---@param text string what strace wrote
---@return soak.Point[]
local function points(text)
  local made, seen, list = {}, {}, {}
  for pid, name, rest in text:gmatch "(%d+) +([%w_]+)%(([^\n]*)" do
    local key = pid .. name
    made[key] = (made[key] or 0) + 1
    local point = name .. made[key]
    if changes(name, rest) and not seen[point] then
      seen[point] = true
      list[#list + 1] = { call = name, n = made[key] }
    end
  end
  return list
end

local CLEAN_UP = { "gc", "options", "gc", "library" }

-- Goes through the points of one program; `before` makes the ground for each of its lives. `argv` is made anew for each.
local function sweep(want, what, argv, before)
  local out = ground.folder .. "/trace"
  before()
  local life = lives.start(strace(out, table.concat(CHANGING, ","), {}, argv()))
  life:wait()
  local list, hits, number = points(look.read(out)), 0, 0
  lives.clean_up("gc", what .. ", only watched")
  for i = want.first, #list do
    local point = list[i]
    number = number + 1
    before()
    local where = ("%s killed before %s number %d (%d of %d)"):format(what, point.call, point.n, i, #list)
    life = lives.start(strace("/dev/null", point.call, { "-e", ("inject=%s:signal=SIGKILL:when=%d"):format(point.call, point.n) }, argv()))
    if not life:wait() then look.complain("%s: it did not end; it said %q, %q", where, life.out, life.err) end
    if life.signal == 9 then hits = hits + 1 end
    lives.clean_up(CLEAN_UP[number % #CLEAN_UP + 1], where)
  end
  look.say("  %s: %d points, killed at %d of them", what, number, hits)
  if number > 0 and hits == 0 then look.complain("%s: nothing was killed", what) end
end

scenarios["kills-exact"] = function(want)
  lives.prepare()
  for _, kind in ipairs(lives.KINDS) do lives.length(kind) end -- what is made once
  for _, kind in ipairs { "options", "file" } do
    sweep(want, "a run by " .. kind, function() return lives.run(kind) end, function() end)
  end
  for _, kind in ipairs { "options", "library" } do
    sweep(want, "a gc after a run by " .. kind, lives.gc, function() lives.killed_when_up(kind) end)
  end
  sweep(want, "a run after a run", function() return lives.run "options" end, function() lives.killed_when_up "library" end)
end

return scenarios

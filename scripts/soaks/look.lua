-- What scripts/soak looks at: memory, descriptors, processor time, what exists in a guest. And how it complains.
local uv = require "luv"
local task = require "moonshim.task"
local descriptors = dofile "scripts/descriptors.lua"

local look = {}

---What was wrong, in the order in which it was seen.
look.complaints = {}

function look.complain(fmt, ...)
  local text = fmt:format(...)
  look.complaints[#look.complaints + 1] = text
  io.stderr:write("  WRONG: ", text, "\n")
end

function look.say(fmt, ...)
  io.write(fmt:format(...), "\n")
  io.flush()
end

function look.read(path)
  local file = io.open(path, "r")
  if not file then return "" end
  local text = file:read("a")
  file:close()
  return text
end

function look.entries(path)
  local n, scan = 0, uv.fs_scandir(path)
  while scan and uv.fs_scandir_next(scan) do n = n + 1 end
  return n
end

local function status(pid, name) return tonumber(look.read(("/proc/%s/status"):format(pid)):match(name .. ":%s+(%d+)")) or 0 end

---Milliseconds of processor time of a process, and of its children that have been waited for.
function look.cpu(pid)
  local fields, stat = {}, look.read(("/proc/%s/stat"):format(pid))
  for word in (stat:match("%) (.*)$") or ""):gmatch("%S+") do fields[#fields + 1] = tonumber(word) or 0 end
  return ((fields[12] or 0) + (fields[13] or 0)) * 10, ((fields[14] or 0) + (fields[15] or 0)) * 10
end

function look.own_cpu()
  local u = uv.getrusage()
  return (u.utime.sec + u.stime.sec) * 1e3 + (u.utime.usec + u.stime.usec) / 1e3
end

---Lua's memory in KiB, after a collection.
function look.lua_kib()
  collectgarbage()
  collectgarbage()
  return math.floor(collectgarbage "count")
end

---What the shim and the agent hold now. Memory in KiB.
function look.holdings(agent)
  local lua_kib = look.lua_kib()
  local shim_fds, shim_pipes = descriptors "self"
  local agent_fds, agent_pipes = descriptors(agent)
  return {
    shim_kib = status("self", "VmRSS"), lua_kib = lua_kib, shim_fds = shim_fds, shim_pipes = shim_pipes,
    shim_threads = status("self", "Threads"), agent_kib = status(agent, "VmRSS"), agent_fds = agent_fds, agent_pipes = agent_pipes,
    agent_threads = status(agent, "Threads"),
  }
end

---What exists in the guest: mounts, folders, cgroups, and the bytes of its own file systems, which are in memory.
function look.guest_counts(agent)
  local _, mounts = look.read(("/proc/%d/mounts"):format(agent)):gsub("\n", "")
  local out = { "mounts=" .. mounts }
  for _, path in ipairs { "run", "tmp" } do
    local fs = assert(uv.fs_statfs(("/proc/%d/root/%s"):format(agent, path)))
    out[#out + 1] = ("bytes of /%s=%d"):format(path, (fs.blocks - fs.bfree) * fs.bsize)
  end
  for _, path in ipairs {
    "run/gcs/pods", "run/mounts/scsi", "run/mounts/plan9", "run/moonshim-guest/tmp", "run/moonshim-guest/crun", "sys/fs/cgroup/pods",
    "sys/fs/cgroup/memory/pods", "sys/fs/cgroup/systemd/pods",
  } do
    out[#out + 1] = path .. "=" .. look.entries(("/proc/%d/root/%s"):format(agent, path))
  end
  return table.concat(out, " ")
end

function look.same(what, before, now)
  if before ~= now then look.complain("%s: %s before, %s after", what, before, now) end
end

-- A few pages come and go; what grows with the work does not stop at that.
function look.flat(what, before, now, slack_kib)
  if now > before * 1.05 + slack_kib then look.complain("%s grew from %d to %d KiB", what, before, now) end
end

-- Empty pipes that a data thread keeps.
local KEPT = 4

---What is held when nothing is on its way out any more, as far as two looks can tell.
function look.settled(agent)
  local now = look.holdings(agent)
  for _ = 1, 500 do
    local last = now
    task.sleep(20)
    now = look.holdings(agent)
    if now.shim_fds == last.shim_fds and now.agent_fds == last.agent_fds then break end
  end
  return now
end

---Compares what is held with what was, once what was on its way out has closed. Returns what is held. Fewer descriptors
---than before are none that were left: on a busy machine some that closed late were counted then.
function look.same_holdings(before, agent)
  local now = look.holdings(agent)
  for _ = 1, 500 do
    if now.shim_fds <= before.shim_fds and now.agent_fds <= before.agent_fds then break end
    task.sleep(20)
    now = look.holdings(agent)
  end
  for _, who in ipairs { "shim", "agent" } do
    local had, has = before[who .. "_fds"], now[who .. "_fds"]
    if has > had then look.complain("%d descriptors of the %s, %d before", has, who, had) end
  end
  for _, who in ipairs { "shim", "agent" } do
    local had, has = before[who .. "_pipes"], now[who .. "_pipes"]
    if has > had + KEPT then look.complain("%d pipes within the %s, %d before", has, who, had) end
  end
  look.same("threads of the agent", before.agent_threads, now.agent_threads)
  return now
end

function look.ms_since(from) return (uv.hrtime() - from) / 1e6 end

---Runs fn(i) for i = 1..n, `width` at a time.
function look.each(n, width, fn)
  local next_one, workers = 0, {}
  for w = 1, math.min(width, n) do
    workers[w] = function()
      while next_one < n do
        next_one = next_one + 1
        fn(next_one)
      end
    end
  end
  task.all(workers)
end

return look

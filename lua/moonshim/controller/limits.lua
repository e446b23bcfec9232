---What limits a container and what becomes of it then: new limits, pause and resume, want of memory.
---
---  1. Pausing is no operation of the container's queue: a stop or a delete need not wait for it, and ends it.
---  2. An exit wins over a pause, whatever the order in which the two are noticed.
---  3. Whoever is told to end is thawed first: a frozen process hears nothing.
local err = require "moonshim.err"
local task = require "moonshim.task"

local limits = {}

-- What names things of the host; at creation it does not reach the guest, so an update cannot mean it.
local OF_THE_HOST = { "devices", "blockIO", "hugepageLimits", "network" }

---@async
---@param c moonshim.Container
---@param resources table OCI linux.resources
function limits.update(c, resources)
  c:expect_alive "update"
  if type(resources) ~= "table" or #resources > 0 then err.raise("invalid_argument", "update takes Linux resources") end
  local kept = {}
  for name, value in pairs(resources) do kept[name] = value end
  for _, name in ipairs(OF_THE_HOST) do kept[name] = nil end
  c.vm.processes.update(c.vm, c.init.receipt, kept)
  c.vm:emit("update", { pod = c.pod.id, container = c.id })
end

-- Signals by which people and programs ask for the end.
local END = { [1] = true, [2] = true, [3] = true, [6] = true, [9] = true, [15] = true }

---@param number integer
---@return boolean
function limits.ends(number) return END[number] or false end

local function told(c, topic) c.vm:emit(topic, { pod = c.pod.id, container = c.id, exec = "", pid = c.init.pid }) end

---@async
local function ask(c, frozen)
  return task.deadline(c.vm.policy.process.limits.freeze, c.vm.processes.freeze, c.vm, c.init.receipt, frozen)
end

---Stops all its processes where they are.
---@async
---@param c moonshim.Container
function limits.pause(c)
  return c.freezing(function()
    if not c.machine:is "running" then err.raise("failed_precondition", "container %s is %s: cannot pause", c.id, c.machine:state()) end
    local ok, e = pcall(task.shield, ask, c, true)
    if c.machine:is "running" and ok then
      c.machine:apply "pause"
      return told(c, "paused")
    end
    -- It is ending, or nobody knows what became of the order: what is left of it must be able to run.
    if not c.machine:is "stopped" then pcall(task.shield, ask, c, false) end
    if not c.machine:is "running" then
      err.raise("failed_precondition", "container %s is %s: it was not paused", c.id, c.machine:state())
    end
    return error(err.wrap(e, "pause container " .. c.id), 0)
  end)
end

local function thaw(c)
  local ok, e = pcall(task.shield, ask, c, false)
  if c.machine:is "paused" and ok then
    c.machine:apply "resume"
    return told(c, "resumed")
  end
  if not c.machine:is "paused" then return nil end -- it ended meanwhile
  return error(err.wrap(e, "resume container " .. c.id), 0)
end

---Lets them go on.
---@async
---@param c moonshim.Container
function limits.resume(c)
  return c.freezing(function()
    if not c.machine:is "paused" then err.raise("failed_precondition", "container %s is %s: cannot resume", c.id, c.machine:state()) end
    thaw(c)
  end)
end

---Before an order to end is given. A guest that does not answer must not keep the order from being given.
---@async
---@param c moonshim.Container
function limits.thaw(c)
  if not c.machine:is "paused" then return end
  local ok, e = pcall(c.freezing, function() if c.machine:is "paused" then thaw(c) end end)
  if not ok and err.is(e, "cancelled") then error(e, 0) end
  if not ok then c.log:warn("it could not be thawed before its end", { error = e }) end
end

---The guest's word that processes were killed for want of memory; it comes before the exit.
---@param c moonshim.Container
---@param news { Kills: integer?, Limit: integer? }
function limits.out_of_memory(c, news)
  local kills, limit = math.tointeger(news.Kills) or 1, math.tointeger(news.Limit)
  c.oom = { kills = kills, limit = limit }
  c.vm:emit("oom", {
    pod = c.pod.id, container = c.id, kills = kills, limit = limit,
    message = limit and ("out of memory (limit %s)"):format(require("moonshim.oci.resources").size_text(limit)) or "out of memory",
  })
end

---Why a process ended, when the guest gave nothing but a code: KILL that nobody here sent, after the kernel had to kill.
---@param process moonshim.Process
---@param code integer
---@return string?
function limits.reason(process, code)
  local oom = process.container.oom
  if code ~= 137 or process.sent_kill or not oom or process.container.oom_blamed == oom.kills then return nil end
  if process.container.machine:is "stopping" then return nil end -- the ladder's own
  process.container.oom_blamed = oom.kills
  return "oom"
end

return limits

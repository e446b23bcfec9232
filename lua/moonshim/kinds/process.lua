--- kind "process": the init of a container, or an exec in one.
--
-- args    init: { exec = "", pod, container, bundle, rootfs?, mounts?, devices?, stdio?, spec }
--         exec: { exec = id, pod, container, bundle?, stdio?, oci_process }
--         of the VM itself: { exec = id, container = layout.NULL, stdio?, command } with what the guest calls process parameters
-- facts   { container, exec }, then pid
-- Acquiring an init makes the container in the guest, where init waits; acquiring an exec only records it. `start` runs
-- it. Releasing climbs the ladder in step.args.ladder = { { "TERM", wait = "10s" }, { "KILL", wait = "10s" } }; without
-- rungs it waits for an exit and signals nobody. A guest that takes longer than step.args.answer to take an order is
-- silent: then nobody hears the next rung either, and the release fails at once.
-- Always  1. an exit is recorded once, with a code: the process's own, or 255 and a reason when nobody can know.
--         2. nothing secret (args, environment) is in the facts.
-- The kind also exports start, wait, signal, resize, pids, stats and update, for those who hold the receipt.
local classify = require "moonshim.classify"
local clock = require "moonshim.clock"
local err = require "moonshim.err"
local kind = require "moonshim.kind"
local layout = require "moonshim.guest.layout"
local oci = require "moonshim.oci"
local signals = require "moonshim.signals"
local task = require "moonshim.task"

-- Exit code when the real one cannot be known.
local UNKNOWN = 255
-- After the connection broke: how long to wait for news whether the VM died with it; milliseconds.
local NEWS_WITHIN = 1000

---@class moonshim.LiveProcess
---@field container string
---@field exec string
---@field pid integer?
---@field exit { code: integer, reason: string?, signalled: boolean? }?
---@field exited moonshim.Signal fires with `exit`
local Live = {}
Live.__index = Live

function Live:finish(exit)
  if self.exit then return end
  self.exit = exit
  self.exited:fire(exit)
end

--- For the ledger, when it leaves because the VM left: nothing of ours is open, the watcher brings the exit.
function Live:close()
  if self.world.live_processes then self.world.live_processes[self.container .. "/" .. self.exec] = nil end
end

local function key_of(facts) return facts.container .. "/" .. facts.exec end

local function live(world)
  local all = rawget(world, "live_processes") or {}
  world.live_processes = all
  return all
end

local function guest_of(world, what)
  if world.guest then return world.guest end
  return err.raise("unavailable", "%s: there is no connection to the guest", what)
end

-- Making ---------------------------------------------------------------------------------------------------------

local function facts_of(list)
  local out = {}
  for i, receipt in ipairs(list or {}) do out[i] = receipt.facts end
  return out
end

local function document(args)
  local bundle = args.bundle.facts
  local root = args.rootfs and (args.rootfs.facts.source or args.rootfs.facts.guest_path) or bundle.rootfs
  return oci.document {
    spec = args.spec,
    bundle = bundle.path,
    root = root,
    scratch_dir = bundle.scratch_dir,
    mounts = facts_of(args.mounts),
    devices = facts_of(args.devices),
    guest_pod = args.pod,
  }
end

local function acquire(world, facts, args)
  local self = setmetatable({
    world = world,
    container = facts.container,
    exec = facts.exec,
    ports = args.stdio and args.stdio.facts.ports,
    oci_process = args.oci_process,
    command = args.command,
    exited = task.signal(),
  }, Live)
  live(world)[key_of(facts)] = self
  if facts.exec == "" then
    local text = err.try(world.core.json.encode(document(args)))
    guest_of(world, "create"):create(facts.container, text)
  end
  return nil, self
end

-- Running --------------------------------------------------------------------------------------------------------

local function why_lost(world, e)
  local uvm = world.uvm
  if uvm then pcall(task.deadline, NEWS_WITHIN, uvm.wait, uvm) end
  if not world.alive() then return "the VM is gone" end
  return ("its exit cannot be known: %s"):format(e.message)
end

-- The wait was lost with the connection. True when there is a new one, over which to wait again: an exit that was missed
-- meanwhile is answered at once.
local function adopted(world, guest, generation, e)
  local await = rawget(world, "await_guest")
  if not await or not err.is(e, "unavailable") then return false end
  return guest.generation ~= generation or (guest:is_lost() and await()) or false
end

local function watch(world, self, guest)
  local ok, code, e
  repeat
    local generation = guest.generation
    ok, code = pcall(guest.wait, guest, self.container, self.pid)
    e = not ok and err.from(code) or nil
    if e and e.code == "cancelled" then error(e, 0) end
  until ok or not adopted(world, guest, generation, e)
  if ok and code > 255 then -- of a process of the VM itself the protocol tells no signal
    if self.container == layout.NULL then return self:finish { code = UNKNOWN, reason = "ended by a signal", signalled = true } end
    return self:finish { code = UNKNOWN, reason = "the guest lost its exit code" }
  end
  if ok then return self:finish { code = code } end
  return self:finish { code = UNKNOWN, reason = why_lost(world, e) }
end

--- Runs it: Start and ExecuteProcess for an init, ExecuteProcess for an exec. From then on its exit is watched.
---@async
---@param world moonshim.World
---@param receipt moonshim.Receipt
---@param ledger moonshim.Ledger? gets the pid
---@param size { rows: integer, columns: integer }? of its terminal, so that it never sees another
---@return integer pid of the VM
local function start(world, receipt, ledger, size)
  local self = receipt.value or err.raise("failed_precondition", "process %s is not of this shim", receipt.name)
  if self.pid then err.raise("failed_precondition", "process %s runs already", receipt.name) end
  local guest = guest_of(world, "start")
  local params = self.command or { OciProcess = self.oci_process }
  if size then
    params.ConsoleSize = { size.rows, size.columns } -- for ours; what other agents pass to their runtime:
    if params.OciProcess then params.OciProcess.consoleSize = { height = size.rows, width = size.columns } end
  end
  self.starting, self.answered = true, task.signal() -- stays `starting` when nobody knows what became of it
  local ok, answer = pcall(function()
    if self.exec == "" then guest:start(self.container) end
    return guest:execute(self.container, params, self.ports)
  end)
  if ok then self.pid, self.starting, self.oci_process = answer, nil, nil end
  self.answered:fire()
  if not ok then error(answer, 0) end
  if ledger then ledger:update(receipt, { pid = self.pid }) else receipt.facts.pid = self.pid end
  task.detach(watch, world, self, guest)
  return self.pid
end

-- Ending ---------------------------------------------------------------------------------------------------------

--- True when it ended within `ms` (nil: no limit but the caller's own).
local function ended_within(world, facts, self, ms)
  local function wait()
    if self then return self.exited:wait() end
    local ok, e = pcall(world.guest.wait, world.guest, facts.container, facts.pid, ms)
    if ok then return end
    if not err.is(e) or classify.class(e, { op = "wait", alive = world.alive() }) ~= "gone" then error(e, 0) end
  end
  if not ms then
    wait()
    return true
  end
  local ok, e = pcall(task.deadline, ms, wait)
  if ok then return true end
  -- Whose deadline was it? The step's own goes on up.
  if not err.is(e, "deadline_exceeded") or task.remaining() == 0 then error(e, 0) end
  return false
end

local function climb(world, facts, self, ladder, answer)
  local function order(op, fn)
    return classify.release({ op = op, alive = world.alive }, function()
      if answer then task.deadline(answer, fn) else fn() end
    end)
  end
  if self and self.frozen then -- it would hear nothing
    order("modify", function() guest_of(world, "freeze"):freeze(facts.container, false) end)
    self.frozen = nil
  end
  for _, rung in ipairs(ladder) do
    local number = signals.number(rung[1])
    local sent, how = pcall(order, "signal", function() guest_of(world, "signal"):signal(facts.container, facts.pid, number) end)
    if not sent and not err.is(how, "invalid_argument") then error(how, 0) end
    if how == "gone" and not self then return end
    -- A signal that this guest does not know is nothing to wait for; the next rung may be one that it knows.
    if sent and ended_within(world, facts, self, clock.ms(rung.wait or 0)) then return end
    if how == "gone" then return end -- the guest forgot it before it told us how it ended
  end
  if #ladder == 0 then
    ended_within(world, facts, self, nil)
  else
    err.raise("deadline_exceeded", "process %d of container %s still runs after the last signal", facts.pid, facts.container)
  end
end

local function release(world, facts, step)
  local all, key = live(world), key_of(facts)
  local self = all[key]
  local function forget() all[key] = nil end
  local pid = facts.pid or (self and self.pid)
  if not world.alive() or (self and self.exit) then return forget() end
  if not pid then
    -- Created and never run: it goes with the container's state. Unless nobody knows whether it was run.
    if self and self.starting and facts.exec == "" then
      classify.release({ op = "shutdown", alive = world.alive }, function()
        guest_of(world, "shutdown"):shutdown(facts.container, true)
      end)
    end
    -- A start that is on its way arrives all the same; only then is it known whether there is something to end.
    if self and self.answered then self.answered:wait() end
    pid = self and self.pid
    if not pid or self.exit then return forget() end
  end
  local args = step and step.args or {}
  climb(world, { container = facts.container, pid = pid }, self, args.ladder or {}, args.answer)
  return forget()
end

return kind.define("process", {
  v = 1,
  ends_with_boot = true,
  reserve = function(_, args)
    local exec = args.exec or ""
    if exec == "" and type(args.spec) ~= "table" then err.raise("invalid_argument", "process: the spec is missing") end
    local own = args.container == layout.NULL and "command" or "oci_process"
    if exec ~= "" and type(args[own]) ~= "table" then err.raise("invalid_argument", "process: %s is missing", own) end
    return { container = layout.name("container id", args.container), exec = exec }
  end,
  acquire = acquire,
  release = release,
  verify = function(world, facts)
    if not world.alive() then return "gone" end
    local self = live(world)[key_of(facts)]
    if not self then return "unknown" end
    return self.exit and "gone" or "held"
  end,
  show = function(facts)
    local name = facts.exec == "" and facts.container or facts.container .. "/" .. facts.exec
    return facts.pid and ("%s, pid %d"):format(name, facts.pid) or name
  end,
  defaults = { within = "60s", retries = 0, on_failure = "stop" },

  start = start,
  --- Waits for the exit: { code, reason? }.
  wait = function(_, receipt)
    local self = receipt.value or err.raise("failed_precondition", "process %s is not of this shim", receipt.name)
    return self.exit or self.exited:wait()
  end,
  --- Sends a signal, with `group` to its children, too; raises `gone` when the guest knows no such process any more.
  signal = function(world, receipt, number, group)
    local self = receipt.value or err.raise("gone", "process of container %s is released", receipt.facts.container)
    local how = classify.release({ op = "signal", alive = world.alive }, function()
      guest_of(world, "signal"):signal(self.container, self.pid, number, group)
    end)
    if how == "gone" then err.raise("gone", "process %d of container %s has ended", self.pid, self.container) end
  end,
  --- Sets the size of its terminal; raises `gone` when the guest knows no such process any more.
  resize = function(world, receipt, rows, columns)
    local self = receipt.value or err.raise("gone", "process of container %s is released", receipt.facts.container)
    local how = classify.release({ op = "resize", alive = world.alive }, function()
      guest_of(world, "resize"):resize(self.container, self.pid, rows, columns)
    end)
    if how == "gone" then err.raise("gone", "process %d of container %s has ended", self.pid, self.container) end
  end,
  --- Pids of all processes of the container, as the guest sees them.
  pids = function(world, receipt)
    local out = {}
    local answer = guest_of(world, "properties"):properties(receipt.facts.container, { "ProcessList" })
    for i, row in ipairs(answer.ProcessList or {}) do out[i] = row.ProcessId end
    return out
  end,
  --- What the container has used, as the guest counts it: { cpu, memory, pids, ... }; {} when it says nothing.
  stats = function(world, receipt)
    return guest_of(world, "properties"):properties(receipt.facts.container, { "Statistics" }).LCOWMetrics or {}
  end,
  --- Stops all processes of the container, or lets them go on.
  freeze = function(world, receipt, frozen)
    guest_of(world, "freeze"):freeze(receipt.facts.container, frozen)
    if receipt.value then receipt.value.frozen = frozen or nil end
  end,
  --- New limits: OCI linux.resources.
  update = function(world, receipt, resources)
    guest_of(world, "modify"):modify(receipt.facts.container, "Update", "ContainerConstraints", { Linux = resources })
  end,
})

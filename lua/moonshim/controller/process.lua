---One process: the init of a container or an exec in it.
---
---Holds its state, its exit record and its place in the order of events. It knows no time limit (policy has them), no
---order of release (plans have it) and no path. The rules:
---  1. The exit is recorded once: whatever ends a process first wins, later news are logged and dropped.
---  2. Code, reason and time are set, then its output has drained (bounded), then the exit event is there, then
---     `wait` returns.
---  3. Its started event precedes its exit event, since the watcher begins after the started event was written.
---  4. Nothing here waits for a lock: state, kill and wait answer while the guest is silent.
---  5. One with a time of its own (`timeout`) is killed when that has passed since its start, with its group and until it is
---     dead; its reason is OVERDUE then, unless it was quicker.
local err = require "moonshim.err"
local fsm = require "moonshim.fsm"
local limits = require "moonshim.controller.limits"
local signals = require "moonshim.signals"
local task = require "moonshim.task"

---@class moonshim.Process
---@field id string exec id; "" is init
---@field owner string
---@field receipt moonshim.Receipt? kind "process"
---@field stdio moonshim.Receipt?
---@field timeout integer? milliseconds
---@field pid integer? of the guest; kept after the exit
---@field code integer? exit code: 0..255, 128 + n for a signal, 255 when nobody can know
---@field reason string? why the code is not the program's own word
---@field exited_at integer? milliseconds of the run's clock
---@field exited moonshim.Signal fires with the code
---@field released moonshim.Signal? of an exec: fires when what it held is released, after its exit
local Process = {}
Process.__index = Process

---Exit codes of processes that never had one of their own.
Process.LAUNCH_FAILED, Process.UNKNOWN = 1, 255
---The reason of one that was killed because its time was over.
Process.OVERDUE = "deadline_exceeded"

Process.life = fsm.define {
  name = "process",
  initial = "new",
  states = {
    new = "known by its id, nothing is held yet",
    created = "its stdio is open, nothing runs",
    starting = "the guest was asked to start it",
    running = "the guest said its pid",
    stopped = "exit code and time are recorded",
  },
  transitions = {
    { "new", "create", "created", by = "container" },
    { "created", "start", "starting", by = "caller" },
    { "starting", "started", "running", by = "guest" },
    { { "new", "created", "starting", "running" }, "exit", "stopped", by = "watcher, kill, delete" },
  },
}

---@param opts { vm: moonshim.Vm, container: moonshim.Container, id: string, terminal: boolean?, io: table? }
---@return moonshim.Process
function Process.new(opts)
  local c = opts.container
  local self = setmetatable({
    vm = opts.vm, container = c, id = opts.id, terminal = opts.terminal or false, io = opts.io or {},
    owner = opts.id == "" and c.owner or c.owner .. "/" .. opts.id,
    exited = task.signal(),
  }, Process)
  self.log = opts.vm.log:with { container = c.id, exec = opts.id ~= "" and opts.id or nil }
  self.machine = Process.life:new { id = opts.id == "" and c.id or c.id .. "/" .. opts.id }
  return self
end

---The size of its terminal that the streams of a process come with, each number cut to 16 bits. Raises invalid_argument.
---@param io { size: { rows: integer, columns: integer }? }?
---@return { rows: integer, columns: integer }?
function Process.size_of(io)
  local size = io and io.size
  if not size then return nil end
  for _, name in ipairs { "rows", "columns" } do
    if math.type(size[name]) ~= "integer" then err.raise("invalid_argument", "size: %s must be an integer", name) end
  end
  return { rows = size.rows & 0xffff, columns = size.columns & 0xffff }
end

---@private
function Process:limit(name) return self.vm.policy.process.limits[name] end

-- Events -----------------------------------------------------------------------------------------------------------

---@private
function Process:emit(topic, fields)
  local data = { pod = self.container.pod.id, container = self.container.id, exec = self.id, pid = self.pid }
  for k, v in pairs(fields or {}) do data[k] = v end
  self.vm:emit(topic, data)
end

---@private
function Process:note_state(data)
  if self.id ~= "" then self.vm:note_state(self.owner, self.machine:state(), data) end
end

-- Life -------------------------------------------------------------------------------------------------------------

---What create took for it; the create or exec-added event follows.
---@param receipt moonshim.Receipt
---@param stdio moonshim.Receipt?
function Process:created(receipt, stdio)
  self.machine:apply("create")
  self.receipt, self.stdio, self.announced = receipt, stdio, true
  self:note_state()
  self:emit(self.id == "" and "create" or "exec-added")
end

---Runs it. Raises what the guest refused with; then the process is stopped with code 1, without an exit event, since it
---never was a process. `on_started` runs before anyone can learn of the exit.
---@async
---@param on_started fun()?
---@return integer pid
function Process:start(on_started)
  self.machine:apply("start")
  self:note_state()
  -- Shielded: a caller that goes away must not leave a running process whose pid nobody knows.
  return task.shield(self.launch, self, on_started)
end

---@private
---@async
function Process:launch(on_started)
  local ok, answer = pcall(task.deadline, self:limit("start"), self.vm.processes.start, self.vm, self.receipt, self.size)
  if not self.machine:is("starting") then -- the VM ended, or a delete gave it up, while the guest was asked
    err.raise(ok and "aborted" or err.from(answer).code, "%s ended before it was running: %s", self:name(), self.reason or "unknown")
  end
  if not ok then
    self:finish(Process.LAUNCH_FAILED, "start failed: " .. err.from(answer).message, { silent = true })
    error(err.wrap(answer, "start " .. self:name()), 0)
  end
  self.pid = answer
  self.machine:apply("started")
  self:note_state()
  if on_started then on_started() end
  self:emit(self.id == "" and "start" or "exec-started")
  task.detach(self.watch, self)
  if self.timeout then task.detach(self.expire, self) end
  if self.size then task.detach(pcall, self.tell_size, self) end -- again: it may be a newer one, and not every guest takes it at a start
  if self.kept_signal then task.detach(pcall, self.kill, self, self.kept_signal) end
  return self.pid
end

---@private
---@async
function Process:watch()
  local ok, exit = pcall(self.vm.processes.wait, self.vm, self.receipt)
  local killed = 128 + signals.KILL
  if ok and self.overdue and (exit.code == killed or exit.signalled) then return self:finish(killed, Process.OVERDUE) end
  if ok and not exit.reason then return self:finish(exit.code, limits.reason(self, exit.code)) end
  if not ok and err.is(exit, "cancelled") then return false end
  -- Nobody saw it end: what became of its VM says what is most likely.
  local code, reason = self.vm:loss()
  return self:finish(code, code == Process.UNKNOWN and (ok and exit.reason or err.from(exit).message) or reason)
end

---Its time, and then the end of it. A guest that does not answer is asked again.
---@private
---@async
function Process:expire()
  local pause = self.timeout
  repeat
    local _, e = pcall(task.deadline, pause, self.exited.wait, self.exited)
    if self.code or err.is(e, "cancelled") then return end
    self.overdue, pause = true, self:limit "overdue"
    if self.container.machine then limits.thaw(self.container) end -- the VM itself is never paused
    local ok, why = pcall(self.kill, self, signals.KILL, true)
    if not ok and err.is(why, "cancelled") then return end
    if not ok then self.log:warn("its time is over, and it could not be killed", { error = why }) end
  until false
end

---Records the exit, once. Returns false when it had exited before. `silent`: no event, because there was no process.
---@param code integer
---@param reason string?
---@param opts { silent: boolean? }?
---@return boolean first
function Process:finish(code, reason, opts)
  if not self.machine:can("exit") then
    self.log:debug("late news of an exit dropped", { code = code, reason = reason, kept = self.code })
    return false
  end
  local ran = self.pid ~= nil
  self.code, self.reason, self.exited_at = code, reason, task.now()
  self.machine:apply("exit")
  -- In a task of its own: who brought the news may be cancelled, the record must be completed all the same.
  task.detach(function()
    local idle, most = 0, 0
    if ran then idle, most = self:limit "drain", self:limit "drain_most" end
    local fine, e = pcall(self.vm.processes.drain, self.vm, self.stdio, idle, most)
    if not fine then self.log:warn("output could not be drained", { error = e }) end
    self:note_state({ code = code, reason = reason })
    if self.on_exit then self.on_exit(self) end
    if self.announced and not (opts and opts.silent) then
      self:emit("exit", { code = code, reason = reason, at = self.exited_at })
    end
    self.exited:fire(code, reason)
    if self.after_exit then self.after_exit(self) end
  end)
  return true
end

---Waits for the exit. A caller that is cancelled only stops waiting.
---@async
---@return integer code
---@return string? reason
function Process:wait() return self.exited:wait() end

-- Verbs ------------------------------------------------------------------------------------------------------------

---@private
function Process:name() return self.id == "" and self.container.id or ("%s/%s"):format(self.container.id, self.id) end

---Sends a signal. Before the start a signal that would end the process ends it (128 + n), and its create with it; while the
---start is under way it is kept and sent then; after the exit nothing happens.
---@async
---@param signal integer checked by the caller
---@param group boolean? also to what it has started, as far as it is in its group
---@return "delivered"|"kept"|"exited"
function Process:kill(signal, group)
  local state = self.machine:state()
  if state == "stopped" then return "exited" end
  if state == "starting" then
    self.kept_signal = signal
    return "kept"
  end
  if state == "new" or state == "created" then
    -- What was never created has told nobody of itself.
    if signals.ends(signal) then self:finish(128 + signal, "killed before its start", { silent = state == "new" }) end
    return "delivered"
  end
  local ok, e = pcall(task.deadline, self:limit("kill"), self.vm.processes.signal, self.vm, self.receipt, signal, group)
  if ok and signal == signals.KILL then self.sent_kill = true end
  if ok then return "delivered" end
  if err.is(e, "gone", "not_found") then
    self:vanished(err.from(e).message)
    return "exited"
  end
  error(err.wrap(e, "kill " .. self:name()), 0)
end

---The guest does not know it any more, so it must not be reported as running for ever: the watcher normally brings
---the code at once; if it does not, the code stays unknown.
---@private
function Process:vanished(why)
  if self.leaving then return end
  self.leaving = true
  task.detach(function()
    pcall(task.deadline, self:limit("vanished"), self.exited.wait, self.exited)
    if not self.exited:fired() then self:finish(Process.UNKNOWN, "the guest no longer knows it: " .. why) end
  end)
end

---Sets the size of its terminal; before the start the size is kept for it. The last size that was asked for is the one it
---has in the end, however the answers of the guest come in.
---@async
---@param rows integer cut to 16 bits
---@param columns integer
function Process:resize(rows, columns)
  if not self.terminal then err.raise("failed_precondition", "%s has no terminal", self:name()) end
  if math.type(rows) ~= "integer" or math.type(columns) ~= "integer" then
    err.raise("invalid_argument", "resize takes rows and columns, two integers")
  end
  local state = self.machine:state()
  if state == "stopped" then err.raise("failed_precondition", "%s has exited", self:name()) end
  self.size = { rows = rows & 0xffff, columns = columns & 0xffff }
  if state == "running" then self:tell_size() end
end

---@private
---@async
function Process:tell_size()
  local size = self.size
  local ok, e = pcall(task.deadline, self:limit("resize"), self.vm.processes.resize, self.vm, self.receipt, size.rows, size.columns)
  if ok then return end
  if err.is(e, "gone", "not_found") or (self.machine:is("stopped") and not err.is(e, "cancelled")) then
    err.raise("failed_precondition", "%s has exited", self:name())
  end
  error(err.wrap(e, "resize " .. self:name()), 0)
end

---Ends its standard input. Repeatable, in every state.
---@param stdin boolean? false: nothing is closed
function Process:close_stdin(stdin)
  if stdin == false or not self.stdio or self.stdin_closed then return end
  self.stdin_closed = true
  self.vm.processes.close_stdin(self.vm, self.stdio)
end

---What is known, at once.
---@return { id: string, exec: string, state: string, pid: integer, code: integer, reason: string?, exited_at: integer? }
function Process:state()
  local state = self.machine:state()
  if state == "starting" then state = "created" end
  return {
    id = self.container.id, exec = self.id, state = state, pid = self.pid or 0, code = self.code or Process.UNKNOWN,
    reason = self.reason, exited_at = self.exited_at, terminal = self.terminal, io = self.io,
  }
end

return Process

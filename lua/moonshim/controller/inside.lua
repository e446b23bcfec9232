---Processes of the VM itself, beside its containers: for whoever wants to look at it from inside.
---
---  1. They run as root in the VM's own namespaces, and end with it; a stop of the VM tells them to, like all others.
---  2. What one holds is released at its end, and it is forgotten then.
---  3. In events their container is the VM; they belong to no pod.
local err = require "moonshim.err"
local layout = require "moonshim.guest.layout"
local oci_env = require "moonshim.oci.env"
local pod_spec = require "moonshim.pod_spec"
local task = require "moonshim.task"
local Process = require "moonshim.controller.process"

---@class moonshim.Inside
---@field id string of the VM
---@field owner string no pod can be called so
---@field processes table<string, moonshim.Process> by exec id; none has ended
local Inside = {}
Inside.__index = Inside

local inside = {}

---@param vm moonshim.Vm
---@return moonshim.Inside
function inside.of(vm)
  return setmetatable({ vm = vm, id = vm.id, owner = "vm/@vm", pod = {}, processes = {}, next_exec = 0 }, Inside)
end

local function command(request)
  local args = request.args or {}
  if #args == 0 then err.raise("invalid_argument", "exec in the VM: args names no program") end
  if request.user then err.raise("invalid_argument", "exec in the VM: its processes are root's, there is no user to choose") end
  local environment = {}
  for _, line in ipairs(oci_env.list(request.env, "env")) do
    local name, value = line:match "^([^=]+)=(.*)$"
    environment[name] = value
  end
  return {
    CommandArgs = args, WorkingDirectory = request.cwd or "/", EmulateConsole = request.terminal or nil,
    Environment = next(environment) and environment or nil,
  }
end

---A process that waits for its start, as the exec of a container does.
---@async
---@param request { id: string?, args: string[], env: table?, cwd: string?, terminal: boolean?, io: table?, timeout: integer? }
---io: { stdin, stdout, stderr, size = { rows, columns } }; timeout: milliseconds
---@return moonshim.Process
function Inside:exec(request)
  local vm, io, terminal = self.vm, request.io or {}, request.terminal or false
  if terminal and io.stderr then err.raise("failed_precondition", "exec in the VM: a terminal has no stderr, all of it is stdout") end
  if not vm.machine:is("running", "reconnecting") then err.raise("failed_precondition", "the VM is %s: cannot exec", vm.machine:state()) end
  local wanted, id = command(request), request.id
  if not id then
    self.next_exec = self.next_exec + 1
    id = ("exec-%d"):format(self.next_exec)
  end
  pod_spec.id(id, "exec id")
  if self.processes[id] then err.raise("already_exists", "the VM has a process %s already", id) end
  local exec = Process.new { vm = vm, container = self, id = id, terminal = terminal, io = io }
  exec.size, exec.timeout = Process.size_of(io), request.timeout
  self.processes[id] = exec
  local ok, e = xpcall(function()
    local stdio = vm:acquire(exec.owner, "stdio", {
      name = id, stdin = io.stdin, stdout = io.stdout, stderr = io.stderr, tty = terminal or nil, direct = true,
    })
    local receipt = vm:acquire(exec.owner, "process", { exec = id, container = layout.NULL, stdio = stdio, command = wanted })
    exec:created(receipt, stdio)
  end, err.traceback)
  if not ok then
    task.shield(self.release, self, exec, "roll_back")
    error(err.is(e) and err.wrap(e, "exec in the VM") or e, 0)
  end
  exec.released = task.signal()
  exec.after_exit = function()
    self:release(exec, "delete")
    exec.released:fire()
  end
  return exec
end

---@private
---@async
function Inside:release(exec, goal)
  local vm = self.vm
  local ok, e = true, nil
  if not vm.machine:is("stopping", "ended") then -- else it goes with the VM
    ok, e = pcall(vm.release, vm, { goal = goal, owner = exec.owner, reason = "exec ended", plain = true })
  end
  if not ok then vm:left_behind(exec.owner, e) end
  if self.processes[exec.id] == exec then self.processes[exec.id] = nil end
  vm:note_state(exec.owner, "deleted")
end

---@return moonshim.Process[]
function Inside:list()
  local out = {}
  for _, process in pairs(self.processes) do out[#out + 1] = process end
  table.sort(out, function(a, b) return a.id < b.id end)
  return out
end

return inside

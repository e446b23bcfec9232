---A process, as the public door hands it out: waits, signals, and what was captured of its output.
---
---Made by `exec` of a container or of a VM. The handle stays valid after the process has gone, and answers from memory then.
local Process = require "moonshim.controller.process"
local clock = require "moonshim.clock"
local err = require "moonshim.err"
local task = require "moonshim.task"

---@class moonshim.ProcessHandle
---@field id string exec id
---@field pid integer in the VM
local ProcessHandle = {}
ProcessHandle.__index = ProcessHandle

-- How long the last bytes, and the release of what it held, may take after the end.
local AFTERMATH = "2s"

---Waits for the end; what it held is released then. A cancelled wait leaves the process alone.
---@async
---@return integer? code
---@return moonshim.Err? err deadline_exceeded when its own timeout ended it
ProcessHandle.wait = err.guarded(function(self)
  local code = self._process:wait()
  if self._user then self._user:close() end
  pcall(task.deadline, AFTERMATH, self._process.released.wait, self._process.released)
  if self._process.reason == Process.OVERDUE then
    err.raise("deadline_exceeded", "%s was killed after %s", self.id, clock.text(self._process.timeout))
  end
  return code
end)

---@async
---@param signal string|integer
ProcessHandle.kill = err.guarded(function(self, signal)
  return self._process:kill(require("moonshim.signals").number(signal))
end)

---Ends its standard input.
ProcessHandle.close_stdin = err.guarded(function(self)
  self._process:close_stdin()
  return true
end)

---@async
ProcessHandle.resize = err.guarded(function(self, rows, columns)
  self._process:resize(rows, columns)
  return true
end)

---@return string? state created, running or stopped
---@return table|moonshim.Err more
ProcessHandle.state = err.guarded(function(self)
  local more = self._process:state()
  return more.state, more
end)

---Waits for the end and returns what was captured; "" for what was directed elsewhere.
---@async
---@return string? stdout
---@return string|moonshim.Err stderr
ProcessHandle.output = err.guarded(function(self)
  self._process:wait()
  local texts = {}
  for _, name in ipairs { "stdout", "stderr" } do
    local capture = self._captures[name]
    if capture then
      pcall(task.deadline, AFTERMATH, capture.wait, capture)
      capture:close()
    end
    texts[name] = capture and capture:text() or ""
  end
  return texts.stdout, texts.stderr
end)

local process_handle = {}

---@param process table of the container controller
---@param captures table<string, moonshim.Capture> by stream name
---@param user moonshim.Terminal? our own user's terminal, closed when the wait is over
---@return moonshim.ProcessHandle
function process_handle.of(process, captures, user)
  return setmetatable({ id = process.id, pid = process.pid, _process = process, _captures = captures, _user = user }, ProcessHandle)
end

return process_handle

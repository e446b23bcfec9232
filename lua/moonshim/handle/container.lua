---A container, as the public door hands it out: exec, signals, state, limits, and what a stop of it alone would do.
---
---The handle stays valid after the container has gone: then it answers from memory or with failed_precondition.
local err = require "moonshim.err"
local exec = require "moonshim.handle.exec"

---@class moonshim.ContainerHandle
---@field name string
local ContainerHandle = {}
ContainerHandle.__index = ContainerHandle

---Runs a program in the container: exec { "ls", "/", env = , cwd = , user = , stdin = , stdout = , stderr = , timeout = }.
---With timeout = "30s", or milliseconds, it is killed when that has passed since its start, and what it has started with it:
---`wait` answers nil and deadline_exceeded then, which is also the reason in its state and in its exit event.
---Streams are { fd = } or { path = } (a fifo, or a file that is there); stdout and stderr may also be "file:///path", stdout
---"binary:///program?key=value", which gets both (see moonshim.upstream). They are captured unless given, `false` leaves one
---out; stdin may be a text. With tty = true it has a terminal, of size = { rows = , columns = } if given: everything it prints
---is on stdout, and its input has no end, only Ctrl-D. With interactive = true it has our own user's terminal, raw until
---`wait` returns.
---@async
---@return moonshim.ProcessHandle?
---@return moonshim.Err?
ContainerHandle.exec = err.guarded(function(self, options) return exec.run(self._container, options) end)

---Waits for the end of its init.
---@async
---@return integer? code
---@return moonshim.Err?
ContainerHandle.wait = err.guarded(function(self) return (self._container:wait()) end)

---Sends a signal to its init; with `all` to every process of it. "exited" when there was nobody left to hear it.
---@async
---@param signal string|integer
---@param opts { all: boolean? }?
---@return "delivered"|"kept"|"exited"|nil
ContainerHandle.kill = err.guarded(function(self, signal, opts) return self._container:kill(signal, opts) end)

---What is known, at once.
---@return string? state creating, created, starting, running, stopping, stopped, failed, deleting, deleted
---@return table|moonshim.Err more { state, pid, code, reason, exited_at, ... }
ContainerHandle.state = err.guarded(function(self)
  local more = self._container:state()
  return more.state, more
end)

---Sets the size of its terminal; before its start the size is kept for it. failed_precondition when it has none, or has
---ended.
---@async
---@param rows integer
---@param columns integer
ContainerHandle.resize = err.guarded(function(self, rows, columns)
  self._container.init:resize(rows, columns)
  return true
end)

---Ends it by the ladder and releases everything of it. The pod goes on.
---@async
---@param opts { ladder: table[]?, reason: string? }?
ContainerHandle.stop = err.guarded(function(self, opts)
  self._container:stop(opts)
  return true
end)

---Releases everything; a running container is waited for, and never signalled.
---@async
ContainerHandle.delete = err.guarded(function(self) return self._container:delete() end)

---The plan of a goal for this container, for printing.
ContainerHandle.plan = err.guarded(function(self, goal) return (self._vm:plan(goal or "stop", self._container.owner)) end)

---Its processes, all of them: { { pid = , exec = }, ... }; exec is the id of one that we started ("" is init).
---@async
---@return { pid: integer, exec: string? }[]?
---@return moonshim.Err?
ContainerHandle.pids = err.guarded(function(self) return self._container:pids() end)
---What it has used: { cpu = { usage, throttling }, memory = { usage = { usage, limit, max }, ... }, pids, ... }, in bytes
---and nanoseconds. What nobody counts is absent.
---@async
---@return table?
---@return moonshim.Err?
ContainerHandle.stats = err.guarded(function(self) return self._container:stats() end)
---New limits, as a pod file's `resources` have them: update { memory = "128M", pids = 64 }. What is absent stays as it is,
---"unlimited" takes a limit away; all are applied or none.
---@async
---@param resources table
ContainerHandle.update = err.guarded(function(self, resources)
  self._container:update(require("moonshim.pod_spec").limits(resources))
  return true
end)

---Stops all its processes where they are, until `resume`. A signal that ends it, a stop and a delete resume it first.
---@async
ContainerHandle.pause = err.guarded(function(self)
  self._container:pause()
  return true
end)

---@async
ContainerHandle.resume = err.guarded(function(self)
  self._container:resume()
  return true
end)

local container_handle = {}

---@param vm table the VM's controller
---@param name string
---@param container table its controller
---@return moonshim.ContainerHandle
function container_handle.of(vm, name, container)
  return setmetatable({ name = name, _vm = vm, _container = container }, ContainerHandle)
end

return container_handle

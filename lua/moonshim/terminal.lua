---The terminal of our own user: what its size is, and raw while a program in a pod has it.
---
---Rules: its modes are given back by `close`, whatever happened before (core.terminal does the same when the process
---ends in a way that runs no Lua); while we are stopped (TSTP, CONT) the shell has them back; a size is told to whoever
---follows it one at a time, the newest last.
local err = require "moonshim.err"
local task = require "moonshim.task"

---@class moonshim.Terminal
---@field fd integer borrowed
---@field is_raw boolean
local Terminal = {}
Terminal.__index = Terminal

local terminal = {}

---Whether a descriptor is a terminal.
---@param fd integer
---@return boolean
function terminal.is(fd) return require("moonshim.core").terminal.is(fd) end

---The caller closes it. Raises failed_precondition when `fd` is no terminal.
---@param fd integer borrowed
---@param core table? stands in for moonshim.core in specs
---@return moonshim.Terminal
function terminal.open(fd, core)
  core = core or require "moonshim.core"
  if not core.terminal.is(fd) then err.raise("failed_precondition", "descriptor %d is no terminal", fd) end
  return setmetatable({ fd = fd, core = core, is_raw = false, handles = {} }, Terminal)
end

---@return { rows: integer, columns: integer }? size nil when nobody knows it
function Terminal:size()
  local rows, columns = self.core.terminal.size(self.fd)
  if rows and (rows > 0 or columns > 0) then return { rows = rows, columns = columns } end
end

---Whether it has hung up: its window was closed, or its connection is gone. Nobody sees or types anything any more.
---@return boolean
function Terminal:gone() return not self.core.terminal.is(self.fd) end

---@private
function Terminal:on(signal, fn)
  local handle = assert(require("luv").new_signal())
  handle:start(signal, fn)
  handle:unref()
  self.handles[#self.handles + 1] = handle
end

---Every byte that is typed goes through as it is, Ctrl-C too, and what is printed is printed as it is.
function Terminal:raw()
  if self.is_raw then return end
  err.try(self.core.terminal.raw(self.fd))
  self.is_raw = true
  self:on("sigtstp", function()
    local uv = require "luv"
    self.core.terminal.restore()
    uv.kill(uv.os_getpid(), "sigstop")
  end)
  self:on("sigcont", function()
    -- In the background this stops us once more, as it does any program, until the user asks for us.
    if self.is_raw then self.core.terminal.raw(self.fd) end
    if self.changed then self.changed() end
  end)
end

---Calls `tell(rows, columns)` with the size now and with every other that it gets, until the terminal is closed. `tell` runs
---in a task and may wait.
---@param tell async fun(rows: integer, columns: integer)
function Terminal:follow(tell)
  local busy, again
  function self.changed()
    again = true
    if busy then return end
    busy = true
    task.detach(function()
      while again and self.changed do
        again = false
        local size = self:size()
        if size then tell(size.rows, size.columns) end
      end
      busy = false
    end)
  end
  self:on("sigwinch", function() if self.changed then self.changed() end end)
  self.changed()
end

---Gives everything back. Idempotent.
function Terminal:close()
  if self.is_raw then self.core.terminal.restore() end
  self.is_raw, self.changed = false, nil
  for _, handle in ipairs(self.handles) do handle:close() end
  self.handles = {}
end

Terminal.__close = Terminal.close

return terminal

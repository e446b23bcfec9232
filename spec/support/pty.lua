---Runs a program on a pseudo terminal of its own, as a terminal emulator does: the specs type, read, resize and look at
---the modes. Nothing waits for ever.
local core = require "moonshim.core"
local uv = require "luv"

local pty = {}

local LIMIT = 600000

---@class spec.Pty
---@field out string what was printed so far
---@field pid integer
local Session = {}
Session.__index = Session

---@param program string
---@param args string[]
---@param opts { env: string[], rows: integer?, columns: integer?, cwd: string?, stdio: table? }
---stdio: { [0|1|2] = fd } in place of the terminal
---@return spec.Pty
function pty.spawn(program, args, opts)
  local master, slave = assert(core.terminal.open())
  assert(core.terminal.resize(master, opts.rows or 24, opts.columns or 80))
  local self = setmetatable({ out = "", slave = slave, before = nil }, Session)
  self.before = self:modes()
  local words = { "--ctty", program }
  table.move(args, 1, #args, 3, words)
  local stdio = opts.stdio or {}
  local pid
  self.handle, pid = uv.spawn("/usr/bin/setsid", {
    args = words, env = opts.env, cwd = opts.cwd, stdio = { stdio[0] or slave, stdio[1] or slave, stdio[2] or slave },
  }, function(code, signal)
    self.code, self.signal = code, signal
    self.handle:close()
  end)
  assert(self.handle, pid)
  self.pid = pid
  self.pipe = uv.new_pipe(false)
  assert(self.pipe:open(master)) -- the pipe's from here on
  self.pipe:read_start(function(_, data)
    if data then
      self.out = self.out .. data
    else -- an error, too: nobody is on the terminal any more
      self.pipe:close()
      self.ended = true
    end
  end)
  return self
end

---All modes of the terminal, as text.
function Session:modes()
  local pipe = assert(io.popen(("stty -g < /proc/%d/fd/%d"):format(uv.os_getpid(), self.slave)))
  local text = pipe:read "a"
  pipe:close()
  return text
end

function Session:is_raw() return self:modes() ~= self.before end

---Whether the program is stopped, as a shell sees it.
function Session:is_stopped()
  local file = io.open(("/proc/%d/stat"):format(self.pid))
  local text = file and file:read "a" or ""
  if file then file:close() end
  return text:find "%) [Tt] " ~= nil
end

---Turns the loop until `met()`.
function Session:until_(what, met)
  local late = false
  local timer, tick = uv.new_timer(), uv.new_timer()
  uv.update_time() -- timers count from when the loop last looked
  timer:start(LIMIT, 0, function() late = true end)
  tick:start(5, 5, function() end) -- for what no event of the loop tells
  local ok = met() -- what was seen once counts, also if it is over a moment later
  while not ok and not late do
    uv.run "once"
    ok = met()
  end
  timer:close()
  tick:close()
  uv.run "nowait"
  if ok then return end
  if not self.code then self.handle:kill "sigkill" end
  if not self.ended then self.pipe:close() end
  while not self.code do uv.run "once" end
  uv.run "nowait"
  error(("waited too long for %s; printed: %q"):format(what, self.out:sub(-2000)), 3)
end

---Waits until `text` was printed since the last time.
function Session:expect(text)
  local from = self.seen or 1
  self:until_(("%q"):format(text), function() return self.out:find(text, from, true) or self.code end)
  local _, stop = self.out:find(text, from, true)
  if not stop then -- it has ended; what it printed last may still be on its way
    self:hang_up()
    _, stop = self.out:find(text, from, true)
    if not stop then error(("it ended and did not print %q; printed: %q"):format(text, self.out:sub(-2000)), 2) end
  end
  self.seen = stop + 1
end

function Session:type(text) self.pipe:write(text) end

function Session:resize(rows, columns) assert(core.terminal.resize(self.slave, rows, columns)) end

function Session:kill(signal) uv.kill(self.pid, signal) end

---Waits for the end of the program.
---@return { code: integer, signal: integer, out: string, restored: boolean } restored: the modes are as they were
function Session:wait()
  self:until_("the end", function() return self.code end)
  local restored = self.slave ~= nil and not self:is_raw()
  self:hang_up()
  return { code = self.code, signal = self.signal, out = self.out, restored = restored }
end

---Lets go of the terminal's other end, and with `whole` of the terminal: its window is closed.
function Session:hang_up(whole)
  if self.slave then core.sys.close(self.slave) end
  self.slave = nil
  if whole and not self.ended then
    self.pipe:close()
    self.ended = true
  end
  self:until_("the end of the terminal", function() return self.ended end)
end

return pty

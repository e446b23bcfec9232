---A program of the user's beside us, with containerd's descriptors for a logging program: 3 and 4 are what it reads of stdout
---and stderr, 5 is closed (or gets a byte) when it is ready; 0, 1 and 2 are /dev/null. Its environment is CONTAINER_ID and
---CONTAINER_NAMESPACE, nothing else.
---
---Ownership  a Program owns our ends of its pipes and libuv's handle; the process is its own: closing the Program does not end
---           it, `kill` does. It is named by pid and start time, so that nobody else is ever signalled.
---Source     the "binary" logging of containerd (cio.BinaryIO), as its shims do it
local err = require "moonshim.err"
local task = require "moonshim.task"

local function uv() return require "luv" end
local function core() return require "moonshim.core" end

---@class moonshim.Program
---@field pid integer
---@field start_time integer
---@field stdout integer? our end of its pipe, to be lent; nil when closed
---@field stderr integer?
---@field ready moonshim.Signal? fires with true for a byte, false for the end
---@field ended moonshim.Signal? fires with code and signal; nil when it is not our child
local Program = {}
Program.__index = Program

local program = {}

local function close_fd(self, key)
  if self[key] then uv().fs_close(self[key]) end
  self[key] = nil
end

local function listen(self, fd)
  local pipe = uv().new_pipe(false)
  err.try(pipe:open(fd))
  self.pipe = pipe
  pipe:read_start(function(_, data)
    self.ready:fire(data ~= nil)
    self:close_ready()
  end)
end

---Starts it. On failure nothing is left.
---@param opts { path: string, args: string[], id: string, namespace: string }
---@return moonshim.Program
function program.start(opts)
  local self = setmetatable({ path = opts.path, ready = task.signal(), ended = task.signal() }, Program)
  local theirs = {}
  local ok, e = xpcall(function()
    local null = err.try(uv().fs_open("/dev/null", "r+", 0))
    theirs = { null }
    for i, name in ipairs { "stdout", "stderr" } do
      local ends = err.try(uv().pipe({}, {}))
      theirs[i + 1], self[name] = ends.read, ends.write
    end
    local ready = err.try(uv().pipe({ nonblock = true }, {}))
    theirs[4] = ready.write
    listen(self, ready.read)
    local handle, pid, name = uv().spawn(opts.path, {
      args = opts.args,
      env = { "CONTAINER_ID=" .. opts.id, "CONTAINER_NAMESPACE=" .. opts.namespace },
      stdio = { null, null, null, theirs[2], theirs[3], theirs[4] },
      detached = true, -- neither a terminal's Ctrl-C nor its end is meant for it
    }, function(code, signal)
      self.handle:close()
      self.ended:fire(code, signal)
    end)
    if not handle then err.try(nil, pid, name) end
    handle:unref()
    self.handle, self.pid = handle, pid
    self.start_time = err.try(core().sys.start_time(pid)) -- ours to reap, so it is there even when it has ended
  end, err.traceback)
  for _, fd in pairs(theirs) do uv().fs_close(fd) end
  if ok then return self end
  self:close()
  error(err.is(e) and err.wrap(e, "start the program " .. opts.path) or e, 0)
end

---One that an earlier process of ours started.
---@param facts { pid: integer, start_time: integer }
---@return moonshim.Program? program nil when it has ended
function program.open(facts)
  if core().sys.start_time(facts.pid) ~= facts.start_time then return nil end
  return setmetatable({ pid = facts.pid, start_time = facts.start_time }, Program)
end

---Whether it has ended or is about to. A process closes its files before anyone is told of its end; the kernel's flags say so
---already (PF_EXITING, proc(5), field 9).
---@return boolean
function Program:ending()
  if self.ended and self.ended:fired() then return true end
  local file = io.open(("/proc/%d/stat"):format(self.pid), "r")
  local text = file and file:read "a" or ""
  if file then file:close() end
  local state, flags = text:match "^.*%) (%a) %-?%d+ %-?%d+ %-?%d+ %-?%d+ %-?%d+ (%d+) "
  return not state or state == "Z" or math.tointeger(tonumber(flags)) & 4 ~= 0
end

---Waits for its end. nil, nil: nobody can tell how it ended.
---@async
---@return integer? code
---@return integer? signal
function Program:wait()
  if self.ended then
    if not self.ended:fired() then self.handle:ref() end -- who waits keeps the loop alive, the process alone does not
    local how = table.pack(pcall(self.ended.wait, self.ended))
    if not self.ended:fired() then self.handle:unref() end
    if not how[1] then error(how[2], 0) end
    return table.unpack(how, 2, how.n)
  end
  return task.await(function(resume)
    local watch, e = core().sys.watch_process({ pid = self.pid, start_time = self.start_time }, function() resume() end)
    if watch then return function() watch:close() end end
    if err.is(e, "gone") then resume() else resume.fail(err.from(e)) end
    return nil
  end)
end

function Program:kill()
  local ok, e = core().sys.kill_process { pid = self.pid, start_time = self.start_time, signal = 9 }
  if not ok and not err.is(e, "gone") then error(err.from(e), 0) end
end

---Closes our end of one of its pipes: it was lent and the borrower has its own, or nothing more will come.
---@param stream "stdout"|"stderr"
function Program:close_stream(stream) close_fd(self, stream) end

---@private
function Program:close_ready()
  if self.pipe then self.pipe:close() end
  self.pipe = nil
end

---Closes all our ends; the process goes on. Idempotent.
function Program:close()
  self:close_stream "stdout"
  self:close_stream "stderr"
  self:close_ready()
end

return program

---Streams of a process in memory: its output kept, its input fed; what `exec` does when it is not given descriptors.
local err = require "moonshim.err"
local task = require "moonshim.task"

---@class moonshim.Capture
---@field fd integer the end to write to; give it away, then call `release`
---@field cut boolean whether more came than is kept
local Capture = {}
Capture.__index = Capture

local capture = {}

---What is kept at most; what comes beyond it is read and dropped, so that the process is never held up.
capture.LIMIT = 4 << 20

---@param limit integer?
---@return moonshim.Capture
function capture.new(limit)
  local uv = require "luv"
  local fds = err.try(uv.pipe({ nonblock = true }, {}))
  local self = setmetatable({
    parts = {}, size = 0, limit = limit or capture.LIMIT, cut = false, fd = fds.write, over = task.signal(),
  }, Capture)
  self.pipe = uv.new_pipe(false)
  err.try(self.pipe:open(fds.read))
  self.pipe:read_start(function(_, data)
    if data then self:take(data) else self:finish() end
  end)
  return self
end

---@private
function Capture:take(data)
  local room = self.limit - self.size
  if #data > room then
    data, self.cut = data:sub(1, room), true
  end
  if data ~= "" then self.parts[#self.parts + 1] = data end
  self.size = self.size + #data
end

---@private
function Capture:finish()
  if self.pipe then self.pipe:close() end
  self.pipe = nil
  self.over:fire()
end

---Closes our own copy of the end that was given away, so that the last writer's end is seen. Idempotent.
function Capture:release()
  if self.fd then require("luv").fs_close(self.fd) end
  self.fd = nil
end

---Lets everything go. Idempotent.
function Capture:close()
  self:release()
  self:finish()
end

---What came so far; everything, once the writers have closed.
---@return string
function Capture:text()
  local text = table.concat(self.parts)
  self.parts = { text }
  return text
end

---Waits until every writer has closed.
---@async
function Capture:wait() self.over:wait() end

---@class moonshim.Feed
---@field fd integer the end to read from; give it away, then call `release`
local Feed = {}
Feed.__index = Feed

---Input that is `text` and then ends. A process that does not read it to the end is no error.
---@param text string
---@return moonshim.Feed
function capture.feed(text)
  local uv = require "luv"
  local fds = err.try(uv.pipe({}, { nonblock = true }))
  local self = setmetatable({ fd = fds.read, pipe = uv.new_pipe(false) }, Feed)
  err.try(self.pipe:open(fds.write))
  self.pipe:write(text, function() self:finish() end)
  return self
end

---@private
function Feed:finish()
  if self.pipe then self.pipe:close() end
  self.pipe = nil
end

---Closes our own copy of the end that was given away. Idempotent.
function Feed:release()
  if self.fd then require("luv").fs_close(self.fd) end
  self.fd = nil
end

---Lets everything go. Idempotent.
function Feed:close()
  self:release()
  self:finish()
end

return capture

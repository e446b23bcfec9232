---What several containers print, on one descriptor: whole lines, each behind its container's name.
---
---A slow reader of our output slows the containers down, never the loop: at most HIGH bytes wait per descriptor, then
---the pipes from the containers are left unread. A reader that is gone is a place that takes everything.
local uv = require "luv"

local output = {}

local HIGH, LOW = 256 * 1024, 64 * 1024
local MAX_LINE = 64 * 1024 -- a longer line is cut into pieces

-- Sink: one descriptor of ours ---------------------------------------------------------------------------------------

local Sink = {}
Sink.__index = Sink

---Pipes and terminals are opened anew: the flags of the descriptor that we were handed belong to others, too.
local function reopen(fd)
  local stat = uv.fs_fstat(fd)
  local kind = uv.guess_handle(fd)
  if not stat or stat.type == "socket" or not (kind == "tty" or kind == "pipe") then return nil end
  local own = uv.fs_open("/proc/self/fd/" .. fd, uv.constants.O_WRONLY | uv.constants.O_NONBLOCK, 0)
  if not own then return nil end
  local pipe = uv.new_pipe(false)
  if pipe:open(own) then return pipe end
  pipe:close()
  uv.fs_close(own)
end

---@param fd integer borrowed
local function new_sink(fd)
  local stat = uv.fs_fstat(fd)
  return setmetatable({
    fd = fd, stream = reopen(fd), regular = stat ~= nil and stat.type == "file",
    waiting = 0, queue = {}, busy = false, gone = stat == nil, readers = {},
  }, Sink)
end

function Sink:written(bytes)
  self.waiting = self.waiting - bytes
  if self.waiting == 0 and self.on_empty then self.on_empty() end
  if self.waiting > LOW then return end
  for again in pairs(self.readers) do
    self.readers[again] = nil
    again()
  end
end

function Sink:close()
  self.gone, self.queue = true, {}
  if self.stream and not self.stream:is_closing() then self.stream:close() end
end

---Sends the queue of a descriptor that is no stream of ours, one write at a time on libuv's threads.
function Sink:pump()
  local text = not self.busy and table.remove(self.queue, 1)
  if not text then return end
  self.busy = true
  local function step(at)
    uv.fs_write(self.fd, text:sub(at), -1, function(why, n)
      if why or at + n > #text then
        self.gone = self.gone or why ~= nil
        self.busy = false
        self:written(#text)
        self:pump()
      else
        step(at + n)
      end
    end)
  end
  step(1)
end

function Sink:write(text)
  if self.gone or text == "" then return end
  if self.regular then
    uv.fs_write(self.fd, text, -1)
    return
  end
  self.waiting = self.waiting + #text
  if self.stream then
    self.stream:write(text, function(why)
      self.gone = self.gone or why ~= nil
      self:written(#text)
    end)
  else
    table.insert(self.queue, text)
    self:pump()
  end
end

---@param again fun() called once when there is room
---@return boolean full
function Sink:full(again)
  if self.gone or self.waiting < HIGH then return false end
  self.readers[again] = true
  return true
end

-- Lines ----------------------------------------------------------------------------------------------------------------

---Cuts bytes into lines behind a prefix. Pure.
---@param prefix string
---@return fun(data: string?): string nil ends: what is left becomes a line
function output.lines(prefix)
  local rest = ""
  return function(data)
    if not data then
      local last = rest
      rest = ""
      return last == "" and "" or prefix .. last .. "\n"
    end
    local out = {}
    rest = rest .. data
    local from = 1
    while true do
      local stop = rest:find("\n", from, true)
      if not stop then break end
      out[#out + 1] = prefix .. rest:sub(from, stop)
      from = stop + 1
    end
    rest = rest:sub(from)
    while #rest > MAX_LINE do
      out[#out + 1] = prefix .. rest:sub(1, MAX_LINE) .. "\n"
      rest = rest:sub(MAX_LINE + 1)
    end
    return table.concat(out)
  end
end

-- The pipes from the containers ----------------------------------------------------------------------------------------

---@class moonshim.cli.Output
local Output = {}
Output.__index = Output

---@return moonshim.cli.Output
function output.new() return setmetatable({ sinks = {}, sources = {}, open = 0, ends = {} }, Output) end

---A pipe whose bytes come out as lines on descriptor `to`.
---@param prefix string
---@param to integer 1 or 2
---@return integer fd the end to write to; the caller closes it (`Output:release`) once it has been handed on
function Output:pipe(prefix, to)
  self.sinks[to] = self.sinks[to] or new_sink(to)
  local sink, cut = self.sinks[to], output.lines(prefix)
  local fds = assert(uv.pipe({ nonblock = true }, {}))
  local source = uv.new_pipe(false)
  assert(source:open(fds.read))
  self.sources[source], self.open = source, self.open + 1
  self.ends[#self.ends + 1] = fds.write

  local read
  function read()
    source:read_start(function(_, data)
      sink:write(cut(data))
      if not data then
        source:close()
        self.sources[source], self.open = nil, self.open - 1
        self:check()
      elseif sink:full(read) then
        source:read_stop()
      end
    end)
  end
  read()
  return fds.write
end

---Closes our own copies of the ends that were given out, so that the last writer's end is seen.
function Output:release()
  for _, fd in ipairs(self.ends) do uv.fs_close(fd) end
  self.ends = {}
end

---Drops what is not written yet and lets everything go; `finish` calls back at once.
function Output:abandon()
  self:release()
  for _, source in pairs(self.sources) do source:close() end
  for _, sink in pairs(self.sinks) do sink:close() end
  self.sources, self.open = {}, 0
  local done = self.done
  self.done = nil
  if done then done() end
end

---@param done fun() called once when every pipe has ended and everything is written
function Output:finish(done)
  self:release()
  self.done = done
  self:check()
end

function Output:check()
  if not self.done or self.open > 0 then return end
  for _, sink in pairs(self.sinks) do
    if sink.waiting > 0 and not sink.gone then
      sink.on_empty = function() self:check() end
      return
    end
  end
  self:abandon()
end

return output

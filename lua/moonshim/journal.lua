--- journal - one append-only log of records; everything the ledger knows is a fold of it.
--
-- Always  1. one writer: whoever holds the lock. A second one is refused with failed_precondition, naming the holder.
--         2. a record is in the journal whole or not at all: one write each, checked on reading (journal/record.lua).
--            What a failed write left behind is cut off again before anything else is appended.
--         3. reading stops at the first bad record, for good: that and all behind it is cut off by the writer.
-- An append survives the death of the process, not of the machine; the run folder is on tmpfs, and what a boot ends is gone.

local err = require "moonshim.err"
local record = require "moonshim.journal.record"

local journal = {}

---Bytes of journal that are read at all; the ledger compacts long before.
local MAX_JOURNAL = 256 * 1024 * 1024

---@class moonshim.Journal
---@field lost { bytes: integer, reason: string }? what the last fold found behind the good records

-- Calls fn for every good record; returns the length of the good part, and what stopped it when there was more.
local function scan(bytes, fn)
  local at = 1
  while at <= #bytes do
    local value, next_at = record.decode(bytes, at)
    if not value then
      return at - 1, { bytes = #bytes - at + 1, reason = next_at }
    end
    fn(value)
    at = next_at
  end
  return #bytes, nil
end

local function nothing() end

-- ---------------------------------------------------------------------------------------------------------------

---@class moonshim.MemoryJournal: moonshim.Journal
local Memory = {}
Memory.__index = Memory

---A journal in memory, for the simulation, for specs and for `moonshim plan`.
---@param bytes string? what is in it already
---@return moonshim.Journal
function journal.memory(bytes)
  local self = setmetatable({ parts = {}, size = 0 }, Memory)
  if bytes and #bytes > 0 then
    local good, lost = scan(bytes, nothing)
    self.parts[1], self.size, self.lost = bytes:sub(1, good), good, lost
  end
  return self
end

function Memory:append(value)
  if self.closed then
    err.raise("failed_precondition", "the journal is closed")
  end
  local line = record.encode(value)
  self.parts[#self.parts + 1] = line
  self.size = self.size + #line
end

function Memory:fold(fn)
  scan(self:bytes(), fn)
end

---@return string
function Memory:bytes()
  local bytes = table.concat(self.parts)
  self.parts = { bytes }
  return bytes
end

function Memory:rewrite(values)
  local parts, size = {}, 0
  for i, value in ipairs(values) do
    parts[i] = record.encode(value)
    size = size + #parts[i]
  end
  self.parts, self.size = parts, size
end

function Memory:close()
  self.closed = true
end

-- ---------------------------------------------------------------------------------------------------------------

---@class moonshim.FileJournal: moonshim.Journal
local File = {}
File.__index = File

local function read_all(uv, fd, path)
  local parts, total = {}, 0
  while true do
    local chunk = err.try(uv.fs_read(fd, 65536, total))
    if chunk == "" then
      return table.concat(parts)
    end
    parts[#parts + 1] = chunk
    total = total + #chunk
    if total > MAX_JOURNAL then
      err.raise("data_loss", "%s is no journal: more than %d bytes", path, MAX_JOURNAL)
    end
  end
end

local function core_lock(path, opts)
  return require("moonshim.core").sys.lock_file(path, opts)
end

---Opens (and makes, unless `create = false`) the journal of one VM and locks it; the lock is the file beside it, so
---that the journal can be rewritten under it. With `read_only` nothing is locked, made or cut.
---@param path string
---@param opts { create: boolean?, read_only: boolean?, lock: (fun(path: string, opts: table): any, any)? }?
---@return moonshim.Journal
function journal.file(path, opts)
  opts = opts or {}
  local uv = require "luv"
  local self = setmetatable({ uv = uv, path = path, read_only = opts.read_only }, File)
  local create = opts.create ~= false
  if not self.read_only then
    if not create then
      err.try(uv.fs_stat(path)) -- before the lock file would be made
    end
    self.lock = err.try((opts.lock or core_lock)(path .. ".lock", { create = true, mode = 384 }))
  end
  local flags = self.read_only and "r" or create and "a+" or uv.constants.O_RDWR | uv.constants.O_APPEND
  local fd, why, name = uv.fs_open(path, flags, 384) -- 0600; libuv adds O_CLOEXEC
  if not fd then
    self:close()
    err.try(nil, why, name)
  end
  self.fd = fd
  return self
end

-- Cut off what is bad. When whole records may stand behind the bad one, that part is kept beside the journal: a torn tail
-- is the ordinary end of a killed writer, damage in the middle is not, and somebody will want to look at it.
local function cut(self, bytes, good)
  local rest = bytes:sub(good + 1)
  if rest:find("\n", 1, true) then
    local fd = self.uv.fs_open(self.path .. ".bad", "w", 384)
    if fd then
      self.uv.fs_write(fd, rest, 0)
      self.uv.fs_close(fd)
    end
  end
  err.try(self.uv.fs_ftruncate(self.fd, good))
end

function File:fold(fn)
  local bytes = read_all(self.uv, self.fd, self.path)
  local good, lost = scan(bytes, fn)
  self.lost = lost or self.lost
  if lost and not self.read_only then
    cut(self, bytes, good)
  end
  self.size = good
end

---Raises when the record could not be written whole; then it is not in the journal.
function File:append(value)
  if self.read_only or not self.fd then
    err.raise("failed_precondition", "the journal is %s", self.fd and "open for reading only" or "closed")
  elseif not self.size then
    self:fold(nothing)
  end
  if self.torn then -- an earlier write failed half way and could not be taken back at once
    err.try(self.uv.fs_ftruncate(self.fd, self.size))
    self.torn = nil
  end
  local line = record.encode(value)
  local n, why, name = self.uv.fs_write(self.fd, line, -1)
  if n ~= #line then
    self.torn = not self.uv.fs_ftruncate(self.fd, self.size)
    err.try(nil, ("%s: write %s"):format(why or "ENOSPC: no space left on device", self.path), name or "ENOSPC")
  end
  self.size = self.size + n
end

---Puts these records in the place of all there are, in one step (a new file, renamed over the old one).
---@param values table[]
function File:rewrite(values)
  local uv, fresh = self.uv, self.path .. ".new"
  local fd = err.try(uv.fs_open(fresh, uv.constants.O_RDWR | uv.constants.O_APPEND | uv.constants.O_CREAT
    | uv.constants.O_TRUNC, 384))
  local size = 0
  local ok, e = pcall(function()
    for _, value in ipairs(values) do
      local line = record.encode(value)
      local n, why, name = uv.fs_write(fd, line, -1)
      if n ~= #line then
        err.try(nil, ("%s: write %s"):format(why or "ENOSPC: no space left on device", fresh), name or "ENOSPC")
      end
      size = size + n
    end
    err.try(uv.fs_rename(fresh, self.path))
  end)
  if not ok then
    uv.fs_close(fd)
    uv.fs_unlink(fresh)
    error(e, 0)
  end
  uv.fs_close(self.fd)
  self.fd, self.size, self.torn = fd, size, nil
end

---Gives up the lock and the file. Any number of times.
function File:close()
  if self.fd then
    self.uv.fs_close(self.fd)
    self.fd = nil
  end
  if self.lock then
    self.lock:close()
    self.lock = nil
  end
end

return journal

--- What the oci modules ask the host's file system. Handed in, so that specs need no files.
--
-- Layer    oci: luv and moonshim.core, nothing else. Everything waits in a task, nothing blocks the loop.
local err = require "moonshim.err"
local task = require "moonshim.task"

---@class moonshim.oci.Files
---@field realpath fun(path: string): string follows every link; raises not_found
---@field kind fun(path: string): "directory"|"file"|"block"|"char"|"fifo"|"socket"|"link"
---@field detect fun(path: string): { format: string, inner: string?, size: integer }
---@field blank fun(path: string): boolean nothing but zeros where a file system would start
---@field access fun(path: string, write: boolean) raises when we may not read it, or write it
local files = {}

-- A file system, a partition table or an archive shows itself in here.
local HEAD = 128 * 1024

-- luv's "ENOENT: no such file ..." as an error value.
local function failure(text)
  local _, e = pcall(err.try, nil, text)
  return e
end

local function wait(start, ...)
  local args = table.pack(...)
  return task.await(function(resume)
    local over = false
    args[args.n + 1] = function(e, value)
      over = true -- luv has forgotten the request, even when the wait was just interrupted
      if e then return resume.fail(failure(e)) end
      resume(value)
    end
    local request = err.try(start(table.unpack(args, 1, args.n + 1)))
    return function()
      if not over then request:cancel() end
    end
  end)
end

function files.realpath(path)
  return wait(require("luv").fs_realpath, path)
end

function files.kind(path)
  return wait(require("luv").fs_stat, path).type
end

function files.detect(path)
  local core = require "moonshim.core"
  return task.callback(function(cb) return core.sys.detect_image(path, cb) end)
end

function files.access(path, write)
  -- Also root is told no where the file system, or the file itself, can only be read. luv says yes or no, not why.
  if wait(require("luv").fs_access, path, write and "rw" or "r") then return end
  err.raise("permission_denied", "%s cannot be %s%s", path, write and "written" or "read",
    write and "; make it, or its file system, writable" or "")
end

function files.blank(path)
  local uv = require "luv"
  local head = task.shield(function() -- else a cancel in between loses the descriptor
    local fd = wait(uv.fs_open, path, "r", 0)
    local ok, text = pcall(wait, uv.fs_read, fd, HEAD, 0)
    wait(uv.fs_close, fd)
    if not ok then error(text, 0) end
    return text
  end)
  return not head:find "[^%z]"
end

return files

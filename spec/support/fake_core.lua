--- support/fake_core - what of moonshim.core touches the outside, over support/fake_vm: bridge, relay, sys, files.
---
---   fake_core.new(f)      moonshim.core with these three replaced; all else in it is the real thing
---   fake_core.files(f)    what the oci modules ask of the host's files, by f.missing, f.links, f.read_only; told to f.accesses
local core = require "moonshim.core"
local err = require "moonshim.err"
local fake_guest = require "support.fake_guest"
local messages = require "moonshim.guest.messages"
local task = require "moonshim.task"

local fake_core = {}

local OPS = {}
for op, number in pairs(messages.types) do OPS[number] = op end

local function refuse(_, hresult, text) error({ hresult = hresult, text = text }, 0) end

-- core.bridge: answers of the agent, later, from tasks of their own.
local Bridge = {}
Bridge.__index = Bridge

function Bridge:call(number, payload, within, cb)
  if self.ended then return nil, err.new("unavailable", "the bridge is lost") end
  self.last = self.last + 1
  local id, f, op = self.last, self.fake, OPS[number]
  local call = { cb = cb }
  self.pending[id] = call
  local function done(...)
    if self.pending[id] ~= call then return end
    self.pending[id] = nil
    cb(...)
  end
  call.task = task.detach(function()
    local request = core.json.decode(payload)
    local name, detail = fake_guest.call(op, request)
    local hresult, answer = 0, nil
    local ok, e = pcall(task.deadline, within or 1 << 40, function()
      answer = op == "wait" and fake_guest.answer(f, op, request)
        or f:outside(name, detail, function() return fake_guest.answer(f, op, request) end, refuse)
      local late = f.late and f.late(name)
      if late then task.sleep(late) end
    end)
    if not ok and type(e) == "table" and e.hresult and not err.is(e) then
      ok, hresult, answer = true, e.hresult, { ErrorMessage = e.text }
    elseif not ok and type(e) == "string" then
      error(e, 0)
    end
    if not ok then return done(nil, err.new(err.is(e, "cancelled") and "unavailable" or "deadline_exceeded", "no answer")) end
    answer.Result = hresult > 0x7fffffff and hresult - 0x100000000 or hresult
    done(assert(core.json.encode(answer)))
  end)
  return id
end

function Bridge:abandon(id)
  local call = self.pending[id]
  self.pending[id] = nil
  if call then call.task:cancel() end
end

function Bridge:lose(e)
  if self.ended then return end
  self.ended = true
  local pending = self.pending
  self.pending = {}
  for _, call in pairs(pending) do
    call.task:cancel()
    call.cb(nil, e)
  end
  self.handlers.on_lost(e)
end

function Bridge:close() self:lose(err.new("unavailable", "closed")) end
function Bridge:state() return self.ended and "closed" or "open" end

-- core.relay
local function relay(f)
  return {
    open = function(_, want)
      if f.refuse_streams then return nil, err.new("resource_exhausted", "no more descriptors") end
      local io = { want = want }
      f.streams[io] = want.name
      f.opened[#f.opened + 1] = want
      local function close()
        f.streams[io] = nil
        io.closed = true
      end
      function io.exited(_, ms, most) -- a fake output that takes its time does not move meanwhile
        if most < ms then f:mistake("a drain may be idle for longer than it may take") end
        f.calls[#f.calls + 1] = ("relay.drain %d"):format(ms)
        if io.drained or io.closed then return end
        io.drained = true
        task.detach(function()
          task.sleep(io.is_gone and 0 or math.min(f.drain_takes or 0, ms))
          close()
          want.on_drained { stdout = 0, stderr = 0, cut = (f.drain_takes or 0) > ms }
        end)
      end
      function io.gone() io.is_gone = true end
      function io.close_stdin() f.stdin_closed = (f.stdin_closed or 0) + 1 end
      function io.close() close() end
      function io.counts() return {} end
      return io
    end,
    close = function() end,
  }
end

-- core.sys
local function sys(f)
  local n = 0
  local function later(cb, ...)
    local args = table.pack(...)
    task.detach(function() cb(table.unpack(args, 1, args.n)) end)
    return true
  end
  return {
    random_hex = function(bytes)
      n = n + 1
      local text = ("%x"):format(n)
      return ("0"):rep(2 * bytes - #text) .. text
    end,
    boot_id = function() return "boot-1" end,
    mkdir_p = function(path)
      f.made[path] = true
      return true
    end,
    make_sparse = function(path, _, cb)
      f.files[path] = true
      return later(cb, true)
    end,
    remove_tree = function(path, cb)
      f.files[path] = nil
      for made in pairs(f.made) do
        if made == path or made:sub(1, #path + 1) == path .. "/" then f.made[made] = nil end
      end
      return later(cb, true)
    end,
  }
end

-- What the oci modules ask of the host's files: names ending in .ext4, .img or .conf are files, what is below /dev is a
-- device (/dev/sd* a disk), everything else is a folder.
function fake_core.files(f)
  local function present(path)
    if f.missing[path] then err.raise("not_found", "ENOENT: no such file or directory: %s", path) end
    return path
  end
  return {
    realpath = function(path) return f.links[path] or present(path) end,
    kind = function(path)
      if present(path):find "^/dev/sd" then return "block" end
      if path:find "^/dev/" then return "char" end
      return path:find("%.ext4$") and "file" or (path:find("%.img$") or path:find("%.conf$")) and "file" or "directory"
    end,
    detect = function(path) return { format = path:find("%.ext4$") and "ext4" or "unknown", size = 1 << 20 } end,
    blank = function() return true end,
    access = function(path, write)
      table.insert(f.accesses, (write and "write " or "read ") .. path)
      if write and f.read_only[present(path)] then err.raise("permission_denied", "cannot be written: %s", path) end
    end,
  }
end

function fake_core.new(f)
  return setmetatable({
    sys = sys(f),
    relay = function() return relay(f) end,
    bridge = function(_, handlers)
      f.bridge = setmetatable({ fake = f, pending = {}, last = (handlers.first_id or 1) - 1, handlers = handlers }, Bridge)
      f.bridges[#f.bridges + 1] = f.bridge
      return f.bridge
    end,
  }, { __index = core })
end

return fake_core

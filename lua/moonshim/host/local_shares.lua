--- The "9P server" of the local host: hands out detached mounts over the 9P port's socket.
--
-- Protocol   the guest dials, sends {"aname":"<share>"} and a newline, and gets one answer:
--            "D"            with a descriptor: a folder's tree, to be put on the mount point with move_mount
--            "F<name>\n"    with a descriptor: the tree of one file, called <name>
--            "E<text>"      no
-- Layer      host: moonshim.core, luv (one timer per connection). Runs in loop callbacks; waits for nobody.
-- Always     what is asked is at most MAX_ASK bytes and comes within ASK_WITHIN, or the connection is closed.
local err = require "moonshim.err"
local host = require "moonshim.host"

local shares = {}

---@class moonshim.host.LocalShares
local Shares = {}
Shares.__index = Shares

local MAX_ASK = 4096
local ASK_WITHIN = 5000

local function core() return require "moonshim.core" end

function shares.new() return setmetatable({ table = {} }, Shares) end

local function check_name(what, name)
  if type(name) ~= "string" or name == "" or #name > 255 or name:find "[/%z\n]" or name == "." or name == ".." then
    err.raise("invalid_argument", "%s %q is not allowed", what, tostring(name))
  end
  return name
end

--- Adds a share; Settings of an HCS Plan9Share. A restricted share names exactly one file here.
---@return table found
function Shares:add(settings)
  local name = check_name("share name", settings.AccessName or settings.Name)
  if type(settings.Path) ~= "string" or settings.Path:sub(1, 1) ~= "/" then
    err.raise("invalid_argument", "share %s: Path must be absolute", name)
  end
  local flags, file = settings.Flags or 0, nil
  if flags & host.SHARE_RESTRICT ~= 0 then
    local files = settings.AllowedFiles or {}
    if #files ~= 1 then err.raise("unimplemented", "share %s: the host \"local\" restricts a share to one file, not %d", name, #files) end
    file = check_name("file name", files[1])
  end
  if self.table[name] then err.raise("already_exists", "there is a share %s already", name) end
  self.table[name] = { path = settings.Path, file = file, read_only = flags & host.SHARE_READ_ONLY ~= 0 }
  return {}
end

--- Forgets a share; mounts that were handed out are the guest's. An unknown name is fine.
function Shares:remove(settings)
  self.table[check_name("share name", settings.AccessName or settings.Name)] = nil
  return {}
end

local function refuse(stream, text)
  stream:write("E" .. tostring(text):gsub("%c", " "):sub(1, 400), function() stream:close() end)
end

local function hand_out(stream, share)
  local sys = core().sys
  local path = share.file and share.path:gsub("/$", "") .. "/" .. share.file or share.path
  local want = { path = path, read_only = share.read_only, recursive = share.file == nil, file = share.file ~= nil }
  local started, e = sys.open_tree(want, function(fd, why)
    if not fd then return refuse(stream, why and why.message or "cannot be opened") end
    local greeting = share.file and "F" .. share.file .. "\n" or "D"
    local sent = stream:send_fd(fd, greeting, function()
      sys.close(fd)
      stream:close()
    end)
    if not sent then
      sys.close(fd)
      stream:close()
    end
  end)
  if started == nil and e then refuse(stream, e.message) end
end

---@private
function Shares:answer(stream, line)
  local ask = core().json.decode(line)
  local name = type(ask) == "table" and ask.aname
  if type(name) ~= "string" then return refuse(stream, "what was asked is not {\"aname\":\"...\"}") end
  local share = self.table[name]
  if not share then return refuse(stream, ("there is no share %q"):format(name)) end
  hand_out(stream, share)
end

---@private
function Shares:take(stream)
  local uv = require "luv"
  local timer, asked, done = uv.new_timer(), {}, false
  local size = 0
  local function finish()
    done = true
    self.open[stream] = nil
    if not timer:is_closing() then timer:close() end
  end
  self.open[stream] = function()
    finish()
    stream:close()
  end
  timer:start(ASK_WITHIN, 0, function()
    if done then return end
    finish()
    refuse(stream, "nothing was asked in time")
  end)
  timer:unref()
  stream:read(function(bytes, e)
    if done then return end
    if not bytes or e then
      finish()
      return stream:close()
    end
    asked[#asked + 1], size = bytes, size + #bytes
    local line = table.concat(asked):match "^([^\n]*)\n"
    if line or size > MAX_ASK then
      finish()
      stream:stop()
      if not line or #line > MAX_ASK then return refuse(stream, "what was asked is too long") end
      self:answer(stream, line)
    end
  end)
end

--- Listens on the socket `path` until `close`.
function Shares:serve(path)
  if self.listener then return end
  self.open = {}
  self.listener = err.try(core().transport.listen_unix(path, { mode = 0x180 }, function(stream) self:take(stream) end))
end

--- Idempotent.
function Shares:close()
  if not self.listener then return end
  self.listener:close()
  self.listener = nil
  for _, stop in pairs(self.open) do stop() end
  self.open = {}
end

return shares

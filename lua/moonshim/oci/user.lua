--- "name", "uid", "name:group", "uid:gid" and mixtures.
local err = require "moonshim.err"
local quote = require("moonshim.guest.layout").quote

local user = {}

local MAX_ID = 0xfffffffe

--- The `user` object of an OCI process. Numbers on both sides are settled here; a name, or a number whose group only
--- the image's passwd knows, is looked up by the guest.
---@param text string|integer|nil
---@param where string
---@return table
function user.parse(text, where)
  if text == nil then return { uid = 0, gid = 0 } end
  if math.type(text) == "integer" then text = ("%d"):format(text) end
  if type(text) ~= "string" or text == "" or text:find "[%s%c]" then
    err.raise("invalid_argument", "%s: %s is no user; write name, uid, name:group or uid:gid", where, quote(tostring(text)))
  end
  local who, group, more = text:match "^([^:]+):?([^:]*)(.*)$"
  if not who or more ~= "" or text:sub(-1) == ":" then
    err.raise("invalid_argument", "%s: %s is no user; write name, uid, name:group or uid:gid", where, quote(text))
  end
  for _, part in ipairs { who, group } do
    if part:find "^%d+$" and (#part > 10 or tonumber(part) > MAX_ID) then
      err.raise("invalid_argument", "%s: %s is no user or group number", where, part)
    end
  end
  if who:find "^%d+$" and group:find "^%d+$" then return { uid = math.tointeger(tonumber(who)), gid = math.tointeger(tonumber(group)) } end
  return { uid = 0, gid = 0, username = text }
end

return user

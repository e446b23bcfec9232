--- Environment lists: "NAME=value" entries, checked and merged by name.
local err = require "moonshim.err"
local quote = require("moonshim.guest.layout").quote

local env = {}

-- The kernel takes no longer entry of an environment and no longer argument: MAX_ARG_STRLEN, 32 pages, less the end of the
-- text. How much all of them may be together depends on the stack of the process.
env.LONGEST = 32 * 4096 - 1

--- Raises `invalid_argument` when `entry` is no "NAME=value". "A=" is fine.
---@param entry any
---@param where string "process.env[3]"
function env.check(entry, where)
  if type(entry) ~= "string" then err.raise("invalid_argument", "%s: an entry must be text, not %s", where, type(entry)) end
  if entry:find("\0", 1, true) then
    err.raise("invalid_argument", "%s: %s holds a NUL byte", where, quote(entry))
  end
  local at = entry:find("=", 1, true)
  if not at then err.raise("invalid_argument", "%s: %s has no '=' (write NAME=value)", where, quote(entry)) end
  if at == 1 then err.raise("invalid_argument", "%s: %s has no name before '='", where, quote(entry)) end
  if #entry > env.LONGEST then
    err.raise("invalid_argument", "%s: %s has %d bytes, the kernel takes at most %d", where, quote(entry:sub(1, math.min(at - 1, 100))),
      #entry, env.LONGEST)
  end
end

--- A map or a list as a list; a map is put in order, so that the same input gives the same document.
---@param v table?
---@param where string
---@return string[]
function env.list(v, where)
  local out = {}
  if v == nil then return out end
  if type(v) ~= "table" then err.raise("invalid_argument", "%s must be a list of NAME=value or a table, not %s", where, type(v)) end
  if #v > 0 then
    for i, entry in ipairs(v) do
      env.check(entry, ("%s[%d]"):format(where, i))
      out[i] = entry
    end
    return out
  end
  for name, value in pairs(v) do
    if type(name) ~= "string" or name:find "[=%z]" or name == "" then
      err.raise("invalid_argument", "%s: %s is no name of a variable", where, quote(tostring(name)))
    end
    if math.type(value) == "integer" then value = ("%d"):format(value) end
    if type(value) ~= "string" then err.raise("invalid_argument", "%s.%s must be text, not %s", where, name, type(value)) end
    out[#out + 1] = name .. "=" .. value
    env.check(out[#out], where .. "." .. name)
  end
  table.sort(out)
  return out
end

--- Later lists win; a variable keeps the place where it was first seen.
---@vararg string[]
---@return string[]
function env.merge(...)
  local out, at = {}, {}
  for _, entries in ipairs { ... } do
    for _, entry in ipairs(entries) do
      local name = entry:match "^[^=]+"
      if not at[name] then at[name] = #out + 1 end
      out[at[name]] = entry
    end
  end
  return out
end

return env

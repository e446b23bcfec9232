---Where in the pod a reader is, so that what is wrong can be said with its place ("containers.web.args[2]").
local err = require "moonshim.err"

---@class moonshim.pod_spec.Place
---@field reader { base: string?, locate: (fun(path: (string|integer)[]): string)? } base: absolute folder that relative paths
---start from; locate: "file:line: " of a place, for the message
---@field path (string|integer)[]
local Place = {}
Place.__index = Place

local place = {}

---@param reader table
---@param path (string|integer)[]
---@return moonshim.pod_spec.Place
function place.new(reader, path) return setmetatable({ reader = reader, path = path }, Place) end

---@param key string|integer
---@return moonshim.pod_spec.Place
function Place:at(key)
  local path = table.move(self.path, 1, #self.path, 1, {})
  path[#path + 1] = key
  return place.new(self.reader, path)
end

---@return string
function Place:text()
  local out = {}
  for i, key in ipairs(self.path) do
    if math.type(key) == "integer" then out[i] = ("[%d]"):format(key)
    else out[i] = (i > 1 and "." or "") .. tostring(key) end
  end
  return #out > 0 and table.concat(out) or "the pod"
end

---Raises invalid_argument, naming the place.
function Place:fail(fmt, ...) self:fail_as("invalid_argument", fmt, ...) end

function Place:fail_as(code, fmt, ...)
  local where = self.reader.locate and self.reader.locate(self.path) or ""
  err.raise(code, "%s%s: %s", where, self:text(), fmt:format(...))
end

return place

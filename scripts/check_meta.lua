-- Compares the functions that csrc/bind registers with their stubs in lua/moonshim/_meta, both ways.
--   LUA_CPATH='build/release/lib/?.so;;' lua5.4 scripts/check_meta.lua
local uv = require "luv"

local STUBS = "lua/moonshim/_meta"

local bound = {}
local function collect(prefix, t)
  for name, value in pairs(t) do
    if type(value) == "function" then
      bound[prefix .. name] = true
    elseif type(value) == "table" and type(name) == "string" and name ~= "array_mt" then
      collect(prefix .. name .. ".", value)
    end
  end
end
collect("core.", require "moonshim.core")
for name, mt in pairs(debug.getregistry()) do
  if type(name) == "string" and name:find("^moonshim%.") and type(mt) == "table" and type(mt.__index) == "table" then
    for method, value in pairs(mt.__index) do
      if type(value) == "function" then
        bound[name .. ":" .. method] = true
      end
    end
  end
end
bound["moonshim.json:close"] = nil -- a guard inside decode and encode, which no caller sees

local documented, problems = {}, {}
local function problem(fmt, ...)
  problems[#problems + 1] = fmt:format(...)
end

local function read(path)
  local class, classes, described = nil, {}, false
  local number = 0
  for line in io.lines(path) do
    number = number + 1
    class = line:match("^%-%-%-@class ([%w_.]+)") or class
    local variable = line:match("^local ([%w_]+) = {}")
    if variable then
      classes[variable] = variable == "core" and "core." or class .. ":"
    end
    local owner, separator, name = line:match("^function ([%w_.]-)([.:])([%w_]+)%(")
    if owner then
      local first = owner:match("^[%w_]+")
      local full = first == "core" and owner .. separator .. name or (classes[owner] or owner .. ":") .. name
      local at = ("%s:%d"):format(path, number)
      if documented[full] then
        problem("%s: %s is documented at %s, too", at, full, documented[full])
      end
      documented[full] = at
      if not described and name ~= "close" then
        problem("%s: %s has no description", at, full)
      end
    end
    described = line:find("^%-%-%-") ~= nil
  end
end

local files = assert(uv.fs_scandir(STUBS))
for name in function() return uv.fs_scandir_next(files) end do
  read(STUBS .. "/" .. name)
end

for name in pairs(bound) do
  if not documented[name] then
    problem("%s: no stub for %s", STUBS, name)
  end
end
for name, at in pairs(documented) do
  if not bound[name] then
    problem("%s: %s is not a function of the module", at, name)
  end
end
table.sort(problems)
for _, text in ipairs(problems) do
  io.stderr:write(text, "\n")
end
os.exit(#problems == 0 and 0 or 1)

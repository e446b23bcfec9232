-- Writes the C file that holds our Lua: lua5.4 embed.lua OUT LIST [debug]
-- LIST has one "name=path" a line; a name that begins with "text:" is embedded as it stands, the others as bytecode
-- (stripped, unless debug is asked for: then errors show lines at the price of half the size again).
-- The order is that of the names as bytes, because the reader searches by halves.
local out_path, list_path, debug_info = arg[1], arg[2], arg[3] == "debug"

local function read(path)
  local f = assert(io.open(path, "rb"))
  local text = f:read("a")
  f:close()
  return text
end

local entries = {}
for line in io.lines(list_path) do
  local name, path = line:match("^([^=]+)=(.+)$")
  if name then
    local data = read(path)
    if not name:find("^text:") then
      local short = path:match("/(lua/moonshim/.*)$") or path:match("/(scripts/.*)$") or path
      data = string.dump(assert(load(data, "@" .. short, "t")), not debug_info)
    end
    entries[#entries + 1] = { name = name, data = data }
  end
end
table.sort(entries, function(a, b) return a.name < b.name end)

local parts = { '#include "shim/embedded.h"\n' }
for i, e in ipairs(entries) do
  local bytes = { e.data:byte(1, 0) }
  for at = 1, #e.data, 24 do
    bytes[#bytes + 1] = table.concat({ e.data:byte(at, at + 23) }, ",")
  end
  parts[#parts + 1] = ("static const unsigned char m%d[] = {\n%s};\n"):format(i, table.concat(bytes, ",\n"))
end
parts[#parts + 1] = "const msh_embedded msh_embedded_modules[] = {\n"
for i, e in ipairs(entries) do
  parts[#parts + 1] = ('{"%s", m%d, sizeof m%d},\n'):format(e.name, i, i)
end
parts[#parts + 1] = ("};\nconst unsigned msh_embedded_count = %d;\n"):format(#entries)

local f = assert(io.open(out_path, "wb"))
assert(f:write(table.concat(parts)))
assert(f:close())

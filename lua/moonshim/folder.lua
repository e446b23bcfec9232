---What is in a folder.
---
---Not by luv's fs_scandir: each use of that costs half a KiB of Lua's memory for good (seen with luv 1.44), which a process that
---starts and ends VMs for months would notice.
local folder = {}

-- Entries that are read at a time.
local BATCH = 64

---@param path string
---@return { name: string, kind: string }[] by name; none when it cannot be read
function folder.entries(path)
  local uv = require "luv"
  local out, dir = {}, uv.fs_opendir(path, nil, BATCH)
  while dir do
    local batch = uv.fs_readdir(dir)
    if not batch then break end
    for _, entry in ipairs(batch) do out[#out + 1] = { name = entry.name, kind = entry.type } end
  end
  if dir then uv.fs_closedir(dir) end
  table.sort(out, function(a, b) return a.name < b.name end)
  return out
end

---@param path string
---@return string[] in order; none when it cannot be read
function folder.names(path)
  local names = {}
  for i, entry in ipairs(folder.entries(path)) do names[i] = entry.name end
  return names
end

return folder

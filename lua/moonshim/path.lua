---Paths as text: nothing is looked up.
local path = {}

---The longest path that Linux takes, in bytes.
path.MAX = 4095

---Collapses "//", "." and "..": "/a/../b//c" is "/b/c". Nothing climbs above the root.
---@param text string absolute
---@return string
function path.normal(text)
  local out = {}
  for part in text:gmatch("[^/]+") do
    if part == ".." then out[#out] = nil
    elseif part ~= "." then out[#out + 1] = part end
  end
  return "/" .. table.concat(out, "/")
end

return path

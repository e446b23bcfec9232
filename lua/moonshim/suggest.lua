---"Did you mean": the known word nearest to an unknown one. Pod files, operator scripts and the command line use
---it, so that a typing error is answered with the word that was meant.
local suggest = {}

---Edits (insert, delete, replace, swap of neighbours) that make `a` into `b`.
local function distance(a, b)
  local before, last, row = {}, {}, {}
  for j = 0, #b do last[j] = j end
  for i = 1, #a do
    row = { [0] = i }
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      row[j] = math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (same and 0 or 1))
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        row[j] = math.min(row[j], before[j - 2] + 1)
      end
    end
    before, last = last, row
  end
  return row[#b] or #b
end

---The nearest known word, or nil when none is near (more than a third of it would have to change).
---@param word string
---@param known string[]|table<string, any> a list, or a table whose keys are the known words
---@return string?
function suggest.nearest(word, known)
  local names = {}
  for key, value in pairs(known) do names[#names + 1] = type(key) == "string" and key or value end
  table.sort(names)
  if #word > 64 then return nil end
  local best, least
  for _, name in ipairs(names) do
    local d = distance(word:lower(), name:lower())
    if d <= math.max(1, #name // 3) and (not least or d < least) then best, least = name, d end
  end
  return best
end

---The tail of an error message: ` (did you mean "args"?)`, else ` (known: a, b, c)`.
---@param word any what was written
---@param known string[]|table<string, any>
---@return string
function suggest.hint(word, known)
  local near = type(word) == "string" and suggest.nearest(word, known)
  if near then return (' (did you mean "%s"?)'):format(near) end
  local names = {}
  for key, value in pairs(known) do names[#names + 1] = type(key) == "string" and key or tostring(value) end
  table.sort(names)
  return (" (known: %s)"):format(table.concat(names, ", "))
end

return suggest

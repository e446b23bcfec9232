--- plan/print - a plan as a table that people like to read, and as JSON.

local cjson = require "cjson"
local clock = require "moonshim.clock"

local print_plan = {}

local function relative(owner, base)
  if owner == base then
    return "."
  elseif owner:sub(1, #base + 1) == base .. "/" then
    return owner:sub(#base + 2)
  end
  return owner
end

-- What the step is about, in a few words: what the kind says, or the obvious fact.
local function subject(p, step)
  local r = step.receipt
  if not r then
    return ""
  end
  local k = p.ledger:kind_of(r)
  local text = k and k.show and k.show(r.facts) or r.facts.path or r.facts.guest_path or r.facts.id or ""
  text = tostring(text)
  return #text > 36 and "..." .. text:sub(-33) or text
end

local function retry_text(step)
  if step.retries == 0 then
    return "-"
  end
  return ("%dx %s"):format(step.retries, clock.text(step.backoff))
end

local function remark(step)
  local r, words = step.receipt, {}
  if step.refusal then
    words[#words + 1] = step.refusal.message
  elseif r and r.state == "owed" then
    words[#words + 1] = ("owed, %d attempt%s failed"):format(r.attempts, r.attempts == 1 and "" or "s")
  elseif r and r.state == "intended" then
    words[#words + 1] = "may not exist"
  end
  local ladder = step.args.ladder
  if ladder and #ladder > 0 then
    local rungs = {}
    for i, rung in ipairs(ladder) do
      rungs[i] = ("%s %s"):format(rung[1], clock.text(rung.wait))
    end
    words[#words + 1] = table.concat(rungs, ", then ")
  end
  return table.concat(words, "; ")
end

local function after_text(step)
  local names = {}
  for i, name in ipairs(step.after) do
    names[i] = step.soft[name] and "(" .. name .. ")" or name
  end
  if #names > 4 then
    return ("%s, %s and %d more"):format(names[1], names[2], #names - 2)
  end
  return table.concat(names, ", ")
end

local COLUMNS = { "#", "step", "of", "what", "after", "within", "retry", "on failure", "" }

local function align(rows)
  local widths = {}
  for _, row in ipairs(rows) do
    for i = 1, #COLUMNS do
      widths[i] = math.max(widths[i] or 0, #row[i])
    end
  end
  local lines = {}
  for _, row in ipairs(rows) do
    local cells = {}
    for i = 1, #COLUMNS do
      if widths[i] > 0 then
        local pad = (" "):rep(widths[i] - #row[i])
        cells[#cells + 1] = i == 1 and pad .. row[i] or row[i] .. pad
      end
    end
    lines[#lines + 1] = ("  " .. table.concat(cells, "  ")):gsub("%s+$", "")
  end
  return lines
end

---The plan for people, ending in a newline. A name in brackets: its end is enough, its success is not asked for.
---@return string
function print_plan.table(p)
  local count = #p.steps == 1 and "1 step" or ("%d steps"):format(#p.steps)
  local lines = { ("%s %s%s: %s"):format(p.goal, p.owner, p.reason and (" (%s)"):format(p.reason) or "", count) }
  local rows = { table.move(COLUMNS, 1, #COLUMNS, 1, {}) }
  for i, step in ipairs(p.steps) do
    rows[#rows + 1] = {
      tostring(i), step.hook and step.name .. " (hook)" or step.name, relative(step.owner, p.owner), subject(p, step),
      after_text(step), clock.text(step.within), retry_text(step), step.on_failure, remark(step),
    }
  end
  local one_owner = true
  for i = 2, #rows do
    one_owner = one_owner and rows[i][3] == "."
  end
  if one_owner then
    for _, row in ipairs(rows) do
      row[3] = ""
    end
  end
  if #p.steps > 0 then
    table.move(align(rows), 1, #rows, 2, lines)
  else
    lines[#lines + 1] = "  nothing is held"
  end
  local settled = {}
  for name, by in pairs(p.settled) do
    settled[#settled + 1] = ("%s with %s"):format(name, by)
  end
  if #settled > 0 then
    table.sort(settled)
    lines[#lines + 1] = "  ends by itself: " .. table.concat(settled, ", ")
  end
  return table.concat(lines, "\n") .. "\n"
end

-- cjson cannot tell an empty list from an empty object, so lists are written here.
local function list(items)
  return "[" .. table.concat(items, ",") .. "]"
end

local function strings(items)
  local out = {}
  for i, item in ipairs(items) do
    out[i] = cjson.encode(item)
  end
  return list(out)
end

local function object(fields)
  local out = {}
  for i = 1, #fields, 2 do
    out[#out + 1] = ('"%s":%s'):format(fields[i], fields[i + 1])
  end
  return "{" .. table.concat(out, ",") .. "}"
end

local function ladder_json(ladder)
  local rungs = {}
  for i, rung in ipairs(ladder) do
    rungs[i] = object { "signal", cjson.encode(rung[1]), "wait_ms", ("%d"):format(rung.wait) }
  end
  return list(rungs)
end

---The plan for machines: times in milliseconds, steps in the printed order.
---@return string
function print_plan.json(p)
  local steps = {}
  for i, step in ipairs(p.steps) do
    local waits_for_end = {}
    for _, name in ipairs(step.after) do
      if step.soft[name] then
        waits_for_end[#waits_for_end + 1] = name
      end
    end
    local fields = {
      "name", cjson.encode(step.name), "kind", cjson.encode(step.kind), "owner", cjson.encode(step.owner),
      "after", strings(step.after), "completion_enough", strings(waits_for_end), "within_ms", ("%d"):format(step.within),
      "retries", ("%d"):format(step.retries), "backoff_ms", ("%d"):format(step.backoff),
      "on_failure", cjson.encode(step.on_failure), "hook", tostring(step.hook),
    }
    local function add(name, value)
      fields[#fields + 1], fields[#fields + 2] = name, value
    end
    if step.receipt then
      add("state", cjson.encode(step.receipt.state))
      add("attempts", ("%d"):format(step.receipt.attempts))
    end
    if step.args.ladder then
      add("ladder", ladder_json(step.args.ladder))
    end
    if step.refusal then
      add("refusal", cjson.encode(step.refusal.message))
    end
    steps[i] = object(fields)
  end
  local settled = {}
  for name in pairs(p.settled) do
    settled[#settled + 1] = name
  end
  table.sort(settled)
  for i, name in ipairs(settled) do
    settled[i] = object { "name", cjson.encode(name), "ends_with", cjson.encode(p.settled[name]) }
  end
  return object {
    "owner", cjson.encode(p.owner), "goal", cjson.encode(p.goal), "reason", cjson.encode(p.reason or ""), "steps", list(steps),
    "settled", list(settled),
  }
end

return print_plan

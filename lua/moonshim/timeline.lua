---The life of a pod as a picture: one bar per object, drawn from the state records of the ledger. A fold, nothing
---else: it reads the journal of a living, a finished or a crashed pod alike.
local timeline = {}

---@class moonshim.Timeline.Lane one object of the picture
---@field object string owner path, "vm/hello/web"
---@field spans { state: string, from: integer, to: integer }[] milliseconds of the journal's clock
---@field ended { at: integer, data: table? }? its last exit

-- What a state looks like. The legend names the looks that the picture has, in this order.
---@type { name: string, unicode: string, ascii: string, states: string[] }[]
timeline.looks = {
  { name = "created", unicode = "░", ascii = ".", states = { "new", "creating", "created", "booting" } },
  { name = "starting", unicode = "▒", ascii = ":", states = { "starting" } },
  { name = "running", unicode = "█", ascii = "#", states = { "running" } },
  { name = "up", unicode = "─", ascii = "-", states = { "active", "configured" } },
  { name = "paused", unicode = "▄", ascii = "_", states = { "paused" } },
  { name = "not ready", unicode = "▚", ascii = "?", states = { "unready", "reconnecting", "unreachable", "lost", "invalid" } },
  { name = "stopping", unicode = "▓", ascii = "=", states = { "stopping" } },
  { name = "stopped", unicode = "·", ascii = ",", states = { "stopped" } },
  { name = "failed", unicode = "┄", ascii = "!", states = { "failed" } },
  { name = "deleting", unicode = "╳", ascii = "~", states = { "deleting" } },
}
local MARKS = {
  unicode = { ok = "●", bad = "✗", axis = "┬", line = "─", rule = "│" },
  ascii = { ok = "o", bad = "x", axis = "+", line = "-", rule = "|" },
}
local LOOK_OF = {}
for _, look in ipairs(timeline.looks) do
  for _, state in ipairs(look.states) do LOOK_OF[state] = look end
end
---States in which nothing of an object is there: not drawn.
timeline.final = { deleted = true, ended = true, forgotten = true, torn_down = true, not_configured = true }
local STEPS = { 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 15000, 30000, 60000, 120000, 300000, 600000, 1800000, 3600000 }

---Folds state records into lanes, in the order in which the objects appeared (parents before their children).
---@param states { at: integer, object: string, state: string?, exit: table? }[] a state, or an exit with its code
---@return moonshim.Timeline.Lane[] lanes
---@return integer from
---@return integer to
function timeline.lanes(states)
  local lanes, by, from, to = {}, {}, nil, nil
  for _, r in ipairs(states) do
    from, to = from or r.at, math.max(to or r.at, r.at)
    local lane = by[r.object]
    if not lane then
      lane = { object = r.object, spans = {}, seen = #lanes + 1 }
      by[r.object], lanes[#lanes + 1] = lane, lane
    end
    local open = lane.spans[#lane.spans]
    if r.exit then
      lane.ended = lane.ended or { at = r.at, data = r.exit }
    else
      if open and not open.to then open.to = r.at end
      if not timeline.final[r.state] then lane.spans[#lane.spans + 1] = { state = r.state, from = r.at } end
    end
  end
  for _, lane in ipairs(lanes) do
    local open = lane.spans[#lane.spans]
    if open and not open.to then open.to, open.open = to, true end
  end
  -- A child stands below its parent, wherever its first record stood.
  local function key(lane)
    local parts, path = {}, ""
    for name in lane.object:gmatch("[^/]+") do
      path = path == "" and name or path .. "/" .. name
      parts[#parts + 1] = ("%08d"):format(by[path] and by[path].seen or 0)
    end
    return table.concat(parts, "/")
  end
  table.sort(lanes, function(a, b) return key(a) < key(b) end)
  return lanes, from or 0, to or 0
end

local function duration(ms)
  if ms < 1000 then return ("%dms"):format(ms) end
  if ms < 60000 then return (ms % 1000 == 0 and "%.0fs" or "%.1fs"):format(ms / 1000) end
  if ms < 3600000 then return ("%dm%02ds"):format(ms // 60000, ms % 60000 // 1000) end
  return ("%dh%02dm"):format(ms // 3600000, ms % 3600000 // 60000)
end

local function pad(text, width)
  local n = utf8.len(text) or #text
  return text .. (" "):rep(math.max(0, width - n))
end

local function cut(text, width)
  if (utf8.len(text) or #text) <= width then return text end
  return text:sub(1, (utf8.offset(text, width) or width) - 1) .. "~"
end

---Draws the picture.
---@param states { at: integer, object: string, state: string?, exit: table? }[]
---@param opts { width: integer?, ascii: boolean?, events: { at: integer, topic: string, data: table? }[]? }? width of
---the whole picture in columns (default 100); events: the remarkable ones are listed below the bars
---@return string
function timeline.draw(states, opts)
  opts = opts or {}
  local alphabet = opts.ascii and "ascii" or "unicode"
  local marks, seen = MARKS[alphabet], {}
  local lanes, from, to = timeline.lanes(states)
  if #lanes == 0 then return "nothing happened yet\n" end
  local names, label = {}, 4
  for i, lane in ipairs(lanes) do
    local _, depth = lane.object:gsub("/", "")
    names[i] = cut(("  "):rep(depth) .. lane.object:match("[^/]+$"), 28)
    label = math.max(label, utf8.len(names[i]) or #names[i])
  end
  local columns = math.max(20, (opts.width or 100) - label - 12)
  local span = math.max(1, to - from)
  local function column(at) return math.min(columns - 1, (at - from) * columns // span) end

  local step = STEPS[#STEPS]
  for _, s in ipairs(STEPS) do
    if span / s * 9 <= columns then step = s break end
  end
  local scale, axis, at = {}, {}, 0
  for i = 1, columns do scale[i], axis[i] = " ", marks.line end
  while at <= span do
    local col, text = column(from + at) + 1, duration(at)
    if at == span or col + #text <= columns then
      axis[col] = marks.axis
      for i = 1, #text do if col + i - 1 <= columns then scale[col + i - 1] = text:sub(i, i) end end
    end
    at = at + step
  end

  local out = { pad("", label + 1) .. table.concat(scale), pad("", label + 1) .. table.concat(axis) }
  for i, lane in ipairs(lanes) do
    local row = {}
    for c = 1, columns do row[c] = " " end
    for _, s in ipairs(lane.spans) do
      local look = LOOK_OF[s.state] or { unicode = "·", ascii = "," } -- of a journal that a newer program wrote
      seen[look] = true
      for c = column(s.from), math.max(column(s.from), column(s.to) - (s.open and 0 or 1)) do
        row[c + 1] = look[alphabet]
      end
    end
    local tail = ""
    if lane.ended then
      local code = lane.ended.data.code
      row[column(lane.ended.at) + 1] = code == 0 and marks.ok or marks.bad
      tail = (" exit %s"):format(code)
    end
    out[#out + 1] = (pad(names[i], label) .. marks.rule .. table.concat(row) .. tail):gsub("%s+$", "")
  end
  local legend = {}
  for _, look in ipairs(timeline.looks) do
    if seen[look] then legend[#legend + 1] = look[alphabet] .. " " .. look.name end
  end
  out[#out + 1] = pad("", label + 1) .. table.concat(legend, "  ")
  for _, event in ipairs(opts.events or {}) do
    if timeline.remarkable[event.topic] then
      local data = event.data or {}
      out[#out + 1] = ("  +%-7s %s: %s"):format(duration(event.at - from), event.topic, data.message or data.id or "")
    end
  end
  return table.concat(out, "\n") .. "\n"
end

---Draws the life that a ledger remembers: of a pod that lives, or of one that has ended.
---@param ledger moonshim.Ledger
---@param opts { width: integer?, ascii: boolean?, pod: string? }? pod: of this one only, and of the VM
---@return string
function timeline.of(ledger, opts)
  local states, events = {}, {}
  local function concerns(entry)
    local id = entry.owner and entry.owner:match("^vm/([^/]+)") or type(entry.detail) == "table" and entry.detail.pod
    return not (opts and opts.pod) or not id or id == opts.pod
  end
  for _, entry in ipairs(ledger:history()) do
    if not concerns(entry) then goto continue end
    if entry.what == "state" then
      states[#states + 1] = { at = entry.at, object = entry.owner, state = entry.detail }
    elseif entry.what == "event" then
      local data = entry.detail or {}
      events[#events + 1] = { at = entry.at, topic = entry.name, data = data }
      if entry.name == "exit" then
        local object = ("vm/%s/%s"):format(data.pod, data.container)
        if data.exec and data.exec ~= "" then object = object .. "/" .. data.exec end
        states[#states + 1] = { at = entry.at, object = object, exit = data }
      end
    end
    ::continue::
  end
  return timeline.draw(states, { width = opts and opts.width, ascii = opts and opts.ascii, events = events })
end

---Topics that are worth a line below the bars.
timeline.remarkable = { ["policy-fallback"] = true, ["policy-hook-failed"] = true, ["release-failed"] = true, ["vm-lost"] = true,
  ["guest-lost"] = true, ["guest-back"] = true, leftovers = true, oom = true, ["debt-settled"] = true, ["sandbox-lost"] = true }

return timeline

--- ledger/acquire - the way up: one thing is reserved, put into the journal as intended, acquired, put there as held.
--
-- Always  1. a receipt is in the journal, with facts enough to release it, before its first effect.
--         2. `needs` names only receipts that are held, and pins them.
--         3. nothing is acquired below an owner that is closing, nor on top of what such an owner holds; that is looked at
--            again after every wait.
--         4. what was reserved and came to nothing is given back.

local Book = require "moonshim.ledger.book"
local err = require "moonshim.err"
local record = require "moonshim.journal.record"
local task = require "moonshim.task"
local write = require "moonshim.ledger.write"

local must, note, plain_error = write.must, write.note, write.plain_error

---How deep `acquire` looks for receipts in its arguments.
local ARGS_DEPTH = 4

local function refuse_closing(self, owner)
  local closing = self:closing_above(owner)
  if closing then
    err.raise("failed_precondition", "%s is being taken down", closing)
  end
end

-- Every receipt in args, at most ARGS_DEPTH tables deep.
local function collect(value, depth, into)
  if Book.is_receipt(value) then
    into[value.name] = value
  elseif type(value) == "table" and depth < ARGS_DEPTH then
    for _, v in next, value do
      collect(v, depth + 1, into)
    end
  end
end

local function append(list, more)
  for _, item in pairs(more or {}) do
    list[#list + 1] = item
  end
  return list
end

-- The names of receipts (given as objects or names) that are in the ledger, sorted by age.
local function names_of(self, given, what)
  local set = {}
  for _, item in pairs(given or {}) do
    local name = type(item) == "table" and item.name or item
    local r = self.book.receipts[name]
    if not r or (type(item) == "table" and r ~= item) then
      err.raise("failed_precondition", "%s: %s is not in the ledger", what, tostring(name))
    end
    set[r] = true
  end
  local names = {}
  for i, r in ipairs(Book.sorted(set)) do
    names[i] = r.name
  end
  return names
end

local function check_needs(self, needs)
  for _, name in ipairs(needs) do
    local r = self.book.receipts[name]
    if not r then
      err.raise("failed_precondition", "needs %s, which is gone", name)
    elseif r.state ~= "held" then
      err.raise("failed_precondition", "needs %s, which is %s", name, r.state)
    end
    refuse_closing(self, r.owner)
  end
end

-- A mutation is never cancelled half way: it runs to its answer or its deadline. The caller's own deadline is handed down.
local function carried_out(within, fn, ...)
  if not task.current() then
    return fn(...)
  end
  local left = task.remaining()
  return task.shield(task.deadline, left and math.min(left, within) or within, fn, ...)
end

local function take_back(self, k, facts, owner)
  local step = { goal = "roll_back", within = k.defaults.within, attempt = 1, args = {}, owner = owner }
  local ok, e = pcall(carried_out, k.defaults.within, k.release, self.world, facts, step)
  if not ok and not err.is(e, "gone", "cancelled") then
    self.log:error("a reservation that came to nothing could not be given back", { kind = k.name, owner = owner, error = e })
  end
end

local function new_name(self, k, wanted)
  local name = wanted or ("%s-%d"):format(k.name, self.book.last + 1)
  local n = math.tointeger(tonumber(name:match("%-(%d+)$")))
  if not n or n <= self.book.last then
    err.raise("already_exists", "a receipt name ends in a number above %d, unlike %s", self.book.last, name)
  end
  return name
end

-- Chooses the facts and puts the receipt into the journal, in one go after the last wait.
local function intend(self, k, opts, needs, dies, within)
  local facts
  local ok, r = pcall(function()
    carried_out(within, function()
      facts = k.reserve(self.world, opts.args or {}) or {}
    end)
    facts = record.plain(facts, k.name .. " facts")
    refuse_closing(self, opts.owner)
    check_needs(self, needs)
    return must(self, {
      t = "r", n = new_name(self, k, opts.name), k = k.name, v = k.v, o = opts.owner, needs = needs,
      dies = names_of(self, dies, "dies_with"), f = facts,
    })
  end)
  if not ok then
    if facts then -- no effect was made, but an index in C may hold the slot
      take_back(self, k, facts, opts.owner)
    end
    error(r, 0)
  end
  return r
end

-- Makes the effect. The receipt ends as held, or as intended with the error raised.
local function make(self, k, r, args, within)
  local outcome
  local ok, e = xpcall(carried_out, err.traceback, within, function()
    outcome = table.pack(k.acquire(self.world, record.plain(r.facts), args)) -- a copy: what is not journaled is not known
  end)
  if outcome then -- it worked, even if we were cancelled meanwhile
    local found
    r.value = outcome[2]
    local saved, why = pcall(function()
      found = outcome[1] and record.plain(outcome[1], r.name .. " found")
      must(self, { t = "h", n = r.name, f = found })
    end)
    if not saved then
      ok, e = false, why
      note(self, { t = "f", n = r.name, s = "intended", a = r.attempts, f = found, e = plain_error(why) })
    end
  else
    note(self, { t = "f", n = r.name, s = "intended", a = r.attempts, e = plain_error(e) })
  end
  if not ok then
    -- People know a thing by its path, not by its receipt.
    local context = r.facts.path and ("acquire %s (%s)"):format(r.name, r.facts.path) or "acquire " .. r.name
    error(err.is(e) and err.wrap(e, context) or e, 0)
  end
  return r
end

-- Ledger:acquire.
local function acquire(self, opts)
  local k = self.kinds:get(opts.kind)
  if not k then
    err.raise("invalid_argument", "no such kind: %s", tostring(opts.kind))
  elseif type(opts.owner) ~= "string" or not opts.owner:find("^[^/]+[^%c]*$") or opts.owner:find("//", 1, true)
    or opts.owner:find("/$") then
    err.raise("invalid_argument", "not an owner path: %s", tostring(opts.owner))
  end
  local within = opts.within and require("moonshim.clock").ms(opts.within) or k.defaults.within
  refuse_closing(self, opts.owner)
  if task.current() then
    task.check()
  end
  local ties = k.ties and k.ties(self.world, opts.args or {}, self) or {}
  local wanted = {}
  collect(opts.args, 0, wanted)
  append(wanted, opts.needs)
  append(wanted, ties.needs)
  local needs = names_of(self, wanted, "needs")
  local dies = names_of(self, append(append({}, opts.dies_with), ties.dies_with), "dies_with")
  check_needs(self, needs)

  -- From here on a plan for this owner waits for us (Ledger:settle).
  local busy = { owner = opts.owner, over = task.signal() }
  self.acquiring[busy] = true
  local ok, r = xpcall(function()
    local r = intend(self, k, opts, needs, dies, within)
    if self.dry then
      must(self, { t = "h", n = r.name })
      return r
    end
    return make(self, k, r, opts.args or {}, within)
  end, err.traceback)
  self.acquiring[busy] = nil
  busy.over:fire()
  if not ok then
    error(r, 0)
  end
  return r
end

return acquire

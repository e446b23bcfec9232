--- ledger - every receipt of one VM: what is held, by whom, and all it takes to let it go.
--
-- Words   receipt, owner, facts: ledger/book.lua. kind: kind.lua. world = what kinds act on.
-- Always  1. a receipt is in the journal, with facts enough to release it, before its first effect.
--         2. it leaves only when its release said done or gone, or when what it dies with left.
--         3. `needs` names only receipts that are there, and pins them.
--         4. nothing is acquired below an owner that is closing, nor on top of what such an owner holds.
-- On the way up a journal that cannot be written stops everything: no record, no effect. On the way down it stops
-- nothing: the record is kept and written later; the worst that a crash in between brings is a second release.

local Book = require "moonshim.ledger.book"
local err = require "moonshim.err"
local kind = require "moonshim.kind"
local record = require "moonshim.journal.record"
local task = require "moonshim.task"

local ledger = {}

---@class moonshim.Ledger
local Ledger = {}
Ledger.__index = Ledger

---Bytes of journal below which it is never rewritten.
local COMPACT_ABOVE = 256 * 1024
---How deep `acquire` looks for receipts in its arguments.
local ARGS_DEPTH = 4
---Outcomes that tell nothing about whether the effect happened.
local UNKNOWN_OUTCOME = { deadline_exceeded = true, cancelled = true, unavailable = true, unknown = true }

local function is_closing(self, owner)
  local path = owner
  while path do
    if self.closing[path] then
      return path
    end
    path = path:match("^(.*)/[^/]*$")
  end
end

local function refuse_closing(self, owner)
  local closing = is_closing(self, owner)
  if closing then
    err.raise("failed_precondition", "%s is being taken down", closing)
  end
end

-- What the journal missed while it could not be written (a full disk) goes in first, as a rewrite of the whole.
local function write(self, rec)
  if self.behind then
    self.journal:rewrite(self.book:snapshot(os.time()))
    self.behind = false
  end
  self.journal:append(rec)
end

local function take_in(self, rec)
  local result = self.book:apply(rec)
  if not self.behind and (self.journal.size or 0) > self.compact_at then
    self:compact()
  end
  return result
end

-- A record without which nothing may happen: raises when it cannot be written.
local function must(self, rec)
  rec.at = rec.at or self.now()
  write(self, rec)
  return take_in(self, rec)
end

-- A record of what has happened already: the ledger believes it even when the journal cannot take it now.
local function note(self, rec)
  rec.at = rec.at or self.now()
  local ok, e = pcall(write, self, rec)
  if not ok then
    self.behind = true
    self.log:warn("the journal cannot be written; going on without", { error = e, record = rec.t, name = rec.n or rec.o })
  end
  return take_in(self, rec)
end

local function plain_error(e)
  e = err.from(e)
  return { code = e.code, message = e.message:sub(1, 1000) }
end

-- Receipts that a boot ended leave; receipts of a kind this program does not know are owed and never guessed at.
local function judge(self)
  local other_boot = self.boot_id and self.book.boot_id and self.book.boot_id ~= self.boot_id
  for _, r in ipairs(self:all()) do
    local k, why = self:kind_of(r)
    if not k then
      if r.state ~= "owed" then
        note(self, { t = "f", n = r.name, s = "owed", a = r.attempts, e = plain_error(why) })
      end
    elseif other_boot and k.ends_with_boot then
      note(self, { t = "d", n = r.name, how = "ended with its boot" })
    end
  end
  if other_boot then
    note(self, { t = "head", v = Book.VERSION, boot = self.boot_id, next = self.book.last, wall = os.time() })
    self.book.boot_id = self.boot_id
  end
end

---Opens the ledger that `journal` adds up to.
---@param opts { journal: moonshim.Journal, world: table, dry: boolean?, boot_id: string?, kinds: table?, log: table?, now: function? }
---dry: reserve only, acquire nothing. boot_id: this boot's; receipts of another boot are judged by their kind's
---ends_with_boot. kinds, log, now: for specs; default kind.all(), world.log, task.now.
---@return moonshim.Ledger
function ledger.open(opts)
  local world = opts.world or {}
  local self = setmetatable({
    journal = opts.journal, world = world, dry = opts.dry or false, boot_id = opts.boot_id, kinds = opts.kinds or kind.all(),
    log = opts.log or world.log or require("moonshim.log").stderr(), now = opts.now or task.now, book = Book.new(),
    closing = {}, acquiring = {}, runs = {}, releasing = {}, behind = false, compact_at = COMPACT_ABOVE,
  }, Ledger)
  local empty = true
  self.journal:fold(function(rec)
    empty = false
    self.book:apply(rec)
  end)
  if self.journal.lost then
    self.log:warn("the journal ends in a bad record, which was cut off", self.journal.lost)
  end
  if empty and not self.journal.read_only then
    must(self, { t = "head", v = Book.VERSION, boot = self.boot_id, wall = os.time() })
  elseif not self.journal.read_only then
    judge(self)
  end
  return self
end

-- ---------------------------------------------------------------------------------------------------------------
-- Up

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

---Acquires one thing: reserve, journal it as intended, acquire, journal it as held. When acquire fails, the receipt stays
---`intended` and the error is raised; the roll-back is a plan like any other.
---@async
---@param opts { owner: string, kind: string, args: table?, name: string?, needs: table?, dies_with: table?, within: string|integer? }
---@return moonshim.Receipt
function Ledger:acquire(opts)
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

---Waits until no acquire below `owner` is running. Bounded, since every acquire has its deadline.
---@async
function Ledger:settle(owner)
  while true do
    local busy
    for other in pairs(self.acquiring) do
      if other.owner == owner or other.owner:sub(1, #owner + 1) == owner .. "/" then
        busy = other
        break
      end
    end
    if not busy then
      return
    end
    busy.over:wait()
  end
end

---More facts about a receipt that is held (the pid of a started process), journaled.
---@param receipt moonshim.Receipt|string
---@param found table plain data
function Ledger:update(receipt, found)
  local name = type(receipt) == "table" and receipt.name or receipt
  if not self.book.receipts[name] then
    err.raise("not_found", "%s is not in the ledger", tostring(name))
  end
  must(self, { t = "u", n = name, f = record.plain(found, name .. " found") })
end

-- ---------------------------------------------------------------------------------------------------------------
-- Down. Plans call these; nobody else has a reason to.

---The receipt left, since its release said so. Whatever dies with it leaves too; returns all that left.
---@param how string "done" or "gone"
---@return moonshim.Receipt[]
function Ledger:released(receipt, how)
  local gone = note(self, { t = "d", n = receipt.name, how = how })
  for _, r in ipairs(gone) do
    local value = r.value
    r.value = nil
    -- Nobody released what died: close the live object (an fd, a socket) that stood for it in this process.
    if r ~= receipt and value ~= nil then
      local ok, e = pcall(function()
        if value.close then
          value:close()
        end
      end)
      if not ok then
        self.log:debug("closing what died with the VM failed", { name = r.name, error = e })
      end
    end
  end
  return gone
end

---The release of the receipt failed, after so many attempts. An outcome that is not known leaves it `intended`. With a
---debtor it becomes a debt: owed, and owned by the debtor from now on.
---@param debtor string? owner path
function Ledger:failed(receipt, e, attempts, debtor)
  local r = self.book.receipts[receipt.name]
  if r then
    e = plain_error(e)
    local state = not debtor and UNKNOWN_OUTCOME[e.code] and "intended" or "owed"
    note(self, { t = "f", n = r.name, s = state, o = debtor, a = r.attempts + attempts, e = e })
  end
end

---While an owner is closing nothing is acquired below it. Calls nest.
function Ledger:close_owner(owner)
  self.closing[owner] = (self.closing[owner] or 0) + 1
end

function Ledger:reopen_owner(owner)
  local n = (self.closing[owner] or 1) - 1
  self.closing[owner] = n > 0 and n or nil
end

---@return boolean
function Ledger:is_closing(owner)
  return is_closing(self, owner) ~= nil
end

-- ---------------------------------------------------------------------------------------------------------------
-- Questions

---@return moonshim.Receipt?
function Ledger:get(name)
  return self.book.receipts[name]
end

---Receipts of `owner` and of everything below it, in the order of acquisition.
---@return moonshim.Receipt[]
function Ledger:under(owner)
  return Book.sorted(self.book.below[owner])
end

---@return moonshim.Receipt[] in the order of acquisition
function Ledger:all()
  local set = {}
  for _, r in pairs(self.book.receipts) do
    set[r] = true
  end
  return Book.sorted(set)
end

---Receipts of one kind.
---@return moonshim.Receipt[] in the order of acquisition
function Ledger:of_kind(name)
  local list = {}
  for _, r in ipairs(self:all()) do
    if r.kind == name then
      list[#list + 1] = r
    end
  end
  return list
end

---Receipts whose release failed and is owed.
---@return moonshim.Receipt[]
function Ledger:debts()
  local set = {}
  for _, r in pairs(self.book.receipts) do
    if r.state == "owed" then
      set[r] = true
    end
  end
  return Book.sorted(set)
end

---Receipts that need this one.
---@return moonshim.Receipt[]
function Ledger:needed_by(receipt)
  return Book.sorted(self.book.needed_by[receipt.name])
end

---Receipts whose end this one's end is.
---@return moonshim.Receipt[]
function Ledger:dying_with(receipt)
  return Book.sorted(self.book.dying_with[receipt.name])
end

---The receipt of the set that `receipt` dies with, directly or by way of others.
---@param set table<moonshim.Receipt, true>
---@return moonshim.Receipt? nil when there is none
function Ledger:killer(receipt, set)
  for _, name in ipairs(receipt.dies_with) do
    local other = self.book.receipts[name]
    local found = other and (set[other] and other or self:killer(other, set))
    if found then
      return found
    end
  end
end

---The code for a receipt, or nil and an error value when this program has none that understands it.
---@return moonshim.Kind?, moonshim.Err?
function Ledger:kind_of(receipt)
  local k = self.kinds:get(receipt.kind)
  if not k then
    return nil, err.new("unimplemented", ("kind %s is unknown to this program"):format(receipt.kind))
  elseif not k.reads[receipt.v] then
    return nil, err.new("unimplemented", ("version %s of kind %s is unknown to this program (it knows %d)"):format(
      tostring(receipt.v), receipt.kind, k.v))
  end
  return k
end

---Asks the world about a receipt.
---@async
---@return string "held", "gone" or "unknown"
function Ledger:verify(receipt)
  local k = self:kind_of(receipt)
  return k and k.verify(self.world, receipt.facts) or "unknown"
end

-- ---------------------------------------------------------------------------------------------------------------
-- What else the journal keeps

---Sets the state of an object (nil: the object is no more). data: plain, small.
function Ledger:state(object, state, data)
  note(self, { t = "s", o = object, s = state, d = data and record.plain(data, "state data") })
end

---@return table<string, { state: string, data: table?, at: integer }>
function Ledger:states()
  return self.book.states
end

---Adds an event. The last 1024 are kept.
---@return integer seq grows by one per event, for the life of the VM
function Ledger:event(topic, data)
  local seq = self.book.event + 1
  note(self, { t = "e", i = seq, k = topic, d = data and record.plain(data, "event data") })
  return seq
end

---@return { seq: integer, topic: string, data: table?, at: integer }[] oldest first
function Ledger:events()
  return self.book.events
end

---What happened, oldest first, for timelines: receipts that became intended, held, failed, owed, gone; states; events.
---@return { at: integer, what: string, name: string?, kind: string?, owner: string?, detail: any }[]
function Ledger:history()
  return self.book.history
end

---Rewrites the journal as short as it can be. Happens by itself when it has grown to four times that.
function Ledger:compact()
  local ok, e = pcall(self.journal.rewrite, self.journal, self.book:snapshot(os.time()))
  if ok then
    self.behind = false
  else
    self.log:warn("the journal could not be rewritten", { error = e })
  end
  self.compact_at = math.max(COMPACT_ABOVE, 4 * (self.journal.size or 0))
end

---Closes the journal; the receipts stay what they are.
function Ledger:close()
  self.journal:close()
end

return ledger

--- ledger/book - what the records of a journal add up to, and nothing else.
--
-- `apply` is the only way the book changes, live and while loading alike, so what a crash leaves behind loads as exactly
-- what was known before it. No clock, no world, no I/O here.
--
--   t = "head"   v, boot, next, wall        first record of a journal, and of each boot
--   t = "r"      n, k, v, o, needs, dies, f, s, a, e, at     a receipt (intended, unless a snapshot says more)
--   t = "h"      n, f, at                   held; f is what the world chose
--   t = "u"      n, f, at                   more facts
--   t = "f"      n, s, o, a, e, at          an acquire or a release failed: its state now, and who owes it
--   t = "d"      n, how, at                 it left, and with it whatever dies with it
--   t = "s"      o, s, d, at                state of an object; without s it is forgotten
--   t = "e"      i, k, d, at                an event

local err = require "moonshim.err"

---@class moonshim.Receipt
---@field name string "<kind>-<n>", never used again
---@field kind string
---@field v integer version of the facts
---@field owner string path: vm, vm/pod, vm/pod/container, vm/pod/container/exec
---@field needs string[] names of receipts that must outlast this one
---@field facts table plain data, enough to release it
---@field dies_with string[] names of receipts whose end is its end
---@field state string "intended", "held" or "owed"
---@field attempts integer releases that failed
---@field last_error { code: string, message: string }?
---@field value any live object of the process that acquired it
---@field at integer clock milliseconds of its first record
local Receipt = { __name = "moonshim.Receipt" }
Receipt.__index = Receipt

function Receipt:__tostring()
  return self.name
end

local Book = {}
Book.__index = Book

---The format of the journal as a whole. A newer one is refused, never half understood.
Book.VERSION = 1
---What is remembered of the past, in entries.
Book.MAX_EVENTS, Book.MAX_HISTORY = 1024, 2048

---Is `owner` this base, or somewhere below it? Paths of owners, see Receipt.
---@param owner string
---@param base string
---@return boolean
function Book.is_below(owner, base)
  return owner == base or owner:sub(1, #base + 1) == base .. "/"
end

function Book.new()
  return setmetatable({
    receipts = {}, below = {}, needed_by = {}, dying_with = {}, states = {}, events = {}, history = {}, last = 0, event = 0,
  }, Book)
end

---@return boolean
function Book.is_receipt(any)
  return getmetatable(any) == Receipt
end

-- Adds or removes (value nil) an entry of an index of sets; empty sets go.
local function mark(index, key, entry, value)
  local set = index[key]
  if not set then
    if value == nil then
      return
    end
    set = {}
    index[key] = set
  end
  set[entry] = value
  if next(set) == nil then
    index[key] = nil
  end
end

-- "vm/pod/ctr" is below "vm", "vm/pod" and "vm/pod/ctr".
local function index_owner(book, r, value)
  local path = r.owner
  while path do
    mark(book.below, path, r, value)
    path = path:match("^(.*)/[^/]*$")
  end
end

local function remember(list, entry, limit)
  list[#list + 1] = entry
  if #list > limit + limit // 4 then -- in lumps, so that each entry costs the same
    table.move(list, #list - limit + 1, #list, 1)
    for i = #list, limit + 1, -1 do
      list[i] = nil
    end
  end
end

local function note(book, at, what, r, detail)
  remember(book.history, { at = at, what = what, name = r.name, kind = r.kind, owner = r.owner, detail = detail }, Book.MAX_HISTORY)
end

local function without(list, name)
  for i = #list, 1, -1 do
    if list[i] == name then
      table.remove(list, i)
    end
  end
end

-- The receipt leaves. What needed it does not any more (only what a failure could not hold up is still there), and what
-- dies with it leaves too.
local function forget(book, r, how, at, gone)
  if not book.receipts[r.name] then
    return
  end
  book.receipts[r.name] = nil
  r.state = "gone"
  gone[#gone + 1] = r
  note(book, at, "gone", r, how)
  index_owner(book, r, nil)
  for _, name in ipairs(r.needs) do
    mark(book.needed_by, name, r, nil)
  end
  for _, name in ipairs(r.dies_with) do
    mark(book.dying_with, name, r, nil)
  end
  for other in pairs(book.needed_by[r.name] or {}) do
    without(other.needs, r.name)
  end
  book.needed_by[r.name] = nil
  local dying = Book.sorted(book.dying_with[r.name])
  book.dying_with[r.name] = nil
  for _, other in ipairs(dying) do
    forget(book, other, "with " .. r.name, at, gone)
  end
end

local APPLY = {}

function APPLY.head(book, rec)
  if rec.v ~= Book.VERSION then
    err.raise("failed_precondition", "a journal of version %s; this program reads %d", tostring(rec.v), Book.VERSION)
  end
  book.boot_id, book.last = rec.boot, math.max(book.last, rec.next or 0)
  book.event = math.max(book.event, rec.event or 0)
end

function APPLY.r(book, rec)
  local r = setmetatable({
    name = rec.n, kind = rec.k, v = rec.v, owner = rec.o, needs = rec.needs, dies_with = rec.dies, facts = rec.f, at = rec.at,
    state = rec.s or "intended", attempts = rec.a or 0, last_error = rec.e, seq = tonumber(rec.n:match("(%d+)$")),
  }, Receipt)
  book.receipts[r.name] = r
  book.last = math.max(book.last, r.seq)
  index_owner(book, r, true)
  for _, name in ipairs(r.needs) do
    mark(book.needed_by, name, r, true)
  end
  for _, name in ipairs(r.dies_with) do
    mark(book.dying_with, name, r, true)
  end
  note(book, rec.at, r.state, r)
  return r
end

local function merge(r, found)
  for k, v in pairs(found or {}) do
    r.facts[k] = v
  end
end

function APPLY.h(book, rec)
  local r = book.receipts[rec.n]
  if r then
    merge(r, rec.f)
    r.state, r.last_error = "held", nil
    note(book, rec.at, "held", r)
  end
end

function APPLY.u(book, rec)
  local r = book.receipts[rec.n]
  if r then
    merge(r, rec.f)
  end
end

function APPLY.f(book, rec)
  local r = book.receipts[rec.n]
  if r then
    merge(r, rec.f)
    if rec.o and rec.o ~= r.owner then
      index_owner(book, r, nil)
      r.owner = rec.o
      index_owner(book, r, true)
    end
    r.state, r.attempts, r.last_error = rec.s, rec.a, rec.e
    note(book, rec.at, rec.s == "owed" and "owed" or "failed", r, rec.e and ("%s: %s"):format(rec.e.code, rec.e.message))
  end
end

function APPLY.d(book, rec)
  local gone, r = {}, book.receipts[rec.n]
  if r then
    forget(book, r, rec.how, rec.at, gone)
  end
  return gone
end

function APPLY.s(book, rec)
  if rec.s then
    book.states[rec.o] = { state = rec.s, data = rec.d, at = rec.at }
  else
    book.states[rec.o] = nil
  end
  remember(book.history, { at = rec.at, what = "state", owner = rec.o, detail = rec.s or "forgotten" }, Book.MAX_HISTORY)
end

function APPLY.e(book, rec)
  book.event = math.max(book.event, rec.i)
  remember(book.events, { seq = rec.i, topic = rec.k, data = rec.d, at = rec.at }, Book.MAX_EVENTS)
  remember(book.history, { at = rec.at, what = "event", name = rec.k, detail = rec.d }, Book.MAX_HISTORY)
end

---Takes one record in. Returns the receipt it made ("r") or the receipts that left ("d"). Unknown records mean nothing.
function Book:apply(rec)
  local apply = APPLY[rec.t]
  return apply and apply(self, rec)
end

---Receipts of a set (or list) in the order they were acquired.
---@return moonshim.Receipt[]
function Book.sorted(set)
  local list = {}
  for r in pairs(set or {}) do
    list[#list + 1] = r
  end
  table.sort(list, function(a, b)
    return a.seq < b.seq
  end)
  return list
end

local function copied(list)
  return table.move(list, 1, #list, 1, {})
end

---The record that makes receipt `r` as it is now.
function Book.record_of(r)
  return {
    t = "r", n = r.name, k = r.kind, v = r.v, o = r.owner, needs = copied(r.needs), dies = copied(r.dies_with), f = r.facts,
    s = r.state, a = r.attempts, e = r.last_error, at = r.at,
  }
end

---The shortest list of records that makes this book again (the history excepted).
---@return table[]
function Book:snapshot(wall)
  local records = { { t = "head", v = Book.VERSION, boot = self.boot_id, next = self.last, event = self.event, wall = wall } }
  local all = {}
  for _, r in pairs(self.receipts) do
    all[r] = true
  end
  for _, r in ipairs(Book.sorted(all)) do
    records[#records + 1] = Book.record_of(r)
  end
  local objects = {}
  for object in pairs(self.states) do
    objects[#objects + 1] = object
  end
  table.sort(objects)
  for _, object in ipairs(objects) do
    local s = self.states[object]
    records[#records + 1] = { t = "s", o = object, s = s.state, d = s.data, at = s.at }
  end
  for i = math.max(1, #self.events - Book.MAX_EVENTS + 1), #self.events do
    local e = self.events[i]
    records[#records + 1] = { t = "e", i = e.seq, k = e.topic, d = e.data, at = e.at }
  end
  return records
end

return Book

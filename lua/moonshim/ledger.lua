--- ledger - every receipt of one VM: what is held, by whom, and all it takes to let it go.
--
-- Words   receipt, owner, facts: ledger/book.lua. kind: kind.lua. world = what kinds act on.
--         The way up: ledger/acquire.lua. How records are written, and when they cannot be: ledger/write.lua.
-- Always  1. a receipt is in the journal, with facts enough to release it, before its first effect.
--         2. it leaves only when its release said done or gone, or when what it dies with left.
--         3. `needs` names only receipts that are there, and pins them.
--         4. nothing is acquired below an owner that is closing, nor on top of what such an owner holds.

local Book = require "moonshim.ledger.book"
local acquire = require "moonshim.ledger.acquire"
local err = require "moonshim.err"
local kind = require "moonshim.kind"
local record = require "moonshim.journal.record"
local task = require "moonshim.task"
local write = require "moonshim.ledger.write"

local must, note, plain_error = write.must, write.note, write.plain_error

local ledger = {}

---@class moonshim.Ledger
local Ledger = {}
Ledger.__index = Ledger

---Outcomes that tell nothing about whether the effect happened.
local UNKNOWN_OUTCOME = { deadline_exceeded = true, cancelled = true, unavailable = true, unknown = true }

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
    closing = {}, acquiring = {}, runs = {}, releasing = {}, behind = false, compact_at = write.COMPACT_ABOVE,
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

---Acquires one thing: reserve, journal it as intended, acquire, journal it as held. When acquire fails, the receipt stays
---`intended` and the error is raised; the roll-back is a plan like any other.
---@async
---@param opts { owner: string, kind: string, args: table?, name: string?, needs: table?, dies_with: table?, within: string|integer? }
---@return moonshim.Receipt
Ledger.acquire = acquire

---Waits until no acquire below `owner` is running. Bounded, since every acquire has its deadline.
---@async
function Ledger:settle(owner)
  while true do
    local busy
    for other in pairs(self.acquiring) do
      if Book.is_below(other.owner, owner) then
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

---The owner that is closing: this one or one above it.
---@return string? path
function Ledger:closing_above(owner)
  local path = owner
  while path do
    if self.closing[path] then
      return path
    end
    path = path:match("^(.*)/[^/]*$")
  end
end

---@return boolean
function Ledger:is_closing(owner)
  return self:closing_above(owner) ~= nil
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
Ledger.compact = write.compact

---Closes the journal; the receipts stay what they are.
function Ledger:close()
  self.journal:close()
end

return ledger

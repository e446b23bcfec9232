--- ledger/write - how a record gets into the journal and into the book.
--
-- Words   record: journal/record.lua. book: ledger/book.lua. behind = the journal misses records, because it could not be
--         written; the book has them.
-- Always  1. the journal has a record before the book does; `must` raises otherwise.
--         2. what the journal missed goes in first, as a rewrite of the whole.
-- On the way up a journal that cannot be written stops everything: no record, no effect. On the way down it stops
-- nothing: the record is kept and written later; the worst that a crash in between brings is a second release.

local err = require "moonshim.err"

local write = {}

---Bytes of journal below which it is never rewritten.
write.COMPACT_ABOVE = 256 * 1024

local function to_journal(self, rec)
  if self.behind then
    self.journal:rewrite(self.book:snapshot(os.time()))
    self.behind = false
  end
  self.journal:append(rec)
end

-- Ledger:compact.
function write.compact(self)
  local ok, e = pcall(self.journal.rewrite, self.journal, self.book:snapshot(os.time()))
  if ok then
    self.behind = false
  else
    self.log:warn("the journal could not be rewritten", { error = e })
  end
  self.compact_at = math.max(write.COMPACT_ABOVE, 4 * (self.journal.size or 0))
end

local function take_in(self, rec)
  local result = self.book:apply(rec)
  if not self.behind and (self.journal.size or 0) > self.compact_at then
    write.compact(self)
  end
  return result
end

---A record without which nothing may happen: raises when it cannot be written.
---@param self moonshim.Ledger
---@return any what the book says to it
function write.must(self, rec)
  rec.at = rec.at or self.now()
  to_journal(self, rec)
  return take_in(self, rec)
end

---A record of what has happened already: the ledger believes it even when the journal cannot take it now.
---@param self moonshim.Ledger
---@return any what the book says to it
function write.note(self, rec)
  rec.at = rec.at or self.now()
  local ok, e = pcall(to_journal, self, rec)
  if not ok then
    self.behind = true
    self.log:warn("the journal cannot be written; going on without", { error = e, record = rec.t, name = rec.n or rec.o })
  end
  return take_in(self, rec)
end

---An error as records hold it.
function write.plain_error(e)
  e = err.from(e)
  return { code = e.code, message = e.message:sub(1, 1000) }
end

return write

local journal = require "moonshim.journal"
local record = require "moonshim.journal.record"

local function fold(j)
  local list = {}
  j:fold(function(r) list[#list + 1] = r end)
  return list
end

describe("a record", function()
  it("comes back as it was: bytes, 64-bit integers, floats, empty tables", function()
    local value = {
      t = "r", big = math.maxinteger, small = math.mininteger, ino = 9007199254740993, third = 1 / 3, three = 3.0, tiny = 5e-324,
      bytes = "\0\1\255\n\"\\/", list = { 1, { x = true }, "s" }, empty = {}, no = false, zero = 0, huge = 1e300,
    }
    local back = record.decode(record.encode(value), 1)
    assert.same(value, back)
    for _, key in ipairs { "big", "ino", "zero" } do
      assert.equal("integer", math.type(back[key]))
    end
    assert.equal("float", math.type(back.three))
  end)

  for name, value in pairs {
    ["a function"] = { f = print }, ["not a number"] = { x = 0 / 0 }, ["infinity"] = { x = 1 / 0 }, ["a mixed table"] = { 1, a = 2 },
    ["a hole"] = { 1, nil, 3 }, ["a reserved key"] = { ["$n"] = 1 }, ["a float key"] = { [1.5] = 1 },
  } do
    it("refuses " .. name .. ", naming the place", function()
      local ok, e = pcall(record.encode, { deep = value })
      assert.is_false(ok)
      assert.equal("invalid_argument", e.code)
      assert.truthy(e.message:find("record.deep", 1, true))
    end)
  end

  it("refuses a cycle", function()
    local c = {}
    c.c = c
    assert.equal("invalid_argument", select(2, pcall(record.encode, c)).code)
  end)

  it("longer than the limit is refused", function()
    assert.equal("resource_exhausted", select(2, pcall(record.encode, { x = ("y"):rep(record.LIMIT) })).code)
  end)

  it("with any single byte changed is not taken for a whole one", function()
    local line = record.encode { t = "d", n = "layer-3", how = "done" }
    for at = 1, #line do
      for _, change in ipairs { 1, 0x20, 0x80 } do
        local damaged = line:sub(1, at - 1) .. string.char(line:byte(at) ~ change) .. line:sub(at + 1)
        local value = record.decode(damaged, 1)
        -- Upper-case hex digits say the same length and checksum.
        assert.is_true(value == nil or damaged:lower() == line, ("byte %d"):format(at))
      end
    end
  end)

  it("of an absurd length is refused without being read", function()
    assert.is_nil((record.decode("ffffffff 00000000 {}\n", 1)))
  end)
end)

-- One suite for both; they must not differ.
local function lock_in_memory()
  local held = {}
  return function(path)
    if held[path] then
      return nil, { code = "failed_precondition", message = "held by process 7" }
    end
    held[path] = true
    return { close = function() held[path] = nil end }
  end
end

local uv = require "luv"

describe("a journal", function()
  local dir, lock
  before_each(function()
    dir = assert(uv.fs_mkdtemp("/tmp/moonshim-journal-XXXXXX"))
    lock = lock_in_memory()
  end)
  after_each(function()
    for _, name in ipairs { "j", "j.lock", "j.bad", "j.new" } do
      os.remove(dir .. "/" .. name)
    end
    assert(uv.fs_rmdir(dir))
  end)

  local function bytes_of_file()
    local f = assert(io.open(dir .. "/j", "rb"))
    local text = f:read("a")
    f:close()
    return text
  end

  local function write_file(text)
    local f = assert(io.open(dir .. "/j", "wb"))
    f:write(text)
    f:close()
  end

  for _, case in ipairs {
    {
      name = "in memory",
      open = function(text) return journal.memory(text) end,
      bytes = function(j) return j:bytes() end,
    },
    {
      name = "in a file",
      open = function(text)
        if text then write_file(text) end
        return journal.file(dir .. "/j", { lock = lock })
      end,
      bytes = bytes_of_file,
    },
  } do
    describe(case.name, function()
      it("gives back what was appended, in order", function()
        local j = case.open()
        for i = 1, 100 do j:append { t = "e", i = i } end
        local list = fold(j)
        assert.equal(100, #list)
        assert.same({ t = "e", i = 37 }, list[37])
        local text = case.bytes(j)
        assert.equal(#text, j.size)
        j:close()
        j = case.open(text)
        assert.equal(100, #fold(j))
        assert.is_nil(j.lost)
        j:close()
      end)

      it("cut at any byte gives the whole records before it, cuts off the rest, and goes on from there", function()
        local full = journal.memory()
        local ends = { [0] = 0 }
        for i = 1, 4 do
          full:append { t = "e", i = i, text = ("x"):rep(i * 5) }
          ends[i] = full.size
        end
        local text = full:bytes()
        for at = 0, #text do
          local whole = 0
          while ends[whole + 1] and ends[whole + 1] <= at do whole = whole + 1 end
          local j = case.open(text:sub(1, at))
          assert.equal(whole, #fold(j))
          assert.equal(at == ends[whole], j.lost == nil)
          j:append { t = "e", i = 99 }
          assert.equal(99, fold(j)[whole + 1].i)
          assert.equal(j.size, #case.bytes(j))
          j:close()
        end
      end)

      it("is rewritten in one step, and appended to after that", function()
        local j = case.open()
        for i = 1, 10 do j:append { t = "e", i = i } end
        j:rewrite { { t = "a" }, { t = "b" } }
        j:append { t = "c" }
        local text = case.bytes(j)
        assert.equal(#text, j.size)
        j:close()
        j = case.open(text)
        assert.same({ { t = "a" }, { t = "b" }, { t = "c" } }, fold(j))
        j:close()
      end)

      it("that is closed takes no more", function()
        local j = case.open()
        j:close()
        j:close()
        assert.equal("failed_precondition", select(2, pcall(j.append, j, { t = "e" })).code)
      end)
    end)
  end

  describe("in a file", function()
    it("has one writer at a time; the second is told who holds it", function()
      local j = journal.file(dir .. "/j", { lock = lock })
      local ok, e = pcall(journal.file, dir .. "/j", { lock = lock })
      assert.is_false(ok)
      assert.equal("failed_precondition", e.code)
      assert.truthy(e.message:find("process 7", 1, true))
      j:close()
      journal.file(dir .. "/j", { lock = lock }):close()
    end)

    it("is locked by the core, and free again when closed", function()
      local has_core = pcall(require, "moonshim.core")
      if not has_core then
        pending("needs moonshim.core")
        return
      end
      local j = journal.file(dir .. "/j")
      local ok, e = pcall(journal.file, dir .. "/j")
      assert.is_false(ok)
      assert.equal("failed_precondition", e.code)
      j:rewrite {} -- the lock survives a rewrite
      assert.is_false(pcall(journal.file, dir .. "/j"))
      j:close()
      journal.file(dir .. "/j"):close()
    end)

    it("opened for reading changes nothing and needs no lock", function()
      local j = journal.file(dir .. "/j", { lock = lock })
      j:append { t = "e", i = 1 }
      write_file(bytes_of_file() .. "torn")
      local before = bytes_of_file()
      local reader = journal.file(dir .. "/j", { read_only = true })
      assert.equal(1, #fold(reader))
      assert.equal(4, reader.lost.bytes)
      assert.equal("failed_precondition", select(2, pcall(reader.append, reader, { t = "e" })).code)
      reader:close()
      assert.equal(before, bytes_of_file())
      j:close()
    end)

    it("that is not there is not made when that is not wanted", function()
      local ok, e = pcall(journal.file, dir .. "/j", { create = false, lock = lock })
      assert.is_false(ok)
      assert.equal("not_found", e.code)
      assert.is_nil(uv.fs_stat(dir .. "/j.lock"))
    end)

    it("keeps what stood behind damage in the middle beside it", function()
      local j = journal.memory()
      for i = 1, 3 do j:append { t = "e", i = i } end
      local text = j:bytes()
      write_file(text:sub(1, 30) .. "?" .. text:sub(32))
      local file = journal.file(dir .. "/j", { lock = lock })
      fold(file)
      local bad = assert(uv.fs_stat(dir .. "/j.bad"))
      assert.equal(#text - file.size, bad.size)
      file:close()
    end)

    it("that cannot be opened raises, and leaves no lock behind", function()
      local ok, e = pcall(journal.file, dir .. "/no/such/j", { lock = lock })
      assert.is_false(ok)
      assert.equal("not_found", e.code)
      assert.truthy(lock(dir .. "/no/such/j.lock"))
    end)

    it("takes back what a failed write left before it goes on", function()
      local j = journal.file(dir .. "/j", { lock = lock })
      j:append { t = "e", i = 1 }
      local real = j.uv
      j.uv = setmetatable({
        fs_write = function(fd, text, at) -- a full disk takes half of it
          return real.fs_write(fd, text:sub(1, #text // 2), at)
        end,
      }, { __index = real })
      local ok, e = pcall(j.append, j, { t = "e", i = 2 })
      assert.is_false(ok)
      assert.equal("resource_exhausted", e.code)
      j.uv = real
      j:append { t = "e", i = 3 }
      assert.same({ { t = "e", i = 1 }, { t = "e", i = 3 } }, fold(j))
      j:close()
    end)
  end)
end)

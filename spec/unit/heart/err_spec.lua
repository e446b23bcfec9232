local err = require "moonshim.err"

describe("an error value", function()
  it("keeps code, message and the fields it was made with", function()
    local e = err.new("not_found", "no such disk", { hresult = 0x80070490, origin = "host", op = "attach" })
    assert.equal("not_found", e.code)
    assert.equal(0x80070490, e.hresult)
    assert.equal("host", e.origin)
    assert.equal("not_found: no such disk", tostring(e))
  end)

  it("refuses a code that does not exist", function()
    assert.has_error(function()
      err.new("notfound", "x")
    end)
  end)

  it("has the codes of csrc/base/err.h, no more and no less", function()
    local file = assert(io.open("csrc/base/err.h"))
    local text = file:read("a")
    file:close()
    local codes = {}
    for code in text:gmatch('X%([%u_]+, "([%l_]+)"%)') do
      codes[code] = true
    end
    assert.same(codes, err.codes)
  end)

  it("is recognised by code, also as a plain table from C", function()
    assert.is_true(err.is({ code = "gone" }, "not_found", "gone"))
    assert.is_true(err.is({ code = "gone" }))
    assert.is_false(err.is({ code = "gone" }, "not_found"))
    assert.is_false(err.is("gone", "gone"))
    assert.is_false(err.is(nil, "gone"))
  end)

  it("gets context in front and stays what it was", function()
    local e = err.wrap(err.new("unavailable", "bridge lost", { hresult = 5 }), "attach disk")
    assert.equal("unavailable: attach disk: bridge lost", tostring(e))
    assert.equal(5, e.hresult)
  end)
end)

describe("err.try", function()
  it("hands on all values when the first is true", function()
    assert.same({ 1, 2, 3 }, { err.try(1, 2, 3) })
  end)

  it("raises the error value that came second", function()
    local ok, e = pcall(err.try, nil, { code = "gone", message = "exited" })
    assert.is_false(ok)
    assert.equal("gone: exited", tostring(e))
  end)

  it("gives luv's errors their class", function()
    local _, e = pcall(err.try, nil, "ENOSPC: no space left on device: /x", "ENOSPC")
    assert.equal("resource_exhausted", e.code)
    assert.equal("not_found", select(2, pcall(err.try, nil, "ENOENT: no such file")).code)
  end)

  it("raises internal when there is no reason at all", function()
    assert.equal("internal", select(2, pcall(err.try, nil)).code)
  end)
end)

describe("err.guarded", function()
  it("turns a raised value into nil, e", function()
    local f = err.guarded(function(x)
      err.raise("invalid_argument", "bad %s", x)
    end)
    local v, e = f("id")
    assert.is_nil(v)
    assert.equal("invalid_argument: bad id", tostring(e))
  end)

  it("lets a bug through with its traceback", function()
    local ok, e = pcall(err.guarded(function()
      error("a bug")
    end))
    assert.is_false(ok)
    assert.truthy(e:find("stack traceback:", 1, true))
  end)

  it("hands on every result, nil too", function()
    assert.same({ n = 3, nil, 2, nil }, table.pack(err.guarded(function()
      return nil, 2, nil
    end)()))
  end)
end)

describe("err.from", function()
  it("makes internal of a string and keeps its text", function()
    local e = err.from("x.lua:1: oops\nstack traceback: ...")
    assert.equal("internal", e.code)
    assert.truthy(e.message:find("stack traceback", 1, true))
  end)

  it("keeps an error value, a strange table and nil apart", function()
    local e = err.new("gone", "x")
    assert.equal(e, err.from(e))
    assert.equal("internal: hm", tostring(err.from({ message = "hm" })))
    assert.equal("internal", err.from(nil).code)
  end)
end)

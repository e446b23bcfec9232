local core = require "moonshim.core"
local json = core.json

local function refused(code, text, ...)
  local v, e = ...
  assert.is_nil(v)
  assert.equal(code, e.code)
  assert.truthy(e.message:find(text, 1, true), e.message)
end

describe("a document that only passes through", function()
  for name, text in pairs {
    ["an empty list"] = '{"a":[]}',
    ["an empty object"] = '{"a":{}}',
    ["null"] = '{"a":null}',
    ["the greatest integer"] = "9223372036854775807",
    ["the least integer"] = "-9223372036854775808",
    ["an id above 2^53"] = '{"id":9007199254740993}',
    ["nested lists"] = "[1,[2,[]],{}]",
    ["a NUL in a string"] = '"a\\u0000b"',
    ["true and false"] = "[true,false]",
    ["a lone string"] = '"x"',
  } do
    it("keeps " .. name, function()
      assert.equal(text, json.encode(assert(json.decode(text))))
    end)
  end

  it("keeps 64-bit integers as integers (known bug 182)", function()
    local v = json.decode "[9007199254740993,9223372036854775807]"
    assert.equal("integer", math.type(v[1]))
    assert.equal(9007199254740993, v[1])
    assert.equal(math.maxinteger, v[2])
  end)

  it("reads 1.0 as 1 and writes 1.0 as 1 (known bug 182)", function()
    assert.equal("integer", math.type(json.decode "1.0"))
    assert.equal("32768", json.encode(2 ^ 15))
  end)

  it("keeps a fraction exactly", function()
    assert.equal(0.1, json.decode(json.encode(0.1)))
  end)

  it("lets the last of two equal names win", function()
    assert.equal(2, json.decode('{"a":1,"a":2}').a)
  end)

  it("has the null of lua-cjson", function()
    assert.equal(require("cjson").null, json.decode "null")
    assert.equal(json.null, json.decode "null")
  end)
end)

describe("a text that is no JSON", function()
  it("is refused with line, column and byte", function()
    refused("invalid_argument", "line 2, column 1", json.decode '{"a":\n]')
  end)
  it("is refused when it is empty", function()
    refused("invalid_argument", "not JSON", json.decode "")
  end)
  it("is refused for what follows the value", function()
    refused("invalid_argument", "byte 3", json.decode "1 2")
  end)
  it("is refused for bytes that are not UTF-8, naming the byte", function()
    refused("invalid_argument", "byte 4", json.decode '"abc\xff"')
  end)
  it("is refused for an integer beyond 64 bits", function()
    refused("invalid_argument", "too big integer", json.decode "9223372036854775808")
  end)
  it("is refused for a number beyond a double", function()
    refused("invalid_argument", "overflow", json.decode "1e400")
  end)
end)

describe("a text that is too much", function()
  it("may be 128 levels deep and no deeper", function()
    assert.truthy(json.decode(("["):rep(128) .. ("]"):rep(128)))
    refused("resource_exhausted", "deeper than 128", json.decode(("["):rep(129) .. ("]"):rep(129)))
  end)
  it("may have 16 MiB and no more", function()
    refused("resource_exhausted", "limit", json.decode('"' .. ("x"):rep(16 << 20) .. '"'))
  end)
  it("may not make millions of values out of little text", function()
    refused("resource_exhausted", "values", json.decode("[" .. ("0,"):rep(1 << 20) .. "0]"))
  end)
  it("does not count brackets inside strings", function()
    assert.equal(("["):rep(500), json.decode('"' .. ("["):rep(500) .. '"'))
  end)
end)

describe("a table to write", function()
  it("is an object when it is empty and a list when it is marked", function()
    assert.equal("{}", json.encode {})
    assert.equal("[]", json.encode(json.array {}))
    assert.equal("[]", json.encode(json.array()))
  end)
  it("is a list when its keys are 1..n", function()
    assert.equal("[1,2]", json.encode { 1, 2 })
  end)
  it("comes out with its names in order", function()
    assert.equal('{"a":1,"b":2,"c":3}', json.encode { c = 3, a = 1, b = 2 })
  end)
  it("is refused with the place of what cannot be written", function()
    refused("invalid_argument", "a.b[2] is a function", json.encode { a = { b = { 1, print } } })
    refused("invalid_argument", "a is not UTF-8", json.encode { a = "\xff" })
    refused("invalid_argument", "a is not a finite number", json.encode { a = 0 / 0 })
    refused("invalid_argument", "a is not a finite number", json.encode { a = math.huge })
    refused("invalid_argument", "mixes names", json.encode { a = 1, [2] = 2 })
    refused("invalid_argument", "holes", json.encode(json.array { [1] = 1, [3] = 3 }))
  end)
  it("is refused when it holds itself", function()
    local t = {}
    t.t = t
    refused("resource_exhausted", "holds itself", json.encode(t))
  end)
end)

it("json raises for a wrong type, which is a bug", function()
  assert.has_error(function() json.decode(1) end)
  assert.has_error(function() json.encode() end)
end)

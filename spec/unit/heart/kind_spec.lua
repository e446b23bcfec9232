local kind = require "moonshim.kind"

local function nothing() end

local function spec(extra)
  local s = { reserve = nothing, acquire = nothing, release = nothing }
  for k, v in pairs(extra or {}) do s[k] = v end
  return s
end

describe("a kind", function()
  it("has defaults in milliseconds, and answers unknown when it cannot verify", function()
    local k = kind.set():define("thing", spec())
    assert.same({ within = 30000, retries = 2, backoff = 100, on_failure = "stop", args = {} }, k.defaults)
    assert.equal("unknown", k.verify())
    assert.equal(1, k.v)
    assert.is_false(k.ends_with_boot or k.check_release or k.ends_world)
  end)

  it("keeps what its module exports beyond the contract", function()
    assert.equal(nothing, kind.set():define("thing", spec { start = nothing }).start)
  end)

  it("named uvm ends the world", function()
    assert.is_true(kind.set():define("uvm", spec()).ends_world)
  end)

  for name, bad in pairs {
    ["without release"] = { release = false }, ["with a strange on_failure"] = { defaults = { on_failure = "ignore" } },
    ["with a bad duration"] = { defaults = { within = "soon" } }, ["that checks a release it cannot verify"] = { check_release = true },
    ["with a version that is no integer"] = { v = "1" },
  } do
    it(name .. " is refused", function()
      local ok, e = pcall(function() kind.set():define("thing", spec(bad)) end)
      assert.is_false(ok)
      assert.equal("invalid_argument", e.code)
    end)
  end

  it("is defined once, under a plain name: two of one name are told when the second is loaded [#692]", function()
    local set = kind.set()
    set:define("thing", spec())
    assert.equal("already_exists", select(2, pcall(set.define, set, "thing", spec())).code)
    assert.equal("invalid_argument", select(2, pcall(set.define, set, "../thing", spec())).code)
    assert.is_nil(set:get("other"))
  end)

  it("that nobody has loaded is looked for in moonshim.kinds", function()
    package.preload["moonshim.kinds.specthing"] = function()
      return kind.define("specthing", spec())
    end
    assert.equal("specthing", kind.get("specthing").name)
    package.preload["moonshim.kinds.specthing"] = nil
    assert.is_nil(kind.get("no_such_kind_at_all"))
  end)
end)

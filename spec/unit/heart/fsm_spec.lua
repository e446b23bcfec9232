local fsm = require "moonshim.fsm"

local function door(extra)
  local def = {
    name = "door", initial = "open",
    states = { open = "one can go through", closed = "one cannot", broken = "" },
    transitions = {
      { "open", "shut", "closed", by = "anyone" },
      { "closed", "open", "open", by = "who has the key" },
      { "*", "kick", "broken", by = "fools" },
      { "closed", "knock", "=", by = "guests" },
    },
  }
  for k, v in pairs(extra or {}) do def[k] = v end
  return def
end

describe("a machine", function()
  local m, changes
  before_each(function()
    changes = {}
    m = fsm.define(door()):new { id = "d1", on_change = function(from, to, op, why)
      changes[#changes + 1] = ("%s-%s-%s-%s"):format(from, op, to, tostring(why))
    end }
  end)

  it("follows its arrows and tells who listens", function()
    assert.equal("closed", m:apply("shut", "wind"))
    assert.equal("closed", m:apply("knock"))
    assert.equal("open", m:apply("open"))
    assert.same({ "open-shut-closed-wind", "closed-knock-closed-nil", "closed-open-open-nil" }, changes)
  end)

  it("refuses an illegal operation, naming object, state and operation, and stays where it is", function()
    local ok, e = pcall(m.apply, m, "open")
    assert.is_false(ok)
    assert.equal("failed_precondition", e.code)
    assert.equal("door d1 is open: cannot open", e.message)
    assert.equal("open", e.op)
    assert.equal("open", m:state())
    assert.same({}, changes)
  end)

  it("answers what is possible without doing it", function()
    assert.is_true(m:can("shut"))
    assert.is_false(m:can("open"))
    assert.is_true(m:is("closed", "open"))
    assert.is_false(m:is("closed"))
    m:expect("shut")
    assert.equal("open", m:state())
  end)

  it("may start in any declared state, for an object that was reloaded", function()
    assert.equal("closed", fsm.define(door()):new({ state = "closed" }):state())
    assert.is_false(pcall(function() fsm.define(door()):new { state = "ajar" } end))
  end)
end)

describe("a declaration", function()
  for name, extra in pairs {
    ["with an initial state that is not declared"] = { initial = "ajar" },
    ["with an arrow to nowhere"] = { transitions = { { "open", "shut", "locked" } } },
    ["with an arrow from nowhere"] = { transitions = { { "locked", "open", "open" } } },
    ["with two arrows for one operation"] = { transitions = { { "open", "shut", "closed" }, { "open", "shut", "broken" } } },
    ["with a state that nothing leads to"] = { transitions = { { "open", "shut", "closed" } } },
  } do
    it(name .. " is refused", function()
      local ok, e = pcall(fsm.define, door(extra))
      assert.is_false(ok)
      assert.equal("invalid_argument", e.code)
    end)
  end

  it("is drawn as Graphviz text from the same tables", function()
    local dot = fsm.dot(fsm.define(door()))
    assert.truthy(dot:find('digraph "door"', 1, true))
    assert.truthy(dot:find('"open" -> "closed" [label="shut (anyone)"]', 1, true))
    assert.truthy(dot:find('"closed" -> "broken" [label="kick (fools)"]', 1, true))
  end)

  it("is printed for people", function()
    local text = fsm.text(fsm.define(door()))
    assert.truthy(text:find("*open    one can go through", 1, true), text)
    assert.truthy(text:find("open   --shut---> closed  anyone", 1, true), text)
  end)
end)

local timeline = require "moonshim.timeline"

local STATES = {
  { at = 1000, object = "vm", state = "booting" },
  { at = 1400, object = "vm", state = "running" },
  { at = 1400, object = "vm/p/web", state = "creating" },
  { at = 1600, object = "vm/p/web", state = "created" },
  { at = 1700, object = "vm/p/web", state = "running" },
  { at = 2000, object = "vm/p/web/e1", state = "running" },
  { at = 2100, object = "vm/p/web/e1", state = "stopped" },
  { at = 2100, object = "vm/p/web/e1", exit = { code = 0 } },
  { at = 2500, object = "vm/p/db", state = "created" },
  { at = 3000, object = "vm/p/web", state = "stopped" },
  { at = 3000, object = "vm/p/web", exit = { code = 143 } },
  { at = 3200, object = "vm/p/web", state = "deleted" },
  { at = 3400, object = "vm", state = "ended" },
}

describe("a timeline", function()
  it("folds states into one lane per object, children below their parents", function()
    local lanes, from, to = timeline.lanes(STATES)
    local objects = {}
    for i, lane in ipairs(lanes) do objects[i] = lane.object end
    assert.same({ "vm", "vm/p/web", "vm/p/web/e1", "vm/p/db" }, objects)
    assert.same({ 1000, 3400 }, { from, to })
  end)

  it("ends each span where the next state begins", function()
    local web = timeline.lanes(STATES)[2]
    assert.same({ state = "running", from = 1700, to = 3000 }, web.spans[3])
    assert.same({ state = "stopped", from = 3000, to = 3200 }, web.spans[4])
    assert.equal(4, #web.spans)
  end)

  it("draws what still lives up to the end", function()
    local db = timeline.lanes(STATES)[4]
    assert.same({ state = "created", from = 2500, to = 3400, open = true }, db.spans[1])
  end)

  it("shows bars, exits and a scale", function()
    local text = timeline.draw(STATES, { ascii = true, width = 80 })
    assert.is_truthy(text:find("web%s*|.*#+.*x.*exit 143"))
    assert.is_truthy(text:find("e1%s*|.*o,* exit 0"))
    assert.is_truthy(text:find("0ms"))
    for line in text:gmatch("[^\n]+") do assert.is_true(#line <= 92, line) end
  end)

  it("has a look of its own for whatever a controller can be in, in both alphabets", function()
    local seen = {}
    for _, look in ipairs(timeline.looks) do
      for _, glyph in ipairs { look.unicode, look.ascii } do
        assert.is_nil(seen[glyph], glyph)
        assert.equal(1, utf8.len(glyph))
        seen[glyph] = true
      end
    end
    for _, name in ipairs { "vm", "pod", "network", "container", "process" } do
      for state in pairs(require("moonshim.controller." .. name).life.states) do
        local text = timeline.draw({ { at = 0, object = "x", state = state }, { at = 9, object = "x", state = "deleted" } })
        local drawn = text:find("│[^%s]")
        assert.equal(drawn == nil, timeline.final[state] == true, state)
        assert.equal(drawn ~= nil, text:find("\n +[^%s]+ [%a ]+\n$") ~= nil, text)
      end
    end
  end)

  it("has a legend of just what it drew", function()
    local text = timeline.draw(STATES, { ascii = true })
    assert.is_truthy(text:find(". created  # running  , stopped\n", 1, true), text)
    assert.is_falsy(text:find("deleting", 1, true))
  end)

  it("lists what is remarkable and nothing else", function()
    local text = timeline.draw(STATES, { events = {
      { at = 3000, topic = "exit", data = { id = "web" } },
      { at = 3100, topic = "policy-fallback", data = { message = "teardown.lua:3: boom" } },
    } })
    assert.is_truthy(text:find("policy-fallback: teardown.lua:3: boom", 1, true))
    assert.is_falsy(text:find("exit: web", 1, true))
  end)

  it("says so when nothing happened", function() assert.equal("nothing happened yet\n", timeline.draw({})) end)

  it("survives a pod that lived no time and one that lived for years", function()
    assert.is_string(timeline.draw { { at = 5, object = "vm", state = "running" } })
    assert.is_string(timeline.draw { { at = 0, object = "vm", state = "running" }, { at = 1 << 40, object = "vm", state = "ended" } })
  end)
end)

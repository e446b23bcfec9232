-- Calls of the library that could run very long where no hook reaches (csrc/bind/bounded.c).
local given = require "support.script"(before_each, after_each)
local run, fails = given.run, given.fails

local LIMITS = { instructions = 200000, memory = 64 << 20 }

-- Lua takes its length for 1 << 30: its keys are the powers of two.
local HOLES = {}
for bit = 0, 30 do
  HOLES[#HOLES + 1] = ("[%d]=1"):format(1 << bit)
end
HOLES = "{" .. table.concat(HOLES, ",") .. "}"

describe("a call that would run for ever in one instruction", function()
  for name, body in pairs {
    ["a pattern that backtracks"] = "return (('a'):rep(60)):find(('a*'):rep(30) .. 'b')",
    ["a lazy pattern"] = "return (('a'):rep(5000)):match('a-a-a-a-a-b')",
    ["gsub"] = "return (('a'):rep(5000)):gsub('a-a-a-a-b', '')",
    ["gmatch"] = "for _ in (('a'):rep(5000)):gmatch('a*a*a*a*b') do end",
    ["gmatch, for which ^ is no anchor"] = "for _ in (('^'):rep(1 << 15)):gmatch('^^-b') do end",
    ["a set as long as the text"] = "return (('a'):rep(1 << 14)):find('[' .. ('b'):rep(1 << 16) .. ']')",
    ["a frontier as long as the text"] = "return (('a'):rep(1 << 14)):find('%f[' .. ('b'):rep(1 << 16) .. ']')",
    ["a capture compared at every place"] = "return (('a'):rep(12000)):find('(a-)%1b')",
    ["string.rep of nothing"] = "return (''):rep(1 << 60)",
    ["string.rep of much"] = "return ('x'):rep(1 << 50)",
    ["string.rep with a separator"] = "return (''):rep(1 << 50, 'x')",
    ["table.move"] = "return table.move({}, 1, math.maxinteger - 1, 2)",
    ["table.insert over __len"] = "table.insert(setmetatable({}, { __len = function() return 1 << 60 end }), 1, 1)",
    ["table.insert in front of holes"] = "table.insert(" .. HOLES .. ", 1, 1)",
    ["table.remove in front of holes"] = "table.remove(" .. HOLES .. ", 1)",
    ["table.concat"] = "return table.concat(setmetatable({}, { __index = table.concat }), '', 1, 1 << 60)",
    ["table.unpack"] = "return #{ table.unpack(setmetatable({}, { __index = table.concat }), 1, 1 << 30) }",
    ["find of a long text"] = "return (('a'):rep(4 << 20)):find(('a'):rep(2 << 20) .. 'b', 1, true)",
    ["a long pattern"] = "return (('a'):rep(4 << 20)):match(('a'):rep(2 << 20) .. '.b')",
    ["table.remove over __len"] = "table.remove(setmetatable({}, { __len = function() return 1 << 60 end }), 1)",
    ["a finalizer"] = "setmetatable({}, { __gc = function() while true do end end })",
  } do
    it("is refused: " .. name, function() fails("aborted", "op.lua:1: ", run(body)) end)
  end

  it("is paid for by what it does", function()
    local body = "local t = {} for i = 1, 2000 do t[i] = 'x' end for _ = 1, 1000 do %s end"
    for _, call in ipairs { "table.insert(t, 1, 'x')", "table.remove(t, 1)", "table.concat(t)", "select('#', table.unpack(t))" } do
      fails("resource_exhausted", "budget of 200000 instructions", run(body:format(call), LIMITS))
    end
    assert.same({ "return", 3000 }, { run(body:format "table.insert(t, 'x')" .. " return #t", LIMITS) })
    assert.same({ "return", 1000 }, { run(body:format "table.remove(t)" .. " return #t", LIMITS) })
  end)

  -- Library functions that call each other run no instruction; each call counts as one.
  for name, body in pairs {
    ["of gsub"] = "return (('a'):rep(300000)):gsub('.', string.len)",
    ["of gsub, each protected"] = "return (('a'):rep(300000)):gsub('.', pcall)",
    ["of gsub, through a metamethod"] = "return (('a'):rep(300000)):gsub('.', setmetatable({}, { __index = rawlen }))",
    ["of a protected gsub, again and again"] = "return pcall(string.gsub, ('a'):rep(300000), '.', pcall)",
  } do
    it("is stopped when it is many calls: " .. name, function()
      fails("resource_exhausted", "op.lua:1: the script has used up its budget of 200000 instructions", run(body, LIMITS))
    end)
  end

  it("but ordinary patterns work", function()
    assert.same({ "return", "a", "b" }, { run "return ('a = b'):match('^%s*(%w+)%s*=%s*(.-)%s*$')" })
    assert.same({ "return", "x,x" }, { run "return (('a,b'):gsub('%a', 'x'))" })
    assert.same({ "return", "--" }, { run "return ('-'):rep(2)" })
    assert.same({ "return", 3 }, { run "return (('a+b'):find('b', 1, true))" })
  end)
end)

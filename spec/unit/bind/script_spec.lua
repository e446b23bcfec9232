-- The probe list of known-bugs.md section S, and what crosses between an operator's script and the engine.
local core = require "moonshim.core"
local given = require "support.script"(before_each, after_each)
local try, script, run, fails = given.try, given.new, given.run, given.fails

local LIMITS = { instructions = 200000, memory = 4 << 20 }

describe("a script that never ends", function()
  for name, body in pairs {
    ["in a loop"] = "while true do end",
    ["in a loop inside pcall"] = "while true do pcall(function() while true do end end) end",
    ["by returning a pcall"] = "return pcall(function() while true do end end)",
    ["in an error handler"] = "return xpcall(function() while true do end end, function() while true do end end)",
    ["in the handler of a plain error"] = "return xpcall(error, function() while true do end end, 1)",
    ["in a coroutine"] = "return pcall(coroutine.wrap(function() while true do end end))",
    ["in coroutines made for ever"] = "while true do coroutine.wrap(function() end)() end",
    ["in a __close after the budget"] = [[
      local co = coroutine.create(function()
        local x <close> = setmetatable({}, { __close = function() while true do end end })
        while true do end
      end)
      return coroutine.resume(co)]],
    ["in a __close"] = "local x <close> = setmetatable({}, { __close = function() while true do end end })",
    ["in a comparator"] = "table.sort({ 3, 2, 1 }, function() while true do end end)",
    ["in __index"] = "return setmetatable({}, { __index = function() while true do end end }).x",
    ["in __tostring"] = "return tostring(setmetatable({}, { __tostring = function() while true do end end }))",
    ["in a gsub callback"] = "return (('x'):gsub('x', function() while true do end end))",
    ["in an iterator"] = "for _ in function() return 1 end do end",
    ["by goto"] = "::top:: goto top",
  } do
    it("is stopped " .. name .. " (known bug 167)", function()
      fails("resource_exhausted", "budget of 200000 instructions", run(body, LIMITS))
    end)
  end

  it("is stopped with file and line (known bug 167)", function()
    local s = script("return {\n f = function()\n  while true do end\n end }", LIMITS)
    fails("resource_exhausted", "op.lua:3: ", s:call "f")
  end)

  it("is stopped in a __close after an error, which is what is told (known bug 167)", function()
    fails("aborted", "op.lua:1: mine",
      run("local x <close> = setmetatable({}, { __close = function() while true do end end }) error('mine')", LIMITS))
  end)

  it("is stopped while it is loaded (known bug 180)", function()
    local _, e = try("\nwhile true do end", LIMITS)
    fails("resource_exhausted", "op.lua:2: ", nil, e)
  end)

  it("is stopped by processor time where instructions are few", function()
    local body = "local s = ('x'):rep(1 << 20) while true do local t = s .. s end"
    fails("resource_exhausted", "ms of processor time", run(body, { cpu_ms = 20, instructions = 1 << 40, memory = 16 << 20 }))
  end)

  it("leaves its state usable: the next call has a new budget", function()
    local s = script("return { loop = function() while true do end end, ok = function() return 'fine' end }", LIMITS)
    assert.is_nil((s:call "loop"))
    assert.same({ "return", "fine" }, { s:call "ok" })
  end)

  it("cannot run what the budget killed later, when hooks are off there", function()
    local s = script([[
      return {
        die = function()
          G = coroutine.create(function()
            local x <close> = setmetatable({}, { __close = function() while true do end end })
            while true do end
          end)
          coroutine.resume(G)
        end,
        close = function() return coroutine.close(G) end,
      }]], LIMITS)
    assert.is_nil((s:call "die"))
    local how, ok = s:call "close"
    assert.same({ "return", false }, { how, ok })
  end)
end)

describe("a script that eats memory", function()
  for name, body in pairs {
    ["by tables"] = "local t = {} while true do t[#t + 1] = {} end",
    ["by strings"] = "local s = 'x' while true do s = s .. s end",
    ["by recursion"] = "local function f() return 1 + f() end return f()",
    ["by results of a library"] = "return #table.concat({ ('x'):rep(3 << 20), ('x'):rep(3 << 20) })",
  } do
    it("is stopped " .. name .. " and lives on (known bug 169)", function()
      local s = script("return { f = function() " .. body .. " end, ok = function() return 1 end }",
        { memory = 4 << 20, instructions = 1 << 30 })
      fails("resource_exhausted", "memory limit", s:call "f")
      assert.same({ "return", 1 }, { s:call "ok" })
      assert.is_true(s:counts().memory < 4 << 20)
    end)
  end

  it("may catch it, and has no more for it", function()
    assert.same({ "return", false, "not enough memory" }, { run("return pcall(string.rep, 'x', 8 << 20)", { memory = 4 << 20 }) })
  end)

  it("fails in order wherever the limit is met: loading, taking arguments, running, answering, returning", function()
    local data = {}
    for i = 1, 40 do
      data[i] = { name = "step-" .. i, needs = { "a", "b" } }
    end
    local outcomes = {}
    for room = 1000, 60000, 397 do
      local s = script([[
        local keep = {}
        return {
          fill = function(n) for i = 1, n // 540 do keep[i] = ('x'):rep(500) .. i end end,
          f = function(data, ask) return { data, function() return data end, coroutine.wrap(function() return 1 end)() } end,
        }]], { memory = 256 << 10, prelude = "local verbs = ... return { ask = function(d) return { verbs.request(d), d } end }" })
      s:call("fill", (256 << 10) - s:counts().memory - room)
      local how, e = s:call("f", data)
      outcomes[how or e.code] = true
      how, e = s:call("ask", data)
      outcomes[how or e.code] = true
      if how == "yield" then
        how, e = s:resume(data)
        outcomes[how or e.code] = true
      end
      s:close()
    end
    assert.same({ ["return"] = true, ["yield"] = true, resource_exhausted = true }, outcomes)
  end)

  it("cannot be made with less than its libraries need", function()
    local s, e = try("return {}", { memory = 128 << 10 })
    if not s then
      assert.equal("resource_exhausted", e.code)
    end
  end)

  it("uses no more after ten thousand calls (known bug 169)", function()
    local s = script "return { f = function(e) return { seen = e.n } end }"
    for n = 1, 1000 do
      s:call("f", { n = n })
    end
    local before = s:counts().memory
    for n = 1, 10000 do
      s:call("f", { n = n })
    end
    assert.is_true(s:counts().memory < before * 2)
  end)
end)

describe("out of its sandbox a script", function()
  for _, name in ipairs {
    "load", "loadstring", "loadfile", "dofile", "require", "package", "io", "os", "debug", "collectgarbage", "print",
    "warn", "arg", "moonshim",
  } do
    it("finds no " .. name .. " (known bug 175)", function() assert.same({ "return", "nil" }, { run("return type(" .. name .. ")") }) end)
  end

  it("finds no string.dump and no way to the metatable of strings (known bug 175)", function()
    assert.same({ "return", "nil", false }, { run "return type(string.dump), getmetatable('')" })
  end)

  it("cannot be bytecode (known bug 175)", function()
    fails("invalid_argument", "binary", try(string.dump(function() end)))
  end)

  it("does not share string methods with another (known bug 175)", function()
    script "string.upper = function() return 'mine' end return {}"
    assert.same({ "return", "X" }, { run "return ('x'):upper()" })
    assert.equal("X", ("x"):upper())
  end)

  it("has globals of its own (known bug 176)", function()
    script "X = 1 return {}"
    assert.same({ "return", "nil" }, { run "return type(X)" })
    assert.is_nil(rawget(_G, "X"))
  end)

  it("cannot reach its own call's coroutine (known bug 175)", function()
    assert.same({ "return", "nil" }, { run "return type(coroutine.running)" })
    fails("aborted", "outside a coroutine", run "coroutine.yield(1)")
  end)
end)

describe("a failure of a script", function()
  it("in its syntax names file and line (known bug 180)", function()
    fails("invalid_argument", "op.lua:2:", try "return {\n=")
  end)
  it("at its top names file and line (known bug 180)", function()
    fails("aborted", "op.lua:2: boom", try "\nerror 'boom'")
  end)
  it("by an empty table names file and line (known bug 180)", function()
    fails("aborted", "op.lua:2: ", try "\nerror({})")
  end)
  it("by nil names file and line", function()
    fails("aborted", "op.lua:1: the script raised nil", try "error()")
  end)
  it("by an error value keeps its code", function()
    fails("not_found", "op.lua:1: no disk", run "error({ code = 'not_found', message = 'no disk' })")
  end)
  it("deep inside has a traceback", function()
    local _, e = run "local function inner() error('x') end inner()"
    assert.truthy(e.traceback:find("in inner", 1, true))
  end)
  it("shows no control characters of the script", function()
    local _, e = run "local t = { ['\\27[1m\\n'] = function() error('\\27]0;x\\7\\127') end } t['\\27[1m\\n']()"
    assert.is_nil(e.message:find "%c")
    assert.truthy(e.traceback:find("in ?[1m?", 1, true), e.traceback)
    assert.is_nil(e.traceback:gsub("\n", ""):find "%c")
  end)
  it("of coroutines that are closed inside each other's __close comes before the C stack is full", function()
    local s = script [[
      local function deep(n, f)
        if n == 0 then return f() end
        return (('x'):gsub('x', function() return deep(n - 1, f) end))
      end
      -- All of them wait near the ground: the C calls of each are counted from there.
      local waiting, inside = {}, 0
      for i = 1, 20 do
        waiting[i] = coroutine.create(function()
          local _ <close> = setmetatable({}, { __close = function()
            inside = i
            if waiting[i + 1] then deep(190, function() assert(coroutine.close(waiting[i + 1])) end) end
          end })
          coroutine.yield()
        end)
        coroutine.resume(waiting[i])
      end
      return {
        close = function() assert(coroutine.close(waiting[1])) end,
        inside = function() return inside end,
      }]]
    local how, e = s:call "close"
    fails("aborted", "closed too deep", how, e)
    assert.same({ "return", 4 }, { s:call "inside" }) -- 4 times 200 calls: 2 MiB
  end)
  it("of the C stack names file and line", function()
    fails("aborted", "op.lua:1: ", run "local function f() return (('x'):gsub('x', f)) end f()")
  end)
end)

describe("what crosses", function()
  it("is every plain value, exactly (known bug 182)", function()
    local s = script "return { f = function(...) return ... end }"
    for _, v in ipairs { 0, -1, math.maxinteger, math.mininteger, 9007199254740993, 0.5, "", "a\0b\xff", true, false } do
      local _, got = s:call("f", v)
      assert.equal(v, got)
      assert.equal(math.type(v), math.type(got))
    end
    assert.same({ "return", nil, 2 }, { s:call("f", nil, 2) })
    local t = { a = { 1, { b = "x" } }, [7] = true }
    assert.same({ "return", t }, { s:call("f", t) })
  end)

  it("does not take metatables along, and null becomes nil", function()
    local s = script "return { f = function(t) return getmetatable(t), t.a end }"
    assert.same({ "return", nil, nil }, { s:call("f", setmetatable({ a = core.json.null }, { __index = {} })) })
  end)

  it("is a copy", function()
    local s = script "return { f = function(t) t.a = 2 return t end }"
    local mine = { a = 1 }
    local _, theirs = s:call("f", mine)
    assert.equal(1, mine.a)
    assert.equal(2, theirs.a)
  end)

  for name, case in pairs {
    ["NaN"] = { "return 0/0", "result 1 is not a finite number" },
    ["infinity"] = { "return { a = { b = { 1e400 } } }", "result 1.a.b[1] is not a finite number" },
    ["a table in itself"] = { "local t = {} t.t = t return t", "result 1.t holds itself" },
    ["a coroutine"] = { "return 1, coroutine.create(function() end)", "result 2 is a coroutine" },
    ["a boolean key"] = { "return { a = { [true] = 1 } }", "result 1.a has a key" },
    ["a key that is a table"] = { "return { [{}] = 1 }", "result 1 has a key" },
    ["40 levels"] = { "local t = {} for _ = 1, 40 do t = { t } end return t", "too deep" },
    ["40 values"] = { "return table.unpack({}, 1, 40)", "at most 32" },
  } do
    it("is not " .. name .. " (known bug 173)", function()
      local _, e = run(case[1])
      assert.equal(case[2] == "too deep" and "resource_exhausted" or "invalid_argument", e.code)
      assert.truthy(e.message:find(case[2], 1, true), e.message)
    end)
  end

  it("is not too much", function()
    fails("resource_exhausted", "result 1", run "local t = {} for i = 1, 300000 do t[i] = true end return t")
    fails("resource_exhausted", "result 1", run "local s = ('x'):rep(1 << 20) return { s, s, s, s, s, s, s, s, s, s }")
    fails("resource_exhausted", "result 1 is too much text", run "return ('x'):rep(9 << 20)")
    fails("resource_exhausted", "is too much text", run "return { [('x'):rep(9 << 20)] = 1 }")
  end)

  it("is not too much of several values together", function()
    fails("resource_exhausted", "result 3 is too much text", run "local s = ('x'):rep(3 << 20) return s, s, s, s")
    fails("resource_exhausted", "result 2[49999] makes too many values",
      run "local t = {} for i = 1, 150000 do t[i] = true end return t, t")
    local s, mine = script "return { f = function() end }", ("x"):rep(3 << 20)
    local how, e = s:call("f", mine, mine, mine)
    fails("resource_exhausted", "argument 3 is too much text", how, e)
  end)

  it("costs what it holds, whatever length it has", function()
    local keys = {}
    for bit = 0, 22 do
      keys[#keys + 1] = ("[%d] = true"):format(1 << bit) -- Lua finds a border far out
    end
    local s = script("return { f = function() return {" .. table.concat(keys, ",") .. "} end }")
    collectgarbage()
    local before = collectgarbage "count"
    local _, t = s:call "f"
    assert.is_true(t[1 << 22])
    assert.is_true(collectgarbage "count" - before < 1024)
  end)

  it("into a script is plain too, and says where it is not", function()
    local s = script "return { f = function() end }"
    local how, e = s:call("f", 1, { a = { print } })
    fails("invalid_argument", "argument 2.a[1] is a function", how, e)
    how, e = s:call("f", { io.stdout })
    fails("invalid_argument", "argument 1[1] is a userdata", how, e)
  end)

  it("arrives as ten values when ten are returned (known bug 173)", function()
    assert.equal(11, select("#", run "return 1, 2, 3, 4, 5, 6, 7, 8, 9, 10"))
  end)
end)

describe("a function of a script", function()
  it("crosses as a number and can be called by it", function()
    local s = script "return { f = function() local n = 0 return { go = function() n = n + 1 return n end } end }"
    local _, t = s:call "f"
    assert.same({ "return", 1 }, { s:call(t.go["function"]) })
    assert.same({ "return", 2 }, { s:call(t.go["function"]) })
  end)
  it("has the same number every time", function()
    local s = script "local g = function() end return { f = function() return g, g end }"
    local _, a, b = s:call "f"
    assert.same(a, b)
  end)
  it("can be forgotten", function()
    local s = script "return { f = function() return function() end end }"
    local _, g = s:call "f"
    assert.equal(1, s:counts().functions)
    s:forget(g["function"])
    assert.equal(0, s:counts().functions)
    local how, e = s:call(g["function"])
    fails("not_found", "number", how, e)
  end)
  it("is bounded in number", function()
    local s = script "return { f = function() local t = {} for i = 1, 20000 do t[i] = function() return i end end return t end }"
    local how, e = s:call "f"
    fails("resource_exhausted", "functions", how, e)
  end)
  it("that does not exist is not found", function()
    local s = script "return { f = 1 }"
    local how, e = s:call "f"
    fails("not_found", "'f'", how, e)
    how, e = s:call(99)
    fails("not_found", "99", how, e)
  end)
end)

local PRELUDE = [[
local verbs = ...
local function ask(what) return verbs.request({ what = what }, "ctx:ask") end
return { run = function(name) return verbs.result()[name](ask) end }
]]

describe("a script that asks the engine", function()
  for name, body in pairs {
    ["from its function"] = "return ask('x')",
    ["inside pcall"] = "return select(2, pcall(ask, 'x'))",
    ["inside xpcall"] = "return select(2, xpcall(ask, print or error, 'x'))",
    ["inside a wrapped coroutine"] = "return coroutine.wrap(function() return ask('x') end)()",
    ["inside coroutines of coroutines"] = [[return coroutine.wrap(function()
      return select(2, coroutine.resume(coroutine.create(function() return ask('x') end))) end)()]],
    ["inside __index"] = "return setmetatable({}, { __index = function(_, k) return ask(k) end }).x",
    ["inside an iterator"] = "for v in function() return ask('x') end do return v end",
    ["inside __close"] = "do local v <close> = setmetatable({}, { __close = function() Y = ask('x') end }) end return Y",
  } do
    it("waits and goes on " .. name .. " (known bug 177)", function()
      local s = script("return { f = function(ask) " .. body .. " end }", { prelude = PRELUDE })
      local how, request = s:call("run", "f")
      assert.equal("yield", how)
      assert.same({ what = "x" }, request)
      assert.equal(1, s:counts().waiting)
      assert.same({ "return", "answer" }, { s:resume "answer" })
      assert.equal(0, s:counts().waiting)
    end)
  end

  for name, body in pairs {
    ["a comparator"] = "table.sort({ 1, 2, 3 }, function() return ask('x') end)",
    ["a gsub callback"] = "return (('x'):gsub('x', ask))",
    ["__tostring"] = "return tostring(setmetatable({}, { __tostring = ask }))",
    ["a coroutine in a comparator"] = "table.sort({ 1, 2, 3 }, function() return coroutine.wrap(ask)('x') end)",
  } do
    it("is told where it cannot: " .. name .. " (known bug 177)", function()
      local s = script("return { f = function(ask) " .. body .. " end }", { prelude = PRELUDE })
      local how, e = s:call("run", "f")
      fails("aborted", "not possible inside", how, e)
    end)
  end

  it("keeps its coroutines apart from its requests", function()
    local s = script([[return { f = function(ask)
      local co = coroutine.wrap(function() coroutine.yield(1) coroutine.yield(ask('x')) end)
      return co(), co() end }]], { prelude = PRELUDE })
    assert.equal("yield", (s:call("run", "f")))
    assert.same({ "return", 1, "answer" }, { s:resume "answer" })
  end)

  it("may ask in several calls at once", function()
    local s = script("return { f = function(ask) return ask(1) end }", { prelude = PRELUDE })
    local _, _, first = s:call("run", "f")
    local _, _, second = s:call("run", "f")
    assert.same({ "return", "a" }, { s:resume_call(first, "a") })
    assert.same({ "return", "b" }, { s:resume_call(second, "b") })
  end)

  it("may be abandoned", function()
    local s = script("return { f = function(ask) return ask(1) end }", { prelude = PRELUDE })
    local _, _, call = s:call("run", "f")
    assert.is_true(s:abandon(call))
    assert.is_false(s:abandon(call))
    local how, e = s:resume_call(call, 1)
    fails("failed_precondition", "waiting", how, e)
  end)

  it("is bounded in calls that wait", function()
    local s = script("return { f = function(ask) return ask(1) end }", { prelude = PRELUDE })
    for _ = 1, 64 do
      assert.equal("yield", (s:call("run", "f")))
    end
    local how, e = s:call("run", "f")
    fails("resource_exhausted", "waiting", how, e)
  end)

  it("keeps its budget while it waits", function()
    local s = script("return { f = function(ask) for _ = 1, 5000 do end ask(1) while true do end end }",
      { prelude = PRELUDE, instructions = 20000 })
    assert.equal("yield", (s:call("run", "f")))
    local how, e = s:resume(1)
    fails("resource_exhausted", "budget", how, e)
  end)

  it("waits for a better answer when one cannot cross", function()
    local s = script("return { f = function(ask) return ask(1) end }", { prelude = PRELUDE })
    s:call("run", "f")
    local how, e = s:resume(print)
    fails("invalid_argument", "argument 1 is a function", how, e)
    assert.same({ "return", 5 }, { s:resume(5) })
  end)

  it("may not ask while it is loaded", function()
    local _, e = try("X()", { prelude = "local verbs = ... function X() verbs.request(1) end" })
    fails("failed_precondition", "loaded", nil, e)
  end)
end)

describe("a script seen from the engine", function()
  it("works from inside a coroutine", function()
    local s = script "return { f = function() return 1 end }"
    assert.same({ "return", 1 }, { coroutine.wrap(function() return s:call "f" end)() })
  end)
  it("gives its results again as main", function()
    assert.same({ "return", { a = 1 }, 2 }, { (script "return { a = 1 }, 2"):call "main" })
    assert.same({ "return" }, { (script ""):call "main" })
  end)
  it("is gone after a close, however often (known bug 171)", function()
    local s = script "return { f = function() end }"
    s:close()
    s:close()
    local how, e = s:call "f"
    fails("gone", "closed", how, e)
    how, e = s:resume()
    fails("gone", "closed", how, e)
    assert.is_false(s:abandon())
    assert.equal(0, s:counts().waiting)
    s:forget(1)
  end)
  it("is closed by the collector too", function()
    local before = core.stats().objects
    core.script { source = "return {}" }
    collectgarbage()
    collectgarbage()
    assert.equal(before, core.stats().objects)
  end)
  it("raises for wrong arguments, and leaks nothing", function()
    local before = core.stats().objects
    assert.has_error(function() core.script {} end)
    assert.has_error(function() core.script { source = "", memory = "much" } end)
    assert.has_error(function() core.script { source = "", instructions = 1 } end)
    local s = script("return {}")
    assert.has_error(function() s:call {} end)
    s:close()
    assert.equal(before, core.stats().objects)
  end)
end)

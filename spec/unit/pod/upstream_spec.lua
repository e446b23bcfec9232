local err = require "moonshim.err"
local upstream = require "moonshim.upstream"

local function choose(io, opts)
  opts = opts or {}
  return upstream.choose(io, { id = opts.id or "c", terminal = opts.terminal })
end

local function refusal(io, opts)
  local ok, e = pcall(choose, io, opts)
  assert.is_false(ok, "expected a refusal")
  assert.is_true(err.is(e), tostring(e))
  return e
end

local function program(text)
  local _, logger = choose { stdout = text }
  return logger
end

describe("a stream's place", function()
  it("that is empty is not connected [#519] [#520]", function()
    assert.same({ stdout = { path = "/o" }, stderr = { path = "/e" } }, (choose { stdin = "", stdout = "/o", stderr = "/e" }))
    assert.same({ stdin = { path = "/i" } }, (choose { stdin = "/i", stdout = "", stderr = "" }))
    assert.is_nil((choose(nil)))
  end)

  for _, text in ipairs { "/run/a fifo?x#y%20", "relative", "C:/x", "a:b", "//double" } do
    it(("that is no URI is a path as it stands: %s [#558]"):format(text), function()
      assert.same({ path = text }, (choose { stdout = text }).stdout)
    end)
  end

  it("may be a fifo or a file by its scheme, in any case of letters, with %XX for bytes [#556]", function()
    assert.same({ path = "/a/b" }, (choose { stdout = "fifo:///a/b" }).stdout)
    assert.same({ file = "/a b/%" }, (choose { stderr = "FILE:///a%20b/%25" }).stderr)
    assert.same({ file = "/b" }, (choose { stdin = "file://localhost/a/../b" }).stdin)
  end)

  for text, words in pairs {
    ["nope:///x"] = '"nope://"; known are fifo, file and binary', ["npipe:////./pipe/x"] = "npipe://",
  } do
    it(("with an unknown scheme is refused by its name: %s [#557]"):format(text), function()
      local e = refusal { stdout = text }
      assert.equal("invalid_argument", e.code)
      assert.is_truthy(e.message:find("stdout: ", 1, true))
      assert.is_truthy(e.message:find(words, 1, true), e.message)
    end)
  end

  for text, words in pairs {
    ["file://host/x"] = 'the host "host"', ["file://"] = "needs a path", ["file:///"] = "needs a path", ["file:///x?y"] = "%3F",
    ["file:///x%zz"] = '"%zz"', ["file:///x%4"] = '"%4"', ["fifo:///a%00b"] = "NUL", ["file:///" .. ("x"):rep(5000)] = "longer than a path",
    ["binary:///x?a=%0"] = '"%0"', [("x"):rep(70000)] = "at most 65536", ["a\0b"] = "NUL",
  } do
    it(("that means nothing is refused: %s"):format(text:sub(1, 20):gsub("%c", "?")), function()
      local e = refusal { stderr = text }
      assert.equal("invalid_argument", e.code)
      assert.is_truthy(e.message:find(words, 1, true), e.message)
    end)
  end

  it("stays what it is when it is a descriptor", function()
    local io = { stdin = { fd = 0 }, stdout = { fd = 1 }, stderr = { fd = 2 }, name = "c" }
    assert.same(io, (choose(io)))
  end)
end)

describe("a program as stdout", function()
  it("gets its query as arguments, a key without a value with an empty one, as containerd does it [#541]", function()
    local stdio, logger = choose { stdin = "", stdout = "binary:///bin/logger?a=1&flag=&bare", stderr = "" }
    assert.same({}, stdio)
    assert.same({ path = "/bin/logger", args = { "a", "1", "flag", "", "bare", "" }, id = "c", namespace = "default" }, logger)
  end)

  it("gets them in the order of the query, of a key that comes twice the first value [#542]", function()
    assert.same({ "z", "1", "a", "2", "m", "3" }, program("binary:///l?z=1&a=2&m=3&a=9&z=9").args)
    local query, expected = {}, {}
    for i = 1, 40 do
      query[i] = ("k%d=v%d"):format(i * 7919 % 40, i)
      expected[2 * i - 1], expected[2 * i] = ("k%d"):format(i * 7919 % 40), ("v%d"):format(i)
    end
    assert.same(expected, program("binary:///l?" .. table.concat(query, "&")).args)
  end)

  it("has its arguments decoded", function()
    assert.same({ "a b", "1&2=3", "plus+", "" }, program("binary:///l?a+b=1%262%3D3&plus%2B").args)
  end)

  it("has its path cleaned [#543]", function()
    assert.equal("/opt/log", program("binary:///opt/./x/..//log").path)
    assert.equal("/etc/passwd", program("binary:///../../etc/%2E%2E/etc/passwd").path)
  end)

  for _, text in ipairs { "binary://", "binary:///", "binary://?a=1", "binary:///..?a" } do
    it(("is refused without a path: %s [#545]"):format(text), function()
      assert.is_truthy(refusal({ stdout = text }).message:find("needs a path", 1, true))
    end)
  end

  it("is not looked for on another host", function()
    assert.is_truthy(refusal({ stdout = "binary://server/share/x" }).message:find('the host "server"', 1, true))
  end)

  it("takes both outputs: what stdin and stderr say does not count", function()
    local stdio, logger = choose { stdin = "/i", stdout = "binary:///l", stderr = "binary:///l" }
    assert.same({}, stdio)
    assert.equal("/l", logger.path)
    assert.same({ { fd = 0 } }, { (choose { stdin = { fd = 0 }, stdout = "binary:///l" }).stdin })
  end)

  it("is named as stdout only", function()
    for _, stream in ipairs { "stdin", "stderr" } do
      local e = refusal { [stream] = "binary:///l" }
      assert.is_truthy(e.message:find(stream .. ": ", 1, true))
      assert.is_truthy(e.message:find("named as stdout", 1, true))
    end
  end)

  it("is told the id of the exec and the namespace, which has a default [#548]", function()
    local _, logger = choose({ stdout = "binary:///l" }, { id = "e1" })
    assert.same({ "e1", "default" }, { logger.id, logger.namespace })
    _, logger = choose { stdout = "binary:///l", namespace = "k8s.io" }
    assert.equal("k8s.io", logger.namespace)
  end)
end)

describe("a terminal", function()
  it("excludes a stderr of its own [#540]", function()
    for _, text in ipairs { "/e", "file:///e", "binary:///l" } do
      local code = text:find "binary" and "invalid_argument" or "failed_precondition"
      assert.equal(code, refusal({ stdout = "/o", stderr = text }, { terminal = true }).code)
    end
  end)

  it("takes no harm from a stderr that is empty, the same, or a descriptor", function()
    for _, stderr in ipairs { "", "file:///o", { fd = 2 } } do
      local stdio = choose({ stdout = "file:///o", stderr = stderr }, { terminal = true })
      assert.same({ tty = true, stdout = { file = "/o" } }, stdio)
    end
  end)

  it("goes with a program (known bug 86)", function()
    local stdio, logger = choose({ stdin = { fd = 0 }, stdout = "binary:///l", stderr = "binary:///l" }, { terminal = true })
    assert.same({ tty = true, stdin = { fd = 0 } }, stdio)
    assert.equal("/l", logger.path)
  end)
end)

describe("the patience with a reader that has gone", function()
  it("is a duration", function()
    assert.equal(2000, (choose { stdout = "/o", retry = "2s" }).away)
    assert.equal("invalid_argument", refusal({ stdout = "/o", retry = "soon" }).code)
  end)
end)

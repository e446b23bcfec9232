local cjson = require "cjson"
local err = require "moonshim.err"
local log = require "moonshim.log"

local function given(opts)
  local lines = {}
  opts = opts or {}
  opts.wall = function() return 12.5 end
  opts.sink = function(line) lines[#lines + 1] = line end
  return log.new(opts), lines
end

describe("a log", function()
  it("writes what its level allows, one line each", function()
    local l, lines = given { level = "warn" }
    l:debug("no")
    l:info("no")
    l:warn("yes\nreally", { id = "c1" })
    l:error("yes")
    assert.same({ "warn  yes really id=c1", "error yes" }, lines)
  end)

  it("writes JSON that parses, fields beside the message", function()
    local l, lines = given { format = "json" }
    l:info('say "hi"\n', { n = 5, big = 9007199254740993, list = { 1, 2 }, e = err.new("gone", "x"), f = print, nan = 0 / 0 })
    local record = cjson.decode(lines[1])
    assert.equal('say "hi"\n', record.msg)
    assert.equal(12.5, record.time)
    assert.same({ 1, 2 }, record.list)
    assert.equal("gone", record.e.code)
    assert.truthy(lines[1]:find("9007199254740993", 1, true))
  end)

  it("adds the fields of `with` to every record", function()
    local l, lines = given()
    l:with({ pod = "p" }):with({ id = "c" }):info("x", { n = 1 })
    assert.equal("info  x id=c n=1 pod=p", lines[1])
  end)

  for _, format in ipairs { "text", "json" } do
    it("masks env, args and tokens at any depth, in " .. format .. " (known bug 87)", function()
      local l, lines = given { format = format, level = "debug" }
      local secret = "zq9x"
      local fields = {
        env = { "SECRET=" .. secret }, args = { "login", secret }, token = secret,
        request = { process = { Env = { A = secret }, CommandLine = secret }, deep = { deeper = { password = secret } } },
        spec = { anything = secret }, EnvironmentVariables = { X = secret },
      }
      l:debug("create", fields)
      l:with(fields):error("create failed")
      for _, line in ipairs(lines) do
        assert.is_nil(line:find(secret, 1, true), line)
        assert.truthy(line:find("masked", 1, true))
      end
      assert.equal("SECRET=" .. secret, fields.env[1]) -- what the container gets is the real thing
    end)
  end

  it("is bounded whatever it is given", function()
    local l, lines = given { format = "json" }
    local deep = {}
    deep.deep = deep
    local wide = {}
    for i = 1, 5000 do wide[i] = ("x"):rep(500) end
    l:info(("m"):rep(100000), { deep = deep, wide = wide, bytes = "\0\255\27" })
    assert.is_true(#lines[1] <= 8192)
    assert.is_table(cjson.decode(lines[1]))
  end)

  it("never raises, not even when its sink does", function()
    local l = log.new { sink = function() error("disk full") end }
    l:error("x", { weird = setmetatable({}, { __tostring = function() error("no") end }) })
    log.new({}):error("no sink")
  end)

  it("refuses an unknown level or format", function()
    assert.is_false(pcall(log.new, { level = "loud" }))
    assert.is_false(pcall(log.new, { format = "xml" }))
  end)
end)

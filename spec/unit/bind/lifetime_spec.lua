-- States of their own: how they end, and what is said when nobody else can say it.
---Runs a program in a lua5.4 of its own; returns what it wrote and its exit status.
local function lua(program)
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write("package.cpath = ", ("%q"):format(package.cpath), "\n", program)
  file:close()
  local pipe = assert(io.popen("lua5.4 " .. path .. " 2>&1"))
  local text = pipe:read "a"
  local _, _, status = pipe:close()
  os.remove(path)
  return text, status
end

describe("a state that closes", function()
  local OPEN = [[
    local core = require "moonshim.core"
    local dir = "/tmp/moonshim-close-" .. core.sys.random_hex(4)
    core.sys.mkdir_p(dir)
    local a, b = core.transport.pair()
    a:read(print)
    b:write("x", print)
    local c, d = core.transport.pair()
    local bridge = core.bridge(c, { on_lost = print })
    bridge:call(0x10100101, "{}", 1000, print)
    local listener = core.transport.listen_unix(dir .. "/s", nil, print)
    core.transport.connect_unix(dir .. "/s", print)
    for i = 1, 50 do core.sys.detect_image("/bin/sh", print) end
    local r, w = core.sys.pipe()
    local relay = core.relay()
    relay:open { name = "x", dir = dir, stdout = { fd = w }, ports = { stdout = 9 }, on_ready = print }
    local lock = core.sys.lock_file(dir .. "/l")
    core.devices():make { bus = "scsi", path = "/x" }
    core.script { source = "return { f = function() end }" }
    core.sys.watch_process({ pid = require("luv").os_getpid() }, print)
    local e, f = core.transport.pair()
    e:write("x", print)
    e:close()
  ]]
  for name, last in pairs {
    ["with everything open"] = "",
    ["after one turn of the loop"] = "for _ = 1, 3 do require('luv').run 'nowait' end",
    ["by os.exit"] = "os.exit(0, true)",
  } do
    it("ends everything without a word, " .. name .. " (known bug 171)", function()
      local text, status = lua("local function quiet() end\n" .. OPEN:gsub("print", "quiet") .. last)
      assert.same({ "", 0 }, { text, status })
    end)
  end
  lazy_teardown(function() os.execute "rm -rf /tmp/moonshim-close-*" end)
end)

it("a hook for errors that raises itself is said on standard error, with what it was told", function()
  local text, status = lua [[
    local core = require "moonshim.core"
    core.on_error(function() error "from the hook" end)
    local a, b = core.transport.pair()
    b:read(function(data) if not data then b:close() end end)
    a:write("x", function() error({ code = "internal", message = "from the callback" }) end)
    a:write("x", function() print "went on" a:close() end)
    require("luv").run()
  ]]
  assert.equal(0, status)
  assert.truthy(text:find("from the hook", 1, true))
  assert.truthy(text:find("internal: from the callback", 1, true))
  assert.truthy(text:find("went on", 1, true))
end)

describe("a program that loads the module", function()
  -- A pipe of luv's, as the input of an exec is one.
  local BROKEN = [[
    local core, uv = require "moonshim.core", require "luv"
    local r, w = core.sys.pipe()
    local pipe = uv.new_pipe(false)
    pipe:open(w)
    core.sys.close(r)
    local told
    pipe:write("x", function(e)
      told = e
      pipe:close()
    end)
    uv.run()
    print("alive", (tostring(told):match "^EPIPE"))
  ]]

  it("lives on when a peer goes away, and gets an error value", function()
    local text, status = lua(BROKEN)
    assert.equal("alive\tEPIPE\n", text)
    assert.equal(0, status)
  end)

  it("keeps its own way with SIGPIPE", function()
    local text = lua [[
      local uv = require "luv"
      local mine = uv.new_signal()
      mine:start("sigpipe", function() end)
      require "moonshim.core"
      for line in io.lines "/proc/self/status" do
        local caught = line:match "^SigCgt:%s*(%x+)"
        if caught then print(tonumber(caught, 16) & (1 << 12) ~= 0) end
      end
      mine:close()
      uv.run()
    ]]
    assert.equal("true\n", text)
  end)
end)

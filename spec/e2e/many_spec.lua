-- Many containers, execs and pods on the real host, in small: scripts/soak runs the same for longer.
local command = require "e2e.command"
local uv = require "luv"

describe("many at once on the real host", function()
  local check_leaks
  setup(function()
    command.root()
    check_leaks = command.leaks()
  end)
  after_each(function() check_leaks() end)
  teardown(function() command.cleanup() end)

  ---Runs one scenario; it fails when something was left, grew, came out of order or ended with an unexpected error.
  local function soak(scenario, ...)
    local build = uv.cwd() .. "/" .. (os.getenv("MOONSHIM_BUILD") or "build/release")
    if (os.getenv("MOONSHIM_BUILD") or ""):sub(1, 1) == "/" then build = os.getenv("MOONSHIM_BUILD") end
    local result = command.execute("/usr/bin/env", { "lua5.4", "scripts/soak.lua", scenario, command.folder, ... }, {
      env = {
        LUA_PATH = "./lua/?.lua;./lua/?/init.lua;;", LUA_CPATH = build .. "/lib/?.so;;",
        MOONSHIM_GUEST = os.getenv("MOONSHIM_GUEST") or build .. "/bin/moonshim-guest",
      },
    })
    assert.equal(0, result.code, result.out .. result.err)
  end

  it("execs cost no descriptors, no memory and nothing in the guest (known bug 35)", function() soak("execs", "--count", "60") end)

  it("40 containers of one pod come, run with ten execs each, all with their own codes, and go (known bug 11)", function()
    soak("containers", "--containers", "40")
  end)

  it("pods that come and go, in parallel and with shared layers, leave nothing in the VM [#684] [#685] (known bug 7)", function()
    soak("churn", "--cycles", "12", "--width", "6")
  end)

  it("VMs that come and go in parallel leave nothing (known bug 115)", function() soak("vms", "--cycles", "40") end)

  it("a start that is cancelled at any of its steps leaves nothing [#687]", function() soak("cancel", "--cycles", "4") end)

  it("exec, kill, wait and delete at random end with no error that a caller need not expect (known bug 38)", function()
    soak("chaos", "--seconds", "5", "--seed", "7")
  end)

  it("what ends at once is told in order, with its own code and all that it said (known bugs 44, 75, 133)", function()
    soak("order", "--count", "100")
  end)
end)

---What specs of the agent start from: a root of busybox for all tests of a block, and a UVM of its own for each test.
---
---  agent.describe("the agent", function()
---    local vm, at
---    local here = agent.root()
---    agent.vm(function(booted, root) vm, at = booted, root end, here)
local assert = require "luassert"
local busted = require "busted"
local gcs = require "support.gcs"
local uv = require "luv"

local agent = {}

---`describe`; for a user who is not root the block is pending.
agent.describe = uv.getuid() == 0 and busted.describe or busted.pending

---A folder with a root in it, from before the first test until after the last, when nothing may be left on the machine.
---@param more fun(here: { folder: string, root: string })? makes what else belongs in there
---@return { folder: string, root: string } here filled when the tests begin
function agent.root(more)
  local here = {}
  busted.setup(function()
    here.folder = assert(uv.fs_mkdtemp(gcs.PREFIX .. "XXXXXX"))
    here.root = gcs.busybox_root(here.folder, "busybox")
    if more then more(here) end
  end)
  busted.teardown(function()
    gcs.sh("rm -rf " .. here.folder)
    assert.same(gcs.NOTHING, gcs.holdings())
  end)
  return here
end

---Boots and negotiates before each test, and stops after it.
---@param booted fun(vm: table, at: string?) gets it, and the path of the shared root inside
---@param here { root: string }? what is shared with it, as "1"; nothing when absent
function agent.vm(booted, here)
  local vm
  busted.before_each(function()
    vm = gcs.boot()
    vm:negotiate()
    local result, at
    if here then
      result, at = vm:share("1", here.root)
      assert.equal(0, result)
    end
    booted(vm, at)
  end)
  busted.after_each(function() vm:stop() end)
end

return agent

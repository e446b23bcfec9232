-- A policy is tested without running a container: the plan is derived from a dry world and looked at.
--   LUA_CPATH='build/release/lib/?.so;;' lua5.4 /usr/bin/busted examples/teardown
local json = require "cjson"
local moonshim = require "moonshim"

local POLICY = "examples/teardown/flush_before_detach.lua"

local function steps_of(container)
  container.args = { "true" }
  local pod = assert(moonshim.pod { name = "dry", policy = POLICY, containers = { one = container } })
  return json.decode(assert(moonshim.plan(pod, "stop")):json()).steps
end

local function named(steps, name)
  for i, step in ipairs(steps) do
    if step.name == name or step.kind == name then return i, step end
  end
end

describe("flush_before_detach", function()
  describe("with layers and a scratch disk", function()
    local steps
    before_each(function() steps = steps_of { layers = { "base.ext4", "app.ext4" }, scratch = { size = "64M" } } end)

    it("flushes before the scratch disk goes", function()
      local flush, step = named(steps, "flush")
      assert.is_true(flush < named(steps, "scratch"))
      assert.equal(5000, step.within_ms)
      assert.equal("continue", step.on_failure)
    end)

    it("tries layers again, and lets them be owed", function()
      local count = 0
      for _, step in ipairs(steps) do
        if step.kind == "layer" then
          count = count + 1
          assert.equal(3, step.retries)
          assert.equal(200, step.backoff_ms)
          assert.equal("debt", step.on_failure)
        end
      end
      assert.equal(2, count)
    end)
  end)

  it("has nothing to flush where there is no scratch disk", function()
    local steps = steps_of { rootfs = "/" }
    assert.is_nil(named(steps, "flush"))
  end)

  it("stops with TERM, QUIT and KILL", function()
    local _, process = named(steps_of { rootfs = "/" }, "process")
    local signals = {}
    for i, rung in ipairs(process.ladder) do signals[i] = ("%s %d"):format(rung.signal, rung.wait_ms) end
    assert.same({ "TERM 2000", "QUIT 1000", "KILL 10000" }, signals)
  end)
end)

-- The public door, as far as it can be seen without containers; spec/e2e/api_spec.lua has the rest.
local moonshim = require "moonshim"

local WEB = { layers = { "/no/a.ext4", "/no/b.ext4" }, scratch = { size = "64M" }, args = { "sh" } }
local POD = { name = "api", containers = { web = WEB } }

local function script(text, fn)
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
  local ok, e = pcall(fn, path)
  os.remove(path)
  if not ok then error(e, 0) end
end

describe("moonshim.pod", function()
  it("answers a good pod with its complete form", function()
    local spec = assert(moonshim.pod(POD))
    assert.same({ "web" }, spec.order)
  end)

  it("answers a bad one with nil and the reason", function()
    local spec, e = moonshim.pod { name = "x", contianers = {} }
    assert.is_nil(spec)
    assert.equal("invalid_argument", e.code)
    assert.is_truthy(e.message:find('did you mean "containers"?', 1, true))
  end)
end)

describe("moonshim.plan", function()
  it("plans a pod whose images are not here, and prints the same twice", function()
    local first, second = assert(moonshim.plan(POD)), assert(moonshim.plan(POD))
    assert.equal(tostring(first), tostring(second))
    for _, kind in ipairs { "process", "overlay", "bundle", "scratch", "layer", "bridge", "uvm" } do
      assert.is_truthy(tostring(first):find(kind .. "%-%d"), kind)
    end
  end)

  it("knows the goals", function()
    assert.is_nil(tostring(assert(moonshim.plan(POD, "delete"))):find("TERM", 1, true))
    local plan, e = moonshim.plan(POD, "explode")
    assert.is_nil(plan)
    assert.equal("invalid_argument", e.code)
  end)

  it("shows what an operator's script adds", function()
    local text = [[return { api = 1, teardown = function(plan)
      plan:before("scratch", { name = "flush", run = function() end }) end }]]
    script(text, function(path)
      assert.is_truthy(tostring(assert(moonshim.plan(POD, "stop", { policy = path }))):find("flush (hook)", 1, true))
    end)
  end)

  it("refuses a script whose edits would be refused, with the place", function()
    script('return { api = 1, teardown = function(plan)\nplan:order { "scratch", "overlay" } end }', function(path)
      local plan, e = moonshim.plan(POD, "stop", { policy = path })
      assert.is_nil(plan)
      assert.is_truthy(e.message:find(path .. ":2: scratch cannot go before overlay", 1, true), e.message)
    end)
  end)

  it("refuses a script that is wrong", function()
    script("return { api = 9 }", function(path)
      local plan, e = moonshim.plan(POD, "stop", { policy = path })
      assert.is_nil(plan)
      assert.is_truthy(e.message:find("api = 9 is not known", 1, true))
    end)
  end)
end)

describe("moonshim.start", function()
  it("starts nothing when an image is missing", function()
    moonshim.run(function()
      local pod, e = moonshim.start(POD)
      assert.is_nil(pod)
      assert.equal("not_found", e.code)
      assert.is_truthy(e.message:find("containers.web.layers[1]", 1, true), e.message)
    end)
  end)

  it("starts nothing when the pod's policy is missing", function()
    moonshim.run(function()
      local spec = { name = "api", containers = { web = { rootfs = "/", args = { "sh" } } } }
      local pod, e = moonshim.start(spec, { policy = "/no/policy.lua" })
      assert.is_nil(pod)
      assert.equal("not_found", e.code)
    end)
  end)
end)

describe("moonshim.recover", function()
  it("says that there is nothing to recover", function()
    local report, e = moonshim.recover("/no/such/folder")
    assert.is_nil(report)
    assert.equal("not_found", e.code)
  end)
end)

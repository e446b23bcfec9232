local command = require "e2e.command"
local json = require "cjson"

describe("moonshim plan", function()
  local check_leaks, pod
  setup(function()
    command.root()
    pod = command.write("planned.lua", [[
      return require("moonshim").pod {
        name = "planned",
        containers = {
          web = { layers = { "images/base.ext4", "images/app.ext4" }, scratch = { size = "64M" }, args = { "true" } },
        },
      }]])
    check_leaks = command.leaks()
  end)
  after_each(function() check_leaks() end)
  teardown(function() command.cleanup() end)

  ---The kinds of the steps, in the order in which they are printed.
  local function kinds(result)
    local out = {}
    for i, step in ipairs(json.decode(result.out).steps) do out[i] = step.kind end
    return out
  end

  local function position(list, kind)
    for i, name in ipairs(list) do
      if name == kind then return i end
    end
  end

  it("prints a table, and nothing is started", function()
    local result = command.moonshim { "plan", pod }
    assert.equal("", result.err)
    assert.equal(0, result.code)
    for _, kind in ipairs { "process", "stdio", "overlay", "bundle", "scratch", "layer", "bridge", "uvm" } do
      assert.is_truthy(result.out:find(kind, 1, true), kind)
    end
  end)

  it("prints JSON whose steps stand in the order of release", function()
    local found = kinds(command.moonshim { "plan", pod, "--json" })
    local last = 0
    for _, kind in ipairs { "process", "stdio", "overlay", "bundle", "scratch", "layer", "bridge", "uvm" } do
      local at = position(found, kind)
      assert.is_truthy(at, kind)
      assert.is_true(at > last, kind)
      last = at
    end
  end)

  it("prints the same twice", function()
    assert.equal(command.moonshim({ "plan", pod }).out, command.moonshim({ "plan", pod }).out)
  end)

  it("shows what an operator's script adds and changes", function()
    local policy = command.write("policy.lua", [[
      return { api = 1, teardown = function(plan, ctx)
        plan:before("scratch", { name = "flush", within = "5s", on_failure = "continue", run = function() end })
        plan:tune("layer", { retries = 7 })
      end }]])
    local result = command.moonshim { "plan", pod, "--policy", policy, "--json" }
    assert.equal("", result.err)
    local steps = json.decode(result.out).steps
    local names, retries = {}, {}
    for i, step in ipairs(steps) do
      names[#names + 1] = step.hook and step.name or step.kind
      if step.kind == "layer" then retries[#retries + 1] = step.retries end
      assert.equal("table", type(steps[i].after))
    end
    local flush = position(names, "flush")
    assert.is_truthy(flush, result.out)
    assert.is_true(flush < position(names, "scratch"))
    assert.same({ 7, 7 }, retries)
  end)

  it("refuses a script that would be unsafe, with the reason", function()
    local policy = command.write("unsafe.lua", [[
      return { api = 1, teardown = function(plan) plan:order { "layer", "overlay" } end }]])
    local result = command.moonshim { "plan", pod, "--policy", policy }
    assert.is_truthy((result.err .. result.out):find("overlay", 1, true))
  end)

  it("works without root", function()
    local result = command.execute("/bin/sh", { "-c",
      ("chmod 755 '%s' && exec setpriv --reuid=65534 --clear-groups '%s' plan '%s'"):format(command.folder, command.program, pod) })
    assert.equal("", result.err)
    assert.equal(0, result.code)
  end)
end)

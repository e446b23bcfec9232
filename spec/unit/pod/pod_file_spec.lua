local err = require "moonshim.err"
local pod_file = require "moonshim.pod_file"

local folder

before_each(function()
  folder = os.tmpname()
  os.remove(folder)
  assert(require("luv").fs_mkdir(folder, 448))
end)

after_each(function() os.execute(("rm -rf '%s'"):format(folder)) end)

local function write(name, text)
  local path = folder .. "/" .. name
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
  return path
end

local function load(text) return pod_file.load(write("pod.lua", text)) end

local function refusal(text)
  local ok, e = pcall(load, text)
  assert.is_false(ok, "expected a refusal")
  assert.is_true(err.is(e), tostring(e))
  return e
end

local GOOD = [[
local moonshim = require "moonshim"
return moonshim.pod {
  name = "hello",
  policy = "p.lua",
  containers = {
    web = { rootfs = "root", args = { "sh" } },
  },
}
]]

describe("a pod file", function()
  it("is data, with paths that start at its folder", function()
    local spec = load(GOOD)
    assert.equal(folder .. "/p.lua", spec.policy)
    assert.equal(folder .. "/root", spec.containers.web.rootfs)
  end)

  it("may compute what it says", function()
    local spec = load [[
      local containers = {}
      for i = 1, 3 do containers["w" .. i] = { rootfs = "/r", args = { "sh", "-c", ("echo %d"):format(i) } } end
      return { name = "many", containers = containers }
    ]]
    assert.same({ "w1", "w2", "w3" }, spec.order)
    assert.same({ "sh", "-c", "echo 2" }, spec.containers.w2.args)
  end)

  it("says file and line of a syntax error", function()
    assert.is_truthy(refusal("return {\n  name = = 1\n}").message:find("pod.lua:2:", 1, true))
  end)

  it("says file and line of an error while it runs", function()
    assert.is_truthy(refusal("local x\nreturn x.y.z").message:find("pod.lua:2:", 1, true))
  end)

  it("says file and line of a field that is wrong, and what was meant", function()
    local e = refusal((GOOD:gsub("rootfs =", "rootsf =")))
    assert.is_truthy(e.message:find('pod.lua:6: containers.web.rootsf: unknown field (did you mean "rootfs"?)', 1, true), e.message)
  end)

  it("finds the line behind the right container", function()
    local e = refusal [[
return {
  name = "p",
  containers = {
    a = { rootfs = "r", args = { "sh" } },
    b = {
      rootfs = "r",
      args = {},
    },
  },
}]]
    assert.is_truthy(e.message:find("pod.lua:7: containers.b.args", 1, true), e.message)
  end)

  for name, text in pairs {
    ["that returns nothing"] = "local x = 1", ["that returns a number"] = "return 7", ["that is empty"] = "",
    ["that returns nil"] = "return nil",
  } do
    it("is refused " .. name, function() assert.is_truthy(refusal(text).message:find("expected the file to return", 1, true)) end)
  end

  for name, text in pairs {
    ["never ends"] = "while true do end", ["eats memory"] = "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1e6) .. i end",
    ["wants io"] = "io.open('/etc/passwd')", ["wants os"] = "os.execute('true')", ["wants modules"] = "require 'luv'",
    ["loads code"] = "load('return 1')()", ["is bytecode"] = string.dump(function() return {} end),
    ["waits"] = "coroutine.yield()",
  } do
    it("that " .. name .. " is refused in bounded time", function() refusal(text) end)
  end

  it("that is not there is named", function()
    local e = select(2, pcall(pod_file.load, folder .. "/nosuch.lua"))
    assert.equal("not_found", e.code)
    assert.is_truthy(e.message:find("nosuch.lua", 1, true))
  end)

  it("that is a folder is refused", function() assert.is_true(err.is(select(2, pcall(pod_file.load, folder)))) end)

  it("of two megabytes is refused", function()
    assert.is_truthy(refusal("--" .. ("x"):rep(2 << 20)).message:find("at most 1 MiB", 1, true))
  end)
end)

describe("annotations beside a pod file", function()
  local CONTAINERS = 'containers = { c = { rootfs = "r", args = { "sh" } } }'
  local function annotated(own, beside)
    return pod_file.load(write("pod.lua", ("return { name = 'p', %s %s }"):format(own, CONTAINERS)), { annotations = beside })
  end

  it("take the place of the file's, and leave the others", function()
    assert.same({ a = "2", b = "true" }, annotated('annotations = { a = 1, b = true },', { a = "2" }).annotations)
    assert.same({ a = "2" }, annotated("", { a = "2" }).annotations)
    assert.same({ a = "1" }, annotated("annotations = { a = 1 },", nil).annotations)
  end)

  it("are what the pod's settings come from", function()
    local key = '["io.microsoft.disable-unsafe-operations"]'
    assert.is_false(annotated(("annotations = { %s = true },"):format(key),
      { ["io.microsoft.disable-unsafe-operations"] = "false" }).settings.no_writable_shares)
  end)

  it("do not hide that the file's are none", function()
    local e = select(2, pcall(annotated, "annotations = 7,", { a = "2" }))
    assert.is_truthy(e.message:find("annotations: expected table", 1, true), e.message)
  end)
end)

describe("the files of a pod", function()
  it("are checked before anything is started, with the place of the one that is missing", function()
    write("p.lua", "")
    local spec = load(GOOD)
    local e = select(2, pcall(pod_file.check_files, spec))
    assert.equal("not_found", e.code)
    assert.is_truthy(e.message:find("containers.web.rootfs: " .. folder .. "/root", 1, true), e.message)
    assert(require("luv").fs_mkdir(folder .. "/root", 448))
    pod_file.check_files(spec)
  end)

  it("have to be what they are used for", function()
    local spec = load [[return { name = "p", containers = { c = { layers = { "." }, args = { "sh" } } } }]]
    local e = select(2, pcall(pod_file.check_files, spec))
    assert.equal("invalid_argument", e.code)
    assert.is_truthy(e.message:find("is a directory", 1, true), e.message)
  end)
end)

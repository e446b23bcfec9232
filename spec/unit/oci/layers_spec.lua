local err = require "moonshim.err"
local layers = require "moonshim.oci.layers"

local PARENTS = 'parentLayerPaths=["/snap/top","/snap/base/"]'
local PARTS = 'parent-partitioned-layers=[{"Path":"/all.vhd","Partition":2},{"Path":"/all.vhd","Partition":1}]'

local function mount(kind, options, more)
  local m = { type = kind, source = "/snap/active", options = options }
  for k, v in pairs(more or {}) do m[k] = v end
  return { m }
end

local function refused(code, text, ...)
  local ok, e = pcall(layers.parse, ...)
  assert.is_false(ok, "was accepted")
  assert.is_true(err.is(e), tostring(e))
  assert.equal(code, e.code)
  assert.is_truthy(e.message:find(text, 1, true), e.message)
  assert.is_nil(e.message:find "\n")
end

describe("the root file system of a request", function()
  it("is the layers and the scratch disk of an lcow-layer, the base first [#129]", function()
    assert.same({
      layers = { { path = "/snap/base/layer.vhd", partition = 0 }, { path = "/snap/top/layer.vhd", partition = 0 } },
      scratch = { path = "/snap/active/sandbox.vhdx" },
    }, layers.parse(mount("lcow-layer", { "rw", PARENTS })))
  end)

  it("keeps the separators of the folders' own system", function()
    assert.equal("C:\\snap\\7\\layer.vhd",
      layers.parse(mount("lcow-layer", { 'parentLayerPaths=["C:\\\\snap\\\\7"]' })).layers[1].path)
  end)

  it("is the partitions of an lcow-partitioned-layer", function()
    assert.same({
      layers = { { path = "/all.vhd", partition = 1 }, { path = "/all.vhd", partition = 2 } }, scratch = { path = "/s.vhdx" },
    }, layers.parse(mount("lcow-partitioned-layer", { "scratch=/s.vhdx", PARTS })))
  end)

  it("is the layer folders of the spec, the scratch disk's last", function()
    local want = {
      layers = { { path = "/base/layer.vhd", partition = 0 }, { path = "/top/layer.vhd", partition = 0 } },
      scratch = { path = "/active/sandbox.vhdx" },
    }
    assert.same(want, layers.parse(nil, { "/top", "/base", "/active" }))
    assert.same(want, layers.parse({}, { "/top", "/base", "/active" }))
  end)

  it("is not given twice [#132]", function()
    refused("failed_precondition", "leave one out", mount("lcow-layer", { PARENTS }), { "/base", "/active" })
  end)

  it("is not left out [#133]", function()
    refused("failed_precondition", "neither a rootfs mount nor windows.layerFolders", nil, nil)
    refused("failed_precondition", "neither a rootfs mount nor windows.layerFolders", {}, {})
  end)

  it("has a layer below its scratch disk [#134]", function()
    refused("invalid_argument", "windows.layerFolders: has one entry", nil, { "/active" })
  end)

  it("is mounted nowhere else [#131]", function()
    refused("invalid_argument", 'rootfs[1]: target "/x"', mount("lcow-layer", { PARENTS }, { target = "/x" }))
    assert.is_table(layers.parse(mount("lcow-layer", { PARENTS }, { target = "" })))
  end)

  it("is of a known type [#136]", function()
    refused("invalid_argument", 'the type "windows-layer" is not known; lcow-layer and lcow-partitioned-layer are',
      mount("windows-layer", {}))
    refused("invalid_argument", "the type nil is not known", mount(nil, {}))
  end)

  it("is one mount", function()
    local one = mount("lcow-layer", { PARENTS })[1]
    refused("invalid_argument", "rootfs: has 2 mounts", { one, one })
    refused("invalid_argument", "rootfs[1]: must be an object", { "x" })
  end)

  it("has no option that nobody knows [#130]", function()
    refused("invalid_argument", 'rootfs[1].options[3]: "cache=on" is no option of lcow-partitioned-layer; known are'
      .. " parent-partitioned-layers, scratch", mount("lcow-partitioned-layer", { "scratch=/s", PARTS, "cache=on" }))
    refused("invalid_argument", "options[2]", mount("lcow-partitioned-layer", { "scratch=/s", "ro", PARTS }))
    refused("invalid_argument", "options[1]", mount("lcow-layer", { "parentLayerPaths" }))
  end)

  it("has each option that it needs, once", function()
    refused("invalid_argument", "parentLayerPaths= is missing", mount("lcow-layer", { "rw" }))
    refused("invalid_argument", "scratch= is missing", mount("lcow-partitioned-layer", { PARTS }))
    refused("invalid_argument", "given twice", mount("lcow-layer", { PARENTS, PARENTS }))
    refused("invalid_argument", "options[1]: must be text", mount("lcow-layer", { 7 }))
  end)

  for name, text in pairs { ["no JSON"] = "[", ["an object"] = '{"a":1}', ["a number"] = "7", ["nothing"] = "" } do
    it(("does not take %s for the list of its parents, and names the option [#135]"):format(name), function()
      refused("invalid_argument", "rootfs[1].options: parentLayerPaths: ", mount("lcow-layer", { "parentLayerPaths=" .. text }))
    end)
  end

  it("names the entry of a list that is wrong", function()
    refused("invalid_argument", "parentLayerPaths: is empty", mount("lcow-layer", { "parentLayerPaths=[]" }))
    refused("invalid_argument", 'parentLayerPaths[2]: "x" is no absolute path', mount("lcow-layer", { 'parentLayerPaths=["/a","x"]' }))
    refused("invalid_argument", "parentLayerPaths[1]: 5 is no absolute path", mount("lcow-layer", { "parentLayerPaths=[5]" }))
    refused("invalid_argument", "layers[1]: Partition 129", mount("lcow-partitioned-layer",
      { "scratch=/s", 'parent-partitioned-layers=[{"Path":"/a","Partition":129}]' }))
    refused("invalid_argument", "layers[1].Path: nil", mount("lcow-partitioned-layer", { "scratch=/s", "parent-partitioned-layers=[{}]" }))
    refused("invalid_argument", "layers[1]: \"/a\" is no object", mount("lcow-partitioned-layer",
      { "scratch=/s", 'parent-partitioned-layers=["/a"]' }))
    refused("invalid_argument", "source", mount("lcow-layer", { PARENTS }, { source = "active" }))
    refused("invalid_argument", "windows.layerFolders[1]", nil, { "a", "/b" })
  end)
end)

local err = require "moonshim.err"
local options = require "moonshim.oci.options"

local PROCESSORS = "io.microsoft.virtualmachine.computetopology.processor.count"
local MEMORY = "io.microsoft.virtualmachine.computetopology.memory.sizeinmb"

local function refused(text, given)
  local ok, e = pcall(options.fold, {}, given)
  assert.is_false(ok, "was accepted")
  assert.is_true(err.is(e, "invalid_argument"), tostring(e))
  assert.is_truthy(e.message:find(text, 1, true), e.message)
end

describe("runtime options", function()
  it("become annotations where there are none [#570]", function()
    assert.same({
      [PROCESSORS] = "4", [MEMORY] = "2048", ["io.microsoft.virtualmachine.bootfilesrootpath"] = "/boot/lcow",
      ["io.microsoft.network.ncproxy"] = "10.0.0.1:4000",
    }, options.fold(nil, {
      vm_processor_count = 4, vm_memory_size_in_mb = 2048, boot_files_root_path = "/boot/lcow", NCProxyAddr = "10.0.0.1:4000",
    }))
  end)

  it("leave an annotation that is there its value, and are not written into the caller's [#571]", function()
    local mine = { [MEMORY] = "512" }
    assert.same({ [MEMORY] = "512", [PROCESSORS] = "2" }, options.fold(mine, { vm_memory_size_in_mb = 2048, vm_processor_count = 2 }))
    assert.same({ [MEMORY] = "512" }, mine)
    assert.same({ [MEMORY] = "" }, options.fold({ [MEMORY] = "" }, { vm_memory_size_in_mb = 2048 }))
  end)

  it("bring default annotations, of which an explicit one wins [#572]", function()
    assert.same({ a = "mine", b = "default", c = "own" },
      options.fold({ a = "mine", c = "own" }, { default_container_annotations = { a = "default", b = "default" } }))
  end)

  it("that are absent, or zero, say nothing", function()
    assert.same({ a = "1" }, options.fold({ a = "1" }))
    assert.same({}, options.fold(nil, { vm_processor_count = 0, vm_memory_size_in_mb = 0, boot_files_root_path = "" }))
  end)

  it("that are of a wrong kind are refused by name", function()
    refused("vm_processor_count: -1", { vm_processor_count = -1 })
    refused("vm_memory_size_in_mb: x", { vm_memory_size_in_mb = "x" })
    refused("boot_files_root_path must be text", { boot_files_root_path = 7 })
    refused("default_container_annotations must be an object", { default_container_annotations = "x" })
    refused("a must be text, not boolean", { default_container_annotations = { a = true } })
    refused("must be an object, not string", "x")
  end)
end)

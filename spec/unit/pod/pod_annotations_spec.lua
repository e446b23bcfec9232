local err = require "moonshim.err"
local keys = require "moonshim.oci.annotation_keys"
local pod_spec = require "moonshim.pod_spec"

local VM = "io.microsoft.virtualmachine.computetopology."

local function check(fields, container)
  local spec = { name = "p", containers = { c = { rootfs = "/r", args = { "sh" }, annotations = container } } }
  for k, v in pairs(fields) do spec[k] = v end
  return pod_spec.check(spec, { base = "/" })
end

local function refused(code, text, ...)
  local ok, e = pcall(check, ...)
  assert.is_false(ok, "was accepted")
  assert.is_true(err.is(e, code), tostring(e))
  assert.is_truthy(e.message:find(text, 1, true), e.message)
  assert.is_nil(e.message:find "\n")
end

describe("the annotations of a pod file", function()
  it("are none when there are none", function()
    local spec = check {}
    assert.same({ {}, {}, {}, {} }, { spec.annotations, spec.settings, spec.warnings, spec.containers.c.annotations })
  end)

  it("may be written as what they mean", function()
    assert.same({ a = "true", b = "7", c = "x", d = "" }, check({ annotations = { a = true, b = 7, c = "x", d = "" } }).annotations)
    assert.same({ a = "false" }, check({}, { a = false }).containers.c.annotations)
  end)

  it("are expanded", function()
    local spec = check { annotations = { [keys.DISABLE_UNSAFE] = true } }
    assert.equal("true", spec.annotations[keys.DISABLE_WRITABLE])
    assert.is_true(spec.settings.no_writable_shares)
  end)

  it("are the size of the VM, like vm; the same twice is no contradiction", function()
    local size = { memory_mb = 512, processors = 2, limit = 50000, weight = 200 }
    local map = { [keys.MEMORY] = "512", [keys.PROCESSORS] = "2", [VM .. "processor.limit"] = "50000", [VM .. "processor.weight"] = "200" }
    assert.same(size, check({ annotations = map }).vm)
    assert.same(size, check({ annotations = map, vm = { memory = "512M" } }).vm)
    assert.same({}, check({ annotations = { [keys.MEMORY] = "0", [keys.PROCESSORS] = "0" } }).vm)
    refused("invalid_argument", "processor.count says 2, but vm says 3; leave one of them out",
      { annotations = map, vm = { processors = 3 } })
    refused("invalid_argument", 'sizeinmb: "63": a VM needs at least 64', { annotations = { [keys.MEMORY] = 63 } })
  end)

  it("do not contradict the network", function()
    assert.is_true(check({ annotations = { [keys.SKIP_NETWORK] = true }, network = "none" }).settings.skip_network)
    refused("invalid_argument", 'network says "bridge"', { annotations = { [keys.SKIP_NETWORK] = true }, network = "bridge" })
    refused("invalid_argument", "exclude each other", { annotations = { [keys.HOST_NETWORK] = true }, network = "/run/netns/x" })
    assert.is_true(check({ annotations = { [keys.HOST_NETWORK] = true }, network = "bridge" }).settings.host_network)
  end)

  it("keep what has no effect, for those who tell", function()
    assert.equal(1, #check({ annotations = { [keys.BOOT_FILES] = "/boot" } }).warnings)
  end)

  it("are refused in their place", function()
    refused("invalid_argument", "annotations: " .. keys.ENCRYPTED, { annotations = { [keys.ENCRYPTED] = "banana" } })
    refused("unimplemented", "containers.c.annotations: " .. keys.HOST_PROCESS, {}, { [keys.HOST_PROCESS] = true })
    refused("invalid_argument", "annotations.x: expected string, got table", { annotations = { x = {} } })
    refused("invalid_argument", "annotations: expected names as keys", { annotations = { "x" } })
    refused("invalid_argument", "leave it out", { annotations = { [keys.CONTAINER_TYPE] = "sandbox" } })
    refused("invalid_argument", "must not contain a NUL byte", { annotations = { x = "a\0b" } })
    local many = {}
    for i = 1, 1001 do many["k" .. i] = "v" end
    refused("invalid_argument", "more than 1000", { annotations = many })
  end)
end)

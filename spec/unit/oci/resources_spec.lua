local err = require "moonshim.err"
local oci = require "moonshim.oci"
local pod_spec = require "moonshim.pod_spec"
local resources = require "moonshim.oci.resources"

local M = 1 << 20

local function refusal(v)
  local ok, e = pcall(pod_spec.limits, v)
  assert.is_false(ok)
  assert.equal("invalid_argument", e.code)
  return e.message
end

describe("limits as a person writes them", function()
  for text, expected in pairs {
    ["64M"] = 64 * M, ["64MiB"] = 64 * M, ["2g"] = 2048 * M, ["8192K"] = 8 * M, ["67108864"] = 64 * M, ["unlimited"] = -1, ["-1"] = -1,
  } do
    it(("read memory %s"):format(text), function() assert.equal(expected, pod_spec.limits({ memory = text }).memory.limit) end)
  end

  it("become quota and period, shares, lists and limits of processes (known bug 147)", function()
    assert.same({ cpu = { quota = 50000, period = 100000 } }, pod_spec.limits { cpus = 0.5 })
    assert.same({ cpu = { quota = 150000, period = 100000 } }, pod_spec.limits { cpus = "1.5" })
    assert.same({ cpu = { quota = -1, period = 100000 } }, pod_spec.limits { cpus = "unlimited" })
    assert.same({ cpu = { quota = 20000, period = 50000, shares = 512, cpus = "0-1,3" } },
      pod_spec.limits { cpu_quota = 20000, cpu_period = 50000, cpu_shares = "512", cpuset = "0-1,3" })
    assert.same({ pids = { limit = 8 } }, pod_spec.limits { pids = 8 })
    assert.same({ pids = { limit = -1 } }, pod_spec.limits { pids = -1 })
    assert.same({ memory = { limit = 64 * M, swap = -1, reservation = 32 * M } },
      pod_spec.limits { memory = "64M", memory_swap = "unlimited", memory_reservation = "32M" })
    assert.same({}, pod_spec.limits {})
  end)

  for name, case in pairs {
    ["a size that is none"] = { { memory = "lots" }, "lots" },
    ["less memory than a program needs"] = { { memory = "1M" }, "4M" },
    ["no CPU at all"] = { { cpus = 0 }, "0.01" },
    ["a CPU that is none"] = { { cpus = "some" }, "CPUs" },
    ["a weight out of range"] = { { cpu_shares = 1 }, "2 to 262144" },
    ["a list that runs backwards"] = { { cpuset = "2-1" }, "0-2,4" },
    ["an empty list"] = { { cpuset = "" }, "0-2,4" },
    ["a list with holes"] = { { cpuset = "1,,2" }, "0-2,4" },
    ["no process"] = { { pids = 0 }, "from 1" },
    ["both ways to say the same"] = { { cpus = 1, cpu_quota = 5000 }, "either" },
    ["memory above memory and swap"] = { { memory = "64M", memory_swap = "32M" }, "together" },
    ["a word that is nearly right"] = { { memroy = "64M" }, "memory" },
  } do
    it("refuse " .. name, function()
      local message = refusal(case[1])
      assert.is_truthy(message:find(case[2], 1, true), message)
    end)
  end

  it("reach the spec of the container, over what an override says", function()
    local pod = pod_spec.check({
      name = "p", containers = {
        web = { rootfs = "/r", args = { "sh" }, resources = { memory = "64M", pids = 5 },
          spec = { linux = { resources = { memory = { limit = 1, swap = 128 * M } } } } },
      },
    }, { base = "/" })
    local spec = oci.spec(pod.containers.web, { id = "web" })
    assert.same({ memory = { limit = 64 * M, swap = 128 * M }, pids = { limit = 5 } }, spec.linux.resources)
  end)

  it("name their place in a pod", function()
    local ok, e = pcall(pod_spec.check, {
      name = "p", containers = { web = { rootfs = "/r", args = { "sh" }, resources = { memory = true } } },
    }, { base = "/" })
    assert.is_false(ok)
    assert.is_truthy(err.from(e).message:find("containers.web.resources.memory", 1, true))
  end)

  it("size the VM in whole megabytes", function()
    local pod = pod_spec.check({
      name = "p", vm = { memory = "512M", processors = 2 }, containers = { w = { rootfs = "/r", args = { "sh" } } },
    }, { base = "/" })
    assert.same({ memory_mb = 512, processors = 2 }, pod.vm)
  end)
end)

describe("sizes for people", function()
  for bytes, text in pairs { [512] = "512 bytes", [4096] = "4 KiB", [64 * M] = "64 MiB", [1536 * M] = "1.5 GiB", [1 << 40] = "1 TiB" } do
    it(text, function() assert.equal(text, resources.size_text(bytes)) end)
  end
end)

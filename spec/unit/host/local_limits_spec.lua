local limits = require "moonshim.host.local_limits"
local process = require "moonshim.host.local_process"
local size = require "moonshim.controller.vm_size"

describe("the processors of a VM as limits of its control group [#384]", function()
  for name, case in pairs {
    ["nothing said, nothing set"] = { {}, 4, {} },
    ["two of four"] = { { Count = 2 }, 4, { quota = 200000 } },
    ["as many as there are: no limit"] = { { Count = 4 }, 4, { quota = -1 } },
    ["more than there are: no limit"] = { { Count = 9 }, 4, { quota = -1 } },
    ["half of each of two"] = { { Count = 2, Limit = 50000 }, 4, { quota = 100000 } },
    ["half of all"] = { { Limit = 50000 }, 4, { quota = 200000 } },
    ["almost nothing: what the kernel takes at least"] = { { Limit = 1 }, 1, { quota = 1000 } },
    ["twice the weight"] = { { Weight = 200 }, 4, { shares = 2048 } },
    ["the least weight"] = { { Weight = 1 }, 4, { shares = 10 } },
    ["weight 0 says nothing"] = { { Weight = 0 }, 4, {} },
  } do
    it(name, function() assert.same(case[3], limits.cpu(case[1], case[2])) end)
  end

  it("refuses what no document may say", function()
    for _, p in ipairs { { Limit = 0 }, { Limit = 100001 }, { Weight = 10001 }, { Count = 0 }, { Count = 1.5 } } do
      assert.has_error(function() limits.cpu(p, 4) end)
    end
  end)
end)

describe("the memory of a VM in megabytes", function()
  for bytes, mb in pairs { [1 << 30] = 1024, [1025 << 20] = 1026, [(64 << 20) + 1] = 66 } do
    it(("%d bytes [#382]"):format(bytes), function() assert.equal(mb, size.megabytes(bytes)) end)
  end
end)

describe("what a control group of a VM has used", function()
  local uv = require "luv"
  local root

  local function given(files)
    for path, text in pairs(files) do
      local at = root
      for part in path:gmatch "([^/]+)/" do
        at = at .. "/" .. part
        uv.fs_mkdir(at, 448)
      end
      local file = assert(io.open(root .. "/" .. path, "w"))
      file:write(text)
      file:close()
    end
  end

  before_each(function() root = assert(uv.fs_mkdtemp "/tmp/moonshim-groups.XXXXXX") end)
  after_each(function() os.execute(("rm -rf '%s'"):format(root)) end)

  it("is in bytes and nanoseconds, whatever the kernel counts in: version 2 [#381]", function()
    given {
      ["m/vm/memory.current"] = "9000\n", ["m/vm/memory.stat"] = "anon 5000\nactive_file 1000\ninactive_file 3000\n",
      ["m/vm/cpu.stat"] = "usage_usec 1234\nuser_usec 1000\n",
    }
    assert.same({ 9000, 6000 }, { process.memory_used("vm", root .. "/m") })
    assert.equal(1234000, process.cpu_used("vm", root .. "/m"))
  end)

  it("is in bytes and nanoseconds, whatever the kernel counts in: version 1 [#381]", function()
    given {
      ["memory/vm/memory.usage_in_bytes"] = "9000\n", ["cpu,cpuacct/vm/cpuacct.usage"] = "1234567\n",
      ["memory/vm/memory.stat"] = "inactive_file 1\ntotal_inactive_file 9500\n",
    }
    assert.same({ 9000, 0 }, { process.memory_used("vm", root) })
    assert.equal(1234567, process.cpu_used("vm", root))
  end)

  it("is not known where nobody counts, and in part where only one does [#380]", function()
    assert.is_nil((process.memory_used("vm", root)))
    assert.is_nil(process.cpu_used("vm", root))
    given { ["memory/vm/memory.usage_in_bytes"] = "9000\n" }
    assert.same({ 9000 }, { process.memory_used("vm", root) })
    assert.is_nil(process.cpu_used("vm", root))
  end)
end)

local limits = require "moonshim.host.local_limits"
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

local err = require "moonshim.err"
local signals = require "moonshim.signals"

describe("a signal", function()
  for input, number in pairs { TERM = 15, SIGTERM = 15, sigkill = 9, Hup = 1, ["15"] = 15, [9] = 9, ["RTMIN+3"] = 37, ["SIGRTMIN+3"] = 37,
    ["RTMAX-2"] = 62, RTMIN = 34, [64] = 64 } do
    it(("is known as %s [#564] [#565]"):format(input), function() assert.equal(number, signals.number(input)) end)
  end

  it("may be any number from 1 to 31, which stays itself [#560]", function()
    for number = 1, 31 do assert.equal(number, signals.number(number)) end
  end)

  for _, input in ipairs { "nope", "", "0", "-1", "65", 0, -1, 32, 33, 65, 90, 9.5, true, "TERM ", "RTMIN+40", "SIG" } do
    it(("is refused as %s [#561] [#568]"):format(tostring(input)), function()
      local ok, e = pcall(signals.number, input)
      assert.is_false(ok)
      assert.is_true(err.is(e, "invalid_argument"))
    end)
  end
end)

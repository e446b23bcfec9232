local output = require "moonshim.cli.output"

describe("lines behind a prefix", function()
  local cut
  before_each(function() cut = output.lines("web | ") end)

  it("waits for the end of a line, wherever the bytes are cut", function()
    assert.equal("", cut("he"))
    assert.equal("web | hello\n", cut("llo\nwor"))
    assert.equal("web | world\nweb | \n", cut("ld\n\n"))
  end)

  it("gives the last line its end", function()
    cut("no newline")
    assert.equal("web | no newline\n", cut(nil))
    assert.equal("", cut(nil))
  end)

  it("cuts a line that never ends, so that it cannot fill the memory", function()
    local out = cut(("x"):rep(1 << 20))
    local _, lines = out:gsub("\n", "")
    assert.is_true(lines >= 15)
    assert.is_true(#cut(nil) <= 64 * 1024 + #"web | \n")
  end)

  it("keeps bytes as they are", function()
    assert.equal("web | a\0b\255\n", cut("a\0b\255\n"))
  end)
end)

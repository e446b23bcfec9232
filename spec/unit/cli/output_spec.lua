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

  it("cuts a line that never ends, so that it cannot fill the memory (known bug 88)", function()
    local out = cut(("x"):rep(1 << 20))
    local _, lines = out:gsub("\n", "")
    assert.is_true(lines >= 15)
    assert.is_true(#cut(nil) <= 64 * 1024 + #"web | \n")
  end)

  it("keeps bytes as they are", function()
    assert.equal("web | a\0b\255\n", cut("a\0b\255\n"))
  end)
end)

describe("output to a socket, which cannot be opened anew", function()
  it("comes out whole and in order, whatever is written while a write is under way", function()
    local uv = require "luv"
    local ends = uv.socketpair("stream", nil, {}, {})
    local reader, got, over = uv.new_pipe(false), {}, false
    reader:open(ends[1])
    reader:read_start(function(_, data)
      got[#got + 1] = data
      over = data == nil
    end)
    local o = output.new()
    local a, b = o:pipe("a | ", ends[2]), o:pipe("b | ", ends[2])
    for i = 1, 200 do
      uv.fs_write(i % 2 == 0 and a or b, ("%d\n"):format(i), -1)
      if i % 3 == 0 then uv.run "nowait" end
    end
    local done = false
    o:finish(function() done = true end)
    while not done do uv.run "once" end
    uv.fs_close(ends[2])
    while not over do uv.run "once" end
    reader:close()
    local last, lines = { a = 0, b = 0 }, 0
    for name, n in table.concat(got):gmatch "([ab]) | (%d+)\n" do
      lines = lines + 1
      assert.is_true(tonumber(n) > last[name])
      last[name] = tonumber(n)
    end
    assert.equal(200, lines)
  end)
end)

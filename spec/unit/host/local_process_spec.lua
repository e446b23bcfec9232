local process = require "moonshim.host.local_process"
local uv = require "luv"

describe("boot processes of a run folder", function()
  local proc

  before_each(function()
    proc = os.tmpname()
    os.remove(proc)
    assert(uv.fs_mkdir(proc, 448))
  end)
  after_each(function() os.execute(("rm -rf '%s'"):format(proc)) end)

  local function running(pid, exe, ...)
    local dir = ("%s/%d"):format(proc, pid)
    assert(uv.fs_mkdir(dir, 448))
    local file = assert(io.open(dir .. "/cmdline", "w"))
    for _, word in ipairs { ... } do file:write(word, "\0") end
    file:close()
    if exe then assert(uv.fs_symlink(exe, dir .. "/exe")) end
  end

  local function boots()
    local found = {}
    local all = process.boots("/run/a", found, proc)
    return { all, found }
  end

  it("are told by their command line", function()
    running(10, "/bin/moonshim-guest", "moonshim-guest", "boot", "--root-dir", "/run/a", "--id", "x")
    running(11, "/bin/moonshim-guest", "moonshim-guest", "boot", "--root-dir", "/run/ab", "--id", "y")
    running(12, "/bin/sh", "sh", "boot", "--root-dir", "/run/b")
    assert.same({ true, { [10] = true } }, boots())
  end)

  it("are not all known while one is just becoming our program", function()
    running(10, "/bin/moonshim-guest")
    assert.same({ false, {} }, boots())
  end)

  it("are no zombies, threads of the kernel or other programs", function()
    running(10)
    running(11, "/bin/sh")
    assert.same({ true, {} }, boots())
  end)
end)

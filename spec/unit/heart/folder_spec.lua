local folder = require "moonshim.folder"
local uv = require "luv"

describe("a folder", function()
  local dir

  before_each(function()
    dir = os.tmpname()
    os.remove(dir)
    assert(uv.fs_mkdir(dir, 448))
  end)
  after_each(function() os.execute(("rm -rf '%s'"):format(dir)) end)

  it("is listed by name, however much is in it", function()
    local names = {}
    for i = 1, 300 do
      names[i] = ("f%03d"):format(i)
      assert(io.open(dir .. "/" .. names[i], "w")):close()
    end
    assert.same(names, folder.names(dir))
  end)

  it("says what its entries are", function()
    assert(uv.fs_mkdir(dir .. "/a", 448))
    assert(io.open(dir .. "/b", "w")):close()
    assert(uv.fs_symlink("a", dir .. "/c"))
    assert.same({ { name = "a", kind = "directory" }, { name = "b", kind = "file" }, { name = "c", kind = "link" } }, folder.entries(dir))
  end)

  it("has nothing in it when it is empty, no folder, or not there", function()
    assert.same({}, folder.names(dir))
    assert.same({}, folder.names(dir .. "/none"))
    assert(io.open(dir .. "/file", "w")):close()
    assert.same({}, folder.names(dir .. "/file"))
  end)

  it("costs nothing that stays: neither memory nor descriptors", function()
    local function held()
      collectgarbage()
      collectgarbage()
      return collectgarbage "count" * 1024
    end
    local function often()
      for _ = 1, 500 do
        folder.names(dir)
        folder.names(dir .. "/none")
      end
    end
    often()
    local before, descriptors = held(), #folder.names "/proc/self/fd"
    often()
    assert.is_true(held() - before < 10000, held() - before) -- a few bytes each would be 100,000 and more
    assert.equal(descriptors, #folder.names "/proc/self/fd")
  end)

  it("is read in one way everywhere", function()
    local found = io.popen "grep -rln 'fs_scandir[ (]' lua"
    assert.equal("", found:read "a")
    found:close()
  end)
end)

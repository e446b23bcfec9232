-- Real programs, run as ourselves.
local core = require "moonshim.core"
local err = require "moonshim.err"
local program = require "moonshim.program"
local task = require "moonshim.task"
local uv = require "luv"

local function sh(script, id)
  return program.start { path = "/bin/sh", args = { "-c", script }, id = id or "c1", namespace = "ns" }
end

-- As a task on the real loop; nothing here takes long, and nothing may take for ever.
local function on_the_loop(fn)
  return function() task.run(function() task.deadline("60s", fn) end) end
end

local function read_all(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read "a"
end

local function descriptors()
  local out = {}
  local handle = assert(uv.fs_scandir "/proc/self/fd")
  for name in function() return uv.fs_scandir_next(handle) end do out[#out + 1] = name end
  return #out
end

describe("a program beside us", function()
  local folder
  setup(function() folder = assert(uv.fs_mkdtemp "/tmp/msh-program-XXXXXX") end)
  teardown(function() task.run(function() task.callback(function(cb) return core.sys.remove_tree(folder, cb) end) end) end)

  it("reads both outputs at 3 and 4 until their end, and says by closing 5 that it is ready [#547]", on_the_loop(function()
    local p = sh(("exec 5>&-; cat <&3 >%s/out; cat <&4 >%s/err; exit 7"):format(folder, folder))
    assert.is_false(p.ready:wait())
    assert.is_false(p:ending())
    uv.fs_write(p.stdout, "to stdout")
    uv.fs_write(p.stderr, "to stderr")
    p:close()
    assert.same({ 7, 0 }, { p:wait() })
    assert.is_true(p:ending())
    assert.same({ "to stdout", "to stderr" }, { read_all(folder .. "/out"), read_all(folder .. "/err") })
  end))

  it("may say it by a byte", on_the_loop(function()
    local p = sh "echo >&5; exec cat <&3"
    assert.is_true(p.ready:wait())
    p:close()
    p:wait()
  end))

  it("has no environment but the two names, and nothing on 0, 1 and 2 [#547]", on_the_loop(function()
    local script = ("tr '\\0' '\\n' </proc/self/environ >%s/env; readlink /proc/self/fd/0 >%s/null"):format(folder, folder)
    local p = program.start { path = "/bin/sh", args = { "-c", script }, id = "the id", namespace = "k8s.io" }
    p:close()
    p:wait()
    local got = {}
    for line in read_all(folder .. "/env"):gmatch "[^\n]+" do
      if not line:find "^PWD=" and not line:find "^OLDPWD=" and not line:find "^_=" then got[#got + 1] = line end -- the shell's own
    end
    table.sort(got)
    assert.same({ "CONTAINER_ID=the id", "CONTAINER_NAMESPACE=k8s.io" }, got)
    assert.equal("/dev/null\n", read_all(folder .. "/null"))
  end))

  it("that ends at once is seen to be ending, however early we look (known bug 84)", on_the_loop(function()
    for _ = 1, 20 do
      local p = sh "exit 3"
      assert.is_false(p.ready:wait())
      assert.is_true(p:ending())
      assert.same({ 3, 0 }, { p:wait() })
      p:close()
    end
  end))

  it("that cannot be started leaves no descriptor [#550]", on_the_loop(function()
    local before = descriptors()
    for _ = 1, 3 do
      local ok, e = pcall(program.start, { path = folder .. "/none", args = {}, id = "c", namespace = "n" })
      assert.is_false(ok)
      assert.is_true(err.is(e, "not_found"))
      assert.is_truthy(e.message:find(folder .. "/none", 1, true))
    end
    task.sleep(0) -- libuv closes in the next turn
    assert.equal(before, descriptors())
  end))

  it("gets what is meant for it when there are two of one container [#552]", on_the_loop(function()
    local each = {}
    for i = 1, 2 do each[i] = sh(("exec 5>&-; cat <&3 >%s/two%d"):format(folder, i), "e" .. i) end
    for i = 1, 2 do
      each[i].ready:wait()
      uv.fs_write(each[i].stdout, "of " .. i)
    end
    for i = 1, 2 do
      each[i]:close()
      each[i]:wait()
      assert.equal("of " .. i, read_all(("%s/two%d"):format(folder, i)))
    end
  end))

  it("is killed by pid and start time, also by another process of ours", on_the_loop(function()
    local p = sh "exec 5>&-; exec sleep 3600"
    p.ready:wait()
    assert.is_nil(program.open { pid = p.pid, start_time = p.start_time + 1 })
    local found = assert(program.open { pid = p.pid, start_time = p.start_time })
    assert.is_false(found:ending())
    found:kill()
    found:wait()
    assert.is_true(found:ending())
    assert.same({ 0, 9 }, { p:wait() })
    assert.is_nil(program.open { pid = p.pid, start_time = p.start_time })
    found:kill() -- nobody any more
    p:close()
  end))
end)

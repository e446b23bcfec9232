local command = require "e2e.command"
local uv = require "luv"

local here = uv.cwd()

-- Each example runs in a copy of the folder, with roots and images of its own.
describe("the example", function()
  local check_leaks
  setup(function()
    command.execute("/bin/cp", { "-r", here .. "/examples", command.folder .. "/examples" })
    local made = command.execute("/bin/sh", { here .. "/scripts/make_images", command.folder .. "/examples" })
    assert.equal(0, made.code, made.err)
    check_leaks = command.leaks()
  end)
  after_each(function() check_leaks() end)
  teardown(function() command.cleanup() end)

  local RUN = {
    ["hello.lua"] = function(path)
      local process = command.spawn(command.program, { "run", "--timeline", path })
      process:wait_for("counter | 2\n")
      process:kill("sigterm")
      local result = process:wait()
      assert.equal(143, result.code, result.err)
      assert.is_truthy(result.out:find("greeter | hello from hello\n", 1, true), result.out)
      assert.is_truthy(result.out:find("counter | bye\n", 1, true), result.out)
    end,
    ["storage.lua"] = function(path)
      local result = command.moonshim { "run", path }
      assert.equal(0, result.code, result.err)
      local lines = { "3", "written", "flush_before_detach.lua", " 53 ef" }
      for _, line in ipairs(lines) do assert.is_truthy(result.out:find("reader | " .. line .. "\n", 1, true), result.out .. result.err) end
    end,
    ["logs.lua"] = function(path) -- its files are named in it
      local files = { web = "/tmp/moonshim-logs-web.txt", worker = "/tmp/moonshim-logs-worker.txt" }
      for _, file in pairs(files) do os.remove(file) end
      local result = command.moonshim { "run", path }
      local web, worker = command.read(files.web), command.read(files.worker)
      for _, file in pairs(files) do os.remove(file) end
      assert.equal(0, result.code, result.err)
      assert.equal("seen   | on the terminal\n", result.out)
      assert.equal("web: served one\nweb: served two\n", web)
      assert.same({ "tired", "working" }, { worker:match "tired", worker:match "working" })
    end,
    ["network.lua"] = function(path) -- where there is no link but those that it makes
      local result = command.execute("/usr/bin/unshare", { "--net", command.program, "run", path })
      assert.equal(0, result.code, result.err)
      assert.is_truthy(result.out:find("client | hello from greetings.example\n", 1, true), result.out)
      assert.is_truthy(result.out:find("client | nameserver 192.0.2.53\n", 1, true), result.out)
    end,
    ["two_pods.lua"] = function(path)
      local result = command.execute("/usr/bin/lua5.4", { path }, {
        cwd = command.folder,
        env = { LUA_PATH = here .. "/lua/?.lua;" .. here .. "/lua/?/init.lua;;", LUA_CPATH = here .. "/build/release/lib/?.so;;" },
      })
      assert.equal("", result.err)
      assert.equal(0, result.code)
      assert.is_truthy(result.out:find("exit status 0, output: blue\n", 1, true), result.out)
      assert.is_truthy(result.out:find("blue is\trunning\n", 1, true), result.out)
      local told = { "create", "start", "exec-added", "exec-started", "exit", "exit", "delete" }
      assert.is_truthy(result.out:find(table.concat(told, "\n"), 1, true), result.out)
    end,
    ["embed.lua"] = function(path)
      local result = command.execute("/usr/bin/lua5.4", { path }, {
        cwd = command.folder,
        env = { LUA_PATH = here .. "/lua/?.lua;" .. here .. "/lua/?/init.lua;;", LUA_CPATH = here .. "/build/release/lib/?.so;;" },
      })
      assert.equal("", result.err)
      assert.equal(0, result.code)
      assert.is_truthy(result.out:find("exit status 0, output: hello from the top layer", 1, true), result.out)
      assert.is_truthy(result.out:find("overlay", 1, true), result.out)
    end,
  }

  for _, name in ipairs(command.list("examples")) do
    if name:match("%.lua$") then
      it(name .. " runs", function()
        assert.is_function(RUN[name], "a new example needs its line in this spec")
        RUN[name](command.folder .. "/examples/" .. name)
      end)
    end
  end
end)

local command = require "e2e.command"

-- The executable around the Lua: what becomes of a state whose main returns or raises with things half done. Its Lua comes
-- from a source tree that this file writes.
describe("the program, when its Lua ends", function()
  teardown(function() command.cleanup() end)

  ---Runs a main whose body is this text.
  local function main(body)
    command.write("tree/lua/moonshim/cli.lua", ([[
      local uv = require "luv"
      local core = require "moonshim.core"
      return { main = function() %s end }]]):format(body))
    return command.execute(command.program, {}, { env = { MOONSHIM_LUA = command.folder .. "/tree/lua" } })
  end

  for name, ending in pairs {
    ["a timer that is being closed"] = "uv.new_timer():close()",
    ["a close whose callback is still to come"] = "uv.new_timer():close(function() print 'closed' end)",
    ["closes that lead to others for ever"] = "local function again() uv.new_timer():close(again) end again()",
    ["a timer that is due"] = "uv.new_timer():start(0, 0, function() print 'due' end) uv.new_timer():close()",
    ["a write that is under way to a pipe that is being closed"] = [[local fds = uv.pipe()
      local p = uv.new_pipe() p:open(fds.write) p:write(('x'):rep(1 << 20), function(e) print(e) end) p:close()]],
    ["a process that runs on"] = "uv.spawn('/bin/sleep', { args = { '0.01' } }, function() end) uv.new_timer():close()",
    ["a folder that is watched"] = "local p = uv.new_fs_poll() p:start('/', 1, function() print 'changed' end) p:close()",
    ["streams of the core's that are being closed"] = "local a, b = core.transport.pair() a:close() b:close()",
    ["a call of the core's on its way"] = "core.sys.make_sparse('/dev/null/no', 1, print) uv.new_timer():close()",
    ["nothing to close"] = "",
  } do
    it("runs nothing more, and keeps its status, with " .. name, function()
      local result = main(ending .. " return 3")
      assert.equal("", result.err)
      assert.equal("", result.out)
      assert.same({ 3, 0 }, { result.code, result.signal })
    end)

    it("says why it failed with " .. name, function()
      local result = main(ending .. " error({ code = 'internal', message = 'no good' })")
      assert.equal("moonshim: no good\n", result.err)
      assert.same({ 125, 0 }, { result.code, result.signal })
    end)
  end
end)

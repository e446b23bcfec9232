-- Runs once before all specs (see .busted). What it adds to every spec file:
--   * the module paths: lua/, spec/ and the C module of the build in MOONSHIM_BUILD (default build/release);
--   * a new global, set by anything that is loaded, is an error;
--   * after each spec: no run goes on, and nothing on luv's loop is left alive.
local busted = require "busted"

local build = os.getenv("MOONSHIM_BUILD") or "build/release"
package.path = "./lua/?.lua;./lua/?/init.lua;./spec/?.lua;" .. package.path
package.cpath = build .. "/lib/?.so;" .. package.cpath

-- Loaded here, before busted first saves package.loaded: a C module must not be opened again for every file.
local uv = require "luv"
require "cjson"
local has_core = pcall(require, "moonshim.core")
-- These set globals of their own when they are first needed; better now than in the middle of a spec.
for _, name in ipairs { "say", "luassert", "luassert.spy", "luassert.stub", "luassert.mock", "luassert.match", "term", "system" } do
  pcall(require, name)
end

setmetatable(_G, {
  __newindex = function(_, name)
    error(("a new global: %s"):format(tostring(name)), 2)
  end,
})

-- luv would take a handle that C made for one of its own, so with the core loaded only the loop itself is asked.
local function alive()
  if has_core then
    return uv.loop_alive() and { "something (set UV_PRINT=1 to list it)" } or {}
  end
  local found = {}
  uv.walk(function(handle)
    if not handle:is_closing() then
      found[#found + 1] = tostring(handle)
    end
  end)
  return found
end

busted.after_each(function()
  local task = package.loaded["moonshim.task"]
  local running = task and task.names() or {}
  assert(#running == 0, "the spec left tasks running: " .. table.concat(running, ", "))
  for _ = 1, 10 do -- closing takes a turn of the loop or two
    if not uv.run("nowait") then
      break
    end
  end
  local found = alive()
  if #found > 0 then
    if os.getenv("UV_PRINT") then
      uv.print_all_handles()
    end
    collectgarbage()
    error("the spec left handles on the loop: " .. table.concat(found, ", "), 0)
  end
end)

-- Called by scripts/soak and by spec/e2e/many_spec.lua, from the root of the checkout:
--   lua5.4 scripts/soak.lua SCENARIO FOLDER [--OPTION N]...
-- FOLDER is where scripts/make_images has been. Run folders are kept in FOLDER/run. The scenarios are in scripts/soaks.
package.path = "scripts/?.lua;" .. package.path
local uv = require "luv"
local err = require "moonshim.err"
local moonshim = require "moonshim"
local look = require "soaks.look"
local ground = require "soaks.ground"

local want = { count = 1000, containers = 200, cycles = 200, width = 20, seconds = 60, kills = 100, first = 1, seed = os.time() }
for i = 3, #arg, 2 do want[arg[i]:match("^%-%-(.+)$")] = math.tointeger(tonumber(arg[i + 1])) end

local run
for _, part in ipairs { "load", "disorder", "kills", "kills_exact" } do run = run or require("soaks." .. part)[arg[1]] end
if not run then error("no such scenario: " .. tostring(arg[1])) end
ground.below(uv.fs_realpath(arg[2]))
uv.fs_mkdir(ground.run_dir, 448)
look.say("%s", arg[1])
local ok, e = xpcall(moonshim.run, err.traceback, function()
  local fine, why = xpcall(run, err.traceback, want)
  if not fine and ground.running then ground.running:terminate() end
  if not fine then error(why, 0) end
end)
if not ok then look.complain("%s", tostring(e)) end
local left = look.entries(ground.run_dir)
if left > 0 then look.complain("%d run folders are left in %s", left, ground.run_dir) end
os.exit(#look.complaints == 0 and 0 or 1, true)

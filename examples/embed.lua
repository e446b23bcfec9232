-- Drives a pod from code: start it, run a command in it, look at how it would be taken down, stop it.
--   scripts/make_images examples
--   LUA_PATH='lua/?.lua;lua/?/init.lua;;' LUA_CPATH='build/release/lib/?.so;;' lua5.4 examples/embed.lua
local moonshim = require "moonshim"

local spec = moonshim.pod {
  name = "embedded",
  containers = {
    web = {
      layers = { "examples/images/base.ext4", "examples/images/app.ext4" },
      scratch = { size = "16M" },
      args = { "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done" },
    },
  },
}

moonshim.run(function()
  local pod = assert(moonshim.start(spec))

  local p = assert(pod.web:exec { "cat", "/app/greeting" })
  print(("exit status %d, output: %s"):format(p:wait(), p:output()))

  print(pod:plan("stop"))
  assert(pod:stop())
  print(pod:timeline())
end)

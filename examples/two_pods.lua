-- Two pods in one utility VM: each has its own network, name and end, and the VM goes on when one of them stops.
--   scripts/make_images examples
--   LUA_PATH='lua/?.lua;lua/?/init.lua;;' LUA_CPATH='build/release/lib/?.so;;' lua5.4 examples/two_pods.lua
local moonshim = require "moonshim"

local function pod(name)
  return moonshim.pod {
    name = name,
    containers = {
      [name .. "-main"] = {
        rootfs = "examples/roots/busybox", args = { "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done" },
      },
    },
  }
end

moonshim.run(function()
  local vm = assert(moonshim.vm { name = "shared", die_with_parent = true })
  local red, blue = assert(vm:start_pod(pod "red")), assert(vm:start_pod(pod "blue"))

  local p = assert(blue["blue-main"]:exec { "hostname" })
  print(("exit status %d, output: %s"):format(p:wait(), p:output()))

  print(red:plan "stop") -- nothing of blue or of the VM is in it
  assert(red:stop())
  print("blue is", (blue["blue-main"]:state()))

  local events = assert(blue:follow { since = 0 }) -- late, and still from the beginning
  assert(vm:stop())
  for event in function() return events:next() end do
    if event.data.container == "blue-main" then print(event.topic) end
  end
end)

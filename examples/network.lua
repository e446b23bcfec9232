-- A pod with a network: a server and a client that finds it by the pod's host name. Other pods on the bridge reach it, too.
--   moonshim run examples/network.lua
local moonshim = require "moonshim"

return moonshim.pod {
  name = "greetings",
  hostname = "greetings.example",
  network = "bridge", -- or "none", the path of a network namespace, { mode = "bridge", subnet = "10.90.0.0/24", address = "10.90.0.9" }
  dns = { servers = { "192.0.2.53" }, search = { "example" } }, -- without it, as on this machine
  containers = {
    server = { rootfs = "roots/busybox", args = { "sh", "-c", "echo hello from $HOSTNAME | nc -l -p 7000" } },
    client = {
      rootfs = "roots/busybox", args = { "sh", "-c", "until nc greetings.example 7000; do sleep 0.1; done; cat /etc/resolv.conf" },
    },
  },
}

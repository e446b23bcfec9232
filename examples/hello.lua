local moonshim = require "moonshim"

return moonshim.pod {
  name = "hello",
  host = "local",
  policy = "teardown/flush_before_detach.lua",
  containers = {
    greeter = {
      rootfs = "roots/busybox",
      args = { "sh", "-c", "echo hello from $HOSTNAME; exec tail -f /dev/null" },
    },
    counter = {
      layers = { "images/base.ext4", "images/app.ext4" },
      scratch = { size = "64M" },
      args = { "sh", "-c", "trap 'echo bye; exit 0' TERM; i=0; while :; do echo $((i+=1)); sleep 1; done" },
    },
  },
}

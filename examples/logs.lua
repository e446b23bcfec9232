-- Where output goes: to whoever runs the pod, into a file, or to a program beside us that reads it.
local moonshim = require "moonshim"

local file = "file:///tmp/moonshim-logs-worker.txt" -- made when missing, appended to

-- The program gets stdout at descriptor 3 and stderr at 4, and closes 5 when it is ready; its arguments are the query, in
-- which %26 is an "&" and + a blank. It ends when both have ended.
local program = "binary:///bin/sh?-c=exec+5>%26-;sed+\"s/^/$CONTAINER_ID:+/\"+<%263+>>/tmp/moonshim-logs-web.txt"

return moonshim.pod {
  name = "logs",
  containers = {
    worker = { rootfs = "roots/busybox", args = { "sh", "-c", "echo working; echo tired >&2" }, stdout = file, stderr = file },
    web = { rootfs = "roots/busybox", args = { "sh", "-c", "echo served one; echo served two" }, stdout = program },
    seen = { rootfs = "roots/busybox", args = { "echo", "on the terminal" } },
  },
}

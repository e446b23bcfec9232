-- What a container can be given besides its root: folders of the pod, a folder of the host, disks and devices.
local moonshim = require "moonshim"

local pod_folder = { source = "sandbox://data", destination = "/data" }       -- lives as long as the pod
local pod_memory = { source = "sandbox-tmp://notes", destination = "/notes" } -- the same, in memory

return moonshim.pod {
  name = "storage",
  -- No container may write into a folder of the host; whoever asks for it is refused.
  annotations = { ["io.microsoft.virtualmachine.fileshares.disablewritable"] = true },
  containers = {
    writer = {
      rootfs = "images/base.ext4",     -- ext4 or erofs, or a fixed VHD with one of them
      scratch = { size = "32M" },      -- a sparse disk of its own, gone with the container
      mounts = { pod_folder, pod_memory },
      devices = { "/dev/zero:/dev/nothing:r" },
      args = { "sh", "-c", "head -c 3 /dev/nothing | wc -c > /data/.size; echo written > /notes/word; mv /data/.size /data/size" },
    },
    reader = {
      rootfs = "roots/busybox", read_only = true,
      mounts = {
        pod_folder, pod_memory,
        { source = "teardown", destination = "/scripts", options = { "ro" } },
        -- A disk, as a device; with destination = "/app" it would be mounted there.
        { source = "images/app.ext4", destination = "blockdev:///dev/app", type = "virtual-disk", options = { "ro" } },
      },
      args = { "sh", "-c", [[
        until test -e /data/size; do sleep 0.1; done
        cat /data/size /notes/word; ls /scripts; dd if=/dev/app bs=1 skip=1080 count=2 2>/dev/null | od -An -tx1]] },
    },
  },
}

--- Every path and every port inside a utility VM, and nothing else.
--
-- Layer    guest: no world, no guest call; plain functions from names to paths.
-- Always   1. an id becomes a path only through `layout.name`, so no id leaves its folder.
--          2. the same (pod, container) gives the same paths in every process: release needs no memory.
-- See      spec/unit/guest/layout_spec.lua
local err = require "moonshim.err"

---@class moonshim.guest.layout
local layout = {}

--- The id of the utility VM itself on the bridge ("null container").
layout.NULL = "00000000-0000-0000-0000-000000000000"
layout.BRIDGE_PORT = 0x40000000
--- Dialled once at boot: 512 random bytes for its kernel, and the stream of its log.
layout.ENTROPY_PORT, layout.LOG_PORT = 1, 109
--- Stdio ports grow from here and are never used twice in the life of a VM.
layout.FIRST_STDIO_PORT = 0x40000001
layout.PLAN9_PORT = 564
layout.AGENT = "/sbin/moonshim-guest"
layout.PODS = "/run/gcs/pods"
layout.SCSI = "/run/mounts/scsi"
layout.PLAN9 = "/run/mounts/plan9"
--- Longest id: it is a folder name, a cgroup name and part of longer paths.
layout.MAX_NAME = 128

--- A text in quotes on one line, whatever is in it.
---@param text string
---@return string
function layout.quote(text) return (("%q"):format(text):gsub("\\\n", "\\n")) end

--- Returns `name` when it can be a folder name everywhere; raises `invalid_argument` naming `what` otherwise.
---@param what string what the name is for, as the user would say it: "container id"
---@param name any
---@return string
function layout.name(what, name)
  if type(name) ~= "string" then
    err.raise("invalid_argument", "%s must be text, not %s", what, type(name))
  end
  if #name == 0 then err.raise("invalid_argument", "%s is empty", what) end
  if #name > layout.MAX_NAME then
    err.raise("invalid_argument", "%s has %d bytes, the limit is %d: %s...", what, #name, layout.MAX_NAME, layout.quote(name:sub(1, 32)))
  end
  if not name:find "^%w[%w_.-]*$" then
    err.raise("invalid_argument", "%s %s may hold only letters, digits, '_', '.' and '-', and starts with a letter or a digit", what,
      layout.quote(name))
  end
  return name
end

--- Folder of config.json and of the container's own files.
function layout.bundle(pod, container)
  return ("%s/%s/%s"):format(layout.PODS, layout.name("pod id", pod), layout.name("container id", container))
end

--- Mount point of the container's overlay.
function layout.rootfs(pod, container) return layout.bundle(pod, container) .. "/rootfs" end

--- Mount point of a disk. `partition` 0 is the whole disk.
function layout.scsi(controller, lun, partition)
  return ("%s/%d_%d_%d"):format(layout.SCSI, controller, lun, partition or 0)
end

--- Mount point of a share; `share` is the generated decimal name.
function layout.plan9(share) return ("%s/%s"):format(layout.PLAN9, layout.name("share name", share)) end

--- Where the one file of a restricted share is seen.
function layout.share_file(share, file)
  if file:find "[/%z]" or file == "." or file == ".." or #file == 0 or #file > 255 then
    err.raise("invalid_argument", "%s cannot be the name of a shared file", layout.quote(file))
  end
  return layout.plan9(share) .. "/" .. file
end

--- A container's own part of a scratch disk that several containers may share.
function layout.scratch_dir(scratch_mount, pod, container)
  return ("%s/scratch/%s/%s"):format(scratch_mount, layout.name("pod id", pod), layout.name("container id", container))
end

return layout

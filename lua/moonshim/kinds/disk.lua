--- kind "disk": an image or a block device that a container asked for as a mount.
--
-- args    { path, type = "VirtualDisk"|"PassThru"|"ExtensibleVirtualDisk", provider?, read_only, options, filesystem?,
--           partition?, block_dev?, mount_index? }
-- facts   those of the reservation, source (guest path for the container's spec), mount_index, then loop or node
-- Always  the file is the user's: it is never formatted and never deleted.
local kind = require "moonshim.kind"

return kind.define("disk", {
  v = 1,
  ends_with_boot = true,
  reserve = function(world, args)
    local files = world.files or require "moonshim.oci.files"
    -- An extensible disk is its provider's to open.
    if args.type ~= "ExtensibleVirtualDisk" then files.access(args.path, not args.read_only) end
    local facts = world.devices:reserve {
      bus = "scsi",
      path = args.path,
      read_only = args.read_only or false,
      type = args.type or "VirtualDisk",
      provider = args.provider,
      partition = args.partition or 0,
      mount = {
        read_only = args.read_only or false,
        options = args.options or {},
        filesystem = args.filesystem,
        block_dev = args.block_dev or false,
      },
    }
    facts.source = facts.guest_path
    facts.mount_index = args.mount_index
    return facts
  end,
  acquire = function(world, facts) return world.devices:map(facts) end,
  release = function(world, facts) world.devices:unmap(facts) end,
  defaults = { within = "60s", retries = 2, backoff = "100ms", on_failure = "stop" },
})

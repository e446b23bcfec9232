--- kind "layer": one read-only part of a root file system: an image on the SCSI bus, or a directory as a share.
--
-- args    { path, partition?, format? }     format as oci/root found it; looked up when absent
-- facts   those of the reservation: bus, id, guest_path, ..., then loop (found by the host)
-- Shared  several containers may hold the same layer; the last one takes it down.
local err = require "moonshim.err"
local kind = require "moonshim.kind"
local root = require "moonshim.oci.root"

return kind.define("layer", {
  v = 1,
  ends_with_boot = true,
  reserve = function(world, args)
    local files = world.files or require "moonshim.oci.files"
    local path = files.realpath(args.path)
    local format = args.format or root.format(files, "layer", path)
    if format == "directory" then
      if (args.partition or 0) ~= 0 then err.raise("invalid_argument", "layer: a directory has no partition %d", args.partition) end
      return world.devices:reserve { bus = "plan9", path = path, read_only = true }
    end
    return world.devices:reserve {
      bus = "scsi",
      path = path,
      read_only = true,
      type = files.kind(path) == "block" and "PassThru" or "VirtualDisk",
      partition = args.partition or 0,
      -- ext4 is what every guest finds out by itself; anything else has to be said.
      mount = { read_only = true, options = { "ro" }, filesystem = format ~= "ext4" and format or nil },
    }
  end,
  acquire = function(world, facts) return world.devices:map(facts) end,
  release = function(world, facts) world.devices:unmap(facts) end,
  defaults = { within = "60s", retries = 2, backoff = "100ms", on_failure = "stop" },
})

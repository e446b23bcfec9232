--- kind "share": a folder or a single file of the host, seen in the guest.
--
-- args    { path, read_only, file?, mount_index? }     file: path is not a folder; looked up when absent
-- facts   those of the reservation, source (what the container mounts), mount_index
-- Always  the folder is the user's: release takes away the view, never anything behind it.
local kind = require "moonshim.kind"
local layout = require "moonshim.guest.layout"

return kind.define("share", {
  v = 1,
  ends_with_boot = true,
  reserve = function(world, args)
    local files = world.files or require "moonshim.oci.files"
    local path, file = args.path, args.file
    if file == nil then
      path = files.realpath(path)
      file = files.kind(path) ~= "directory"
    end
    local folder, name = path:match "^(.*)/([^/]+)$"
    local facts = world.devices:reserve {
      bus = "plan9",
      path = file and (folder == "" and "/" or folder) or path,
      read_only = args.read_only or false,
      restrict = file,
      names = file and { name } or {},
    }
    facts.source = file and layout.share_file(facts.share, name) or facts.guest_path
    facts.mount_index = args.mount_index
    return facts
  end,
  acquire = function(world, facts) return world.devices:map(facts) end,
  release = function(world, facts) world.devices:unmap(facts) end,
  defaults = { within = "60s", retries = 2, backoff = "100ms", on_failure = "stop" },
})

--- kind "scratch": the writable disk below a container's root file system.
--
-- args    { size = bytes, folder? } a sparse file of ours, in the run dir or in `folder`, formatted by the guest, deleted
--         by release; or { path } the user's image, shared by all containers that name it, never deleted.
--         Both: { pod, container } name the container's own part of it; encrypted: by the guest, as xfs.
-- facts   those of the reservation, file and bytes (ours only), scratch_dir, then loop
-- Always  only a file that this kind made is deleted: its name is ours, and it is a plain file.
local err = require "moonshim.err"
local keys = require "moonshim.oci.annotation_keys"
local kind = require "moonshim.kind"
local layout = require "moonshim.guest.layout"
local root = require "moonshim.oci.root"
local task = require "moonshim.task"

local NAME = "^scratch%-%x+%.img$"

local function remove_file(world, path)
  if not path:match "[^/]+$":find(NAME) then err.raise("internal", "scratch: %s is not a file of ours", path) end
  task.callback(function(cb) return world.core.sys.remove_tree(path, cb) end)
end

return kind.define("scratch", {
  v = 1,
  reserve = function(world, args)
    local path, file, bytes = args.path, nil, nil
    if path then
      local files = world.files or require "moonshim.oci.files"
      path = files.realpath(path)
      root.check_scratch(files, "scratch", path)
      files.access(path, true)
    else
      if math.type(args.size) ~= "integer" or args.size <= 0 then err.raise("invalid_argument", "scratch: give a size or a path") end
      bytes = args.size
      -- A plan that is only looked at says the same every time.
      local name = world.dry and args.container or err.try(world.core.sys.random_hex(8))
      file = ("%s/scratch-%s.img"):format(args.folder or world.run_dir, name)
      path = file
    end
    local facts = world.devices:reserve {
      bus = "scsi",
      path = path,
      read_only = false,
      type = "VirtualDisk",
      partition = 0,
      mount = {
        read_only = false, ensure_filesystem = true, filesystem = args.encrypted and "xfs" or "ext4", encrypted = args.encrypted or false,
      },
    }
    facts.file, facts.bytes = file, bytes
    facts.scratch_dir = layout.scratch_dir(facts.guest_path, args.pod, args.container)
    return facts
  end,
  acquire = function(world, facts)
    if facts.file then
      task.callback(function(cb) return world.core.sys.make_sparse(facts.file, facts.bytes, cb) end)
    end
    local ok, found = pcall(world.devices.map, world.devices, facts)
    if ok then return found end
    if not (err.is(found) and facts.mount.encrypted) then error(found, 0) end
    return error(err.wrap(found, ("scratch encryption (%s; leave it out where the guest cannot)"):format(keys.ENCRYPTED)), 0)
  end,
  release = function(world, facts)
    world.devices:unmap(facts)
    if facts.file then remove_file(world, facts.file) end
  end,
  show = function(facts) return facts.file and ("%s, %d MiB"):format(facts.path, facts.bytes >> 20) or facts.path end,
  defaults = { within = "60s", retries = 2, backoff = "100ms", on_failure = "stop" },
})

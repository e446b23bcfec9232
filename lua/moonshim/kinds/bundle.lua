--- kind "bundle": a container's folder in the guest, and all that the guest keeps about the container.
--
-- args    { pod, container, scratch = receipt? }
-- facts   { container, path, rootfs, scratch_dir? }
-- Acquiring only names it: the guest makes the folder when the container is created. Releasing deletes the container's
-- state, its folder and its part of the scratch disk, in one message; a container the guest does not know is gone.
local classify = require "moonshim.classify"
local err = require "moonshim.err"
local kind = require "moonshim.kind"
local layout = require "moonshim.guest.layout"

return kind.define("bundle", {
  v = 1,
  ends_with_boot = true,
  reserve = function(_, args)
    return {
      container = layout.name("container id", args.container),
      path = layout.bundle(args.pod, args.container),
      rootfs = layout.rootfs(args.pod, args.container),
      scratch_dir = args.scratch and args.scratch.facts.scratch_dir,
    }
  end,
  acquire = function() return nil end,
  release = function(world, facts)
    classify.release({ op = "delete_state", alive = world.alive }, function()
      if not world.guest then err.raise("unavailable", "bundle: there is no connection to the guest") end
      world.guest:delete_state(facts.container)
    end)
  end,
  verify = function(world) return world.alive() and "unknown" or "gone" end,
  defaults = { within = "60s", retries = 1, backoff = "200ms", on_failure = "stop" },
})

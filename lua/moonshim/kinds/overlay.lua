--- kind "overlay": a container's root file system: layers, and a scratch disk on top or none.
--
-- args    { layers = { receipts, base first }, scratch = receipt?, bundle = receipt, mount_points = { path, file? }[]? }
-- facts   { container, root, guest_path, layers = { paths, top-most first }, scratch?, skeleton? }
-- Without a scratch disk nothing can be made inside any more, so a folder with the mount points that the container will
-- need goes below the layers: the skeleton, a share of the run dir. It is the only host effect of this kind.
local classify = require "moonshim.classify"
local err = require "moonshim.err"
local kind = require "moonshim.kind"
local task = require "moonshim.task"

local POINTS = { { path = "/proc" }, { path = "/dev" }, { path = "/sys" }, { path = "/etc" } }
local NAME = "^skeleton%-%x+$"

local function message(facts)
  return { container = facts.container, root = facts.root, layers = facts.layers, scratch = facts.scratch }
end

--- Folders and empty files, all inside `dir`: ".." is cut off, links cannot be there yet.
local function make_skeleton(world, dir, points)
  local sys = world.core.sys
  err.try(sys.mkdir_p(dir, 0x1ed))
  for _, point in ipairs(points) do
    local parts = {}
    for part in point.path:gmatch "[^/]+" do
      if part ~= "." and part ~= ".." then parts[#parts + 1] = part end
    end
    local name = point.file and table.remove(parts)
    local folder = dir .. "/" .. table.concat(parts, "/")
    err.try(sys.mkdir_p(folder, 0x1ed))
    if name then
      local file = io.open(folder .. "/" .. name, "ab")
      if file then file:close() end -- a folder is there already: then that is the mount point
    end
  end
end

local function release_skeleton(world, skeleton)
  world.devices:unmap(skeleton)
  if not skeleton.dir:match "[^/]+$":find(NAME) then err.raise("internal", "overlay: %s is not a folder of ours", skeleton.dir) end
  task.callback(function(cb) return world.core.sys.remove_tree(skeleton.dir, cb) end)
end

return kind.define("overlay", {
  v = 1,
  reserve = function(world, args)
    local facts = {
      container = args.bundle.facts.container,
      root = args.bundle.facts.rootfs,
      guest_path = args.bundle.facts.rootfs,
      layers = {},
      scratch = args.scratch and args.scratch.facts.scratch_dir,
    }
    for i, layer in ipairs(args.layers) do facts.layers[#args.layers - i + 1] = layer.facts.guest_path end
    if not facts.scratch then
      local dir = ("%s/skeleton-%s"):format(world.run_dir, world.core.sys.random_hex(8))
      facts.skeleton = world.devices:reserve { bus = "plan9", path = dir, read_only = true }
      facts.skeleton.dir = dir
      facts.layers[#facts.layers + 1] = facts.skeleton.guest_path
    end
    return facts
  end,
  acquire = function(world, facts, args)
    if facts.skeleton then
      make_skeleton(world, facts.skeleton.dir, POINTS)
      make_skeleton(world, facts.skeleton.dir, args.mount_points or {})
      world.devices:map(facts.skeleton)
    end
    if not world.guest then err.raise("unavailable", "overlay: there is no connection to the guest") end
    world.guest:combine_layers(message(facts))
  end,
  release = function(world, facts)
    classify.release({ op = "modify.remove.CombinedLayers", alive = world.alive }, function()
      if not world.guest then err.raise("unavailable", "overlay: there is no connection to the guest") end
      world.guest:remove_layers(message(facts))
    end)
    if facts.skeleton then release_skeleton(world, facts.skeleton) end
  end,
  verify = function(world) return world.alive() and "unknown" or "gone" end,
  defaults = { within = "60s", retries = 2, backoff = "100ms", on_failure = "stop" },
})

--- kind "overlay": a container's root file system: layers, and a scratch disk on top or none.
--
-- args    { layers = { receipts, base first }, scratch = receipt?, bundle = receipt, mount_points = { path, file? }[]? }
-- facts   { container, root, guest_path, layers = { paths, top-most first }, scratch? }
-- Without a scratch disk nothing can be made in it any more, so the guest is told which mount points will be needed.
local classify = require "moonshim.classify"
local err = require "moonshim.err"
local kind = require "moonshim.kind"

local function guest_of(world) return world.guest or err.raise("unavailable", "overlay: there is no connection to the guest") end

local function request(facts, points)
  return { container = facts.container, root = facts.root, layers = facts.layers, scratch = facts.scratch, points = points }
end

return kind.define("overlay", {
  v = 1,
  ends_with_boot = true,
  reserve = function(_, args)
    local layers = {}
    for i, layer in ipairs(args.layers) do layers[#args.layers - i + 1] = layer.facts.guest_path end
    local bundle = args.bundle.facts
    return {
      container = bundle.container,
      root = bundle.rootfs,
      guest_path = bundle.rootfs,
      layers = layers,
      scratch = args.scratch and args.scratch.facts.scratch_dir,
    }
  end,
  acquire = function(world, facts, args)
    guest_of(world):combine_layers(request(facts, not facts.scratch and args.mount_points or nil))
  end,
  release = function(world, facts)
    classify.release({ op = "modify.remove.CombinedLayers", alive = world.alive }, function()
      guest_of(world):remove_layers(request(facts))
    end)
  end,
  verify = function(world) return world.alive() and "unknown" or "gone" end,
  defaults = { within = "60s", retries = 2, backoff = "100ms", on_failure = "stop" },
})

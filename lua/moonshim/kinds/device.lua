--- kind "device": a device of the host, given to the VM and from there to one container.
--
-- args    { path, vf?, index?, destination?, access? }     path: links followed, or a PCI instance path; index: its place in
--         spec.windows.devices; destination and access: what the container sees, and may do with it ("rwm")
-- facts   those of the reservation: bus, id, path, vf, instance; index, destination, access; then node (found by the host)
-- Shared  several containers may hold the same device; the last one gives it back. Nothing is sent to the guest for that.
local endpoints = require "moonshim.net.endpoints"
local kind = require "moonshim.kind"

return kind.define("device", {
  v = 1,
  ends_with_boot = true,
  reserve = function(world, args)
    local facts = world.devices:reserve { bus = "vpci", path = args.path, vf = args.vf or 0, instance = endpoints.new_guid(world.core) }
    facts.index, facts.destination, facts.access = args.index, args.destination, args.access
    return facts
  end,
  acquire = function(world, facts) return world.devices:map(facts) end,
  release = function(world, facts) world.devices:unmap(facts) end,
  verify = function(world) return world.alive() and "unknown" or "gone" end,
  show = function(facts) return facts.vf ~= 0 and ("%s, function %d"):format(facts.path, facts.vf) or facts.path end,
  defaults = { within = "60s", retries = 2, backoff = "100ms", on_failure = "stop" },
})

---Default decisions about containers. `create` is the recipe: every line takes something and leaves a receipt, so what
---a failure or a crash leaves behind is known, and undone by the plan that is derived from the receipts.
local container = {}

---@param c moonshim.Recipe
---@param request moonshim.ContainerRequest
---@return moonshim.Receipt process
function container.create(c, request)
  local spec = c:parse(request)
  local layers = c:acquire_all("layer", spec.layers) -- in parallel
  local scratch = c:acquire("scratch", spec.scratch)
  local bundle = c:acquire("bundle", { pod = c.pod, container = c.id, scratch = scratch }) -- named; released by deleting the state
  local rootfs
  if spec.directory then
    rootfs = c:acquire("share", spec.directory) -- used in place
  elseif #layers > 0 then
    rootfs = c:acquire("overlay", { layers = layers, scratch = scratch, bundle = bundle, mount_points = spec.points })
  end
  local mounts, devices = c:acquire_each(spec.mounts), c:acquire_each(spec.devices)
  local logger = c:acquire("logger", request.logger) -- a program of the user's that takes the output
  local stdio = c:acquire("stdio", c:streams(request.io, logger)) -- opened before the process exists
  return c:acquire("process", {
    exec = "", pod = c.pod, container = c.id, bundle = bundle, rootfs = rootfs,
    mounts = mounts, devices = devices, stdio = stdio, network = request.network, spec = spec.for_guest,
  })
end

---Who gets a signal that is meant for init. KILL and `all` reach every process, since what they leave running would
---hold the container; any other signal is init's alone, which may want to stop its children in its own order.
---@param signal integer
---@param all boolean
---@return boolean execs_too
function container.kill_reaches_execs(signal, all) return all or signal == 9 end

return container

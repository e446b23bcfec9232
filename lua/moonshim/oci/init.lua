--- Everything about OCI documents: defaults, checks, what a spec needs of the host, what the guest gets.
--
--   local c = oci.build(container, { id = "web", pod = "p1", kind = "workload" })   -- spec, root, mounts, points
--   local c = oci.adopt(spec, { kind = "workload", rootfs = mounts, options = ... }) -- the same of what containerd hands in
--   ...acquire c.root and c.mounts...
--   local doc = oci.document { spec = c.spec, bundle = ..., root = ..., mounts = facts }
--
-- Layer    oci: uses guest/messages and guest/layout for words; asks the host's file system through `files`.
-- See      oci/defaults, validate, annotations, layers, mounts, root, document; spec/unit/oci
local annotations = require "moonshim.oci.annotations"
local data = require "moonshim.oci.data"
local defaults = require "moonshim.oci.defaults"
local devices = require "moonshim.oci.devices"
local document = require "moonshim.oci.document"
local env = require "moonshim.oci.env"
local err = require "moonshim.err"
local layers = require "moonshim.oci.layers"
local layout = require "moonshim.guest.layout"
local mounts = require "moonshim.oci.mounts"
local options = require "moonshim.oci.options"
local resources = require "moonshim.oci.resources"
local root = require "moonshim.oci.root"
local user = require "moonshim.oci.user"
local validate = require "moonshim.oci.validate"

---@class moonshim.oci
local oci = {
  defaults = defaults,
  data = data,
  env = env,
  root = root,
  mounts = mounts,
  devices = devices,
  validate = validate.spec,
  validate_process = validate.process,
  parse_user = user.parse,
  document = document.build,
  sanitise = document.sanitise,
}

local function place_namespaces(spec, paths)
  for kind, path in pairs(paths or {}) do
    local found
    for _, ns in ipairs(spec.linux.namespaces) do
      if ns.type == kind then
        ns.path, found = path, true
      end
    end
    if not found then table.insert(spec.linux.namespaces, { type = kind, path = path }) end
  end
end

local function without_namespaces(spec, names)
  for _, name in ipairs(names or {}) do
    for i = #spec.linux.namespaces, 1, -1 do
      if spec.linux.namespaces[i].type == name then table.remove(spec.linux.namespaces, i) end
    end
  end
end

---@class moonshim.oci.BuildOptions
---@field id string container id
---@field pod string? pod id; the container's own id when absent
---@field kind "sandbox"|"workload"|"standalone"|nil standalone when absent
---@field hostname string? of the pod: what HOSTNAME says when the container has none of its own
---@field namespaces table<string, string>? paths to join: { network = "/proc/7/ns/net" }
---@field host_namespaces string[]? types that are shared with the VM: { "network" }

--- The spec of a container from what a person wrote. Nothing of the host's file system is looked at.
---@param container moonshim.ContainerSpec
---@param opts moonshim.oci.BuildOptions
---@return table spec checked; mount sources are host paths
function oci.spec(container, opts)
  layout.name("container id", opts.id)
  local kind = opts.kind or "standalone"
  local spec = defaults.spec()
  local overrides = container.spec or {}
  if type(overrides) ~= "table" then err.raise("invalid_argument", "spec: must be a table, not %s", type(overrides)) end
  local own_env = type(overrides.process) == "table" and overrides.process.env or nil
  data.merge(spec, overrides)
  -- An override may have put anything anywhere: check what is there before it is worked on.
  if type(spec.process) ~= "table" or type(spec.linux) ~= "table" or type(spec.root) ~= "table" then validate.spec(spec) end
  if type(spec.linux.namespaces) ~= "table" then spec.linux.namespaces = {} end

  local process = spec.process
  if container.args then process.args = table.move(container.args, 1, #container.args, 1, {}) end
  if container.cwd then process.cwd = container.cwd end
  if container.user ~= nil then process.user = data.merge(process.user or {}, user.parse(container.user, "user")) end
  if container.tty ~= nil then process.terminal = container.tty end

  local hostname = container.hostname or (spec.hostname ~= "" and spec.hostname) or opts.hostname
  -- Ids may hold what a host name may not, and may be longer.
  if not hostname then hostname = opts.id:gsub("_", "-"):sub(1, 63) end
  validate.hostname(hostname, "hostname")
  spec.hostname = kind ~= "workload" and hostname or nil

  local base = { "PATH=" .. defaults.PATH, "HOSTNAME=" .. hostname }
  if process.terminal == true then base[#base + 1] = "TERM=xterm" end
  process.env = env.merge(base, env.list(own_env, "spec.process.env"), env.list(container.env, "env"))

  for i, m in ipairs(container.mounts or {}) do
    if type(spec.mounts) ~= "table" then spec.mounts = {} end
    if type(m) ~= "table" then err.raise("invalid_argument", "mounts[%d]: must be a table, not %s", i, type(m)) end
    local copy = data.copy(m)
    copy.type = copy.type or "bind"
    -- A mount on the same place as a default one takes its place.
    for at = #spec.mounts, 1, -1 do
      if type(spec.mounts[at]) == "table" and spec.mounts[at].destination == copy.destination then table.remove(spec.mounts, at) end
    end
    spec.mounts[#spec.mounts + 1] = copy
  end

  if container.resources then
    if type(spec.linux.resources) ~= "table" then spec.linux.resources = {} end
    data.merge(spec.linux.resources, resources.to_oci(container.resources))
  end
  if container.read_only then spec.root.readonly = true end
  devices.add(spec, container.devices)
  place_namespaces(spec, opts.namespaces)
  without_namespaces(spec, opts.host_namespaces)
  for name, value in pairs(container.annotations or {}) do
    if type(spec.annotations) ~= "table" then spec.annotations = {} end
    spec.annotations[name] = value
  end
  if kind ~= "standalone" then
    spec.annotations = data.absent(spec.annotations) and {} or spec.annotations
    spec.annotations["io.kubernetes.cri.container-type"] = kind == "sandbox" and "sandbox" or "container"
    spec.annotations["io.kubernetes.cri.sandbox-id"] = layout.name("pod id", opts.pod or opts.id)
  end
  return data.prune(validate.spec(spec), defaults.LISTS)
end

---@class moonshim.oci.Built
---@field spec table
---@field root moonshim.oci.Root
---@field mounts { index: integer, kind: "share"|"disk", args: table }[] spec order
---@field devices { index: integer, kind: "device", args: table }[] spec order
---@field points { path: string, file: boolean? }[] what must exist in the root file system
---@field warnings string[] what of it has no effect

---@class moonshim.oci.CompleteOptions: moonshim.oci.BuildOptions
---@field files moonshim.oci.Files?
---@field where string? front of messages
---@field options table? of the runtime, see oci/options
---@field no_writable_shares boolean? the pod forbids them
---@field pod_annotations table<string, string>? of the pod, for a container that is all of it

-- Lines about what is dropped of one spec: a person reads them.
local MAX_WARNINGS = 16

-- What only containers of a pod with a sandbox are given by the guest.
local POD_ONLY = { annotations.keys.CORE_LIMIT, annotations.keys.SHM_SIZE }

---@param spec table changed
---@param opts moonshim.oci.CompleteOptions
---@return moonshim.oci.Annotations
local function settle(spec, opts)
  local found = annotations.settle(options.fold(spec.annotations, opts.options), opts.kind == "sandbox" and "pod" or "container")
  if (opts.kind or "standalone") == "standalone" then
    if found.settings.privileged then
      err.raise("invalid_argument", "annotations: %s: \"true\" needs a pod with a sandbox; write sandbox = true, or leave it out",
        annotations.keys.PRIVILEGED)
    end
    for _, name in ipairs(POD_ONLY) do
      if found.map[name] then
        table.insert(found.warnings, ("%s: has no effect on a container without a sandbox; write sandbox = true"):format(name))
      end
    end
  end
  for name, value in pairs(opts.pod_annotations or {}) do -- what has no effect on a pod has none by way of its only container
    if found.map[name] == nil and annotations.may_be_pods(name) then found.map[name] = value end
  end
  spec.annotations = next(found.map) and found.map or nil
  return found
end

local function warnings_of(spec, found)
  local out = {}
  for i, line in ipairs(found.warnings) do out[i] = "annotations: " .. line end
  return table.move(document.dropped(spec), 1, MAX_WARNINGS, #out + 1, out)
end

-- What a spec needs of the host, from here on the same for both ways to say it.
local function complete(spec, found, chosen, opts, files)
  local entries = mounts.dispatch(spec, files)
  if opts.no_writable_shares or found.settings.no_writable_shares then
    mounts.forbid_writable(entries, chosen, annotations.keys.DISABLE_WRITABLE)
  end
  return {
    spec = spec, root = chosen, mounts = entries, devices = devices.dispatch(spec, files), points = mounts.points(spec, entries),
    warnings = warnings_of(spec, found),
  }
end

--- Spec, root file system and mounts of a container. Looks at the host's files, changes nothing.
---@async
---@param container moonshim.ContainerSpec
---@param opts moonshim.oci.CompleteOptions
---@return moonshim.oci.Built
function oci.build(container, opts)
  local files = opts.files or require "moonshim.oci.files"
  local spec = oci.spec(container, opts)
  local found = settle(spec, opts)
  local chosen = root.choose(container, files, opts.where)
  if chosen.read_only then spec.root.readonly = true end
  if spec.root.readonly and chosen.mode == "share" then -- read-only by an override: same as by the flag
    chosen = root.choose(data.merge(data.copy(container), { read_only = true }), files, opts.where)
  end
  return complete(spec, found, chosen, opts, files)
end

-- By what a request is for: what its spec must say that it is.
local TYPES = { sandbox = "sandbox", workload = "container" }

--- The same from a finished OCI spec and the root file system beside it, as containerd hands them in. The caller's spec is
--- not changed.
---@async
---@param spec table
---@param opts moonshim.oci.CompleteOptions|{ rootfs: table[] } rootfs: the mounts of the request, see oci/layers
---@return moonshim.oci.Built
function oci.adopt(spec, opts)
  local files = opts.files or require "moonshim.oci.files"
  spec = data.prune(data.copy(validate.spec(spec)), defaults.LISTS)
  local said, wanted = annotations.type_of(spec.annotations), TYPES[opts.kind]
  if said ~= wanted then
    err.raise("invalid_argument", "annotations: %s: it says %s, but %s is created; write that", annotations.keys.CONTAINER_TYPE,
      said or "nothing", wanted or "a container on its own")
  end
  local found = settle(spec, opts)
  local parts = layers.parse(opts.rootfs, type(spec.windows) == "table" and spec.windows.layerFolders or nil)
  parts.read_only = spec.root.readonly
  return complete(spec, found, root.choose(parts, files, opts.where), opts, files)
end

--- The process of an exec: what the request says, the rest as the container's own.
---@param spec table the container's spec
---@param request { args: string[], env: table?, cwd: string?, user: string|integer|nil, terminal: boolean?, process: table? }
---@return table process
function oci.exec_process(spec, request)
  local base = data.copy(spec.process)
  base.args = nil
  base.terminal = false
  data.merge(base, request.process or {})
  if request.args then base.args = table.move(request.args, 1, #request.args, 1, {}) end
  if request.cwd then base.cwd = request.cwd end
  if request.user ~= nil then base.user = user.parse(request.user, "user") end
  if request.terminal ~= nil then base.terminal = request.terminal end
  local extra = base.terminal and { "TERM=xterm" } or {}
  base.env = env.merge(extra, env.list(data.absent(base.env) and {} or base.env, "env"), env.list(request.env, "env"))
  return data.prune(validate.process(base), defaults.LISTS)
end

return oci

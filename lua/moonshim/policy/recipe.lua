---What a create recipe in scripts/policy may do: read the request, and take things one by one.
---
---Everything a recipe takes becomes a receipt of the container, so a recipe has no clean-up code: when it stops half way,
---the roll-back plan is derived from what it left. Between two lines a kill that came meanwhile is acted on.
local err = require "moonshim.err"
local oci = require "moonshim.oci"
local task = require "moonshim.task"

---@class moonshim.ContainerRequest
---@field container moonshim.ContainerSpec? a container as a pod file has it
---@field spec table? or a finished OCI spec; without `rootfs` one of ours, in which all paths are the VM's own
---@field rootfs table[]? what containerd hands in with a spec: mounts of its root file system, see oci/layers
---@field options table? of the runtime, see oci/options
---@field annotations table<string, string>? of the pod, for a container that is all of it
---@field kind "sandbox"|"workload"|"standalone"
---@field hostname string? of the pod
---@field namespaces table<string, string>? what is joined: { network = "/proc/7/ns/net" }
---@field network moonshim.Receipt[]? the pod's NICs, for its first container
---@field network_namespace string? id of the namespace whose NICs it gets
---@field io table? arguments of the kind "stdio"
---@field logger table? arguments of the kind "logger", when its output goes to a program
---@field sandbox moonshim.Receipt? init of the pod's sandbox container: it must outlive this one

---@class moonshim.Recipe
---@field id string container
---@field pod string
---@field exec string? the exec's id, when it is one
---@field bundle moonshim.Receipt? of the container, for an exec
---@field spec table? of the container, for an exec
---@field private take fun(kind: string, args: table): moonshim.Receipt
---@field private stopped fun(): moonshim.Err? why the recipe must not go on
---@field settings table of the pod, by its annotations
---@field private files moonshim.oci.Files?
---@field private warn fun(line: string) tells of what has no effect
local Recipe = {}
Recipe.__index = Recipe

local recipe = {}

---@param opts { take: function, id: string, pod: string, stopped: fun(): moonshim.Err?, files: table?, width: integer? }
---and the other fields; width: how many things are taken at once, all when absent
---@return moonshim.Recipe
function recipe.new(opts)
  local self = {}
  for k, v in pairs(opts) do self[k] = v end
  return setmetatable(self, Recipe)
end

---@class moonshim.Recipe.Parsed
---@field directory { path: string, read_only: boolean }? a folder that is the root itself
---@field layers table[] arguments of the kind "layer": images or folders below the root, base first
---@field scratch table? arguments of the kind "scratch"
---@field mounts { index: integer, kind: string, args: table }[] in the order of the spec
---@field devices { kind: string, args: table }[]
---@field points { path: string, file: boolean? }[] what must exist in the root file system
---@field for_guest table the OCI spec

---Reads the request: what the container needs of the host, and the spec that the guest gets. Takes nothing.
---@async
---@param request moonshim.ContainerRequest
---@return moonshim.Recipe.Parsed
function Recipe:parse(request)
  if request.spec and not request.rootfs then
    return { layers = {}, mounts = {}, devices = {}, points = {}, for_guest = oci.validate(request.spec) }
  end
  local opts = {
    id = self.id, pod = self.pod, kind = request.kind, hostname = request.hostname, namespaces = request.namespaces,
    files = self.files, where = "containers." .. self.id, options = request.options, rootfs = request.rootfs,
    pod_annotations = request.annotations, no_writable_shares = self.settings.no_writable_shares,
  }
  local built = request.spec and oci.adopt(request.spec, opts) or oci.build(request.container, opts)
  for _, line in ipairs(built.warnings) do self.warn(line) end
  if request.network_namespace then
    built.spec.windows = built.spec.windows or {}
    built.spec.windows.network = { networkNamespace = request.network_namespace }
  end
  local parsed = {
    directory = built.root.share, layers = built.root.layers or {}, mounts = built.mounts, devices = built.devices, points = built.points,
    for_guest = built.spec,
  }
  if built.root.scratch then
    parsed.scratch = {
      pod = self.pod, container = self.id, path = built.root.scratch.path, size = built.root.scratch.size,
      encrypted = self.settings.encrypt_scratch or nil,
    }
  end
  return parsed
end

---The OCI process of an exec: what the request leaves open is as in the container's own process.
---@param request moonshim.ExecRequest
---@return table
function Recipe:exec_process(request) return oci.exec_process(self.spec, request) end

---The streams of a process, with the program that gets its outputs when there is one.
---@param io table? arguments of the kind "stdio"
---@param logger moonshim.Receipt?
---@return table?
function Recipe.streams(_, io, logger)
  if logger then io.logger = logger end
  return io
end

---@private
function Recipe:check()
  local why = self.stopped()
  if why then error(why, 0) end
end

---Takes one thing. nil arguments take nothing, so optional parts need no `if`.
---@async
---@param kind string
---@param args table?
---@return moonshim.Receipt?
function Recipe:acquire(kind, args)
  if args == nil then return nil end
  self:check()
  local receipt = self.take(kind, args)
  self:check()
  return receipt
end

---Takes several things of one kind in parallel; receipts in the order of the arguments. All are settled before the
---first failure is raised.
---@async
---@param kind string
---@param list table[]
---@return moonshim.Receipt[]
function Recipe:acquire_all(kind, list)
  local entries = {}
  for i, args in ipairs(list) do entries[i] = { kind = kind, args = args } end
  return self:acquire_each(entries)
end

---As acquire_all, each entry with its own kind.
---@async
---@param entries { kind: string, args: table }[]
---@return moonshim.Receipt[]
function Recipe:acquire_each(entries)
  if type(entries) ~= "table" then err.raise("internal", "acquire_each expects a list, got %s", type(entries)) end
  local steps = {}
  for i, entry in ipairs(entries) do
    steps[i] = function() return self:acquire(entry.kind, entry.args) end
  end
  return task.all(steps, { width = self.width })
end

return recipe

---What may stand in a pod: every field, its type and its rules. Takes what a person wrote (a pod file,
---a script, the command line) and gives the plain, complete form that the controllers work from.
---
---Rules that hold for the result: all host paths are absolute; env is a list; sizes are bytes; `order` lists the
---containers in the order of their start; nothing in it is shared with the input. The fields of a container stand in
---pod_spec/container.lua, those of the network in pod_spec/network.lua.
local annotations = require "moonshim.pod_spec.annotations"
local container = require "moonshim.pod_spec.container"
local network = require "moonshim.pod_spec.network"
local place = require "moonshim.pod_spec.place"
local read = require "moonshim.pod_spec.read"
local resources = require "moonshim.oci.resources"
local suggest = require "moonshim.suggest"

---@class moonshim.ContainerSpec
---@field name string
---@field rootfs string? directory or image, absolute
---@field layers { path: string, partition: integer }[]? base first
---@field scratch { size: integer?, path: string? }? bytes, absolute
---@field args string[]?
---@field env string[] "K=V"
---@field cwd string?
---@field user string?
---@field hostname string?
---@field mounts { source: string, destination: string, type: string, options: string[] }[]
---@field devices { path: string, destination: string, access: string }[]
---@field read_only boolean
---@field tty boolean its init has a terminal
---@field stdin string? where its standard input comes from, as moonshim.upstream has it; likewise:
---@field stdout string?
---@field stderr string?
---@field io_retry integer? milliseconds that output, also of execs, waits for a fifo's reader that has gone; for ever when nil or 0
---@field resources table? limits, see oci/resources.lua
---@field annotations table<string, string> see oci/annotation_keys.lua
---@field spec table OCI overrides, {} when none

---@class moonshim.PodSpec
---@field name string
---@field host string
---@field sandbox boolean a pause container holds the namespaces; false: one container on its own
---@field policy string? absolute path of the operator's script
---@field vm { memory_mb: integer?, processors: integer?, limit: integer?, weight: integer? } size of the utility VM; limit and
---weight of processors in HCS units, by annotations only
---@field annotations table<string, string> expanded; of the sandbox container, or of the only one
---@field settings table what they set
---@field warnings string[] annotations that have no effect
---@field hostname string? of the pod
---@field network { mode: "none"|"bridge"|"path", path: string?, bridge: string?, subnet: string?, address: string?, dns: table? }
---@field dns { servers: string[], search: string[] }? what resolv.conf says; as on the host when absent
---@field containers table<string, moonshim.ContainerSpec>
---@field order string[]

local pod_spec = {}

---Marks a finished spec, so that it is not checked twice.
local Spec = { __name = "moonshim.PodSpec" }

local HOSTS = { "local" }

local POD = {
  name = read.id,
  host = function(v, at)
    read.want(v, at, "string")
    for _, known in ipairs(HOSTS) do if v == known then return v end end
    at:fail('there is no host "%s"%s', v, suggest.hint(v, HOSTS))
  end,
  policy = read.host_path,
  sandbox = read.flag,
  vm = function(v, at)
    local out = read.record(v, at, {
      memory = function(m, here)
        local bytes = resources.FIELDS.memory(m, here)
        if bytes < 64 << 20 then here:fail("a VM needs at least 64M") end
        return (bytes + (1 << 20) - 1) // (1 << 20)
      end,
      processors = function(n, here)
        if math.type(n) ~= "integer" or n < 1 or n > 1024 then here:fail("expected a number of processors from 1 to 1024") end
        return n
      end,
    })
    return { memory_mb = out.memory, processors = out.processors }
  end,
  hostname = read.hostname,
  network = network.network,
  dns = network.dns,
  annotations = annotations.of_pod,
  containers = container.containers,
}

---Checks what a person wrote and completes it. Raises invalid_argument or already_exists, naming the place.
---@param input any
---@param opts { base: string, locate: (fun(path: (string|integer)[]): string)? } base: absolute folder that relative
---paths start from; locate: "file:line: " of a place, for the message
---@return moonshim.PodSpec
function pod_spec.check(input, opts)
  if getmetatable(input) == Spec then return input end
  local at = place.new({ base = opts.base, locate = opts.locate }, {})
  if read.kind_of(input) ~= "table" then at:fail("expected a table, got %s", read.kind_of(input)) end
  local out = read.record(input, at, POD)
  if not out.name then at:fail('name is missing: name = "hello"') end
  if not out.containers then at:fail("containers is missing") end
  out.order, out.containers = out.containers.order, out.containers.by_name
  out.host = out.host or "local"
  out.vm = out.vm or {}
  out.network = out.network or { mode = "none" }
  out.network.dns = out.dns
  local found = out.annotations or { map = {}, settings = {}, warnings = {} }
  annotations.apply(out, found, at)
  out.annotations, out.settings, out.warnings = found.map, found.settings, found.warnings
  if out.sandbox == nil then out.sandbox = true end
  if not out.sandbox and #out.order > 1 then
    at:at("sandbox"):fail("a pod without a sandbox has exactly one container, this one has %d", #out.order)
  end
  if out.sandbox and out.containers[out.name] then
    at:at("containers"):at(out.name):fail_as("already_exists", "the pod's own name is taken by its sandbox container")
  end
  return setmetatable(out, Spec)
end

---New limits of a container, as its `resources` have them. Raises invalid_argument.
---@param v any
---@return table linux.resources
function pod_spec.limits(v)
  local at = place.new({}, { "resources" })
  return resources.to_oci(resources.check(read.record(v, at, resources.FIELDS), at))
end

---Whether `v` came out of `check`.
---@return boolean
function pod_spec.checked(v) return getmetatable(v) == Spec end

---The rules for one id, for those who take ids from elsewhere (exec ids, run-time requests). Raises invalid_argument.
---@param v any
---@param what string how the id is called in the message
---@return string
function pod_spec.id(v, what) return read.id(v, place.new({}, { what })) end

return pod_spec

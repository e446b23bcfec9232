--- From the shim's spec to the document that the guest gets.
--
-- Layer    oci: no calls. Works on a copy; the caller's spec is not touched.
-- Always   nothing of the host leaks into the guest: no hooks, no host cgroup path, no numbers of host devices.
-- See      spec/unit/oci/document_spec.lua
local annotations = require "moonshim.oci.annotations"
local data = require "moonshim.oci.data"
local defaults = require "moonshim.oci.defaults"
local devices = require "moonshim.oci.devices"
local err = require "moonshim.err"
local messages = require "moonshim.guest.messages"
local mounts = require "moonshim.oci.mounts"

local document = {}

local keys = annotations.keys
local HOOKS = { "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop" }
-- Numbers of host devices and classes mean nothing inside. pids stays: the guest can apply it, and a limit that
-- vanishes without a word is worse than one that is refused.
local DROPPED_RESOURCES = { "devices", "blockIO", "hugepageLimits", "network" }

local function windows(section)
  if data.absent(section) then return nil end
  local out = {}
  local network = section.network
  if type(network) == "table" and type(network.networkNamespace) == "string" and network.networkNamespace ~= "" then
    out.network = { networkNamespace = network.networkNamespace }
  end
  if type(section.devices) == "table" and #section.devices > 0 then out.devices = data.copy(section.devices) end
  return next(out) and out or nil
end

local function cpu(section)
  if section.period == 0 then section.period = 100000 end
  if section.quota == 0 then section.quota = -1 end
end

local function asks(section)
  return type(section) == "table" and next(section) ~= nil
end

--- What somebody may have counted on and the guest will not get, in words. Device rules and the cgroup path are no loss:
--- the guest has its own.
---@param spec table
---@return string[]
function document.dropped(spec)
  local out = {}
  local function say(fmt, ...) out[#out + 1] = fmt:format(...) end
  for _, name in ipairs(HOOKS) do
    if asks(spec.hooks) and asks(spec.hooks[name]) then say("hooks.%s: is not run: hooks are programs of the host", name) end
  end
  local resources = type(spec.linux) == "table" and type(spec.linux.resources) == "table" and spec.linux.resources or {}
  for _, name in ipairs { "blockIO", "network" } do
    if asks(resources[name]) then say("linux.resources.%s: is not applied: it names devices or classes of the host", name) end
  end
  for i, limit in ipairs(asks(resources.hugepageLimits) and resources.hugepageLimits or {}) do
    if type(limit) == "table" and limit.limit ~= 0 then say("linux.resources.hugepageLimits[%d]: is not applied in a VM", i) end
  end
  return out
end

--- The spec as the guest may see it.
---@param spec table
---@param guest_pod string? rewrites an existing sandbox annotation
---@return table copy
function document.sanitise(spec, guest_pod)
  local out = data.copy(spec)
  if type(out.linux) ~= "table" then err.raise("invalid_argument", "linux: is missing: only Linux containers can run here") end
  data.prune(out, defaults.LISTS)
  out.windows = windows(out.windows)
  out.hooks = nil
  local linux = out.linux
  linux.cgroupsPath = nil
  if type(linux.resources) == "table" then
    for _, name in ipairs(DROPPED_RESOURCES) do linux.resources[name] = nil end
    if type(linux.resources.cpu) == "table" then cpu(linux.resources.cpu) end
  end
  local said = out.annotations or {}
  if annotations.is_on(said[keys.PRIVILEGED]) then linux.seccomp = nil end
  if said[keys.SANDBOX_ID] and guest_pod then said[keys.SANDBOX_ID] = guest_pod end
  -- The guest dereferences these.
  out.root = out.root or {}
  local needs_resources = linux.devices ~= nil
  for _, device in ipairs(out.windows and out.windows.devices or {}) do
    if device.idType == "gpu" then needs_resources = true end
  end
  if needs_resources and not linux.resources then linux.resources = {} end
  return out
end

--- The container document, ready to be encoded.
---@param doc { spec: table, bundle: string, root: string, read_only: boolean?, scratch_dir: string?, guest_pod: string?,
---  mounts: table[]?, devices: table[]? }
---  mounts: facts of the shares and disks of spec.mounts; devices: those of spec.windows.devices
---@return table
function document.build(doc)
  local spec = document.sanitise(doc.spec, doc.guest_pod)
  mounts.rewrite(spec, doc.mounts or {})
  devices.rewrite(spec, doc.devices or {})
  spec.root.path = doc.root
  if doc.read_only ~= nil then spec.root.readonly = doc.read_only end
  return messages.container_document { bundle = doc.bundle, spec = spec, scratch_dir = doc.scratch_dir }
end

return document

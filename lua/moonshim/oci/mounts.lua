--- Sorts the mounts of a spec: which need something of the host, and what.
--
-- Layer    oci: asks `files` only. Changes nothing; `rewrite` changes the copy it is given.
-- Words    entry = { index, kind = "share"|"disk", args }: index is the place in spec.mounts, args go to that kind.
-- Always   1. spec order is kept, in the entries and in the document.
--          2. a mount that is none of our business is not looked at.
-- See      spec/unit/oci/mounts_spec.lua
local data = require "moonshim.oci.data"
local err = require "moonshim.err"

local mounts = {}

local DISKS = { ["virtual-disk"] = "VirtualDisk", ["physical-disk"] = "PassThru", ["extensible-virtual-disk"] = "ExtensibleVirtualDisk" }
-- Sources that only the guest understands.
local GUEST_SCHEMES = { sandbox = true, ["sandbox-tmp"] = true, uvm = true, hugepages = true }

local function bad(i, fmt, ...)
  err.raise("invalid_argument", "mounts[%d]: %s", i, (fmt:format(...):gsub("\\\n", "\\n")))
end

local function has_option(options, name)
  for _, option in ipairs(options or {}) do
    if option:lower() == name then return true end
  end
  return false
end

local function resolved(files, i, path)
  local ok, real = pcall(files.realpath, path)
  if ok then return real end
  if not err.is(real) then error(real, 0) end
  error(err.wrap(real, ("mounts[%d]: source %q"):format(i, path)), 0)
end

local function disk(files, i, m)
  local type_name, source, provider = DISKS[m.type], m.source, nil
  if type_name == "ExtensibleVirtualDisk" then
    provider, source = source:match "^evd://([^/]+)/(.+)$"
    if not provider then bad(i, "source %q must look like evd://provider/path", m.source) end
  else
    source = resolved(files, i, source)
    local kind = files.kind(source)
    if type_name == "PassThru" and kind ~= "block" then bad(i, "%q is a %s, a physical-disk is a block device", m.source, kind) end
    if type_name == "VirtualDisk" and kind ~= "file" then bad(i, "%q is a %s, a virtual-disk is an image file", m.source, kind) end
  end
  return {
    index = i,
    kind = "disk",
    args = {
      path = source,
      type = type_name,
      provider = provider,
      read_only = has_option(m.options, "ro"),
      options = m.options and table.move(m.options, 1, #m.options, 1, {}) or {},
      block_dev = m.destination:find "^blockdev://" ~= nil,
      mount_index = i,
    },
  }
end

local function hugepages(i, source)
  local size, place = source:match "^hugepages://([^/]*)/(.+)$"
  if not size then bad(i, "source %q must look like hugepages://2M/name", source) end
  if size ~= "2M" then bad(i, "huge pages of %q are not supported, only 2M", size) end
  return place
end

local function bind(files, i, m)
  local scheme = m.source:match "^([%w-]+)://"
  if scheme == "hugepages" then hugepages(i, m.source) end
  if scheme then
    if GUEST_SCHEMES[scheme] then return nil end
    bad(i, "source %q: there is no %s://; known are hugepages, sandbox, sandbox-tmp, uvm and plain paths", m.source, scheme)
  end
  if m.source:sub(1, 1) ~= "/" then bad(i, "source %q must be an absolute path", m.source) end
  local path = resolved(files, i, m.source)
  return {
    index = i,
    kind = "share",
    args = { path = path, file = files.kind(path) ~= "directory", read_only = has_option(m.options, "ro"), mount_index = i },
  }
end

--- The mounts that need the host, in spec order.
---@async
---@param spec table
---@param files moonshim.oci.Files
---@return { index: integer, kind: string, args: table }[]
function mounts.dispatch(spec, files)
  local out = {}
  for i, m in ipairs(data.absent(spec.mounts) and {} or spec.mounts) do
    local kind, is_bind = data.absent(m.type) and "" or m.type, false
    if kind == "bind" or (kind == "" or kind == "none") and (has_option(m.options, "bind") or has_option(m.options, "rbind")) then
      is_bind = true
    end
    if DISKS[kind] or is_bind then
      if data.absent(m.source) or m.source == "" then bad(i, "%s has no source", m.destination) end
      if is_bind then
        out[#out + 1] = bind(files, i, m)
      else
        out[#out + 1] = disk(files, i, m)
      end
    end
  end
  return out
end

--- Refuses what would let the VM write into a folder of the host.
---@param entries { index: integer, kind: string, args: table }[]
---@param root moonshim.oci.Root
---@param why string the annotation that says so
function mounts.forbid_writable(entries, root, why)
  local function refuse(where, path, remedy)
    err.raise("permission_denied", "%s: %q would be shared writable, which %s forbids; %s", where, path, why, remedy)
  end
  if root.share and not root.share.read_only then
    refuse("rootfs", root.share.path, "make it read-only, or give it a scratch disk")
  end
  for _, entry in ipairs(entries) do
    if entry.kind == "share" and not entry.args.read_only then
      refuse(("mounts[%d]"):format(entry.index), entry.args.path, 'add the option "ro"')
    end
  end
end

--- Puts guest paths in, in place. `held` are the facts of the shares and disks: mount_index, guest_path, source,
--- and block_dev of a disk.
---@param spec table a copy
---@param held table[]
function mounts.rewrite(spec, held)
  for _, facts in ipairs(held) do
    local m = facts.mount_index and spec.mounts and spec.mounts[facts.mount_index]
    if m then
      local options = data.absent(m.options) and {} or m.options
      m.source = facts.source or facts.guest_path
      if facts.bus == "scsi" then m.type = facts.mount and facts.mount.block_dev and "bind" or "none" end
      if not has_option(options, "bind") and not has_option(options, "rbind") then
        options = table.move(options, 1, #options, 2, { facts.bus == "scsi" and "bind" or "rbind" })
      end
      m.options = options
      if facts.mount and facts.mount.block_dev then
        spec.linux.resources = data.absent(spec.linux.resources) and {} or spec.linux.resources
      end
    end
  end
  return spec
end

--- The places of a root file system that must exist before anything can be mounted on them: { path, file = bool }.
---@param spec table
---@param entries { index: integer, args: table }[]
function mounts.points(spec, entries)
  local file, out, seen = {}, {}, {}
  for _, entry in ipairs(entries) do
    file[entry.index] = entry.kind == "share" and entry.args.file or entry.args.block_dev or false
  end
  local function add(path, is_file)
    if seen[path] then return end
    seen[path] = true
    out[#out + 1] = { path = path, file = is_file or nil }
  end
  for i, m in ipairs(data.absent(spec.mounts) and {} or spec.mounts) do
    add((m.destination:gsub("^blockdev://", "")), file[i])
  end
  for _, name in ipairs { "hostname", "hosts", "resolv.conf" } do add("/etc/" .. name, true) end -- the guest's own
  if spec.process and type(spec.process.cwd) == "string" and spec.process.cwd ~= "/" then add(spec.process.cwd) end
  return out
end

return mounts

--- Where a container's root file system comes from: a directory used in place, or an overlay of layers.
--
-- Layer    oci: asks `files` only.
-- Words    mode "share": the directory itself is the root, writable unless read_only.
--          mode "overlay": layers (base first, the top layer last), and a scratch disk or none (then read-only).
-- See      spec/unit/oci/root_spec.lua, kinds/overlay.lua
local err = require "moonshim.err"

local root = {}

local SUPPORTED = "supported are ext4 and erofs images, fixed VHDs of these, and directories"
-- File systems of images, by what looks at them calls them.
local FILESYSTEMS = { ext4 = true, erofs = true }
-- The option string of an overlay has to fit into one page.
root.MAX_LAYERS = 100

local function resolved(files, where, path)
  local ok, real = pcall(files.realpath, path)
  if ok then return real end
  if err.is(real, "not_found") then err.raise("not_found", "%s: there is no %s", where, path) end
  error(err.is(real) and err.wrap(real, where) or real, 0)
end

--- The file system of an image; of a fixed VHD that of its content.
local function filesystem(image)
  if image.format == "vhd" then return image.inner or "ext4" end
  return image.format
end

--- "directory", or the file system of an image, also inside of a fixed VHD; everything else is refused by name.
---@async
---@param files moonshim.oci.Files
---@param where string
---@param path string
---@return "directory"|"ext4"|"erofs" format
function root.format(files, where, path)
  local kind = files.kind(path)
  if kind == "directory" then return "directory" end
  if kind ~= "file" and kind ~= "block" then
    err.raise("invalid_argument", "%s: %s is a %s; %s", where, path, kind, SUPPORTED)
  end
  local image = files.detect(path)
  local inside = filesystem(image)
  if FILESYSTEMS[inside] then return inside end
  local what = image.format == "unknown" and "has an unknown format" or ("is a %s image"):format(image.format)
  if image.format == "vhd" then what = ("is a VHD with %s"):format(inside == "unknown" and "unknown content" or inside .. " in it") end
  return err.raise("invalid_argument", "%s: %s %s; %s", where, path, what, SUPPORTED)
end

local function layer(files, where, item)
  local path = resolved(files, where, item.path)
  local format = root.format(files, where, path)
  local partition = item.partition or 0
  if format == "directory" and partition ~= 0 then
    err.raise("invalid_argument", "%s: a directory has no partition %d", where, partition)
  end
  return { path = path, partition = partition, format = format }
end

--- A file that the guest may format is either a file system already or nothing but zeros: a wrong path must not cost
--- anybody a file.
---@async
function root.check_scratch(files, where, path)
  local kind = files.kind(path)
  if kind ~= "file" and kind ~= "block" then
    err.raise("invalid_argument", "%s: %s is a %s; a scratch disk is an ext4 image or an empty file", where, path, kind)
  end
  local image = files.detect(path)
  local inside = filesystem(image)
  if inside ~= "ext4" and not (inside == "unknown" and files.blank(path)) then
    err.raise("failed_precondition", "%s: %s is neither an ext4 image nor empty; it would be formatted, so it is refused", where, path)
  end
end

---@class moonshim.oci.Root
---@field mode "share"|"overlay"
---@field read_only boolean
---@field share { path: string, read_only: boolean }?
---@field layers { path: string, partition: integer, format: string }[]? base first
---@field scratch { size: integer?, path: string? }?

--- Decides from a container's rootfs, layers, scratch and read_only.
---@async
---@param container moonshim.ContainerSpec
---@param files moonshim.oci.Files
---@param where string? front of messages: "containers.web"
---@return moonshim.oci.Root
function root.choose(container, files, where)
  where = where and where .. "." or ""
  local out = { mode = "overlay", read_only = container.read_only or false, layers = {} }
  if (container.rootfs == nil) == (container.layers == nil) then
    err.raise("invalid_argument", "%srootfs: give either rootfs (a directory or an image) or layers", where)
  end
  if container.rootfs then
    out.layers[1] = layer(files, where .. "rootfs", { path = container.rootfs })
  else
    if #container.layers > root.MAX_LAYERS then
      err.raise("invalid_argument", "%slayers: %d layers, the limit is %d", where, #container.layers, root.MAX_LAYERS)
    end
    local seen = {}
    for i, item in ipairs(container.layers) do
      local one = layer(files, ("%slayers[%d]"):format(where, i), type(item) == "table" and item or { path = item })
      local key = one.partition .. ":" .. one.path
      if seen[key] then
        err.raise("invalid_argument", "%slayers[%d]: %s is layers[%d] already", where, i, one.path, seen[key])
      end
      seen[key], out.layers[i] = i, one
    end
    if #out.layers == 0 then err.raise("invalid_argument", "%slayers: at least one layer is needed", where) end
  end
  local scratch = container.scratch
  if scratch and scratch.path then
    local path = resolved(files, where .. "scratch.path", scratch.path)
    root.check_scratch(files, where .. "scratch.path", path)
    out.scratch = { path = path }
  elseif scratch then
    out.scratch = { size = scratch.size }
  end
  if container.rootfs and out.layers[1].format == "directory" and not out.scratch and not out.read_only then
    out.mode, out.share, out.layers = "share", { path = out.layers[1].path, read_only = false }, nil
  end
  if out.mode == "overlay" and not out.scratch then out.read_only = true end
  return out
end

return root

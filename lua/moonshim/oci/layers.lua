--- The root file system as containerd hands it in: one mount that names layers and a scratch disk, or a list of folders.
--
-- Layer    oci: no calls; what it names is looked at by oci/root.
-- Words    both forms list the layers top-most first; ours are base first.
-- Facts    lcow-layer             source = folder of the scratch disk (sandbox.vhdx); option parentLayerPaths=JSON list of
--                                 folders, each with a layer.vhd; ro and rw are there and say nothing
--          lcow-partitioned-layer options scratch=PATH and parent-partitioned-layers=JSON list of { Path, Partition }
--          layer folders          of the spec: layers, then the scratch disk's folder; with the same names of files
-- See      spec/unit/oci/layers_spec.lua
local data = require "moonshim.oci.data"
local err = require "moonshim.err"
local quote = require("moonshim.guest.layout").quote

local layers = {}

local LAYER_FILE, SCRATCH_FILE = "layer.vhd", "sandbox.vhdx"
local MAX_PARTITION = 128
-- Of a list in an option: more layers than any root may have are no list of layers.
local MAX_OPTION = 1 << 20

local function bad(where, fmt, ...) err.raise("invalid_argument", "%s: %s", where, fmt:format(...)) end

local function shown(v) return type(v) == "string" and quote(v:sub(1, 80)) or tostring(v) end

local function path(v, where)
  if type(v) ~= "string" or not (v:find "^/" or v:find "^%a:[\\/]" or v:find "^\\\\") or v:find "%z" then
    bad(where, "%s is no absolute path; write one", shown(v))
  end
  return v
end

local function inside(folder, file) return (folder:gsub("[/\\]+$", "")) .. (folder:find "^/" and "/" or "\\") .. file end

local function reversed(list)
  local out = {}
  for i = #list, 1, -1 do out[#out + 1] = list[i] end
  return out
end

-- The JSON list of an option.
local function json_list(text, where)
  if #text > MAX_OPTION then bad(where, "has %d bytes, the limit is %d", #text, MAX_OPTION) end
  local list = require("moonshim.core").json.decode(text)
  if type(list) ~= "table" or (#list == 0 and next(list) ~= nil) then bad(where, "%s is no JSON list; write [\"...\"]", shown(text)) end
  if #list == 0 then bad(where, "is empty; a root file system needs at least one layer") end
  return list
end

-- Options as NAME=value; each once, each known. A word alone is one without a value.
local function options_of(mount, where, known)
  local out = {}
  for i, option in ipairs(data.absent(mount.options) and {} or mount.options) do
    local at = ("%s.options[%d]"):format(where, i)
    if type(option) ~= "string" then bad(at, "must be text, not %s", type(option)) end
    local name, value = option:match "^([^=]+)=(.*)$"
    name = name or option
    if known[name] == nil or (known[name] == "value") ~= (value ~= nil) then
      local names = {}
      for word in pairs(known) do names[#names + 1] = word end
      table.sort(names)
      bad(at, "%s is no option of %s; known are %s", shown(option), mount.type, table.concat(names, ", "))
    end
    if out[name] ~= nil then bad(at, "%s is given twice; leave one out", name) end
    out[name] = value or true
  end
  for name, kind in pairs(known) do
    if kind == "value" and not out[name] then bad(where .. ".options", "%s= is missing", name) end
  end
  return out
end

local TYPES = {}

TYPES["lcow-layer"] = function(mount, where)
  local options = options_of(mount, where, { parentLayerPaths = "value", ro = "word", rw = "word" })
  local at = where .. ".options: parentLayerPaths"
  local out = { layers = {}, scratch = { path = inside(path(mount.source, where .. ".source"), SCRATCH_FILE) } }
  for i, folder in ipairs(json_list(options.parentLayerPaths, at)) do
    out.layers[i] = { path = inside(path(folder, ("%s[%d]"):format(at, i)), LAYER_FILE), partition = 0 }
  end
  return out
end

TYPES["lcow-partitioned-layer"] = function(mount, where)
  local options = options_of(mount, where, { scratch = "value", ["parent-partitioned-layers"] = "value" })
  local at = where .. ".options: parent-partitioned-layers"
  local out = { layers = {}, scratch = { path = path(options.scratch, where .. ".options: scratch") } }
  for i, entry in ipairs(json_list(options["parent-partitioned-layers"], at)) do
    local here = ("%s[%d]"):format(at, i)
    if type(entry) ~= "table" then bad(here, '%s is no object; write {"Path":"...","Partition":1}', shown(entry)) end
    local partition = data.absent(entry.Partition) and 0 or entry.Partition
    if math.type(partition) ~= "integer" or partition < 0 or partition > MAX_PARTITION then
      bad(here, "Partition %s is no number from 0 to %d; write one", shown(partition), MAX_PARTITION)
    end
    out.layers[i] = { path = path(entry.Path, here .. ".Path"), partition = partition }
  end
  return out
end

local function of_mounts(list)
  if #list > 1 then bad("rootfs", "has %d mounts, exactly one is possible", #list) end
  local mount, where = list[1], "rootfs[1]"
  if type(mount) ~= "table" then bad(where, "must be an object, not %s", type(mount)) end
  local read = TYPES[mount.type]
  if not read then bad(where, "the type %s is not known; lcow-layer and lcow-partitioned-layer are", shown(mount.type)) end
  if not data.absent(mount.target) and mount.target ~= "" then
    bad(where, "target %s: a root file system is mounted nowhere else; leave it out", shown(mount.target))
  end
  return read(mount, where)
end

local function of_folders(folders)
  if #folders < 2 then
    bad("windows.layerFolders", "has one entry; name at least one layer, and the folder of the scratch disk last")
  end
  local out = { layers = {} }
  for i, folder in ipairs(folders) do
    local at = ("windows.layerFolders[%d]"):format(i)
    if i == #folders then out.scratch = { path = inside(path(folder, at), SCRATCH_FILE) }
    else out.layers[i] = { path = inside(path(folder, at), LAYER_FILE), partition = 0 } end
  end
  return out
end

--- Layers and scratch disk of a container, from exactly one of both forms.
---@param rootfs { type: string, source: string?, target: string?, options: string[]? }[]? mounts of the request
---@param folders string[]? windows.layerFolders of the spec
---@return { layers: { path: string, partition: integer }[], scratch: { path: string } } layers base first
function layers.parse(rootfs, folders)
  local mounts = not data.absent(rootfs) and rootfs or {}
  folders = not data.absent(folders) and folders or {}
  if type(mounts) ~= "table" then bad("rootfs", "must be a list, not %s", type(mounts)) end
  if type(folders) ~= "table" then bad("windows.layerFolders", "must be a list, not %s", type(folders)) end
  if (#mounts > 0) == (#folders > 0) then
    local what = #mounts > 0 and "both a rootfs mount and windows.layerFolders are given; leave one out"
      or "neither a rootfs mount nor windows.layerFolders is given; one of them names the layers"
    err.raise("failed_precondition", "rootfs: %s", what)
  end
  local out = #mounts > 0 and of_mounts(mounts) or of_folders(folders)
  out.layers = reversed(out.layers)
  return out
end

return layers

---Pod files: a Lua script that returns data.
---
---The script runs in a Lua state of its own, with limits and without io, os or modules: it can compute, it cannot act,
---and it cannot hang us. What it returns is checked by `pod_spec`; every complaint says file and line.
local err = require "moonshim.err"
local pod_spec = require "moonshim.pod_spec"

local pod_file = {}

local MAX_BYTES = 1 << 20
local LIMITS = { memory = 32 << 20, instructions = 20 * 1000 * 1000 }

-- Trusted, run before the pod file in its state. `require "moonshim"` is the only module there is, and
-- `moonshim.pod` only hands its argument on: the checks belong to our side.
local PRELUDE = [==[
local moonshim = { pod = function(spec)
  if type(spec) ~= "table" then error("moonshim.pod expects a table, got " .. type(spec), 2) end
  return spec
end }
function require(name)
  if name == "moonshim" then return moonshim end
  error('a pod file can require "moonshim" and nothing else', 2)
end
]==]

---The whole file as text. Raises not_found, permission_denied or invalid_argument.
local function read(path)
  local file, why, errno = io.open(path, "rb")
  if not file then
    err.raise(errno == 2 and "not_found" or errno == 13 and "permission_denied" or "unavailable", "cannot read the pod file: %s", why)
  end
  local text, problem = file:read(MAX_BYTES + 1)
  file:close()
  if problem then err.raise("invalid_argument", "cannot read the pod file: %s: %s", path, problem) end
  text = text or ""
  if #text > MAX_BYTES then err.raise("invalid_argument", "%s: a pod file has at most 1 MiB", path) end
  return text
end

local function evaluate(text, path)
  local core = require "moonshim.core"
  local script = err.try(core.script {
    source = text, chunkname = "@" .. path, prelude = PRELUDE,
    memory = LIMITS.memory, instructions = LIMITS.instructions,
  })
  local how, value, count = script:call("main")
  local problem = value
  script:close()
  if how == nil then err.raise(err.is(problem) and problem.code or "invalid_argument", "%s", problem.message) end
  if how == "yield" then err.raise("invalid_argument", "%s: a pod file cannot wait for anything", path) end
  if type(value) ~= "table" then
    err.raise("invalid_argument", "%s: expected the file to return moonshim.pod { ... }, it returned %s%s", path,
      value == nil and "nothing" or "a " .. type(value), count and " and more" or "")
  end
  return value
end

---Finds the line of a place: each name of the path is looked for behind the one before it. A guess that is right for
---files as people write them, and silent where it finds nothing.
local function locator(text, path)
  return function(place)
    local from, found = 1, nil
    for _, key in ipairs(place) do
      if type(key) == "string" then
        local name = key:gsub("%p", "%%%0")
        local at = text:match("()%f[%w_]" .. name .. "%s*=[^=]", from) or text:match("()%[%s*[\"']" .. name .. "[\"']%s*%]%s*=", from)
          or text:match("()[\"']" .. name .. "[\"']", from)
        if at then from, found = at + #key, at end
      end
    end
    if not found then return path .. ": " end
    local _, lines = text:sub(1, found):gsub("\n", "\n")
    return ("%s:%d: "):format(path, lines + 1)
  end
end

local function absolute(path)
  if path:sub(1, 1) == "/" then return path end
  return require("luv").cwd() .. "/" .. path
end

---What was asked for beside the file takes its place. Where the file has something else, the checks complain of that.
local function annotate(data, annotations)
  if not annotations then return end
  if data.annotations == nil then data.annotations = {} end
  if type(data.annotations) ~= "table" then return end
  for name, value in pairs(annotations) do data.annotations[name] = value end
end

---Loads and checks a pod file. Relative paths in it start at its folder.
---@param path string
---@param with { annotations: table<string, string>? }? annotations of the pod that take the place of the file's
---@return moonshim.PodSpec
function pod_file.load(path, with)
  local text = read(path)
  local data = evaluate(text, path)
  annotate(data, with and with.annotations)
  local folder = absolute(path):match("^(.*)/[^/]*$")
  return pod_spec.check(data, { base = folder == "" and "/" or folder, locate = locator(text, path) })
end

---Checks a pod that a script built; relative paths start at `base`, else at the working folder.
---@param data table
---@param base string?
---@return moonshim.PodSpec
function pod_file.pod(data, base) return pod_spec.check(data, { base = absolute(base or ".") }) end

---Checks that everything the pod names exists, before anything is started. Raises not_found with the place.
---@param spec moonshim.PodSpec
function pod_file.check_files(spec)
  local uv = require "luv"
  local function must(path, what, kinds)
    local stat, why, name = uv.fs_stat(path)
    if not stat then
      err.raise(name == "ENOENT" and "not_found" or "failed_precondition", "%s: %s: %s", what, path,
        name == "ENOENT" and "there is no such file or folder" or why)
    end
    if not kinds[stat.type] then err.raise("invalid_argument", "%s: %s is a %s", what, path, stat.type) end
  end
  local device = { char = true, block = true }
  local image, any = { file = true, block = true }, { file = true, block = true, directory = true }
  if spec.network.mode == "path" then
    local ok, e = require("moonshim.core").net.namespace(spec.network.path)
    if not ok then err.raise(e.code, "network: %s", e.message) end
  end
  for _, name in ipairs(spec.order) do
    local c, at = spec.containers[name], "containers." .. name
    if c.rootfs then must(c.rootfs, at .. ".rootfs", any) end
    for i, layer in ipairs(c.layers or {}) do must(layer.path, ("%s.layers[%d]"):format(at, i), image) end
    if c.scratch and c.scratch.path then must(c.scratch.path, at .. ".scratch.path", image) end
    for i, mount in ipairs(c.mounts) do
      local what = ("%s.mounts[%d].source"):format(at, i)
      if mount.type == "bind" and not mount.source:find("^[%w-]+://") then must(mount.source, what, any)
      elseif mount.type == "virtual-disk" then must(mount.source, what, image) end
    end
    for i, one in ipairs(c.devices) do must(one.path, ("%s.devices[%d]"):format(at, i), device) end
  end
end

return pod_file

---What may stand in a pod: every field, its type and its rules in one place. Takes what a person wrote (a pod file,
---a script, the command line) and gives the plain, complete form that the controllers work from.
---
---Rules that hold for the result: all host paths are absolute; env is a list; sizes are bytes; `order` lists the
---containers in the order of their start; nothing in it is shared with the input.
local err = require "moonshim.err"
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
---@field resources table? limits, see oci/resources.lua
---@field spec table OCI overrides, {} when none

---@class moonshim.PodSpec
---@field name string
---@field host string
---@field sandbox boolean a pause container holds the namespaces; false: one container on its own
---@field policy string? absolute path of the operator's script
---@field vm { memory_mb: integer?, processors: integer? } size of the utility VM
---@field hostname string? of the pod
---@field network { mode: "none"|"bridge"|"path", path: string?, bridge: string?, subnet: string?, address: string?, dns: table? }
---@field dns { servers: string[], search: string[] }? what resolv.conf says; as on the host when absent
---@field containers table<string, moonshim.ContainerSpec>
---@field order string[]

local pod_spec = {}

---Marks a finished spec, so that it is not checked twice.
local Spec = { __name = "moonshim.PodSpec" }

local MAX_ID, MAX_PATH, MAX_TEXT = 76, 4095, 128 * 1024
local HOSTS = { "local" }
local UNITS = { [""] = 1, K = 1 << 10, M = 1 << 20, G = 1 << 30, T = 1 << 40 }

-- Where we are ---------------------------------------------------------------------------------------------------

---A place in the pod ("containers.web.args[2]") that can complain about itself.
local Place = {}
Place.__index = Place

local function place(reader, path) return setmetatable({ reader = reader, path = path }, Place) end

function Place:at(key)
  local path = table.move(self.path, 1, #self.path, 1, {})
  path[#path + 1] = key
  return place(self.reader, path)
end

function Place:text()
  local out = {}
  for i, key in ipairs(self.path) do
    if math.type(key) == "integer" then out[i] = ("[%d]"):format(key)
    else out[i] = (i > 1 and "." or "") .. tostring(key) end
  end
  return #out > 0 and table.concat(out) or "the pod"
end

function Place:fail(fmt, ...) self:fail_as("invalid_argument", fmt, ...) end

function Place:fail_as(code, fmt, ...)
  local where = self.reader.locate and self.reader.locate(self.path) or ""
  err.raise(code, "%s%s: %s", where, self:text(), fmt:format(...))
end

-- Small readers: (value, place) -> value, raising ------------------------------------------------------------------

local function kind_of(v)
  if type(v) == "table" and v["function"] then return "function" end
  return type(v)
end

local function want(v, at, kind)
  if kind_of(v) ~= kind then at:fail("expected %s, got %s", kind, kind_of(v)) end
  return v
end

local function text(v, at)
  want(v, at, "string")
  if v == "" then at:fail("must not be empty") end
  if #v > MAX_TEXT then at:fail("is %d bytes long, at most %d are allowed", #v, MAX_TEXT) end
  if v:find("\0", 1, true) then at:fail("must not contain a NUL byte") end
  if not utf8.len(v) then at:fail("is not UTF-8, which an OCI specification cannot hold") end
  return v
end

local function flag(v, at) return want(v, at, "boolean") end

---A list without holes; `read` reads each element.
local function list(v, at, read)
  want(v, at, "table")
  local out = {}
  for key in pairs(v) do
    if math.type(key) ~= "integer" or key < 1 or key > #v then at:fail("expected a list, found the key %s", tostring(key)) end
  end
  for i, item in ipairs(v) do out[i] = read(item, at:at(i)) end
  return out
end

---A table of known fields; each value of `fields` reads its own.
local function record(v, at, fields)
  want(v, at, "table")
  local out = {}
  for key, value in pairs(v) do
    local read = fields[key]
    if not read then at:at(key):fail("unknown field%s", suggest.hint(key, fields)) end
    out[key] = read(value, at:at(key))
  end
  return out
end

---A word on a command line; an integer is written out, so that { "sleep", 600 } means what it says.
local function word(v, at)
  if math.type(v) == "integer" then return ("%d"):format(v) end
  want(v, at, "string")
  if #v > MAX_TEXT then at:fail("is %d bytes long, at most %d are allowed", #v, MAX_TEXT) end
  if v:find("\0", 1, true) then at:fail("must not contain a NUL byte") end
  if not utf8.len(v) then at:fail("is not UTF-8, which an OCI specification cannot hold") end
  return v
end

---Collapses "//", "." and ".." by text alone: nothing is looked up.
local function normal(path)
  local out = {}
  for part in path:gmatch("[^/]+") do
    if part == ".." then out[#out] = nil
    elseif part ~= "." then out[#out + 1] = part end
  end
  return "/" .. table.concat(out, "/")
end

local function host_path(v, at)
  text(v, at)
  if #v > MAX_PATH then at:fail("is longer than a path can be") end
  if v:sub(1, 1) ~= "/" then v = at.reader.base .. "/" .. v end
  return normal(v)
end

local function guest_path(v, at)
  text(v, at)
  if v:sub(1, 1) ~= "/" then at:fail('"%s" must be an absolute path', v) end
  if #v > MAX_PATH then at:fail("is longer than a path can be") end
  return v
end

local function id(v, at)
  want(v, at, "string")
  local why
  if v == "" then why = "an id must not be empty"
  elseif #v > MAX_ID then why = ("an id has at most %d bytes, this one has %d"):format(MAX_ID, #v)
  elseif v:find("..", 1, true) then why = 'an id must not contain ".."'
  elseif v:find("/", 1, true) then why = 'an id must not contain "/"'
  elseif v:find("%s") then why = "an id must not contain spaces"
  elseif not v:find("^[%w][%w._-]*$") then why = "an id is letters, digits, '.', '_' and '-', and starts with a letter or digit" end
  if why then at:fail("%s", why) end
  return v
end

local function size(v, at)
  local bytes
  if math.type(v) == "integer" then
    bytes = v
  else
    local digits, unit = want(v, at, "string"):upper():match("^(%d+)%s*([KMGT]?)I?B?$")
    if not digits or #digits > 12 then at:fail('"%s" is no size; write for example "64M" or "2G"', v) end
    bytes = math.tointeger(tonumber(digits)) * UNITS[unit]
  end
  if bytes < 1 << 20 then at:fail("is %d bytes, at least 1M is needed for a file system", bytes) end
  if bytes > 1 << 50 then at:fail("is larger than 1024T") end
  return bytes
end

local function env_word(v, at)
  word(v, at)
  if not v:find("^[^=]+=") then at:fail('"%s" must look like NAME=value', v) end
  return v
end

---A map or a list of "K=V"; a map is put in order, so that the same pod always makes the same document.
local function env(v, at)
  want(v, at, "table")
  if #v > 0 then return list(v, at, env_word) end
  local out = {}
  for key, value in pairs(v) do
    local here = at:at(key)
    if type(key) ~= "string" or key == "" or key:find("[=%z]") then here:fail("is no name of an environment variable") end
    out[#out + 1] = key .. "=" .. word(value, here)
  end
  table.sort(out)
  return out
end

local function user(v, at)
  if math.type(v) == "integer" then v = ("%d"):format(v) end
  text(v, at)
  if v:find("[%s%c]") or select(2, v:gsub(":", "")) > 1 then
    at:fail('"%s" is no user; write "name", "uid", "name:group" or "uid:gid"', v)
  end
  return v
end

local function hostname(v, at)
  text(v, at)
  if #v > 63 or not v:find("^[%w][%w.-]*$") then at:fail('"%s" is no host name', v) end
  return v
end

local NETWORKS = { "none", "bridge" }

local function ip_address(v, at)
  want(v, at, "string")
  if not require("moonshim.net.address").valid(v) then at:fail('"%s" is no IP address', v) end
  return v
end

local function ipv4_address(v, at)
  want(v, at, "string")
  if not require("moonshim.net.address").number(v) then at:fail('"%s" is no IPv4 address', v) end
  return v
end

local function subnet(v, at)
  local ok, e = pcall(require("moonshim.net.address").subnet, want(v, at, "string"))
  if not ok then at:fail("%s", e.message) end
  return v
end

local function link_name(v, at)
  want(v, at, "string")
  if #v > 15 or not v:find("^%a[%w._-]*$") then at:fail('"%s" cannot be the name of a bridge', v) end
  return v
end

local function domain(v, at)
  want(v, at, "string")
  if #v > 253 or not v:find("^[%w_][%w_.-]*$") then at:fail('"%s" is no domain', v) end
  return v
end

---"none", "bridge", the path of a network namespace, or a table with one of them as its mode.
local function network(v, at)
  local out = type(v) == "table" and record(v, at, { mode = text, bridge = link_name, subnet = subnet, address = ipv4_address })
    or { mode = text(v, at) }
  local mode = out.mode or at:at("mode"):fail('is missing; write "none", "bridge" or the path of a network namespace')
  if mode:find("/", 1, true) then
    out.mode, out.path = "path", host_path(mode, at)
  elseif mode ~= "none" and mode ~= "bridge" then
    at:fail('"%s" is no network%s; write "none", "bridge" or the path of a network namespace', mode, suggest.hint(mode, NETWORKS))
  end
  for _, key in ipairs { "bridge", "subnet", "address" } do
    if out[key] and out.mode ~= "bridge" then at:at(key):fail('goes with mode = "bridge"') end
  end
  return out
end

---What a pod's resolv.conf says.
local function dns(v, at)
  local out = record(v, at, {
    servers = function(list_of, here) return list(list_of, here, ip_address) end,
    search = function(list_of, here) return list(list_of, here, domain) end,
  })
  out.servers, out.search = out.servers or {}, out.search or {}
  if #out.search > 6 then at:at("search"):fail("has %d domains, at most 6 are possible", #out.search) end
  if #out.servers > 16 then at:at("servers"):fail("has %d servers, at most 16 are possible", #out.servers) end
  return out
end

local function layer(v, at)
  if type(v) == "string" then return { path = host_path(v, at), partition = 0 } end
  local out = record(v, at, {
    path = host_path,
    partition = function(p, here)
      if math.type(p) ~= "integer" or p < 0 or p > 128 then here:fail("expected a partition number from 0 (whole disk) to 128") end
      return p
    end,
  })
  if not out.path then at:fail("a layer needs a path") end
  out.partition = out.partition or 0
  return out
end

local function scratch(v, at)
  local out = record(v, at, { size = size, path = host_path })
  if (out.size == nil) == (out.path == nil) then at:fail('give either a size ({ size = "64M" }) or a path') end
  return out
end

---Letters of r, w and m, each once, in this order.
local function access(v, at)
  text(v, at)
  local out = ""
  for letter in ("rwm"):gmatch(".") do
    if v:find(letter, 1, true) then out = out .. letter end
  end
  if #out ~= #v then at:fail('"%s" is no access; write some of r (read), w (write) and m (make its node)', v) end
  return out
end

---"/dev/NAME[:PATH][:rwm]" in parts; a path with a colon needs the long form.
local function device_parts(v, at)
  text(v, at)
  local parts = {}
  for part in (v .. ":"):gmatch("(.-):") do parts[#parts + 1] = part end
  local last = parts[#parts]
  local out = { path = parts[1] }
  if #parts > 1 and last:find("^[rwm]+$") then
    out.access = table.remove(parts)
  end
  out.destination = parts[2]
  if #parts > 2 or out.path == "" or out.destination == "" then
    at:fail('"%s" is no device; write /dev/NAME, and perhaps :PATH in the container and :rwm', v)
  end
  return out
end

local function device(v, at)
  local out = record(type(v) == "string" and device_parts(v, at) or v, at, { path = host_path, destination = guest_path, access = access })
  if not out.path then at:fail("a device needs a path") end
  out.destination = normal(out.destination or out.path)
  if out.destination == "/" then at:at("destination"):fail("is the root folder; a device needs a name") end
  out.access = out.access or "rwm"
  return out
end

local HOST_MOUNTS = { bind = true, ["virtual-disk"] = true, ["physical-disk"] = true }

local function mount(v, at)
  local out = record(v, at, {
    source = text,
    destination = text,
    type = text,
    options = function(o, here) return list(o, here, text) end,
  })
  if not out.destination then at:fail("a mount needs a destination") end
  if not out.destination:find("^blockdev://") then guest_path(out.destination, at:at("destination")) end
  out.type = out.type or "bind"
  out.options = out.options or {}
  if HOST_MOUNTS[out.type] then
    if not out.source then at:fail('a mount of type "%s" needs a source', out.type) end
    if not out.source:find("^[%w-]+://") then out.source = host_path(out.source, at:at("source")) end
  end
  out.source = out.source or out.type
  if out.type == "bind" then
    local bound = false
    for _, option in ipairs(out.options) do bound = bound or option == "bind" or option == "rbind" end
    if not bound then table.insert(out.options, 1, "rbind") end
  end
  return out
end

---OCI overrides pass through; only what cannot be data is refused. Copies, bounded in depth.
local function data(v, at, depth)
  depth = depth or 0
  if depth > 32 then at:fail("is nested too deeply (or contains itself)") end
  local kind = kind_of(v)
  if kind == "table" then
    local out = setmetatable({}, getmetatable(v))
    for key, value in pairs(v) do
      if type(key) ~= "string" and math.type(key) ~= "integer" then at:fail("has a key that is neither a name nor a number") end
      out[key] = data(value, at:at(key), depth + 1)
    end
    return out
  end
  if kind == "number" and (v ~= v or v == math.huge or v == -math.huge) then at:fail("is not a finite number") end
  if kind ~= "string" and kind ~= "number" and kind ~= "boolean" then at:fail("expected data, got a %s", kind) end
  return v
end

local CONTAINER = {
  name = id,
  rootfs = host_path,
  layers = function(v, at)
    local out = list(v, at, layer)
    if #out == 0 then at:fail("at least one layer is needed") end
    return out
  end,
  scratch = scratch,
  args = function(v, at)
    local out = list(v, at, word)
    if #out == 0 or out[1] == "" then at:fail("the first word names the program, it must not be empty") end
    return out
  end,
  env = env,
  cwd = guest_path,
  user = user,
  hostname = hostname,
  mounts = function(v, at) return list(v, at, mount) end,
  devices = function(v, at)
    local out, seen = list(v, at, device), {}
    for i, one in ipairs(out) do
      if seen[one.destination] then at:at(i):fail("%s is taken by devices[%d]", one.destination, seen[one.destination]) end
      seen[one.destination] = i
    end
    return out
  end,
  read_only = flag,
  tty = flag,
  resources = function(v, at) return resources.check(record(v, at, resources.FIELDS), at) end,
  spec = function(v, at) return data(want(v, at, "table"), at) end,
}

local function container(v, at)
  local out = record(v, at, CONTAINER)
  if (out.rootfs == nil) == (out.layers == nil) then at:fail("give either rootfs (a directory or an image) or layers (images)") end
  out.spec = out.spec or {}
  if not out.args and not (type(out.spec.process) == "table" and out.spec.process.args) then
    at:fail('args is missing: say what to run, for example args = { "sh" }')
  end
  out.env = out.env or {}
  out.mounts = out.mounts or {}
  out.devices = out.devices or {}
  out.read_only = out.read_only or false
  if out.tty == nil then out.tty = type(out.spec.process) == "table" and out.spec.process.terminal == true end
  return out
end

---Containers by name, or a list of containers with names: a list also says the order of the start.
local function containers(v, at)
  want(v, at, "table")
  local by_name, order, list_form = {}, {}, #v > 0
  for key, value in pairs(v) do
    if list_form and math.type(key) ~= "integer" then at:at(key):fail("either all containers are named by their key or none") end
    if not list_form then
      if type(key) ~= "string" then at:fail("expected names as keys") end
      id(key, at:at(key))
      local one = container(value, at:at(key))
      if one.name and one.name ~= key then at:at(key):fail('is called "%s" inside', one.name) end
      one.name, by_name[key] = key, one
      order[#order + 1] = key
    end
  end
  for i, value in ipairs(v) do
    local here = at:at(i)
    local one = container(value, here)
    if not one.name then here:fail("name is missing") end
    if by_name[one.name] then here:at("name"):fail_as("already_exists", 'there are two containers called "%s"', one.name) end
    by_name[one.name], order[i] = one, one.name
  end
  if not list_form then table.sort(order) end
  if #order == 0 then at:fail("a pod needs at least one container") end
  return { by_name = by_name, order = order }
end

local POD = {
  name = id,
  host = function(v, at)
    want(v, at, "string")
    for _, known in ipairs(HOSTS) do if v == known then return v end end
    at:fail('there is no host "%s"%s', v, suggest.hint(v, HOSTS))
  end,
  policy = host_path,
  sandbox = flag,
  vm = function(v, at)
    local out = record(v, at, {
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
  hostname = hostname,
  network = network,
  dns = dns,
  containers = containers,
}

---Checks what a person wrote and completes it. Raises invalid_argument or already_exists, naming the place.
---@param input any
---@param opts { base: string, locate: (fun(path: (string|integer)[]): string)? } base: absolute folder that relative
---paths start from; locate: "file:line: " of a place, for the message
---@return moonshim.PodSpec
function pod_spec.check(input, opts)
  if getmetatable(input) == Spec then return input end
  local at = place({ base = opts.base, locate = opts.locate }, {})
  if kind_of(input) ~= "table" then at:fail("expected a table, got %s", kind_of(input)) end
  local out = record(input, at, POD)
  if not out.name then at:fail('name is missing: name = "hello"') end
  if not out.containers then at:fail("containers is missing") end
  out.order, out.containers = out.containers.order, out.containers.by_name
  out.host = out.host or "local"
  out.vm = out.vm or {}
  out.network = out.network or { mode = "none" }
  out.network.dns = out.dns
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
  local at = place({}, { "resources" })
  return resources.to_oci(resources.check(record(v, at, resources.FIELDS), at))
end

---Whether `v` came out of `check`.
---@return boolean
function pod_spec.checked(v) return getmetatable(v) == Spec end

---The rules for one id, for those who take ids from elsewhere (exec ids, run-time requests). Raises invalid_argument.
---@param v any
---@param what string how the id is called in the message
---@return string
function pod_spec.id(v, what) return id(v, place({}, { what })) end

return pod_spec

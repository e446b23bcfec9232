---What may be said of one container.
local annotations = require "moonshim.pod_spec.annotations"
local read = require "moonshim.pod_spec.read"
local resources = require "moonshim.oci.resources"
local streams = require "moonshim.pod_spec.streams"

local function env_word(v, at)
  read.word(v, at)
  if not v:find("^[^=]+=") then at:fail('"%s" must look like NAME=value', v) end
  return v
end

---A map or a list of "K=V"; a map is put in order, so that the same pod always makes the same document.
local function env(v, at)
  read.want(v, at, "table")
  if #v > 0 then return read.list(v, at, env_word) end
  local out = {}
  for key, value in pairs(v) do
    local here = at:at(key)
    if type(key) ~= "string" or key == "" or key:find("[=%z]") then here:fail("is no name of an environment variable") end
    out[#out + 1] = key .. "=" .. read.word(value, here)
  end
  table.sort(out)
  return out
end

local function user(v, at)
  if math.type(v) == "integer" then v = ("%d"):format(v) end
  read.text(v, at)
  if v:find("[%s%c]") or select(2, v:gsub(":", "")) > 1 then
    at:fail('"%s" is no user; write "name", "uid", "name:group" or "uid:gid"', v)
  end
  return v
end

local function layer(v, at)
  if type(v) == "string" then return { path = read.host_path(v, at), partition = 0 } end
  local out = read.record(v, at, {
    path = read.host_path,
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
  local out = read.record(v, at, { size = read.size, path = read.host_path })
  if (out.size == nil) == (out.path == nil) then at:fail('give either a size ({ size = "64M" }) or a path') end
  return out
end

---Letters of r, w and m, each once, in this order.
local function access(v, at)
  read.text(v, at)
  local out = ""
  for letter in ("rwm"):gmatch(".") do
    if v:find(letter, 1, true) then out = out .. letter end
  end
  if #out ~= #v then at:fail('"%s" is no access; write some of r (read), w (write) and m (make its node)', v) end
  return out
end

---"/dev/NAME[:PATH][:rwm]" in parts; a path with a colon needs the long form.
local function device_parts(v, at)
  read.text(v, at)
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
  if type(v) == "string" then v = device_parts(v, at) end
  local out = read.record(v, at, { path = read.host_path, destination = read.guest_path, access = access })
  if not out.path then at:fail("a device needs a path") end
  out.destination = read.normal(out.destination or out.path)
  if out.destination == "/" then at:at("destination"):fail("is the root folder; a device needs a name") end
  out.access = out.access or "rwm"
  return out
end

local HOST_MOUNTS = { bind = true, ["virtual-disk"] = true, ["physical-disk"] = true }

local function mount(v, at)
  local out = read.record(v, at, {
    source = read.text,
    destination = read.text,
    type = read.text,
    options = function(o, here) return read.list(o, here, read.text) end,
  })
  if not out.destination then at:fail("a mount needs a destination") end
  if not out.destination:find("^blockdev://") then read.guest_path(out.destination, at:at("destination")) end
  out.type = out.type or "bind"
  out.options = out.options or {}
  if HOST_MOUNTS[out.type] then
    if not out.source then at:fail('a mount of type "%s" needs a source', out.type) end
    if not out.source:find("^[%w-]+://") then out.source = read.host_path(out.source, at:at("source")) end
  end
  out.source = out.source or out.type
  if out.type == "bind" then
    local bound = false
    for _, option in ipairs(out.options) do bound = bound or option == "bind" or option == "rbind" end
    if not bound then table.insert(out.options, 1, "rbind") end
  end
  return out
end

local CONTAINER = {
  name = read.id,
  rootfs = read.host_path,
  layers = function(v, at)
    local out = read.list(v, at, layer)
    if #out == 0 then at:fail("at least one layer is needed") end
    return out
  end,
  scratch = scratch,
  args = function(v, at)
    local out = read.list(v, at, read.word)
    if #out == 0 or out[1] == "" then at:fail("the first word names the program, it must not be empty") end
    return out
  end,
  env = env,
  cwd = read.guest_path,
  user = user,
  hostname = read.hostname,
  mounts = function(v, at) return read.list(v, at, mount) end,
  devices = function(v, at)
    local out, seen = read.list(v, at, device), {}
    for i, one in ipairs(out) do
      if seen[one.destination] then at:at(i):fail("%s is taken by devices[%d]", one.destination, seen[one.destination]) end
      seen[one.destination] = i
    end
    return out
  end,
  read_only = read.flag,
  tty = read.flag,
  stdin = streams.place,
  stdout = streams.place,
  stderr = streams.place,
  io_retry = streams.retry,
  resources = function(v, at) return resources.check(read.record(v, at, resources.FIELDS), at) end,
  annotations = function(v, at) return annotations.of_container(v, at).map end,
  spec = function(v, at) return read.data(read.want(v, at, "table"), at) end,
}

local function container(v, at)
  local out = read.record(v, at, CONTAINER)
  if (out.rootfs == nil) == (out.layers == nil) then at:fail("give either rootfs (a directory or an image) or layers (images)") end
  out.spec = out.spec or {}
  if not out.args and not (type(out.spec.process) == "table" and out.spec.process.args) then
    at:fail('args is missing: say what to run, for example args = { "sh" }')
  end
  out.env = out.env or {}
  out.annotations = out.annotations or {}
  out.mounts = out.mounts or {}
  out.devices = out.devices or {}
  out.read_only = out.read_only or false
  if out.tty == nil then out.tty = type(out.spec.process) == "table" and out.spec.process.terminal == true end
  streams.check(out, at)
  return out
end

---Containers by name, or a list of containers with names: a list also says the order of the start.
local function containers(v, at)
  read.want(v, at, "table")
  local by_name, order, list_form = {}, {}, #v > 0
  for key, value in pairs(v) do
    if list_form and math.type(key) ~= "integer" then at:at(key):fail("either all containers are named by their key or none") end
    if not list_form then
      if type(key) ~= "string" then at:fail("expected names as keys") end
      read.id(key, at:at(key))
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

return { containers = containers }

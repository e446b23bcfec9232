--- Checks an OCI spec (or one process of it) before anything is done with it.
--
-- Layer    oci: no calls. Raises `invalid_argument`; the message starts with the field: "process.args: ...".
-- Always   absent, null and a wrong type are told apart, and nothing here crashes on any of them.
local data = require "moonshim.oci.data"
local env = require "moonshim.oci.env"
local err = require "moonshim.err"

local validate = {}

local MAX_LIST = 4096
local MAX_TEXT = 128 * 1024

local function bad(where, fmt, ...)
  -- %q writes a newline as a backslash and a newline; messages are one line
  err.raise("invalid_argument", "%s: %s", where, (fmt:format(...):gsub("\\\n", "\\n")))
end

local function text(v, where)
  if type(v) ~= "string" then bad(where, "must be text, not %s", data.absent(v) and "absent" or type(v)) end
  if v:find("\0", 1, true) then bad(where, "%q holds a NUL byte", v) end
  if #v > MAX_TEXT then bad(where, "has %d bytes, the limit is %d", #v, MAX_TEXT) end
  return v
end

local function filled(v, where)
  if text(v, where) == "" then bad(where, "is empty") end
  return v
end

local function absolute(v, where)
  if filled(v, where):sub(1, 1) ~= "/" then bad(where, "%q must start with '/'", v) end
  return v
end

local function object(v, where)
  if data.absent(v) then bad(where, "is missing") end
  if type(v) ~= "table" then bad(where, "must be an object, not %s", type(v)) end
  if #v > 0 then bad(where, "must be an object, not a list") end
  return v
end

--- Calls `each(item, where)` for every item; absent is an empty list.
local function list(v, where, each)
  if data.absent(v) then return end
  if type(v) ~= "table" then bad(where, "must be a list, not %s", type(v)) end
  local n = #v
  if n > MAX_LIST then bad(where, "has %d entries, the limit is %d", n, MAX_LIST) end
  for k in pairs(v) do
    if math.type(k) ~= "integer" or k < 1 or k > n then bad(where, "must be a list; it has the key %q", tostring(k)) end
  end
  for i = 1, n do each(v[i], ("%s[%d]"):format(where, i)) end
end

local function whole(v, where, least, most)
  if math.type(v) ~= "integer" then bad(where, "must be a whole number, not %s", tostring(v)) end
  if v < least or v > most then bad(where, "%d is outside %d..%d", v, least, most) end
end

local function optional(v, where, check, ...)
  if not data.absent(v) then check(v, where, ...) end
end

local function flag(v, where)
  if type(v) ~= "boolean" then bad(where, "must be true or false, not %s", type(v)) end
end

local CAPABILITY_SETS = { "bounding", "effective", "permitted", "inheritable", "ambient" }

local function capability(v, where)
  if not filled(v, where):find "^CAP_[%u%d_]+$" then bad(where, "%q is no capability (they look like CAP_KILL)", v) end
end

local function rlimit(v, where)
  object(v, where)
  if not filled(v.type, where .. ".type"):find "^RLIMIT_%u+$" then
    bad(where .. ".type", "%q is no limit (they look like RLIMIT_NOFILE)", v.type)
  end
  for _, side in ipairs { "soft", "hard" } do
    if math.type(v[side]) ~= "integer" then bad(where .. "." .. side, "must be a whole number") end
  end
end

local function argument(v, where)
  text(v, where)
  if #v > env.LONGEST then bad(where, "has %d bytes, the kernel takes at most %d", #v, env.LONGEST) end
end

--- One process: of a container or of an exec.
---@param p any
---@param where string? "process"
---@return table
function validate.process(p, where)
  where = where or "process"
  object(p, where)
  local args = where .. ".args"
  if data.absent(p.args) then bad(args, "is missing: it holds the program and its arguments") end
  list(p.args, args, argument)
  if #p.args == 0 then bad(args, "is empty: it holds the program and its arguments") end
  if p.args[1] == "" then bad(args .. "[1]", "is empty: it names the program") end
  list(p.env, where .. ".env", env.check)
  if data.absent(p.cwd) then bad(where .. ".cwd", "is missing") end
  absolute(p.cwd, where .. ".cwd")
  optional(p.terminal, where .. ".terminal", flag)
  optional(p.noNewPrivileges, where .. ".noNewPrivileges", flag)
  optional(p.user, where .. ".user", function(u, at)
    object(u, at)
    optional(u.uid, at .. ".uid", whole, 0, 0xfffffffe)
    optional(u.gid, at .. ".gid", whole, 0, 0xfffffffe)
    optional(u.username, at .. ".username", text)
    list(u.additionalGids, at .. ".additionalGids", function(g, here) whole(g, here, 0, 0xfffffffe) end)
  end)
  optional(p.capabilities, where .. ".capabilities", function(c, at)
    object(c, at)
    for _, set in ipairs(CAPABILITY_SETS) do list(c[set], at .. "." .. set, capability) end
  end)
  list(p.rlimits, where .. ".rlimits", rlimit)
  optional(p.oomScoreAdj, where .. ".oomScoreAdj", whole, -1000, 1000)
  return p
end

local NAMESPACES = { pid = true, network = true, ipc = true, uts = true, mount = true, user = true, cgroup = true, time = true }

local function namespace(v, where)
  object(v, where)
  if not NAMESPACES[filled(v.type, where .. ".type")] then bad(where .. ".type", "%q is no namespace", v.type) end
  optional(v.path, where .. ".path", function(path, at)
    if text(path, at) ~= "" then absolute(path, at) end
  end)
end

local function mount(v, where)
  object(v, where)
  local destination = filled(v.destination, where .. ".destination")
  local path = destination:match "^blockdev://(.*)$" or destination
  absolute(path, where .. ".destination")
  if #path > 4095 then bad(where .. ".destination", "has %d bytes, a path has at most 4095", #path) end
  optional(v.type, where .. ".type", text)
  optional(v.source, where .. ".source", text)
  list(v.options, where .. ".options", filled)
end

local function hook(v, where)
  object(v, where)
  absolute(v.path, where .. ".path")
  list(v.args, where .. ".args", text)
  list(v.env, where .. ".env", env.check)
end

--- 1..63 characters of letters, digits, '-' and '.'; what goes into the hosts file must not break its lines.
function validate.hostname(v, where)
  if filled(v, where):find "[^%w.-]" or #v > 63 or not v:find "^%w" then
    bad(where, "%q is no host name: at most 63 letters, digits, '-' and '.', starting with a letter or digit", v:sub(1, 80))
  end
  return v
end

--- A whole spec. `root.path` may be absent: the shim sets it.
---@param spec any
---@return table
function validate.spec(spec)
  if type(spec) ~= "table" then bad("spec", "must be an OCI document, not %s", data.absent(spec) and "absent" or type(spec)) end
  object(spec, "spec")
  optional(spec.ociVersion, "ociVersion", function(v, at)
    if not text(v, at):find "^%d+%.%d+" then bad(at, "%q is no version", v) end
  end)
  if data.absent(spec.process) then bad("process", "is missing") end
  validate.process(spec.process, "process")
  if data.absent(spec.root) then bad("root", "is missing") end
  object(spec.root, "root")
  optional(spec.root.path, "root.path", text)
  optional(spec.root.readonly, "root.readonly", flag)
  optional(spec.hostname, "hostname", function(v, at)
    if v ~= "" then validate.hostname(v, at) end
  end)
  list(spec.mounts, "mounts", mount)
  optional(spec.hooks, "hooks", function(hooks, at)
    object(hooks, at)
    for name, entries in pairs(hooks) do list(entries, at .. "." .. tostring(name), hook) end
  end)
  optional(spec.annotations, "annotations", function(annotations, at)
    object(annotations, at)
    for name, value in pairs(annotations) do text(value, ("%s[%q]"):format(at, tostring(name))) end
  end)
  if data.absent(spec.linux) then bad("linux", "is missing: only Linux containers can run here") end
  object(spec.linux, "linux")
  list(spec.linux.namespaces, "linux.namespaces", namespace)
  optional(spec.linux.resources, "linux.resources", object)
  list(spec.linux.maskedPaths, "linux.maskedPaths", absolute)
  list(spec.linux.readonlyPaths, "linux.readonlyPaths", absolute)
  list(spec.linux.devices, "linux.devices", function(v, at)
    object(v, at)
    absolute(v.path, at .. ".path")
  end)
  optional(spec.windows, "windows", object)
  return spec
end

return validate

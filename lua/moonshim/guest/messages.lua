--- The payload of every request to the guest, as plain tables.
--
-- Layer    guest: no call, no JSON text except what the caller hands in (documents inside a string are text already).
-- Always   zero values (0, false, "", empty tables) are left out, as the protocol says; the fields of the envelope
--          and the numbers that mean something when they are 0 (ProcessId, TimeoutInMs) are always there.
-- See      spec/unit/guest/messages_spec.lua, which holds the vectors of the protocol
local layout = require "moonshim.guest.layout"

---@class moonshim.guest.messages
local messages = {}

--- Request types by operation; the answer carries the same number with 2 in the top digit.
messages.types = {
  create = 0x10100101,
  start = 0x10100201,
  shutdown = 0x10100301,
  shutdown_forced = 0x10100401,
  execute = 0x10100501,
  wait = 0x10100601,
  signal = 0x10100701,
  resize = 0x10100801,
  properties = 0x10100901,
  modify = 0x10100a01,
  negotiate = 0x10100b01,
  dump_stacks = 0x10100c01,
  delete_state = 0x10100d01,
}
messages.NOTIFICATION = 0x30100101
messages.OUT_OF_MEMORY = 0x30180101 -- an extension
messages.VERSION = 4
messages.FOREVER = 0xffffffff
--- What we ask for when we negotiate; see csrc/wire/PROTOCOL.md.
messages.EXTENSIONS = { "StdioResume", "OutOfMemory", "ContainerFreezer", "SignalGroup" }

-- The real host always sends the zero GUID; it is only echoed.
local ACTIVITY = layout.NULL

local function is_zero(v)
  return v == nil or v == false or v == 0 or v == "" or (type(v) == "table" and next(v) == nil)
end

--- A copy of one level of `t` without its zero values. `keep` names fields that stay whatever they hold.
---@param t table
---@param keep table<string, boolean>?
---@return table
function messages.without_zero(t, keep)
  local out = {}
  for k, v in pairs(t) do
    if (keep and keep[k]) or not is_zero(v) then out[k] = v end
  end
  return out
end

local function envelope(id, fields)
  fields = fields or {}
  fields.ContainerId, fields.ActivityId = id, ACTIVITY
  return fields
end

--- Extensions are ours: another guest does not look at them, and then they are not used.
---@param extensions string[]?
function messages.negotiate(extensions)
  return envelope("", { MinimumVersion = messages.VERSION, MaximumVersion = messages.VERSION, Extensions = extensions })
end

---@param id string container id
---@param document string JSON text of the container document
function messages.create(id, document) return envelope(id, { ContainerConfig = document }) end

--- Start, both shutdowns, DumpStacks and DeleteContainerState are an envelope and nothing else.
function messages.plain(id) return envelope(id) end

--- The inner document of ExecuteProcess. Streams with a port get their Create...Pipe flag.
---@param params table CommandArgs, WorkingDirectory, Environment, EmulateConsole, CreateInUtilityVM, OciProcess ...
---@param ports { stdin: integer?, stdout: integer?, stderr: integer? }?
---@return table
function messages.process_parameters(params, ports)
  local out = messages.without_zero(params)
  ports = ports or {}
  out.CreateStdInPipe = ports.stdin and true or nil
  out.CreateStdOutPipe = ports.stdout and true or nil
  out.CreateStdErrPipe = ports.stderr and true or nil
  return out
end

---@param id string
---@param parameters string JSON text of `process_parameters`
---@param ports { stdin: integer?, stdout: integer?, stderr: integer? }?
function messages.execute(id, parameters, ports)
  ports = ports or {}
  local relay = messages.without_zero { StdIn = ports.stdin, StdOut = ports.stdout, StdErr = ports.stderr }
  return envelope(id, {
    Settings = messages.without_zero { ProcessParameters = parameters, VsockStdioRelaySettings = relay },
  })
end

---@param timeout_ms integer? nil waits for ever
function messages.wait(id, pid, timeout_ms)
  return envelope(id, { ProcessId = pid, TimeoutInMs = timeout_ms or messages.FOREVER })
end

---@param signal integer? nil or 0 leaves the options out, which means KILL
---@param group true? also to the others of its group (extension SignalGroup)
function messages.signal(id, pid, signal, group)
  local options
  if not is_zero(signal) then options = { Signal = signal, Group = group } end
  return envelope(id, { ProcessId = pid, Options = options })
end

function messages.resize(id, pid, rows, columns)
  return envelope(id, { ProcessId = pid, Height = rows, Width = columns })
end

---@param query string JSON text, `{"PropertyTypes":[...]}`
function messages.properties(id, query) return envelope(id, { Query = query }) end

---@param id string `layout.NULL` for what belongs to the VM
---@param request_type "Add"|"Remove"|"Update"
---@param resource_type string
---@param settings table? nil only for PodCgroupMemoryLimit
function messages.modify(id, request_type, resource_type, settings)
  return envelope(id, {
    Request = {
      RequestType = request_type,
      ResourceType = resource_type,
      Settings = settings and messages.without_zero(settings),
    },
  })
end

--- Settings of MappedVirtualDisk from the facts of a reservation: Add and Remove repeat the same fields, else
--- read-only and encrypted mappings stay behind in the guest.
function messages.disk_settings(facts)
  local m = facts.mount or {}
  return {
    MountPath = facts.guest_path,
    Controller = facts.controller,
    Lun = facts.lun,
    Partition = facts.partition,
    ReadOnly = m.read_only,
    Encrypted = m.encrypted,
    Options = m.options,
    BlockDev = m.block_dev,
    EnsureFilesystem = m.ensure_filesystem,
    Filesystem = m.filesystem,
  }
end

function messages.directory_settings(facts)
  return {
    MountPath = facts.guest_path,
    Port = facts.port or layout.PLAN9_PORT,
    ShareName = facts.share,
    ReadOnly = facts.read_only,
  }
end

--- `points` is an addition of ours, which other guests ignore: what must exist in a root that cannot be written.
---@param spec { container: string, root: string, layers: string[], scratch: string?, points: { path: string, file: boolean? }[]? }
---  layers top-most first
function messages.layers_settings(spec)
  local layers, points = {}, {}
  for i, path in ipairs(spec.layers) do layers[i] = { Path = path } end
  for i, point in ipairs(spec.points or {}) do points[i] = point.file and { Path = point.path, File = true } or point.path end
  return {
    ContainerID = spec.container,
    ContainerRootPath = spec.root,
    Layers = layers,
    ScratchPath = spec.scratch,
    MountPoints = points,
  }
end

--- The inner document of Create.
---@param doc { bundle: string, spec: table, scratch_dir: string? }
function messages.container_document(doc)
  return {
    SchemaVersion = { Major = 2, Minor = 1 },
    OciBundlePath = doc.bundle,
    OciSpecification = doc.spec,
    ScratchDirPath = doc.scratch_dir or "",
  }
end

return messages

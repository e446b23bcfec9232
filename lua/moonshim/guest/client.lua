--- The guest as a Lua object: one method per request, one error value per refusal.
--
-- Layer      guest: over guest/connection, which says what becomes of a request, its answer and its errors. Knows no kind.
-- Words      ask = a question, given up with its caller; change = a request that runs to its answer or deadline. A guest
--            that cannot do something is asked for the nearest thing that it can, or nothing is sent and an error says so.
-- Ownership  the client closes its connection.
-- See        spec/unit/guest/client_spec.lua
local connection = require "moonshim.guest.connection"
local err = require "moonshim.err"
local layout = require "moonshim.guest.layout"
local messages = require "moonshim.guest.messages"

local integer = connection.integer

---@class moonshim.guest.Client: moonshim.guest.Connection
local Client = setmetatable({}, { __index = connection.Connection })
Client.__index = Client

local client = {}

---@param bridge any core.bridge object; taken
---@param opts { json: any?, limits: table<string, integer>? }?
---@return moonshim.guest.Client
function client.new(bridge, opts) return connection.new(Client, bridge, opts) end

--- On a connected stream, which is taken.
---@param stream any core stream
---@param opts { core: any?, json: any?, first_id: integer?, max_frame: integer?, limits: table? }?
---@return moonshim.guest.Client
function client.connect(stream, opts) return connection.connect(Client, stream, opts) end

-- Requests -----------------------------------------------------------------------------------------------------

local T = messages.types

--- Makes a container; its init waits for `execute`.
---@async
---@param document string JSON text of the container document
function Client:create(id, document) self:change("create", T.create, messages.create(id, document)) end

---@async
function Client:start(id) self:change("start", T.start, messages.plain(id)) end

--- Starts init (no OciProcess), an exec (OciProcess) or a process of the VM itself (id = layout.NULL).
---@async
---@param params table see messages.process_parameters
---@param ports { stdin: integer?, stdout: integer?, stderr: integer? }?
---@return integer pid in the VM's pid namespace
function Client:execute(id, params, ports)
  local text = err.try(self.json.encode(messages.process_parameters(params, ports)))
  local answer = self:change("execute", T.execute, messages.execute(id, text, ports))
  return integer(answer.ProcessId, "ProcessId", "execute")
end

--- Waits for the exit. Without `timeout_ms` for ever; a wait that expires raises `deadline_exceeded`.
---@async
---@param timeout_ms integer?
---@return integer code
function Client:wait(id, pid, timeout_ms)
  -- The guest's own limit ends a bounded wait; the bridge's is only there for a guest that is silent.
  self:await_connection "wait"
  local limit = timeout_ms and timeout_ms + self.limits.default
  local answer = self:exchange("wait", T.wait, messages.wait(id, pid, timeout_ms), limit)
  return integer(answer.ExitCode or 0, "ExitCode", "wait")
end

-- What a guest that knows no signals can do with a process is to end it; these ask for that.
local ENDS = { [6] = true, [9] = true, [15] = true }

---@async
---@param signal integer Linux number
---@param group boolean? also to the others of its group, where the guest can do that
function Client:signal(id, pid, signal, group)
  if not self.capabilities.SignalProcessSupported then
    if not ENDS[signal] then
      err.raise("invalid_argument", "signal %d: this guest can only end a process; use ABRT, KILL or TERM", signal)
    end
    signal = nil
  end
  self:change("signal", T.signal, messages.signal(id, pid, signal, group and self.extensions.SignalGroup or nil))
end

---@async
function Client:resize(id, pid, rows, columns) self:ask("resize", T.resize, messages.resize(id, pid, rows, columns)) end

--- Asks for properties, for example { "ProcessList" } or { "Statistics" }; the inner document is decoded.
---@async
---@param types string[]
---@return table
function Client:properties(id, types)
  local query = err.try(self.json.encode { PropertyTypes = types })
  local answer = self:ask("properties", T.properties, messages.properties(id, query))
  if answer.Properties == nil or answer.Properties == "" then return {} end
  local inner = type(answer.Properties) == "string" and self.json.decode(answer.Properties)
  if type(inner) ~= "table" then err.raise("protocol", "properties: the guest's answer holds no JSON document") end
  return inner
end

---@async
---@param request_type "Add"|"Remove"|"Update"
function Client:modify(id, request_type, resource_type, settings)
  local op = ("modify.%s.%s"):format(request_type:lower(), resource_type)
  self:change(op, T.modify, messages.modify(id, request_type, resource_type, settings))
end

--- Stops all processes of a container where they are, or lets them go on. An extension of ours.
---@async
---@param frozen boolean
function Client:freeze(id, frozen)
  if not (self.extensions or {}).ContainerFreezer then
    error(err.new("unimplemented", "freeze: the guest cannot pause containers", { origin = "guest", op = "freeze" }), 0)
  end
  self:modify(id, "Update", "ContainerFreezer", { State = frozen and "Frozen" or "Thawed" })
end

--- Asks init to end (TERM), or ends it (KILL).
---@async
---@param forced boolean
function Client:shutdown(id, forced)
  self:change("shutdown", forced and T.shutdown_forced or T.shutdown, messages.plain(id))
end

--- Forgets a container: runtime state, bundle, its scratch folder. A guest that cannot is not asked; what it keeps ends
--- with the VM.
---@async
function Client:delete_state(id)
  if not self.capabilities.DeleteContainerStateSupported then return end
  self:change("delete_state", T.delete_state, messages.plain(id))
end

--- Ends the VM from inside, at once. There is no answer but the end of the connection.
---@async
---@param forced boolean
function Client:power_off(forced)
  local ok, e = pcall(self.shutdown, self, layout.NULL, forced)
  if not ok and not err.is(e, "unavailable") then error(e, 0) end
end

---@async
---@return string
function Client:dump_stacks()
  if not self.capabilities.DumpStacksSupported then return "" end
  local answer = self:ask("dump_stacks", T.dump_stacks, messages.plain(layout.NULL))
  return type(answer.GuestStacks) == "string" and answer.GuestStacks or ""
end

-- Resources of the VM ------------------------------------------------------------------------------------------

function Client:map_disk(facts) self:modify(layout.NULL, "Add", "MappedVirtualDisk", messages.disk_settings(facts)) end
function Client:unmap_disk(facts) self:modify(layout.NULL, "Remove", "MappedVirtualDisk", messages.disk_settings(facts)) end

--- The guest lets go of a disk; must come before the host takes it away.
function Client:eject(controller, lun)
  self:modify(layout.NULL, "Remove", "SCSIDevice", { Controller = controller, Lun = lun })
end

--- Answers when the guest sees the device.
---@async
---@param instance string
function Client:wait_device(instance) self:modify(layout.NULL, "Add", "VPCIDevice", { VMBusGUID = instance }) end

function Client:map_directory(facts) self:modify(layout.NULL, "Add", "MappedDirectory", messages.directory_settings(facts)) end
function Client:unmap_directory(facts)
  self:modify(layout.NULL, "Remove", "MappedDirectory", messages.directory_settings(facts))
end

---@param spec table see messages.layers_settings
function Client:combine_layers(spec) self:modify(layout.NULL, "Add", "CombinedLayers", messages.layers_settings(spec)) end
function Client:remove_layers(spec) self:modify(layout.NULL, "Remove", "CombinedLayers", messages.layers_settings(spec)) end

--- Runs a program of the VM (not of a container) and returns its exit status.
---@async
---@param args string[]
---@return integer code
function Client:run(args)
  local pid = self:execute(layout.NULL, { CommandArgs = args, WorkingDirectory = "/" })
  return self:wait(layout.NULL, pid)
end

--- Writes a file system of the guest to its disk.
---@async
---@param path string guest path
function Client:syncfs(path)
  local code = self:run { layout.AGENT, "syncfs", path }
  if code ~= 0 then
    error(err.new("unknown", ("syncfs %s: exit status %d"):format(path, code), { origin = "guest", op = "syncfs" }), 0)
  end
end

return client

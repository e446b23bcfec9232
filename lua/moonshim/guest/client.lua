--- The guest as a Lua object: one method per request, one error value per refusal.
--
-- Layer      guest: uses moonshim.core (bridge, json) through its arguments, task, classify. Knows no kind.
-- Words      bridge = core.bridge object or a fake with call, abandon, close, state.
-- Ownership  the client closes its bridge; the bridge owns the stream.
-- Always     1. everything raises error values with origin "guest" (the guest said no) or "shim" (nobody answered).
--            2. a request that changes the guest is never cancelled by its caller: it runs to its answer or to its
--               own deadline. Questions and waits are abandoned at once; a late answer is dropped by the bridge.
--            3. no notification is lost: those that come before a listener wait in a bounded list.
--            4. the client outlives its connections. What was under way when one breaks fails with `unavailable`; what is
--               asked afterwards waits while a new one is expected, and fails at once when none is. Request ids never
--               start again.
-- States     open --lost--> lost (expected, when somebody decides about losses) --expect--> expected --reconnect--> open;
--            lost, expected --give_up--> lost; any --close--> closed
-- See        spec/unit/guest/client_spec.lua
local classify = require "moonshim.classify"
local err = require "moonshim.err"
local layout = require "moonshim.guest.layout"
local messages = require "moonshim.guest.messages"
local task = require "moonshim.task"

---@class moonshim.guest.Client
---@field capabilities table what the guest said at negotiation
---@field extensions table<string, boolean> ours that it knows
---@field generation integer counts connections
---@field bridge any of the last connection
---@field private json any
local Client = {}
Client.__index = Client

local client = {}

-- Milliseconds. A request that has no deadline of its own (no task deadline around it) gets these.
-- Questions are answered from what the agent knows, or it hangs.
local LIMITS = { default = 300000, negotiate = 120000, properties = 10000, dump_stacks = 10000 }
-- Notifications kept for a listener that is not there yet.
local MAX_EARLY = 256
-- Lists of processes and stack dumps are the longest answers; what is beyond this is no guest of ours.
local MAX_FRAME = 4 << 20
-- A guest text in an error message is cut: it may be a whole stack trace.
local MAX_TEXT = 400

local function one_line(text)
  text = tostring(text):gsub("[%c]+", " ")
  if #text > MAX_TEXT then text = text:sub(1, MAX_TEXT) .. "..." end
  return text
end

--- Signed 32-bit numbers of the wire as unsigned; anything else is the guest's mistake.
local function integer(v, name, op)
  local n = math.tointeger(v)
  if not n then err.raise("protocol", "%s: the guest answered %s = %s, expected a number", op, name, tostring(v)) end
  return n
end

---@param bridge any core.bridge object; taken
---@param opts { json: any?, limits: table<string, integer>? }?
---@return moonshim.guest.Client
function client.new(bridge, opts)
  opts = opts or {}
  return setmetatable({
    bridge = bridge,
    json = opts.json or require("moonshim.core").json,
    limits = setmetatable(opts.limits or {}, { __index = LIMITS }),
    capabilities = {},
    extensions = {},
    early = {},
    listeners = {},
    state = "open",
    generation = 1,
    next_id = 0,
    lost_signal = task.signal(),
    turn = task.signal(),
  }, Client)
end

--- Puts a bridge on a connected stream and a client on the bridge. Takes the stream.
---@param stream any core stream
---@param opts { core: any?, json: any?, first_id: integer?, max_frame: integer?, limits: table? }?
---@return moonshim.guest.Client
function client.connect(stream, opts)
  opts = opts or {}
  local core = opts.core or require "moonshim.core"
  local self = client.new(nil, { json = opts.json or core.json, limits = opts.limits })
  self.core, self.max_frame, self.next_id = core, opts.max_frame or MAX_FRAME, opts.first_id or 0
  self:attach(stream)
  return self
end

-- Connections --------------------------------------------------------------------------------------------------

---@private
function Client:attach(stream)
  local bridge -- the callbacks come from the loop, after this function has returned
  bridge = err.try(self.core.bridge(stream, {
    on_notify = function(kind, payload) self:notified(kind, payload) end,
    on_lost = function(e)
      if self.bridge ~= bridge then return end
      self.broken = bridge
      self:lost(e)
    end,
    max_frame = self.max_frame,
    first_id = self.next_id,
  }))
  self.bridge = bridge
end

---@private
function Client:enter(state)
  if self.state == "closed" then return end
  local turn = self.turn
  self.state, self.turn = state, task.signal()
  turn:fire()
end

--- From here on what is asked without a connection waits for a new one: somebody decides about losses.
function Client:expect()
  self.expects = true
  if self.state == "lost" then self:enter "expected" end
end

--- From here on what is asked fails at once, until somebody expects or brings a connection.
function Client:give_up()
  if self.state == "expected" then self:enter "lost" end
end

--- The agent has called again: negotiates, and everything goes on. Takes the stream. When it raises nothing has changed.
---@async
---@param stream any core stream
function Client:reconnect(stream)
  if self.state == "open" or self.state == "closed" then
    stream:close()
    err.raise("failed_precondition", "the guest connection is %s", self.state)
  end
  self:attach(stream)
  local bridge = self.bridge
  local ok, e = pcall(self.negotiate, self)
  if not ok or self.broken == bridge or self.state == "closed" then
    bridge:close()
    error(ok and err.new("unavailable", "the connection broke again", { origin = "shim", op = "negotiate" }) or e, 0)
  end
  self.lost_error, self.lost_signal, self.generation = nil, task.signal(), self.generation + 1
  self:enter "open"
end

--- Waits until there is a connection (true) or there will be none any more (false).
---@async
---@return boolean
function Client:wait_open()
  while self.state ~= "open" and self.state ~= "closed" do self.turn:wait() end
  return self.state == "open"
end

-- Nothing was sent yet, so whoever waits here may be cancelled.
---@private
function Client:await_connection(op)
  if self.state ~= "expected" then return end
  local ok, e = pcall(task.deadline, self:within(op), function()
    while self.state == "expected" do self.turn:wait() end
  end)
  if ok then return end
  if not err.is(e, "deadline_exceeded") then error(e, 0) end
  error(err.new("unavailable", op .. ": the agent has not called again", { origin = "shim", op = op }), 0)
end

-- Notifications and loss ---------------------------------------------------------------------------------------

---@private
function Client:notified(kind, payload)
  if kind ~= messages.NOTIFICATION and kind ~= messages.OUT_OF_MEMORY then return end -- a newer guest may say more than we know
  local event = self.json.decode(payload)
  if type(event) ~= "table" or type(event.ContainerId) ~= "string" then return end
  if #self.listeners == 0 then
    if #self.early >= MAX_EARLY then table.remove(self.early, 1) end
    self.early[#self.early + 1] = event
    return
  end
  for _, fn in ipairs(self.listeners) do fn(event) end
end

--- `fn(event)` gets every container notification: { ContainerId, Type, Operation, Result }, or, before the exit that it
--- may explain, { ContainerId, Type = "OutOfMemory", Kills, Limit }. Those that came before the first listener are
--- delivered at once.
---@param fn fun(event: table)
function Client:on_notify(fn)
  self.listeners[#self.listeners + 1] = fn
  local early = self.early
  self.early = {}
  for _, event in ipairs(early) do fn(event) end
end

---@private
function Client:lost(e)
  if self.state ~= "open" then return end
  self.lost_error = err.new("unavailable", "the guest connection is lost: " .. one_line(e and e.message or "closed"),
    { origin = "shim", op = "bridge" })
  self:enter(self.expects and "expected" or "lost")
  self.lost_signal:fire(self.lost_error)
end

--- The error that ended the connection, or nil while it lives.
function Client:is_lost() return self.lost_error end

--- Waits for the end of the connection and returns why it ended.
---@async
function Client:wait_lost() return self.lost_signal:wait() end

--- Idempotent, and for good. Calls in flight end with `unavailable`.
function Client:close()
  self:lost(err.new("unavailable", "closed by us"))
  self:enter "closed"
  self.bridge:close()
end

function Client:is_closed() return self.state == "closed" end

-- Calls --------------------------------------------------------------------------------------------------------

---@private
function Client:answer(op, payload)
  local answer, e = self.json.decode(payload)
  if type(answer) ~= "table" then
    err.raise("protocol", "%s: the guest's answer is not JSON: %s", op, one_line(e and e.message or payload:sub(1, 80)))
  end
  local result = integer(answer.Result or 0, "Result", op)
  if result ~= 0 then
    local text = type(answer.ErrorMessage) == "string" and answer.ErrorMessage or ("HRESULT 0x%08x"):format(result & 0xffffffff)
    error(classify.refusal("guest", op, result & 0xffffffff, ("%s: %s"):format(op, one_line(text))), 0)
  end
  return answer
end

---@private
function Client:exchange(op, kind, request, within)
  local payload = err.try(self.json.encode(request))
  local answer = task.await(function(resume)
    local id, e = self.bridge:call(kind, payload, within, function(text, failure)
      if text then return resume(text) end
      resume.fail(err.new(failure.code, op .. ": " .. failure.message, { origin = "shim", op = op, hresult = failure.hresult }))
    end)
    if id then self.next_id = math.max(self.next_id, id + 1) end
    if not id then
      resume.fail(err.new(e.code, op .. ": " .. e.message, { origin = "shim", op = op }))
      return nil
    end
    return function() self.bridge:abandon(id) end
  end)
  return self:answer(op, answer)
end

---@private
function Client:within(op)
  local limit, left = self.limits[op] or self.limits.default, task.remaining()
  if left and left < limit then return math.max(left, 1) end
  return limit
end

--- A question: its caller may give up at any time.
---@private
function Client:ask(op, kind, request)
  self:await_connection(op)
  return self:exchange(op, kind, request, self:within(op))
end

--- A change: runs to its answer or its deadline whatever happens to the caller.
---@private
function Client:change(op, kind, request)
  self:await_connection(op)
  local within = self:within(op)
  return task.shield(function() return self:exchange(op, kind, request, within) end)
end

-- Requests -----------------------------------------------------------------------------------------------------

local T = messages.types

--- First exchange on a new connection. Returns and keeps the guest's capabilities.
---@async
---@return table
function Client:negotiate()
  local answer = self:exchange("negotiate", T.negotiate, messages.negotiate(messages.EXTENSIONS), self:within("negotiate"))
  if math.tointeger(answer.Version) ~= messages.VERSION then
    err.raise("protocol", "negotiate: the guest speaks version %s, this shim speaks %d", tostring(answer.Version), messages.VERSION)
  end
  local capabilities = answer.Capabilities
  if type(capabilities) ~= "table" or capabilities.GuestDefinedCapabilities == nil then
    err.raise("protocol", "negotiate: the guest's answer has no GuestDefinedCapabilities")
  end
  self.capabilities = type(capabilities.GuestDefinedCapabilities) == "table" and capabilities.GuestDefinedCapabilities or {}
  self.extensions = {}
  for _, name in ipairs(type(answer.Extensions) == "table" and answer.Extensions or {}) do self.extensions[name] = true end
  return capabilities
end

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
function Client:signal(id, pid, signal)
  if not self.capabilities.SignalProcessSupported then
    if not ENDS[signal] then
      err.raise("invalid_argument", "signal %d: this guest can only end a process; use ABRT, KILL or TERM", signal)
    end
    signal = nil
  end
  self:change("signal", T.signal, messages.signal(id, pid, signal))
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

client.Client = Client
return client

--- How a request reaches the guest, and its answer us, over one connection after another.
--
-- Layer      guest: uses moonshim.core (bridge, json) through its arguments, task, classify. Of the requests it knows the
--            first, negotiate. What a client is made of: guest/client has one method per request.
-- Words      bridge = core.bridge object or a fake with call, abandon, close, state.
-- Ownership  the connection closes its bridge; the bridge owns the stream.
-- Always     1. everything raises error values with origin "guest" (the guest said no) or "shim" (nobody answered).
--            2. a request that changes the guest is never cancelled by its caller: it runs to its answer or to its
--               own deadline. Questions and waits are abandoned at once; a late answer is dropped by the bridge.
--            3. no notification is lost: those that come before a listener wait in a bounded list.
--            4. it outlives its bridges. What was under way when one breaks fails with `unavailable`; what is asked
--               afterwards waits while a new one is expected, and fails at once when none is. Request ids never start again.
-- States     open --lost--> lost (expected, when somebody decides about losses) --expect--> expected --reconnect--> open;
--            lost, expected --give_up--> lost; any --close--> closed
-- See        spec/unit/guest/client_spec.lua, spec/unit/controller/loss_spec.lua
local classify = require "moonshim.classify"
local err = require "moonshim.err"
local messages = require "moonshim.guest.messages"
local task = require "moonshim.task"

---@class moonshim.guest.Connection
---@field capabilities table what the guest said at negotiation
---@field extensions table<string, boolean> ours that it knows
---@field generation integer counts connections
---@field state "open"|"lost"|"expected"|"closed"
---@field bridge any of the last connection
---@field protected json any
local Connection = {}
Connection.__index = Connection

local connection = { Connection = Connection }

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

--- A number of an answer; anything else is the guest's mistake.
function connection.integer(v, name, op)
  local n = math.tointeger(v)
  if not n then err.raise("protocol", "%s: the guest answered %s = %s, expected a number", op, name, tostring(v)) end
  return n
end

---@param class table the metatable of what is made; it finds the methods of connection.Connection
---@param bridge any core.bridge object; taken
---@param opts { json: any?, limits: table<string, integer>? }?
---@return moonshim.guest.Connection
function connection.new(class, bridge, opts)
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
  }, class)
end

--- Puts a bridge on a connected stream and a connection on the bridge. Takes the stream.
---@param class table as above
---@param stream any core stream
---@param opts { core: any?, json: any?, first_id: integer?, max_frame: integer?, limits: table? }?
---@return moonshim.guest.Connection
function connection.connect(class, stream, opts)
  opts = opts or {}
  local core = opts.core or require "moonshim.core"
  local self = connection.new(class, nil, { json = opts.json or core.json, limits = opts.limits })
  self.core, self.max_frame, self.next_id = core, opts.max_frame or MAX_FRAME, opts.first_id or 0
  self:attach(stream)
  return self
end

-- Connections --------------------------------------------------------------------------------------------------

---@private
function Connection:attach(stream)
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
function Connection:enter(state)
  if self.state == "closed" then return end
  local turn = self.turn
  self.state, self.turn = state, task.signal()
  turn:fire()
end

--- First exchange on a new connection. Returns and keeps the guest's capabilities.
---@async
---@return table
function Connection:negotiate()
  local answer = self:exchange("negotiate", messages.types.negotiate, messages.negotiate(messages.EXTENSIONS), self:within("negotiate"))
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

--- From here on what is asked without a connection waits for a new one: somebody decides about losses.
function Connection:expect()
  self.expects = true
  if self.state == "lost" then self:enter "expected" end
end

--- From here on what is asked fails at once, until somebody expects or brings a connection.
function Connection:give_up()
  if self.state == "expected" then self:enter "lost" end
end

--- The agent has called again: negotiates, and everything goes on. Takes the stream. When it raises nothing has changed.
---@async
---@param stream any core stream
function Connection:reconnect(stream)
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
function Connection:wait_open()
  while self.state ~= "open" and self.state ~= "closed" do self.turn:wait() end
  return self.state == "open"
end

-- Nothing was sent yet, so whoever waits here may be cancelled.
---@protected
function Connection:await_connection(op)
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
function Connection:notified(kind, payload)
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
function Connection:on_notify(fn)
  self.listeners[#self.listeners + 1] = fn
  local early = self.early
  self.early = {}
  for _, event in ipairs(early) do fn(event) end
end

---@private
function Connection:lost(e)
  if self.state ~= "open" then return end
  self.lost_error = err.new("unavailable", "the guest connection is lost: " .. one_line(e and e.message or "closed"),
    { origin = "shim", op = "bridge" })
  self:enter(self.expects and "expected" or "lost")
  self.lost_signal:fire(self.lost_error)
end

--- The error that ended the connection, or nil while it lives.
function Connection:is_lost() return self.lost_error end

--- Waits for the end of the connection and returns why it ended.
---@async
function Connection:wait_lost() return self.lost_signal:wait() end

--- Idempotent, and for good. Calls in flight end with `unavailable`.
function Connection:close()
  self:lost(err.new("unavailable", "closed by us"))
  self:enter "closed"
  self.bridge:close()
end

function Connection:is_closed() return self.state == "closed" end

-- Calls --------------------------------------------------------------------------------------------------------

---@private
function Connection:answer(op, payload)
  local answer, e = self.json.decode(payload)
  if type(answer) ~= "table" then
    err.raise("protocol", "%s: the guest's answer is not JSON: %s", op, one_line(e and e.message or payload:sub(1, 80)))
  end
  local result = connection.integer(answer.Result or 0, "Result", op)
  if result ~= 0 then
    local text = type(answer.ErrorMessage) == "string" and answer.ErrorMessage or ("HRESULT 0x%08x"):format(result & 0xffffffff)
    error(classify.refusal("guest", op, result & 0xffffffff, ("%s: %s"):format(op, one_line(text))), 0)
  end
  return answer
end

---@protected
function Connection:exchange(op, kind, request, within)
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

---@protected
function Connection:within(op)
  local limit, left = self.limits[op] or self.limits.default, task.remaining()
  if left and left < limit then return math.max(left, 1) end
  return limit
end

--- A question: its caller may give up at any time.
---@protected
function Connection:ask(op, kind, request)
  self:await_connection(op)
  return self:exchange(op, kind, request, self:within(op))
end

--- A change: runs to its answer or its deadline whatever happens to the caller.
---@protected
function Connection:change(op, kind, request)
  self:await_connection(op)
  local within = self:within(op)
  return task.shield(function() return self:exchange(op, kind, request, within) end)
end

return connection

--- kind "bridge": the connection to the agent, negotiated.
--
-- args    { uvm = receipt }
-- facts   { port }
-- Always  1. acceptance and negotiation stand under one deadline (the caller's, or the client's own limit), and end at
--            once when the VM exits; the error then carries the agent's last words.
--         2. the port listens for as long as the VM lives: an agent whose connection broke calls again.
-- The kind also exports `again`, for whoever decides about a loss.
local client = require "moonshim.guest.client"
local err = require "moonshim.err"
local kind = require "moonshim.kind"
local layout = require "moonshim.guest.layout"
local task = require "moonshim.task"

-- Milliseconds from listening to a negotiated connection when the caller sets no shorter deadline.
local CONNECT_WITHIN = 120000
-- Milliseconds that an agent which called again may take to negotiate, before the next one is listened to.
local NEGOTIATE_WITHIN = 10000

local function connect(world, port)
  local uvm = world.uvm or err.raise("failed_precondition", "bridge: the VM is not there")
  local listener = uvm:listen(port)
  local ok, stream = pcall(listener.accept, listener)
  if not ok then
    listener:close()
    error(stream, 0)
  end
  local connected, guest = pcall(client.connect, stream, { core = world.core })
  if not connected then
    stream:close()
    listener:close()
    error(guest, 0)
  end
  -- A VM that dies while it negotiates must not be waited for until the deadline.
  local watcher = task.spawn(function()
    uvm:wait()
    guest:close()
  end)
  local fine, e = pcall(guest.negotiate, guest)
  watcher:cancel()
  if not fine then
    guest:close()
    listener:close()
    error(e, 0)
  end
  return guest
end

--- After a loss: waits until the agent has called and negotiated again. Ends when the caller's deadline or the VM does.
---@async
---@param world moonshim.World
local function again(world)
  local guest, uvm = world.guest, world.uvm
  if not guest or not uvm then err.raise("unavailable", "bridge: the VM is not there") end
  local listener = uvm:listen(layout.BRIDGE_PORT)
  while true do
    local stream = listener:accept()
    local ok, e = pcall(task.deadline, NEGOTIATE_WITHIN, guest.reconnect, guest, stream)
    if ok then return end
    e = err.from(e)
    -- Our own limit, and a connection that was dead before we looked at it, mean: the next one.
    if err.is(e, "cancelled") or guest:is_closed() or task.remaining() == 0 then error(e, 0) end
    world.log:info("an agent that called again did not negotiate", { error = e })
  end
end

local function explain(world, e)
  if not err.is(e) or e.code == "cancelled" then error(e, 0) end
  local uvm = world.uvm
  local tail = uvm and uvm:tail()
  local text = uvm and not uvm:alive() and "the VM exited during boot" or "the agent does not answer"
  local message = ("%s: %s"):format(text, e.message)
  if tail and not message:find(tail, 1, true) then message = ("%s; its last words: %s"):format(message, tail) end
  error(err.new(e.code, message, { origin = e.origin, op = "connect" }), 0)
end

return kind.define("bridge", {
  v = 1,
  ends_with_boot = true,
  reserve = function() return { port = layout.BRIDGE_PORT } end,
  acquire = function(world, facts)
    local ok, guest = pcall(task.deadline, CONNECT_WITHIN, connect, world, facts.port)
    if not ok then explain(world, guest) end
    world.guest = guest
    return nil, guest
  end,
  release = function(world)
    local guest = world.guest
    world.guest = nil
    if guest then guest:close() end
  end,
  again = again,
  verify = function(world)
    if not world.alive() then return "gone" end
    return world.guest and not world.guest:is_lost() and "held" or "gone"
  end,
  defaults = { within = "2m", retries = 0, on_failure = "continue" },
})

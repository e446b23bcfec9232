--- What kinds see of the outside: one value per VM, handed in, with nothing global behind it.
--
-- Layer      above guest, host and devices.
-- Ownership  the world owns the guest client and the relay thread once they are there; `close` ends them. The uvm is
--            ended by the release of its receipt, not here.
-- See        kinds/*.lua; world.dry is the world of `moonshim plan`
local err = require "moonshim.err"
local layout = require "moonshim.guest.layout"
local log = require "moonshim.log"

---@class moonshim.World
---@field id string id of the VM
---@field host table driver module
---@field uvm table? while this process holds it
---@field guest moonshim.guest.Client?
---@field scsi { controllers: integer, boot: table[] }? the slots of the VM, by its document
---@field boot moonshim.guest.Boot? what its guest dialled at boot
---@field devices moonshim.Devices
---@field relay any core.relay, made when first asked for
---@field ports fun(n: integer?): integer, ... the next n stdio ports
---@field alive fun(): boolean whether the VM runs
---@field log moonshim.Log
---@field run_dir string
---@field dry boolean
---@field programs table moonshim.program or a fake
---@field core any moonshim.core or a fake
local World = {}

local world = {}

-- Looked up when first used, so that a dry world starts no thread and specs need no core.
local LAZY = {
  core = function() return require "moonshim.core" end,
  relay = function(self)
    if self.dry then err.raise("failed_precondition", "a dry world has no relay") end
    return err.try(self.core.relay())
  end,
  programs = function() return require "moonshim.program" end,
  devices = function(self)
    return require("moonshim.devices").new(self, { no_writable = self.no_writable_shares, scsi = rawget(self, "scsi"), core = self.core })
  end,
}

function World.__index(self, key)
  local make = LAZY[key]
  if not make then return World[key] end
  local value = make(self)
  rawset(self, key, value)
  return value
end

--- Idempotent: closes the guest connection, the relay and what this process holds of the VM; the VM itself lives on.
function World:close()
  local guest, relay, uvm, boot = rawget(self, "guest"), rawget(self, "relay"), rawget(self, "uvm"), rawget(self, "boot")
  self.guest = nil
  rawset(self, "relay", nil)
  if guest then guest:close() end
  if relay then relay:close() end
  if boot then boot:close() end
  if uvm and uvm.close then uvm:close() end
end

---@class moonshim.WorldOptions
---@field id string
---@field host table|string|nil a driver, or the name of one; "local" when absent
---@field log moonshim.Log?
---@field clock any?
---@field run_dir string? as the driver says when absent
---@field first_port integer? above every port that an earlier process gave out
---@field no_writable_shares boolean?
---@field core any? these five for specs
---@field uvm table?
---@field guest table?
---@field devices table?
---@field relay any?

---@param opts moonshim.WorldOptions
---@return moonshim.World
function world.new(opts)
  local driver = opts.host or "local"
  if type(driver) == "string" then driver = require("moonshim.host").get(driver) end
  local self = {
    id = opts.id,
    host = driver,
    log = opts.log or log.new(),
    clock = opts.clock,
    run_dir = opts.run_dir or driver.run_dir(opts.id),
    no_writable_shares = opts.no_writable_shares,
    dry = false,
    core = opts.core,
    uvm = opts.uvm,
    guest = opts.guest,
    devices = opts.devices,
    relay = opts.relay,
  }
  local next_port = opts.first_port or layout.FIRST_STDIO_PORT
  -- Ports only grow: a stream of an earlier process may still be on its way.
  function self.ports(n)
    local first = next_port
    next_port = next_port + (n or 1)
    local out = {}
    for i = 1, n or 1 do out[i] = first + i - 1 end
    return table.unpack(out)
  end
  function self.alive()
    local uvm = rawget(self, "uvm")
    return uvm ~= nil and uvm:alive()
  end
  return setmetatable(self, World)
end

--- A world in which names, slots and paths are chosen and nothing happens.
---@param opts { id: string, host: table|string|nil, log: moonshim.Log?, run_dir: string?, core: any? }
---@return moonshim.World
function world.dry(opts)
  local self = world.new(opts)
  self.dry = true
  return self
end

return world

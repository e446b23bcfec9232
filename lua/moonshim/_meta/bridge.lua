---@meta _
---core.bridge: the calls of one guest connection (csrc/bind/bridge.c). The rules of core.lua hold.

---@class moonshim.core
local core = {}

---@class moonshim.BridgeOptions
---@field on_notify fun(type: integer, payload: string)?
---@field on_lost fun(err: moonshim.Error)? once; not after close
---@field max_frame integer? bytes
---@field first_id integer? above all ids used before, after an adoption

---Takes the stream: its object is closed afterwards.
---@param stream moonshim.stream
---@param options moonshim.BridgeOptions?
---@return moonshim.bridge? bridge
---@return moonshim.Error? err
function core.bridge(stream, options) end

---@class moonshim.bridge
local bridge = {}

---@param type integer a request type
---@param payload string
---@param within integer? milliseconds; nil: no deadline
---@param done fun(payload: string?, err: moonshim.Error?) `deadline_exceeded`, `unavailable`
---@return integer? id
---@return moonshim.Error? err
function bridge:call(type, payload, within, done) end

---Nobody waits for it any more; its `done` never runs.
---@param id integer
---@return boolean was_waiting
function bridge:abandon(id) end

---@return integer? id
---@return moonshim.Error? err
function bridge:next_id() end

---@return { pending: integer, sent: integer, received: integer, late: integer, unknown: integer, mismatch: integer, expired: integer }?
---@return moonshim.Error? err
function bridge:counts() end

---@return "open"|"lost"|"closed"
function bridge:state() end

---A fault, for tests: the connection breaks; `on_lost` follows.
function bridge:cut() end

---Calls that still wait fail with `unavailable`, from the loop.
function bridge:close() end

---@meta _
---core.transport: streams (csrc/bind/transport.c). The rules of core.lua hold.

---@class moonshim.core
local core = {}

---@class moonshim.core.transport
core.transport = {}

---Two streams joined in memory.
---@return moonshim.stream? a
---@return moonshim.stream|moonshim.Error b
function core.transport.pair() end

---@param path string of any length
---@param options { mode: integer? }? default 0600
---@param on_accept fun(stream: moonshim.stream) the stream is the callback's
---@return moonshim.listener? listener
---@return moonshim.Error? err `already_exists` when something stands at the path
function core.transport.listen_unix(path, options, on_accept) end

---@param path string
---@param done fun(stream: moonshim.stream?, err: moonshim.Error?) not after cancel
---@return moonshim.connect? request
---@return moonshim.Error? err
function core.transport.connect_unix(path, done) end

---@class moonshim.listener
local listener = {}

---Stops listening and unlinks the socket file if it is still ours.
function listener:close() end

---@class moonshim.connect
local connect = {}

---Then `done` never runs. Does nothing after it has.
function connect:cancel() end

function connect:close() end

---@class moonshim.stream
local stream = {}

---@param data string
---@param done fun(ok: true?, err: moonshim.Error?)?
---@return true? ok
---@return moonshim.Error? err `unavailable`, `resource_exhausted` when too much waits
function stream:write(data, done) end

---Starts, or replaces the reader.
---@param on_data fun(data: string?, err: moonshim.Error?) nil alone is the end
---@return true? ok
---@return moonshim.Error? err
function stream:read(on_data) end

---No delivery until the next read; the peer feels it in the end.
function stream:stop() end

---No more writes; the peer sees the end after what is queued.
---@param done fun(ok: true?, err: moonshim.Error?)?
---@return true? ok
---@return moonshim.Error? err
function stream:shutdown(done) end

---@return { pid: integer, uid: integer, gid: integer }? peer
---@return moonshim.Error? err
function stream:peer() end

---@param fd integer borrowed
---@param data string at least one byte
---@param done fun(ok: true?, err: moonshim.Error?)?
---@return true? ok
---@return moonshim.Error? err `unimplemented` in memory
function stream:send_fd(fd, data, done) end

---Writes that are still queued are dropped; their `done` gets `gone`.
function stream:close() end

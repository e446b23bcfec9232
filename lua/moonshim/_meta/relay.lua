---@meta _
---core.relay: the data thread (csrc/bind/relay.c). The rules of core.lua hold.

---@class moonshim.core
local core = {}

---The data thread.
---@return moonshim.relay? relay
---@return moonshim.Error? err
function core.relay() end

---@class moonshim.IoEnd
---@field fd integer? borrowed; its flags are never changed
---@field path string? a fifo, or a file for outputs

---@class moonshim.IoReport
---@field stdin integer bytes that reached their end
---@field stdout integer
---@field stderr integer
---@field cut boolean the deadline came first
---@field errors { stdin: string?, stdout: string?, stderr: string? }

---@class moonshim.relay
local relay = {}

---Opens the ends and listens on dir/<port>, one connection each. `resume`: the agent dials again when a socket breaks, and
---the stream goes on where it was.
---@param want { name: string, dir: string, tty: boolean?, resume: boolean?, stdin: moonshim.IoEnd?, stdout: moonshim.IoEnd?, stderr: moonshim.IoEnd?, ports: { stdin: integer?, stdout: integer?, stderr: integer? }, on_ready: fun(err: moonshim.Error?)?, on_drained: fun(report: moonshim.IoReport)? }
---@return moonshim.io? io
---@return moonshim.Error? err
function relay:open(want) end

---Every io is closed and the thread joined.
function relay:close() end

---@class moonshim.io
local io = {}

---The process has exited: drain, for at most that long, then close; on_drained follows once.
---@param drain_ms integer
---@return true? ok
---@return moonshim.Error? err
function io:exited(drain_ms) end

---@return true? ok
---@return moonshim.Error? err
function io:close_stdin() end

---A fault, for tests: the socket of one stream breaks.
---@param stream "stdin"|"stdout"|"stderr"
---@return true? ok
---@return moonshim.Error? err
function io:cut(stream) end

---@return { stdin: integer, stdout: integer, stderr: integer } bytes so far
function io:counts() end

function io:close() end

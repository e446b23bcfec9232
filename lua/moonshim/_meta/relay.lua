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
---@field path string? a fifo
---@field lossy boolean? of an output: when its reader has left for good the program goes on, and what it prints is counted and dropped

---@class moonshim.IoReport
---@field stdin integer bytes that reached their end
---@field stdout integer
---@field stderr integer
---@field cut boolean a deadline came first
---@field dropped { stdout: integer?, stderr: integer? } bytes thrown away for want of a reader (lossy)
---@field errors { stdin: string?, stdout: string?, stderr: string? }

---@class moonshim.relay
local relay = {}

---Opens the ends and listens on dir/<port>, one connection each. `resume`: the agent dials again when a socket breaks, and
---the stream goes on where it was. `away`: milliseconds that output waits for a fifo's reader to come back, 0 for ever.
---@param want { name: string, dir: string, tty: boolean?, resume: boolean?, away: integer?, stdin: moonshim.IoEnd?, stdout: moonshim.IoEnd?, stderr: moonshim.IoEnd?, ports: { stdin: integer?, stdout: integer?, stderr: integer? }, on_ready: fun(err: moonshim.Error?)?, on_drained: fun(report: moonshim.IoReport)? }
---@return moonshim.io? io
---@return moonshim.Error? err
function relay:open(want) end

---Every io is closed and the thread joined.
function relay:close() end

---@class moonshim.io
local io = {}

---The process has exited: drain until nothing has moved for `idle_ms`, at most `most_ms`, then close; on_drained follows once.
---@param idle_ms integer
---@param most_ms integer
---@return true? ok
---@return moonshim.Error? err
function io:exited(idle_ms, most_ms) end

---@return true? ok
---@return moonshim.Error? err
function io:close_stdin() end

---The VM has ended: nobody dials any more. What has arrived is moved, then the streams end; nothing waits for a socket.
---@return true? ok
---@return moonshim.Error? err
function io:gone() end

---A fault, for tests: the socket of one stream breaks.
---@param stream "stdin"|"stdout"|"stderr"
---@return true? ok
---@return moonshim.Error? err
function io:cut(stream) end

---@return { stdin: integer, stdout: integer, stderr: integer } bytes so far
function io:counts() end

function io:close() end

---@meta _
---core.script: a Lua state of its own for an operator's script (csrc/bind/script.c). The rules of core.lua hold.

---@class moonshim.core
local core = {}

---@class moonshim.ScriptOptions
---@field source string text of the script
---@field chunkname string? "@path" for files
---@field prelude string? trusted Lua, run first in the same state; gets `verbs`: request(data, name?) asks the engine and returns its answer, result() is what the script returned; returns a table of functions that can be called by name
---@field memory integer? bytes, default 64 MiB
---@field instructions integer? per call, default 10 million
---@field cpu_ms integer? processor time per call, default 2000

---A Lua state of its own for an operator's script. Runs prelude and source.
---@param options moonshim.ScriptOptions
---@return moonshim.script? script closed by its owner
---@return moonshim.Error? err `invalid_argument` (syntax, data that cannot cross), `resource_exhausted` (a budget), `aborted` (it raised), or the code of a raised error value
function core.script(options) end

---@class moonshim.script
local script = {}

---Runs a function of the prelude's table, of the script's table, or by the number under which it crossed. "main" of
---neither gives the script's results again. Only plain data crosses; functions in results become {["function"]=number}.
---@param what string|integer
---@param ... any
---@return "return"|"yield"|nil how "yield": the request, and the number of the call, follow
---@return any ... values, or moonshim.Error
function script:call(what, ...) end

---Answers the newest waiting call.
---@param ... any
---@return "return"|"yield"|nil how
---@return any ...
function script:resume(...) end

---Answers that call.
---@param call integer
---@param ... any
---@return "return"|"yield"|nil how
---@return any ...
function script:resume_call(call, ...) end

---Drops a waiting call, which never goes on.
---@param call integer? the newest without
---@return boolean was_waiting
function script:abandon(call) end

---The engine will not call that function any more.
---@param id integer
function script:forget(id) end

---@return { memory: integer, functions: integer, waiting: integer }
function script:counts() end

function script:close() end

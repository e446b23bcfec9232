---@meta _
---core.sys, continued: processes, locks, what the boot says (csrc/bind/process.c). The rules of core.lua hold.

---@class moonshim.core
local core = {}

---@param process { pid: integer, start_time: integer? }
---@param done fun(how: { code: integer?, signal: integer?, gone: boolean? })
---@return moonshim.watch? watch
---@return moonshim.Error? err `gone`
function core.sys.watch_process(process, done) end

---@param process { pid: integer, start_time: integer?, signal: integer }
---@return true? ok
---@return moonshim.Error? err `gone`
function core.sys.kill_process(process) end

---@param pid integer
---@return integer? ticks since boot
---@return moonshim.Error? err `gone`
function core.sys.start_time(pid) end

---@return string? id
---@return moonshim.Error? err
function core.sys.boot_id() end

---@param bytes integer 1 to 256
---@return string? text
---@return moonshim.Error? err
function core.sys.random_hex(bytes) end

---An exclusive lock, read-write and appending; the kernel ends it with the process. Never waits.
---@param path string
---@param options { create: boolean?, mode: integer? }? default true, 0600
---@return moonshim.lock? lock
---@return moonshim.Error? err `failed_precondition` names the holder
function core.sys.lock_file(path, options) end

---@class moonshim.watch
local watch = {}

---Then `done` never runs.
function watch:close() end

---@class moonshim.lock
local lock = {}

---Lent: the lock closes it.
---@return integer? fd
---@return moonshim.Error? err
function lock:fd() end

function lock:close() end

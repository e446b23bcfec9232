---@meta moonshim.core
---Types of the C module, for editors and for scripts/check_meta.lua, which compares them with what csrc/bind registers. This
---file has what belongs to no bound type; each of those has a file beside it, named like its file in csrc/bind.
---
---Rules that hold everywhere:
---  * A wrong argument raises; everything else comes back as `nil, err` with a `moonshim.Error`.
---  * A completion runs once, from the loop, on the main state, never before the call that took it has returned. If the
---    call fails, it never runs. What it raises goes to `core.on_error`.
---  * `close()` may be called any number of times; after it every method answers `nil, err` with code `gone` (the bridge:
---    `unavailable`). Objects are to-be-closed values. One with a callback out is kept alive until that has run.

---@class moonshim.Error
---@field code string one of core.codes
---@field message string one line, context first
---@field origin "shim"|"host"|"guest"
---@field op string? the operation that failed
---@field hresult integer? the platform's or the guest's number, unsigned
---@field traceback string? of a script
---@field holder integer? pid of who has a lock

---@class moonshim.core
---@field version string
---@field codes string[]
local core = {}

---Milliseconds of the monotonic clock.
---@return integer
function core.now() end

---CRC-32 of the bytes, as zlib has it.
---@param bytes string
---@return integer
function core.crc32(bytes) end

---Who hears of errors that a callback raised: a string with its traceback, or an error value. nil: standard error.
---@param hook fun(error: any)?
function core.on_error(hook) end

---What is alive, for leak checks: registry references and open objects.
---@return { refs: integer, objects: integer }
function core.stats() end

return core

---@meta _
---core.sys, continued: loop devices (csrc/bind/loop.c). The rules of core.lua hold.

---@class moonshim.core
local core = {}

---@class moonshim.LoopDevice
---@field index integer
---@field major integer
---@field minor integer
---@field dev integer of the file behind it
---@field ino integer
---@field tag string

---The device clears itself when this process ends.
---@param want { path: string, read_only: boolean?, size: integer?, tag: string }
---@param done fun(device: moonshim.LoopDevice?, err: moonshim.Error?)
---@return true? ok
---@return moonshim.Error? err
function core.sys.loop_attach(want, done) end

---@param device { index: integer, dev: integer, ino: integer, tag: string }
---@param done fun(ok: true?, err: moonshim.Error?) `gone`: none, or another file behind it; `failed_precondition`: mounted
---@return true? ok
---@return moonshim.Error? err
function core.sys.loop_detach(device, done) end

---@param device { index: integer, dev: integer, ino: integer, tag: string }
---@param done fun(ok: true?, err: moonshim.Error?) `gone`
---@return true? ok
---@return moonshim.Error? err
function core.sys.loop_verify(device, done) end

--- What a failed operation means: the one place where an error becomes a decision.
--
-- Layer    no calls; plain tables (classify/guest.lua, host.lua, shim.lua) and the function that reads them.
-- Words    origin = who said no; operation = "modify.remove.CombinedLayers"; alive = whether the VM still runs.
--          Classes:
--            gone     the thing to be released does not exist any more; for a release this is success
--            failed   a definite no: nothing changed, or what changed was put back
--            unknown  nobody can tell whether it happened
-- Always   1. the first row that fits decides; each file ends with a row that fits everything.
--          2. a number alone never decides: a live guest that says "invalid state" to a delete has not released.
--          3. codes, never texts.
-- See      spec/unit/classify/classify_spec.lua tests every row
local err = require "moonshim.err"

---@alias moonshim.Class "gone"|"failed"|"unknown"

---@class moonshim.ClassRow
---@field op string Lua pattern for the whole operation name
---@field code string|string[]|nil our code; nil fits every code
---@field hresult string|string[]|nil as `classify.normal` writes it; nil fits every number
---@field alive boolean? nil fits both
---@field class moonshim.Class
---@field why string

---@class moonshim.classify
local classify = {}

classify.tables = {
  guest = require "moonshim.classify.guest",
  host = require "moonshim.classify.host",
  shim = require "moonshim.classify.shim",
}

--- One spelling for the forms a result code comes in: HCS codes of both severities ("hcs:0105"), Win32 codes bare or
--- as HRESULT ("win32:0490"), the rest as it is ("80004005"). Takes signed and unsigned 32-bit numbers.
---@param hresult integer
---@return string
function classify.normal(hresult)
  local hr = hresult & 0xffffffff
  if hr & 0x0fff0000 == 0x00370000 then return ("hcs:%04x"):format(hr & 0xffff) end
  if hr & 0x1fff0000 == 0x00070000 or hr < 0x10000 then return ("win32:%04x"):format(hr & 0xffff) end
  return ("%08x"):format(hr)
end

-- The meaning of a number, without regard to the operation.
local CODES = {
  ["hcs:0105"] = "failed_precondition", -- invalid state
  ["hcs:0106"] = "unavailable", -- unexpected exit
  ["hcs:0107"] = "unavailable", -- terminated
  ["hcs:0108"] = "unavailable", -- connect failed
  ["hcs:0109"] = "deadline_exceeded",
  ["hcs:010a"] = "unavailable", -- connection closed
  ["hcs:010b"] = "unimplemented", -- unknown message
  ["hcs:010c"] = "unimplemented", -- protocol version
  ["hcs:010d"] = "invalid_argument", -- JSON
  ["hcs:010e"] = "not_found",
  ["hcs:010f"] = "already_exists",
  ["hcs:0110"] = "failed_precondition", -- already stopped
  ["hcs:0111"] = "protocol",
  ["hcs:0118"] = "deadline_exceeded",
  ["hcs:011b"] = "permission_denied",
  ["hcs:011f"] = "failed_precondition", -- process already stopped
  ["win32:0002"] = "not_found",
  ["win32:0005"] = "permission_denied",
  ["win32:0006"] = "failed_precondition", -- invalid handle
  ["win32:000d"] = "invalid_argument",
  ["win32:000e"] = "resource_exhausted",
  ["win32:0032"] = "unimplemented",
  ["win32:0057"] = "invalid_argument",
  ["win32:0490"] = "not_found",
  ["80004001"] = "unimplemented",
  ["80004005"] = "unknown",
}

--- Our code for a result code.
---@param hresult integer
---@return string
function classify.code(hresult) return CODES[classify.normal(hresult)] or "unknown" end

--- The error value for a refusal that carries a result code.
---@param origin "guest"|"host"
---@param op string
---@param hresult integer
---@param message string
function classify.refusal(origin, op, hresult, message)
  return err.new(classify.code(hresult), message, { origin = origin, op = op, hresult = hresult & 0xffffffff })
end

local function fits(want, have)
  if want == nil then return true end
  if type(want) == "string" then return want == have end
  for _, one in ipairs(want) do
    if one == have then return true end
  end
  return false
end

--- The row that decides, for tests and for `why`.
---@param e { code: string, origin: string?, op: string?, hresult: integer? }
---@param context { op: string?, alive: boolean, asked: "host"|"guest"|nil }
---@return moonshim.ClassRow
function classify.row(e, context)
  local origin = e.origin or "shim"
  if origin == "shim" and context.asked == "host" then origin = "host" end
  local op = context.op or e.op or ""
  local hresult = e.hresult and e.hresult ~= 0 and classify.normal(e.hresult) or nil
  for _, row in ipairs(classify.tables[origin] or classify.tables.shim) do
    if (row.alive == nil or row.alive == context.alive)
      and fits(row.code, e.code) and fits(row.hresult, hresult) and op:find("^" .. row.op .. "$")
    then
      return row
    end
  end
  return error("classify: a table without a last row", 0)
end

--- What the error means for the operation that met it.
---@param e { code: string, origin: string?, op: string?, hresult: integer? }
---@param context { op: string?, alive: boolean, asked: "host"|"guest"|nil } op: taken from the error when absent; asked: who
---did not answer, when nobody did: the death of the VM is an answer of its guest, and none of the host
---@return moonshim.Class
function classify.class(e, context)
  if e.code == "gone" then return "gone" end
  return classify.row(e, context).class
end

--- Runs a release step: an error of class "gone" is success, every other error goes on.
---@param context { op: string?, alive: (fun(): boolean), asked: "host"|"guest"|nil }
---@param fn fun()
---@return "done"|"gone"
function classify.release(context, fn)
  local ok, e = pcall(fn)
  if ok then return "done" end
  if type(e) ~= "table" or not e.code then error(e, 0) end
  if classify.class(e, { op = context.op, alive = context.alive(), asked = context.asked }) == "gone" then return "gone" end
  return error(e, 0)
end

return classify

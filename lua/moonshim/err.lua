--- err - the one error value, the same in Lua and in C (csrc/base/err.h).
--
-- Inside moonshim functions *raise* error values; the public door turns them into `nil, err` with `guarded`.
-- A raised string is a bug, never an outcome: nothing here catches it. Branch on `code`, never on text.

---@class moonshim.Err
---@field code string one of `err.codes`
---@field message string one line, context first
---@field hresult integer? the platform's or the guest's number, for people and logs
---@field origin string? who said no: "shim", "host" or "guest"
---@field op string? the operation that failed
---@field others moonshim.Err[]? what else failed in the same breath (task.all)
local Err = { __name = "moonshim.Err" }
Err.__index = Err

local err = {}

---The containerd classes plus `gone` (proof that the thing no longer exists), `protocol` and `again`. A set.
err.codes = {}
for code in ([[
  ok unknown invalid_argument not_found already_exists permission_denied resource_exhausted failed_precondition
  aborted out_of_range unimplemented internal unavailable data_loss deadline_exceeded cancelled gone protocol again
]]):gmatch("%S+") do
  err.codes[code] = true
end

-- luv answers `nil, "ENOENT: no such file: /x", "ENOENT"`; these are the names worth telling apart.
local ERRNO = {
  EISDIR = "invalid_argument",
  ENOENT = "not_found", ENOTDIR = "not_found", ESRCH = "gone", EEXIST = "already_exists", EACCES = "permission_denied",
  EPERM = "permission_denied", EROFS = "permission_denied", ENOSPC = "resource_exhausted", EDQUOT = "resource_exhausted",
  EMFILE = "resource_exhausted", ENFILE = "resource_exhausted", ENOMEM = "resource_exhausted", EINVAL = "invalid_argument",
  ENAMETOOLONG = "invalid_argument", EBUSY = "failed_precondition", ENOTEMPTY = "failed_precondition",
  ETIMEDOUT = "deadline_exceeded", ECANCELED = "cancelled", EAGAIN = "again", EPIPE = "unavailable",
  ECONNREFUSED = "unavailable", ECONNRESET = "unavailable", ENOSYS = "unimplemented", EOPNOTSUPP = "unimplemented",
}

local function is_value(e)
  return type(e) == "table" and type(rawget(e, "code")) == "string"
end

---Makes an error value. `fields` (hresult, origin, op, ...) are copied in.
---@param code string
---@param message string
---@param fields table?
---@return moonshim.Err
function err.new(code, message, fields)
  if not err.codes[code] then
    error(("err.new: no such code: %s"):format(tostring(code)), 2)
  end
  local e = { origin = "shim" }
  for k, v in pairs(fields or {}) do
    e[k] = v
  end
  e.code, e.message = code, message
  return setmetatable(e, Err)
end

---Raises a new error value; `fmt` and what follows go to string.format.
function err.raise(code, fmt, ...)
  error(err.new(code, select("#", ...) > 0 and fmt:format(...) or fmt), 0)
end

---True when `e` is an error value with one of the given codes (with no code given: any error value).
---@return boolean
function err.is(e, ...)
  if not is_value(e) then
    return false
  end
  for i = 1, select("#", ...) do
    if e.code == select(i, ...) then
      return true
    end
  end
  return select("#", ...) == 0
end

---Makes an error value of anything that was raised or answered. Error values stay what they are (plain tables
---that come from C get the metatable); a string becomes `internal` and keeps its text, traceback and all.
---@return moonshim.Err
function err.from(any)
  if is_value(any) then
    if getmetatable(any) == nil then
      any.message = any.message or any.code
      setmetatable(any, Err)
    end
    return any
  end
  if type(any) == "table" and rawget(any, "message") ~= nil then
    return err.new("internal", tostring(any.message))
  end
  return err.new("internal", any == nil and "failed without a reason" or tostring(any))
end

---Returns all its arguments, or raises the second when the first is nil or false. Knows luv's way of failing
---(`nil, text, "ENOENT"`) too.
function err.try(v, e, ...)
  if v then
    return v, e, ...
  end
  if type(e) == "string" then
    e = err.new(ERRNO[(...)] or ERRNO[e:match("^(E%u+):")] or "internal", e)
  end
  error(err.from(e), 0)
end

---A new value with "context: " in front of the message and everything else the same.
---@return moonshim.Err
function err.wrap(e, context)
  e = err.from(e)
  local copy = {}
  for k, v in pairs(e) do
    copy[k] = v
  end
  copy.message = ("%s: %s"):format(context, e.message)
  return setmetatable(copy, Err)
end

---For xpcall: leaves values alone and gives a bug its traceback, once.
function err.traceback(e)
  if type(e) == "string" and not e:find("stack traceback:", 1, true) then
    return debug.traceback(e, 2)
  end
  return e
end

local function answer(ok, ...)
  if ok then
    return ...
  end
  local e = ...
  if is_value(e) then
    return nil, err.from(e)
  end
  error(e, 0)
end

---The public edge: a raised error value comes back as `nil, e`; a bug goes on up, with its traceback.
---@param fn function
---@return function
function err.guarded(fn)
  return function(...)
    return answer(xpcall(fn, err.traceback, ...))
  end
end

---"code: message", one line for people.
---@return string
function err.tostring(e)
  if is_value(e) then
    return ("%s: %s"):format(e.code, tostring(e.message))
  end
  return tostring(e)
end

Err.__tostring = err.tostring

return err

---Pods that a spec drives from code, through `require "moonshim"`.
local command = require "e2e.command"

local driven = {}

---A command that does nothing until TERM, and then ends with 0.
driven.FOREVER = { "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done" }

---A container on the busybox root that does nothing until TERM; `fields` change that.
function driven.plain(fields)
  local c = { rootfs = command.root(), args = driven.FOREVER }
  for key, value in pairs(fields or {}) do c[key] = value end
  return c
end

---Starts the pod, calls fn(pod), stops the pod whatever happened.
---@param pod table as a pod file returns it
---@param fn fun(pod: moonshim.PodHandle)
---@param opts table? for moonshim.start
function driven.with_pod(pod, fn, opts)
  local moonshim = require "moonshim"
  local start = { run_dir = command.run_dir }
  for key, value in pairs(opts or {}) do start[key] = value end
  moonshim.run(function()
    local handle = assert(moonshim.start(moonshim.pod(pod), start))
    local ok, e = xpcall(fn, moonshim.err.traceback, handle)
    local stopped, why = handle:stop()
    if not ok then error(e, 0) end
    assert(stopped, why)
  end)
end

return driven

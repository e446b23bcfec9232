---Default decisions about processes.
local process = {}

process.limits = {
  start = "60s",   -- from the request to the guest's pid
  drain = "1s",    -- after the exit: how long output that is on its way may stand still
  drain_most = "10s", -- ... and how long it may take at all, since a child may go on printing for ever
  kill = "30s",    -- the guest's answer to a signal
  resize = "10s",
  freeze = "15s",  -- pause and resume; the guest gives up freezing after 5s
  overdue = "5s",  -- from the kill of one whose time is over to the next
  vanished = "2s", -- between "there is no such process" and giving up on its exit code
}

---An exec: its stdio is open before it exists. Nothing runs before its start.
---@param c moonshim.Recipe
---@param request moonshim.ExecRequest
---@return moonshim.Receipt process
---@return moonshim.Receipt? stdio
function process.create(c, request)
  local logger = c:acquire("logger", request.logger)
  local stdio = c:acquire("stdio", c:streams(request.io, logger))
  local receipt = c:acquire("process", {
    exec = c.exec, pod = c.pod, container = c.id, bundle = c.bundle, stdio = stdio, oci_process = c:exec_process(request),
  })
  return receipt, stdio
end

return process

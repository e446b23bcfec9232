---Stops a process by SIGSTOP, and returns when it stands still: a thread that the kernel keeps stops only when it lets go.
local uv = require "luv"

local LIMIT_MS = 600000

local function state_of(path)
  local file = io.open(path .. "/stat")
  local text = file and file:read "a"
  if file then file:close() end
  return text and text:match "%) (%a)"
end

local function stands(pid)
  local scan = uv.fs_scandir(("/proc/%d/task"):format(pid))
  while scan do
    local thread = uv.fs_scandir_next(scan)
    if not thread then break end
    if not (state_of(("/proc/%d/task/%s"):format(pid, thread)) or "X"):find "[TtZX]" then return false end
  end
  return true
end

---@param pid integer
---@return boolean stopped false when it has ended instead
return function(pid)
  local from = uv.hrtime()
  uv.kill(pid, "sigstop")
  while not stands(pid) do
    if uv.hrtime() - from > LIMIT_MS * 1000000 then error(("process %d does not stop"):format(pid), 2) end
    uv.sleep(1)
  end
  return (state_of(("/proc/%d"):format(pid)) or "X"):find "[Tt]" ~= nil
end

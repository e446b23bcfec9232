--- journal/holder - who has the lock of a journal, and whether that process is just ending.
--
-- The kernel lets go of a lock when the last descriptor closes, and that is a moment after a SIGKILL: while the threads of
-- who was killed end one by one, and while a child that it had just forked has not become another program yet. Who cleans
-- up right after a kill waits for that moment instead of taking the dead for somebody who is at work.

local err = require "moonshim.err"
local folder = require "moonshim.folder"
local task = require "moonshim.task"

local holder = {}

-- How long the end of a process may take. A lock whose holder cannot be told (it has ended in another process namespace than
-- the first, or lives in one that cannot be seen) is waited for not as long. Milliseconds.
local ENDS_WITHIN, UNKNOWN_WITHIN = 30000, 1000
local LONGEST_PAUSE = 50

local KILL = 1 << 8
local EXITING = 4 -- PF_EXITING

local function read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read(8192)
  file:close()
  return text
end

-- A thread is ending when it is a zombie, on its way out, or has a SIGKILL before it.
local function thread_ends(dir)
  local stat = read(dir .. "/stat")
  local state, flags = (stat or ""):match "^.*%) (%a) %-?%d+ %-?%d+ %-?%d+ %-?%d+ %-?%d+ (%d+)"
  if not state or state == "Z" or state == "X" or math.tointeger(tonumber(flags)) & EXITING ~= 0 then return true end
  for set in (read(dir .. "/status") or ""):gmatch "Pnd:%s*(%x+)" do
    if tonumber(set, 16) & KILL ~= 0 then return true end
  end
  return false
end

---Whether a process has ended or is about to: one of its threads is ending. So a thread that ends on its own is taken for the
---whole for that moment; who looks again soon sees better.
---@param pid integer
---@param proc string? /proc; for specs
---@return boolean
function holder.is_ending(pid, proc)
  local tasks = ("%s/%d/task"):format(proc or "/proc", pid)
  local threads = folder.names(tasks)
  for _, name in ipairs(threads) do
    if thread_ends(tasks .. "/" .. name) then return true end
  end
  return #threads == 0
end

---Calls `take`, which takes a lock; while that is refused because of a holder that is just ending, waits and calls it again.
---@async
---@param take fun(): any
---@param proc string? /proc; for specs
---@return any what `take` returned
function holder.outlast(take, proc)
  local from, pause = task.now(), 2
  while true do
    local ok, result = pcall(take)
    if ok then return result end
    if not err.is(result, "failed_precondition") then error(result, 0) end
    local waited = task.now() - from
    if result.holder then
      if not holder.is_ending(result.holder, proc) then error(result, 0) end
    elseif waited >= UNKNOWN_WITHIN then
      error(result, 0)
    end
    if waited >= ENDS_WITHIN then
      err.raise("unavailable", "%s; that process has been ending for %d s", result.message, ENDS_WITHIN // 1000)
    end
    task.sleep(pause)
    pause = math.min(pause * 2, LONGEST_PAUSE)
  end
end

return holder

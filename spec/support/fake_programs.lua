--- support/fake_programs - programs beside us that do as a spec says, in the place of moonshim.program.
--
--   local programs = fake_programs.new { ready = 500 }     ready after that many milliseconds; false: never
--   programs.next = { hangs = true }                       of the next one: does not end when its pipes close
--   programs.next = { ends = { 3, 0 } }                    ends at once, with code 3, instead of being ready
--   programs.refuse = err.new(...)                         cannot be started
--   programs.started                                       all of them: { opts, open = { stdout, stderr }, kills, ... }
local err = require "moonshim.err"
local task = require "moonshim.task"

local fake = {}

local Program = {}
Program.__index = Program

function Program:finish(code, signal)
  self.ready:fire(false)
  self.ended:fire(code, signal)
end

function Program:ending() return self.ended:fired() end
function Program:wait() return self.ended:wait() end

function Program:kill()
  self.kills = self.kills + 1
  if not self.immortal then self:finish(0, 9) end
end

function Program:close_stream(stream)
  self.open[stream], self[stream] = nil, nil
end

-- Whoever borrowed a pipe has closed it by the time that this is called.
function Program:close()
  self:close_stream "stdout"
  self:close_stream "stderr"
  self.closed = true
  if not self.hangs and not self.immortal then
    task.detach(function()
      task.sleep(self.takes or 10)
      self:finish(0, 0)
    end)
  end
end

function fake.new(opts)
  local programs = { started = {}, by_pid = {}, default = opts or {} }
  function programs.start(how)
    if programs.refuse then error(programs.refuse, 0) end
    local n = #programs.started + 1
    local p = setmetatable({
      opts = how, pid = 5000 + n, start_time = 77, ready = task.signal(), ended = task.signal(), kills = 0,
      open = { stdout = true, stderr = true }, stdout = 100 + 2 * n, stderr = 101 + 2 * n,
    }, Program)
    for key, value in pairs(programs.next or programs.default) do if key ~= "ready" then p[key] = value end end
    local ready = (programs.next or programs.default).ready
    programs.started[n], programs.by_pid[p.pid], programs.next = p, p, nil
    if p.ends then
      p:finish(table.unpack(p.ends))
    elseif ready ~= false then
      task.detach(function()
        task.sleep(ready or 1)
        p.ready:fire(true)
      end)
    end
    return p
  end
  -- As another process of ours would find them.
  function programs.open(facts)
    local p = programs.by_pid[facts.pid]
    if not p or p.start_time ~= facts.start_time or p.ended:fired() then return nil end
    return p
  end
  return programs
end

fake.refusal = function() return err.new("not_found", "start the program /none: ENOENT: no such file or directory") end

return fake

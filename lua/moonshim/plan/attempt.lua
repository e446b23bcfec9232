--- plan/attempt - one step, in the time that it has: a release again and again until it works, a hook once.
--
-- Always  1. a step ends within its limit: waiting for another run, all attempts and the pauses between them.
--         2. one release per receipt at a time, whatever number of runs want it.
--         3. gone is as good as done. Done is believed, except of a kind that says check_release: that one is asked again.
--         4. nothing here changes the ledger: what an outcome means is the engine's to say (plan/run).

local err = require "moonshim.err"
local record = require "moonshim.journal.record"
local task = require "moonshim.task"

local attempt = {}

local MAX_BACKOFF = 10000

local function call_release(ledger, step, goal, n, within)
  local r = step.receipt
  local k = ledger:kind_of(r)
  local facts = record.plain(r.facts)
  k.release(ledger.world, facts, {
    goal = goal, within = within, attempt = n, args = step.args, name = step.name, owner = r.owner, receipt = r,
  })
  if k.check_release and k.verify(ledger.world, facts) == "held" then
    err.raise("failed_precondition", "it is still held after its release")
  end
end

-- Or until retries or time are used up. Returns outcome, attempts, error.
local function until_it_works(ledger, step, due, opts)
  local n = 0
  while true do
    n = n + 1
    local left = math.max(0, due - task.now())
    local ok, e = xpcall(task.deadline, err.traceback, left, call_release, ledger, step, opts.goal, n, left)
    if ok then
      return "done", n
    elseif err.is(e, "gone") then
      return "gone", n
    end
    local pause = math.min(step.backoff << math.min(n - 1, 16), MAX_BACKOFF)
    if n > step.retries or opts.stopping() or task.now() + pause >= due then
      return "failed", n, err.from(e)
    end
    opts.on_retry(e)
    task.sleep(pause)
  end
end

---Another run may be at the receipt: one that gave way to us, or for which it is a debt.
---@async
---@param ledger moonshim.Ledger
---@param step moonshim.Step one with a receipt
---@param opts { goal: string, within: integer, stopping: fun(): boolean, on_retry: fun(e: any) } ms; stopping: no further attempt
---@return "done"|"gone"|"failed" outcome
---@return integer attempts
---@return moonshim.Err?
function attempt.release(ledger, step, opts)
  local r, due = step.receipt, task.now() + opts.within
  while ledger.releasing[r] do
    local ok, e = pcall(task.deadline, math.max(0, due - task.now()), ledger.releasing[r].wait, ledger.releasing[r])
    if not ok then
      return "failed", 0, err.wrap(err.from(e), "another run is at it")
    end
  end
  if ledger:get(r.name) ~= r then
    return "gone", 0
  elseif step.refusal then
    return "failed", 0, step.refusal
  end
  local over = task.signal()
  ledger.releasing[r] = over
  local outcome, attempts, e = until_it_works(ledger, step, due, opts)
  ledger.releasing[r] = nil
  over:fire()
  return outcome, attempts, e
end

---@async
---@param step moonshim.Step one of an edit
---@param ctx any what its function gets beside it
---@return "done"|"failed" outcome
---@return integer attempts
---@return moonshim.Err?
function attempt.hook(step, ctx)
  local ok, e = xpcall(task.deadline, err.traceback, step.within, step.run, step, ctx)
  if ok then
    return "done", 1
  end
  return "failed", 1, err.from(e)
end

return attempt

--- plan/check - may this plan run? Looks at the finished plan only, so it does not matter how it came to be as it is.

local edit = require "moonshim.plan.edit"
local err = require "moonshim.err"
local graph = require "moonshim.plan.graph"

local check = {}

local function unsafe(fmt, ...)
  err.raise("failed_precondition", "this plan may not run: " .. fmt, ...)
end

local function check_step(p, step)
  if p.by_name[step.name] ~= step then
    unsafe("%s is not the step that was planned", tostring(step.name))
  elseif math.type(step.within) ~= "integer" or step.within < 0 or step.within > edit.MAX_WITHIN then
    unsafe("%s: within is %s", step.name, tostring(step.within))
  elseif math.type(step.retries) ~= "integer" or step.retries < 0 or step.retries > edit.MAX_RETRIES then
    unsafe("%s: retries is %s", step.name, tostring(step.retries))
  elseif math.type(step.backoff) ~= "integer" or step.backoff < 0 or step.backoff > edit.MAX_BACKOFF then
    unsafe("%s: backoff is %s", step.name, tostring(step.backoff))
  elseif step.on_failure ~= "stop" and step.on_failure ~= "continue" and step.on_failure ~= "debt" then
    unsafe("%s: on_failure is %s", step.name, tostring(step.on_failure))
  elseif step.on_failure == "debt" and (step.hook or step.ends_world) then
    unsafe("%s cannot be a debt", step.name)
  elseif step.hook and type(step.run) ~= "function" then
    unsafe("%s has nothing to run", step.name)
  end
  for _, name in ipairs(step.after) do
    if not p.by_name[name] then
      unsafe("%s waits for %s, which is no step", step.name, name)
    end
  end
end

-- Every receipt that is still there keeps its place behind those that need it.
local function check_receipts(p)
  for _, r in ipairs(p.ledger:under(p.owner)) do
    if not p.by_name[r.name] and not p.settled[r.name] then
      unsafe("the ledger has changed since it was derived: %s came after", r.name)
    end
  end
  local listed = {}
  for _, step in ipairs(p.steps) do
    listed[step] = true
  end
  for name, step in pairs(p.by_name) do
    if not listed[step] then
      unsafe("the step %s was taken out", name)
    end
    for _, needed in ipairs(step.receipt and step.receipt.needs or {}) do
      local below = p.by_name[needed]
      local kept = not below or graph.waits(below, name) or (p.goal == "crash" and below.ends_world)
      if not kept and not graph.reaches(p.by_name, name, needed) then
        unsafe("%s must go before %s, which it needs", name, needed)
      end
    end
  end
end

function check.validate(p)
  for _, step in ipairs(p.steps) do
    check_step(p, step)
  end
  check_receipts(p)
  graph.sort(p.steps, p.by_name, p.preference, p.preferences)
  return true
end

return check

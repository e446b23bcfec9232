---The API that an operator's script sees, as source text: it runs in the script's own state before the script does
---(csrc/bind/script.c), where nothing of this state can be reached. Text, since only text is loaded there.
---
---The script records; the engine applies. An edit carries the place where it was written, so that a refusal can name it.
return [==[
local verbs = ...

local type, error, pcall, ipairs, pairs, setmetatable = type, error, pcall, ipairs, pairs, setmetatable
local tostring, format = tostring, string.format

-- Levels of error(): every function of the API calls one local function that does the work, so that the script's line is
-- always as many calls away.

local STEP = { name = "string", within = true, on_failure = "string", run = "function" }
local TUNE = { within = true, retries = "number", backoff = true, on_failure = "string" }

local function check(what, options, fields)
  if type(options) ~= "table" then error(format("%s expects a table, got %s", what, type(options)), 4) end
  for key, value in pairs(options) do
    local want = fields[key]
    if not want then
      local known = {}
      for name in pairs(fields) do known[#known + 1] = name end
      error(format("%s: unknown field %s (known: %s)", what, tostring(key), table.concat(known, ", ")), 4)
    end
    if want ~= true and type(value) ~= want then
      error(format("%s: %s must be a %s, got %s", what, key, want, type(value)), 4)
    end
    if want == true and type(value) ~= "string" and type(value) ~= "number" then
      error(format('%s: %s must be a duration such as "5s", got %s', what, key, type(value)), 4)
    end
  end
end

local Plan = {}
Plan.__index = Plan
Plan.__name = "plan"

local function target_of(what, target)
  if type(target) ~= "string" then error(format("%s: the first argument names a kind or a step, got %s", what, type(target)), 4) end
  return target
end

local function record(plan, edit)
  local _, at = pcall(error, "", 5) -- "file:line: " of the script
  edit.at = at
  plan.edits[#plan.edits + 1] = edit
end

local function hook(plan, op, target, options)
  target_of("plan:" .. op, target)
  check("plan:" .. op, options, STEP)
  if not options.name then error(format("plan:%s: name is missing", op), 3) end
  if not options.run then error(format("plan:%s: run is missing", op), 3) end
  record(plan, { op = op, target = target, name = options.name, within = options.within, on_failure = options.on_failure,
    run = options.run })
end

local function tune(plan, target, options)
  target_of("plan:tune", target)
  check("plan:tune", options, TUNE)
  record(plan, { op = "tune", target = target, within = options.within, retries = options.retries, backoff = options.backoff,
    on_failure = options.on_failure })
end

local function order(plan, kinds)
  if type(kinds) ~= "table" then error(format("plan:order expects a list of kinds, got %s", type(kinds)), 3) end
  local list = {}
  for i, kind in ipairs(kinds) do list[i] = target_of("plan:order", kind) end
  record(plan, { op = "order", kinds = list })
end

function Plan:before(target, options) hook(self, "before", target, options) end
function Plan:after(target, options) hook(self, "after", target, options) end
function Plan:tune(target, options) tune(self, target, options) end
function Plan:order(kinds) order(self, kinds) end

local Failure = { __tostring = function(e) return e.code .. ": " .. e.message end }

-- Asks the engine; raises what it answers when it could not be done.
local function ask(request, what)
  local ok, value, message = verbs.request(request, what)
  if ok then return value end
  error(setmetatable({ code = value, message = message }, Failure), 0)
end

local guest = setmetatable({}, { __index = function(_, name)
  error(format("the guest has no verb %s (known: syncfs)", tostring(name)), 2)
end })

function guest.syncfs(_, target)
  if type(target) ~= "string" and not (type(target) == "table" and target.ref) then
    error(format("ctx.guest:syncfs expects something of the plan, such as ctx.scratch, or a path in the guest; got %s", type(target)), 2)
  end
  return ask({ verb = "syncfs", target = target }, "ctx.guest:syncfs")
end

-- What stands for a held thing until a step runs: the one that belongs to the container of that step.
local REFERENCES = { scratch = true, layer = true, overlay = true, bundle = true, disk = true, share = true }

local function context(data)
  data.guest = guest
  return setmetatable(data, { __index = function(_, name)
    if REFERENCES[name] then return { ref = name } end
  end })
end

local api = {}

-- What the script returned, as data: functions arrive as numbers.
function api.describe() return verbs.result() end

function api.on_lost(kind) return verbs.result().on_lost(kind) end

function api.edit(view, data)
  local plan = setmetatable({ edits = {}, steps = view.steps, goal = view.goal, reason = view.reason }, Plan)
  verbs.result().teardown(plan, context(data))
  return plan.edits
end

return api
]==]

---Policy: the default decisions of scripts/policy, and an operator's script on top of them.
---
---A policy holds decisions and no state: no table of it changes after loading, so controllers of several VMs may share it.
local clock = require "moonshim.clock"
local err = require "moonshim.err"
local operator = require "moonshim.policy.operator"
local graph = require "moonshim.plan.graph"
local plan_module = require "moonshim.plan"
local task = require "moonshim.task"

---@class moonshim.Policy
---@field vm table scripts/policy/vm.lua
---@field pod table
---@field container table
---@field process table
---@field teardown table
---@field operator moonshim.Operator?
local Policy = {}
Policy.__index = Policy

local policy = {}

local NAMES = { "vm", "pod", "container", "process", "teardown" }

---The embedded module (in the executable or installed as a rock), else the file of the source tree.
local function script(name)
  local module = "moonshim.scripts." .. name
  for _, searcher in ipairs(package.searchers) do
    local loader, extra = searcher(module)
    if type(loader) == "function" then return loader(module, extra) end
  end
  local here = debug.getinfo(1, "S").source:match("^@(.*)lua/moonshim/policy/init%.lua$")
  local path = (here or "") .. "scripts/policy/" .. name .. ".lua"
  local loader, why = loadfile(path, "t")
  if not loader then err.raise("internal", "the default policy %s cannot be loaded: %s", name, why) end
  return loader()
end

local defaults

---Loads the policy of one VM. Raises when the operator's script is wrong; nothing is started then.
---@param opts { operator: string?, core: any? }? operator: path of a script
---@return moonshim.Policy
function policy.load(opts)
  if not defaults then
    local loaded = {}
    for _, name in ipairs(NAMES) do loaded[name] = script(name) end
    defaults = loaded
  end
  local self = setmetatable({}, Policy)
  for _, name in ipairs(NAMES) do self[name] = defaults[name] end
  if opts and opts.operator then self.operator = operator.load(opts.operator, opts) end
  return self
end

function Policy:close()
  if self.operator then self.operator:close() end
end

-- Requests of scripts ----------------------------------------------------------------------------------------------

local VERBS = {}

---Writes a file system of the step's own container to its disk.
function VERBS.syncfs(vm, step, request)
  local target, path = request.target, nil
  local container = step.owner:match("^(vm/[^/]+/[^/]+)") or step.owner
  for _, receipt in ipairs(vm.ledger:under(container)) do
    local own = receipt.facts.guest_path
    if own then
      if type(target) == "table" and receipt.kind == target.ref then path = path or own end
      if type(target) == "string" and (target == own or target:sub(1, #own + 1) == own .. "/") and not target:find("/%.%./?") then
        path = target
      end
    end
  end
  if not path then
    if type(target) == "table" then return false end -- a container without a scratch disk has nothing to flush
    err.raise("permission_denied", "%s is not below anything that %s holds", target, container)
  end
  if not vm.world.guest then err.raise("gone", "there is no guest to ask") end
  vm.world.guest:syncfs(path)
  return true
end

---@async
local function perform(vm, step, request)
  local verb = type(request) == "table" and VERBS[request.verb]
  if not verb then err.raise("invalid_argument", "a script asked for something unknown") end
  return verb(vm, step, request)
end

-- Losses -----------------------------------------------------------------------------------------------------------

---What the loss of the VM or of its agent means: the operator's word, else the default.
---@param kind "bridge"|"agent"|"vm"
---@param vm moonshim.Vm hears of a fallback
---@return { action: "end"|"mark"|"wait", limit: string|integer|nil }
function Policy:on_lost(kind, vm)
  local op = self.operator
  if op and op.on_lost then
    local ok, decision = pcall(op.lost, op, kind)
    if ok and decision then return decision end
    if not ok then
      local reason = err.from(decision).message
      vm:report("policy-fallback", { message = reason .. "; the default is used", reason = reason, path = op.path })
    end
  end
  local action, limit = self.vm.on_lost(kind)
  return { action = action, limit = limit }
end

-- Plans ------------------------------------------------------------------------------------------------------------

---@class moonshim.Teardown what is to go, and why
---@field goal "stop"|"delete"|"roll_back"|"crash"
---@field owner string
---@field reason string?
---@field ladder table[]? instead of the policy's
---@field plain boolean? without the operator's script
---@field again boolean? it is what an earlier plan left: everything at once, and not as long as the first time

---Execs end after the init of their container: they end with it, so that only what outlives it is signalled, and an exec
---that ignores every signal does not use up the time of an init that does not.
local function execs_follow_init(plan)
  local init = {}
  for _, step in ipairs(plan.steps) do
    if step.kind == "process" and step.owner:find("^vm/[^/]+/[^/]+$") then init[step.owner] = step.name end
  end
  for _, step in ipairs(plan.steps) do
    local name = step.kind == "process" and init[step.owner:match("^(vm/[^/]+/[^/]+)/")]
    if name then graph.add(step, name, true) end
  end
  plan:arrange()
end

---What crosses into the script of a step: no facts but the guest path.
local function view_of_step(step, facts)
  return { name = step.name, kind = step.kind, owner = step.owner, within = step.within, retries = step.retries,
    on_failure = step.on_failure, guest_path = facts and facts.guest_path }
end

---@class moonshim.Voice an operator's script, and the pod that it speaks for
---@field policy moonshim.Policy
---@field op moonshim.Operator
---@field scope string owner

---Whose scripts are heard: those of the pods that go, each for its own pod only.
---@param vm moonshim.Vm
---@param request moonshim.Teardown
---@return moonshim.Voice[]
local function voices(vm, request)
  local out = {}
  if request.plain or request.goal == "crash" then return out end
  local function add(who, scope)
    if who.operator then out[#out + 1] = { policy = who, op = who.operator, scope = scope } end
  end
  local scope = request.owner:match("^vm/[^/]+")
  if scope then
    local pod = vm.pods[scope:match("[^/]+$")]
    add(pod and pod.policy or vm.policy, scope)
    return out
  end
  local ids = {}
  for id in pairs(vm.pods) do ids[#ids + 1] = id end
  table.sort(ids)
  for _, id in ipairs(ids) do add(vm.pods[id].policy, vm.pods[id].owner) end
  return out
end

---What a script may see of a plan: its own pod's steps and the VM's.
local function view_of(vm, plan, request, scope)
  local view = { goal = request.goal, reason = request.reason, steps = {} }
  for _, step in ipairs(plan.steps) do
    if step.owner == "vm" or step.owner == scope or step.owner:sub(1, #scope + 1) == scope .. "/" then
      local receipt = vm.ledger:get(step.name)
      view.steps[#view.steps + 1] = view_of_step(step, receipt and receipt.facts)
    end
  end
  return view
end

---The specification for plan.derive and plan.execute: default edits first, then those of the operators' scripts, of each
---script all or none.
---`report(topic, message)` hears of fallbacks. The second result must be called when the plan is done.
---@param vm moonshim.Vm
---@param request moonshim.Teardown
---@param report fun(topic: string, data: table)
---@return table spec
---@return fun() done
function Policy:plan_spec(vm, request, report)
  local teardown, heard = self.teardown, voices(vm, request)
  local given = request.ladder and operator.ladder(request.ladder, "ladder") or nil
  local spec = {
    owner = request.owner, goal = request.goal, order = teardown.order, reason = request.reason,
    again_within = clock.ms(teardown.again_within), width = request.again and math.huge or nil,
  }
  local used = {}

  local function default_edits(plan)
    teardown.edit(plan, { goal = request.goal, ladder = given, ms = clock.ms })
    for _, step in ipairs(request.again and plan.steps or {}) do step.within = math.min(step.within, spec.again_within) end
    for _, voice in ipairs(given and {} or heard) do
      if voice.op.stop then
        teardown.edit(plan:only(voice.scope), { goal = request.goal, ladder = voice.op.stop, ms = clock.ms })
      end
    end
    execs_follow_init(plan)
  end

  ---One script's edits, tried on a plan that has all that were accepted before.
  local function consult(voice, plan, accepted)
    local edits = voice.policy:collect(vm, plan, request, voice.scope)
    used[#used + 1] = { voice.op, edits }
    if #edits == 0 then return end
    local opts = { owner = voice.scope, order = teardown.order, blocking = request.goal == "stop",
      run = function(one) return voice.policy:hook(vm, one, report) end }
    local trial = plan_module.derive(vm.ledger, spec)
    default_edits(trial)
    for _, earlier in ipairs(accepted) do operator.apply(trial, earlier.edits, earlier.opts) end
    operator.apply(trial, edits, opts)
    trial:validate()
    operator.apply(plan, edits, opts)
    accepted[#accepted + 1] = { edits = edits, opts = opts }
  end

  function spec.edit(plan)
    default_edits(plan)
    local accepted = {}
    for _, voice in ipairs(heard) do
      local ok, problem = pcall(consult, voice, plan, accepted)
      if not ok then
        if err.is(problem, "cancelled") then error(problem, 0) end
        local reason = err.from(problem).message
        report("policy-fallback", {
          pod = voice.scope:match("[^/]+$"), message = reason .. "; the default plan is used", reason = reason, path = voice.op.path,
        })
      end
    end
  end

  return spec, function()
    for _, one in ipairs(used) do one[1]:forget(one[2]) end
  end
end

---@private
---@async
function Policy:collect(vm, plan, request, scope)
  local data = {
    goal = request.goal, reason = request.reason, pod = scope:match("[^/]+$"), container = request.owner:match("^vm/[^/]+/([^/]+)$"),
  }
  local view = view_of(vm, plan, request, scope)
  return task.deadline(self.teardown.script_within, self.operator.edits, self.operator, view, data)
end

---The function of a step that comes from the script. A failure of the script itself counts as skipped, and is reported.
---@private
function Policy:hook(vm, edit, report)
  return function(step)
    local view = view_of_step(step)
    local refused -- by the engine or the guest, and not dealt with by the script
    local ok, e = pcall(self.operator.run, self.operator, edit, view, function(request)
      local fine, answer = pcall(perform, vm, step, request)
      refused = not fine and answer or nil
      if not fine then error(answer, 0) end
      return answer
    end)
    if ok then return end
    e = err.from(e)
    if err.is(e, "cancelled") then error(e, 0) end
    report("policy-hook-failed", { message = e.message, step = edit.name, path = self.operator.path })
    if refused then error(e, 0) end
  end
end

return policy

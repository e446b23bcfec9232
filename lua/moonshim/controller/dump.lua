---What a VM is doing, as text: on this side and, when its agent can say, inside.
---
---Changes nothing and waits for the guest's answer alone, which a silent guest does not hold up for long.
local err = require "moonshim.err"
local layout = require "moonshim.guest.layout"
local task = require "moonshim.task"

local dump = {}

local function sorted(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

local function connection(vm, say)
  local guest = vm.world.guest
  if not guest then return say "guest: not connected" end
  local line = ("guest: connection %d, %s"):format(guest.generation, guest.state)
  local n = guest.bridge.counts and guest.bridge:counts()
  if n then
    line = line .. ("; calls: %d pending, %d sent, %d late, %d expired, %d unknown"):format(n.pending, n.sent, n.late, n.expired, n.unknown)
  end
  say(line)
end

local function process(vm, p, say)
  local line = ("    %s: %s"):format(p.id == "" and "init" or p.id, p.machine:state())
  if p.pid then line = line .. (", pid %d"):format(p.pid) end
  if p.code then line = line .. (", code %d%s"):format(p.code, p.reason and " (" .. p.reason .. ")" or "") end
  local counts = p.stdio and vm.processes.counts(vm, p.stdio) or {}
  for _, name in ipairs { "stdin", "stdout", "stderr" } do
    if counts[name] then line = line .. (", %s %d"):format(name, counts[name]) end
  end
  say(line)
end

local function ledger(vm, say)
  local states = {}
  for _, receipt in ipairs(vm.ledger:all()) do states[receipt.state] = (states[receipt.state] or 0) + 1 end
  local parts = {}
  for _, state in ipairs(sorted(states)) do parts[#parts + 1] = ("%d %s"):format(states[state], state) end
  say("ledger: " .. (#parts > 0 and table.concat(parts, ", ") or "empty"))
  for _, receipt in ipairs(vm.ledger:all()) do
    if receipt.state ~= "held" then
      say(("  %s of %s is %s%s"):format(receipt.name, receipt.owner, receipt.state,
        receipt.last_error and ": " .. tostring(receipt.last_error.message) or ""))
    end
  end
end

---@async
---@param vm moonshim.Vm
---@return string
function dump.of(vm)
  if not vm.machine:is("running", "reconnecting", "unreachable", "stopping") then
    err.raise("failed_precondition", "the VM is %s: it has nothing to say", vm.machine:state())
  end
  local out = {}
  local function say(line) out[#out + 1] = line end
  say(("vm %s: %s"):format(vm.id, vm.machine:state()))
  connection(vm, say)
  for _, id in ipairs(sorted(vm.pods)) do
    local pod = vm.pods[id]
    say(("pod %s: %s"):format(id, pod.machine:state()))
    for _, c in ipairs(pod:containers()) do
      say(("  container %s: %s"):format(c.id, c.machine:state()))
      for _, p in ipairs(c:list()) do process(vm, p, say) end
    end
  end
  if #vm.inside:list() > 0 then say "  in the VM itself:" end
  for _, p in ipairs(vm.inside:list()) do process(vm, p, say) end
  ledger(vm, say)
  local guest = vm.world.guest
  local ok, text = false, "there is no connection"
  if guest then ok, text = pcall(task.deadline, vm.policy.vm.limits.dump, guest.dump_stacks, guest) end
  if not ok and err.is(text, "cancelled") then error(text, 0) end
  if not ok then
    say("inside: " .. err.from(text).message)
  elseif text ~= "" then
    say("inside (" .. layout.AGENT .. "):")
    say(text)
  end
  return table.concat(out, "\n") .. (out[#out]:sub(-1) == "\n" and "" or "\n")
end

return dump

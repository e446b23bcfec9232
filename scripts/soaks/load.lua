-- Scenarios of scripts/soak: what one item costs among many, and what is left of it.
local uv = require "luv"
local moonshim = require "moonshim"
local task = require "moonshim.task"
local descriptors = dofile "scripts/descriptors.lua"
local look = require "soaks.look"
local ground = require "soaks.ground"

local complain, cpu, each, entries, flat, guest_counts = look.complain, look.cpu, look.each, look.entries, look.flat, look.guest_counts
local holdings, lua_kib, ms_since, own_cpu = look.holdings, look.lua_kib, look.ms_since, look.own_cpu
local same, same_holdings, say, settled = look.same, look.same_holdings, look.say, look.settled
local agent_of, warm, watch_order = ground.agent_of, ground.warm, ground.watch_order
local layered, plain, pod_of = ground.layered, ground.plain, ground.pod_of

local scenarios = {}

local function line_of_execs(title, n, from, shim, agent, now)
  say("  %-22s %8.2f ms each, processor: shim %5.2f agent %5.2f ms; shim %d KiB %d fds, lua %d KiB; agent %d KiB %d fds",
    title, ms_since(from) / n, (own_cpu() - shim) / n, (cpu(agent.pid) - agent.cpu) / n, now.shim_kib, now.shim_fds, now.lua_kib,
    now.agent_kib, now.agent_fds)
end

function scenarios.execs(want)
  local vm = warm("soak-execs")
  local agent = agent_of(vm)
  local pod = assert(vm:start_pod(pod_of("pod", { c = plain() })))
  local function one()
    local p = assert(pod.c:exec(ground.TRUE))
    local code = assert(p:wait())
    if code ~= 0 then complain("an exec of true ended with %d", code) end
  end
  each(20, 1, one) -- what is made once
  local before, guest = settled(agent), guest_counts(agent)
  for _, width in ipairs { 1, 16 } do
    local done = 0
    for _, n in ipairs { 10, 100, want.count } do
      local from, shim, at = uv.hrtime(), own_cpu(), { pid = agent, cpu = (cpu(agent)) }
      each(n, width, one)
      done = done + n
      line_of_execs(("%d execs, %d at a time"):format(n, width), n, from, shim, at, holdings(agent))
    end
  end
  local now = same_holdings(before, agent)
  same("the guest", guest, guest_counts(agent))
  flat("the agent", before.agent_kib, now.agent_kib, 512)
  flat("Lua", before.lua_kib, now.lua_kib, 1024) -- the last 1,024 events and 2,048 entries of history are kept
  assert(vm:stop())
end

local EXECS_EACH = 10

function scenarios.containers(want)
  local sizes = {}
  for _, n in ipairs { 1, 10, 100 } do
    if n < want.containers then sizes[#sizes + 1] = n end
  end
  sizes[#sizes + 1] = want.containers
  for _, n in ipairs(sizes) do
    local vm = warm("soak-containers")
    local agent = agent_of(vm)
    local before, guest = settled(agent), guest_counts(agent)
    local containers = {}
    for i = 1, n do containers["c" .. i] = plain() end
    local from, shim = uv.hrtime(), own_cpu()
    local pod = assert(vm:start_pod(pod_of("pod", containers)))
    local up, up_cpu, full = ms_since(from) / n, (own_cpu() - shim) / n, holdings(agent)
    from = uv.hrtime()
    assert(pod:plan("stop"))
    local planned = ms_since(from) / n
    from = uv.hrtime()
    for _, c in ipairs(pod:containers()) do assert(c:state() == "running") end
    assert(pod.c1:exec(ground.TRUE)):wait()
    local asked = ms_since(from)
    -- Every helper that the agent runs, every init and every exec ends in one place there: each with its own code.
    local list = pod:containers()
    each(n * EXECS_EACH, 32, function(i)
      local p = assert(list[(i - 1) % n + 1]:exec { "sh", "-c", "exit " .. i % 251 })
      local code = assert(p:wait())
      if code ~= i % 251 then complain("an exec that ends with %d ended with %d", i % 251, code) end
    end)
    from, shim = uv.hrtime(), own_cpu()
    assert(pod:stop())
    say("  %4d containers: up %7.2f ms each (shim %5.2f), plan %5.2f, down %7.2f (shim %5.2f); state of all and an exec %6.2f ms; " ..
      "each holds %4.1f fds and %5.1f KiB here, %4.1f fds and %5.1f KiB in the agent", n, up, up_cpu, planned, ms_since(from) / n,
      (own_cpu() - shim) / n, asked, (full.shim_fds - before.shim_fds) / n, (full.shim_kib - before.shim_kib) / n,
      (full.agent_fds - before.agent_fds) / n, (full.agent_kib - before.agent_kib) / n)
    same_holdings(before, agent)
    same("the guest", guest, guest_counts(agent))
    assert(vm:stop())
  end
end

function scenarios.churn(want)
  local vm = warm("soak-churn")
  local agent, finish = agent_of(vm), watch_order(vm)
  local made = 0
  local function cycle()
    made = made + 1 -- a name of its own for each: what is kept by name would show
    local name = ("pod%d"):format(made)
    local pod = assert(vm:start_pod(pod_of(name, { [name .. "-a"] = layered(ground.TRUE), [name .. "-b"] = plain(ground.TRUE) })))
    for container, code in pairs(assert(pod:wait())) do
      if code ~= 0 then complain("%s ended with %d", container, code) end
    end
    assert(pod:stop())
  end
  each(want.width, want.width, cycle) -- what is made once
  local before, guest = settled(agent), guest_counts(agent)
  local half = math.max(1, want.cycles // 2)
  local middle
  for part = 1, 2 do
    local from, shim, at = uv.hrtime(), own_cpu(), { pid = agent, cpu = (cpu(agent)) }
    each(half, want.width, cycle)
    local now = holdings(agent)
    line_of_execs(("%d pods, %d at a time"):format(part * half, want.width), half, from, shim, at, now)
    middle = middle or now
    if part == 2 then
      flat("the shim", middle.shim_kib, now.shim_kib, 1024)
      flat("Lua", middle.lua_kib, now.lua_kib, 512)
      flat("the agent", middle.agent_kib, now.agent_kib, 512)
    end
    same_holdings(before, agent)
    same("the guest", guest, guest_counts(agent))
  end
  say("  %d events, in order", finish())
  assert(vm:stop())
end

function scenarios.vms(want)
  local n = math.max(1, want.cycles // 10)
  assert(warm("soak-vms"):stop())
  local before = { fds = (descriptors "self"), run = entries(ground.run_dir), lua_kib = lua_kib() }
  local from, shim = uv.hrtime(), own_cpu()
  each(n, 4, function(i)
    local name = ("vm%d"):format(i)
    local pod_spec = pod_of(name, { a = layered(ground.TRUE), b = plain(ground.TRUE) })
    local pod = assert(moonshim.start(pod_spec, { run_dir = ground.run_dir, die_with_parent = true }))
    assert(pod:wait())
    assert(pod:stop())
  end)
  say("  %4d VMs, 4 at a time    %8.2f ms each, processor: shim %5.2f ms", n, ms_since(from) / n, (own_cpu() - shim) / n)
  -- The data thread and the pool of a VM close what they had when the loop turns next.
  for _ = 1, 500 do
    if (descriptors "self") == before.fds then break end
    task.sleep(20)
  end
  same("descriptors of the shim", before.fds, (descriptors "self"))
  same("run folders", before.run, entries(ground.run_dir))
  flat("Lua", before.lua_kib, lua_kib(), 512) -- what is made once, and what each VM would leave
end

return scenarios

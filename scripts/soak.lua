-- Called by scripts/soak and by spec/e2e/many_spec.lua, from the root of the checkout:
--   lua5.4 scripts/soak.lua SCENARIO FOLDER [--OPTION N]...
-- FOLDER is where scripts/make_images has been. Run folders are kept in FOLDER/run.
local uv = require "luv"
local err = require "moonshim.err"
local moonshim = require "moonshim"
local task = require "moonshim.task"
local descriptors = dofile "scripts/descriptors.lua"

local scenario, folder = arg[1], uv.fs_realpath(arg[2])
local want = { count = 1000, containers = 200, cycles = 200, width = 20, seconds = 60, seed = os.time() }
for i = 3, #arg, 2 do want[arg[i]:match("^%-%-(.+)$")] = math.tointeger(tonumber(arg[i + 1])) end

local root, image = folder .. "/roots/busybox", folder .. "/images/base.ext4"
local run_dir = folder .. "/run"
local FOREVER = { "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 100 & wait; done" }
local TRUE = { "true" }

-- What is looked at ------------------------------------------------------------------------------------------------

local complaints = {}
local function complain(fmt, ...)
  complaints[#complaints + 1] = fmt:format(...)
  io.stderr:write("  WRONG: ", complaints[#complaints], "\n")
end

local function say(fmt, ...)
  io.write(fmt:format(...), "\n")
  io.flush()
end

local function read(path)
  local file = io.open(path, "r")
  if not file then return "" end
  local text = file:read("a")
  file:close()
  return text
end

local function entries(path)
  local n, scan = 0, uv.fs_scandir(path)
  while scan and uv.fs_scandir_next(scan) do n = n + 1 end
  return n
end

local function status(pid, name) return tonumber(read(("/proc/%s/status"):format(pid)):match(name .. ":%s+(%d+)")) or 0 end

---Milliseconds of processor time of a process, and of its children that have been waited for.
local function cpu(pid)
  local fields = {}
  for word in (read(("/proc/%s/stat"):format(pid)):match("%) (.*)$") or ""):gmatch("%S+") do fields[#fields + 1] = tonumber(word) or 0 end
  return ((fields[12] or 0) + (fields[13] or 0)) * 10, ((fields[14] or 0) + (fields[15] or 0)) * 10
end

local function own_cpu()
  local u = uv.getrusage()
  return (u.utime.sec + u.stime.sec) * 1e3 + (u.utime.usec + u.stime.usec) / 1e3
end

---What the shim and the agent hold now. Memory in KiB, Lua's after a collection.
local function holdings(agent)
  collectgarbage()
  collectgarbage()
  local shim_fds, shim_pipes = descriptors "self"
  local agent_fds, agent_pipes = descriptors(agent)
  return {
    shim_kib = status("self", "VmRSS"), lua_kib = math.floor(collectgarbage("count")), shim_fds = shim_fds, shim_pipes = shim_pipes,
    shim_threads = status("self", "Threads"), agent_kib = status(agent, "VmRSS"), agent_fds = agent_fds, agent_pipes = agent_pipes,
    agent_threads = status(agent, "Threads"),
  }
end

---What exists in the guest: mounts, folders, cgroups, and the bytes of its own file systems, which are in memory.
local function guest_counts(agent)
  local _, mounts = read(("/proc/%d/mounts"):format(agent)):gsub("\n", "")
  local out = { "mounts=" .. mounts }
  for _, path in ipairs { "run", "tmp" } do
    local fs = assert(uv.fs_statfs(("/proc/%d/root/%s"):format(agent, path)))
    out[#out + 1] = ("bytes of /%s=%d"):format(path, (fs.blocks - fs.bfree) * fs.bsize)
  end
  for _, path in ipairs {
    "run/gcs/pods", "run/mounts/scsi", "run/mounts/plan9", "run/moonshim-guest/tmp", "run/moonshim-guest/crun", "sys/fs/cgroup/pods",
    "sys/fs/cgroup/memory/pods", "sys/fs/cgroup/systemd/pods",
  } do
    out[#out + 1] = path .. "=" .. entries(("/proc/%d/root/%s"):format(agent, path))
  end
  return table.concat(out, " ")
end

local function same(what, before, now)
  if before ~= now then complain("%s: %s before, %s after", what, before, now) end
end

-- A few pages come and go; what grows with the work does not stop at that.
local function flat(what, before, now, slack_kib)
  if now > before * 1.05 + slack_kib then complain("%s grew from %d to %d KiB", what, before, now) end
end

-- Empty pipes that a data thread keeps.
local KEPT = 4

---Compares what is held with what was, once what was on its way out has closed. Returns what is held.
local function same_holdings(before, agent)
  local now = holdings(agent)
  local function back() return now.shim_fds == before.shim_fds and now.agent_fds == before.agent_fds end
  for _ = 1, 500 do
    if back() then break end
    task.sleep(20)
    now = holdings(agent)
  end
  same("descriptors of the shim", before.shim_fds, now.shim_fds)
  same("descriptors of the agent", before.agent_fds, now.agent_fds)
  for _, who in ipairs { "shim", "agent" } do
    local had, has = before[who .. "_pipes"], now[who .. "_pipes"]
    if has > had + KEPT then complain("%d pipes within the %s, %d before", has, who, had) end
  end
  same("threads of the agent", before.agent_threads, now.agent_threads)
  return now
end

local function agent_of(vm) return vm._vm.world.uvm.facts.pid end

local function ms_since(from) return (uv.hrtime() - from) / 1e6 end

---Runs fn(i) for i = 1..n, `width` at a time.
local function each(n, width, fn)
  local next_one, workers = 0, {}
  for w = 1, math.min(width, n) do
    workers[w] = function()
      while next_one < n do
        next_one = next_one + 1
        fn(next_one)
      end
    end
  end
  task.all(workers)
end

local running -- the VM of the scenario, if it has one

---A VM in which everything has been made that is made once: threads, parents of cgroups, the data thread.
local function warm(name)
  local vm = assert(moonshim.vm { name = name, run_dir = run_dir, die_with_parent = true })
  local pod = assert(vm:start_pod(assert(moonshim.pod {
    name = "warm", containers = { w = { layers = { image }, scratch = { size = "16M" }, args = TRUE } },
  })))
  assert(pod.w:wait())
  assert(pod:stop())
  running = vm
  return vm
end

local function pod_of(name, containers) return assert(moonshim.pod { name = name, containers = containers }) end

local function plain(args) return { rootfs = root, args = args or FOREVER } end

local function layered(args) return { layers = { image }, scratch = { size = "16M" }, args = args or FOREVER } end

-- Events of each object, in the order in which they may come.
local ORDER = { create = 1, start = 2, exit = 3, delete = 4, ["exec-added"] = 1, ["exec-started"] = 2 }

---Watches a VM's events; the result checks that every object has each event once, in order, and how many are complete.
local function watch_order(vm)
  local seen, heard = {}, 0
  local stop = vm:on_event(function(topic, data)
    local place = ORDER[topic]
    if not place or not data.container then return end
    heard = heard + 1
    local key = data.container .. "/" .. (data.exec or "")
    local last = seen[key] or 0
    -- An exec that could not be started never was a process: its id may come again.
    if topic == "exec-added" and last == 1 then last = 0 end
    if place <= last then complain("%s: %s came out of order", key, topic) end
    -- Ids may be used again after the end.
    seen[key] = (topic == "delete" or (topic == "exit" and data.exec ~= "")) and 0 or place
  end)
  return function()
    stop()
    return heard
  end
end

-- Scenarios --------------------------------------------------------------------------------------------------------

local SCENARIOS = {}

local function line_of_execs(title, n, from, shim, agent, now)
  say("  %-22s %8.2f ms each, processor: shim %5.2f agent %5.2f ms; shim %d KiB %d fds, lua %d KiB; agent %d KiB %d fds",
    title, ms_since(from) / n, (own_cpu() - shim) / n, (cpu(agent.pid) - agent.cpu) / n, now.shim_kib, now.shim_fds, now.lua_kib,
    now.agent_kib, now.agent_fds)
end

function SCENARIOS.execs()
  local vm = warm("soak-execs")
  local agent = agent_of(vm)
  local pod = assert(vm:start_pod(pod_of("pod", { c = plain() })))
  local function one()
    local p = assert(pod.c:exec(TRUE))
    local code = assert(p:wait())
    if code ~= 0 then complain("an exec of true ended with %d", code) end
  end
  each(20, 1, one) -- what is made once
  local before, guest = holdings(agent), guest_counts(agent)
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

function SCENARIOS.containers()
  local sizes = {}
  for _, n in ipairs { 1, 10, 100 } do
    if n < want.containers then sizes[#sizes + 1] = n end
  end
  sizes[#sizes + 1] = want.containers
  for _, n in ipairs(sizes) do
    local vm = warm("soak-containers")
    local agent = agent_of(vm)
    local before, guest = holdings(agent), guest_counts(agent)
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
    assert(pod.c1:exec(TRUE)):wait()
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

function SCENARIOS.churn()
  local vm = warm("soak-churn")
  local agent, finish = agent_of(vm), watch_order(vm)
  local made = 0
  local function cycle()
    made = made + 1 -- a name of its own for each: what is kept by name would show
    local name = ("pod%d"):format(made)
    local pod = assert(vm:start_pod(pod_of(name, { [name .. "-a"] = layered(TRUE), [name .. "-b"] = plain(TRUE) })))
    for container, code in pairs(assert(pod:wait())) do
      if code ~= 0 then complain("%s ended with %d", container, code) end
    end
    assert(pod:stop())
  end
  each(want.width, want.width, cycle) -- what is made once
  local before, guest = holdings(agent), guest_counts(agent)
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

function SCENARIOS.vms()
  local n = math.max(1, want.cycles // 10)
  assert(warm("soak-vms"):stop())
  local before = { fds = (descriptors "self"), run = entries(run_dir) }
  local from, shim = uv.hrtime(), own_cpu()
  each(n, 4, function(i)
    local name = ("vm%d"):format(i)
    local pod = assert(moonshim.start(pod_of(name, { a = layered(TRUE), b = plain(TRUE) }), { run_dir = run_dir, die_with_parent = true }))
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
  same("run folders", before.run, entries(run_dir))
end

local EXPECTED = { cancelled = true, failed_precondition = true, already_exists = true, not_found = true, aborted = true, gone = true }

---Whether an error is one that a caller must be ready for when others are at work; anything else is a complaint.
local function expected(e, what)
  if e == nil or EXPECTED[e.code] then return end
  complain("%s: %s", what, tostring(e))
end

function SCENARIOS.cancel()
  local vm = warm("soak-cancel")
  local agent = agent_of(vm)
  local keep = assert(vm:start_pod(pod_of("keep", { other = plain() })))
  local function start(name) return vm:start_pod(pod_of(name, { [name .. "-a"] = layered(), [name .. "-b"] = plain() })) end
  -- Each step of a start is a record of the journal, which is where a step is met whatever the machine is doing.
  local book, step, at_step = vm._vm.ledger.journal, 0, nil
  local append = book.append
  function book.append(...)
    step = step + 1
    if at_step then at_step(step) end
    return append(...)
  end
  local from = uv.hrtime()
  local first = assert(start("first"))
  local whole, steps = ms_since(from), step
  assert(first:stop())
  local before, guest = holdings(agent), guest_counts(agent)
  local cancelled, came = 0, 0
  ---A start that `arm(task)` cancels some time. It ends with a pod or with nothing.
  local function one(where, arm)
    local pod, e
    step = 0
    local t = task.spawn(function() pod, e = start("p") end)
    arm(t)
    pcall(t.join, t)
    at_step = nil
    if pod then
      came = came + 1
      assert(pod:stop())
    else
      cancelled = cancelled + 1
      expected(e, "a cancelled start")
      local left = vm:pod("p")
      if left then assert(left:stop()) end
    end
    local held = #vm._vm.ledger:under("vm/p")
    if held > 0 then complain("after a cancel at %s: %d receipts", where, held) end
  end
  for i = 1, steps do
    one(("step %d of %d"):format(i, steps), function(t)
      at_step = function(n)
        if n == i then t:cancel("enough") end
      end
    end)
  end
  for i = 0, math.min(want.cycles, 400) do
    one(("%d/%d of its time"):format(i, want.cycles), function(t)
      task.sleep(math.floor(whole * i / want.cycles))
      t:cancel("enough")
    end)
  end
  say("  starts of %.0f ms and %d steps: %d cancelled on the way, %d came up", whole, steps, cancelled, came)
  same_holdings(before, agent)
  same("the guest", guest, guest_counts(agent))
  if keep.other:state() ~= "running" then complain("the other pod was touched") end
  assert(vm:stop())
end

function SCENARIOS.chaos()
  math.randomseed(want.seed)
  local random = math.random
  local vm = warm("soak-chaos")
  local agent, finish = agent_of(vm), watch_order(vm)
  local before, guest = holdings(agent), guest_counts(agent)
  local counts = {}
  local till = task.now() + want.seconds * 1000
  local pods = {} -- by name: a handle, or false while somebody starts one
  local function count(what) counts[what] = (counts[what] or 0) + 1 end
  local ids = {}
  local function any_container()
    local handle = pods["p" .. random(4)]
    local list = handle and handle:containers()
    return list and list[random(#list)], handle
  end
  local verbs = {
    function() -- start a pod
      local name = "p" .. random(4)
      local made = {}
      for i = 1, random(3) do
        local args = random(3) == 1 and { "sh", "-c", "exit " .. random(0, 255) } or FOREVER
        made[("%s-c%d"):format(name, i)] = random(2) == 1 and layered(args) or plain(args)
      end
      local handle, e = vm:start_pod(pod_of(name, made))
      expected(e, "start of a pod")
      if handle then pods[name] = handle end
      count "pods"
    end,
    function() -- exec, with an id that another may take, too
      local c = any_container()
      if not c then return end
      local id = random(2) == 1 and "e" .. random(20) or nil
      local p, e = c:exec { "sh", "-c", random(2) == 1 and "exit 7" or "sleep 0.0" .. random(9), id = id }
      expected(e, "exec")
      count "execs"
      if not p then return end
      ids[#ids % 20 + 1] = p
      local code, why = p:wait()
      expected(why, "wait of an exec")
      if code and code ~= 0 and code ~= 7 and code < 128 then complain("an exec ended with %d", code) end
    end,
    function() -- kill an exec
      local p = ids[random(20)]
      if not p then return end
      expected(select(2, p:kill(random(2) == 1 and "KILL" or "TERM")), "kill of an exec")
      count "kills"
    end,
    function() -- kill a container
      local c = any_container()
      if not c or random(4) > 1 then return end
      expected(select(2, c:kill(random(2) == 1 and "KILL" or "TERM", { all = random(2) == 1 })), "kill")
      count "kills"
    end,
    function() -- wait for a container, for a while
      local c = any_container()
      if not c then return end
      local fine, e = pcall(task.deadline, random(50), c.wait, c)
      if not fine and e.code ~= "deadline_exceeded" then expected(e, "wait") end
      count "waits"
    end,
    function() -- look
      local c, pod = any_container()
      if not c then return end
      assert(c:state())
      expected(select(2, c:pids()), "pids")
      expected(select(2, pod:plan("stop")), "plan")
      count "looks"
    end,
    function() -- delete a container, or stop it
      local c = any_container()
      if not c or random(3) > 1 then return end
      if c:state() == "stopped" and random(2) == 1 then
        expected(select(2, c:delete()), "delete")
      else
        expected(select(2, c:stop()), "stop of a container")
      end
      count "deletes"
    end,
    function() -- stop a pod
      local name = "p" .. random(4)
      local handle = pods[name]
      if not handle or random(4) > 1 then return end
      expected(select(2, handle:stop()), "stop of a pod")
      if pods[name] == handle then pods[name] = nil end
      count "stops"
    end,
  }
  local workers = {}
  for i = 1, 12 do
    workers[i] = function()
      while task.now() < till do
        verbs[random(#verbs)]()
        task.sleep(random(5))
      end
    end
  end
  task.all(workers)
  for _, handle in ipairs(vm:pods()) do assert(handle:stop()) end
  local told = {}
  for what, n in pairs(counts) do told[#told + 1] = ("%d %s"):format(n, what) end
  table.sort(told)
  say("  seed %d, %d s: %s; %d events, in order", want.seed, want.seconds, table.concat(told, ", "), finish())
  local held = #vm._vm.ledger:all()
  if held ~= 2 then complain("%d receipts are held by a VM without pods", held) end
  same_holdings(before, agent)
  same("the guest", guest, guest_counts(agent))
  assert(vm:stop())
end

function SCENARIOS.order()
  local vm = warm("soak-order")
  local finish = watch_order(vm)
  local from = uv.hrtime()
  local runs = math.max(1, want.count // 10)
  local pod = assert(vm:start_pod(pod_of("pod", { base = plain() })))
  each(want.count, 16, function(i)
    local code = i % 256
    local p = assert(pod.base:exec { "sh", "-c", "printf 0123456789; exit " .. code, id = "e" .. i })
    local got = assert(p:wait())
    if got ~= code then complain("exec e%d ended with %d", i, got) end
    if p:output() ~= "0123456789" then complain("exec e%d said %q", i, tostring(p:output())) end
  end)
  each(runs, 8, function(i)
    local name, signal = ("r%d"):format(i), ({ "KILL", "TERM", "HUP" })[i % 4]
    local args = signal and { "sh", "-c", "kill -" .. signal .. " $$; sleep 10" } or TRUE
    -- Nobody but its parent can end the first process of a pid namespace, so a child of it does the dying.
    if signal then args = { "sh", "-c", ("sh -c 'kill -%s $$'; exit $?"):format(signal) } end
    local one = assert(vm:start_pod(pod_of("pod-" .. name, { [name] = plain(args) })))
    local code = assert(one[name]:wait())
    local expect = signal and 128 + require("moonshim.signals").number(signal) or 0
    if code ~= expect then complain("%s ended with %d, not %d", name, code, expect) end
    assert(one:stop())
  end)
  local heard = finish()
  local due = want.count * 3 + 4 + runs * 8
  if heard ~= due then complain("%d events, not %d", heard, due) end
  say("  %d execs and %d containers that end at once: %d events, each once, in order; %.0f ms", want.count, runs, heard, ms_since(from))
  assert(vm:stop())
end

-- Together ---------------------------------------------------------------------------------------------------------

local run = SCENARIOS[scenario] or error("no such scenario: " .. tostring(scenario))
uv.fs_mkdir(run_dir, 448)
say("%s", scenario)
local ok, e = xpcall(moonshim.run, err.traceback, function()
  local fine, why = xpcall(run, err.traceback)
  if not fine and running then running:terminate() end
  if not fine then error(why, 0) end
end)
if not ok then complain("%s", tostring(e)) end
local left = entries(run_dir)
if left > 0 then complain("%d run folders are left in %s", left, run_dir) end
os.exit(#complaints == 0 and 0 or 1, true)

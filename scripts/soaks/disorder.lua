-- Scenarios of scripts/soak: starts that are cancelled, everything at random, and the order of what ends at once.
local uv = require "luv"
local task = require "moonshim.task"
local look = require "soaks.look"
local ground = require "soaks.ground"

local complain, each, guest_counts, ms_since = look.complain, look.each, look.guest_counts, look.ms_since
local same, same_holdings, say, settled = look.same, look.same_holdings, look.say, look.settled
local agent_of, warm, watch_order = ground.agent_of, ground.warm, ground.watch_order
local layered, plain, pod_of = ground.layered, ground.plain, ground.pod_of

local scenarios = {}

local EXPECTED = { cancelled = true, failed_precondition = true, already_exists = true, not_found = true, aborted = true, gone = true }

---Whether an error is one that a caller must be ready for when others are at work; anything else is a complaint.
local function expected(e, what)
  if e == nil or EXPECTED[e.code] then return end
  complain("%s: %s", what, tostring(e))
end

function scenarios.cancel(want)
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
  local before, guest = settled(agent), guest_counts(agent)
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

function scenarios.chaos(want)
  math.randomseed(want.seed)
  local random = math.random
  local vm = warm("soak-chaos")
  local agent, finish = agent_of(vm), watch_order(vm)
  local before, guest = settled(agent), guest_counts(agent)
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
        local args = random(3) == 1 and { "sh", "-c", "exit " .. random(0, 255) } or ground.FOREVER
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

function scenarios.order(want)
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
    local args = signal and { "sh", "-c", "kill -" .. signal .. " $$; sleep 10" } or ground.TRUE
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

return scenarios

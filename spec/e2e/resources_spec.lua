local descriptors = dofile "scripts/descriptors.lua"
local command = require "e2e.command"
local driven = require "e2e.driven"

-- Limits, statistics, pause and want of memory on real containers. The paths differ between cgroup v1 and v2; the specs
-- look from inside, where both are below /sys/fs/cgroup.
describe("resources of a real container", function()
  local moonshim, task, check_leaks
  setup(function()
    command.root()
    moonshim, task = require "moonshim", require "moonshim.task"
    check_leaks = command.leaks()
  end)
  after_each(function() check_leaks() end)
  teardown(function() command.cleanup() end)

  local plain = driven.plain
  local V2 = io.open("/sys/fs/cgroup/cgroup.controllers") ~= nil

  ---The command that prints a limit from inside.
  local function look(v1, v2) return "cat /sys/fs/cgroup/" .. (V2 and v2 or v1) end
  local MEMORY = look("memory/memory.limit_in_bytes", "memory.max")
  local SWAP = look("memory/memory.memsw.limit_in_bytes", "memory.swap.max")
  local PIDS = look("pids/pids.max", "pids.max")
  local CPU = V2 and "cat /sys/fs/cgroup/cpu.max"
    or "echo $(cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us) $(cat /sys/fs/cgroup/cpu/cpu.cfs_period_us)"

  local function with_pod(containers, fn, extra)
    local data = { name = "limited", containers = containers }
    for k, v in pairs(extra or {}) do data[k] = v end
    driven.with_pod(data, fn)
  end

  local function inside(pod, script)
    local p = assert(pod.web:exec { "sh", "-c", script })
    local out, errors = p:output()
    assert.equal(0, p:wait(), errors)
    return (out:gsub("%s+$", ""))
  end

  ---Waits for a condition that another process makes true; the suite's own limit ends it.
  local function eventually(what, fn)
    for _ = 1, 12000 do
      local v = fn()
      if v then return v end
      task.sleep(25)
    end
    error("it did not come to " .. what)
  end

  local function events(pod, topic)
    local out = {}
    for _, e in ipairs(pod:events()) do
      if e.topic == topic then out[#out + 1] = e.data end
    end
    return out
  end

  -- Command line ---------------------------------------------------------------------------------------------------

  it("shows the limits of the command line inside", function()
    local result = command.run({ "/bin/sh", "-c", table.concat({ MEMORY, CPU, PIDS }, "; ") },
      { "--memory", "64M", "--cpus", "0.5", "--pids-limit", "20" })
    assert.equal(0, result.code, result.err)
    assert.equal("67108864\n50000 100000\n20\n", result.out)
  end)

  it("says that a command was killed for want of memory, and ends with 137", function()
    local result = command.run({ "/bin/sh", "-c", "echo up; exec tail /dev/zero" }, { "--memory", "64M" })
    assert.equal(137, result.code)
    assert.equal("up\n", result.out)
    assert.equal("moonshim: killed: out of memory (limit 64 MiB)\n", result.err)
  end)

  it("says so of a child, too, when the command goes on", function()
    local result = command.run({ "/bin/sh", "-c", "tail /dev/zero 2>/dev/null; echo $?" }, { "--memory", "32M" })
    assert.equal(0, result.code)
    assert.equal("137\n", result.out)
    assert.is_truthy(result.err:find("moonshim: 1 process killed: out of memory (limit 32 MiB)\n", 1, true), result.err)
  end)

  it("refuses limits that mean nothing, before anything is started", function()
    for option, value in pairs { ["--memory"] = "a lot", ["--cpus"] = "0", ["--pids-limit"] = "0", ["--cpuset-cpus"] = "2-1" } do
      local result = command.run({ "/bin/sh" }, { option, value })
      assert.equal(125, result.code)
      assert.is_truthy(result.err:find("^moonshim: [^\n]+\n$"), result.err)
    end
  end)

  -- Limits ----------------------------------------------------------------------------------------------------------

  it("applies a limit of processes (known bug 146)", function()
    -- The container itself starts nothing more: it would end at a fork that fails, and take the exec with it.
    local quiet = { "sh", "-c", "trap 'exit 0' TERM; sleep 600 & wait" }
    with_pod({ web = plain { args = quiet, resources = { pids = 8 } } }, function(pod)
      local p = assert(pod.web:exec { "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 5 & done" })
      local _, errors = p:output()
      assert.is_truthy(errors:lower():find "fork")
    end)
  end)

  it("reads back what an update set, any pair in any order (known bug 154)", function()
    with_pod({ web = plain { resources = { memory = "300M", memory_swap = "500M" } } }, function(pod)
      local M = 1 << 20
      local function swap(memory, both) return V2 and both - memory or both end
      for _, pair in ipairs { { 600, 800 }, { 300, 500 }, { 400, 400 }, { 100, 900 }, { 300, 500 } } do
        assert(pod.web:update { memory = pair[1] .. "M", memory_swap = pair[2] .. "M" })
        assert.equal(tostring(pair[1] * M), inside(pod, MEMORY))
        assert.equal(tostring(swap(pair[1], pair[2]) * M), inside(pod, SWAP))
      end
      assert(pod.web:update { cpus = 0.25 }) -- the first time by an update
      assert.equal("25000 100000", inside(pod, CPU))
      assert(pod.web:update { pids = "unlimited", cpus = "unlimited" })
      assert.equal("max", inside(pod, PIDS))
      assert.equal(V2 and "max 100000" or "-1 100000", inside(pod, CPU))
      assert(pod.web:update { memory = "unlimited", memory_swap = "unlimited" })
    end)
  end)

  if not V2 then
    pending "takes the controllers it limits by, which whoever manages the tree cannot take back: needs cgroup v2 alone"
  else
    it("takes the controllers it limits by, which whoever manages the tree cannot take back", function()
      local function take_back()
        local top = assert(io.open("/sys/fs/cgroup/cgroup.subtree_control", "w"))
        top:setvbuf "no"
        local ok = top:write "-cpu"
        top:close()
        return ok ~= nil
      end
      take_back() -- a Debian without a session of a user hands down only memory and pids
      with_pod({ web = plain { resources = { cpus = 0.5 } } }, function(pod)
        assert.equal("50000 100000", inside(pod, CPU))
        assert.is_false(take_back())
        assert.equal("50000 100000", inside(pod, CPU))
      end)
      assert.is_true(take_back())
    end)
  end

  it("changes nothing when one part of an update is refused (known bug 154)", function()
    with_pod({ web = plain { resources = { memory = "64M", pids = 50 } } }, function(pod)
      local ok, e = pod.web:update { memory = "96M", pids = 60, cpuset = "4000" }
      assert.is_nil(ok)
      assert.is_truthy(e.message:find("cpuset", 1, true), e.message)
      assert.equal("67108864", inside(pod, MEMORY))
      assert.equal("50", inside(pod, PIDS))
      assert.equal("running", (pod.web:state()))
      ok, e = pod.web:update { memroy = "96M" }
      assert.is_nil(ok)
      assert.is_truthy(e.message:find("memory", 1, true), e.message)
    end)
  end)

  it("kills nobody when a limit is below what is in use", function()
    with_pod({ web = plain { resources = { memory = "256M" } } }, function(pod)
      local hold = assert(pod.web:exec { "sh", "-c", "x=$(head -c 40000000 /dev/zero | tr '\\0' x); echo >/dev/shm/held; sleep 600; :",
        stdout = false })
      inside(pod, "until [ -e /dev/shm/held ]; do sleep 0.01; done") -- what is in use from now on stays in use
      assert.is_true(assert(pod.web:stats()).memory.usage.usage > 30 << 20)
      local ok, e = pod.web:update { memory = "16M" }
      assert.is_nil(ok)
      assert.is_truthy(e.message:find("in use", 1, true), e.message)
      assert.equal("268435456", inside(pod, MEMORY))
      assert.equal("running", (hold:state()))
      assert.same({}, events(pod, "oom"))
      assert(hold:kill "KILL")
      hold:wait()
    end)
  end)

  -- Statistics and processes ------------------------------------------------------------------------------------------

  it("has statistics with the units of the cgroup files (known bug 155)", function()
    with_pod({ web = plain { resources = { memory = "128M", pids = 50 } } }, function(pod)
      local p = assert(pod.web:exec { "sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done" })
      p:wait()
      local s = assert(pod.web:stats())
      assert.equal(128 << 20, s.memory.usage.limit)
      assert.is_true(s.memory.usage.usage > 0 and s.memory.usage.usage <= s.memory.usage.max)
      assert.equal(50, s.pids.limit)
      assert.is_true(s.pids.current >= 1)
      assert.is_true(s.cpu.usage.total > 20000000) -- nanoseconds: that loop takes more than 20 ms anywhere
      assert.equal(0, s.memory_oom_control.oom_kill)
      local vm = assert(pod:stats())
      assert.is_true(vm.memory_bytes >= s.memory.usage.usage and vm.cpu_ns >= s.cpu.usage.total)
    end)
  end)

  it("lists every process of the container, the known ones with their exec id [#68]", function()
    with_pod({ web = plain() }, function(pod)
      local p = assert(pod.web:exec { "sh", "-c", "sleep 600 & sleep 600 & wait", id = "sleepers" })
      local list = eventually("all processes", function()
        local all = assert(pod.web:pids())
        return #all >= 4 and all
      end)
      local by = {}
      for _, entry in ipairs(list) do
        by[entry.exec or "none"] = (by[entry.exec or "none"] or 0) + 1
        if entry.exec == "sleepers" then assert.equal(p.pid, entry.pid) end
      end
      assert.equal(1, by[""])
      assert.equal(1, by.sleepers)
      assert.is_true(by.none >= 2)
      p:kill "KILL"
      p:wait()
    end)
  end)

  it("answers polls of containers that end with statistics or a refusal, never a crash (known bug 153)", function()
    local containers = {}
    for i = 1, 6 do containers["c" .. i] = plain { args = { "sh", "-c", ("sleep 0.%d"):format(i) } } end
    with_pod(containers, function(pod)
      local polls = {}
      for i, c in ipairs(pod:containers()) do
        polls[i] = function()
          while c:state() == "running" do
            local s, e = c:stats()
            if not s then assert.is_truthy(moonshim.err.is(e, "failed_precondition", "not_found", "gone"), tostring(e)) end
          end
        end
      end
      task.all(polls)
    end)
  end)

  -- Want of memory --------------------------------------------------------------------------------------------------

  it("is told of want of memory before the exit, with code 137 and the reason", function()
    with_pod({ web = plain { args = { "tail", "/dev/zero" }, resources = { memory = "32M" } } }, function(pod)
      assert.equal(137, pod.web:wait())
      local _, known = pod.web:state()
      assert.equal("oom", known.reason)
      local order = {}
      for _, e in ipairs(pod:events()) do
        if e.data.container == "web" then order[#order + 1] = e.topic end
      end
      -- It may want more than it can have before the guest has answered that it runs.
      if order[2] == "oom" then order[2], order[3] = order[3], order[2] end
      assert.same({ "create", "start", "oom", "exit" }, order)
      assert.same({ kills = 1, limit = 32 << 20 }, { kills = events(pod, "oom")[1].kills, limit = events(pod, "oom")[1].limit })
      assert.equal("oom", events(pod, "exit")[1].reason)
    end)
  end)

  it("is told of each exec that is killed, while the container goes on, with no descriptor left behind (known bug 66)", function()
    -- The kernel chooses whom it kills; the exec asks to be the one.
    local hog = { "sh", "-c", "echo 1000 >/proc/self/oom_score_adj; exec tail /dev/zero" }
    with_pod({ web = plain { args = { "sleep", "600" }, resources = { memory = "48M" } } }, function(pod)
      local before
      local function held() return (descriptors(pod._vm.uvm.facts.pid)) end
      for i = 1, 15 do
        local p = assert(pod.web:exec(hog))
        assert.equal(137, p:wait())
        local _, known = p:state()
        assert.equal("oom", known.reason)
        assert.is_true(#events(pod, "oom") >= i) -- the kernel may have taken a neighbour first
        before = before or held()
      end
      eventually("as many descriptors as before", function() return held() <= before end)
    end)
  end)

  -- Pause -----------------------------------------------------------------------------------------------------------

  local TICKER = { "sh", "-c", "trap 'exit 9' TERM; i=0; while :; do i=$((i+1)); echo $i >/dev/shm/ticks; done" }

  it("stands still while it is paused, and goes on", function()
    with_pod({ web = plain { args = TICKER } }, function(pod)
      local function used() return assert(pod.web:stats()).cpu.usage.total end
      eventually("a start", function() return used() > 0 end)
      assert(pod.web:pause())
      assert.equal("paused", (pod.web:state()))
      local before = used()
      task.sleep(200)
      assert.equal(before, used())
      assert.is_true(#assert(pod.web:pids()) >= 1)
      assert(pod.web:update { pids = 99 })
      local p, e = pod.web:exec { "true" }
      assert.is_nil(p)
      assert.equal("failed_precondition", e.code)
      assert.equal("failed_precondition", select(2, pod.web:pause()).code)
      assert(pod.web:resume())
      assert.equal("running", (pod.web:state()))
      eventually("more work", function() return used() > before end)
      assert.equal("failed_precondition", select(2, pod.web:resume()).code)
      assert.equal(1, #events(pod, "paused"))
      assert.equal(1, #events(pod, "resumed"))
    end)
  end)

  for name, case in pairs { ["KILL"] = 137, ["TERM"] = 9 } do
    it(("is killed by %s from paused, and deleted (known bug 24)"):format(name), function()
      with_pod({ web = plain { args = TICKER } }, function(pod)
        inside(pod, "until [ -s /dev/shm/ticks ]; do sleep 0.01; done")
        assert(pod.web:pause())
        assert.equal("delivered", pod.web:kill(name))
        assert.equal(case, task.deadline("60s", pod.web.wait, pod.web))
        assert(pod.web:delete())
      end)
    end)
  end

  it("is stopped from paused by the ladder, and a pod with a paused container stops", function()
    with_pod({ web = plain { args = TICKER }, other = plain { args = TICKER } }, function(pod)
      assert(pod.web:pause())
      assert(pod.other:pause())
      assert(pod.web:stop())
      assert.equal("deleted", (pod.web:state()))
    end)
  end)

  it("ends as a VM at once though a container is frozen", function()
    with_pod({ web = plain { args = TICKER } }, function(pod)
      assert(pod.web:pause())
      assert(pod:terminate())
    end)
  end)

  it("lets the exit win over pause and resume at any time (known bug 157)", function()
    with_pod({ web = plain() }, function(pod)
      for i = 1, 12 do
        local p = assert(pod.web:exec { "sh", "-c", ("sleep 0.0%d"):format(i % 9 + 1) })
        for _ = 1, 3 do
          pod.web:pause()
          pod.web:resume()
        end
        assert.equal(0, p:wait())
      end
      assert.equal("running", (pod.web:state()))
    end)
    for _ = 1, 4 do
      with_pod({ web = plain { args = { "sh", "-c", "sleep 0.1; exit 3" } } }, function(pod)
        while pod.web:pause() and pod.web:resume() do task.sleep(3) end
        assert.equal(3, task.deadline("60s", pod.web.wait, pod.web))
        assert.equal("stopped", (pod.web:state()))
        assert(pod.web:delete())
      end)
    end
  end)

  it("leaves nothing when its shim is killed while it is paused, and gc runs (known bug 24)", function()
    local file = command.folder .. "/pause.lua"
    local handle = assert(io.open(file, "w"))
    handle:write(([[
      local moonshim = require "moonshim"
      moonshim.run(function()
        local web = { rootfs = %q, args = { "sleep", "600" } }
        local pod = assert(moonshim.start(moonshim.pod { name = "frozen", containers = { web = web } }))
        assert(pod.web:pause())
        print "paused"
        io.stdout:flush()
        require("luv").kill(require("luv").os_getpid(), "sigkill")
      end)
    ]]):format(command.root()))
    handle:close()
    local result = command.execute(arg[-1] or "lua5.4", { file }, { env = { LUA_PATH = package.path, LUA_CPATH = package.cpath } })
    assert.equal("paused\n", result.out, result.err)
    local gc = command.moonshim { "gc" }
    assert.equal(0, gc.code, gc.err)
  end)

  -- The VM ----------------------------------------------------------------------------------------------------------

  it("loses the container and not the agent when the VM is short of memory", function()
    with_pod({ web = plain() }, function(pod)
      local p = assert(pod.web:exec { "tail", "/dev/zero" })
      assert.equal(137, p:wait())
      assert.equal(128 << 20, events(pod, "oom")[1].limit)
      assert.equal("0", inside(pod, "cat /proc/self/oom_score_adj"))
    end, { vm = { memory = "128M" } })
  end)

  it("has a VM of the size that the pod says, which an update changes", function()
    with_pod({ web = plain() }, function(pod)
      local root = V2 and "/sys/fs/cgroup/" or "/sys/fs/cgroup/memory/"
      local group = pod._vm.uvm.facts.cgroup
      local function limit(below)
        return math.tointeger(tonumber(command.read(root .. group .. below .. (V2 and "/memory.max" or "/memory.limit_in_bytes"))))
      end
      assert.equal(512 << 20, limit "")
      assert(pod:update { memory = "1025M", cpu_percent = 50 })
      assert.equal(1026 << 20, limit "") -- even
      assert.is_true(limit "/pods" < 1026 << 20)
      local _, e = pod:update { memory = "1M" }
      assert.equal("invalid_argument", e.code)
    end, { vm = { memory = "512M", processors = 1 } })
  end)
end)

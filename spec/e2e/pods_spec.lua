-- Several pods in one real VM, through the public API.
local descriptors = dofile "scripts/descriptors.lua"
local command = require "e2e.command"
local driven = require "e2e.driven"
local moonshim = require "moonshim"
local stop = require "support.stop"
local task = require "moonshim.task"
local uv = require "luv"

local plain, FOREVER = driven.plain, driven.FOREVER

describe("a VM for several pods", function()
  local check_leaks
  setup(function() check_leaks = command.leaks() end)
  teardown(function()
    check_leaks()
    command.cleanup()
  end)

  local function pod_of(name, containers, more)
    local spec = { name = name, containers = containers }
    for k, v in pairs(more or {}) do spec[k] = v end
    return moonshim.pod(spec)
  end

  ---Boots a VM, calls fn(vm), stops the VM whatever happened.
  local function with_vm(fn, opts)
    moonshim.run(function()
      opts = opts or {}
      opts.name, opts.run_dir, opts.die_with_parent = "node", command.run_dir, true
      local vm = assert(moonshim.vm(opts))
      local ok, e = pcall(fn, vm)
      local stopped, why = vm:stop()
      if not ok then error(e, 0) end
      assert(stopped, why)
    end)
  end

  local function output(container, ...)
    local p = assert(container:exec { ... })
    assert.equal(0, p:wait())
    return (p:output())
  end

  it("starts and stops them on their own, and each has its own network, hostname and files", function()
    with_vm(function(vm)
      local a = assert(vm:start_pod(pod_of("a", { web = plain() }, { network = "none" })))
      local b = assert(vm:start_pod(pod_of("b", { db = plain(), cache = plain() }, { network = "none" })))
      assert.equal("a\n", output(a.web, "hostname"))
      assert.equal("b\n", output(b.db, "hostname"))
      local function net(c) return output(c, "readlink", "/proc/1/ns/net") end
      assert.equal(net(b.db), net(b.cache))
      assert.not_equal(net(a.web), net(b.db))
      for name, c in pairs { a = a.web, b = b.cache } do
        assert.equal(name .. "\n", output(c, "cat", "/etc/hostname"))
        assert.is_truthy(output(c, "cat", "/etc/hosts"):find("%f[%w]" .. name .. "%f[%W]"))
      end
      assert(a:stop())
      assert.equal("running", b.db:state())
      assert.equal(1, #vm:pods())
      assert.is_nil(vm:pod "a")
      assert.equal("b\n", output(b.db, "hostname"))
      assert(vm:start_pod(pod_of("a", { web = plain { args = { "true" } } }, { network = "none" })))
    end)
  end)

  it("leaves nothing of a pod in a VM that lives on, in the guest either", function()
    with_vm(function(vm)
      local keep = assert(vm:start_pod(pod_of("keep", { web = plain() })))
      local agent = vm._vm.world.uvm.facts.pid
      local function counts()
        local n, mounts = 0, command.read(("/proc/%d/mounts"):format(agent))
        for _ in mounts:gmatch("\n") do n = n + 1 end
        local listing = {}
        for _, folder in ipairs { "run/gcs/pods", "run/mounts/scsi", "run/mounts/plan9", "sys/fs/cgroup/memory/pods", "sys/fs/cgroup/pods",
          "run/moonshim-guest/tmp", "run/moonshim-guest/crun" } do
          listing[#listing + 1] = folder .. "=" .. #command.list(("/proc/%d/root/%s"):format(agent, folder))
        end
        return n .. " mounts, " .. table.concat(listing, " ")
      end
      local function round()
        local p3 = assert(vm:start_pod(pod_of("p3", {
          one = { layers = { command.image("base") }, scratch = { size = "16M" }, args = FOREVER }, two = plain { args = { "true" } },
        })))
        assert(p3:stop())
      end
      round()
      local before, held = counts(), descriptors(agent)
      for _ = 1, 4 do round() end
      assert.equal(before, counts())
      task.deadline("60s", function() -- streams that have ended close a little later
        while descriptors(agent) > held do task.sleep(5) end
      end)
      assert.equal("running", keep.web:state())
      assert.equal(1, #vm:pods())
      local gone = setmetatable({ assert(vm:start_pod(pod_of("gone", { one = plain() }))) }, { __mode = "v" })
      assert(gone[1]:stop())
      task.deadline("60s", function() -- nothing of ours remembers a pod that has ended, when its streams have closed
        repeat
          task.sleep(1)
          collectgarbage()
          collectgarbage()
        until not gone[1]
      end)
    end)
  end)

  it("gives each pod its own resolv.conf, whoever comes and goes beside it (known bug 163)", function()
    local function conf(c) return output(c, "cat", "/etc/resolv.conf") end
    local function named(name, last, container)
      return pod_of(name, { [container] = plain() }, { network = "none",
        dns = { servers = { "192.0.2." .. last }, search = { name .. ".example" } } })
    end
    with_vm(function(vm)
      local a = assert(vm:start_pod(named("a", 1, "web")))
      local b = assert(vm:start_pod(named("b", 2, "db")))
      local of_a, of_b = conf(a.web), conf(b.db)
      for text, want in pairs { [of_a] = { "192.0.2.1", "a.example" }, [of_b] = { "192.0.2.2", "b.example" } } do
        assert.equal(want[1], text:match "nameserver%s+(%S+)")
        assert.equal(want[2], text:match "search%s+(%S+)")
        assert.equal(1, select(2, text:gsub("nameserver", "")))
      end
      for i = 3, 5 do
        local p3 = assert(vm:start_pod(named("p3", i, "x")))
        assert.equal("192.0.2." .. i, conf(p3.x):match "nameserver%s+(%S+)")
        assert.same({ of_a, of_b }, { conf(a.web), conf(b.db) })
        assert(p3:stop())
      end
      assert.same({ of_a, of_b }, { conf(a.web), conf(b.db) })
    end)
  end)

  it("answers about one pod while the create of another hangs in the guest (known bugs 80, 130)", function()
    with_vm(function(vm)
      local a = assert(vm:start_pod(pod_of("a", { web = plain() })))
      local agent = vm._vm.world.uvm.facts.pid
      local function stopped_runtime()
        for _, thread in ipairs(command.list(("/proc/%d/task"):format(agent))) do
          for pid in (command.read(("/proc/%d/task/%s/children"):format(agent, thread)) or ""):gmatch "%d+" do
            pid = math.tointeger(pid)
            if command.read("/proc/" .. pid .. "/comm") == "crun\n" and stop(pid) then return pid end
          end
        end
      end
      -- The runtime is stopped in the middle of its work: what a disk does that does not answer. It works for some
      -- milliseconds at a time, so it may take several creates to meet it.
      local b, e, stopped, start
      for _ = 1, 100 do
        start = task.spawn(function() b, e = vm:start_pod(pod_of("b", { db = plain() })) end)
        while not stopped and not b and not e do
          task.sleep(1)
          stopped = stopped_runtime()
        end
        if stopped then break end
        start:join()
        assert(assert(b, e):stop())
        b = nil
      end
      assert.is_truthy(stopped, "the create was not met")
      local ok, why = pcall(task.deadline, "60s", function()
        assert.equal("running", a.web:state())
        assert.is_table(assert(a.web:stats()))
        assert.is_true(#assert(a.web:pids()) > 0)
        assert.equal("here\n", output(a.web, "echo", "here"))
        assert(a.web:kill("KILL"))
        assert.equal(137, a.web:wait())
        assert(a:stop())
        assert.is_nil(b)
        assert.is_nil(e)
      end)
      uv.kill(stopped, "sigcont")
      if not ok then error(why, 0) end
      start:join()
      assert.equal("running", assert(b, e).db:state())
    end)
  end)

  it("rolls back a pod that does not come up; the others go on", function()
    with_vm(function(vm)
      local a = assert(vm:start_pod(pod_of("a", { web = plain() })))
      local b, e = vm:start_pod(pod_of("b", { db = plain { args = { "nosuchcmd" } }, ok = plain() }))
      assert.is_nil(b)
      assert.is_truthy(e.message:find("nosuchcmd", 1, true), e.message)
      assert.equal("running", a.web:state())
      assert(vm:start_pod(pod_of("b", { db = plain() })))
      local _, twice = vm:start_pod(pod_of("b", { other = plain() }))
      assert.equal("already_exists", twice.code)
      local _, taken = vm:start_pod(pod_of("c", { web = plain() }))
      assert.equal("already_exists", taken.code)
    end)
  end)

  it("whose pause process ends is not ready, its containers go on until it is stopped (known bug 165)", function()
    with_vm(function(vm)
      local a = assert(vm:start_pod(pod_of("a", { web = plain(), db = plain() })))
      local b = assert(vm:start_pod(pod_of("b", { other = plain() })))
      a._pod.sandbox:kill(9)
      assert.equal(137, (a._pod.sandbox:wait()))
      task.deadline("60s", function()
        while a._pod.machine:state() ~= "unready" do task.sleep(1) end
      end)
      assert.equal("running", a.web:state())
      assert.equal("here\n", output(a.web, "echo", "here"))
      assert.equal("active", b._pod.machine:state())
      assert(a:stop())
      local seen, lost = {}, 0
      for _, event in ipairs(a:events()) do
        local c = event.data.container
        if event.topic == "sandbox-lost" then lost = lost + 1 end
        if c and event.data.exec == "" then seen[c] = (seen[c] or "") .. " " .. event.topic end
      end
      assert.same({ a = " create start exit delete", web = " create start exit delete", db = " create start exit delete" }, seen)
      assert.equal(1, lost)
      assert.equal("here\n", output(b.other, "echo", "here"))
      assert(vm:start_pod(pod_of("a", { web = plain() })))
    end)
  end)

  it("tells each pod its own events, in order, and late readers what they missed", function()
    with_vm(function(vm)
      local a = assert(vm:start_pod(pod_of("a", { web = plain { args = { "sh", "-c", "exit 3" } } })))
      local b = assert(vm:start_pod(pod_of("b", { db = plain() })))
      assert.equal(3, a.web:wait())
      assert(a:stop())
      local function topics(stream)
        local out = {}
        for event in function() return stream:poll() end do
          assert.not_equal("db", event.data.container)
          if event.data.container == "web" then out[#out + 1] = event.topic end
        end
        return out
      end
      assert.same({ "create", "start", "exit", "delete" }, topics(assert(a:follow { since = 0 })))
      local heard
      local listener = task.spawn(function()
        local stream = assert(b:follow())
        heard = stream:next()
        stream:close()
      end)
      task.sleep(1)
      assert.equal(0, assert(b.db:exec { "true" }):wait())
      listener:join()
      assert.equal("exec-added", heard.topic)
      assert.is_truthy(a:timeline():find("web", 1, true))
      assert.is_nil(a:timeline():find("db", 1, true))
    end)
  end)

  it("shares nothing with a VM of the same name in another run folder", function()
    local second = command.folder .. "/run2"
    moonshim.run(function()
      local function boot(run_dir)
        local vm = assert(moonshim.vm { name = "node", run_dir = run_dir, die_with_parent = true })
        return vm, assert(vm:start_pod(pod_of("a", { web = plain() })))
      end
      local one = boot(command.run_dir)
      local other, pod = boot(second)
      assert(one:stop())
      assert.equal("here\n", output(pod.web, "echo", "here"))
      assert(other:stop())
    end)
    assert.same({}, command.list(second))
  end)

  it("ends with its last pod when that was asked for", function()
    moonshim.run(function()
      local vm = assert(moonshim.vm { name = "node", run_dir = command.run_dir, ends_with_last_pod = true, die_with_parent = true })
      local a = assert(vm:start_pod(pod_of("a", { web = plain() })))
      assert(a:stop())
      assert(vm:wait())
      assert(vm:stop())
      assert.equal("ended", vm:state())
    end)
  end)

  it("answers wrong requests with an error that says what is wrong", function()
    local _, e = moonshim.vm { nmae = "x" }
    assert.equal("invalid_argument", e.code)
    assert.is_truthy(e.message:find("name", 1, true))
    _, e = moonshim.vm { name = "a/b" }
    assert.equal("invalid_argument", e.code)
    with_vm(function(vm)
      local _, wrong = vm:start_pod(pod_of("a", { web = plain() }), { policie = "x" })
      assert.is_truthy(wrong.message:find("policy", 1, true))
    end)
  end)
end)

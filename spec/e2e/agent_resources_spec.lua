local descriptors = dofile "scripts/descriptors.lua"
local agent = require "support.agent"
local cjson = require "cjson"
local gcs = require "support.gcs"

-- Limits, statistics, the freezer, want of memory and the extensions, as a host sees them in frames.
agent.describe("the agent asked about resources", function()
  local vm, container_root
  local here = agent.root()
  after_each(function() vm:stop() end)

  local function boot(extensions)
    vm = gcs.boot()
    local answer = vm:must("negotiate", "", { MinimumVersion = 4, MaximumVersion = 4, Extensions = extensions })
    container_root = select(2, vm:share("1", here.root))
    return answer
  end

  local OURS = { "OutOfMemory", "ContainerFreezer", "SignalGroup", "SomethingElse" }

  local function running(line, resources)
    vm:create("c1", gcs.spec(container_root, { "sh", "-c", line }, { linux = {
      namespaces = { { type = "pid" }, { type = "mount" }, { type = "ipc" }, { type = "uts" } }, resources = resources,
    } }))
    return vm:start "c1"
  end

  local function modify(resource, settings)
    local result, body = vm:call("modify", "c1", { Request = { RequestType = "Update", ResourceType = resource, Settings = settings } })
    return result, body.ErrorMessage
  end

  local function properties(...)
    local body = vm:must("properties", "c1", { Query = cjson.encode { PropertyTypes = { ... } } })
    return cjson.decode(body.Properties)
  end

  describe("by a host that knows nothing of extensions", function()
    it("answers the negotiation as ever, and never sends more than an exit", function()
      assert.is_nil(boot(nil).Extensions)
      local pid = running("exec tail /dev/zero", { memory = { limit = 32 << 20 } })
      assert.equal(137, vm:wait("c1", pid))
      gcs.until_ready("the exit", function() return #vm.notifications > 0 end)
      assert.same({}, vm.extras)
    end)
  end)

  describe("by a host that asks for extensions", function()
    it("grants those that it knows", function()
      local granted = boot(OURS).Extensions
      table.sort(granted)
      assert.same({ "ContainerFreezer", "OutOfMemory", "SignalGroup" }, granted)
    end)

    it("tells of want of memory before the wait is answered", function()
      boot(OURS)
      local pid = running("exec tail /dev/zero", { memory = { limit = 32 << 20 } })
      assert.equal(137, vm:wait("c1", pid))
      local news = vm.extras[1]
      assert.equal(0x30180101, news.kind)
      assert.same({ "c1", "OutOfMemory", 1, 32 << 20 }, { news.body.ContainerId, news.body.Type, news.body.Kills, news.body.Limit })
    end)
  end)

  it("tells it each time of the same id, and keeps no descriptor (known bug 66)", function()
    boot(OURS)
    local before
    for i = 1, 12 do
      local pid = running("exec tail /dev/zero", { memory = { limit = 32 << 20 } })
      assert.equal(137, vm:wait("c1", pid))
      vm:must("delete_state", "c1")
      assert.equal(i, #vm.extras)
      before = math.min(before or math.huge, (descriptors(vm.pid)))
    end
    gcs.until_ready("as many descriptors as before", function() return descriptors(vm.pid) <= before end)
  end)

  it("applies constraints or names what it cannot", function()
    boot()
    running("sleep 600", { memory = { limit = 64 << 20 }, pids = { limit = -1 }, cpu = { quota = -1 } }) -- known bug 147
    assert.equal(0, (modify("ContainerConstraints", { Linux = { memory = { limit = 96 << 20 }, pids = { limit = 9 }, devices = { {} } } })))
    local s = properties("Statistics").LCOWMetrics
    assert.same({ 96 << 20, 9 }, { s.memory.usage.limit, s.pids.limit })
    for text, settings in pairs {
      ["blockIO"] = { Linux = { blockIO = { weight = 10 } } },
      ["memory.limit"] = { Linux = { memory = { limit = "1G" } } },
      ["cpu.period"] = { Linux = { cpu = { period = 5 } } },
      ["Linux"] = { Windows = {} },
    } do
      local result, message = modify("ContainerConstraints", settings)
      assert.not_equal(0, result)
      assert.is_truthy(message:find(text, 1, true), message)
    end
    assert.equal(0x80004005, (modify("SomethingElse", {})))
    assert.equal(96 << 20, properties("Statistics").LCOWMetrics.memory.usage.limit)
  end)

  it("answers no query with nothing, several with all", function()
    boot()
    local pid = running "sleep 600 & sleep 600 & wait"
    assert.same("{}", vm:must("properties", "c1", {}).Properties)
    gcs.until_ready("three processes", function() return #properties("ProcessList").ProcessList == 3 end)
    local both = properties("ProcessList", "Statistics", "Memory", "SystemGUID")
    assert.is_true(both.LCOWMetrics.cpu.usage.total > 0)
    local found = false
    for _, entry in ipairs(both.ProcessList) do found = found or entry.ProcessId == pid end
    assert.is_true(found)
    assert.equal(0x80004005, (vm:call("properties", gcs.NULL, {})))
    assert.equal(0xc037010d, (vm:call("properties", "c1", { Query = "nonsense" })))
  end)

  it("freezes and thaws, and kills what is frozen (known bug 24)", function()
    boot(OURS)
    vm:create("c1", gcs.spec(container_root, { "sleep", "600" }))
    assert.equal(0x80370105, (modify("ContainerFreezer", { State = "Frozen" }))) -- it was not started
    local pid = vm:start "c1"
    assert.equal(0xc037010d, (modify("ContainerFreezer", { State = "Cold" })))
    assert.equal(0, (modify("ContainerFreezer", { State = "Frozen" })))
    assert.equal(0, (modify("ContainerFreezer", { State = "Frozen" }))) -- again is fine
    assert.equal(0x80370105, (vm:execute("c1", { OciProcess = { args = { "true" }, cwd = "/" } }, {})))
    assert.equal(0, (modify("ContainerFreezer", { State = "Thawed" })))
    assert.equal(0, (modify("ContainerFreezer", { State = "Thawed" })))
    assert.equal(0, (modify("ContainerFreezer", { State = "Frozen" })))
    vm:must("signal", "c1", { ProcessId = pid, Options = { Signal = 9 } })
    assert.equal(137, vm:wait("c1", pid))
    assert.equal(0xc0370110, (modify("ContainerFreezer", { State = "Frozen" })))
    vm:must("delete_state", "c1")
  end)

  it("sends a signal to a process and all that it has started, and to nobody else (known bug 36)", function()
    boot(OURS)
    local init = running "sleep 600"
    local FAMILY = { "/bin/sh", "-c", "sleep 601 & echo ready; wait; exit 9" }
    local first, its = vm:exec("c1", FAMILY)
    local second, others = vm:exec("c1", FAMILY)
    local _, body, insides = vm:execute(gcs.NULL, { CommandArgs = FAMILY, WorkingDirectory = "/" })
    for _, streams in ipairs { its, others, insides } do streams.stdout:read_until "ready" end
    local group = { Signal = 9, Group = true }
    vm:must("signal", "c1", { ProcessId = first, Options = group })
    assert.equal(137, vm:wait("c1", first))
    assert.equal("ready\n", its.stdout:read_all()) -- its child had that open, too
    vm:must("signal", gcs.NULL, { ProcessId = body.ProcessId, Options = group })
    assert.equal("ready\n", insides.stdout:read_all())
    vm:must("signal", "c1", { ProcessId = second, Options = { Signal = 10, Group = false } })
    assert.equal(138, vm:wait("c1", second))
    assert.is_nil(others.stdout.ended)
    local left = {}
    for _, process in ipairs(properties("ProcessList").ProcessList) do left[process.ProcessId] = true end
    assert.is_true(left[init])
    assert.equal(0x80070490, (vm:call("signal", "c1", { ProcessId = first, Options = group })))
  end)

  it("shuts down though a container is frozen", function()
    boot(OURS)
    running "sleep 600"
    assert.equal(0, (modify("ContainerFreezer", { State = "Frozen" })))
    vm:request("shutdown_forced", gcs.NULL)
    gcs.until_ready("the end", function() return vm.boot_code end)
  end)

  it("sizes the limit of all containers by the memory of the VM", function()
    boot()
    running "sleep 600"
    local result, body = vm:call("modify", gcs.NULL, { Request = { RequestType = "Update", ResourceType = "PodCgroupMemoryLimit" } })
    assert.equal(0, result, body.ErrorMessage)
  end)
end)

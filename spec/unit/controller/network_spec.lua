local err = require "moonshim.err"
local given = require "support.given"
local task = require "moonshim.task"
local virtual = require "support.virtual"

local DNS = { servers = { "10.0.0.53" }, search = { "a.example", "b.example" } }

local function on_bridge(name, more)
  local endpoint = { name = name, kind = "bridge", bridge = "moonshim0", dns = DNS }
  for k, v in pairs(more or {}) do endpoint[k] = v end
  return endpoint
end

-- A pod whose network has these endpoints, and everything that a spec looks at.
local function pod_with(names, opts)
  local f, pod, vm = given.pod(opts)
  local list = {}
  for i, name in ipairs(names or { "eth0" }) do list[i] = type(name) == "table" and name or on_bridge(name) end
  pod.network.endpoints_of = function() return list end
  return f, pod.network, vm, pod
end

local BRIDGE = { mode = "bridge" }

-- The calls about NICs, each with the name of its endpoint.
local function calls(f, network)
  local names, out = {}, {}
  for _, receipt in ipairs(network.seen or network:nics()) do names[receipt.facts.id] = receipt.facts.endpoint end
  for _, call in ipairs(f:called "nic") do
    local op, id = call:match "^(%S+) (%S+)$"
    out[#out + 1] = op .. " " .. (names[id] or id)
  end
  return out
end

-- Remembers the NICs before they are released, so that calls can be named afterwards.
local function remember(network)
  network.seen = network:nics()
  return network.seen
end

local function fail_once(f, op, fault, nth)
  local count = 0
  f:fault(function(called)
    if called ~= op then return nil end
    count = count + 1
    return count == (nth or 1) and fault or nil
  end)
end

describe("the network of a pod", function()
  it("is not configured at first, and needs no word of the guest for that [#326]", virtual(function()
    local f = require("support.fake_vm").new()
    local vm = f:vm { boot = false }
    local pod = vm:new_pod("p")
    assert.equal("not_configured", pod.network.machine:state())
    assert.same({}, pod.network:nics())
    local without, network, other = pod_with(nil, { capabilities = {} })
    network:setup(BRIDGE)
    assert.same({ "host.nic eth0" }, calls(without, network)) -- what is not said is not there
    other:stop()
  end))

  it("asks what the guest can do when it needs it, not before [#327]", virtual(function()
    local f, network, vm = pod_with()
    vm.world.guest.capabilities = {}
    vm.world.guest.capabilities.NamespaceAddRequestSupported = true
    network:setup(BRIDGE)
    assert.same({ "host.nic eth0", "guest.nic eth0" }, calls(f, network))
    vm:stop()
  end))

  it("refuses a namespace without an id, and is invalid then [#328]", virtual(function()
    local f, network, vm = pod_with()
    assert.equal("invalid_argument", given.error(network.setup, network, BRIDGE, "").code)
    assert.equal("invalid", network.machine:state())
    assert.same({}, f:called "nic")
    vm:stop()
  end))

  it("refuses a namespace that does not exist, and adds nothing [#329]", virtual(function()
    local f, pod, vm = given.pod()
    local e = given.error(pod.network.setup, pod.network, { mode = "path", path = "/nonexistent/netns" })
    assert.equal("not_found", e.code)
    assert.is_truthy(e.message:find("pod p", 1, true))
    assert.equal("invalid", pod.network.machine:state())
    assert.same({}, f:called "nic")
    vm:stop()
  end))

  it("can be without NICs [#330]", virtual(function()
    local f, network, vm = pod_with {}
    network:setup { mode = "none" }
    assert.equal("configured", network.machine:state())
    assert.same({}, network:nics())
    assert.is_nil(network.namespace.id)
    assert.same({}, f:called "nic")
    vm:stop()
  end))

  it("adds the one called eth0 first, the others as they came [#331]", virtual(function()
    local f, network, vm = pod_with { "a", "b", "x-eth0" }
    network:setup(BRIDGE)
    assert.same({ "host.nic x-eth0", "guest.nic x-eth0", "host.nic a", "guest.nic a", "host.nic b", "guest.nic b" }, calls(f, network))
    vm:stop()
  end))

  it("is made by the host, recorded, then told to the guest [#332]", virtual(function()
    local f, network, vm = pod_with()
    network:setup(BRIDGE, "the-namespace")
    assert.equal("configured", network.machine:state())
    local facts, said = network:nics()[1].facts, f.nics_seen[1]
    assert.equal("10.9.0.7", facts.address)
    assert.same({
      NamespaceID = "the-namespace", ID = facts.id, MacAddress = facts.mac, DNSSuffix = "a.example,b.example", DNSServerList = "10.0.0.53",
      IPConfigs = { { IPAddress = "10.9.0.7", PrefixLength = 24 } }, Routes = { { DestinationPrefix = "0.0.0.0/0", NextHop = "10.9.0.1" } },
    }, said)
    vm:stop()
    assert.same({}, f:leaks())
    assert.same({}, f.wrong)
  end))

  it("is the host's affair alone when the guest knows nothing of namespaces [#333]", virtual(function()
    local f, network, vm = pod_with(nil, { capabilities = { SignalProcessSupported = true } })
    network:setup(BRIDGE)
    remember(network)
    network:teardown()
    assert.same({ "host.nic eth0", "host.unnic eth0" }, calls(f, network))
    vm:stop()
  end))

  it("is invalid when the host cannot make a NIC, and there is none to take away [#334]", virtual(function()
    local f, network, vm = pod_with()
    fail_once(f, "host.nic", "fail")
    assert.equal("host", given.error(network.setup, network, BRIDGE).origin)
    assert.equal("invalid", network.machine:state())
    assert.same({}, f.nics)
    network:teardown()
    assert.equal("torn_down", network.machine:state())
    assert.same({}, network:receipts())
    vm:stop()
  end))

  it("keeps the host's half when the guest refuses, for the teardown to take [#335]", virtual(function()
    local f, network, vm = pod_with()
    fail_once(f, "guest.nic", "fail")
    assert.equal("guest", given.error(network.setup, network, BRIDGE).origin)
    assert.equal("invalid", network.machine:state())
    assert.equal(1, #network:nics())
    assert.is_truthy(next(f.nics))
    network:teardown()
    assert.same({}, f.nics)
    assert.equal("torn_down", network.machine:state())
    vm:stop()
  end))

  it("takes away exactly what was made before a failure in the middle [#336]", virtual(function()
    for _, op in ipairs { "host.nic", "guest.nic" } do
      local f, network, vm = pod_with { "eth0", "eth1", "eth2" }
      fail_once(f, op, "fail", 2)
      given.error(network.setup, network, BRIDGE)
      remember(network)
      network:teardown()
      local made, taken = f:called "^host%.nic", f:called "^host%.unnic"
      assert.equal(2, #made)
      assert.equal(2, #taken)
      assert.same({}, f.nics)
      assert.same({}, f.guest_nics)
      assert.same({}, f.wrong)
      vm:stop()
    end
  end))

  it("is added under the endpoint's namespace and removed under the pod's [#337]", virtual(function()
    local f, network, vm = pod_with { on_bridge("eth0", { namespace = "endpoints-own" }) }
    network:setup(BRIDGE, "the-pods")
    assert.equal("endpoints-own", f.nics_seen[1].NamespaceID)
    assert.equal("the-pods", network:nics()[1].facts.namespace)
    f.wrong = {}
    network:teardown()
    assert.same({ ("NIC %s removed from the namespace the-pods"):format(f.nics_seen[1].ID) }, f.wrong)
    vm:stop()
  end))

  it("is set up once: again is refused and changes nothing [#338] [#16]", virtual(function()
    local f, network, vm = pod_with()
    network:setup(BRIDGE)
    assert.equal("failed_precondition", given.error(network.setup, network, BRIDGE).code)
    assert.equal("configured", network.machine:state())
    assert.equal(1, #f:called "^host%.nic")
    vm:stop()
  end))

  it("is not set up from a failure or after its end [#339]", virtual(function()
    local f, network, vm = pod_with()
    fail_once(f, "host.nic", "fail")
    given.error(network.setup, network, BRIDGE)
    assert.equal("failed_precondition", given.error(network.setup, network, BRIDGE).code)
    assert.equal("invalid", network.machine:state())
    network:teardown()
    assert.equal("failed_precondition", given.error(network.setup, network, BRIDGE).code)
    assert.equal("torn_down", network.machine:state())
    vm:stop()
  end))

  it("has nothing to take down before it was set up [#340]", virtual(function()
    local f, network, vm = pod_with()
    network:teardown()
    assert.equal("not_configured", network.machine:state())
    assert.same({}, f:called "nic")
    vm:stop()
  end))

  it("goes by the guest's half, then the host's, NIC by NIC [#341]", virtual(function()
    local f, network, vm = pod_with { "eth0", "eth1" }
    network:setup(BRIDGE)
    remember(network)
    network:teardown()
    assert.equal("torn_down", network.machine:state())
    local order = {}
    for i, call in ipairs(calls(f, network)) do order[call] = i end
    for _, name in ipairs { "eth0", "eth1" } do assert.is_true(order["guest.unnic " .. name] < order["host.unnic " .. name]) end
    assert.same({}, f.wrong)
    vm:stop()
  end))

  it("is taken down again without another call [#342]", virtual(function()
    local f, network, vm = pod_with()
    network:setup(BRIDGE)
    network:teardown()
    local n = #f.calls
    network:teardown()
    assert.equal(n, #f.calls)
    assert.equal("torn_down", network.machine:state())
    vm:stop()
  end))

  it("goes on with the host's half when the guest cannot be reached [#343]", virtual(function()
    local f, network, vm = pod_with()
    network:setup(BRIDGE)
    f.guest_nics = {} -- whatever it keeps, it is not there to say so
    vm.world.guest.modify = function() error(err.new("unavailable", "the guest connection is lost", { origin = "shim" }), 0) end
    network:teardown()
    assert.same({}, f.nics)
    assert.equal("torn_down", network.machine:state())
    vm.world.guest.modify = nil
    vm:stop()
  end))

  it("goes on with the host's half when there is no connection at all [#343]", virtual(function()
    local f, network, vm = pod_with()
    network:setup(BRIDGE)
    f.guest_nics = {}
    local guest = vm.world.guest
    vm.world.guest = nil
    network:teardown()
    assert.same({}, f.nics)
    assert.equal("torn_down", network.machine:state())
    vm.world.guest = guest
    vm:stop()
  end))

  for which = 1, 2 do
    it(("keeps NIC %d of 2 when the guest does not let it go, and takes the other [#344]"):format(which), virtual(function()
      local f, network, vm = pod_with { "eth0", "eth1" }
      network:setup(BRIDGE)
      local kept = remember(network)[which].facts.id
      f:fault(function(op, _, detail) return op == "guest.unnic" and detail == kept and "fail" or nil end)
      assert.is_truthy(given.error(network.teardown, network).message:find("pod p", 1, true))
      assert.equal("invalid", network.machine:state())
      assert.same({ kept, 1 }, { network:nics()[1].facts.id, #network:nics() })
      assert.is_table(f.nics[kept])
      assert.is_nil(f.nics[network.seen[3 - which].facts.id])
      assert.same({}, f:called("^host%.unnic " .. kept:gsub("%-", "%%-")))
      f:fault(nil)
      network:teardown()
      vm:stop()
      assert.same({}, f:leaks())
    end))
  end

  it("counts a NIC of a VM that is gone as removed [#345]", virtual(function()
    local f, network, vm = pod_with()
    network:setup(BRIDGE)
    f:fault(function(op) return op == "host.unnic" and { hresult = 0x8037010E, done = true } or nil end)
    network:teardown()
    assert.equal("torn_down", network.machine:state())
    vm:stop()
  end))

  it("keeps a NIC that the host does not take away [#346]", virtual(function()
    local f, network, vm = pod_with()
    network:setup(BRIDGE)
    f:fault(function(op) return op == "host.unnic" and "fail" or nil end)
    given.error(network.teardown, network)
    assert.equal("invalid", network.machine:state())
    assert.equal(1, #network:nics())
    f:fault(nil)
    network:teardown()
    vm:stop()
  end))

  it("touches only what is left when it is taken down again [#347] [#15]", virtual(function()
    local f, network, vm = pod_with { "eth0", "eth1" }
    network:setup(BRIDGE)
    local kept = remember(network)[2].facts.id
    f:fault(function(op, _, detail) return op == "host.unnic" and detail == kept and "fail" or nil end)
    assert.is_truthy(given.error(network.teardown, network).message:find("pod p", 1, true))
    f:fault(nil)
    local before = #f.calls
    network:teardown()
    assert.equal("torn_down", network.machine:state())
    local again = {}
    for i = before + 1, #f.calls do again[#again + 1] = f.calls[i] end
    assert.same({ "guest.unnic " .. kept, "host.unnic " .. kept }, again)
    vm:stop()
  end))

  it("is taken down with the pod whose start it made fail, and can be had again [#348] [#441]", virtual(function()
    local f = require("support.fake_vm").new()
    local vm = f:vm()
    local spec = require("moonshim.pod_spec").check({
      name = "p", sandbox = false, network = "bridge", containers = { c = { rootfs = "/roots/busybox", args = { "sleep" } } },
    }, { base = "/" })
    local function start()
      local new_pod = vm.new_pod
      vm.new_pod = function(...)
        vm.new_pod = nil
        local pod = new_pod(...)
        pod.network.endpoints_of = function() return { on_bridge("eth0", { namespace = "the-namespace" }), on_bridge "eth1" } end
        return pod
      end
      return vm:start_pod(spec, function() return {} end)
    end
    fail_once(f, "host.nic", "fail", 2)
    given.error(start)
    assert.same({ {}, {}, {} }, { f.nics, f.guest_nics, vm.pods })
    assert.equal(2, #f:called "^host%.nic")
    f:fault(nil)
    assert.equal("configured", start().network.machine:state())
    f.wrong = {} -- the namespace of an endpoint is not the pod's, see above
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("of one pod does not wait for that of another [#350]", virtual(function()
    local f, one, vm = pod_with()
    local two = vm:new_pod("q").network
    two.endpoints_of = function() return { on_bridge "eth0" } end
    f:fault(function(op) return op == "host.nic" and { delay = 1000 } or nil end)
    local at = task.now()
    task.all { function() one:setup(BRIDGE) end, function() two:setup(BRIDGE) end }
    assert.is_true(task.now() - at < 1500)
    vm:stop()
  end))

  it("tells the guest when routes are chosen by policy [#351]", virtual(function()
    local f, network, vm = pod_with()
    network.policy_based_routing = true
    network:setup(BRIDGE)
    assert.is_true(f.nics_seen[1].PolicyBasedRouting)
    vm:stop()
  end))

  it("keeps the class of an error and names the pod [#14]", virtual(function()
    local _, network, vm = pod_with()
    network.endpoints_of = function() err.raise("resource_exhausted", "no address is left") end
    local e = given.error(network.setup, network, BRIDGE)
    assert.equal("resource_exhausted", e.code)
    assert.is_truthy(e.message:find("network of pod p", 1, true))
    vm:stop()
  end))

  it("takes names and addresses of a namespace that is there, and no link", virtual(function()
    local f, network, vm = pod_with { {
      name = "eth0", kind = "in_place", mac = "02:00:00:00:00:01", dns = DNS, routes = {},
      addresses = { { address = "10.5.0.7", prefix = 24 } },
    } }
    network:setup(BRIDGE)
    assert.is_true(f.nics_seen[1].InPlace)
    assert.same({ { IPAddress = "10.5.0.7", PrefixLength = 24 } }, f.nics_seen[1].IPConfigs)
    network:teardown()
    assert.same({}, f:called "^host%.u?n?nic")
    vm:stop()
  end))

  it("is stood on by the pod's first container, which goes before it", virtual(function()
    local f, pod, vm = given.pod()
    pod.network.endpoints_of = function() return { on_bridge "eth0" } end
    local spec = require("moonshim.pod_spec").check({
      name = "p", network = "bridge", containers = { c = { rootfs = "/roots/busybox", args = { "sleep" } } },
    }, { base = "/" })
    pod:launch(spec, function() return { stdout = { fd = 1 }, stderr = { fd = 2 } } end)
    local sandbox = f.containers.p.document.OciSpecification
    assert.equal(pod.network.namespace.id, sandbox.windows.network.networkNamespace)
    local text = vm:plan("stop"):table()
    assert.is_true(text:find "nic%-" > text:find "bundle%-%d+%s+p/p")
    vm:stop()
    assert.same({}, f:leaks())
    assert.same({}, f.wrong)
  end))

  it("leaves nothing, whatever call fails, hangs or is lost, and at whatever point", virtual(function()
    local total
    local function life(fault_at, kind)
      local f, pod, vm = given.pod()
      pod.network.endpoints_of = function() return { on_bridge "eth0", on_bridge "eth1" } end
      local spec = require("moonshim.pod_spec").check({
        name = "p", network = "bridge", containers = { c = { rootfs = "/roots/busybox", args = { "sleep" } } },
      }, { base = "/" })
      local from = f.count
      if fault_at then f:fault(function(_, n) return n == from + fault_at and kind or nil end) end
      local ok = pcall(pod.launch, pod, spec, function() return { stdout = { fd = 1 }, stderr = { fd = 2 } } end)
      pcall(vm.stop, vm, { goal = ok and "stop" or "roll_back" })
      if not vm.machine:is "ended" then pcall(vm.terminate, vm) end
      if not vm.machine:is "ended" then vm:terminate() end
      total = f.count - from
      assert.same({}, f:leaks(), ("%s at %s"):format(tostring(kind), tostring(fault_at)))
    end
    life()
    local calls_of_a_life = total
    for _, kind in ipairs { "fail", "hang", "lost", "die" } do
      for at = 1, calls_of_a_life do life(at, kind) end
    end
  end))
end)

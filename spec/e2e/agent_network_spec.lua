local agent = require "support.agent"
local cjson = require "cjson"
local descriptors = dofile "scripts/descriptors.lua"
local gcs = require "support.gcs"
local TYPE, POD = "io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"
local NOT_FOUND, FAILED, INVALID = 0x80070490, 0x80004005, 0x80070057

-- Links are only ever made inside the UVM's own network.
agent.describe("a NIC inside the agent", function()
  local vm, at
  local here = agent.root()
  agent.vm(function(booted, root) vm, at = booted, root end, here)

  ---A command line in the UVM's network, run by this machine's programs.
  local function in_vm(line) return gcs.sh(("nsenter --net=/proc/%d/ns/net sh -ec '%s'"):format(vm.pid, line)) end

  local links = 0
  ---A pair of links in the UVM: the first is the NIC, the second stays.
  local function link()
    links = links + 1
    local mac = ("02:00:00:00:00:%02x"):format(links)
    in_vm(("ip link add mshnic%d address %s type veth peer name far%d; ip link set far%d up"):format(links, mac, links, links))
    return mac
  end

  local function nic(id, more)
    local settings = { NamespaceID = "NS-1", ID = id, IPConfigs = { { IPAddress = "10.5.0.7", PrefixLength = 24 } } }
    for k, v in pairs(more or {}) do settings[k] = v end
    if settings.MacAddress == nil then settings.MacAddress = link() end
    local result, body = vm:modify("Add", "Network", settings)
    return result, body.ErrorMessage
  end

  local function spec_of(namespace, line, over)
    over = over or {}
    over.windows = namespace and { network = { networkNamespace = namespace } } or nil
    local spec = gcs.spec(at, { "sh", "-c", line }, over)
    table.insert(spec.linux.namespaces, { type = "network" })
    return spec
  end

  local function run(line, over)
    local code, out, err = vm:run("c1", spec_of("ns-1", line, over))
    assert.equal(0, code, type(err) == "table" and err.ErrorMessage or tostring(out) .. tostring(err))
    return out
  end

  it("is taken into the container's network, with its address and its routes", function()
    assert.equal(0, nic("A-1", { Routes = { { DestinationPrefix = "0.0.0.0/0", NextHop = "10.5.0.1" } } }))
    local out = run "ip -4 addr show eth0; ip route; ip link show lo"
    assert.is_truthy(out:find("10.5.0.7/24", 1, true))
    assert.is_truthy(out:find("default via 10.5.0.1 dev eth0", 1, true))
    assert.is_truthy(out:find("LOOPBACK,UP", 1, true))
    assert.equal("", in_vm "ip -o link | grep mshnic || true")
  end)

  it("gives the container its names", function()
    nic("A-1", { DNSSuffix = " A.example ,b.example", DNSServerList = "10.0.0.53,10.0.0.53, 10.0.0.54" })
    local out = run("cat /etc/resolv.conf /etc/hostname; head -n 2 /etc/hosts", { hostname = "web.a.example" })
    assert.equal("search a.example b.example\nnameserver 10.0.0.53\nnameserver 10.0.0.54\nweb.a.example\n"
      .. "127.0.0.1 localhost\n10.5.0.7 web.a.example web\n", out)
  end)

  it("names several in the order in which they came, and gathers what they say", function()
    nic("A-1", { DNSServerList = "10.0.0.53" })
    nic("A-2", { IPConfigs = { { IPAddress = "10.6.0.7", PrefixLength = 24 } }, DNSServerList = "10.0.0.54" })
    local out = run "ip -4 -o addr show eth0; ip -4 -o addr show eth1; cat /etc/resolv.conf"
    assert.is_truthy(out:find("eth0 .*10%.5%.0%.7.*eth1 .*10%.6%.0%.7.*10%.0%.0%.53\nnameserver 10%.0%.0%.54"))
  end)

  it("has the space of an encapsulation taken off its packets", function()
    nic("A-1", { EncapOverhead = 50 })
    assert.is_truthy(run("ip link show eth0"):find("mtu 1450", 1, true))
  end)

  it("has it taken off once, however often it is set up", function()
    nic("A-1", { EncapOverhead = 50 })
    for _ = 1, 2 do
      local spec = spec_of("ns-1", "ip link show eth0")
      spec.annotations = { ["io.microsoft.virtualmachine.lcow.hostnetwork"] = "true" }
      local _, out = vm:run("c1", spec)
      assert.is_truthy(out:find("mtu 1450", 1, true), out)
    end
  end)

  it("makes a gateway outside of its own network reachable", function()
    nic("A-1", {
      IPConfigs = { { IPAddress = "10.5.0.7", PrefixLength = 32 } },
      Routes = { { DestinationPrefix = "10.77.0.0/16", NextHop = "192.168.9.1", Metric = 7 } },
    })
    assert.is_truthy(run("ip route"):find "10%.77%.0%.0/16 via 192%.168%.9%.1 dev eth0%s+metric 7")
  end)

  it("has no default route when the host says it leads nowhere", function()
    nic("A-1", { Routes = { { DestinationPrefix = "0.0.0.0/0", NextHop = "0.0.0.0" } } })
    assert.is_nil(run("ip route"):find "default")
  end)

  it("has its own table of routes when it must not carry the others' traffic", function()
    nic("A-1", { PolicyBasedRouting = true, Routes = { { DestinationPrefix = "0.0.0.0/0", NextHop = "10.5.0.1" } } })
    nic("A-2", {
      PolicyBasedRouting = true, IPConfigs = { { IPAddress = "10.6.0.7", PrefixLength = 24 } },
      Routes = { { DestinationPrefix = "0.0.0.0/0", NextHop = "10.6.0.1" } },
    })
    local out = run "ip route; echo --; ip rule; echo --; ip route list table 101"
    local main, rules, other = out:match "^(.*)%-%-(.*)%-%-(.*)$"
    assert.is_truthy(main:find("default via 10.5.0.1", 1, true))
    assert.is_nil(main:find("10.6.0.1", 1, true))
    assert.is_truthy(rules:find "5:%s+from 10%.6%.0%.7 lookup 101")
    assert.is_truthy(other:find "default via 10%.6%.0%.1 dev eth1%s+metric 500")
  end)

  it("is found by its hardware address however that is written", function()
    local mac = link()
    assert.equal(0, nic("A-1", { MacAddress = mac:gsub(":", "-"):upper() }))
  end)

  it("may have IPv6", function()
    nic("A-1", {
      IPConfigs = { { IPAddress = "fd05::7", PrefixLength = 64 } }, Routes = { { DestinationPrefix = "::/0", NextHop = "fd05::1" } },
    })
    local out = run "ip -6 addr show eth0; ip -6 route; head -n 2 /etc/hosts"
    assert.is_truthy(out:find("fd05::7/64", 1, true))
    assert.is_truthy(out:find("default via fd05::1 dev eth0", 1, true))
    assert.is_truthy(out:find("fd05::7 ", 1, true))
  end)

  it("is refused twice, in any letter case, and the first stays", function()
    assert.equal(0, nic "A-1")
    assert.equal(FAILED, (nic "a-1"))
    assert.is_truthy(run("ip -4 addr show eth0"):find("10.5.0.7", 1, true))
  end)

  it("is refused when its link does not come", function()
    local result, text = nic("A-1", { MacAddress = "02:00:00:ff:ff:ff" })
    assert.equal(NOT_FOUND, result)
    assert.is_truthy(text:find("02:00:00:ff:ff:ff", 1, true))
  end)

  for what, more in pairs {
    ["an address that is none"] = { IPConfigs = { { IPAddress = "10.5.0", PrefixLength = 24 } } },
    ["a prefix that is too long"] = { IPConfigs = { { IPAddress = "10.5.0.7", PrefixLength = 33 } } },
    ["a route to nowhere"] = { Routes = { { DestinationPrefix = "x/8", NextHop = "10.5.0.1" } } },
    ["a gateway of another family"] = { Routes = { { DestinationPrefix = "10.0.0.0/8", NextHop = "fd00::1" } } },
    ["an id that leaves its folder"] = { ID = "../../etc" },
    ["no id"] = { ID = "" },
    ["no namespace"] = { NamespaceID = "" },
    ["addresses that are no list"] = { IPConfigs = "10.5.0.7" },
  } do
    it("is refused with " .. what, function()
      more.MacAddress = "02:00:00:ff:ff:fe"
      assert.equal(INVALID, (nic("A-1", more)))
    end)
  end

  it("with names that cannot stand in the file lets no container be created", function()
    nic("A-1", { DNSServerList = "10.0.0.53\nevil" })
    local code, result = vm:run("c1", spec_of("ns-1", "true"))
    assert.is_nil(code)
    assert.equal(INVALID, result)
    assert.equal("", vm:inside "find /run/gcs -path '*pods/*'; find /sys/fs/cgroup -name c1")
  end)

  it("that cannot be set up ends the create, and nothing is left of the container", function()
    assert.equal(0, nic("A-1", { IPConfigs = cjson.null })) -- DHCP, for which this UVM has no program
    local code, result, body = vm:run("c1", spec_of("ns-1", "true"))
    assert.is_nil(code)
    assert.equal(FAILED, result)
    assert.is_truthy(body.ErrorMessage:find("udhcpc", 1, true))
    assert.equal("", vm:inside "find /run/gcs -path '*pods/*'; find /sys/fs/cgroup -name c1")
  end)

  it("comes into a network that is in use, when it is added late", function()
    nic "A-1"
    local spec = spec_of("ns-1", "while ! ip link show eth1 >/dev/null 2>&1; do sleep 0.01; done; ip -4 -o addr show eth1")
    assert.equal(0, (vm:create("c1", spec)))
    local pid, streams = vm:start "c1"
    assert.equal(0, (nic("A-2", { IPConfigs = { { IPAddress = "10.6.0.7", PrefixLength = 24 } } })))
    assert.equal(0, vm:wait("c1", pid))
    streams.stdout:read_all()
    vm:must("delete_state", "c1")
  end)

  describe("that comes into a network in use", function()
    local shown
    before_each(function()
      nic "A-1"
      local spec = spec_of("ns-1", "read line; ip -4 -o addr show eth1; ip link show eth1; ip link show lo")
      assert.equal(0, (vm:create("c1", spec)))
      local pid, streams = vm:start("c1", { "stdin", "stdout" })
      shown = function()
        streams.stdin:write "go\n"
        local out = streams.stdout:read_all()
        vm:wait("c1", pid)
        vm:must("delete_state", "c1")
        return out
      end
    end)

    local SECOND = { { IPAddress = "10.6.0.7", PrefixLength = 24 } }

    it("and cannot be set up there is where it was, as it was, and may be added again", function()
      local mac = link()
      local failing = { MacAddress = mac, IPConfigs = cjson.null, EncapOverhead = 50 } -- DHCP, as above
      for _ = 1, 2 do
        assert.equal(FAILED, (nic("A-2", failing)))
        assert.is_truthy(in_vm("ip -o link | grep -i " .. mac):find("mtu 1500", 1, true))
      end
      assert.equal(0, (nic("A-2", { MacAddress = mac, IPConfigs = SECOND, EncapOverhead = 50 })))
      local out = shown()
      assert.is_truthy(out:find("10.6.0.7/24", 1, true), out)
      assert.is_truthy(out:find("mtu 1450", 1, true), out)
    end)

    it("gets the next name when its own is taken, there and on the way back", function()
      local mac = link()
      in_vm(("ip link set mshnic%d name eth0; ip link set far%d down; ip link set far%d name eth1"):format(links, links, links))
      assert.equal(FAILED, (nic("A-2", { MacAddress = mac, IPConfigs = cjson.null })))
      in_vm("ip -o link | grep -i " .. mac)
      assert.equal(0, (nic("A-2", { MacAddress = mac, IPConfigs = SECOND })))
      assert.is_truthy(shown():find("10.6.0.7/24", 1, true))
    end)

    it("leaves the loopback alone, whose address is nothing but zeros", function()
      assert.equal(NOT_FOUND, (nic("A-2", { MacAddress = "00-00-00-00-00-00", IPConfigs = SECOND })))
      assert.is_truthy(shown():find("LOOPBACK,UP", 1, true))
    end)
  end)

  it("is forgotten when it is removed, any number of times, known or not", function()
    nic "A-1"
    for _ = 1, 2 do assert.equal(0, (vm:modify("Remove", "Network", { NamespaceID = "NS-1", ID = "A-1" }))) end
    assert.equal(0, (vm:modify("Remove", "Network", { NamespaceID = "other", ID = "A-1" })))
    assert.equal(FAILED, (vm:modify("Update", "Network", { NamespaceID = "NS-1", ID = "A-1" })))
    assert.equal(0, nic "A-1") -- its link is where it was
  end)

  describe("of a sandbox", function()
    local PAUSE = { destination = "/pause", type = "bind", source = "/sbin/moonshim-guest", options = { "bind", "ro" } }
    local function sandbox(pod, namespace, annotations)
      local spec = gcs.spec("rootfs", { "/pause", "pause" }, { hostname = pod, windows = { network = { networkNamespace = namespace } } })
      spec.annotations = { [TYPE] = "sandbox", [POD] = pod }
      for k, v in pairs(annotations or {}) do spec.annotations[k] = v end
      table.insert(spec.mounts, PAUSE)
      table.insert(spec.linux.namespaces, { type = "network" })
      local result, body = vm:create(pod, spec, { bundle = ("/run/gcs/pods/%s/%s"):format(pod, pod) })
      if result ~= 0 then return nil, result, body end
      return (vm:start(pod, {}))
    end

    local function workload(pod, pid, line)
      local spec = gcs.spec(at, { "sh", "-c", line })
      spec.annotations = { [TYPE] = "container", [POD] = pod }
      table.insert(spec.linux.namespaces, { type = "network", path = ("/proc/%d/ns/net"):format(pid) })
      local code, out, err = vm:run(pod .. "-w", spec, { bundle = ("/run/gcs/pods/%s/%s-w"):format(pod, pod) })
      assert.equal(0, code, type(err) == "table" and err.ErrorMessage or err)
      return out
    end

    it("must have been announced, unless the sandbox can do without", function()
      local pid, result = sandbox("p1", "unknown")
      assert.is_nil(pid)
      assert.equal(NOT_FOUND, result)
      assert.is_number(sandbox("p1", "unknown", { ["io.microsoft.cri.skip-pod-networking"] = "true" }))
    end)

    it("is the network of its workloads, and each pod has its own names", function()
      nic("A-1", { DNSServerList = "10.0.0.53" })
      nic("B-1", { NamespaceID = "ns-2", DNSServerList = "10.0.0.54", IPConfigs = { { IPAddress = "10.6.0.7", PrefixLength = 24 } } })
      local one, two = sandbox("p1", "ns-1"), sandbox("p2", "NS-2")
      local line = "ip -4 -o addr show eth0; cat /etc/resolv.conf; head -n 2 /etc/hosts; cat /etc/hostname"
      local first, second = workload("p1", one, line), workload("p2", two, line)
      for _, text in ipairs { "10.5.0.7/24", "nameserver 10.0.0.53\n", "10.5.0.7 p1\n", "\np1\n" } do
        assert.is_truthy(first:find(text, 1, true), text)
      end
      for _, text in ipairs { "10.6.0.7/24", "nameserver 10.0.0.54\n", "10.6.0.7 p2\n", "\np2\n" } do
        assert.is_truthy(second:find(text, 1, true), text)
      end
      assert.is_nil(first:find("10.0.0.54", 1, true))
    end)

    it("leaves nothing in the VM that lives on, round after round", function()
      local function nics() return vm:inside "ls /sys/class/net | wc -l" end
      local before, nics_before
      for round = 1, 6 do
        nic("A-1", { DNSServerList = "10.0.0." .. round })
        local pid = sandbox("p1", "ns-1")
        assert.is_truthy(workload("p1", pid, "cat /etc/resolv.conf"):find(("nameserver 10.0.0.%d\n"):format(round), 1, true))
        vm:must("signal", "p1", { ProcessId = pid, Options = { Signal = 9 } })
        vm:wait("p1", pid)
        vm:must("delete_state", "p1")
        assert.equal(0, (vm:modify("Remove", "Network", { NamespaceID = "NS-1", ID = "A-1" })))
        in_vm(("ip link del far%d 2>/dev/null || true"):format(links))
        if round == 2 then -- what is opened once, when first needed, is open by then
          before, nics_before = math.huge, nics()
          -- The least of several looks: streams of what has just ended may still be closing.
          for _ = 1, 20 do before = math.min(before, nics() and descriptors(vm.pid)) end
        end
      end
      assert.equal(nics_before, nics())
      gcs.until_ready("as many descriptors as before", function() return descriptors(vm.pid) <= before end)
    end)
  end)
end)

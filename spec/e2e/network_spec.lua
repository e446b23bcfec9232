local command = require "e2e.command"
local uv = require "luv"

-- A place of its own for the bridge and its pods: moonshim runs in a network namespace that this file makes, so that the
-- machine's own links and addresses are never touched. It lives as a file, without a process.
local place, enter

local function sh(line)
  local result = command.execute("/bin/sh", { "-ec", line })
  assert.equal(0, result.code, result.err)
  return result.out
end

---`moonshim run --network ... -- CMD` in the place.
local function args_of(cmd, options)
  local args = { "--net=" .. enter, command.program }
  local run = command.run_args(cmd, options)
  return table.move(run, 1, #run, #args + 1, args)
end

local function run(cmd, options, opts) return command.execute("/usr/bin/nsenter", args_of(cmd, options), opts) end
local function start(cmd, options, opts) return command.spawn("/usr/bin/nsenter", args_of(cmd, options), opts) end
local function moonshim(...) return command.execute("/usr/bin/nsenter", { "--net=" .. enter, command.program, ... }) end

---Links of the place but its loopback.
local function links(where)
  local out = {}
  for name in sh(("nsenter --net=%s ip -o link"):format(where or enter)):gmatch "%f[^\n%z]%d+: ([^:@]+)" do
    if name ~= "lo" then out[#out + 1] = name end
  end
  return out
end

local function new_place(name)
  local path = command.write("places/" .. name, "")
  sh(("unshare --net=%s true && nsenter --net=%s ip link set lo up"):format(path, path))
  return path
end

local function remove_place(path) sh(("umount %s"):format(path)) end

-- For a shell that is pid 1, and so hears only what it asks for.
local STAY = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"

local function shell(line) return { "/bin/sh", "-c", line } end

-- The machine's links, without what changes by itself: carriers, and for how long an address is leased.
local OWN_LINKS = "ip -o link | sed 's/<.*//'; ip -o addr | sed 's/ valid_lft.*//'"

describe("pods with a network", function()
  local check_leaks, before

  setup(function()
    check_leaks = command.leaks()
    before = sh(OWN_LINKS)
    place = new_place "main"
    enter = place
  end)
  after_each(function() assert.same({}, links(), "links are left") end)
  teardown(function()
    remove_place(place)
    check_leaks()
    assert.equal(before, sh(OWN_LINKS), "the machine's own links were touched")
    command.cleanup()
  end)

  -- A pod that stays until it is told to go, and its address.
  local function pod(name)
    local process = start(shell("ip -4 -o addr show eth0; " .. STAY), { "--name", name, "--network", "bridge" })
    process:wait_for("inet ")
    return process, process.out:match "inet ([%d.]+)/"
  end

  local function stop(process)
    process:kill "sigterm"
    process:wait()
  end

  it("reach each other over one bridge, which goes with the last of them", function()
    local one, first = pod "one"
    local two, second = pod "two"
    assert.not_equal(first, second)
    for _, target in ipairs { first, second } do
      local ping = run({ "ping", "-c", "2", "-W", "5", target }, { "--name", "three", "--network", "bridge" })
      assert.equal(0, ping.code, ping.out .. ping.err)
      assert.is_truthy(ping.out:find(" 0% packet loss", 1, true))
    end
    assert.equal(3, #links())
    stop(one)
    assert.equal(2, #links())
    stop(two)
  end)

  it("reach the machine through the bridge's address", function()
    local ping = run(shell "ping -c 1 -W 5 $(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p')", { "--network", "bridge" })
    assert.equal(0, ping.code, ping.out .. ping.err)
  end)

  it("have their names in resolv.conf, hosts and hostname", function()
    local result = run(shell "cat /etc/resolv.conf; head -n 2 /etc/hosts; cat /etc/hostname; hostname; ip -4 -o addr show eth0",
      { "--network", "bridge", "--dns", "10.0.0.53", "--dns", "fd00::53", "--dns-search", "A.example", "--dns-search", "b.example",
        "--hostname", "web.a.example" })
    assert.equal(0, result.code, result.err)
    local address = result.out:match "inet ([%d.]+)/"
    local expected = "search a.example b.example\nnameserver 10.0.0.53\nnameserver fd00::53\n127.0.0.1 localhost\n" .. address
      .. " web.a.example web\nweb.a.example\nweb.a.example\n"
    assert.equal(expected, result.out:sub(1, #expected))
  end)

  it("have the host's servers when they name none, but not those on its loopback", function()
    local result = run({ "cat", "/etc/resolv.conf" }, { "--network", "bridge" })
    local expected = {}
    for server in (command.read "/etc/resolv.conf" or ""):gmatch "nameserver%s+([^%s]+)" do
      if not server:find "^127%." and server ~= "::1" then expected[#expected + 1] = "nameserver " .. server .. "\n" end
    end
    assert.equal(table.concat(expected), (result.out:gsub("search[^\n]*\n", "")))
  end)

  it("have the loopback alone without a network", function()
    for _, options in ipairs { {}, { "--network", "none" } } do
      local result = run(shell "ls /sys/class/net; cat /etc/resolv.conf; ping -c 1 -W 5 127.0.0.1 >/dev/null", options)
      assert.equal("lo\n", result.out)
      assert.equal(0, result.code)
    end
  end)

  it("share one network in a pod, as its file says", function()
    local file = command.write("net/pod.lua", ([[
      local moonshim = require "moonshim"
      local root = %q
      return moonshim.pod {
        name = "pair", hostname = "pair.example",
        network = { mode = "bridge", subnet = "10.90.0.0/24", address = "10.90.0.9" },
        dns = { servers = { "10.90.0.1" }, search = { "example" } },
        containers = {
          one = { rootfs = root, read_only = true, args = { "sh", "-c", "hostname; nc -l -p 7000 -e cat" } },
          two = { rootfs = root, read_only = true, args = { "sh", "-c",
            "cat /etc/resolv.conf; ip -4 -o addr show eth0; until echo hello | nc pair.example 7000; do sleep 0.05; done" } },
        },
      }
    ]]):format(command.root()))
    local result = moonshim("run", file)
    assert.equal(0, result.code, result.err)
    local expected = { "one | pair.example\n", "two | search example\n", "two | nameserver 10.90.0.1\n", "10.90.0.9/24", "two | hello\n" }
    for _, text in ipairs(expected) do
      assert.is_truthy(result.out:find(text, 1, true), text .. "\n" .. result.out)
    end
  end)

  it("are refused a certain address that another has, and nothing is left of the second", function()
    local file = command.write("net/fixed.lua", ([[
      return require("moonshim").pod {
        name = arg_name, sandbox = false, network = { mode = "bridge", subnet = "10.90.0.0/24", address = "10.90.0.9" },
        containers = { c = { rootfs = %q, args = { "sh", "-c", %q } } },
      }
    ]]):format(command.root(), STAY):gsub("arg_name", '"fixed"'))
    local other = command.write("net/other.lua", (command.read(file):gsub('"fixed"', '"other"')))
    local first = command.spawn("/usr/bin/nsenter", { "--net=" .. enter, command.program, "run", file })
    first:wait_for "up"
    local second = moonshim("run", other)
    assert.equal(125, second.code)
    assert.is_truthy(second.err:find("10.90.0.9 is in use", 1, true), second.err)
    assert.equal(2, #links())
    stop(first)
  end)

  describe("in a namespace that is there", function()
    local given

    before_each(function()
      given = new_place "given"
      -- As a CNI plugin leaves it: a link with an address and a route; the other end is elsewhere.
      sh(("nsenter --net=%s sh -ec 'ip link add eth0 type veth peer name far; ip addr add 10.55.0.7/24 dev eth0; ip link set eth0 up; "
        .. "ip link set far up; ip route add default via 10.55.0.1'"):format(given))
    end)
    after_each(function() remove_place(given) end)

    local function state() return sh(("nsenter --net=%s sh -c 'ip -o link; ip -o -4 addr; ip route'"):format(given)) end

    it("use it as it is, with its address as their own, and leave it as it was", function()
      local was = state()
      local result = run(shell "ip -4 -o addr show eth0; ip route; head -n 2 /etc/hosts; cat /etc/resolv.conf",
        { "--network", given, "--dns", "10.0.0.53", "--hostname", "web" })
      assert.equal(0, result.code, result.err)
      for _, text in ipairs { "10.55.0.7/24", "default via 10.55.0.1", "10.55.0.7 web\n", "nameserver 10.0.0.53\n" } do
        assert.is_truthy(result.out:find(text, 1, true), text .. "\n" .. result.out)
      end
      assert.equal(was, state())
    end)

    it("may find it by a process", function()
      local holder = command.spawn("/usr/bin/nsenter", { "--net=" .. given, "/bin/sh", "-c", "echo up; exec sleep 600" })
      holder:wait_for "up"
      local result = run(shell "ip -4 -o addr show eth0", { "--network", ("/proc/%d/ns/net"):format(holder.pid) })
      assert.equal(0, result.code, result.err)
      assert.is_truthy(result.out:find("10.55.0.7/24", 1, true))
      stop(holder)
    end)

    it("are stopped although it was deleted by hand meanwhile (known bug 27)", function()
      local path = new_place "deleted"
      local process = start(shell(STAY), { "--name", "gone", "--network", path })
      process:wait_for "up"
      remove_place(path)
      os.remove(path)
      process:kill "sigterm"
      assert.equal("", process:wait().err)
    end)

    it("share it in a pod of several", function()
      local file = command.write("net/given.lua", ([[
        local c = { rootfs = %q, read_only = true, args = { "sh", "-c", "ip -4 -o addr show eth0" } }
        return require("moonshim").pod { name = "given", network = %q, containers = { a = c, b = c } }
      ]]):format(command.root(), given))
      local result = moonshim("run", file)
      assert.equal(0, result.code, result.err)
      for _, name in ipairs { "a", "b" } do assert.is_truthy(result.out:find(name .. " | .-10%.55%.0%.7/24"), result.out) end
    end)
  end)

  local no_network = { ["is not there"] = "/nonexistent/netns", ["is a file"] = "/etc/passwd", ["is one of mounts"] = "/proc/self/ns/mnt" }
  for what, path in pairs(no_network) do
    it("are refused before anything starts when the namespace " .. what, function()
      local result = run({ "true" }, { "--network", path })
      assert.equal(125, result.code)
      assert.is_truthy(result.err:find("network", 1, true), result.err)
      assert.is_nil(result.err:find("\n.", 1))
      assert.same({}, command.list(command.run_dir))
    end)
  end

  for _, case in ipairs {
    { "a network that is none", { "--network", "brigde" }, 'did you mean "bridge"' },
    { "a server that is none", { "--dns", "one" }, "is no IP address" },
    { "a search domain with a line break", { "--dns-search", "a\nnameserver 6.6.6.6" }, "is no domain" },
    { "a host name with a blank", { "--hostname", "a b" }, "is no host name" },
    { "a host name that is too long", { "--hostname", ("a"):rep(300) }, "is no host name" },
    { "a host name that is not ASCII", { "--hostname", "h\u{f6}st" }, "is no host name" },
  } do
    it("are refused " .. case[1], function()
      local result = run({ "true" }, case[2])
      assert.equal(125, result.code)
      assert.is_truthy(result.err:find(case[3], 1, true), result.err)
    end)
  end

  it("are refused a subnet that the machine uses", function()
    sh(("nsenter --net=%s sh -ec 'ip link add used type bridge; ip addr add 10.91.5.1/24 dev used'"):format(enter))
    local file = command.write("net/used.lua", ([[
      return require("moonshim").pod { name = "used", network = { mode = "bridge", subnet = "10.91.0.0/16" },
        containers = { c = { rootfs = %q, args = { "true" } } } }
    ]]):format(command.root()))
    local result = moonshim("run", file)
    sh(("nsenter --net=%s ip link del used"):format(enter))
    assert.equal(125, result.code)
    assert.is_truthy(result.err:find("10.91.0.0/16 is in use: used", 1, true), result.err)
  end)

  describe("after SIGKILL of moonshim run", function()
    it("moonshim gc leaves no link, no address and no bridge, wherever it was killed", function()
      for count = 1, 20 do
        command.kill_at(start(shell "echo up; sleep 600", { "--name", "victim", "--network", "bridge" }), count)
        command.gc(function() return moonshim "gc" end)
        assert.same({}, links(), "killed at record " .. count)
        assert.same({}, command.list(command.run_dir))
      end
    end)

    it("another pod on the bridge keeps it", function()
      local other, address = pod "other"
      local victim = start(shell "echo up; sleep 600", { "--name", "victim", "--network", "bridge" })
      victim:wait_for "up"
      victim:kill "sigkill"
      victim:wait()
      moonshim "gc"
      assert.equal(2, #links())
      local ping = run({ "ping", "-c", "1", "-W", "5", address }, { "--network", "bridge" })
      assert.equal(0, ping.code, ping.out .. ping.err)
      stop(other)
    end)
  end)

  it("come and go at once, each with an address of its own", function()
    local running, addresses, count = {}, {}, 4
    for i = 1, count do running[i] = start(shell "ip -4 -o addr show eth0", { "--name", "many" .. i, "--network", "bridge" }) end
    for i = 1, count do
      local result = running[i]:wait()
      assert.equal(0, result.code, result.err)
      addresses[result.out:match "inet ([%d.]+)/"] = true
    end
    local n = 0
    for _ in pairs(addresses) do n = n + 1 end
    assert.equal(count, n)
  end)
end)

if uv.getuid() ~= 0 then pending "needs root" end

local endpoints = require "moonshim.net.endpoints"

describe("names from the host's resolv.conf", function()
  it("are its servers and the last search list", function()
    local dns = endpoints.parse_resolv("# comment\nnameserver 10.0.0.53\nsearch old.example\nnameserver fd00::53\n"
      .. "search a.example  b.example\n")
    assert.same({ "10.0.0.53", "fd00::53" }, dns.servers)
    assert.same({ "a.example", "b.example" }, dns.search)
  end)

  it("leave out servers on this machine's loopback: in a pod that is another one", function()
    assert.same({ "10.0.0.53" }, endpoints.parse_resolv("nameserver 127.0.0.53\nnameserver ::1\nnameserver 10.0.0.53").servers)
  end)

  it("are bounded, and only what can be names", function()
    local text = "search a b c d e f g h ;evil|\n" .. ("nameserver 10.0.0.1\n"):rep(99) .. "nameserver not-an-address\noptions ndots:5\n"
    local dns = endpoints.parse_resolv(text)
    assert.equal(6, #dns.search)
    assert.equal(16, #dns.servers)
  end)

  it("are none where there is no file", function()
    assert.same({ servers = {}, search = {} }, endpoints.host_dns "/nonexistent/resolv.conf")
  end)
end)

describe("the endpoints of a namespace that is there", function()
  local function link(index, name, more)
    local l = { index = index, name = name, mac = "02:00:00:00:00:0" .. index, kind = "veth", up = true, loopback = false }
    for k, v in pairs(more or {}) do l[k] = v end
    return l
  end

  it("are its links that have addresses, with the routes that lead away", function()
    local list = endpoints.of_state {
      links = { link(1, "lo", { loopback = true }), link(2, "eth0"), link(3, "unused") },
      addresses = {
        { index = 1, family = 4, address = "127.0.0.1", prefix = 8 }, { index = 2, family = 4, address = "10.5.0.7", prefix = 24 },
        { index = 2, family = 6, address = "fe80::1", prefix = 64 }, { index = 2, family = 6, address = "fd05::7", prefix = 64 },
      },
      routes = {
        { index = 2, family = 4, to = "0.0.0.0", prefix = 0, via = "10.5.0.1", metric = 0 },
        { index = 2, family = 4, to = "10.5.0.0", prefix = 24, metric = 0 },
      },
    }
    assert.same({ {
      name = "eth0", kind = "in_place", mac = "02:00:00:00:00:02",
      addresses = { { address = "10.5.0.7", prefix = 24 }, { address = "fd05::7", prefix = 64 } },
      routes = { { to = "0.0.0.0/0", via = "10.5.0.1" } },
    } }, list)
  end)
end)

describe("what a pod asks for", function()
  local dry = { dry = true }

  it("is nothing without a network", function() assert.same({}, endpoints.of(dry, { mode = "none" })) end)

  it("is one NIC on a bridge, with the names of the pod", function()
    local list = endpoints.of(dry, { mode = "bridge", dns = { servers = { "10.0.0.1" }, search = { "x" } }, subnet = "10.1.0.0/16" })
    assert.equal(1, #list)
    assert.equal("bridge", list[1].kind)
    assert.equal("moonshim0", list[1].bridge)
    assert.equal("10.1.0.0/16", list[1].subnet)
    assert.same({ servers = { "10.0.0.1" }, search = { "x" } }, list[1].dns)
  end)

  it("carries names even where there is no link to carry them", function()
    local list = endpoints.of(dry, { mode = "none", dns = { servers = { "10.0.0.1" } } })
    assert.equal("in_place", list[1].kind)
    assert.same({ "10.0.0.1" }, list[1].dns.servers)
    assert.same({}, list[1].dns.search)
  end)
end)

describe("a GUID", function()
  it("is of version 4, whatever was drawn", function()
    for _, hex in ipairs { ("0"):rep(32), ("f"):rep(32), "0123456789abcdef0123456789abcdef" } do
      local guid = endpoints.new_guid { sys = { random_hex = function() return hex end } }
      assert.is_truthy(guid:find "^%x%x%x%x%x%x%x%x%-%x%x%x%x%-4%x%x%x%-[89ab]%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$", guid)
    end
  end)
end)

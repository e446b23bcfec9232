--- The bridge over links in memory, which refuse what a kernel refuses.
local address = require "moonshim.net.address"
local bridge = require "moonshim.net.bridge"
local core = require "moonshim.core"
local err = require "moonshim.err"
local given = require "support.given"
local task = require "moonshim.task"
local virtual = require "support.virtual"

-- A namespace with one real interface, as machines have.
local function new_kernel()
  local k = { links = {}, addresses = {}, routes = {}, next = 1, calls = {}, held = 0 }
  local function add(link)
    for _, other in ipairs(k.links) do
      if other.name == link.name then return nil, err.new("already_exists", link.name .. " is taken") end
    end
    link.index, k.next = k.next, k.next + 1
    link.mtu, link.loopback, link.master = 1500, false, link.master or 0
    k.links[#k.links + 1] = link
    return link
  end
  add { name = "lan0", kind = "", mac = "00:11:22:33:44:55", up = true }
  k.addresses[1] = { index = 1, family = 4, address = "192.0.2.2", prefix = 24 }
  k.routes[1] = { index = 1, family = 4, to = "0.0.0.0", prefix = 0, via = "192.0.2.1", metric = 0 }
  k.add = add

  function k.named(name)
    for i, link in ipairs(k.links) do
      if link.name == name then return link, i end
    end
  end

  local function answer(cb, ...)
    local args = table.pack(...)
    task.detach(function()
      task.sleep(1)
      cb(table.unpack(args, 1, args.n))
    end)
    return true
  end

  local function call(what)
    k.calls[#k.calls + 1] = what
    if k.on_call then k.on_call(what) end
    return k.fail and k.fail[what]
  end

  k.net = {
    lock = function()
      if k.held > 0 then return nil, err.new("failed_precondition", "held") end
      k.held = k.held + 1
      return { close = function() k.held = k.held - 1 end }
    end,
    state = function(_, cb)
      call "state"
      local copy = { links = {}, addresses = k.addresses, routes = k.routes }
      for i, link in ipairs(k.links) do copy.links[i] = setmetatable({}, { __index = link }) end
      return answer(cb, copy)
    end,
    bridge = function(want, cb)
      local e = call "bridge"
      if e then return answer(cb, nil, e) end
      local link, why = add { name = want.name, kind = "bridge", mac = want.mac, up = true }
      if not link then return answer(cb, nil, why) end
      local text, bits = want.address:match "^(.*)/(%d+)$"
      table.insert(k.addresses, { index = link.index, family = 4, address = text, prefix = tonumber(bits) })
      return answer(cb, link.index)
    end,
    veth = function(want, cb)
      local e = call "veth"
      if e then return answer(cb, nil, e) end
      local master = k.named(want.bridge)
      if not master then return answer(cb, nil, err.new("not_found", "no bridge")) end
      local link, why = add { name = want.name, kind = "veth", mac = want.mac, up = true, master = master.index }
      return answer(cb, link and link.index, why)
    end,
    remove = function(want, cb)
      local e = call("remove " .. want.kind)
      if e then return answer(cb, nil, e) end
      for i, link in ipairs(k.links) do
        if link.mac == want.mac and link.kind == want.kind then
          table.remove(k.links, i)
          for a = #k.addresses, 1, -1 do
            if k.addresses[a].index == link.index then table.remove(k.addresses, a) end
          end
          return answer(cb, true)
        end
      end
      return answer(cb, nil, err.new("gone", "no such link"))
    end,
  }
  return k
end

describe("the bridge of the local host", function()
  local kernel, real

  before_each(function()
    kernel, real = new_kernel(), core.net
    core.net = kernel.net
  end)
  after_each(function()
    core.net = real
    assert.equal(0, kernel.held)
  end)

  local n = 0
  local function want(more)
    n = n + 1
    local w = {
      bridge = "moonshim0", seed = "pod " .. n, mac = ("02:00:00:00:01:%02x"):format(n), host_mac = ("02:00:00:00:02:%02x"):format(n),
      pid = 42, start_time = 1,
    }
    for k, v in pairs(more or {}) do w[k] = v end
    return w
  end

  local function names()
    local out = {}
    for _, link in ipairs(kernel.links) do out[#out + 1] = link.name end
    return out
  end

  it("comes with its first pod and goes with its last", virtual(function()
    local one, two = want(), want()
    local a, b = bridge.attach(one), bridge.attach(two)
    assert.same({ "lan0", "moonshim0", a.link, b.link }, names())
    assert.not_equal(a.address, b.address)
    assert.equal("10.197.0.1", a.gateway)
    assert.equal(16, a.prefix)
    bridge.detach(one)
    assert.same({ "lan0", "moonshim0", b.link }, names())
    bridge.detach(two)
    assert.same({ "lan0" }, names())
  end))

  it("gives the same pod the same address again", virtual(function()
    local one = want()
    local a = bridge.attach(one)
    bridge.detach(one)
    assert.equal(a.address, bridge.attach(one).address)
  end))

  it("is taken down twice without harm", virtual(function()
    local one = want()
    bridge.attach(one)
    bridge.detach(one)
    bridge.detach(one)
    assert.same({ "lan0" }, names())
  end))

  it("is taken down from facts alone, whatever came into being before the maker was killed", virtual(function()
    local one = want()
    kernel.add { name = "moonshim0", kind = "bridge", mac = bridge.mac "moonshim0", up = false } -- made, and then killed
    bridge.detach(one)
    assert.same({ "lan0" }, names())
  end))

  it("is made anew when its maker was killed half way", virtual(function()
    kernel.add { name = "moonshim0", kind = "bridge", mac = bridge.mac "moonshim0", up = false }
    local a = bridge.attach(want())
    assert.is_true(kernel.named("moonshim0").up)
    assert.equal(kernel.named("moonshim0").index, kernel.named(a.link).master)
  end))

  it("leaves nothing when a pod cannot be put on it", virtual(function()
    kernel.fail = { veth = err.new("gone", "the process ended") }
    assert.equal("gone", given.error(bridge.attach, want()).code)
    assert.same({ "lan0" }, names())
  end))

  it("stays when others are on it and one more fails", virtual(function()
    local a = bridge.attach(want())
    kernel.fail = { veth = err.new("unknown", "no") }
    assert.equal("unknown", given.error(bridge.attach, want()).code)
    assert.same({ "lan0", "moonshim0", a.link }, names())
  end))

  it("never touches a link of the same name that others made", virtual(function()
    kernel.add { name = "moonshim0", kind = "bridge", mac = "00:aa:bb:cc:dd:ee", up = true }
    local one = want()
    local e = given.error(bridge.attach, one)
    assert.equal("failed_precondition", e.code)
    assert.is_truthy(e.message:find "did not make")
    bridge.detach(one)
    assert.same({ "lan0", "moonshim0" }, names())
  end))

  it("never removes a link that is not a pair of ours, even with that hardware address", virtual(function()
    bridge.detach { bridge = "moonshim0", host_mac = "00:11:22:33:44:55" }
    assert.same({ "lan0" }, names())
  end))

  it("takes the first network that nothing on the machine uses", virtual(function()
    kernel.routes[2] = { index = 1, family = 4, to = "10.197.128.0", prefix = 17, via = "192.0.2.1", metric = 0 }
    kernel.addresses[2] = { index = 1, family = 4, address = "10.198.7.7", prefix = 32 }
    assert.equal("172.29.0.1", bridge.attach(want()).gateway)
  end))

  it("refuses a network that is in use and says who uses it", virtual(function()
    local e = given.error(bridge.attach, want { subnet = "192.0.2.128/25" })
    assert.equal("failed_precondition", e.code)
    assert.is_truthy(e.message:find("lan0", 1, true))
    assert.same({ "lan0" }, names())
  end))

  it("keeps its network as long as it is there", virtual(function()
    bridge.attach(want { subnet = "10.9.0.0/24" })
    assert.equal("10.9.0.1", bridge.attach(want()).gateway)
    assert.equal("10.9.0.1", bridge.attach(want { subnet = "10.9.0.0/24" }).gateway)
    assert.equal("failed_precondition", given.error(bridge.attach, want { subnet = "10.8.0.0/24" }).code)
  end))

  it("gives a certain address to one pod, and says already_exists to the next", virtual(function()
    local a = bridge.attach(want { subnet = "10.9.0.0/24", address = "10.9.0.7" })
    assert.equal("10.9.0.7", a.address)
    assert.equal("already_exists", given.error(bridge.attach, want { address = "10.9.0.7" }).code)
    assert.equal("invalid_argument", given.error(bridge.attach, want { address = "10.9.1.7" }).code)
  end))

  it("says resource_exhausted when the network is full", virtual(function()
    for _ = 1, 5 do bridge.attach(want { subnet = "10.9.0.0/29" }) end
    assert.equal("resource_exhausted", given.error(bridge.attach, want { subnet = "10.9.0.0/29" }).code)
    assert.equal(7, #kernel.links)
  end))

  it("goes on to the next address when another process took this one meanwhile", virtual(function()
    local one = want()
    local first = bridge.attach(one)
    bridge.detach(one)
    local raced
    kernel.on_call = function(what) -- between looking and making
      if what == "veth" and not raced then
        raced = true
        kernel.add { name = first.link, kind = "veth", mac = "02:99:00:00:00:01" }
      end
    end
    local second = bridge.attach(one)
    assert.not_equal(first.address, second.address)
    assert.equal(address.number(second.address) - 1, address.number(first.address))
  end))

  it("waits for others that change links, and never works beside them", virtual(function()
    local inside, most = 0, 0
    local lock = kernel.net.lock
    kernel.net.lock = function()
      local l, e = lock()
      if not l then return nil, e end
      inside = inside + 1
      most = math.max(most, inside)
      return { close = function()
        inside = inside - 1
        l.close()
      end }
    end
    local steps = {}
    for i = 1, 8 do
      local w = want()
      steps[i] = function()
        bridge.attach(w)
        bridge.detach(w)
      end
    end
    task.all(steps)
    assert.equal(1, most)
    assert.same({ "lan0" }, names())
  end))

  it("gives up on a lock that is never given back", virtual(function()
    local l = kernel.net.lock()
    assert.equal("failed_precondition", given.error(bridge.attach, want()).code)
    l.close()
  end))
end)

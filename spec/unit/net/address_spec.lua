local address = require "moonshim.net.address"
local ipam = require "moonshim.net.ipam"
local err = require "moonshim.err"

local function code_of(fn, ...)
  local ok, e = pcall(fn, ...)
  return not ok and err.is(e) and e.code or nil
end

describe("an address", function()
  for text, number in pairs { ["0.0.0.0"] = 0, ["10.1.2.3"] = 0x0a010203, ["255.255.255.255"] = 0xffffffff } do
    it("is a number and a text: " .. text, function()
      assert.equal(number, address.number(text))
      assert.equal(text, address.text(number))
    end)
  end

  for _, text in ipairs { "", "10.1.2", "10.1.2.3.4", "10.1.2.256", "10.01.2.3", "a.b.c.d", "10.1.2.3/8", " 10.1.2.3" } do
    it(("is none: %q"):format(text), function() assert.is_nil(address.number(text)) end)
  end

  for _, text in ipairs { "10.0.0.1", "::", "::1", "fd00::2", "1:2:3:4:5:6:7:8", "::ffff:10.1.2.3", "1::" } do
    it("is one of a host: " .. text, function() assert.is_true(address.valid(text)) end)
  end

  for _, text in ipairs { "", ":", ":::", "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "12345::", "g::", "::ffff:10.1.2", ":1", "1:",
    "fd00::1%eth0", "host" } do
    it(("is none of a host: %q"):format(text), function() assert.is_false(address.valid(text)) end)
  end

  it("of hardware has one spelling", function()
    assert.equal("02:ab:00:00:00:01", address.mac "02-AB-00-00-00-01")
    assert.is_nil(address.mac "02:ab:00:00:00")
    assert.is_nil(address.mac "02:ab:00:00:00:0g")
  end)
end)

describe("a network", function()
  it("is its first and last address", function()
    local net = address.network "10.197.3.4/16"
    assert.equal("10.197.0.0/16", address.network_text(net))
    assert.equal("10.197.255.255", address.text(net.last))
    assert.equal("10.197.0.1", address.text(address.gateway(net)))
  end)

  it("overlaps what shares an address with it", function()
    local function overlap(a, b) return address.overlap(address.network(a), address.network(b)) end
    assert.is_true(overlap("10.0.0.0/8", "10.197.0.0/16"))
    assert.is_true(overlap("10.197.7.7/32", "10.197.0.0/16"))
    assert.is_false(overlap("10.196.0.0/16", "10.197.0.0/16"))
    assert.is_true(overlap("0.0.0.0/0", "10.197.0.0/16"))
  end)

  for _, text in ipairs { "10.0.0.0", "10.0.0.0/33", "10.0.0.0/7", "10.0.0.0/31", "fd00::/64", "x/16" } do
    it("cannot hold pods: " .. text, function() assert.equal("invalid_argument", code_of(address.subnet, text)) end)
  end
end)

describe("the address of a pod", function()
  local net = address.subnet "10.9.0.0/29" -- .0 network, .1 gateway, .2 to .6 pods, .7 broadcast

  local function all(seed, taken)
    local out = {}
    for n in ipam.candidates(net, seed, taken or {}) do out[#out + 1] = address.text(n) end
    return out
  end

  it("is tried in the same order every time, and comes from the whole network but its edges", function()
    local one = all "pod a"
    assert.same(one, all "pod a")
    local sorted = table.move(one, 1, #one, 1, {})
    table.sort(sorted)
    assert.same({ "10.9.0.2", "10.9.0.3", "10.9.0.4", "10.9.0.5", "10.9.0.6" }, sorted)
  end)

  it("differs between pods, mostly", function()
    local big, seen, count = address.subnet "10.197.0.0/16", {}, 0
    for i = 1, 200 do
      local n = ipam.candidates(big, "pod " .. i, {})()
      if not seen[n] then count = count + 1 end
      seen[n] = true
    end
    assert.is_true(count > 190)
  end)

  it("is not one whose link is there", function()
    local first = all "pod a"[1]
    local taken = { [ipam.link_name(address.number(first))] = true }
    local rest = all("pod a", taken)
    assert.equal(4, #rest)
    for _, text in ipairs(rest) do assert.not_equal(first, text) end
  end)

  it("fits into the name of a link", function() assert.is_true(#ipam.link_name(0xffffffff) <= 15) end)

  it("may be asked for, inside of the network", function()
    assert.equal(0x0a090002, ipam.wanted(net, "10.9.0.2"))
    for _, text in ipairs { "10.9.0.0", "10.9.0.1", "10.9.0.7", "10.8.0.2", "x" } do
      assert.equal("invalid_argument", code_of(ipam.wanted, net, text))
    end
  end)

  it("is none in a network without room", function()
    assert.is_nil(ipam.candidates(address.subnet "10.9.0.0/30", "x", { [ipam.link_name(0x0a090002)] = true })())
  end)
end)

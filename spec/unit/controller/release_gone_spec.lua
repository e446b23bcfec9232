-- What counts as released: a guest, a VM or a host that is gone, and things that nobody knows any more.
local given = require "support.given"
local virtual = require "support.virtual"

local LAYERED = { "exit", 0, layers = { "/a.ext4" }, scratch = { size = "64M" } }

---A container that has ended, with what it holds still held.
local function stopped(fields, opts)
  local f, pod, vm = given.pod(opts)
  local c = given.running(pod, fields)
  c:wait()
  return f, vm, c
end

---Calls from now on.
local function from_now(f)
  local first = #f.calls + 1
  return function(pattern)
    local n = 0
    for i = first, #f.calls do n = n + (f.calls[i]:find(pattern) and 1 or 0) end
    return n
  end
end

local function nothing_left(f, vm, c)
  assert.same({}, vm.ledger:under(c.owner))
  assert.same({}, f:leaks { running = true })
  assert.same({}, f.wrong)
end

describe("the release of a container counts as done", function()
  it("an overlay whose guest went away while it was asked, and goes on [#94]", virtual(function()
    local f, vm, c = stopped(LAYERED)
    f:fault(function(op) return op == "guest.uncombine" and "die" or nil end)
    local calls = from_now(f)
    c:delete()
    assert.equal(1, calls "^guest.uncombine")
    assert.equal(2, calls "^host.detach")
    assert.same({}, vm.ledger:under(c.owner))
    assert.same({}, f.attached)
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("an overlay in a guest to which there is no connection and will be none [#95]", virtual(function()
    local f, vm, c = stopped(LAYERED)
    f:die()
    given.settle()
    local guest = vm.world.guest
    vm.world.guest = nil
    local calls = from_now(f)
    c:delete()
    assert.equal(0, calls "^guest")
    assert.equal(2, calls "^host.detach")
    assert.same({}, vm.ledger:under(c.owner))
    vm.world.guest = guest
    vm:stop()
    assert.same({}, f:leaks())
  end))

  for name, hresult in pairs {
    ["no such system [#96]"] = 0x8037010E, ["no such system, signed: -1070137074 [#97]"] = 0xC037010E,
    ["already stopped [#96]"] = 0xC0370110, ["no such element [#96]"] = 0x80070490, ["no such element, bare"] = 0x490,
  } do
    it("an overlay of which a living guest says: " .. name, virtual(function()
      local f, vm, c = stopped(LAYERED)
      f:fault(function(op) return op == "guest.uncombine" and { hresult = hresult, done = true } or nil end)
      local calls = from_now(f)
      c:delete()
      assert.equal(1, calls "^guest.uncombine")
      nothing_left(f, vm, c)
      vm:stop()
    end))
  end

  it("a state of a container that the guest does not know", virtual(function()
    local f, vm, c = stopped(LAYERED)
    f:fault(function(op) return op == "guest.delete_state" and { hresult = 0xC037010E, done = true } or nil end)
    c:delete()
    nothing_left(f, vm, c)
    vm:stop()
  end))

  it("a state that the guest cannot delete by a request: it is not asked [#99]", virtual(function()
    local f, vm, c = stopped(LAYERED, { capabilities = { SignalProcessSupported = true } })
    local calls = from_now(f)
    c:delete()
    assert.same({ 1, 0, 2 }, { calls "^guest.uncombine", calls "^guest.delete_state", calls "^host.detach" })
    assert.same({}, vm.ledger:under(c.owner))
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("takes a reservation that nobody knows for released [#106]", virtual(function()
    local f, vm, c = stopped({ "exit", 0, mounts = { { source = "/data.img", destination = "/d", type = "virtual-disk" } } })
    for _, receipt in ipairs(vm.ledger:under(c.owner)) do
      if receipt.kind == "disk" then vm.world.devices:unmap(receipt.facts) end
    end
    local calls = from_now(f)
    c:delete()
    assert.same({ 0, 0 }, { calls "^guest.unmount", calls "^host.detach" })
    nothing_left(f, vm, c)
    vm:stop()
  end))

  it("a share of a VM that the host does not know any more [#107]", virtual(function()
    local f, vm, c = stopped({ "exit", 0, mounts = { { source = "/shared", destination = "/s" } }, layers = { "/a.ext4" } })
    f:fault(function(op) return op == "host.unshare" and { hresult = 0x8037010E, done = true } or nil end)
    local calls = from_now(f)
    c:delete()
    assert.equal(1, calls "^host.unshare")
    nothing_left(f, vm, c)
    vm:stop()
  end))

  it("everything, when its VM is gone: all lists are empty, and the delete is told of [#109]", virtual(function()
    local f, pod, vm = given.pod()
    local c = given.running(pod, given.FULL)
    f:die()
    assert.equal(255, (c:wait()))
    c:delete()
    assert.same({}, vm.ledger:under(c.owner))
    assert.same({ {}, {} }, { f.attached, f.assigned })
    assert.same({ "create", "start", "exit", "delete" }, f:topics("c"))
    vm:stop()
    assert.same({}, f:leaks())
  end))

  it("disks of a VM whose handle is closed on the host [#110]", virtual(function()
    local f, vm, c = stopped(LAYERED)
    f:die()
    f:fault(function(op) return op == "host.detach" and { hresult = 0x80070006, done = true } or nil end)
    local calls = from_now(f)
    c:delete()
    assert.equal(2, calls "^host.detach")
    assert.same({}, vm.ledger:under(c.owner))
    f:fault(nil)
    vm:stop()
    assert.same({}, f:leaks())
  end))
end)

describe("the release of a container does not count as done", function()
  it("what a living guest refuses because something still runs [#98]", virtual(function()
    local f, vm, c = stopped(LAYERED)
    f:fault(function(op) return op == "guest.uncombine" and { hresult = 0xC0370105 } or nil end)
    assert.equal("failed_precondition", given.error(c.delete, c).code)
    assert.same({}, f:called("^host.detach"))
    assert.same({}, f:called("^guest.delete_state"))
    f:fault(nil)
    c:delete()
    nothing_left(f, vm, c)
    vm:stop()
  end))

  it("a state without a word when an earlier delete of it failed half way: it warns [#102]", virtual(function()
    local f, vm, c = stopped(LAYERED)
    local n = 0
    f:fault(function(op)
      if op ~= "guest.delete_state" then return end
      n = n + 1
      return { hresult = n == 1 and 0x80004005 or 0xC037010E, done = true }
    end)
    c:delete()
    assert.equal(2, n)
    assert.is_truthy(f:event("leftovers").message:find("folders of container c", 1, true))
    nothing_left(f, vm, c)
    vm:stop()
  end))
end)

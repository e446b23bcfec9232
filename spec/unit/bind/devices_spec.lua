local core = require "moonshim.core"

local t
before_each(function() t = assert(core.devices { scsi = { controllers = 1, luns = 3, boot = { { 0, 0, "/boot.img" } } } }) end)
after_each(function() t:close() end)

local DISK = { bus = "scsi", path = "/x.img", read_only = true, mount = { read_only = true, options = { "noload" } } }

local function settle()
  local ops = {}
  for e in function() return t:effect() end do
    ops[#ops + 1] = e.op
    t:done(e.id, "ok")
  end
  return ops
end

describe("a reservation", function()
  it("has a text for an id, and facts that a journal can hold", function()
    local id, facts = t:make(DISK)
    assert.equal("string", type(id))
    assert.equal(1, facts.lun)
    assert.equal("/run/mounts/scsi/0_1_0", facts.guest_path)
    assert.same(facts, core.json.decode(core.json.encode(facts)))
  end)

  it("goes up and down by effects", function()
    local id = t:make(DISK)
    t:aim(id, "mapped")
    assert.same({ "attach", "mount" }, settle())
    assert.same({ id, "mapped" }, { t:settled() })
    assert.is_nil(t:settled())
    t:aim(id, "released")
    assert.same({ "unmount", "eject", "detach" }, settle())
    assert.same({ id, "released" }, { t:settled() })
    assert.equal("not_found", select(2, t:aim(id, "released")).code)
  end)

  it("fails with the reason that was given", function()
    local id = t:make(DISK)
    t:aim(id, "mapped")
    t:done(t:effect().id, "failed", { code = "permission_denied", message = "no", origin = "host", op = "attach", hresult = 0x80070005 })
    local got, aim, code, message, e = t:settled()
    assert.same({ id, "mapped", "permission_denied", "no" }, { got, aim, code, message })
    assert.same({ code = "permission_denied", message = "no", origin = "host", op = "attach", hresult = 0x80070005 }, e)
  end)

  it("is shared by those who want the same", function()
    local a, b = t:make(DISK), t:make(DISK)
    t:aim(a, "mapped")
    t:aim(b, "mapped")
    assert.same({ "attach", "mount" }, settle())
    t:aim(a, "released")
    assert.same({}, settle())
    assert.equal(2, t:dump()[1].mount.users + t:dump()[1].parent.users)
    t:aim(b, "released")
    assert.same({ "unmount", "eject", "detach" }, settle())
  end)

  it("is freed once, whoever frees it twice, and nobody else's part with it [#691]", function()
    local a, b = t:make(DISK), t:make(DISK)
    t:aim(a, "mapped")
    t:aim(b, "mapped")
    local attach = t:effect()
    t:done(attach.id, "ok")
    t:done(attach.id, "ok") -- told twice
    t:done(t:effect().id, "ok")
    t:aim(a, "released")
    for _ = 1, 3 do
      settle()
      local ok, e = t:aim(a, "released")
      assert.is_nil(ok)
      assert.equal("not_found", e.code)
      assert.equal("not_found", select(2, t:aim(a, "mapped")).code)
    end
    local left = t:dump()
    assert.equal(1, #left)
    assert.equal(b, left[1].id)
    t:aim(b, "released")
    assert.same({ "unmount", "eject", "detach" }, settle())
    assert.equal(0, t:counts().reservations)
    assert.equal(1, t:counts().late) -- the answer that came twice
  end)

  it("comes back from its facts", function()
    local id, facts = t:make(DISK)
    local again = core.devices { scsi = { controllers = 1, luns = 3 } }
    assert.is_true(again:restore(id, core.json.decode(core.json.encode(facts)), "mapped"))
    again:aim(id, "released")
    assert.equal("unmount", again:effect().op)
    assert.equal("already_exists", select(2, again:restore(id, facts, "mapped")).code)
    again:close()
  end)

  it("of a share has a number for a name", function()
    local id, facts = t:make { bus = "plan9", path = "/etc", read_only = true, restrict = true, names = { "hosts" } }
    assert.truthy(id)
    assert.equal("string", type(facts.share))
    assert.same({ "hosts" }, core.json.array(facts.names))
    local again = core.devices()
    assert.is_true(again:restore(id, facts, "intended"))
    again:close()
  end)

  it("is refused with a code where slots or sense are missing", function()
    assert.equal("invalid_argument", select(2, t:make { bus = "scsi", path = "relative" }).code)
    assert.equal("failed_precondition", select(2, t:make { bus = "scsi", path = "/boot.img" }).code)
    t:make { bus = "scsi", path = "/1" }
    t:make { bus = "scsi", path = "/2" }
    assert.equal("resource_exhausted", select(2, t:make { bus = "scsi", path = "/3" }).code)
    assert.equal("not_found", select(2, t:aim("77", "mapped")).code)
  end)
end)

describe("devices of the PCI bus", function()
  local G1, G2 = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"

  it("are assigned, seen and removed under the instance of the first want", function()
    local id, facts = t:make { bus = "vpci", path = "/dev/x", vf = 2, instance = G1 }
    assert.same({ bus = "vpci", path = "/dev/x", vf = 2, instance = G1, read_only = false }, facts)
    assert.equal(G1, select(2, t:make { bus = "vpci", path = "/dev/x", vf = 2, instance = G2 }).instance)
    t:aim(id, "mapped")
    for _, op in ipairs { "assign", "wait" } do
      local e = t:effect()
      assert.equal(op, e.op)
      assert.equal(G1, e.instance)
      t:done(e.id, "ok")
    end
    assert.equal(id, (t:settled()))
    t:aim("2", "released")
    assert.equal("2", (t:settled()))
    t:aim(id, "released")
    local e = t:effect()
    assert.equal("remove", e.op)
    t:done(e.id, "ok")
    assert.equal(0, t:counts().parents)
  end)

  it("come back after a crash by their facts", function()
    local _, facts = t:make { bus = "vpci", path = "/dev/x", instance = G1 }
    local after = core.devices {}
    assert.is_true(after:restore("7", facts, "mapped"))
    assert.equal("up", after:dump()[1].mount.state)
    after:close()
  end)

  it("may be there from the VM's document, and are shared then [#323]", function()
    local booted = core.devices { vpci = { boot = { { path = "/dev/gpu", instance = G1 } } } }
    local id, facts = booted:make { bus = "vpci", path = "/dev/gpu", instance = G2 }
    assert.equal(G1, facts.instance)
    booted:aim(id, "mapped")
    assert.is_nil(booted:effect())
    booted:close()
    assert.equal("invalid_argument", select(2, core.devices { vpci = { boot = { { path = "/dev/gpu", instance = "x" } } } }).code)
  end)
end)

describe("wrong arguments to a device table", function()
  for name, call in pairs {
    ["no bus"] = function() t:make { path = "/x" } end,
    ["a bus that is none"] = function() t:make { bus = "usb", path = "/x" } end,
    ["a device without an instance"] = function() t:make { bus = "vpci", path = "/x" } end,
    ["a boot device that is none"] = function() core.devices { vpci = { boot = { 1 } } } end,
    ["a path with NUL"] = function() t:make { bus = "scsi", path = "/x\0" } end,
    ["options that are no list of texts"] = function() t:make { bus = "scsi", path = "/x", mount = { options = { 1 } } } end,
    ["a partition beyond all"] = function() t:make { bus = "scsi", path = "/x", partition = 1 << 20 } end,
    ["an id that is no number"] = function() t:aim("x", "mapped") end,
    ["an aim that is none"] = function() t:aim("1", "up") end,
    ["an outcome that is none"] = function() t:done(1, "maybe") end,
    ["a boot disk without a slot"] = function() core.devices { scsi = { boot = { {} } } } end,
    ["too many controllers"] = function() core.devices { scsi = { controllers = 5 } } end,
  } do
    it("raise: " .. name, function() assert.has_error(call) end)
  end

  it("for a boot disk outside the topology is an error value", function()
    local before = core.stats().objects
    local v, e = core.devices { scsi = { luns = 1, boot = { { 0, 3 } } } }
    assert.is_nil(v)
    assert.equal("out_of_range", e.code)
    assert.equal(before, core.stats().objects)
  end)
end)

it("a device table is gone after a close (known bug 171)", function()
  t:close()
  t:close()
  assert.equal("gone", select(2, t:make(DISK)).code)
  assert.equal("gone", select(2, t:aim("1", "mapped")).code)
  assert.is_nil(t:effect())
  assert.is_nil(t:settled())
  assert.same({}, t:dump())
  assert.equal(0, t:counts().reservations)
end)

local annotations = require "moonshim.oci.annotations"
local err = require "moonshim.err"

local keys = annotations.keys
local VM = "io.microsoft.virtualmachine."
local DEPENDENT = keys.EXPANSION[keys.DISABLE_UNSAFE]

local function read(map, on) return annotations.read(map, on or "pod") end

---The only line of a list, which must hold all these texts.
local function one(list, ...)
  assert.equal(1, #list, table.concat(list, " | "))
  for _, text in ipairs { ... } do assert.is_truthy(list[1]:find(text, 1, true), list[1]) end
  assert.is_nil(list[1]:find "\n")
end

describe("expanding annotations", function()
  it("sets the four switches that the umbrella stands for [#573]", function()
    local mine = { [keys.DISABLE_UNSAFE] = "true" }
    local out, conflicts = annotations.expand(mine)
    assert.same({}, conflicts)
    assert.equal(4, #DEPENDENT)
    for _, name in ipairs(DEPENDENT) do assert.equal("true", out[name], name) end
    assert.is_nil(mine[DEPENDENT[1]])
  end)

  it("says that one of them is something else, and still expands the others [#574]", function()
    local out, conflicts = annotations.expand { [keys.DISABLE_UNSAFE] = "true", [keys.DISABLE_WRITABLE] = "false" }
    one(conflicts, keys.DISABLE_WRITABLE .. ' is "false"', keys.DISABLE_UNSAFE, '"true"', "leave one of them out")
    assert.equal("false", out[keys.DISABLE_WRITABLE])
    for _, name in ipairs(DEPENDENT) do
      if name ~= keys.DISABLE_WRITABLE then assert.equal("true", out[name], name) end
    end
  end)

  it("says all that is wrong at once [#575]", function()
    local _, conflicts = annotations.expand {
      [keys.DISABLE_UNSAFE] = "true", [keys.DISABLE_WRITABLE] = "false", [DEPENDENT[1]] = "0",
    }
    assert.equal(2, #conflicts)
    local ok, e = pcall(annotations.settle, {
      [keys.DISABLE_UNSAFE] = "true", [keys.DISABLE_WRITABLE] = "false", [DEPENDENT[1]] = "0",
    }, "pod")
    assert.is_false(ok)
    assert.is_true(err.is(e, "invalid_argument"))
    for _, name in ipairs { keys.DISABLE_WRITABLE, DEPENDENT[1] } do assert.is_truthy(e.message:find(name, 1, true), e.message) end
  end)

  it("takes another spelling of the same for the same", function()
    local _, conflicts = annotations.expand { [keys.DISABLE_UNSAFE] = "true", [keys.DISABLE_WRITABLE] = "1" }
    assert.same({}, conflicts)
    _, conflicts = annotations.expand { [keys.DISABLE_UNSAFE] = "false", [keys.DISABLE_WRITABLE] = "true" }
    assert.equal(1, #conflicts)
  end)

  it("does not let host process containers be wanted and forbidden [#576]", function()
    local map = { [keys.DISABLE_HOST_PROCESS] = "true", [keys.HOST_PROCESS] = "1" }
    one(read(map).faults, keys.DISABLE_HOST_PROCESS, keys.HOST_PROCESS, "both true")
    one(read({ [keys.DISABLE_UNSAFE] = "true", [keys.HOST_PROCESS] = "true" }).faults, "both true")
    assert.same({}, read({ [keys.DISABLE_HOST_PROCESS] = "true", [keys.HOST_PROCESS] = "false" }).faults)
  end)

  it("hands on nothing that cannot be read: one fault, not five", function()
    one(read({ [keys.DISABLE_UNSAFE] = "banana" }).faults, keys.DISABLE_UNSAFE, '"banana"')
  end)
end)

describe("an annotation", function()
  for text, want in pairs { ["1"] = true, t = true, T = true, ["true"] = true, TRUE = true, True = true, ["0"] = false, f = false,
    F = false, ["false"] = false, FALSE = false, False = false } do
    it(("may say %q"):format(text), function()
      local found = read { [keys.ENCRYPTED] = text }
      assert.same({}, found.faults)
      assert.equal(want, found.settings.encrypt_scratch)
    end)
  end

  for _, text in ipairs { "banana", "", "yes", "tRUE", " true", "2" } do
    it(("that is a switch of security may not say %q"):format(text), function()
      for _, name in ipairs { keys.DISABLE_UNSAFE, keys.DISABLE_WRITABLE, keys.ENCRYPTED, keys.HOST_NETWORK, keys.HOST_PROCESS } do
        one(read({ [name] = text }).faults, name, ('"%s"'):format(text), 'write "true" or "false"')
      end
      one(read({ [keys.PRIVILEGED] = text }, "container").faults, keys.PRIVILEGED)
    end)
  end

  it("that tunes has its default when it says nothing sensible, and that is said [#578]", function()
    local name = VM .. "lcow.network.policybasedrouting"
    local found = read { [name] = "banana" }
    assert.same({}, found.faults)
    assert.is_nil(found.settings.policy_based_routing)
    one(found.warnings, name, '"banana"', "the default is used")
  end)

  for _, text in ipairs { "2147483648", "-2147483649", "99999999999999999999999999", "1.5", "0x10", "", "1e3", " 1" } do
    it(("that is a number may not be %q [#579]"):format(text), function()
      local found = read { [keys.PROCESSORS] = text }
      assert.same({}, found.faults)
      assert.is_nil(found.settings.processors)
      one(found.warnings, keys.PROCESSORS, "is no whole number from 0 to 1024", "the default is used")
    end)
  end

  it("that is a number is one of its own width", function()
    assert.equal(4096, read({ [keys.MEMORY] = "4096" }).settings.memory_mb)
    one(read({ [VM .. "devices.virtualpmem.maximumsizebytes"] = "9223372036854775808" }).warnings, "the default is used")
    one(read({ [VM .. "computetopology.processor.numa.max-processors-per-node"] = "4294967296" }).warnings, "the default is used")
    one(read({ [VM .. "computetopology.processor.numa.max-processors-per-node"] = "-1" }).warnings, "the default is used")
  end)

  for _, text in ipairs { "banana", "", "550e8400e29b41d4a716446655440000", "550e8400-e29b-41d4-a716-44665544000g" } do
    it(("that is a GUID may not be %q [#580]"):format(text), function()
      one(read({ [VM .. "cpugroup.id"] = text }).faults, "cpugroup.id", "is no GUID; write one like")
    end)
  end

  it("that is a GUID is read in any case", function()
    assert.equal("550e8400-e29b-41d4-a716-446655440000",
      read({ [VM .. "cpugroup.id"] = "550E8400-E29B-41D4-A716-446655440000" }).settings.cpu_group)
  end)

  for _, text in ipairs { "1,,2", ",1", "1,", "1, 2", "1,x" } do
    it(("that is a list may not be %q, as a whole [#581]"):format(text), function()
      local found = read { [VM .. "lcow.extra-vsock-ports"] = text }
      assert.same({}, found.faults)
      assert.is_nil(found.settings.extra_vsock_ports)
      one(found.warnings, "extra-vsock-ports", "the default is used")
    end)
  end

  it("that is a list is read in its order", function()
    assert.same({ 3, 1, 2 }, read({ [VM .. "lcow.extra-vsock-ports"] = "3,1,2" }).settings.extra_vsock_ports)
  end)

  it("that the guest would refuse is refused before", function()
    one(read({ [keys.CORE_LIMIT] = "1" }).faults, "SOFT;HARD")
    assert.same({}, read({ [keys.CORE_LIMIT] = "0;1024" }).faults)
    one(read({ [keys.SHM_SIZE] = "0" }, "container").faults, keys.SHM_SIZE)
  end)

  it("is shown short and on one line", function()
    one(read({ [keys.ENCRYPTED] = ("x\n"):rep(500) }).faults, "...")
    assert.is_true(#read({ [keys.ENCRYPTED] = ("x\n"):rep(500) }).faults[1] < 400)
  end)
end)

describe("a scratch disk is encrypted", function()
  local POLICY = VM .. "lcow.securitypolicy"

  it("when there is a security policy and nobody says otherwise [#582]", function()
    assert.is_true(read({ [POLICY] = "eyJ9" }).settings.encrypt_scratch)
    assert.is_nil(read({ [POLICY] = "" }).settings.encrypt_scratch)
    assert.is_nil(read({}).settings.encrypt_scratch)
  end)

  it("unless somebody says otherwise [#583]", function()
    assert.is_false(read({ [POLICY] = "eyJ9", [keys.ENCRYPTED] = "false" }).settings.encrypt_scratch)
  end)
end)

describe("what this host does not have", function()
  for name, text in pairs {
    [VM .. "lcow.securitypolicy"] = "eyJ9", [keys.HOST_PROCESS] = "true", [VM .. "kerneldrivers"] = "a.vhd",
    [VM .. "cpugroup.id"] = "550e8400-e29b-41d4-a716-446655440000", ["io.microsoft.network.ncproxy"] = "x:1",
    [VM .. "devices.virtualpmem.maximumcount"] = "1", ["io.microsoft.migration.support-enabled"] = "true",
  } do
    it("is refused when the VM would be another without it: " .. name, function()
      local found = read { [name] = text }
      assert.same({}, found.faults)
      one(found.refused, name, "leave it out")
      local ok, e = pcall(annotations.settle, { [name] = text }, "pod")
      assert.is_false(ok)
      assert.is_true(err.is(e, "unimplemented"), tostring(e))
    end)
  end

  it("is nothing when it is not asked for", function()
    assert.same({ {}, {} }, (function()
      local found = read {
        [keys.HOST_PROCESS] = "false", [VM .. "kerneldrivers"] = "", [VM .. "devices.virtualpmem.maximumcount"] = "0",
        [VM .. "computetopology.memory.allowovercommit"] = "true", [VM .. "lcow.timesync.disable"] = "false",
      }
      return { found.refused, found.warnings }
    end)())
  end)

  it("is said when it only tunes", function()
    one(read({ [VM .. "computetopology.memory.allowovercommit"] = "false" }).warnings, "has no effect on this host")
    one(read({ [VM .. "hv-socket.service-table.550e8400-e29b-41d4-a716-446655440000"] = "{}" }).warnings, "has no effect on this host")
    one(read({ ["io.microsoft.container.memory.sizeinmb"] = "5" }, "container").warnings, "write resources")
  end)

  it("is nothing to say of switches that forbid what there is not", function()
    local found = read { [keys.DISABLE_UNSAFE] = "true" }
    assert.same({ {}, {}, {} }, { found.warnings, found.faults, found.refused })
    assert.is_true(found.settings.no_writable_shares)
  end)
end)

describe("annotations in the wrong place", function()
  it("are said: of a container in a pod, and the other way round", function()
    one(read({ [keys.PRIVILEGED] = "true" }, "pod").warnings, "belongs to a container")
    local found = read({ [keys.MEMORY] = "512" }, "container")
    one(found.warnings, "belongs to a pod")
    assert.is_nil(found.settings.memory_mb)
  end)

  it("are said when nobody knows them, with the name that was meant", function()
    one(read({ [VM .. "lcow.priviledged"] = "true" }).warnings, "is not known", "did you mean " .. keys.PRIVILEGED)
    assert.same({}, read({ ["org.example/x"] = "banana" }).warnings)
    one(read({ ["io.microsoft.a\nb"] = "true" }).warnings, "is not known")
  end)

  it("are counted when there are many that nobody knows", function()
    local map = {}
    for i = 1, 5000 do map[("io.microsoft.unknown.%04d"):format(i)] = "x" end
    local warnings = read(map).warnings
    assert.equal(9, #warnings)
    assert.equal("4992 more names are not known and have no effect", warnings[9])
  end)
end)

describe("the type of a spec", function()
  local TYPE, ID = keys.CONTAINER_TYPE, keys.SANDBOX_ID
  it("is what its annotations say, or none", function()
    assert.same({ "sandbox", "p" }, { annotations.type_of { [TYPE] = "sandbox", [ID] = "p" } })
    assert.same({ "container", "p" }, { annotations.type_of { [TYPE] = "container", [ID] = "p" } })
    assert.same({}, { annotations.type_of(nil) })
  end)

  for name, map in pairs {
    ["without an id"] = { [TYPE] = "sandbox" }, ["that is missing beside an id"] = { [ID] = "p" },
    ["that is unknown"] = { [TYPE] = "vm", [ID] = "p" }, ["with an empty id"] = { [TYPE] = "sandbox", [ID] = "" },
  } do
    it(name .. " is refused", function()
      local ok, e = pcall(annotations.type_of, map)
      assert.is_false(ok)
      assert.is_true(err.is(e, "invalid_argument"), tostring(e))
    end)
  end
end)

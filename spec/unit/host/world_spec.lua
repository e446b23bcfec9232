local err = require "moonshim.err"
local host = require "moonshim.host"
local layout = require "moonshim.guest.layout"
local process = require "moonshim.host.local_process"
local task = require "moonshim.task"
local virtual = require "support.virtual"
local world = require "moonshim.world"

local function failure(fn, ...)
  local ok, e = pcall(fn, ...)
  assert.is_false(ok, "did not fail")
  return err.from(e)
end

describe("a world", function()
  it("gives out ports that only grow", function()
    local w = world.new { id = "x" }
    assert.equal(layout.FIRST_STDIO_PORT, w.ports())
    assert.same({ layout.FIRST_STDIO_PORT + 1, layout.FIRST_STDIO_PORT + 2 }, { w.ports(2) })
    assert.equal(layout.FIRST_STDIO_PORT + 3, w.ports())
    assert.equal(2000000000, world.new({ id = "x", first_port = 2000000000 }).ports())
  end)

  it("has one device table, made when it is first asked for, also by two at once [#305]", virtual.seeds(3, function()
    local core, made = require "moonshim.core", 0
    local counting = setmetatable({ devices = function(...)
      made = made + 1
      return core.devices(...)
    end }, { __index = core })
    local w = world.new { id = "x", core = counting }
    assert.equal(0, made)
    local seen = task.all { function() return w.devices end, function() return w.devices end }
    assert.equal(seen[1], seen[2])
    assert.equal(1, made)
  end))

  it("is alive only with a VM that is", function()
    local w = world.new { id = "x" }
    assert.is_false(w.alive())
    w.uvm = { alive = function() return true end }
    assert.is_true(w.alive())
  end)

  it("knows its driver by name, and says which there are", function()
    assert.equal(require "moonshim.host.local", world.new({ id = "x", host = "local" }).host)
    local e = failure(world.new, { id = "x", host = "locla" })
    assert.equal("invalid_argument", e.code)
    assert.truthy(e.message:find("local", 1, true))
  end)

  it("closes what it holds, once, and leaves the VM alone", function()
    local closed = {}
    local function thing(name) return { close = function() closed[#closed + 1] = name end } end
    local w = world.new { id = "x", guest = thing "guest", relay = thing "relay", uvm = thing "our part of the vm" }
    w:close()
    w:close()
    assert.same({ "guest", "relay", "our part of the vm", "our part of the vm" }, closed)
    assert.is_nil(w.guest)
  end)

  it("starts no thread when it is dry", function()
    local w = world.dry { id = "x" }
    assert.is_true(w.dry)
    assert.equal("failed_precondition", failure(function() return w.relay end).code)
    assert.truthy(w.devices:reserve({ bus = "plan9", path = "/data" }).guest_path)
  end)
end)

describe("the local host's names", function()
  local driver = host.get "local"

  it("stand for any id in 16 digits", function()
    assert.truthy(driver.hex("x"):find "^%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x$")
    assert.not_equal(driver.hex "ab", driver.hex "ba")
    assert.equal("cbf29ce484222325", driver.hex "")
    assert.equal("af63dc4c8601ec8c", driver.hex "a") -- FNV-1a's own test value
  end)

  it("leave room for the longest port below the default folder", function()
    assert.is_true(#("/run/moonshim/" .. driver.hex "x" .. "/s/4294967295") < 108)
  end)

  it("of the control group follow the folder, wherever that is, and the incarnation: ending one VM must not end another", function()
    local groups, folders = {}, {}
    for _, dir in ipairs { "/tmp/a/run/x", "/tmp/b/run/x", driver.run_dir "x", driver.run_dir "x" } do
      local facts = driver.reserve("x", host.document(), dir)
      assert.equal(dir, facts.run_dir)
      assert.is_nil(groups[facts.cgroup])
      groups[facts.cgroup] = true
      local folder = facts.cgroup:match "^moonshim/(%x+)%-%x+$"
      assert.is_true(folders[folder] == nil or folders[folder] == dir)
      folders[folder] = dir
    end
  end)

  it("are reserved without an effect", function()
    local facts = driver.reserve("some id", host.document())
    assert.equal(driver.run_root() .. "/" .. driver.hex "some id", facts.run_dir)
    assert.equal(("moonshim/%s-%s"):format(driver.hex(facts.run_dir), facts.run_id), facts.cgroup)
    assert.equal(36, #facts.boot_id)
    assert.is_nil(io.open(facts.run_dir))
  end)
end)

describe("a document", function()
  it("has four controllers and a 9P device, as every host wants it", function()
    local d = host.document { memory_mb = 256, processors = 2, dies_with_shim = true }
    assert.same({ Major = 2, Minor = 1 }, d.SchemaVersion)
    assert.is_true(d.ShouldTerminateOnLastHandleClosed)
    assert.same({}, d.VirtualMachine.Devices.Plan9)
    for i = 0, 3 do assert.same({}, d.VirtualMachine.Devices.Scsi[host.CONTROLLERS[i]]) end
    assert.equal(256, d.VirtualMachine.ComputeTopology.Memory.SizeInMB)
    assert.is_nil(host.document().ShouldTerminateOnLastHandleClosed)
  end)

  it("has the slots that its SCSI controllers say, without those that are taken from the start", function()
    assert.same({ controllers = 4, boot = {} }, host.topology(host.document()))
    local guid = host.CONTROLLERS[1]:upper()
    assert.same({ controllers = 2, boot = { { 0, 3, "/a" }, { 1, 0, "/b" } } }, host.topology { VirtualMachine = { Devices = { Scsi = {
      [guid] = { Attachments = { ["0"] = { Path = "/b" } } }, ["0"] = { Attachments = { ["3"] = { Path = "/a" } } },
    } } } })
    for _, scsi in ipairs { { ["7"] = {} }, { x = {} }, { ["0"] = { Attachments = { ["64"] = {} } } } } do
      assert.equal("invalid_argument", failure(host.topology, { VirtualMachine = { Devices = { Scsi = scsi } } }).code)
    end
    assert.same({ controllers = 1, boot = {} }, host.topology {})
  end)

  it("addresses slots by number or GUID", function()
    assert.same({ 2, 63 }, { host.scsi_address(host.scsi_path(2, 63)) })
    assert.is_nil(host.scsi_address "VirtualMachine/Devices/Plan9/Shares")
    assert.equal("invalid_argument", failure(host.scsi_address, "VirtualMachine/Devices/Scsi/x/Attachments/0").code)
  end)
end)

describe("the tail of a log", function()
  it("is its last lines on one line, without control characters", function()
    local path = os.tmpname()
    local file = io.open(path, "w")
    file:write(("noise\n"):rep(5000), "one\ntwo\27[31m\nthree\nfour\n")
    file:close()
    assert.equal("one | two [31m | three | four", process.tail(path))
    os.remove(path)
    assert.is_nil(process.tail(path))
  end)
end)

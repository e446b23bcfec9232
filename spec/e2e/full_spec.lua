-- A run folder on a disk that is full, or gets full (known bug 99).
local command = require "e2e.command"

describe("a run folder without room", function()
  local check_leaks, disk, env
  setup(function()
    command.root()
    command.image("base")
    check_leaks = command.leaks()
    disk = command.folder .. "/full"
    env = { MOONSHIM_RUN = disk .. "/run" }
    assert.equal(0, command.execute("/bin/mkdir", { disk }).code)
    assert.equal(0, command.execute("/bin/mount", { "-t", "tmpfs", "-o", "size=2M,mode=700", "none", disk }).code)
  end)
  teardown(function()
    assert.equal(0, command.execute("/bin/umount", { disk }).code)
    check_leaks()
    command.cleanup()
  end)

  ---Leaves `free` KiB.
  local function fill(free)
    local result = command.execute("/bin/sh", { "-c", ("head -c %d /dev/zero > %s/fill; df -k --output=avail %s | tail -n 1"):format(
      (2048 - free) * 1024, disk, disk) })
    assert.equal(0, result.code, result.err)
  end

  local function run(...) return command.run({ "echo", "here" }, { ... }, { env = env }) end

  local function goes_on()
    assert.equal(0, command.execute("/bin/rm", { disk .. "/fill" }).code)
    local result = run("--layer", command.image("base"))
    assert.equal("here\n", result.out, result.err)
    assert.same({ "run" }, command.list(disk))
    assert.same({}, command.list(disk .. "/run"))
  end

  it("is named, nothing is left in it, and the next run with room works", function()
    fill(0)
    local result = run()
    assert.equal(125, result.code)
    assert.equal(1, select(2, result.err:gsub("\n", "")), result.err)
    assert.is_truthy(result.err:lower():find("no space left", 1, true), result.err)
    assert.is_truthy(result.err:find(disk, 1, true), result.err)
    goes_on()
  end)

  it("for a scratch disk is told with what is free, and rolled back", function()
    fill(512)
    local result = run("--layer", command.image("base"), "--scratch", "16M")
    assert.equal(125, result.code)
    assert.equal(1, select(2, result.err:gsub("\n", "")), result.err)
    assert.is_truthy(result.err:find("no space left: %d+ of 2048 KiB are free"), result.err)
    goes_on()
  end)
end)

--- support/contract - what the specs of spec/contract share: one suite over every host that this machine can run.
---
---   contract.every_host(function(at)        describes each; pending where something is missing
---     at.name, at.driver                    the host
---     at.folder                             a folder of this file: run dirs, images, roots; once the specs run
---     it("...", contract.run(fn))           the body as a task, quietly, within a minute
---     it("...", at.with_vm(fn))             the same with a VM that runs: fn(uvm, guest, world); ended whatever happens
---   end)
---
--- Needs root and the built programs.
local assert = require "luassert"
local busted = require "busted"
local err = require "moonshim.err"
local host = require "moonshim.host"
local kind = require "moonshim.kind"
local layout = require "moonshim.guest.layout"
local log = require "moonshim.log"
local task = require "moonshim.task"
local uv = require "luv"
local world = require "moonshim.world"

local contract = {}

local build = os.getenv "MOONSHIM_BUILD" or "build/release"
local agent = uv.fs_realpath(build .. "/bin/moonshim-guest")
local has_core, core = pcall(require, "moonshim.core")
contract.core = core

local function missing()
  if not has_core then return "moonshim.core (build it)" end
  if not agent then return "moonshim-guest (build it)" end
  if uv.getuid() ~= 0 then return "root" end
end

function contract.shell(fmt, ...)
  local ok = os.execute((fmt:format(...)) .. " >/dev/null 2>&1")
  assert(ok, "failed: " .. fmt:format(...))
end

function contract.write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
  return path
end

function contract.read(path)
  local file = io.open(path, "r")
  if not file then return nil end
  local text = file:read "a"
  file:close()
  return text
end

local count = 0
function contract.new_id(prefix)
  count = count + 1
  return ("%s-%d-%d"):format(prefix or "contract", uv.os_getpid(), count)
end

function contract.failure(fn, ...)
  local ok, e = pcall(fn, ...)
  assert.is_false(ok, "did not fail")
  assert.is_true(err.is(e), tostring(e))
  return e
end

function contract.run(fn)
  return function()
    return task.run(function() return task.deadline("10m", fn) end, { log = log.new() })
  end
end

function contract.groups_of(facts)
  local found = {}
  for _, base in ipairs { "/sys/fs/cgroup", "/sys/fs/cgroup/*" } do
    local pipe = io.popen(("ls -d %s/%s 2>/dev/null"):format(base, facts.cgroup))
    for line in pipe:lines() do found[#found + 1] = line end
    pipe:close()
  end
  return found
end

function contract.assert_nothing_left(facts)
  assert.is_nil(uv.fs_stat(facts.run_dir), "the run folder is still there")
  assert.same({}, contract.groups_of(facts))
  if facts.pid then assert.not_equal(facts.start_time, core.sys.start_time(facts.pid)) end
end

function contract.document() return host.document { dies_with_shim = true } end

local function with_vm(driver, fn)
  return contract.run(function()
    local id = contract.new_id()
    local w = world.new { id = id, host = driver, log = log.new() }
    local facts = driver.reserve(id, contract.document())
    local uvm = driver.create(id, contract.document(), facts)
    w.uvm = uvm
    local ok, e = xpcall(function()
      uvm:start()
      local _, guest = kind.get("bridge").acquire(w, { port = layout.BRIDGE_PORT })
      fn(uvm, guest, w)
    end, err.traceback)
    w:close()
    uvm:terminate()
    if not ok then error(e, 0) end
    contract.assert_nothing_left(uvm.facts)
  end)
end

---@param specs fun(at: { name: string, driver: table, folder: string, with_vm: fun(fn: function): function })
function contract.every_host(specs)
  local why = missing()
  for _, name in ipairs(host.NAMES) do
    busted.describe(("the host %q"):format(name), function()
      if why then
        busted.pending("needs " .. why)
        return
      end

      local at = { name = name, driver = host.get(name) }
      function at.with_vm(fn) return with_vm(at.driver, fn) end

      busted.setup(function()
        at.folder = assert(uv.fs_mkdtemp "/tmp/moonshim-contract.XXXXXX")
        uv.os_setenv("MOONSHIM_RUN", at.folder .. "/run")
      end)

      busted.teardown(function()
        uv.os_unsetenv "MOONSHIM_RUN"
        uv.os_unsetenv "MOONSHIM_GUEST"
        contract.shell("rm -rf --one-file-system '%s'", at.folder)
      end)

      busted.before_each(function() uv.os_setenv("MOONSHIM_GUEST", agent) end)

      specs(at)
    end)
  end
end

return contract

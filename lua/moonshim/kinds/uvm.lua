--- kind "uvm": the utility VM itself.
--
-- args    { document = HCS document }
-- facts   what the host driver reserved (id, run_dir, cgroup, boot_id, run_id), then pid and start_time
-- Always  1. release works from facts alone: boot may have been cut short before anybody learnt a pid.
--         2. everything that the guest dials is listened for before the VM is started; when that fails, or the start does,
--            nothing listens any more.
local boot = require "moonshim.guest.boot"
local err = require "moonshim.err"
local host = require "moonshim.host"
local kind = require "moonshim.kind"

return kind.define("uvm", {
  v = 1,
  reserve = function(world, args)
    if type(args.document) ~= "table" then err.raise("invalid_argument", "uvm: the document is missing") end
    world.scsi = host.topology(args.document)
    local facts = world.host.reserve(world.id, args.document, world.run_dir)
    return facts
  end,
  acquire = function(world, facts, args)
    -- The driver keeps what it learns in its own copy; the journal gets it as `found`.
    local own = {}
    for k, v in pairs(facts) do own[k] = v end
    local uvm = world.host.create(world.id, args.document, own)
    world.uvm = uvm
    local ports = boot.listen(world, uvm)
    local ok, found = xpcall(uvm.start, err.traceback, uvm)
    if not ok then
      ports:close()
      error(found, 0)
    end
    ports:serve()
    world.boot = ports
    return found, uvm
  end,
  release = function(world, facts)
    local uvm = world.uvm
    if uvm then uvm:terminate() else world.host.terminate(facts) end
  end,
  verify = function(world, facts)
    if world.uvm then return world.uvm:alive() and "held" or "gone" end
    local ok, e = pcall(world.host.open, facts)
    if ok then
      e:close()
      return "held"
    end
    return err.is(e, "gone") and "gone" or "unknown"
  end,
  defaults = { within = "60s", retries = 2, backoff = "200ms", on_failure = "stop" },
})

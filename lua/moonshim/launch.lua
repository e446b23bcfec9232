---What a VM controller is put together from: a run folder with its journal, a world, a policy.
local err = require "moonshim.err"
local holder = require "moonshim.journal.holder"
local host = require "moonshim.host"
local journal = require "moonshim.journal"
local ledger = require "moonshim.ledger"
local policy = require "moonshim.policy"
local recovery = require "moonshim.recovery"
local task = require "moonshim.task"
local world = require "moonshim.world"
local Vm = require "moonshim.controller.vm"

local launch = {}

-- How often a run folder is made again that a clean-up has removed.
local FOLDER_TRIES = 10

---Ids of VMs are the pod's, marked, so that neither can be taken for the other.
local function vm_id(spec) return spec.name .. "@vm" end

local function refuse_second(spec, e) err.raise("already_exists", "a pod %s is there already: %s", spec.name, e.message) end

---What an earlier process of the same pod left behind goes first; while it lives the pod cannot be started again.
---@async
local function clear(dir, spec)
  if not require("luv").fs_stat(dir .. "/" .. recovery.JOURNAL) then return end
  local ok, report = pcall(recovery.run, dir)
  if not ok and err.is(report, "failed_precondition") then
    refuse_second(spec, report)
  end
  if not ok and err.is(report, "not_found") then return end -- its owner was about to end, and has removed it
  if not ok then error(err.is(report) and err.wrap(report, "clean up after an earlier run of " .. spec.name) or report, 0) end
  if not report.ok then error(err.wrap(report.error, "clean up after an earlier run of " .. spec.name), 0) end
end

-- A journal with nothing in it, in a folder of its own. A clean-up that meets the folder before the journal is in it takes it
-- for a husk and removes it; and an earlier process that has the lock without a journal may still have written one.
---@async
local function open_journal(dir, spec)
  local core, uv = require "moonshim.core", require "luv"
  local path, e = dir .. "/" .. recovery.JOURNAL, nil
  for _ = 1, FOLDER_TRIES do
    clear(dir, spec)
    err.try(core.sys.mkdir_p(dir:match("^(.*)/"), 448)) -- 0700
    err.try(core.sys.mkdir_p(dir, 448))
    local ok, j = pcall(holder.outlast, function() return journal.file(path) end)
    if ok and err.try(uv.fs_stat(path)).size == 0 then return j end
    if ok then
      j:close()
      e = err.new("aborted", ("%s is written again and again"):format(path))
    else
      if err.is(j, "failed_precondition") then refuse_second(spec, j) end
      if not err.is(j, "not_found") then error(j, 0) end
      e = j
    end
  end
  return error(e, 0)
end

---A VM for this pod, with nothing taken yet but the run folder. Raises before anything is started when the operator's
---script is wrong.
---@async
---@param spec moonshim.PodSpec
---@param opts { policy: string?, log: moonshim.Log?, run_dir: string? } run_dir: folder of run folders, instead of the host's
---@return moonshim.Vm
function launch.vm(spec, opts)
  local chosen = policy.load { operator = opts.policy or spec.policy }
  local core = require "moonshim.core"
  local driver, id = host.get(spec.host), vm_id(spec)
  local dir = opts.run_dir and opts.run_dir .. "/" .. driver.run_dir(id):match("[^/]+$") or driver.run_dir(id)
  local log = opts.log or task.log()
  local j
  local ok, vm = xpcall(function()
    j = open_journal(dir, spec)
    -- A VM of one pod refuses what the pod forbids, whoever asks; a shared one has no settings, and each pod its own.
    local w = world.new {
      id = id, host = driver, log = log, run_dir = dir, no_writable_shares = spec.settings and spec.settings.no_writable_shares,
    }
    return Vm.new {
      id = id, world = w, policy = chosen, log = log,
      ledger = ledger.open { journal = j, world = w, boot_id = core.sys.boot_id(), log = log },
      cleanup = function() recovery.remove(dir) end,
    }
  end, err.traceback)
  if not ok then
    chosen:close()
    if j then -- it is ours, and nothing is in it
      pcall(recovery.remove, dir)
      j:close()
    end
    error(vm, 0)
  end
  return vm
end

-- Files that are not there are taken for what their names say, so that a plan can be printed where the images are not.
local function lenient_files()
  local real = require "moonshim.oci.files"
  local function guess(path) return path:find("^/dev/") and "char" or path:find("%.%w+$") and "file" or "directory" end
  local function or_else(fn, otherwise)
    return function(path)
      local ok, v = pcall(fn, path)
      if ok then return v end
      if err.is(v, "not_found") then return otherwise(path) end
      return error(v, 0)
    end
  end
  return {
    realpath = or_else(real.realpath, function(path) return path end),
    kind = or_else(real.kind, guess),
    detect = or_else(real.detect, function() return { format = "ext4", size = 0 } end),
    blank = or_else(real.blank, function() return true end),
    access = or_else(real.access, function() end),
  }
end

---A VM in which everything is named and nothing happens, for printing plans.
---@async
---@param spec moonshim.PodSpec
---@param opts { policy: string?, log: moonshim.Log? }
---@return moonshim.Vm
function launch.dry_vm(spec, opts)
  local chosen = policy.load { operator = opts.policy or spec.policy }
  local log = opts.log or task.log()
  local w = world.dry { id = vm_id(spec), host = spec.host, log = log }
  w.files = lenient_files()
  return Vm.new {
    id = w.id, world = w, policy = chosen, log = log,
    ledger = ledger.open { journal = journal.memory(), world = w, dry = true, log = log },
  }
end

return launch

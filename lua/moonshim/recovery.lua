---Clean-up after a process that was killed: load the journal, derive the plan, run it.
---
---No script of an operator takes part: nobody can say in which state it would find things.
local err = require "moonshim.err"
local folder = require "moonshim.folder"
local holder = require "moonshim.journal.holder"
local journal = require "moonshim.journal"
local ledger = require "moonshim.ledger"
local plan = require "moonshim.plan"
local policy = require "moonshim.policy"
local task = require "moonshim.task"
local world = require "moonshim.world"

local recovery = {}

---The name of the journal in a run folder.
recovery.JOURNAL = "journal"

-- Beside it while somebody writes to it.
local LOCK = recovery.JOURNAL .. ".lock"

local function core() return require "moonshim.core" end

---Removes a run folder: the journal when nothing else is there, and the lock after it. So a remover that is killed in the
---middle leaves either a journal or a husk, and `gc` knows both.
---@async
---@param dir string
function recovery.remove(dir)
  local doomed = {}
  for _, name in ipairs(folder.names(dir)) do
    if name ~= recovery.JOURNAL and name ~= LOCK then doomed[#doomed + 1] = dir .. "/" .. name end
  end
  table.move({ dir .. "/" .. recovery.JOURNAL, dir .. "/" .. LOCK, dir }, 1, 3, #doomed + 1, doomed)
  for _, path in ipairs(doomed) do
    task.callback(function(cb) return core().sys.remove_tree(path, cb) end)
  end
end

-- A run folder that holds no journal any more, or not yet.
local function is_husk(dir, names) return dir:find("/" .. ("%x"):rep(16) .. "$") and (names[1] or LOCK) == LOCK and #names < 2 end

---The folders below the run root that hold a journal, and the husks.
---@param root string
---@return string[]
function recovery.folders(root)
  local out = {}
  for _, name in ipairs(folder.names(root)) do
    local dir = root .. "/" .. name
    if require("luv").fs_stat(dir .. "/" .. recovery.JOURNAL) or is_husk(dir, folder.names(dir)) then out[#out + 1] = dir end
  end
  return out
end

-- Nothing is owed where no journal is: whoever takes something writes it down first. An empty folder may be one that somebody
-- has just made to lock it; `launch` makes it again.
local function sweep(dir)
  local uv = require "luv"
  if #folder.names(dir) == 0 then
    err.try(uv.fs_rmdir(dir))
  else
    local lock = holder.outlast(function() return err.try(core().sys.lock_file(dir .. "/" .. LOCK, { create = false })) end)
    local ok, e = pcall(function()
      if is_husk(dir, folder.names(dir)) then recovery.remove(dir) end
    end)
    lock:close()
    if not ok then error(e, 0) end
  end
  return { id = dir:match "[^/]+$", ok = true, steps = {} }
end

local function id_of(held, dir)
  for _, receipt in ipairs(held:all()) do
    if receipt.kind == "uvm" then return receipt.facts.id, receipt.facts.host end
  end
  return dir:match("[^/]+$"), nil
end

---Releases everything that the journal of one run folder names, then removes the folder. Raises failed_precondition when
---its writer lives; one that has just been killed is waited for. What could not be released stays in the journal, for the
---next try.
---@async
---@param dir string run folder
---@param opts { host: table?, log: moonshim.Log?, world: moonshim.World? }?
---@return { id: string, ok: boolean, error: moonshim.Err?, steps: table[] } report
function recovery.run(dir, opts)
  opts = opts or {}
  local log = opts.log or task.log()
  if is_husk(dir, folder.names(dir)) then return sweep(dir) end
  local j = holder.outlast(function() return journal.file(dir .. "/" .. recovery.JOURNAL, { create = false }) end)
  local w, held
  local ok, report = xpcall(function()
    -- The world's names come from the facts; until they are read it is a world of nobody.
    w = opts.world or world.new { id = dir:match("[^/]+$"), host = opts.host or "local", log = log, run_dir = dir }
    held = ledger.open { journal = j, world = w, boot_id = core().sys.boot_id(), log = log }
    local id, host = id_of(held, dir)
    w.id = id
    if host and not opts.host and not opts.world then w.host = require("moonshim.host").get(host) end
    if #held:all() == 0 then
      recovery.remove(dir)
      return { id = id, ok = true, steps = {} }
    end
    recovery.open_vm(w, held)
    w.devices:restore(held:all())
    local order = policy.load().teardown.order
    local result = plan.execute(held, { owner = "vm", goal = "crash", order = order, reason = "its shim is gone" })
    result.id = id
    if #held:all() > 0 and result.ok then
      result.ok, result.error = false, err.new("unknown", "something is left although every step was done")
    end
    if result.ok then recovery.remove(dir) end -- with the journal still locked, so that nobody starts in it meanwhile
    return result
  end, err.traceback)
  if w then w:close() end
  j:close()
  if not ok then error(report, 0) end
  return report
end

---The VM of the journal, when it still runs: its release ends it.
function recovery.open_vm(w, held)
  for _, receipt in ipairs(held:all()) do
    if receipt.kind == "uvm" then
      local ok, uvm = pcall(w.host.open, receipt.facts)
      if ok then
        w.uvm = uvm
      elseif not err.is(uvm, "gone") then
        error(uvm, 0)
      end
    end
  end
end

---Cleans up every run folder whose writer is gone.
---@async
---@param opts { root: string?, log: moonshim.Log? }?
---@return { id: string, dir: string, ok: boolean, error: moonshim.Err? }[]
function recovery.gc(opts)
  opts = opts or {}
  local reports = {}
  for _, dir in ipairs(recovery.folders(opts.root or require("moonshim.host").get("local").run_root())) do
    local ok, report = pcall(recovery.run, dir, opts)
    if ok then
      report.dir = dir
      reports[#reports + 1] = report
    elseif not err.is(report) then
      error(report, 0)
    elseif not err.is(report, "failed_precondition", "not_found") then -- in use, or removed by its owner meanwhile
      reports[#reports + 1] = { id = dir:match("[^/]+$"), dir = dir, ok = false, error = report, steps = {} }
    end
  end
  return reports
end

return recovery

---Clean-up after a process that was killed: load the journal, derive the plan, run it.
---
---No script of an operator takes part: nobody can say in which state it would find things.
local err = require "moonshim.err"
local journal = require "moonshim.journal"
local ledger = require "moonshim.ledger"
local plan = require "moonshim.plan"
local policy = require "moonshim.policy"
local task = require "moonshim.task"
local world = require "moonshim.world"

local recovery = {}

---The name of the journal in a run folder.
recovery.JOURNAL = "journal"

local function core() return require "moonshim.core" end

---@async
---@param dir string
function recovery.remove(dir)
  task.callback(function(cb) return core().sys.remove_tree(dir, cb) end)
end

---The folders below the run root that hold a journal.
---@param root string
---@return string[]
function recovery.folders(root)
  local uv = require "luv"
  local out = {}
  local handle = uv.fs_scandir(root)
  while handle do
    local name = uv.fs_scandir_next(handle)
    if not name then break end
    local dir = root .. "/" .. name
    if uv.fs_stat(dir .. "/" .. recovery.JOURNAL) then out[#out + 1] = dir end
  end
  table.sort(out)
  return out
end

local function id_of(held, dir)
  for _, receipt in ipairs(held:all()) do
    if receipt.kind == "uvm" then return receipt.facts.id, receipt.facts.host end
  end
  return dir:match("[^/]+$"), nil
end

---Releases everything that the journal of one run folder names, then removes the folder. Raises failed_precondition when
---its writer lives. What could not be released stays in the journal, for the next try.
---@async
---@param dir string run folder
---@param opts { host: table?, log: moonshim.Log?, world: moonshim.World? }?
---@return { id: string, ok: boolean, error: moonshim.Err?, steps: table[] } report
function recovery.run(dir, opts)
  opts = opts or {}
  local log = opts.log or task.log()
  local j = journal.file(dir .. "/" .. recovery.JOURNAL, { create = false })
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

---What the controllers do with a process, by its receipts: the verbs of the kinds "process" and "stdio" behind one table,
---so that a controller holds no live object of the guest.
local process = require "moonshim.kinds.process"
local stdio = require "moonshim.kinds.stdio"
local clock = require "moonshim.clock"

local processes = {}

---@async
---@param size { rows: integer, columns: integer }? of its terminal
---@return integer pid
function processes.start(vm, receipt, size) return process.start(vm.world, receipt, vm.ledger, size) end

---@async
---@return { code: integer, reason: string?, signalled: boolean? } signalled: by one that nobody can name
function processes.wait(vm, receipt) return process.wait(vm.world, receipt) end

---The process has ended: moves the output that is there, until it stands still for `idle`, and for at most `most`.
---@async
---@param receipt moonshim.Receipt? kind "stdio"
function processes.drain(vm, receipt, idle, most)
  if receipt and receipt.value then stdio.drain(vm.world, receipt, clock.ms(idle), clock.ms(most)) end
end

---@async
---@param group boolean? to its group
function processes.signal(vm, receipt, number, group) process.signal(vm.world, receipt, number, group) end

---@async
function processes.resize(vm, receipt, rows, columns) process.resize(vm.world, receipt, rows, columns) end

---Bytes moved so far by each stream.
---@return { stdin: integer?, stdout: integer?, stderr: integer? }
function processes.counts(vm, receipt) return stdio.counts(vm.world, receipt) end

function processes.close_stdin(vm, receipt) stdio.close_stdin(vm.world, receipt) end

---@async
---@return integer[]
function processes.pids(vm, receipt) return process.pids(vm.world, receipt) end

---@async
---@return table
function processes.stats(vm, receipt) return process.stats(vm.world, receipt) end

---@async
---@param frozen boolean
function processes.freeze(vm, receipt, frozen) process.freeze(vm.world, receipt, frozen) end

---@async
function processes.update(vm, receipt, resources) process.update(vm.world, receipt, resources) end

return processes

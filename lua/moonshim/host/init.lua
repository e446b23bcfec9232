--- Host drivers by name, and the document that describes a utility VM.
--
-- A driver (lua/moonshim/host/<name>.lua) has, all raising:
--   reserve(id, document, run_dir?) -> facts  what the VM will be called and where it lives, run_dir being the folder that
--                                             the driver would name; no effect
--   create(id, document, facts?) -> uvm       facts: those of reserve, else they are made
--   open(facts) -> uvm                        raises gone when that incarnation has ended
--   terminate(facts)                          from any process, any number of times; removes all that is left of it
--   run_dir(id) -> path                       folder of the VM; its journal lies in it
-- and a uvm:
--   start() -> found      modify(request, found?) -> found      query(what) -> table      capabilities() -> table
--   listen(port) -> { accept(self) -> stream, close(self) }     also before start; an accept ends with `unavailable` when the
--                         VM does, or the listener is closed
--   wait() -> { reason, code?, signal? }
--   terminate()           alive() -> boolean                    socket_dir() -> path      tail() -> string?
-- Requests are HCS ModifySettingRequests: { ResourcePath, RequestType, Settings }.
local err = require "moonshim.err"
local suggest = require "moonshim.suggest"

local host = {}

host.NAMES = { "local" }

--- The SCSI controllers of every document, in order; a request may name one by GUID or by number.
host.CONTROLLERS = {
  [0] = "df6d0690-79e5-55b6-a5ec-c1e2f77f580a",
  [1] = "0110f83b-de10-5172-a266-78bca56bf50a",
  [2] = "b5d2d8d4-3a75-51bf-945b-3444dc6b8579",
  [3] = "305891a9-b251-5dfe-91a2-c25d9212275b",
}
host.LUNS = 64

--- The driver called `name`. Raises `invalid_argument` with the known names.
---@param name string
function host.get(name)
  for _, known in ipairs(host.NAMES) do
    if known == name then return require("moonshim.host." .. known) end
  end
  return err.raise("invalid_argument", "there is no host %q%s", tostring(name), suggest.hint(name, host.NAMES))
end

--- A document for a VM of ordinary pods.
---@param opts { memory_mb: integer?, processors: integer?, limit: integer?, weight: integer?, dies_with_shim: boolean? }? limit:
---of each processor, in 1/1000 percent; weight: against other VMs, 100 is everybody's
---@return table
function host.document(opts)
  opts = opts or {}
  local scsi = {}
  for i = 0, 3 do scsi[host.CONTROLLERS[i]] = {} end
  local topology = {}
  if opts.memory_mb then topology.Memory = { SizeInMB = opts.memory_mb, AllowOvercommit = true } end
  if opts.processors or opts.limit or opts.weight then
    topology.Processor = { Count = opts.processors, Limit = opts.limit, Weight = opts.weight }
  end
  return {
    Owner = "moonshim",
    SchemaVersion = { Major = 2, Minor = 1 },
    ShouldTerminateOnLastHandleClosed = opts.dies_with_shim or nil,
    VirtualMachine = {
      StopOnReset = true,
      ComputeTopology = next(topology) and topology or nil,
      Devices = { Scsi = scsi, Plan9 = {} },
    },
  }
end

local function controller_number(name)
  local number = math.tointeger(tonumber(name))
  for i, guid in pairs(host.CONTROLLERS) do
    if guid == name:lower() then number = i end
  end
  return number and number >= 0 and number <= 3 and number or nil
end

--- The SCSI slots that a document gives a VM, for the table of reservations: how many controllers, and the slots that are
--- taken from the start. One controller at least: whether a VM has it is its host's to say.
---@param document table
---@return { controllers: integer, boot: { [1]: integer, [2]: integer, [3]: string }[] }
function host.topology(document)
  local devices = document.VirtualMachine and document.VirtualMachine.Devices or {}
  local controllers, boot = 1, {}
  for name, controller in pairs(devices.Scsi or {}) do
    local number = controller_number(tostring(name))
    if not number then err.raise("invalid_argument", "the document names a SCSI controller %s: they are 0..3", tostring(name)) end
    controllers = math.max(controllers, number + 1)
    for lun, disk in pairs(controller.Attachments or {}) do
      local slot = math.tointeger(tonumber(lun))
      if not slot or slot < 0 or slot >= host.LUNS then err.raise("invalid_argument", "the document names a LUN %s", tostring(lun)) end
      boot[#boot + 1] = { number, slot, disk.Path }
    end
  end
  table.sort(boot, function(a, b) return a[1] * host.LUNS + a[2] < b[1] * host.LUNS + b[2] end)
  return { controllers = controllers, boot = boot }
end

--- Controller and LUN of a SCSI resource path, or nil.
---@param path string
---@return integer? controller
---@return integer? lun
function host.scsi_address(path)
  local controller, lun = path:match "^VirtualMachine/Devices/Scsi/([^/]+)/Attachments/(%d+)$"
  if not controller then return nil end
  local number = controller_number(controller)
  lun = math.tointeger(tonumber(lun))
  if not number or lun >= host.LUNS then
    err.raise("invalid_argument", "%q is no SCSI slot: controllers are 0..3, LUNs 0..%d", path, host.LUNS - 1)
  end
  return number, lun
end

function host.scsi_path(controller, lun)
  return ("VirtualMachine/Devices/Scsi/%d/Attachments/%d"):format(controller, lun)
end

--- Resource path of a device, by its instance GUID.
function host.vpci_path(instance) return "VirtualMachine/Devices/VirtualPci/" .. instance end

--- The instance of such a path, or nil.
---@param path string
---@return string?
function host.vpci_instance(path) return path:match "^VirtualMachine/Devices/VirtualPci/([^/]+)$" end

--- A network adapter of the VM.
---@param id string
function host.adapter_path(id) return "VirtualMachine/Devices/NetworkAdapters/" .. id end

--- Whether a resource path names a network adapter.
---@param path string
function host.is_adapter(path) return path:find "^VirtualMachine/Devices/NetworkAdapters/[^/]+$" ~= nil end

host.PLAN9_PATH = "VirtualMachine/Devices/Plan9/Shares"
--- Flags of a Plan9 share.
host.SHARE_READ_ONLY, host.SHARE_LINUX_METADATA, host.SHARE_RESTRICT = 0x1, 0x4, 0x80

return host

--- The embedded default host: a utility VM that is a process tree in namespaces of its own, with the agent as pid 1.
--
-- Layer      host: moonshim.core, luv, host/local_* helpers.
-- Words      boot = `moonshim-guest boot`, an ordinary child that makes the tree and stays its parent; hex = 16 digits
--            that stand for the id in every path, so that no id can break the 108 bytes of a socket address;
--            incarnation = pid + start time + boot id.
-- Ownership  a uvm owns its listeners and the sockets in <run_dir>/s; loop devices belong to the core until removed.
-- Always     1. the sockets listen before boot runs.
--            2. terminate works from facts alone, in any process, any number of times, from any prefix of start.
--            3. the journal in the run dir is not touched: its owner removes it last.
-- See        spec/contract, spec/unit/host/local_spec.lua
local err = require "moonshim.err"
local host = require "moonshim.host"
local layout = require "moonshim.guest.layout"
local limits = require "moonshim.host.local_limits"
local local_devices = require "moonshim.host.local_devices"
local local_net = require "moonshim.host.local_net"
local process = require "moonshim.host.local_process"
local shares = require "moonshim.host.local_shares"
local task = require "moonshim.task"

local driver = {}

---@class moonshim.host.LocalUvm
local Uvm = {}
Uvm.__index = Uvm

-- How long boot may take to say that pid 1 runs, when nobody set a shorter deadline; milliseconds.
local BOOT_WITHIN = 30000
-- Boot ends when its child has, and has a few folders to remove then.
local BOOT_ENDS_WITHIN = 2000
-- A loop device whose last mount is just going is let go within this time.
local DETACH_WITHIN = 5000
-- Connections that wait for an accept; more are a broken guest.
local BACKLOG = 8

local function core() return require "moonshim.core" end

local function refuse(op, code, fmt, ...) error(err.new(code, fmt:format(...), { origin = "host", op = op }), 0) end

--- Runs fn; every error value that leaves it says that the host said it.
local function as_host(op, fn, ...)
  local result = table.pack(pcall(fn, ...))
  if result[1] then return table.unpack(result, 2, result.n) end
  local e = result[2]
  if not err.is(e) or e.code == "cancelled" then error(e, 0) end
  e = err.wrap(e, op:gsub("%..*", ""))
  e.origin, e.op = "host", op
  return error(e, 0)
end

-- Where things are -----------------------------------------------------------------------------------------------

function driver.run_root() return os.getenv "MOONSHIM_RUN" or "/run/moonshim" end

--- 64-bit FNV-1a: spreads ids over folder names. Nobody has to be kept from finding a collision: a second VM in the
--- same folder is refused by the folder's journal.
function driver.hex(id)
  local h = 0xcbf29ce484222325
  for i = 1, #id do h = (h ~ id:byte(i)) * 0x100000001b3 end
  return ("%016x"):format(h)
end

---@param id string
---@return string
function driver.run_dir(id) return driver.run_root() .. "/" .. driver.hex(id) end

-- Documents ------------------------------------------------------------------------------------------------------

--- Refuses what a namespace host cannot be; the rest of a foreign document is ignored.
function driver.check_document(document)
  if type(document) ~= "table" then refuse("create", "invalid_argument", "the document must be a table, not %s", type(document)) end
  local vm = document.VirtualMachine or {}
  if type(vm) ~= "table" then refuse("create", "invalid_argument", "VirtualMachine must be an object") end
  local devices = vm.Devices or {}
  local function no(present, what)
    if present then refuse("create", "unimplemented", "the host \"local\" has no %s", what) end
  end
  no(devices.VirtualPMem, "VirtualPMem")
  no(devices.VirtualPci and next(devices.VirtualPci), "VirtualPci devices in the document")
  no(vm.GuestState, "GuestState")
  no(vm.SecuritySettings and vm.SecuritySettings.Isolation, "isolation (SEV-SNP)")
  for _, controller in pairs(devices.Scsi or {}) do
    no(type(controller) == "table" and controller.Attachments and next(controller.Attachments), "boot disks; attach them after start")
  end
  local memory = vm.ComputeTopology and vm.ComputeTopology.Memory
  local size = memory and memory.SizeInMB
  if size ~= nil and (math.type(size) ~= "integer" or size < 1) then
    refuse("create", "invalid_argument", "Memory.SizeInMB must be a whole number of megabytes, not %s", tostring(size))
  end
  return document
end

--- Names and places of a VM, before anything exists.
---@param id string
---@param document table?
---@param run_dir string? when whoever asks keeps its run folders elsewhere
---@return table facts
function driver.reserve(id, document, run_dir)
  if type(id) ~= "string" or id == "" or #id > 512 or id:find "%c" then
    refuse("create", "invalid_argument", "%q is no id of a VM", tostring(id))
  end
  if document then driver.check_document(document) end
  local dir, run_id = run_dir or driver.run_dir(id), core().sys.random_hex(8)
  return {
    host = "local",
    id = id,
    run_dir = dir,
    -- Named after the folder, not the id: two run roots (a test beside a service) may hold VMs of the same name. And after
    -- this incarnation: on a busy machine the boot program of the last one may clear its groups late.
    cgroup = ("moonshim/%s-%s"):format(driver.hex(dir), run_id),
    boot_id = core().sys.boot_id(),
    run_id = run_id,
  }
end

-- Uvm ------------------------------------------------------------------------------------------------------------

local function new(facts, document)
  return setmetatable({
    facts = facts,
    document = document or {},
    listeners = {},
    shares = shares.new(),
    ended = task.signal(),
    boot_gone = task.signal(),
    log = facts.run_dir .. "/agent.log",
  }, Uvm)
end

---@param id string
---@param document table HCS schema 2
---@param facts table? of `reserve`
---@return moonshim.host.LocalUvm
function driver.create(id, document, facts)
  driver.check_document(document)
  return new(facts or driver.reserve(id, document), document)
end

--- A VM that runs, by its facts. Raises `gone` when that incarnation has ended.
---@param facts table
---@return moonshim.host.LocalUvm
function driver.open(facts)
  if facts.boot_id ~= core().sys.boot_id() then refuse("open", "gone", "VM %s ran before the last boot", facts.id) end
  if not facts.pid then refuse("open", "gone", "VM %s never ran", facts.id) end
  local started = core().sys.start_time(facts.pid)
  if started ~= facts.start_time then refuse("open", "gone", "VM %s has ended", facts.id) end
  local uvm = new(facts, {})
  uvm:watch()
  return uvm
end

--- What a VM that is gone left on the host, as far as devices go: something with `modify` for Remove requests.
---@param run_dir string
function driver.remains(run_dir) return new({ run_dir = run_dir, id = run_dir }, {}) end

function Uvm:socket_dir() return self.facts.run_dir .. "/s" end

--- What a plan may rely on: host effects of disks outlive the VM here, so they are released one by one.
function Uvm.capabilities()
  return {
    vpci = true, guest_log = true, entropy = false, share_files = true, disks_die_with_vm = false, die_with_parent = true,
    network_adapters = true,
  }
end

function Uvm:alive() return self.running == true and not self.exit end

--- The last lines of the agent's log on one line, for error messages; nil when there are none.
function Uvm:tail() return process.tail(self.log) end

---@private
function Uvm:end_with(exit)
  if self.exit then return end
  if self.terminating and exit.reason ~= "failed" then exit.reason = "terminated" end
  self.exit = exit
  for _, listener in pairs(self.listeners) do listener:lost() end
  self.ended:fire(exit)
end

---@private
function Uvm:watch()
  self.running = true
  local watch, e = core().sys.watch_process({ pid = self.facts.pid, start_time = self.facts.start_time }, function(how)
    self.watching = nil
    self:end_with { reason = "exited", code = how and how.code, signal = how and how.signal }
  end)
  if watch then
    self.watching = watch
  elseif err.is(e, "gone") then
    self:end_with { reason = "exited" }
  else
    error(err.from(e), 0)
  end
end

-- Listening ------------------------------------------------------------------------------------------------------

---@class moonshim.host.LocalListener
local Listener = {}
Listener.__index = Listener

--- Waits for one connection; it belongs to the caller. Ends with `unavailable` when the VM ends first.
---@async
function Listener:accept()
  if #self.waiting > 0 then return table.remove(self.waiting, 1) end
  return task.await(function(resume)
    self.taker = resume
    if self.uvm.exit then self:lost() end
    return function() self.taker = nil end
  end)
end

---@private
function Listener:fail(why)
  local taker = self.taker
  self.taker = nil
  if taker then taker.fail(err.new("unavailable", why, { origin = "host", op = "listen" })) end
end

---@private
function Listener:lost()
  local tail = self.taker and self.uvm:tail()
  self:fail("the VM exited while it was expected to connect" .. (tail and ": " .. tail or ""))
end

--- Idempotent; connections nobody accepted are closed, and who waits for one waits no more.
function Listener:close()
  if not self.socket then return end
  self:fail "the listener was closed"
  self.socket:close()
  self.socket = nil
  self.uvm.listeners[self.port] = nil
  for _, stream in ipairs(self.waiting) do stream:close() end
  self.waiting = {}
end

local function make_folders(self)
  local sys = core().sys
  for _, dir in ipairs { driver.run_root(), self.facts.run_dir, self:socket_dir(), self.facts.run_dir .. "/scsi",
    local_devices.folder(self.facts.run_dir) } do
    err.try(sys.mkdir_p(dir, 0x1c0))
  end
end

--- A listener for one port of the guest, also before its start; the same one as long as it is open.
---@param port integer
---@return moonshim.host.LocalListener
function Uvm:listen(port)
  if self.listeners[port] then return self.listeners[port] end
  local listener = setmetatable({ port = port, uvm = self, waiting = {} }, Listener)
  listener.socket = as_host("listen", function()
    if not self.running then make_folders(self) end
    return err.try(core().transport.listen_unix(("%s/%d"):format(self:socket_dir(), port), { mode = 0x180 }, function(stream)
      local taker = listener.taker
      listener.taker = nil
      if taker and taker(stream) then return end
      if #listener.waiting >= BACKLOG then return stream:close() end
      listener.waiting[#listener.waiting + 1] = stream
    end))
  end)
  self.listeners[port] = listener
  return listener
end

-- Start ----------------------------------------------------------------------------------------------------------

--- Listens, boots, and returns what names the incarnation.
---@async
---@return { pid: integer, start_time: integer }
function Uvm:start()
  if self.exit then refuse("start", "failed_precondition", "VM %s has ended", self.facts.id) end
  if self.running then return { pid = self.facts.pid, start_time = self.facts.start_time } end
  return as_host("start", function()
    make_folders(self)
    self:listen(layout.BRIDGE_PORT)
    self.shares:serve(("%s/%d"):format(self:socket_dir(), layout.PLAN9_PORT))
    local args = { "boot", "--root-dir", self.facts.run_dir, "--id", self.facts.id, "--cgroup", self.facts.cgroup, "--log", self.log }
    -- Who it is has to be said: when we end between the fork and the exec, boot's parent is another from the start.
    if self.document.ShouldTerminateOnLastHandleClosed then
      args[#args + 1] = ("--die-with-parent=%d"):format(require("luv").os_getpid())
    end
    local ok, line = pcall(task.deadline, BOOT_WITHIN, process.boot, args, function(code, signal)
      self.boot_exit = { code, signal }
      self.boot_gone:fire()
    end)
    if not ok then
      local e = err.from(line)
      self:end_with { reason = "failed", message = e.message }
      self:close()
      local tail = err.is(e, "deadline_exceeded") and self:tail()
      error(tail and err.new(e.code, e.message .. "; the agent's last words: " .. tail) or e, 0)
    end
    self.facts.pid, self.facts.start_time, self.booted = line.pid, line.start_time, true
    self:watch()
    limits.apply(self.facts.cgroup, self.document, process.cpus())
    return { pid = line.pid, start_time = line.start_time }
  end)
end

--- Waits for the end of the VM: { reason = "terminated"|"exited"|"failed", code?, signal? }.
---@async
function Uvm:wait()
  if self.exit then return self.exit end
  return self.ended:wait()
end

--- Closes what this process holds of the VM: sockets and watches. The VM is not touched.
function Uvm:close()
  for _, listener in pairs(self.listeners) do listener:close() end
  self.shares:close()
  if self.watching then
    self.watching:close()
    self.watching = nil
  end
end

--- Ends the VM and removes everything it left, except the journal. Idempotent.
---@async
function Uvm:terminate()
  self.terminating = true
  as_host("terminate", function()
    driver.terminate(self.facts)
    -- Boot clears the control groups, too, a moment after its child; it must not meet those of the next VM of this name.
    if self.booted and not self.boot_exit then pcall(task.deadline, BOOT_ENDS_WITHIN, self.boot_gone.wait, self.boot_gone) end
    self:end_with { reason = "terminated" }
    self:close()
  end)
end

--- Ends the VM that `facts` name, as far as it ever came, and removes what is left of it.
---@async
---@param facts table
function driver.terminate(facts)
  local sys = core().sys
  local here = facts.boot_id == sys.boot_id()
  if here then
    process.kill_tree(facts)
    task.callback(function(cb) return sys.cgroup_remove({ facts.cgroup }, cb) end)
    process.remove_parent_group(facts.cgroup)
  end
  process.empty_folder(facts.run_dir, "^journal")
end

-- Devices --------------------------------------------------------------------------------------------------------

local function node_path(self, controller, lun) return ("%s/scsi/c%dl%d"):format(self.facts.run_dir, controller, lun) end

local function unlink(path)
  local ok, text, name = os.remove(path)
  if not ok and name ~= 2 then err.raise("internal", "%s", text) end
end

--- Names the loop device of one slot of one incarnation; at most 63 bytes.
local function tag_of(self, controller, lun)
  return ("moonshim:%s:c%dl%d"):format(self.facts.cgroup:match "[^/]+$", controller, lun)
end

local function attach_image(self, controller, lun, settings)
  local sys = core().sys
  local image = task.callback(function(cb) return sys.detect_image(settings.Path, cb) end)
  if image.format == "vhdx" or image.format == "qcow2" then
    refuse("modify.add", "invalid_argument", "%s is a %s file; supported are raw images and fixed VHDs", settings.Path, image.format)
  end
  local loop = task.callback(function(cb)
    return sys.loop_attach({
      path = settings.Path,
      read_only = settings.ReadOnly or false,
      size = image.format == "vhd" and image.size or nil,
      tag = tag_of(self, controller, lun),
    }, cb)
  end)
  local path = node_path(self, controller, lun)
  unlink(path) -- of an earlier disk in the slot
  local ok, e = sys.mknod_block(path, loop.major, loop.minor, 0x180)
  if not ok then
    pcall(task.callback, function(cb) return sys.loop_detach(loop, cb) end)
    error(err.from(e), 0)
  end
  return { loop = loop }
end

local function attach_device(self, controller, lun, settings)
  local major, minor = process.device_number(settings.Path)
  local path = node_path(self, controller, lun)
  unlink(path)
  err.try(core().sys.mknod_block(path, major, minor, 0x180))
  return { node = { major = major, minor = minor } }
end

local function attach(self, controller, lun, settings)
  local kind = settings.Type or "VirtualDisk"
  if type(settings.Path) ~= "string" then refuse("modify.add", "invalid_argument", "Settings.Path is missing") end
  if kind == "VirtualDisk" then return attach_image(self, controller, lun, settings) end
  if kind == "PassThru" then return attach_device(self, controller, lun, settings) end
  return refuse("modify.add", "unimplemented", "the host \"local\" has no disks of type %s", tostring(kind))
end

local function detach(self, controller, lun, found)
  unlink(node_path(self, controller, lun))
  if not (found and found.loop) then return end
  local sys, till, pause = core().sys, task.now() + DETACH_WITHIN, 5
  while true do
    local ok, e = pcall(task.callback, function(cb) return sys.loop_detach(found.loop, cb) end)
    if ok or err.is(e, "gone") then return end
    -- Still mounted: the mounts of a dying VM go a moment after its last process.
    if not err.is(e, "failed_precondition") or task.now() >= till then error(e, 0) end
    task.sleep(pause)
    pause = math.min(pause * 2, 200)
  end
end

--- Carries out one HCS ModifySettingRequest. `found` of an Add goes into the journal and is handed to its Remove.
---@async
---@param request { ResourcePath: string, RequestType: "Add"|"Remove", Settings: table? }
---@param found table?
---@return table found
function Uvm:modify(request, found)
  local verb, path = request.RequestType, tostring(request.ResourcePath)
  if verb == "Update" and not self.exit then
    return as_host("modify.update", function()
      if limits.update(self.facts.cgroup, self.document, path, request.Settings, process.cpus()) then return {} end
      return refuse("modify.update", "unimplemented", "the host \"local\" cannot update %s", path)
    end)
  end
  if verb ~= "Add" and verb ~= "Remove" and verb ~= "Update" then
    refuse("modify", "invalid_argument", "RequestType %q: the host \"local\" knows Add, Remove and Update", tostring(verb))
  end
  local op = "modify." .. verb:lower()
  local settings = request.Settings or {}
  local controller, lun = host.scsi_address(path)
  if verb ~= "Remove" and self.exit then refuse(op, "gone", "VM %s has ended", self.facts.id) end
  return as_host(op, function()
    -- Loop devices are made and cleared in one piece, whatever happens to the caller.
    if controller and verb == "Add" then return task.shield(attach, self, controller, lun, settings) end
    if controller then
      task.shield(detach, self, controller, lun, found)
      return {}
    end
    local instance = host.vpci_instance(path)
    if instance and verb == "Add" then return task.shield(local_devices.add, self.facts.run_dir, instance, settings) end
    if instance then
      task.shield(local_devices.remove, self.facts.run_dir, instance)
      return {}
    end
    if host.is_adapter(path) and verb == "Add" then return task.shield(local_net.add, self.facts, settings) end
    if host.is_adapter(path) then return task.shield(local_net.remove, settings) end
    if path == host.PLAN9_PATH and verb == "Add" then return self.shares:add(settings) end
    if path == host.PLAN9_PATH then return self.shares:remove(settings) end
    return refuse(op, "unimplemented", "the host \"local\" has no %s", path)
  end)
end

--- State and memory of the VM, for diagnostics.
---@return { state: "created"|"running"|"ended", pid: integer?, memory_bytes: integer?, working_set_bytes: integer?, cpu_ns: integer? }
function Uvm:query()
  local state = self.exit and "ended" or self.running and "running" or "created"
  local used, working_set = process.memory_used(self.facts.cgroup)
  return { state = state, pid = self.facts.pid, memory_bytes = used, working_set_bytes = working_set,
    cpu_ns = process.cpu_used(self.facts.cgroup) }
end

return driver

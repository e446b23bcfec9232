---A host of the guest protocol, for specs of the agent: it boots a UVM, frames requests, serves shares, and hands what
---comes back to the spec as it is. It shares no code with the product's own host side except the core's system calls.
---Everything waits with a limit that is far above what is needed; reaching it is a failure.
local cjson = require "cjson"
local core = require "moonshim.core"
local uv = require "luv"

local gcs = {}

gcs.NULL = "00000000-0000-0000-0000-000000000000"
gcs.FOREVER = 0xffffffff
gcs.types = {
  create = 0x10100101, start = 0x10100201, shutdown = 0x10100301, shutdown_forced = 0x10100401, execute = 0x10100501,
  wait = 0x10100601, signal = 0x10100701, resize = 0x10100801, properties = 0x10100901, modify = 0x10100a01,
  negotiate = 0x10100b01, dump_stacks = 0x10100c01, delete_state = 0x10100d01, notification = 0x30100101,
}

local LIMIT = 600000
local BRIDGE, PLAN9, STDIO = 0x40000000, 564, 0x40000001
local build = os.getenv "MOONSHIM_BUILD" or "build/release"
gcs.program = build .. "/bin/moonshim-guest"

---@class spec.gcs.Vm
local Vm = {}
Vm.__index = Vm

-- Waiting ----------------------------------------------------------------------------------------------------------

---Turns the loop until `ready()` gives something.
local function until_ready(what, ready)
  local late = false
  local timer, tick = uv.new_timer(), uv.new_timer()
  uv.update_time() -- timers count from when the loop last looked
  timer:start(LIMIT, 0, function() late = true end)
  tick:start(5, 5, function() end) -- so that conditions outside of the loop are looked at
  local value = ready()
  while not value and not late do
    uv.run "once"
    value = ready()
  end
  timer:close()
  tick:close()
  return value or error("waited too long for " .. what, 3)
end
gcs.until_ready = until_ready

-- What all folders of this run of the suite begin with.
gcs.PREFIX = ("/tmp/moonshim-agent-%d."):format(uv.os_getpid())

-- Folders and programs ---------------------------------------------------------------------------------------------

---Runs a command line of the test machine; returns its output, raises when it fails.
function gcs.sh(line)
  local pipe = assert(io.popen("{ " .. line .. "; } 2>&1"))
  local text = pipe:read "a"
  local ok = pipe:close()
  return ok and text or error(("%s: %s"):format(line, text), 2)
end

---A root file system made of busybox; returns its path below `folder`.
function gcs.busybox_root(folder, name)
  local root = folder .. "/" .. name
  gcs.sh(("mkdir -p %s/bin %s/etc %s/tmp && cp /bin/busybox %s/bin/ && chmod 1777 %s/tmp"):format(root, root, root, root, root))
  for applet in gcs.sh "/bin/busybox --list":gmatch "%S+" do
    if applet ~= "busybox" then assert(uv.fs_symlink("busybox", root .. "/bin/" .. applet)) end
  end
  local function put(file, text)
    local f = assert(io.open(root .. file, "w"))
    f:write(text)
    f:close()
  end
  put("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:7:daemon:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
  put("/etc/group", "root:x:0:\ndaemon:x:7:\nextra:x:50:nobody,other\n")
  return root
end

-- Streams ----------------------------------------------------------------------------------------------------------

---@class spec.gcs.Stream
local Stream = {}
Stream.__index = Stream

local function listen(path, on_stream)
  local server = uv.new_pipe(false)
  assert(server:bind(path))
  assert(server:listen(16, function()
    local client = uv.new_pipe(false)
    server:accept(client)
    on_stream(client)
  end))
  return server
end

function Stream:receive(pipe)
  self.pipe = pipe
  pipe:read_start(function(e, data)
    if data then self.text = self.text .. data end
    if e or not data then self.ended = true end
  end)
end

---Everything up to the end of the stream; the socket is closed then, as a host does.
function Stream:read_all()
  until_ready("the end of " .. self.name, function() return self.ended end)
  self:close()
  return self.text
end

function Stream:read_until(pattern)
  until_ready(pattern .. " on " .. self.name, function() return self.text:find(pattern) end)
  return self.text
end

function Stream:write(data) self.pipe:write(data) end

---End of input: a write shutdown, the socket stays.
function Stream:finish() self.pipe:shutdown() end

function Stream:close()
  if self.pipe and not self.pipe:is_closing() then self.pipe:close() end
  if self.server and not self.server:is_closing() then self.server:close() end
end

-- The VM -----------------------------------------------------------------------------------------------------------

local booted = 0

---Boots a UVM and waits until its agent has dialled. `opts.args`: more arguments for boot.
---@return spec.gcs.Vm
function gcs.boot(opts)
  opts = opts or {}
  booted = booted + 1
  local self = setmetatable({
    dir = assert(uv.fs_mkdtemp(gcs.PREFIX .. "XXXXXX")),
    cgroup = ("moonshim-spec/%08x%08x"):format(uv.os_getpid(), booted),
    next_id = 0,
    next_port = STDIO,
    input = "",
    answers = {}, answered = 0,
    notifications = {}, extras = {},
    shares = {},
    streams = {},
  }, Vm)
  gcs.sh(("mkdir -p -m 700 %s/s %s/scsi"):format(self.dir, self.dir))
  self.bridge_server = listen(self:socket(BRIDGE), function(pipe) self:connected(pipe) end)
  self:serve_shares()
  self:start_boot(opts)
  return self
end

function Vm:socket(port) return ("%s/s/%d"):format(self.dir, port) end

function Vm:start_boot(opts)
  local out = uv.new_pipe(false)
  local args = { "boot", "--root-dir", self.dir, "--id", opts.id or "spec-vm", "--cgroup", self.cgroup,
                 "--log", os.getenv "AGENT_LOG" or self.dir .. "/agent.log", "--die-with-parent" }
  local line = ""
  self.process = assert(uv.spawn(gcs.program, { args = args, stdio = { nil, out, 2 } }, function(code)
    self.boot_code = code
    self.process:close()
  end))
  out:read_start(function(_, data)
    line = line .. (data or "")
    if not data then out:close() end
  end)
  until_ready("boot", function() return line:find "\n" end)
  local said = cjson.decode(line)
  self.pid, self.start_time = said.pid, said.start_time
  if said.error then
    until_ready("the end of boot", function() return self.boot_code end)
    self:stop()
    error("boot: " .. said.error, 2)
  end
  until_ready("the agent to dial", function() return self.bridge end)
end

function Vm:connected(pipe)
  self.bridge, self.input, self.lost = pipe, "", false
  pipe:read_start(function(e, data)
    if e or not data then
      self.lost = true
      if not pipe:is_closing() then pipe:close() end
      return
    end
    self.input = self.input .. data
    self:cut()
  end)
end

---Cuts what has come into frames.
function Vm:cut()
  while #self.input >= 16 do
    local kind, size, id = ("<I4I4I8"):unpack(self.input)
    if #self.input < size then return end
    local body = cjson.decode(self.input:sub(17, size))
    self.input = self.input:sub(size + 1)
    if kind == gcs.types.notification then
      self.notifications[#self.notifications + 1] = body
    elseif kind >> 28 == 3 then
      self.extras[#self.extras + 1] = { kind = kind, body = body }
    else
      assert(not self.answers[id], "two answers to one request")
      self.answered = self.answered + 1
      self.answers[id] = { kind = kind, body = body, place = self.answered }
    end
  end
end

---Drops the connection and waits for the agent to dial again.
function Vm:reconnect()
  self.bridge:close()
  self.bridge = nil
  until_ready("the agent to dial again", function() return self.bridge end)
end

function Vm:send(bytes) self.bridge:write(bytes) end

---Sends a frame whose body is `body` (text, or a table for JSON). Returns its id.
function Vm:post(kind, body)
  if type(body) == "table" then body = cjson.encode(body) .. "\n" end
  local id = self.next_id
  self.next_id = id + 1
  self:send(("<I4I4I8"):pack(kind, 16 + #body, id) .. body)
  return id
end

---The answer to a request: its body, its type, and its place among all answers.
function Vm:answer(id)
  local answer = until_ready("an answer", function() return self.answers[id] end)
  self.answers[id] = nil
  return answer.body, answer.kind, answer.place
end

function Vm:request(name, container, fields)
  fields = fields or {}
  fields.ContainerId, fields.ActivityId = container, gcs.NULL
  return self:post(gcs.types[name], fields)
end

---One request and its answer: the result as an unsigned number, and the whole body.
function Vm:call(name, container, fields)
  local body, kind = self:answer(self:request(name, container, fields))
  assert(kind == (gcs.types[name] & 0x0fffffff | 0x20000000))
  return body.Result & 0xffffffff, body
end

---The same, for requests that are expected to work.
function Vm:must(name, container, fields)
  local result, body = self:call(name, container, fields)
  if result ~= 0 then error(("%s: 0x%08x %s"):format(name, result, body.ErrorMessage), 2) end
  return body
end

function Vm:negotiate()
  return self:must("negotiate", "", { MinimumVersion = 4, MaximumVersion = 4 })
end

function Vm:modify(verb, resource, settings)
  return self:call("modify", gcs.NULL, { Request = { RequestType = verb, ResourceType = resource, Settings = settings } })
end

-- Shares and disks -------------------------------------------------------------------------------------------------

function Vm:serve_shares()
  self.share_server = assert(core.transport.listen_unix(self:socket(PLAN9), { mode = 0x180 }, function(stream)
    stream:read(function(data)
      if not data then return end
      local share = self.shares[cjson.decode(data).aname]
      if not share then
        stream:write("Eno such share\n", function() stream:close() end)
        return
      end
      local what = { path = share.path, read_only = share.read_only, recursive = true, file = share.file ~= nil }
      core.sys.open_tree(what, function(fd, e)
        assert(fd, e and e.message)
        stream:send_fd(fd, share.file and "F" .. share.file .. "\n" or "D", function()
          core.sys.close(fd)
          stream:close()
        end)
      end)
    end)
  end))
end

---Maps a folder (or, with `file`, a single file) of this machine. Returns the result and the guest path.
function Vm:share(name, path, opts)
  opts = opts or {}
  self.shares[name] = { path = opts.file and path .. "/" .. opts.file or path, file = opts.file, read_only = opts.read_only }
  local at = opts.at or "/run/mounts/plan9/" .. name
  local result, body = self:modify("Add", "MappedDirectory", {
    MountPath = at, Port = PLAN9, ShareName = name, ReadOnly = opts.read_only,
  })
  return result, at, body
end

function Vm:unshare(name, at)
  return self:modify("Remove", "MappedDirectory", { MountPath = at or "/run/mounts/plan9/" .. name, Port = PLAN9, ShareName = name })
end

---Attaches an image as disk 0:lun.
function Vm:attach(lun, image, read_only)
  local loop
  core.sys.loop_attach({ path = image, read_only = read_only or false, tag = "moonshim-spec" }, function(v, e)
    loop = v or error(e.message)
  end)
  until_ready("a loop device", function() return loop end)
  assert(core.sys.mknod_block(("%s/scsi/c0l%d"):format(self.dir, lun), loop.major, loop.minor, 0x180))
  self.loops = self.loops or {}
  self.loops[lun] = loop
end

function Vm:detach(lun)
  local done, loop = false, self.loops[lun]
  os.remove(("%s/scsi/c0l%d"):format(self.dir, lun))
  -- Mounts of a VM that is going pin the device for a moment.
  local function try()
    core.sys.loop_detach(loop, function(_, e)
      if e and e.code == "failed_precondition" then return try() end
      done = true
    end)
  end
  try()
  until_ready("the loop device to go", function() return done end)
  self.loops[lun] = nil
end

-- Containers -------------------------------------------------------------------------------------------------------

---A spec with what every container needs. `over` replaces members; `over.process` is merged.
function gcs.spec(root, args, over)
  over = over or {}
  local process = { args = args, cwd = "/", env = { "PATH=/bin" }, user = { uid = 0, gid = 0 } }
  for k, v in pairs(over.process or {}) do process[k] = v end
  local spec = {
    ociVersion = "1.0.2",
    process = process,
    root = { path = root },
    mounts = {
      { destination = "/proc", type = "proc", source = "proc" },
      { destination = "/dev", type = "tmpfs", source = "tmpfs", options = { "nosuid", "mode=755" } },
    },
    linux = { namespaces = { { type = "pid" }, { type = "mount" }, { type = "ipc" }, { type = "uts" } } },
  }
  for k, v in pairs(over) do
    if k == "extra_mounts" then
      for _, m in ipairs(v) do table.insert(spec.mounts, m) end
    elseif k ~= "process" then
      spec[k] = v
    end
  end
  return spec
end

function gcs.bundle(id) return "/run/gcs/pods/pod/" .. id end

---Sends Create. `opts`: bundle, scratch.
function Vm:create(id, spec, opts)
  opts = opts or {}
  return self:call("create", id, {
    ContainerConfig = type(spec) == "string" and spec or cjson.encode {
      SchemaVersion = { Major = 2, Minor = 1 },
      OciBundlePath = opts.bundle or gcs.bundle(id),
      OciSpecification = spec,
      ScratchDirPath = opts.scratch or "",
    },
  })
end

local NAMES = { stdin = "StdIn", stdout = "StdOut", stderr = "StdErr" }
local FLAGS = { stdin = "CreateStdInPipe", stdout = "CreateStdOutPipe", stderr = "CreateStdErrPipe" }

---Listens for a stream, the first time or again.
function Vm:listen(stream)
  stream.server = listen(self:socket(stream.port), function(pipe) stream:receive(pipe) end)
end

---Sends ExecuteProcess with the wanted streams ({ "stdout", ... }). Returns the result, the body and the streams by name.
---Nobody listens for the stream `deaf`.
function Vm:execute(container, params, wanted, deaf)
  local ports, streams = {}, {}
  for _, name in ipairs(wanted or { "stdout", "stderr" }) do
    local port = self.next_port
    self.next_port = port + 1
    local stream = setmetatable({ name = name, text = "" }, Stream)
    stream.port = port
    if name ~= deaf then self:listen(stream) end
    ports[NAMES[name]], params[FLAGS[name]], streams[name] = port, true, stream
    table.insert(self.streams, stream)
  end
  local result, body = self:call("execute", container, {
    Settings = { ProcessParameters = cjson.encode(params), VsockStdioRelaySettings = next(ports) and ports or nil },
  })
  if result == 0 then
    for _, stream in pairs(streams) do
      until_ready(stream.name .. " to be dialled", function() return stream.pipe end)
      stream.server:close()
    end
  end
  return result, body, streams
end

---Starts the init of a created container. Returns its pid and streams.
function Vm:start(id, wanted)
  self:must("start", id)
  local result, body, streams = self:execute(id, {}, wanted)
  if result ~= 0 then error(("start: 0x%08x %s"):format(result, body.ErrorMessage), 2) end
  return body.ProcessId, streams
end

---An exec. Returns pid and streams, or nil and the result.
function Vm:exec(id, args, wanted, process)
  local p = { args = args, cwd = "/", env = { "PATH=/bin" }, user = { uid = 0, gid = 0 } }
  for k, v in pairs(process or {}) do p[k] = v end
  local result, body, streams = self:execute(id, { OciProcess = p }, wanted)
  if result ~= 0 then return nil, result, body end
  return body.ProcessId, streams
end

function Vm:wait(id, pid) return self:must("wait", id, { ProcessId = pid, TimeoutInMs = gcs.FOREVER }).ExitCode end

---From create to delete: exit code, stdout, stderr; or nil, result, body when it could not be created or started.
function Vm:run(id, spec, opts)
  local result, body = self:create(id, spec, opts)
  if result ~= 0 then return nil, result, body end
  local streams
  result, body, streams = self:execute(id, {})
  if result ~= 0 then
    self:must("delete_state", id)
    return nil, result, body
  end
  local code = self:wait(id, body.ProcessId)
  local out, err = streams.stdout:read_all(), streams.stderr:read_all()
  self:must("delete_state", id)
  return code, out, err
end

---Runs a command line in the UVM itself. Returns its output.
function Vm:inside(line)
  local params = { CommandArgs = { "/bin/sh", "-c", line }, Environment = { PATH = "/usr/sbin:/usr/bin" } }
  local _, body, streams = self:execute(gcs.NULL, params)
  self:wait(gcs.NULL, body.ProcessId)
  return streams.stdout:read_all() .. streams.stderr:read_all()
end

-- The end ----------------------------------------------------------------------------------------------------------

---Ends the UVM as a host does, and removes everything of it.
function Vm:stop()
  if self.pid and not self.boot_code then core.sys.kill_process { pid = self.pid, start_time = self.start_time, signal = 9 } end
  until_ready("the end of the UVM", function() return self.boot_code end)
  for _, stream in ipairs(self.streams) do stream:close() end
  for _, handle in ipairs { self.bridge, self.bridge_server } do
    if not handle:is_closing() then handle:close() end
  end
  self.share_server:close()
  for lun in pairs(self.loops or {}) do self:detach(lun) end
  gcs.sh("rm -rf " .. self.dir)
  for _ = 1, 10 do uv.run "nowait" end
end

gcs.NOTHING = { mounts = 0, loops = 0, cgroups = 0, processes = 0 }

---What belongs to the UVMs of this run of the suite; others may run on the same machine.
function gcs.holdings()
  local mine = ("moonshim-spec/%08x"):format(uv.os_getpid())
  local lines = {
    mounts = ("grep %s /proc/self/mounts"):format(gcs.PREFIX),
    loops = ("losetup -a | grep %s"):format(gcs.PREFIX),
    cgroups = ("find /sys/fs/cgroup -type d -path '*%s*' 2>/dev/null"):format(mine), -- others' groups may go meanwhile
    processes = ("pgrep -f '^[^ ]*moonshim-guest boot.*%s'"):format(mine),
  }
  local found = {}
  for name, line in pairs(lines) do found[name] = tonumber(gcs.sh(line .. " | wc -l")) end
  return found
end

---Pids of the UVM, seen from outside.
function Vm:pids()
  local found = {}
  -- On v2 the groups below the VM's hold its processes, and its own none.
  local line = ("find /sys/fs/cgroup -path '*/%s/*' -name cgroup.procs -exec cat {} + 2>/dev/null | sort -nu"):format(self.cgroup)
  for pid in gcs.sh(line):gmatch "%d+" do found[#found + 1] = tonumber(pid) end
  return found
end

return gcs

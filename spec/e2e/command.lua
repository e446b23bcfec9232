---Runs build/release/bin/moonshim as a user would, and knows the roots and images that the specs run from.
---Nothing here waits for ever: whatever is started has a limit, far above what it needs, and is killed at it.
local uv = require "luv"

local command = {}

local here = uv.cwd()
local LIMIT = 600000

local build = os.getenv("MOONSHIM_BUILD") or "build/release"
command.program = (build:sub(1, 1) == "/" and build or here .. "/" .. build) .. "/bin/moonshim"

-- A folder of this run of the suite: run folders, roots and images. `command.cleanup` removes it.
command.folder = assert(uv.fs_mkdtemp("/tmp/moonshim-spec.XXXXXX"))
command.run_dir = command.folder .. "/run"

---Runs a program to its end. Any failure to run it raises.
---@param program string
---@param args string[]
---@param opts { stdin: string?, env: table<string, string>?, cwd: string?, within: integer? }?
---@return { code: integer, signal: integer, out: string, err: string }
function command.execute(program, args, opts)
  local process = command.spawn(program, args, opts)
  return process:wait()
end

---@class spec.Process
---@field pid integer
---@field out string so far
---@field err string so far
local Process = {}
Process.__index = Process

local function environment(extra)
  local env = uv.os_environ()
  env.MOONSHIM_RUN = command.run_dir
  for name, value in pairs(extra or {}) do env[name] = value end
  local list = {}
  for name, value in pairs(env) do list[#list + 1] = name .. "=" .. value end
  return list
end

local function collect(self, pipe, name)
  self.open = self.open + 1
  pipe:read_start(function(_, data)
    if data then
      self[name] = self[name] .. data
    else
      pipe:close()
      self.open = self.open - 1
    end
  end)
end

---Starts a program; `wait` it. What it writes is collected in `out` and `err`.
---@return spec.Process
function command.spawn(program, args, opts)
  opts = opts or {}
  local stdin = opts.stdin and uv.new_pipe(false) or nil
  local out, errors = uv.new_pipe(false), uv.new_pipe(false)
  local self = setmetatable({ out = "", err = "", open = 1, opts = opts, timed_out = false }, Process)
  local pid
  self.handle, pid = uv.spawn(program, {
    args = args, stdio = { stdin, out, errors }, env = environment(opts.env), cwd = opts.cwd, detached = opts.detached,
  }, function(code, signal)
    self.code, self.signal = code, signal
    self.open = self.open - 1
    self.handle:close()
  end)
  if not self.handle then
    out:close()
    errors:close()
    if stdin then stdin:close() end
    error(("cannot run %s: %s"):format(program, pid))
  end
  self.pid = pid
  collect(self, out, "out")
  collect(self, errors, "err")
  if stdin then
    stdin:write(opts.stdin, function() stdin:close() end)
  end
  return self
end

---Turns the loop until `met()` is true. Fails with what the program wrote when that takes too long, or, unless `wait`
---asks, when the program ends before.
---@param what string for the message
function Process:until_(what, met)
  local timer = uv.new_timer()
  local tick = uv.new_timer()
  uv.update_time() -- timers count from when the loop last looked, which may be long ago
  timer:start(self.opts.within or LIMIT, 0, function()
    self.timed_out = true
    if not self.code then self.handle:kill("sigkill") end
  end)
  tick:start(2, 2, function() end) -- so that conditions outside of the loop are looked at
  -- What was seen once counts: a condition outside of the program (a file that is there) may be over a moment later.
  local ok = met()
  while not ok and not self.timed_out and self.open > 0 do
    uv.run("once")
    ok = met()
  end
  timer:close()
  tick:close()
  if not ok then
    if self.open > 0 and not self.code then self.handle:kill("sigkill") end
    while self.open > 0 do uv.run("once") end
    uv.run("nowait")
    error(("no %s: %s; stdout: %s; stderr: %s"):format(what, self.timed_out and "it took too long" or "it ended before",
      self.out:sub(1, 2000), self.err:sub(1, 2000)), 2)
  end
  uv.run("nowait")
end

---@return { code: integer, signal: integer, out: string, err: string }
function Process:wait()
  self:until_("end of " .. "the program", function() return self.open == 0 end)
  return { code = self.code, signal = self.signal, out = self.out, err = self.err }
end

---Waits until the program has written a text to standard output (or to `where`).
function Process:wait_for(text, where)
  where = where or "out"
  self:until_(("%q on %s"):format(text, where), function() return self[where]:find(text, 1, true) ~= nil end)
end

function Process:kill(signal)
  if not self.code then uv.kill(self.pid, signal) end
end

---Sends a signal again and again until the program ends. (Signals do not queue: of three at once, one may arrive.)
function Process:insist(signal)
  self:until_("end of the program", function()
    self:kill(signal)
    return self.open == 0
  end)
end

---Sends a signal and waits until the program has got it, so that the next one is not the same one.
---@param number integer
function Process:deliver(number)
  self:kill(number)
  self:until_("signal that was taken", function()
    local status = command.read(("/proc/%d/status"):format(self.pid)) or ""
    for set in status:gmatch "Pnd:%s*(%x+)" do
      if tonumber(set, 16) >> (number - 1) & 1 == 1 then return false end
    end
    return true
  end)
end

---The pid of the agent of the only VM that runs in `command.run_dir`.
function command.agent()
  local found = command.execute("/bin/sh", { "-c", [[
    for p in /proc/[0-9]*; do
      tr '\0' ' ' <$p/cmdline 2>/dev/null | grep -q "^[^ ]*moonshim-guest boot --root-dir $DIR/" || continue
      cat $p/task/*/children
    done]] }, { env = { DIR = command.run_dir } })
  return assert(math.tointeger(tonumber(found.out)), found.out .. found.err)
end

---`moonshim ARGS...`
function command.moonshim(args, opts) return command.execute(command.program, args, opts) end

---`moonshim run [options] --rootfs ROOT -- CMD...`
---@param cmd string[]
---@param options string[]?
function command.run(cmd, options, opts)
  return command.moonshim(command.run_args(cmd, options), opts)
end

function command.run_args(cmd, options)
  local args = { "run" }
  local rooted = false
  for _, word in ipairs(options or {}) do
    rooted = rooted or word == "--rootfs" or word == "--layer"
    args[#args + 1] = word
  end
  if not rooted then table.move({ "--rootfs", command.root() }, 1, 2, #args + 1, args) end
  args[#args + 1] = "--"
  table.move(cmd, 1, #cmd, #args + 1, args)
  return args
end

local made
local function images()
  if not made then
    local result = command.execute("/bin/sh", { here .. "/scripts/make_images", command.folder })
    assert(result.code == 0, result.err)
    made = true
  end
end

---A busybox root as a folder; specs do not write to it.
function command.root()
  images()
  return command.folder .. "/roots/busybox"
end

---@param name "base"|"app"
function command.image(name)
  images()
  return command.folder .. "/images/" .. name .. ".ext4"
end

---A new ext4 image, empty.
function command.empty_image(name, size)
  local path = command.folder .. "/" .. name
  local result = command.execute("/sbin/mkfs.ext4", { "-q", "-F", path, size or "16M" })
  assert(result.code == 0, result.err)
  return path
end

---Writes a file below the suite's folder.
---@return string path
function command.write(name, text)
  local path = command.folder .. "/" .. name
  command.execute("/bin/mkdir", { "-p", path:match("^(.*)/") })
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  return path
end

function command.read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read("a")
  file:close()
  return text
end

---@return string[] the names in a folder; none when it is not there
function command.list(folder)
  local names, scan = {}, uv.fs_scandir(folder)
  while scan do
    local name = uv.fs_scandir_next(scan)
    if not name then break end
    names[#names + 1] = name
  end
  return names
end

---The journal of the only run in `command.run_dir`; nil while there is none.
---@return string?
function command.journal()
  for _, name in ipairs(command.list(command.run_dir)) do
    local text = command.read(command.run_dir .. "/" .. name .. "/journal")
    if text then return text end
  end
end

---@return integer n records in it
function command.records() return select(2, (command.journal() or ""):gsub("\n", "")) end

---Kills a run as soon as its journal has grown to a number of records, or when it has ended before.
---SIGKILL cannot be seen coming, so the program is watched from outside.
---@param process spec.Process
---@param count integer
function command.kill_at(process, count)
  process:until_("record " .. count, function() return process.open == 0 or command.records() >= count end)
  process:kill("sigkill")
  process:wait()
end

---`moonshim gc` after a SIGKILL that came at any moment. It says nothing, unless that moment was in the middle of a write: the
---kernel lets go of one at the border of a page.
---@param how (fun(): table)? runs it, else as `command.moonshim`
---@return { code: integer, signal: integer, out: string, err: string }
function command.gc(how)
  local result = how and how() or command.moonshim { "gc" }
  local said = result.err:gsub("^[^\n]*a torn record[^\n]*\n", "", 1)
  if result.code ~= 0 or said ~= "" then error(("gc: status %d: %s"):format(result.code, result.err), 2) end
  return result
end

---Remembers what of moonshim is on this machine; call the result to fail with a list of what has come since.
---MOONSHIM_SPEC_LEAKS=off leaves that out, for a machine on which others start and end VMs meanwhile.
---@return fun()
function command.leaks()
  if os.getenv("MOONSHIM_SPEC_LEAKS") == "off" then return function() end end
  local snapshot = command.folder .. "/leaks.json"
  local tool = here .. "/scripts/leakcheck"
  assert(command.execute(tool, { "snapshot", snapshot }).code == 0)
  return function()
    local found = command.execute(tool, { "compare", snapshot, "--within", "60" })
    if found.code == 0 then return end
    command.execute(tool, { "snapshot", snapshot }) -- each is told once, and waited for once
    error("left behind:\n" .. found.out .. found.err, 2)
  end
end

---Removes the suite's folder. Only what is not a mount point: if a mount were left, it is not deleted into.
function command.cleanup()
  command.execute("/bin/rm", { "-rf", "--one-file-system", command.folder })
end

return command

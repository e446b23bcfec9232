--- Processes, control groups and folders of a local VM, as far as Lua has to look at them.
--
-- Layer    host: luv and moonshim.core.
-- Always   a process is only signalled by pid and start time, read before it was looked at.
local err = require "moonshim.err"
local folder = require "moonshim.folder"
local task = require "moonshim.task"

local process = {}

local CGROUPS = "/sys/fs/cgroup"
local MAX_LINE = 4096
local TAIL_BYTES, TAIL_LINES = 4096, 4
-- Rounds of looking for stragglers: each kills what it finds, so only a fork in the same moment needs another.
local ROUNDS = 50

local function core() return require "moonshim.core" end
local function uv() return require "luv" end

local function read_file(path, limit)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read(limit or 65536)
  file:close()
  return text
end

-- The agent's program --------------------------------------------------------------------------------------------

local function executable(path) return path and uv().fs_access(path, "X") and path or nil end

local function folder_of_sources()
  local source = debug.getinfo(1, "S").source
  return source:match "^@(.*)/lua/moonshim/host/[^/]+$"
end

--- Path of `moonshim-guest`. Raises `not_found` with where it was looked for.
---@return string
function process.agent()
  local named = os.getenv "MOONSHIM_GUEST"
  if named then
    return executable(named) or err.raise("not_found", "MOONSHIM_GUEST=%s is not an executable file", named)
  end
  local places = {}
  local exe = uv().exepath()
  if exe then places[#places + 1] = exe:match "^(.*)/" end
  for _, top in ipairs { folder_of_sources() or false, "." } do
    if top then
      places[#places + 1] = top .. "/build/release/bin"
      places[#places + 1] = top .. "/build/release"
    end
  end
  for dir in (os.getenv "PATH" or ""):gmatch "[^:]+" do places[#places + 1] = dir end
  for _, dir in ipairs(places) do
    local path = executable(dir .. "/moonshim-guest")
    if path then return uv().fs_realpath(path) or path end
  end
  return err.raise("not_found", "moonshim-guest is not there: build it, or set MOONSHIM_GUEST to its path")
end

-- Boot -----------------------------------------------------------------------------------------------------------

local function first_line(text)
  local line = text:match "^([^\n]*)\n"
  if line then return line end
  if #text > MAX_LINE then return text:sub(1, 80) end
  return nil
end

local function parse(line)
  local said = core().json.decode(line)
  if type(said) == "table" and type(said.error) == "string" then err.raise("failed_precondition", "boot failed: %s", said.error) end
  local pid = type(said) == "table" and math.tointeger(said.pid)
  local start_time = pid and math.tointeger(said.start_time)
  if not start_time or pid < 2 then err.raise("protocol", "boot said %q instead of a pid", line:sub(1, 80)) end
  return { pid = pid, start_time = start_time }
end

-- The limit of descriptors that we had before we took more is what containers start with.
local function boot_environment()
  local env = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" }
  local soft = os.getenv "MOONSHIM_NOFILE"
  if soft and soft:find "^%d+$" then env[2] = "MOONSHIM_NOFILE=" .. soft end
  return env
end

--- Starts the agent's boot program and waits for its line. `on_exit(code, signal)` comes when it ends, at any time.
--- The caller's deadline ends the wait; then boot is killed (pid 1 is not: see kill_tree).
---@async
---@param args string[]
---@param on_exit fun(code: integer, signal: integer)
---@return { pid: integer, start_time: integer }
function process.boot(args, on_exit)
  local program = process.agent()
  local out = assert(uv().new_pipe(false))
  local handle, pid
  local line = task.await(function(resume)
    local said = ""
    local function settle(fn, ...)
      if not out:is_closing() then out:close() end
      return fn(...)
    end
    handle, pid = uv().spawn(program, {
      args = args,
      stdio = { nil, out, nil },
      env = boot_environment(),
      cwd = "/",
      detached = true, -- the terminal's Ctrl-C is not for the VM
    }, function(code, signal)
      handle:close()
      on_exit(code, signal)
    end)
    if not handle then
      return settle(resume.fail, err.new("unavailable", ("cannot run %s: %s"):format(program, tostring(pid))))
    end
    handle:unref()
    out:read_start(function(e, bytes)
      if bytes then said = said .. bytes end
      local whole = first_line(said)
      if whole then return settle(resume, whole) end
      if e or not bytes then
        settle(resume.fail, err.new("unavailable", "boot ended without a word"))
      end
    end)
    return function()
      settle(function() end)
      if not handle:is_closing() then handle:kill "sigkill" end
    end
  end)
  return parse(line)
end

-- Ending ---------------------------------------------------------------------------------------------------------

local function in_group(path, found)
  for pid in (read_file(path .. "/cgroup.procs") or ""):gmatch "%d+" do found[math.tointeger(tonumber(pid))] = true end
  for _, entry in ipairs(folder.entries(path)) do
    if entry.kind == "directory" then in_group(path .. "/" .. entry.name, found) end
  end
end

--- Lets frozen processes run: a frozen one does not even end when it is killed (v1).
local function thaw(path)
  for _, order in ipairs { { "freezer.state", "THAWED" }, { "cgroup.freeze", "0" } } do process.write(path .. "/" .. order[1], order[2]) end
  for _, entry in ipairs(folder.entries(path)) do
    if entry.kind == "directory" then thaw(path .. "/" .. entry.name) end
  end
end

--- The group `name` in every hierarchy.
---@param root string? of all hierarchies; the machine's when absent
local function groups(name, root)
  root = root or CGROUPS
  local out = { root .. "/" .. name }
  for _, entry in ipairs(folder.entries(root)) do
    if entry.kind == "directory" then out[#out + 1] = ("%s/%s/%s"):format(root, entry.name, name) end
  end
  return out
end

process.groups = groups

--- Boot processes of the run dir, also those that have not joined a group yet: their command line names it.
---@param run_dir string
---@param found table<integer, true> gets their pids
---@param proc string? /proc; for specs
---@return boolean all false: a process is just becoming our program and has no command line yet; look again
function process.boots(run_dir, found, proc)
  proc = proc or "/proc"
  local mark, all = ("\0boot\0--root-dir\0%s\0"):format(run_dir), true
  for _, entry in ipairs(folder.entries(proc)) do
    if entry.name:find "^%d+$" then
      local text = read_file(proc .. "/" .. entry.name .. "/cmdline", 4096)
      if text and text:find(mark, 1, true) then found[math.tointeger(tonumber(entry.name))] = true end
      local exe = not text and uv().fs_readlink(proc .. "/" .. entry.name .. "/exe") -- of a zombie there is none
      if exe and exe:find "/moonshim%-guest$" then all = false end
    end
  end
  return all
end

-- How often a group is thawed while its processes end: an agent may have been about to freeze it.
local THAW_EVERY = 200

local function ends(pid, start_time, cgroup)
  if not start_time or core().sys.start_time(pid) ~= start_time then return end
  local ok, e = core().sys.kill_process { pid = pid, start_time = start_time, signal = 9 }
  if not ok then
    if err.is(e, "gone") then return end
    error(err.from(e), 0)
  end
  local function gone()
    task.await(function(resume)
      local watch, why = core().sys.watch_process({ pid = pid, start_time = start_time }, function() resume() end)
      if not watch then
        if err.is(why, "gone") then return resume() end
        resume.fail(err.from(why))
        return nil
      end
      return function() watch:close() end
    end)
  end
  while true do
    for _, path in ipairs(groups(cgroup)) do thaw(path) end
    local ended, why = pcall(task.deadline, THAW_EVERY, gone)
    if ended then return end
    if not err.is(why, "deadline_exceeded") or task.remaining() == 0 then error(why, 0) end
  end
end

--- Kills everything of a VM: pid 1 (and so all of its pid namespace), and whatever a start that was cut short left.
---@async
---@param facts { pid: integer?, start_time: integer?, cgroup: string, run_dir: string }
function process.kill_tree(facts)
  if facts.pid then ends(facts.pid, facts.start_time, facts.cgroup) end
  for round = 1, ROUNDS do
    local found = {}
    for _, path in ipairs(groups(facts.cgroup)) do in_group(path, found) end
    local all = facts.pid ~= nil or process.boots(facts.run_dir, found)
    if not next(found) and all then return end
    if not next(found) then task.sleep(round) end
    for pid in pairs(found) do ends(pid, core().sys.start_time(pid) or nil, facts.cgroup) end
  end
  err.raise("failed_precondition", "processes of the VM in cgroup %s do not end", facts.cgroup)
end

--- Takes the folder that all VMs share out of the hierarchies when this was the last one. A group that is in use
--- refuses by itself.
function process.remove_parent_group(name)
  local parent = name:match "^(.+)/[^/]+$"
  for _, path in ipairs(parent and groups(parent) or {}) do uv().fs_rmdir(path) end
end

--- Empties a folder except for names that match `keep`, and removes it when nothing is left. Never crosses a mount.
---@async
function process.empty_folder(dir, keep)
  for _, entry in ipairs(folder.entries(dir)) do
    if not entry.name:find(keep) then
      task.callback(function(cb) return core().sys.remove_tree(dir .. "/" .. entry.name, cb) end)
    end
  end
  uv().fs_rmdir(dir)
end

-- Small things ---------------------------------------------------------------------------------------------------

--- The last lines of a text file, joined; nil when there are none.
function process.tail(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local size = file:seek "end"
  file:seek("set", math.max(0, size - TAIL_BYTES))
  local lines = {}
  for line in (file:read "a" or ""):gmatch "[^\n]+" do lines[#lines + 1] = line:gsub("%c", " ") end
  file:close()
  if #lines == 0 then return nil end
  return table.concat(lines, " | ", math.max(1, #lines - TAIL_LINES + 1))
end

--- Device numbers of a block device file.
function process.device_number(path)
  local stat = err.try(uv().fs_stat(path))
  if stat.type ~= "block" then err.raise("invalid_argument", "%s is no block device", path) end
  local rdev = stat.rdev
  return (rdev >> 8 & 0xfff) | (rdev >> 32 & 0xfffff000), (rdev & 0xff) | (rdev >> 12 & 0xffffff00)
end

--- Writes a file that exists. The third result tells an absent one from one that refuses.
---@return boolean ok
---@return string? why
---@return boolean? there
function process.write(path, text)
  if not uv().fs_access(path, "W") then return false, "not there", false end
  local file, why = io.open(path, "wb")
  if not file then return false, why, true end
  file:setvbuf "no"
  local ok, reason = file:write(text)
  file:close()
  return ok ~= nil, reason, true
end

function process.cpus() return math.max(1, #(uv().cpu_info() or {})) end

local function number(text, pattern) return text and math.tointeger(tonumber(text:match(pattern))) end

--- Nanoseconds of processor time that a group has used; nil when nobody counts.
---@param root string? see groups
function process.cpu_used(cgroup, root)
  for _, path in ipairs(groups(cgroup, root)) do
    local ns = number(read_file(path .. "/cpuacct.usage"), "^%d+")
    if ns then return ns end
    local us = number(read_file(path .. "/cpu.stat"), "usage_usec (%d+)")
    if us then return us * 1000 end
  end
  return nil
end

--- Bytes of memory that a group uses, and how many of these are left without files that nobody has touched for long,
--- which the kernel could take back at once. nil when nobody counts.
---@param root string? see groups
---@return integer? used
---@return integer? working_set
function process.memory_used(cgroup, root)
  for _, path in ipairs(groups(cgroup, root)) do
    local used = number(read_file(path .. "/memory.current") or read_file(path .. "/memory.usage_in_bytes"), "^%d+")
    if used then
      local stat = read_file(path .. "/memory.stat") or ""
      local idle = number(stat, "total_inactive_file (%d+)") or number(stat, "inactive_file (%d+)")
      return used, idle and math.max(0, used - idle)
    end
  end
  return nil
end

return process

-- Whole lives of `moonshim run`, for the scenarios that cut them short: start, end, and what is left of one.
-- scripts/soak gives these scenarios a pid, a mount and a network namespace of their own, so that other VMs of this machine
-- are not in the way; where the kernel has no such thing (control groups, loop devices) names tell ours apart.
local uv = require "luv"
local err = require "moonshim.err"
local host = require "moonshim.host.local"
local task = require "moonshim.task"
local ground = require "soaks.ground"
local look = require "soaks.look"

local lives = {}

-- Whatever is started ends within this; milliseconds. Far above what it needs: who takes longer hangs.
local LIMIT = 120000
-- The last lines of a process come with its end, or a moment later from those who have its pipes.
local LAST_LINES = 10000

-- Of what a single kill left.
local MOST_LINES = 12

local PROGRAM = (os.getenv "MOONSHIM_GUEST" or "build/release/bin/moonshim-guest"):gsub("%-guest$", "")
local WORD, CODE = "word of the host", 7

-- Processes --------------------------------------------------------------------------------------------------------

---@class soak.Life
---@field pid integer
---@field out string so far
---@field err string so far
---@field code integer? once it has ended
---@field signal integer?
---@field ms number? how long it was
local Life = {}
Life.__index = Life

---Starts a program; it must be waited for.
---@param argv string[]
---@return soak.Life
function lives.start(argv)
  local self = setmetatable({ out = "", err = "", ended = task.signal(), closed = task.signal() }, Life)
  local env = uv.os_environ()
  env.MOONSHIM_RUN = ground.run_dir
  local list, open, from = {}, 2, uv.hrtime()
  for name, value in pairs(env) do list[#list + 1] = name .. "=" .. value end
  local pipes = { out = uv.new_pipe(false), err = uv.new_pipe(false) }
  self.handle, self.pid = uv.spawn(argv[1], {
    args = table.move(argv, 2, #argv, 1, {}), stdio = { nil, pipes.out, pipes.err }, env = list,
  }, function(code, signal)
    self.handle:close()
    self.code, self.signal, self.ms = code, signal, look.ms_since(from)
    self.ended:fire()
  end)
  if not self.handle then error(("cannot run %s: %s"):format(argv[1], self.pid), 0) end
  for name, pipe in pairs(pipes) do
    pipe:read_start(function(_, data)
      if data then
        self[name] = self[name] .. data
        return
      end
      pipe:close()
      open = open - 1
      if open == 0 then self.closed:fire() end
    end)
  end
  return self
end

function Life:kill() if not self.code then uv.kill(self.pid, "sigkill") end end

---Waits for the end. False: it did not come, and the program was killed.
---@async
---@return boolean
function Life:wait()
  local fine, e = pcall(task.deadline, LIMIT, self.ended.wait, self.ended)
  if not fine then
    if not err.is(e, "deadline_exceeded") then error(e, 0) end
    self:kill()
    self.ended:wait()
    return false
  end
  pcall(task.deadline, LAST_LINES, self.closed.wait, self.closed)
  return true
end

-- Timers know milliseconds; the rest of the way is turned out.
function lives.sleep_until(at)
  local ms = (at - uv.hrtime()) // 1000000
  if ms > 1 then task.sleep(ms - 1) end
  while uv.hrtime() < at do end
end

-- Lives ------------------------------------------------------------------------------------------------------------

local NAME = "soak-kills"
local SCRIPT = "test -c /dev/given && ip -4 addr | grep -q eth0 && cat /data/word; "

-- One of everything. `last` is what the container does when it has said its word, instead of ending.
local KINDS = {}

---From the command line: layers, a scratch disk, a network, a device, a folder, a limit.
function KINDS.options(last)
  return {
    PROGRAM, "run", "--name", NAME, "--layer", ground.image, "--layer", (ground.image:gsub("base", "app")), "--scratch", "64M",
    "--network", "bridge", "--device", "/dev/full:/dev/given", "--mount", "type=bind,source=" .. ground.folder .. "/data,destination=/data",
    "--memory", "64M", "--", "/bin/sh", "-c", SCRIPT .. last,
  }
end

local function written(name, text)
  local path = ground.folder .. "/" .. name
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
  return path
end

-- The first container says what is expected of all kinds; the second has a logger and a disk.
local function pod(last)
  return ([[
require("moonshim").pod {
  name = %q, network = "bridge",
  containers = {
    first = {
      layers = { %q }, scratch = { size = "16M" }, devices = { "/dev/full:/dev/given" }, resources = { memory = "64M" },
      mounts = { { source = %q, destination = "/data" } }, args = { "/bin/sh", "-c", %q }, stderr = "file:///dev/null",
    },
    second = {
      rootfs = %q, args = { "/bin/sh", "-c", "echo to the logger; exit %d" },
      mounts = { { type = "virtual-disk", source = %q, destination = "/disk" } },
      stdout = "binary:///bin/sh?-c=exec+5>%%26-;cat+<%%263+>/dev/null",
    },
  },
}]]):format(NAME, ground.image, ground.folder .. "/data", SCRIPT .. last, ground.root, CODE, ground.folder .. "/data.ext4")
end

---From a pod file: two containers, a logging program, a disk that the user made.
function KINDS.file(last) return { PROGRAM, "run", written("pod.lua", "return " .. pod(last)) } end

---From Lua: the VM does not end with the process that started it.
function KINDS.library(last)
  return { "/usr/bin/env", "lua5.4", written("embed.lua", ([[
local moonshim = require "moonshim"
local spec = %s
moonshim.run(function()
  local pod = assert(moonshim.start(spec, { run_dir = %q, io = { first = { stdout = { fd = 1 } } } }))
  local codes = assert(pod:wait())
  assert(pod:stop())
  os.exit(codes.first, false)
end)
]]):format(pod(last), ground.run_dir)) }
end

lives.KINDS = { "options", "file", "library" }

---The words of a run that says what the folder holds, when it sees the device and the network, and ends.
---@param kind "options"|"file"|"library"
---@param last string? what it does then, instead of ending
---@return string[]
function lives.run(kind, last) return KINDS[kind](last or "exit " .. CODE) end

function lives.gc() return { PROGRAM, "gc" } end

---@param how "gc"|"options"|"file"|"library"
function lives.words(how) return how == "gc" and lives.gc() or lives.run(how) end

-- A pod with several containers has their names before what they say.
local function said(life) return (life.out:gsub("^first  %| ", ""):gsub("\n$", "")) end

---Complains when an undisturbed run, seen to its end, was anything else than it must be.
---@param life soak.Life
---@param where string
---@return boolean fine
function lives.judge(life, where)
  local fine = said(life) == WORD and life.err == "" and life.code == CODE
  if not fine then
    look.complain("%s: the run ended with %d, signal %d, and said %q, %q", where, life.code, life.signal, life.out, life.err)
  end
  return fine
end

-- Folder names and groups of a run tell its id as a number.
local function leakcheck(verb)
  local folder_of_run = ground.run_dir .. "/" .. host.hex(NAME .. "@vm")
  local life = lives.start {
    "scripts/leakcheck", verb, ground.folder .. "/leaks.json", "--run", ground.run_dir, "--only", host.hex(folder_of_run),
    "--only", ground.folder,
  }
  life:wait()
  if life.err ~= "" then error(life.err, 0) end
  return life.out
end

function lives.remember() leakcheck "snapshot" end

-- Whoever lives here beside us and our parent: this process namespace is ours.
local function strangers()
  local list, own, scan = {}, uv.os_getpid(), uv.fs_scandir "/proc"
  while scan do
    local name = uv.fs_scandir_next(scan)
    if not name then break end
    local pid = math.tointeger(tonumber(name))
    local command = pid and pid ~= 1 and pid ~= own and look.read(("/proc/%d/cmdline"):format(pid)) or ""
    if command ~= "" then list[#list + 1] = ("process %d, %s"):format(pid, command:gsub("%z", " ")) end
  end
  return list
end

---Complains about each thing that is there and was not there when `remember` was called.
---@async
---@return boolean clean
function lives.nothing_left(where)
  local text = leakcheck "compare"
  local list, till = strangers(), task.now() + LAST_LINES
  while #list > 0 and task.now() < till do
    task.sleep(20)
    list = strangers()
  end
  for line in text:gmatch "[^\n]+" do list[#list + 1] = line end
  for i, line in ipairs(list) do
    if i <= MOST_LINES then look.complain("%s: left: %s", where, line) end
  end
  if #list > MOST_LINES then look.complain("%s: left: %d more", where, #list - MOST_LINES) end
  return #list == 0
end

---After a kill: by "gc", or by the next run of the same name, of whatever kind, everything goes that was left, without a
---word.
---@async
---@param how "gc"|"options"|"file"|"library"
---@return soak.Life
function lives.clean_up(how, where)
  local life = lives.start(lives.words(how))
  local ended = life:wait()
  if not ended then
    look.complain("%s: the %s after it did not end; it said %q, %q", where, how, life.out, life.err)
  elseif how ~= "gc" then
    lives.judge(life, where .. ", next run, " .. how)
  elseif life.code ~= 0 or life.err ~= "" then
    look.complain("%s: gc ended with %d, signal %d, and said %q, %q", where, life.code, life.signal, life.out, life.err)
  end
  if not lives.nothing_left(where) then lives.remember() end
  return life
end

---A run that is up, killed there.
---@async
function lives.killed_when_up(kind)
  local life = lives.start(lives.run(kind, "exec sleep 600"))
  local fine = pcall(task.deadline, LIMIT, function()
    while said(life) ~= WORD and not life.code do task.sleep(1) end
  end)
  life:kill()
  life:wait()
  if not fine or said(life) ~= WORD then
    look.complain("a run that was to be killed when it is up never was, and said %q, %q", life.out, life.err)
  end
end

---Makes what the runs are given.
---@async
function lives.prepare()
  uv.fs_mkdir(ground.folder .. "/data", 448)
  written("data/word", WORD)
  os.remove(ground.folder .. "/data.ext4")
  local life = lives.start { "/usr/bin/env", "mkfs.ext4", "-q", ground.folder .. "/data.ext4", "16M" }
  life:wait()
  if life.code ~= 0 then error(life.err, 0) end
  lives.remember()
end

---Milliseconds that an undisturbed run takes, the shortest of three.
---@async
function lives.length(kind)
  local least
  for _ = 1, 3 do
    local life = lives.start(lives.run(kind))
    life:wait()
    if not lives.judge(life, "undisturbed, " .. kind) then error("there is no life to end", 0) end
    least = math.min(least or life.ms, life.ms)
  end
  return least
end

return lives

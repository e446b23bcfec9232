---`moonshim run`: one pod, from its start to the last thing released.
local err = require "moonshim.err"
local task = require "moonshim.task"
local output = require "moonshim.cli.output"
local status = require "moonshim.cli.status"
local terminal = require "moonshim.terminal"

local run = {}

local SIGNALS = { sigint = 2, sigterm = 15, sighup = 1 }
local NAMES = { sigint = "INT", sigterm = "TERM", sighup = "HUP" }

-- How long the last lines may take after a failure.
local LAST_LINES = "2s"

-- What to run --------------------------------------------------------------------------------------------------------

---The pod of a command line with --rootfs or --layer: one container, on its own.
---@param found moonshim.cli.Options
---@return table data as a pod file would return it; relative paths start at the working folder
function run.pod(found)
  local dns
  if #(found.dns or {}) + #(found.dns_search or {}) > 0 then dns = { servers = found.dns, search = found.dns_search } end
  return {
    name = found.name or "run-" .. require("moonshim.core").sys.random_hex(6),
    host = "local",
    sandbox = false,
    network = found.network,
    dns = dns,
    annotations = found.annotations,
    containers = {
      main = {
        rootfs = found.rootfs, layers = #found.layers > 0 and found.layers or nil, scratch = found.scratch,
        args = found.args, env = found.env, cwd = found.cwd, user = found.user, hostname = found.hostname,
        tty = found.tty,
        mounts = found.mounts, devices = found.devices, read_only = found.read_only, resources = found.resources,
      },
    },
  }
end

---@param path string?
---@return string? absolute
local function absolute(path)
  if not path or path:sub(1, 1) == "/" then return path end
  return require("luv").cwd() .. "/" .. path
end

---@param found moonshim.cli.Options
---@return moonshim.PodSpec
function run.spec(found)
  local pod_file = require "moonshim.pod_file"
  local spec = found.file and pod_file.load(found.file, { annotations = found.annotations }) or pod_file.pod(run.pod(found))
  if found.tty then
    if #spec.order > 1 then err.raise("invalid_argument", "-t needs a pod with one container; this one has %d", #spec.order) end
    spec.containers[spec.order[1]].tty = true
  end
  pod_file.check_files(spec)
  return spec
end

-- One run --------------------------------------------------------------------------------------------------------------

---@class moonshim.cli.Run
---@field api table `require "moonshim"`, or what stands in for it in a spec
---@field spec moonshim.PodSpec
---@field found moonshim.cli.Options
---@field pod table? once it is up
---@field life table the task that starts the pod and waits for it
---@field terminal moonshim.Terminal? of our user, when the command has one
---@field ints integer how often INT came
---@field terminating boolean? the VM is being ended because of the third
---@field stopped_by integer? the signal that ended the run, when it was not the command's to answer
local Run = {}
Run.__index = Run

---The terminal that a command with one is seen on: where it is typed, or without -i where it is printed. With -t it is
---needed; for a pod file that wants one it may also be missing.
---@param found moonshim.cli.Options
---@param spec moonshim.PodSpec
---@return moonshim.Terminal?
function run.terminal(found, spec)
  if #spec.order > 1 or not spec.containers[spec.order[1]].tty then return nil end
  local fd = found.stdin and 0 or 1
  if terminal.is(fd) then return terminal.open(fd) end
  if not found.tty then return nil end
  local name = fd == 0 and "standard input" or "standard output"
  return err.raise("failed_precondition", "-t needs a terminal, and %s is none; leave -t out", name)
end

---The streams of the only container. It is asked for when the VM is up: until then Ctrl-C still ends us.
function Run:own_streams()
  local streams = { stdin = self.found.stdin and { fd = 0 } or nil, stdout = { fd = 1 }, stderr = { fd = 2 } }
  if self.terminal then
    streams.size = self.terminal:size()
    if self.found.stdin then self.terminal:raw() end
  end
  return streams
end

---Who gets which descriptor. One container has ours as they are; several get pipes that end in prefixed lines.
function Run:stdio()
  local names, io = self.spec.order, {}
  if #names == 1 then
    return function() return self:own_streams() end
  end
  if self.found.stdin then err.raise("invalid_argument", "-i needs a pod with one container; this one has %d", #names) end
  local width = 0
  for _, name in ipairs(names) do width = math.max(width, #name) end
  for _, name in ipairs(names) do
    local prefix = name .. (" "):rep(width - #name) .. " | "
    io[name] = { stdout = { fd = self.output:pipe(prefix, 1) }, stderr = { fd = self.output:pipe(prefix, 2) } }
  end
  return io
end

---Which containers lost processes for want of memory: one line each, for the end.
function Run:note_want_of_memory(pod)
  local size_text = require("moonshim.oci.resources").size_text
  for _, name in ipairs(self.spec.order) do
    local _, known = pod:container(name):state()
    local oom = type(known) == "table" and known.oom
    if oom then
      local whose = #self.spec.order > 1 and name .. ": " or ""
      local what = known.reason == "oom" and "killed" or ("%d process%s killed"):format(oom.kills, oom.kills == 1 and "" or "es")
      local limit = oom.limit and (" (limit %s)"):format(size_text(oom.limit)) or ""
      table.insert(self.notes, ("moonshim: %s%s: out of memory%s\n"):format(whose, what, limit))
    end
  end
end

---Start, wait for all containers, release everything. Returns the exit status, or raises.
function Run:live()
  local pod = err.try(self.api.start(self.spec, {
    io = self:stdio(), policy = absolute(self.found.policy), die_with_parent = true,
    made = function(made) self.pod = made end, -- a command may be heard of before its start has been answered
  }))
  self.pod, self.started = pod, true
  self.output:release()
  if self.stopped_by then self:stop() end
  if self.terminal then
    local only = pod:container(self.spec.order[1])
    -- What cannot be resized has ended, or is about to say more than this would.
    self.terminal:follow(function(rows, columns) only:resize(rows, columns) end)
  end
  local waits = {}
  for i, name in ipairs(self.spec.order) do
    waits[i] = function() return err.try(pod:container(name):wait()) end
  end
  local codes = task.all(waits)
  self:note_want_of_memory(pod)
  self.released = true
  err.try(pod:stop())
  for _, code in ipairs(codes) do
    if code ~= 0 then return code end
  end
  return 0
end

---Stops the pod; Run:live joins it, and reports how it went.
function Run:stop()
  task.detach(function() self.pod:stop() end)
end

---A signal came in. A command gets it; a pod from a file is stopped by it, and a command whose terminal is gone; whoever
---insists gets more.
function Run:signal(name)
  if name == "sigint" then self.ints = self.ints + 1 end
  local insists = name == "sigint" and self.ints or 1
  if not self.pod then
    self.stopped_by = self.stopped_by or SIGNALS[name]
    self.life:cancel("interrupted while it was starting")
  elseif insists >= 3 then
    self.stopped_by = SIGNALS[name]
    self.output:abandon()
    if self.terminating then return end -- each try is work, and many at once would only hold it up; after it the next may try again
    self.terminating = true
    self.pod:terminate()
    self.terminating = false
  elseif insists == 2 then
    self.pod:kill("KILL")
  elseif self.found.file or (name == "sighup" and self.terminal and self.terminal:gone()) then
    self.stopped_by = SIGNALS[name]
    if self.started then self:stop() end -- else as soon as everything has been started
  else
    self.sent = SIGNALS[name]
    self.pod:kill(NAMES[name])
  end
end

---Calls `act(name)` in a task of its own for each signal, until what is returned is called.
local function watch_signals(act)
  local uv = require "luv"
  local handles = {}
  for name in pairs(SIGNALS) do
    local handle = uv.new_signal()
    handle:start(name, function() task.detach(act, name) end)
    handles[#handles + 1] = handle
  end
  -- Writing to a reader that is gone is an error of that write, not the end of us.
  handles[#handles + 1] = uv.new_signal()
  handles[#handles]:start("sigpipe", function() end)
  return function()
    for _, handle in ipairs(handles) do handle:close() end
  end
end

---Runs `fn` as a task; the terminal is given back whatever becomes of it, also before the report of a bug is printed.
function Run:guarded(fn)
  local _ <close> = self.terminal
  task.run(fn)
end

---@param found moonshim.cli.Options
---@param api table? stands in for `require "moonshim"`
---@return integer exit status
function run.main(found, api)
  local self = setmetatable({
    api = api or require "moonshim", found = found, spec = run.spec(found), output = output.new(), ints = 0, notes = {},
  }, Run)
  self.terminal = run.terminal(found, self.spec)
  local code, failure
  self:guarded(function()
    -- Before anything can be seen of us from outside: who sees it may send a signal.
    local close_signals = watch_signals(function(name) self:signal(name) end)
    self.life = task.spawn(function() return self:live() end)
    local ok, result = pcall(self.life.join, self.life)
    if ok then code = result else failure = err.from(result) end
    -- A fault of ours in the middle of a run: end the VM, then release what it leaves. The fault is what gets reported.
    if failure and self.started and not self.released then
      pcall(self.pod.terminate, self.pod)
      pcall(self.pod.stop, self.pod)
    end
    -- Ended before it was started: that is what was asked for. What could not be undone then is in the log.
    local asked = self.sent or self.stopped_by
    if failure and not self.started and asked then code, failure = status.SIGNALS + asked, nil end
    -- The writers are gone; after a failure nobody waits long for a reader who does not read.
    local function finish()
      task.await(function(resume)
        self.output:finish(resume)
        return function() self.output:abandon() end
      end)
    end
    if ok then finish() else pcall(task.deadline, LAST_LINES, finish) end
    if self.terminal then self.terminal:close() end -- while signals are still ours: a late one must not meet a raw terminal
    close_signals()
  end)
  for _, note in ipairs(self.notes) do io.stderr:write(note) end
  if found.timeline and self.pod then io.stderr:write(self.pod:timeline()) end
  if self.stopped_by and (not failure or err.is(failure, "cancelled")) then return status.SIGNALS + self.stopped_by end
  if failure then
    io.stderr:write(status.line(failure))
    return status.of_error(failure)
  end
  return code
end

return run

-- Called by scripts/bench, from the root of the checkout: lua5.4 scripts/bench.lua ROUNDS
local uv = require "luv"
local json = require "cjson"

local rounds = tonumber(arg[1])
local root = uv.cwd() .. "/build/bench/roots/busybox"
local moonshim = uv.cwd() .. "/build/release/bin/moonshim"

---Seconds that a shell command takes. Ends the benchmark when it fails.
local function seconds(line)
  local from = uv.hrtime()
  local ok = os.execute(line)
  local took = (uv.hrtime() - from) / 1e9
  if not ok then
    io.stderr:write("bench: this failed: ", line, "\n")
    os.exit(1)
  end
  return took
end

local function median(list)
  table.sort(list)
  return list[#list // 2 + 1]
end

---Runs ours and theirs in turns, so that whatever else the machine does meets both.
local function compare(title, ours, theirs, unit, figure)
  local a, b = {}, {}
  seconds(ours) -- once to warm the caches
  seconds(theirs)
  for i = 1, rounds do
    a[i] = seconds(ours)
    b[i] = seconds(theirs)
  end
  local mine, other = median(a), median(b)
  mine, other = figure(mine), figure(other)
  print(("%-16s %9.1f %s beside %9.1f %s   ratio %.2f"):format(title, mine, unit, other, unit, mine / other))
end

---A bundle for crun and runc with the same root and command.
local function bundle(args)
  local folder = uv.cwd() .. "/build/bench/bundle-" .. args[1]
  uv.fs_mkdir(folder, 448)
  local text = json.encode {
    ociVersion = "1.0.2",
    process = { args = args, cwd = "/", env = { "PATH=/bin" }, user = { uid = 0, gid = 0 } },
    root = { path = root },
    mounts = {
      { destination = "/proc", type = "proc", source = "proc" },
      { destination = "/dev", type = "tmpfs", source = "tmpfs", options = { "nosuid", "mode=755", "size=65536k" } },
      { destination = "/sys", type = "sysfs", source = "sysfs", options = { "nosuid", "noexec", "nodev", "ro" } },
    },
    linux = { namespaces = { { type = "pid" }, { type = "mount" }, { type = "ipc" }, { type = "uts" }, { type = "network" } } },
  }
  local file = assert(io.open(folder .. "/config.json", "w"))
  file:write(text)
  file:close()
  return folder
end

local ours = moonshim
compare("run of true", ("%s run --rootfs %s -- true"):format(ours, root),
  ("crun run --bundle %s bench-%d"):format(bundle { "true" }, uv.os_getpid()), "ms", function(s) return s * 1000 end)

-- Steps of one container, ours beside crun's and runc's own ----------------------------------------------------------

local api = require "moonshim"
local task = require "moonshim.task"

---Runs a program in the current task; returns its exit status.
local function run(program, ...)
  local args = { ... }
  return task.await(function(resume)
    local handle
    handle = assert(uv.spawn(program, { args = args, stdio = {} }, function(code)
      handle:close()
      resume(code)
    end))
  end)
end

local function must(program, ...)
  local code = run(program, ...)
  if code ~= 0 then error(("%s %s: %d"):format(program, table.concat({ ... }, " "), code), 0) end
end

local FOREVER = { "sleep", "1000" }

---One life of a container, timed step by step: times.create, exec, kill, delete in ms.
local LIVES = {}

local function timed(times, step, fn)
  local from = uv.hrtime()
  local v = fn()
  times[step] = (uv.hrtime() - from) / 1e6
  return v
end

function LIVES.ours(times, vm, n)
  local name = "c" .. n
  local spec = assert(api.pod {
    name = "pod" .. n, sandbox = false, network = "none", containers = { [name] = { rootfs = root, args = FOREVER } },
  })
  local pod = timed(times, "create", function() return assert(vm:start_pod(spec)) end)
  timed(times, "exec", function() assert(assert(pod[name]:exec { "true" }):wait() == 0) end)
  timed(times, "kill", function()
    assert(pod[name]:kill "KILL")
    assert(pod[name]:wait() == 137)
  end)
  timed(times, "delete", function() assert(pod:stop()) end)
end

local function theirs(program)
  return function(times, _, n)
    local id, folder = ("bench-%s-%d-%d"):format(program, uv.os_getpid(), n), bundle(FOREVER)
    timed(times, "create", function()
      must(program, "create", "--bundle", folder, id)
      must(program, "start", id)
    end)
    timed(times, "exec", function() must(program, "exec", id, "true") end)
    must(program, "kill", id, "KILL")
    while run(program, "delete", id) ~= 0 do task.sleep(2) end
    -- Only a run in the foreground has somebody who waits for it.
    local over = task.spawn(run, program, "run", "--bundle", folder, id)
    while run(program, "state", id) ~= 0 do task.sleep(2) end
    task.sleep(20)
    timed(times, "kill", function()
      must(program, "kill", id, "KILL")
      over:join()
    end)
    must(program, "create", "--bundle", folder, id .. "-d")
    must(program, "kill", id .. "-d", "KILL")
    task.sleep(20)
    timed(times, "delete", function() must(program, "delete", id .. "-d") end)
  end
end
LIVES.crun, LIVES.runc = theirs "crun", theirs "runc"

api.run(function()
  local vm = assert(api.vm { name = "bench", run_dir = uv.cwd() .. "/build/bench/run", die_with_parent = true })
  local all = { ours = {}, crun = {}, runc = {} }
  local function round(n, keep)
    for who, life in pairs(LIVES) do
      local times = {}
      life(times, vm, n)
      for step, ms in pairs(keep and times or {}) do
        all[who][step] = all[who][step] or {}
        table.insert(all[who][step], ms)
      end
    end
  end
  local ok, e = pcall(function()
    round(0, false) -- once to warm the caches
    for n = 1, rounds do round(n, true) end
  end)
  assert(vm:stop())
  if not ok then error(e, 0) end
  local titles = { { "create", "create and start" }, { "exec", "exec of true" }, { "kill", "kill to wait" }, { "delete", "delete" } }
  for _, step in ipairs(titles) do
    local a, b, c = median(all.ours[step[1]]), median(all.crun[step[1]]), median(all.runc[step[1]])
    print(("%-16s %9.1f ms beside crun %6.1f ms   ratio %.2f; runc %6.1f ms   ratio %.2f"):format(step[2], a, b, a / b, c, a / c))
  end
end)

local BYTES = 512 << 20
local source = ("head -c %d /dev/zero"):format(BYTES)
compare("stdin to stdout", ("%s | %s run -i --rootfs %s -- cat | cat >/dev/null"):format(source, moonshim, root),
  ("%s | %s/bin/busybox cat | cat >/dev/null"):format(source, root), "MiB/s", function(s) return BYTES / (1 << 20) / s end)

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

---A bundle for crun with the same root and command.
local function bundle()
  local folder = uv.cwd() .. "/build/bench/bundle"
  uv.fs_mkdir(folder, 448)
  local text = json.encode {
    ociVersion = "1.0.2",
    process = { args = { "true" }, cwd = "/", env = { "PATH=/bin" }, user = { uid = 0, gid = 0 } },
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

-- crun refuses a machine with both cgroup trees, so it runs where the second one is hidden; that costs it 2 ms or so.
local hide = "unshare -m --propagation private sh -c 'umount /sys/fs/cgroup/unified 2>/dev/null; exec %s'"

compare("run of true", ("%s run --rootfs %s -- true"):format(moonshim, root),
  hide:format(("crun run --bundle %s bench-%d"):format(bundle(), uv.os_getpid())), "ms", function(s) return s * 1000 end)

local BYTES = 512 << 20
local source = ("head -c %d /dev/zero"):format(BYTES)
compare("stdin to stdout", ("%s | %s run -i --rootfs %s -- cat | cat >/dev/null"):format(source, moonshim, root),
  ("%s | %s/bin/busybox cat | cat >/dev/null"):format(source, root), "MiB/s", function(s) return BYTES / (1 << 20) / s end)

local agent = require "support.agent"
local gcs = require "support.gcs"
local TYPE, POD = "io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"

agent.describe("a pod inside the agent", function()
  local vm, at
  local here = agent.root()
  agent.vm(function(booted, root) vm, at = booted, root end, here)

  local PAUSE = { destination = "/pause", type = "bind", source = "/sbin/moonshim-guest", options = { "bind", "ro" } }

  ---The pod's sandbox: moonshim-guest pause, alone in an otherwise empty root.
  local function sandbox(pod, over)
    local spec = gcs.spec("rootfs", { "/pause", "pause" }, over or { hostname = "pod.example" })
    spec.annotations = { [TYPE] = "sandbox", [POD] = pod }
    table.insert(spec.mounts, PAUSE)
    local result, body = vm:create(pod, spec, { bundle = "/run/gcs/pods/" .. pod .. "/" .. pod })
    assert.equal(0, result, body.ErrorMessage)
    return (vm:start(pod, {}))
  end

  local function workload(pod, id, line, over)
    local spec = gcs.spec(at, { "sh", "-c", line }, over)
    local annotations = { [TYPE] = "container", [POD] = pod }
    for k, v in pairs(over and over.annotations or {}) do annotations[k] = v end
    spec.annotations = annotations
    return spec, { bundle = ("/run/gcs/pods/%s/%s"):format(pod, id) }
  end

  local function run(pod, id, line, over)
    local spec, opts = workload(pod, id, line, over)
    local code, out, err = vm:run(id, spec, opts)
    assert.equal(0, code, type(err) == "table" and err.ErrorMessage or err)
    return out
  end

  it("holds its namespaces by a pause process that ends on TERM, and leaves no folder of the pod [#113]", function()
    local pid = sandbox "p1"
    -- A TERM that comes before the program has asked for it is lost: pid 1 of a namespace has no default for it.
    local result, body
    repeat
      vm:must("signal", "p1", { ProcessId = pid, Options = { Signal = 15 } })
      result, body = vm:call("wait", "p1", { ProcessId = pid, TimeoutInMs = 200 })
    until result ~= 0xc0370109
    assert.equal(0, result)
    assert.equal(0, body.ExitCode)
    vm:must("delete_state", "p1")
    assert.equal("", vm:inside "find /run/gcs/pods -mindepth 1; grep /run/gcs/ /proc/self/mounts")
    assert.equal("", vm:inside "find /sys/fs/cgroup -type d -name p1")
  end)

  it("reaps the 200 orphans that a container leaves in a shared pid namespace (known bug 12)", function()
    local pid = sandbox "p1"
    local spec, opts = workload("p1", "c1", "i=0; while [ $i -lt 200 ]; do i=$((i+1)); (sleep 0.5 &); done")
    spec.linux.namespaces = { { type = "mount" }, { type = "pid", path = ("/proc/%d/ns/pid"):format(pid) } }
    assert.equal(0, (vm:run("c1", spec, opts)))
    vm:inside "while pgrep -x sleep; do :; done"
    gcs.until_ready("no zombie to be left", function() return vm:inside "ps -eo stat | grep -c Z" == "0\n" end)
  end)

  it("gives its containers the pod's names", function()
    sandbox "p1"
    local out = run("p1", "c1", "cat /etc/hostname; grep -c example /etc/hosts; wc -c < /etc/resolv.conf")
    assert.equal("pod.example\n1\n0\n", out)
    assert.is_truthy(run("p1", "c2", "cat /etc/hosts"):find("127.0.0.1 pod.example pod\n", 1, true))
  end)

  it("lets a container keep a file that it mounts itself", function()
    sandbox "p1"
    gcs.sh("echo mine > " .. here.folder .. "/hosts")
    vm:share("2", here.folder, { file = "hosts" })
    local out = run("p1", "c1", "cat /etc/hosts", {
      extra_mounts = { { destination = "/etc/hosts", type = "bind", source = "/run/mounts/plan9/2/hosts", options = { "bind" } } },
    })
    assert.equal("mine\n", out)
  end)

  it("shares folders between containers, made when they are first named, and none outside", function()
    sandbox "p1"
    local function shared(place)
      return { extra_mounts = { { destination = "/shared", type = "bind", source = place, options = { "rbind", "rshared" } } } }
    end
    run("p1", "c1", "echo one > /shared/file", shared "sandbox:///data/x")
    assert.equal("one\n", run("p1", "c2", "cat /shared/file", shared "sandbox://data/../data/./x"))
    run("p1", "c3", "echo two > /shared/file", shared "sandbox-tmp://t")
    assert.equal("two\n", run("p1", "c4", "cat /shared/file", shared "sandbox-tmp://t"))
    run("p1", "c5", "echo three > /shared/file", shared "sandbox://../../../../../etc")
    assert.equal("three\n", vm:inside "cat /run/gcs/pods/p1/p1/sandboxMounts/etc/file")
    assert.equal("777\n", vm:inside "stat -c %a /run/gcs/pods/p1/p1/sandboxMounts/data/x")
  end)

  it("takes a folder of the UVM, and refuses one that is not there", function()
    sandbox "p1"
    local function from(source)
      return { extra_mounts = { { destination = "/uvm", type = "bind", source = source, options = { "bind", "ro" } } } }
    end
    assert.equal("there\n", run("p1", "c1", "[ -f /uvm/passwd ] && echo there", from "uvm:///etc"))
    local spec, opts = workload("p1", "c2", "true", from "uvm:///nosuch")
    assert.is_true((vm:create("c2", spec, opts)) ~= 0)
  end)

  it("applies the size of /dev/shm, the core limit and the user", function()
    sandbox "p1"
    local out = run("p1", "c1", "df -k /dev/shm | tail -1 | awk '{print $2}'; ulimit -c; id -u", {
      process = { user = { username = "daemon" } },
      annotations = { ["io.microsoft.lcow.shm.size-kb"] = "1024", ["io.microsoft.lcow.rlimitcore"] = "0;0" },
    })
    assert.equal("1024\n0\n1\n", out)
  end)

  it("puts its containers below a cgroup of the pod", function()
    sandbox "p1"
    local spec, opts = workload("p1", "c1", "sleep 1000")
    vm:create("c1", spec, opts)
    local pid = vm:start("c1", {})
    assert.is_truthy(vm:inside(("cat /proc/%d/cgroup"):format(pid)):find(":/pods/p1/c1\n", 1, true))
  end)

  it("gives the limits of the sandbox to the pod as a whole", function()
    sandbox("p1", { linux = {
      namespaces = { { type = "pid" }, { type = "mount" } },
      resources = { memory = { limit = 256 << 20 }, pids = { limit = 40 } },
    } })
    assert.equal("40\n", vm:inside "cat $(find /sys/fs/cgroup -path '*/pods/p1/pids.max')")
    local spec, opts = workload("p1", "c1", "for i in $(seq 100); do sleep 100 & done")
    local _, _, text = vm:run("c1", spec, opts)
    assert.is_truthy(text:find "fork")
  end)

  it("refuses a container of a pod that is not there, and a host name of its own", function()
    local spec, opts = workload("p1", "c1", "true")
    assert.equal(0x80004005, (vm:create("c1", spec, opts)))
    sandbox "p1"
    spec.hostname = "other"
    assert.equal(0x80004005, (vm:create("c1", spec, opts)))
  end)

  for name, hostname in pairs {
    ["a newline"] = "a\nb", ["a blank"] = "a b", ["300 characters"] = ("x"):rep(300), ["other letters"] = "ä",
  } do
    it(("refuses a host name with %s"):format(name), function()
      local spec = gcs.spec("rootfs", { "/pause", "pause" }, { hostname = hostname })
      spec.annotations = { [TYPE] = "sandbox" }
      table.insert(spec.mounts, PAUSE)
      assert.equal(0x80070057, (vm:create("p1", spec)))
    end)
  end

  it("leaves nothing in a living UVM and does not touch its neighbour", function()
    sandbox "p1"
    local before = vm:inside "find /run/gcs | sort; wc -l < /proc/self/mounts; find /sys/fs/cgroup -type d | wc -l"
    for _ = 1, 5 do
      local pid = sandbox "p2"
      run("p2", "c2", "echo x > /shared/file", {
        extra_mounts = { { destination = "/shared", type = "bind", source = "sandbox://s", options = { "rbind" } } },
      })
      vm:must("signal", "p2", { ProcessId = pid })
      vm:wait("p2", pid)
      vm:must("delete_state", "p2")
    end
    assert.equal(before, vm:inside "find /run/gcs | sort; wc -l < /proc/self/mounts; find /sys/fs/cgroup -type d | wc -l")
    assert.equal("pod.example\n", run("p1", "c1", "cat /etc/hostname"))
  end)
end)

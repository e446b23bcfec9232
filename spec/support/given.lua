--- support/given - containers in the states that specs start from, over support/fake_vm.
local err = require "moonshim.err"
local fake_vm = require "support.fake_vm"
local pod_spec = require "moonshim.pod_spec"
local task = require "moonshim.task"

local given = {}

---One container as a pod file has it: { "sleep" } are the arguments, everything else is a field.
function given.container(fields)
  local c = { args = {} }
  for k, v in pairs(fields) do
    if math.type(k) == "integer" then c.args[k] = v else c[k] = v end
  end
  if not c.rootfs and not c.layers then c.rootfs = "/roots/busybox" end
  local spec = pod_spec.check({ name = "x", sandbox = false, containers = { c = c } }, { base = "/" })
  return spec.containers.c
end

function given.request(fields, io)
  return { container = given.container(fields), kind = "standalone", io = io or { stdout = { fd = 1 }, stderr = { fd = 2 } } }
end

---A full container: two layers, scratch, two data disks, a share, two devices.
given.FULL = {
  "sleep", layers = { "/base.ext4", "/app.ext4" }, scratch = { size = "64M" },
  mounts = {
    { source = "/data1.img", destination = "/d1", type = "virtual-disk" },
    { source = "/data2.img", destination = "/d2", type = "virtual-disk" },
    { source = "/shared", destination = "/shared" },
  },
  devices = { "/dev/card0", "/dev/card1" },
}

---A booted VM with an empty pod.
---@return spec.FakeVm, moonshim.Pod, moonshim.Vm
function given.pod(opts)
  local f = fake_vm.new(opts)
  local vm = f:vm(opts)
  return f, vm:new_pod("p"), vm
end

---A container in the pod, created.
function given.created(pod, fields, id, io)
  local c = pod:new_container(id or "c")
  c:create(given.request(fields or { "sleep" }, io))
  return c
end

---A container in the pod, running (or already over, for short programs).
function given.running(pod, fields, id, io)
  local c = given.created(pod, fields, id, io)
  c:start()
  return c
end

function given.exec(c, args, id, more)
  local request = { id = id, args = {}, io = { stdout = { fd = 1 } } }
  for i, word in ipairs(args) do request.args[i] = tostring(word) end
  for k, v in pairs(more or {}) do request[k] = v end
  return c:exec(request)
end

---An exec "e", created, in a running container "c"; `more` is the rest of its request.
---@return moonshim.Process e, spec.FakeVm f, moonshim.Vm vm, moonshim.Container c
function given.with_exec(opts, args, more)
  local f, pod, vm = given.pod(opts)
  local c = given.running(pod)
  return given.exec(c, args or { "sleep" }, "e", more), f, vm, c
end

---Calls and returns the error value; fails when there is none.
function given.error(fn, ...)
  local ok, e = pcall(fn, ...)
  assert(not ok, "expected an error")
  if type(e) == "string" then error(e, 0) end
  return e
end

---Runs fn in a task of its own; returns a function that waits for { ok, value | error }.
function given.later(fn, ...)
  local args = table.pack(...)
  local result
  local t = task.spawn(function() result = table.pack(pcall(fn, table.unpack(args, 1, args.n))) end)
  return function()
    if not result then pcall(t.join, t) end
    return result[1], result[2]
  end, t
end

---Lets everything that is ready run.
function given.settle() task.sleep(1) end

function given.code(e) return err.is(e) and e.code or tostring(e) end

return given

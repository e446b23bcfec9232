local agent = require "support.agent"
local cjson = require "cjson"
local gcs = require "support.gcs"
-- Requests that are in flight together: nobody waits for an answer before the next one is sent.
agent.describe("the agent, asked many things at once", function()
  local vm, at
  local here = agent.root(function(made)
    gcs.sh(("truncate -s 16M %s/disk.img && mkfs.ext4 -q %s/disk.img"):format(made.folder, made.folder))
  end)
  agent.vm(function(booted, root) vm, at = booted, root end, here)

  local function modify(verb, resource, settings)
    return vm:request("modify", gcs.NULL, { Request = { RequestType = verb, ResourceType = resource, Settings = settings } })
  end
  local function result(id) return vm:answer(id).Result & 0xffffffff end
  local function mounts() return vm:inside "sort /proc/self/mounts" end

  local function create(id, line)
    local spec = gcs.spec(at, { "sh", "-c", line })
    return vm:request("create", id, { ContainerConfig = cjson.encode {
      SchemaVersion = { Major = 2, Minor = 1 }, OciBundlePath = gcs.bundle(id), OciSpecification = spec,
    } })
  end

  it("lets no Remove overtake its Add", function()
    vm:attach(1, here.folder .. "/disk.img")
    local before = mounts()
    vm.shares["2"] = { path = here.root .. "/etc/passwd", file = "passwd" }
    for _, case in ipairs {
      { "MappedDirectory", { MountPath = "/run/mounts/plan9/2", Port = 564, ShareName = "2" } },
      { "MappedVirtualDisk", { MountPath = "/run/mounts/scsi/0_1_0", Lun = 1 } },
      { "CombinedLayers", { ContainerID = "c1", ContainerRootPath = gcs.bundle "c1" .. "/rootfs", Layers = { { Path = at } } } },
    } do
      local add, remove = modify("Add", case[1], case[2]), modify("Remove", case[1], case[2])
      local again, gone = modify("Add", case[1], case[2]), modify("Remove", case[1], case[2])
      assert.equal(0, result(add), case[1])
      assert.equal(0, result(remove), case[1])
      result(again) -- refused while the first was on its way, or done and undone
      assert.equal(0, result(gone), case[1])
      assert.equal(before, mounts())
    end
    assert.equal("", vm:inside "find /run/gcs/pods /run/moonshim-guest/skeleton -mindepth 1 2>/dev/null")
  end)

  it("deletes once", function()
    assert.equal(0, result(create("c1", "true")))
    local first, second = vm:request("delete_state", "c1"), vm:request("delete_state", "c1")
    assert.equal(0, result(first))
    assert.equal(0xc037010e, result(second))
  end)

  it("starts nothing in a container that is being deleted", function()
    assert.equal(0, result(create("c1", "sleep 1000")))
    local delete = vm:request("delete_state", "c1")
    local start = vm:request("execute", "c1", { Settings = { ProcessParameters = "{}" } })
    local exec = vm:request("execute", "c1", { Settings = { ProcessParameters = cjson.encode {
      OciProcess = { args = { "true" }, cwd = "/" },
    } } })
    assert.equal(0, result(delete))
    assert.is_true(result(start) ~= 0)
    assert.is_true(result(exec) ~= 0)
    assert.equal("0\n", vm:inside "pgrep -x sleep | wc -l")
  end)

  it("combines layers at one place once", function()
    local settings = { ContainerID = "c1", ContainerRootPath = gcs.bundle "c1" .. "/rootfs", Layers = { { Path = at } } }
    local before = mounts()
    local first, second = modify("Add", "CombinedLayers", settings), modify("Add", "CombinedLayers", settings)
    assert.equal(0, result(first))
    assert.equal(0x80004005, result(second))
    assert.equal(0, result(modify("Remove", "CombinedLayers", settings)))
    assert.equal(before, mounts())
  end)

  it("answers signals and waits while a mount does not come back", function()
    assert.equal(0, result(create("c1", "sleep 1000")))
    local pid = vm:start("c1", {})
    local stuck = {}
    for lun = 10, 19 do stuck[#stuck + 1] = modify("Add", "MappedVirtualDisk", { MountPath = "/run/mounts/scsi/x" .. lun, Lun = lun }) end
    vm:must("signal", "c1", { ProcessId = pid })
    local body, _, place = vm:answer(vm:request("wait", "c1", { ProcessId = pid, TimeoutInMs = gcs.FOREVER }))
    assert.equal(137, body.ExitCode)
    for _, id in ipairs(stuck) do -- they wait for devices that never come
      local refusal, _, later = vm:answer(id)
      assert.equal(0x80004005, refusal.Result & 0xffffffff)
      assert.is_true(later > place)
    end
  end)

  it("survives a storm of requests about the same few containers, and answers each once", function()
    local random = 12345
    local function pick(n)
      random = (random * 1103515245 + 12345) % 0x80000000
      return random // 65536 % n + 1
    end
    local before = mounts()
    local ids, pids = {}, {}
    for _ = 1, 400 do
      local id = "c" .. pick(3)
      local what = pick(8)
      local sent
      if what <= 2 then
        sent = create(id, "sleep 0.02; exit 3")
      elseif what == 3 then
        sent = vm:request("execute", id, { Settings = { ProcessParameters = "{}" } })
      elseif what == 4 then
        local process = { args = { "sh", "-c", "exit 2" }, cwd = "/", env = { "PATH=/bin" } }
        sent = vm:request("execute", id, { Settings = { ProcessParameters = cjson.encode { OciProcess = process } } })
      elseif what == 5 then
        sent = vm:request("delete_state", id)
      elseif what == 6 then
        sent = vm:request("signal", id, { ProcessId = pids[pick(#pids + 1)] or 1 })
      elseif what == 7 then
        sent = vm:request("wait", id, { ProcessId = pids[pick(#pids + 1)] or 1, TimeoutInMs = 5 })
      else
        sent = vm:request(pick(2) == 1 and "shutdown" or "properties", id, { Query = '{"PropertyTypes":["ProcessList"]}' })
      end
      ids[#ids + 1] = sent
      if pick(4) == 1 then
        local answer = vm:answer(table.remove(ids, pick(#ids)))
        if answer.ProcessId then pids[#pids + 1] = answer.ProcessId end
      end
    end
    for _, id in ipairs(ids) do vm:answer(id) end
    for _, id in ipairs { "c1", "c2", "c3" } do
      vm:call("shutdown_forced", id)
      repeat
        local code = vm:call("delete_state", id)
      until code ~= 0x80370105
    end
    assert.equal(before, mounts())
    assert.equal("", vm:inside "find /run/gcs/pods /run/moonshim-guest/crun /run/moonshim-guest/tmp -mindepth 1")
    assert.equal("", vm:inside "find /sys/fs/cgroup -type d -name 'c[123]'")
    assert.equal("0\n", vm:inside "pgrep -x sleep | wc -l")
  end)
end)

-- What the scenarios of scripts/soak run: pods out of the images below a folder, and the order of their events.
local moonshim = require "moonshim"
local look = require "soaks.look"

local ground = {
  FOREVER = { "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 100 & wait; done" },
  TRUE = { "true" },
}

---@param folder string where scripts/make_images has been; run folders are kept in it, too
function ground.below(folder)
  ground.folder, ground.run_dir = folder, folder .. "/run"
  ground.root, ground.image = folder .. "/roots/busybox", folder .. "/images/base.ext4"
end

---The VM of the scenario, if it has one: it is ended when the scenario fails.
ground.running = nil

---A VM in which everything has been made that is made once: threads, parents of cgroups, the data thread.
function ground.warm(name)
  local vm = assert(moonshim.vm { name = name, run_dir = ground.run_dir, die_with_parent = true })
  local pod = assert(vm:start_pod(assert(moonshim.pod {
    name = "warm", containers = { w = { layers = { ground.image }, scratch = { size = "16M" }, args = ground.TRUE } },
  })))
  assert(pod.w:wait())
  assert(pod:stop())
  ground.running = vm
  return vm
end

function ground.agent_of(vm) return vm._vm.world.uvm.facts.pid end

function ground.pod_of(name, containers) return assert(moonshim.pod { name = name, containers = containers }) end

function ground.plain(args) return { rootfs = ground.root, args = args or ground.FOREVER } end

function ground.layered(args) return { layers = { ground.image }, scratch = { size = "16M" }, args = args or ground.FOREVER } end

-- Events of each object, in the order in which they may come.
local ORDER = { create = 1, start = 2, exit = 3, delete = 4, ["exec-added"] = 1, ["exec-started"] = 2 }

---Watches a VM's events; the result checks that every object has each event once, in order, and how many are complete.
function ground.watch_order(vm)
  local seen, heard = {}, 0
  local stop = vm:on_event(function(topic, data)
    local place = ORDER[topic]
    if not place or not data.container then return end
    heard = heard + 1
    local key = data.container .. "/" .. (data.exec or "")
    local last = seen[key] or 0
    -- An exec that could not be started never was a process: its id may come again.
    if topic == "exec-added" and last == 1 then last = 0 end
    if place <= last then look.complain("%s: %s came out of order", key, topic) end
    -- Ids may be used again after the end.
    seen[key] = (topic == "delete" or (topic == "exit" and data.exec ~= "")) and 0 or place
  end)
  return function()
    stop()
    return heard
  end
end

return ground

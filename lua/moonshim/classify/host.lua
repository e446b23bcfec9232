--- Rows for errors of the host driver: hypervisor, loop devices, shares. See classify/init.lua for the words.
---@type moonshim.ClassRow[]
return {
  { op = "terminate", hresult = { "hcs:010e", "hcs:0110", "win32:0490" }, class = "gone",
    why = "no such VM, or it has stopped" },
  { op = "terminate", code = "not_found", class = "gone", why = "no such VM" },
  { op = "modify%.remove.*", hresult = { "hcs:010e", "hcs:0110", "win32:0490" }, class = "gone",
    why = "the VM or the device is not there" },
  { op = "modify%.remove.*", code = "not_found", class = "gone", why = "the device is not there" },
  { op = "modify%.remove.*", hresult = { "hcs:0105", "win32:0006" }, alive = false, class = "gone",
    why = "the VM is down" },
  { op = "modify%.remove.*", hresult = "hcs:0105", alive = true, class = "failed", why = "refused by a running VM" },
  { op = "query", hresult = { "win32:0005", "win32:0006", "hcs:0105" }, alive = false, class = "gone",
    why = "a dying VM answers like this" },
  { op = "wait", hresult = { "hcs:010e", "hcs:0110", "win32:0490" }, class = "gone", why = "it has ended" },
  { op = "modify%.add.*", hresult = { "hcs:0110", "hcs:010e" }, alive = false, class = "gone",
    why = "the VM has ended, nothing was added" },

  { op = ".*", code = "deadline_exceeded", class = "unknown", why = "still running when we stopped waiting" },
  { op = ".*", code = "cancelled", class = "unknown", why = "still running when we stopped waiting" },
  { op = ".*", class = "failed", why = "the host said no" },
}

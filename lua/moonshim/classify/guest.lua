--- Rows for errors that the guest answered. First fit decides; see classify/init.lua for the words.
--
-- A guest that answers is alive. The rows with alive = false are for answers that came in the moment of its death.
---@type moonshim.ClassRow[]
return {
  { op = "modify%.remove%..*", alive = false, class = "gone", why = "mounts end with the VM" },
  { op = "modify%.add%..*", alive = false, class = "gone", why = "what was added ended with the VM" },
  { op = "delete_state", alive = false, class = "gone", why = "containers end with the VM" },
  { op = "signal", alive = false, class = "gone", why = "processes end with the VM" },
  { op = "shutdown", alive = false, class = "gone", why = "processes end with the VM" },
  { op = "resize", alive = false, class = "gone", why = "the terminal ended with the VM" },

  { op = "delete_state", hresult = "hcs:010e", class = "gone", why = "the guest knows no such container" },
  { op = "delete_state", hresult = "hcs:0105", class = "failed", why = "the container runs: refused, not released" },

  { op = "signal", hresult = { "hcs:010e", "win32:0490" }, class = "gone", why = "no such container or process" },
  { op = "signal", hresult = { "hcs:0110", "hcs:011f" }, class = "gone", why = "it has ended already" },
  { op = "shutdown", hresult = { "hcs:010e", "hcs:0110", "hcs:011f" }, class = "gone", why = "nothing left to stop" },
  { op = "wait", hresult = { "win32:0490", "hcs:010e" }, class = "gone", why = "ended, and its exit was fetched before" },
  { op = "resize", hresult = { "win32:0490", "hcs:010e" }, class = "gone", why = "the process has ended" },

  { op = "modify%.remove%..*", hresult = "win32:0490", class = "gone", why = "the guest holds no such thing" },
  { op = "modify%.remove%.CombinedLayers", hresult = { "hcs:010e", "hcs:0110" }, class = "gone",
    why = "the container whose layers they were is not there, or has stopped" },
  { op = "modify%.remove%..*", hresult = "hcs:0105", class = "failed", why = "in use: a live guest refuses" },

  { op = ".*", hresult = "hcs:0109", class = "unknown", why = "the guest gave up waiting for its own work" },
  { op = ".*", class = "failed", why = "the guest said no" },
}

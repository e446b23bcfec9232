--- Rows for errors that nobody answered: lost connection, deadline, a cancelled caller. See classify/init.lua.
--
-- This is the only place that turns a lost guest connection into "gone", and only when the VM is dead; but for NICs.
---@type moonshim.ClassRow[]
return {
  { op = "modify%.remove%.Network", code = "unavailable", class = "gone",
    why = "a guest that cannot be reached forgets its NICs on its own; the link is the host's to take" },
  { op = "modify%..*", code = { "unavailable", "cancelled", "deadline_exceeded", "aborted" }, alive = false, class = "gone",
    why = "mounts and devices of the guest end with the VM" },
  { op = "delete_state", code = { "unavailable", "cancelled", "deadline_exceeded", "aborted" }, alive = false, class = "gone",
    why = "containers end with the VM" },
  { op = "signal", code = { "unavailable", "cancelled", "deadline_exceeded", "aborted" }, alive = false, class = "gone",
    why = "processes end with the VM" },
  { op = "shutdown", code = { "unavailable", "cancelled", "deadline_exceeded", "aborted" }, alive = false, class = "gone",
    why = "processes end with the VM" },
  { op = "wait", code = { "unavailable", "cancelled", "deadline_exceeded", "aborted" }, alive = false, class = "gone",
    why = "processes end with the VM" },
  { op = "resize", code = { "unavailable", "cancelled", "deadline_exceeded", "aborted" }, alive = false, class = "gone",
    why = "the terminal ended with the VM" },
  { op = "execute", code = "unavailable", alive = false, class = "gone", why = "what was started ended with the VM" },
  { op = "create", code = "unavailable", alive = false, class = "gone", why = "what was made ended with the VM" },

  { op = ".*", code = { "unavailable", "deadline_exceeded", "cancelled", "aborted", "protocol" }, class = "unknown",
    why = "the request may have been carried out" },
  { op = ".*", class = "failed", why = "it never left the shim" },
}

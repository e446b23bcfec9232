---Default decisions: how things go away. Stop, delete, roll-back and crash clean-up are one act (derive a plan from
---what is held, run it); this file says in which order where `needs` leaves it open, how long, and what a failure means.
local teardown = {}

---The product's release order. What needs something always goes before it; this list orders the rest. Processes end
---first, then the overlay that keeps bundle, scratch and layers busy; the bundle before the scratch disk it lies on.
teardown.order = {
  "process", "stdio", "logger", "overlay", "bundle", "scratch", "layer", "disk", "share", "device", "nic", "bridge", "uvm",
}

---What a process is told, by goal, and how long it may take to listen. `delete` never signals: what runs is waited for.
teardown.ladders = {
  stop = { { "TERM", wait = "10s" }, { "KILL", wait = "10s" } },
  roll_back = { { "KILL", wait = "10s" } },
  delete = {},
}

---How long `delete` waits for the end of a process that is still running.
teardown.delete_waits = "30s"
---How long an operator's script may think about a plan.
teardown.script_within = "5s"
---What a step may take beyond the waits of its ladder: the answers of the guest. One that does not answer an order in this
---time is silent, and the next rung is not tried.
teardown.answer = "5s"

---What is left on the host when the VM has ended, and failed before, gets one more go, for at most this long.
teardown.again_within = "15s"

---Output that the processes have written is moved on before their streams are closed: until it stands still for so long,
---and for at most so long.
teardown.drain, teardown.drain_most = "1s", "5s"

---Default edits of a plan. What a failed step means is said by its kind: mostly that the container it belongs to is left
---as it is, for the next try. The end of the VM asks for nobody's success.
---@param plan moonshim.Plan
---@param ctx { goal: string, ladder: table[]?, ms: fun(duration: any): integer } ladder: the operator's
function teardown.edit(plan, ctx)
  local ladder = ctx.goal == "stop" and ctx.ladder or teardown.ladders[ctx.goal] or {}
  local answer = ctx.ms(teardown.answer)
  local within = answer
  for _, rung in ipairs(ladder) do within = within + ctx.ms(rung.wait) end
  if #ladder == 0 then within = ctx.ms(teardown.delete_waits) end
  plan:tune("process", { within = within, retries = 0, args = { ladder = ladder, answer = answer } })
  if ctx.goal ~= "roll_back" then
    plan:tune("stdio", { args = { drain = ctx.ms(teardown.drain), most = ctx.ms(teardown.drain_most) } })
  end
end

return teardown

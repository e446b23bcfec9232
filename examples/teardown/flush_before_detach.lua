-- What was written is on the disk before the disk goes; a layer that cannot be released never holds up a stop.
return {
  api = 1,

  teardown = function(plan, ctx)
    plan:before("scratch", {
      name = "flush",
      within = "5s",
      on_failure = "continue",
      run = function() ctx.guest:syncfs(ctx.scratch) end,
    })
    plan:tune("layer", { retries = 3, backoff = "200ms", on_failure = "debt" })
  end,

  -- A command that is pid 1 of its container and handles no signal is not ended by TERM or QUIT; it gets the KILL.
  -- After the last of these the pod's plan ends the VM.
  stop = {
    { "TERM", wait = "2s" },
    { "QUIT", wait = "1s" },
    { "KILL", wait = "10s" },
  },
}

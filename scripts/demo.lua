-- What scripts/demo shows: examples/hello.lua, driven from code. Called by scripts/demo, from the root of the checkout.
local moonshim = require "moonshim"
local task = require "moonshim.task"
local output = require "moonshim.cli.output"

local terminal = require("luv").guess_handle(1) == "tty"

local function title(text)
  io.stdout:write(terminal and "\n\27[1m" or "\n", "== ", text, terminal and "\27[0m\n" or "\n")
  io.stdout:flush()
end

moonshim.run(function()
  local pod_file = require "moonshim.pod_file"
  local spec = pod_file.load("examples/hello.lua")
  local mux, io_of = output.new(), {}
  for _, name in ipairs(spec.order) do
    local prefix = ("%-8s| "):format(name)
    io_of[name] = { stdout = { fd = mux:pipe(prefix, 1) }, stderr = { fd = mux:pipe(prefix, 1) } }
  end

  title "examples/hello.lua: what its containers print"
  local pod = assert(moonshim.start(spec, { io = io_of }))
  mux:release()
  task.sleep("2500ms") -- for counter to count a little

  title "exec in counter: ls / ; cat /app/greeting ; df /"
  local p = assert(pod.counter:exec { "sh", "-c", "ls /; cat /app/greeting; df -h / | tail -n 1" })
  local code = p:wait()
  io.stdout:write(p:output(), ("(exit status %d)\n"):format(code))

  title "the plan for a stop, with examples/teardown/flush_before_detach.lua"
  io.stdout:write(tostring(assert(pod:plan("stop"))))

  title "stop: TERM, then QUIT, then KILL"
  assert(pod:stop())
  task.await(function(resume)
    mux:finish(resume)
    return function() mux:abandon() end
  end)

  title "the timeline"
  io.stdout:write(pod:timeline(), "\n")
end)

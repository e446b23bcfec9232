---The streams of a container as a pod file has them: stdin, stdout, stderr and io_retry. What a place looks like is said by
---moonshim.upstream. Readers take (value, place) and raise at the place, as in moonshim.pod_spec.
local clock = require "moonshim.clock"
local read = require "moonshim.pod_spec.read"
local upstream = require "moonshim.upstream"

local streams = {}

---A place that a stream comes from or goes to. A plain path becomes absolute, a URI stays as it is.
---@return string
function streams.place(v, at)
  read.text(v, at)
  local ok, parsed = pcall(upstream.parse, v)
  if not ok then at:fail("%s", parsed.message) end
  return parsed.path == v and read.host_path(v, at) or v
end

---How long output waits for a fifo's reader that has gone away.
---@return integer ms
function streams.retry(v, at)
  local ok, ms = pcall(clock.ms, v)
  if not ok then at:fail("%s", ms.message) end
  return ms
end

---What of a container's streams excludes what.
---@param c moonshim.ContainerSpec
function streams.check(c, at)
  local program = c.stdout and upstream.parse(c.stdout).program
  for _, name in ipairs { "stdin", "stderr" } do
    if c[name] and upstream.parse(c[name]).program then at:at(name):fail("a program takes both outputs and is named as stdout") end
    if c[name] and program then at:at(name):fail("stdout names a program, which takes both outputs; leave this out") end
  end
  if c.tty and c.stderr then
    at:at("stderr"):fail_as("failed_precondition", "with a terminal all output comes on stdout; leave this out")
  end
end

return streams

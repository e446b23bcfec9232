---One more process, in a container or in the VM itself: what the public `exec` of both takes, and where its streams go.
local clock = require "moonshim.clock"
local err = require "moonshim.err"
local process_handle = require "moonshim.handle.process"
local task = require "moonshim.task"

local exec = {}

local EXEC_FIELDS = {
  args = true, id = true, env = true, cwd = true, user = true, stdin = true, stdout = true, stderr = true, tty = true, size = true,
  timeout = true, interactive = true,
}

local function exec_request(options)
  if type(options) ~= "table" then err.raise("invalid_argument", 'exec takes a table: exec { "ls", "/", cwd = "/tmp" }') end
  for key in pairs(options) do
    if math.type(key) ~= "integer" and not EXEC_FIELDS[key] then
      err.raise("invalid_argument", "exec: unknown field %s%s", tostring(key), require("moonshim.suggest").hint(tostring(key), EXEC_FIELDS))
    end
  end
  local args = {}
  for i, word in ipairs(options.args or options) do
    args[i] = math.type(word) == "integer" and ("%d"):format(word) or word
  end
  local timeout = options.timeout and clock.ms(options.timeout)
  if timeout == 0 then err.raise("invalid_argument", "exec: a timeout of 0 leaves no time; leave it out for no limit") end
  return {
    timeout = timeout, id = options.id, args = args, env = options.env, cwd = options.cwd, user = options.user, terminal = options.tty,
    io = { stdin = options.stdin, size = options.size }, forget = true,
  }
end

---Our own user's terminal for the process of a request.
local function user_terminal(options, request)
  for _, name in ipairs { "stdin", "stdout", "stderr", "size" } do
    if options[name] ~= nil then err.raise("invalid_argument", "exec: %s and interactive exclude each other", name) end
  end
  local user = require("moonshim.terminal").open(0)
  request.terminal, request.io = true, { stdin = { fd = 0 }, stdout = { fd = 1 }, size = user:size() }
  return user
end

---Makes it and starts it. Streams that the caller gave are borrowed until then; what is captured goes with the handle.
---@async
---@param target moonshim.Container|moonshim.Inside
---@param options table see ContainerHandle.exec
---@return moonshim.ProcessHandle
function exec.run(target, options)
  local request, captures, feed = exec_request(options), {}, nil
  local user = options.interactive and user_terminal(options, request) or nil
  if type(options.stdin) == "string" then
    feed = require("moonshim.capture").feed(options.stdin)
    request.io.stdin = { fd = feed.fd }
  end
  for _, name in ipairs { "stdout", "stderr" } do
    local given = options[name]
    if given then
      request.io[name] = given
    elseif given == nil and not user and not (options.tty and name == "stderr") then
      captures[name] = require("moonshim.capture").new()
      request.io[name] = { fd = captures[name].fd }
    end
  end
  local process
  local ok, e = xpcall(function()
    process = target:exec(request)
    for _, capture in pairs(captures) do capture:release() end
    if feed then feed:release() end
    if user then user:raw() end
    process:start()
  end, err.traceback)
  if not ok then
    if user then user:close() end
    for _, capture in pairs(captures) do capture:close() end
    if feed then feed:close() end
    error(e, 0)
  end
  local handle = process_handle.of(process, captures, user)
  if user then
    user:follow(function(rows, columns) pcall(process.resize, process, rows, columns) end)
    task.detach(function()
      process:wait()
      user:close()
    end)
  end
  if feed then -- what nobody will read any more
    task.detach(function()
      process:wait()
      feed:close()
    end)
  end
  return handle
end

return exec

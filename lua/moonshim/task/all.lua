--- task/all - several functions at once, and functions of the C core as waits.

local err = require "moonshim.err"

-- A bug outranks an outcome; otherwise what failed first is raised and carries the others.
local function combined(errors)
  for _, e in ipairs(errors) do
    if not err.is(e) then
      return e
    end
  end
  local first = errors[1]
  if #errors > 1 then
    first = err.new(first.code, first.message, first)
    first.others = table.move(errors, 2, #errors, 1, {})
  end
  return first
end

---@param task table the module to extend
---@param inner table me, new, deadline_of, shielded_call, in_order of task.lua
return function(task, inner)
  ---Runs the functions in parallel (at most `width` at once), lets every one come to its end, then returns the list of
  ---their first results or raises the first error, the later ones in `others`. They share the caller's deadline. When
  ---this wait is cancelled they are too, and are still awaited; those that had not begun never do.
  ---@async
  ---@param fns function[]
  ---@param opts { width: integer? }?
  ---@return table results with field n
  function task.all(fns, opts)
    local t = inner.me "task.all"
    local total, width = #fns, opts and opts.width or #fns
    local results, errors, started, ended = { n = total }, {}, 0, 0
    local running, finished, stopping = {}, task.signal(), false
    local due, limit = inner.deadline_of(t)

    local function start_next()
      started = started + 1
      local index = started
      local child = inner.new(t.run, t, fns[index], table.pack(), {
        scopes = due and { { due = due, ms = limit } } or {},
        on_finish = function(child)
          running[child] = nil
          ended = ended + 1
          if child.ok then
            results[index] = child.values[1]
          else
            errors[#errors + 1] = child.values[1]
          end
          if started < total and not stopping then
            start_next()
          elseif ended == started then
            finished:fire()
          end
        end,
      })
      running[child] = true
    end

    if total == 0 then
      return results
    end
    for _ = 1, math.max(1, math.min(width, total)) do
      start_next()
    end
    local ok, e = pcall(finished.wait, finished)
    if not ok then
      stopping = true
      for _, child in ipairs(inner.in_order(running)) do
        child:cancel(e)
      end
      inner.shielded_call(finished.wait, finished)
      error(e, 0)
    end
    if #errors > 0 then
      error(combined(errors), 0)
    end
    return results
  end

  -- A request: something with a `cancel` of its own.
  local function cancel_of(started)
    local kind = type(started)
    if kind ~= "userdata" and kind ~= "table" then
      return nil
    end
    local ok, cancel = pcall(function()
      return started.cancel
    end)
    return ok and cancel and function()
      cancel(started)
    end or nil
  end

  ---For core functions, which take `cb(value, err)` and themselves answer `nil, err` when they could not start:
  ---`task.callback(function(cb) return core.f(args, cb) end)`. Returns the value, raises the error. What the start
  ---returned is cancelled with the wait when it has a `cancel` method; otherwise a late answer is dropped.
  ---@async
  ---@param start fun(cb: fun(value: any, e: any)): any, any
  function task.callback(start)
    return task.await(function(resume)
      local started, e = start(function(value, why)
        if why ~= nil then
          resume.fail(err.from(why))
        else
          resume(value)
        end
      end)
      if started == nil and e ~= nil then
        error(err.from(e), 0)
      end
      return cancel_of(started)
    end)
  end
end

--- support/raised - what a function raises: the value, untouched. A function that raises nothing fails the spec.
---
---   local e = raised(task.sleep, "1h")
local assert = require "luassert"

return function(fn, ...)
  local ok, e = pcall(fn, ...)
  assert.is_false(ok)
  return e
end

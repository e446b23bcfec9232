---Operators' scripts as specs start them: each in a state of its own, which the end of the test closes.
local assert = require "luassert"
local core = require "moonshim.core"

---Use in the file that needs it: `local script = require "support.script"(before_each, after_each)`.
---@return { try: fun(source: string, options: table?): any, any, new: function, run: function, fails: function }
return function(before_each, after_each)
  local open, script = {}, {}
  before_each(function() open = {} end)
  after_each(function()
    for _, s in ipairs(open) do s:close() end
  end)

  ---What core.script answers.
  function script.try(source, options)
    local o = { source = source, chunkname = "@op.lua" }
    for k, v in pairs(options or {}) do o[k] = v end
    local s, e = core.script(o)
    open[#open + 1] = s
    return s, e
  end

  function script.new(source, options) return assert(script.try(source, options)) end

  ---Runs the body of a function in a fresh state.
  function script.run(body, options)
    return script.new("return { f = function(...) " .. body .. "\nend }", options):call "f"
  end

  ---Takes what a call answered (`how`, `e`): it failed with this code, and with this text in its message.
  function script.fails(code, text, how, e)
    assert.is_nil(how)
    assert.equal(code, e.code)
    assert.truthy(e.message:find(text, 1, true), e.message)
  end

  return script
end

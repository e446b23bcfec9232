---Default decisions about processes.
local process = {}

process.limits = {
  drain = "1s",  -- after the exit: how long output that still flows is waited for
  kill = "30s",  -- the guest's answer to a signal
  resize = "10s",
}

---The OCI process of an exec: what the request leaves open comes from the container's own process.
---@param base table the container's OCI process
---@param request { args: string[], env: string[]?, cwd: string?, user: table?, terminal: boolean? }
---@return table
function process.exec(base, request)
  local env, at = {}, {}
  for _, list in ipairs { base.env or {}, request.env or {} } do
    for _, word in ipairs(list) do
      local name = word:match("^[^=]*")
      at[name] = at[name] or #env + 1 -- the request's value takes the place of the container's
      env[at[name]] = word
    end
  end
  return {
    args = request.args, env = env, cwd = request.cwd or base.cwd or "/",
    user = request.user or base.user or { uid = 0, gid = 0 }, terminal = request.terminal or false,
    capabilities = base.capabilities, noNewPrivileges = base.noNewPrivileges, rlimits = base.rlimits,
    apparmorProfile = base.apparmorProfile, selinuxLabel = base.selinuxLabel, oomScoreAdj = base.oomScoreAdj,
  }
end

return process

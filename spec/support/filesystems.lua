--- support/filesystems - which file systems this machine's kernel can mount, for specs that need one.
---
---   if not filesystems.known "erofs" then return pending "needs a kernel with erofs" end
---
--- A file system may be a module that nobody has asked for yet, and such a one is not in /proc/filesystems. It is there after
--- the first mount that names it, also one that fails: so that is what is asked. Needs root; leaves the module, and nothing else.
local filesystems = {}

local function listed(name)
  local file = assert(io.open "/proc/filesystems")
  local text = file:read "a"
  file:close()
  return ("\n" .. text):find("\t" .. name .. "\n", 1, true) ~= nil
end

---@param name string
---@return boolean
function filesystems.known(name)
  if listed(name) then return true end
  os.execute(("unshare --mount mount -t %s none /tmp >/dev/null 2>&1"):format(name))
  return listed(name)
end

return filesystems

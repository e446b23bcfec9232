-- What scripts/soak.lua and the specs count as the descriptors of a process; they load it with dofile, from the root of the
-- checkout. A data thread keeps what it has opened once for the next stream (csrc/transport/pump.h): /dev/null and up to
-- four empty pipes. How many it has come to keep depends on how its streams met, so a count that must come out the same
-- has them apart.
local uv = require "luv"

---@param pid integer|"self"
---@return integer n of all others
---@return integer pipes that the process holds both ends of
return function(pid)
  local folder = ("/proc/%s/fd/"):format(pid)
  local n, ends, scan = 0, {}, uv.fs_scandir(folder)
  while scan do
    local name = uv.fs_scandir_next(scan)
    if not name then break end
    local link = uv.fs_readlink(folder .. name) -- nil: it was that of the scan
    if link and link:find("^pipe:") then
      ends[link] = (ends[link] or 0) + 1
    elseif link and link ~= "/dev/null" then
      n = n + 1
    end
  end
  local pipes = 0
  for _, count in pairs(ends) do
    if count > 1 then pipes = pipes + 1 else n = n + 1 end
  end
  return n, pipes
end

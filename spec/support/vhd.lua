--- support/vhd - makes fixed VHDs: the disk as it is, then a footer.
local vhd = {}

---@param bytes integer size of the disk
---@return string 512 bytes
function vhd.footer(bytes)
  local zero = ("\0"):rep(4)
  local foot = "conectix" .. string.pack(">I4I4I8I4", 2, 0x10000, -1, 0) .. zero .. string.pack(">I4I4", 0x10000, 0)
    .. string.pack(">I8I8", bytes, bytes) .. zero .. string.pack(">I4", 2)
  foot = foot .. ("\0"):rep(512 - #foot)
  local sum = 0
  for i = 1, #foot do sum = sum + foot:byte(i) end
  return foot:sub(1, 64) .. string.pack(">I4", ~sum & 0xffffffff) .. foot:sub(69)
end

---Writes the disk at `from` with a footer to `to`; `from` may be a size, for an empty disk.
---@param from string|integer
---@param to string
---@return string to
function vhd.write(from, to)
  local out = assert(io.open(to, "wb"))
  local bytes = from
  if math.type(from) == "integer" then
    assert(out:seek("set", from))
  else
    local file = assert(io.open(from, "rb"))
    local disk = file:read "a"
    file:close()
    assert(out:write(disk))
    bytes = #disk
  end
  assert(out:write(vhd.footer(bytes)))
  assert(out:close())
  return to
end

return vhd

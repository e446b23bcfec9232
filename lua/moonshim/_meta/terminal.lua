---@meta _
---core.terminal: our own user's terminal, and new ones (csrc/bind/terminal.c). The rules of core.lua hold.

---@class moonshim.core
local core = {}

---@class moonshim.core.terminal
core.terminal = {}

---@param fd integer
---@return boolean
function core.terminal.is(fd) end

---@param fd integer
---@return integer? rows 0: nobody told it its size
---@return integer|moonshim.Error columns
function core.terminal.size(fd) end

---Either side of a pseudo terminal; the programs on it get SIGWINCH.
---@param fd integer
---@param rows integer 0..65535
---@param columns integer
---@return true? ok
---@return moonshim.Error? err
function core.terminal.resize(fd, rows, columns) end

---Every byte goes through as it is, until `restore`. The modes are given back on every end of the process but SIGKILL. One
---terminal at a time; again for the same one is fine. No flag of `fd` is changed.
---@param fd integer
---@return true? ok
---@return moonshim.Error? err `failed_precondition`: no terminal
function core.terminal.raw(fd) end

---Gives the modes back. Repeatable.
function core.terminal.restore() end

---A new pseudo terminal. The caller closes both ends by sys.close.
---@return integer? master
---@return integer|moonshim.Error slave
function core.terminal.open() end

---@meta _
---core.net: links and namespaces (csrc/bind/net.c). The rules of core.lua hold.

---@class moonshim.core
local core = {}

---Links of the network namespace that this process is in. What asks the kernel answers from the loop.
---@class moonshim.core.net
core.net = {}

---@class moonshim.Links
---@field links { index: integer, name: string, kind: string, mac: string, mtu: integer, up: boolean, loopback: boolean, master: integer }[]
---@field addresses { index: integer, family: 4|6, address: string, prefix: integer }[]
---@field routes { index: integer, family: 4|6, to: string, prefix: integer, via: string?, metric: integer }[] of the main table

---@param what { netns: string? } netns: path of another namespace
---@param done fun(state: moonshim.Links?, err: moonshim.Error?)
---@return true? ok
---@return moonshim.Error? err
function core.net.state(what, done) end

---A bridge with an address, up. All of it or nothing.
---@param what { name: string, mac: string, address: string } address: with its prefix, "10.1.0.1/16"
---@param done fun(index: integer?, err: moonshim.Error?) `already_exists`
---@return true? ok
---@return moonshim.Error? err
function core.net.bridge(what, done) end

---A pair of links: one here (on a bridge), up; the other in the network namespace of a process, down.
---@param what { name: string, mac: string, bridge: string?, mtu: integer?, peer_name: string, peer_mac: string, pid: integer, start_time: integer? }
---@param done fun(index: integer?, err: moonshim.Error?) `already_exists`: a name is taken; `gone`: the process ended; `not_found`: no such bridge
---@return true? ok
---@return moonshim.Error? err
function core.net.veth(what, done) end

---Removes the link with this hardware address, if it is of this kind.
---@param what { mac: string, kind: string }
---@param done fun(ok: true?, err: moonshim.Error?) `gone`: there is none
---@return true? ok
---@return moonshim.Error? err
function core.net.remove(what, done) end

---Which network namespace is behind a path.
---@param path string
---@return { dev: integer, ino: integer }? id
---@return moonshim.Error? err `invalid_argument`: another kind of file
function core.net.namespace(path) end

---A lock on the links of this namespace, among all processes that ask for it. Never waits; the kernel ends it with the process.
---@return moonshim.netlock? lock
---@return moonshim.Error? err `failed_precondition`: another holds it
function core.net.lock() end

---@class moonshim.netlock
local netlock = {}

function netlock:close() end

---@meta moonshim.core
---Types of the C module, for editors and for scripts/check_meta.lua, which compares them with what csrc/bind registers.
---
---Rules that hold everywhere:
---  * A wrong argument raises; everything else comes back as `nil, err` with a `moonshim.Error`.
---  * A completion runs once, from the loop, on the main state, never before the call that took it has returned. If the
---    call fails, it never runs. What it raises goes to `core.on_error`.
---  * `close()` may be called any number of times; after it every method answers `nil, err` with code `gone` (the bridge:
---    `unavailable`). Objects are to-be-closed values. One with a callback out is kept alive until that has run.

-- luacheck: ignore 212 241 431 631 (stubs have no bodies)

---@class moonshim.Error
---@field code string one of core.codes
---@field message string one line, context first
---@field origin "shim"|"host"|"guest"
---@field op string? the operation that failed
---@field hresult integer? the platform's or the guest's number, unsigned
---@field traceback string? of a script
---@field holder integer? pid of who has a lock

---@class moonshim.core
---@field version string
---@field codes string[]
local core = {}

---Milliseconds of the monotonic clock.
---@return integer
function core.now() end

---CRC-32 of the bytes, as zlib has it.
---@param bytes string
---@return integer
function core.crc32(bytes) end

---Who hears of errors that a callback raised: a string with its traceback, or an error value. nil: standard error.
---@param hook fun(error: any)?
function core.on_error(hook) end

---What is alive, for leak checks: registry references and open objects.
---@return { refs: integer, objects: integer }
function core.stats() end

-- JSON -------------------------------------------------------------------------------------------------------------

---Documents that only pass through, without loss. Up to 16 MiB, 128 levels, a million values.
---@class moonshim.core.json
---@field null lightuserdata the same as cjson.null
---@field array_mt table marks arrays, so that [] stays []
core.json = {}

---Integers are exact to 64 bits, beyond that an error; 1.0 becomes 1. Of two equal names the last wins.
---@param text string
---@return any value
---@return moonshim.Error? err `invalid_argument` (with the byte), `resource_exhausted`
function core.json.decode(text) end

---Names come out sorted. A table is an array if it is marked or has the keys 1..n; empty and unmarked it is an object.
---@param value any
---@return string? text
---@return moonshim.Error? err names the place
function core.json.encode(value) end

---@param t table? a new one without
---@return table t marked as an array
function core.json.array(t) end

-- Scripts ----------------------------------------------------------------------------------------------------------

---@class moonshim.ScriptOptions
---@field source string text of the script
---@field chunkname string? "@path" for files
---@field prelude string? trusted Lua, run first in the same state; gets `verbs`: request(data, name?) asks the engine and returns its answer, result() is what the script returned; returns a table of functions that can be called by name
---@field memory integer? bytes, default 64 MiB
---@field instructions integer? per call, default 10 million
---@field cpu_ms integer? processor time per call, default 2000

---A Lua state of its own for an operator's script. Runs prelude and source.
---@param options moonshim.ScriptOptions
---@return moonshim.script? script closed by its owner
---@return moonshim.Error? err `invalid_argument` (syntax, data that cannot cross), `resource_exhausted` (a budget), `aborted` (it raised), or the code of a raised error value
function core.script(options) end

---@class moonshim.script
local script = {}

---Runs a function of the prelude's table, of the script's table, or by the number under which it crossed. "main" of
---neither gives the script's results again. Only plain data crosses; functions in results become {["function"]=number}.
---@param what string|integer
---@param ... any
---@return "return"|"yield"|nil how "yield": the request, and the number of the call, follow
---@return any ... values, or moonshim.Error
function script:call(what, ...) end

---Answers the newest waiting call.
---@param ... any
---@return "return"|"yield"|nil how
---@return any ...
function script:resume(...) end

---Answers that call.
---@param call integer
---@param ... any
---@return "return"|"yield"|nil how
---@return any ...
function script:resume_call(call, ...) end

---Drops a waiting call, which never goes on.
---@param call integer? the newest without
---@return boolean was_waiting
function script:abandon(call) end

---The engine will not call that function any more.
---@param id integer
function script:forget(id) end

---@return { memory: integer, functions: integer, waiting: integer }
function script:counts() end

function script:close() end

-- Streams ----------------------------------------------------------------------------------------------------------

---@class moonshim.core.transport
core.transport = {}

---Two streams joined in memory.
---@return moonshim.stream? a
---@return moonshim.stream|moonshim.Error b
function core.transport.pair() end

---@param path string of any length
---@param options { mode: integer? }? default 0600
---@param on_accept fun(stream: moonshim.stream) the stream is the callback's
---@return moonshim.listener? listener
---@return moonshim.Error? err `already_exists` when something stands at the path
function core.transport.listen_unix(path, options, on_accept) end

---@param path string
---@param done fun(stream: moonshim.stream?, err: moonshim.Error?) not after cancel
---@return moonshim.connect? request
---@return moonshim.Error? err
function core.transport.connect_unix(path, done) end

---@class moonshim.listener
local listener = {}

---Stops listening and unlinks the socket file if it is still ours.
function listener:close() end

---@class moonshim.connect
local connect = {}

---Then `done` never runs. Does nothing after it has.
function connect:cancel() end

function connect:close() end

---@class moonshim.stream
local stream = {}

---@param data string
---@param done fun(ok: true?, err: moonshim.Error?)?
---@return true? ok
---@return moonshim.Error? err `unavailable`, `resource_exhausted` when too much waits
function stream:write(data, done) end

---Starts, or replaces the reader.
---@param on_data fun(data: string?, err: moonshim.Error?) nil alone is the end
---@return true? ok
---@return moonshim.Error? err
function stream:read(on_data) end

---No delivery until the next read; the peer feels it in the end.
function stream:stop() end

---No more writes; the peer sees the end after what is queued.
---@param done fun(ok: true?, err: moonshim.Error?)?
---@return true? ok
---@return moonshim.Error? err
function stream:shutdown(done) end

---@return { pid: integer, uid: integer, gid: integer }? peer
---@return moonshim.Error? err
function stream:peer() end

---@param fd integer borrowed
---@param data string at least one byte
---@param done fun(ok: true?, err: moonshim.Error?)?
---@return true? ok
---@return moonshim.Error? err `unimplemented` in memory
function stream:send_fd(fd, data, done) end

---Writes that are still queued are dropped; their `done` gets `gone`.
function stream:close() end

-- Bridge -----------------------------------------------------------------------------------------------------------

---@class moonshim.BridgeOptions
---@field on_notify fun(type: integer, payload: string)?
---@field on_lost fun(err: moonshim.Error)? once; not after close
---@field max_frame integer? bytes
---@field first_id integer? above all ids used before, after an adoption

---Takes the stream: its object is closed afterwards.
---@param stream moonshim.stream
---@param options moonshim.BridgeOptions?
---@return moonshim.bridge? bridge
---@return moonshim.Error? err
function core.bridge(stream, options) end

---@class moonshim.bridge
local bridge = {}

---@param type integer a request type
---@param payload string
---@param within integer? milliseconds; nil: no deadline
---@param done fun(payload: string?, err: moonshim.Error?) `deadline_exceeded`, `unavailable`
---@return integer? id
---@return moonshim.Error? err
function bridge:call(type, payload, within, done) end

---Nobody waits for it any more; its `done` never runs.
---@param id integer
---@return boolean was_waiting
function bridge:abandon(id) end

---@return integer? id
---@return moonshim.Error? err
function bridge:next_id() end

---@return { pending: integer, sent: integer, received: integer, late: integer, unknown: integer, mismatch: integer, expired: integer }?
---@return moonshim.Error? err
function bridge:counts() end

---@return "open"|"lost"|"closed"
function bridge:state() end

---A fault, for tests: the connection breaks; `on_lost` follows.
function bridge:cut() end

---Calls that still wait fail with `unavailable`, from the loop.
function bridge:close() end

-- Device reservations ----------------------------------------------------------------------------------------------

---@class moonshim.DeviceWant
---@field bus "scsi"|"plan9"|"vpci"
---@field path string absolute, links followed
---@field read_only boolean?
---@field type string? scsi: VirtualDisk (default), PassThru, ExtensibleVirtualDisk
---@field provider string? scsi
---@field partition integer? scsi; 0 is the whole disk
---@field mount { read_only: boolean?, encrypted: boolean?, ensure_filesystem: boolean?, filesystem: string?, block_dev: boolean?, options: string[]? }? scsi
---@field restrict boolean? plan9: only `names` are visible
---@field names string[]? plan9
---@field vf integer? vpci: virtual function
---@field instance string? vpci: a fresh GUID, lower case; in facts the one that the device has

---@class moonshim.DeviceFacts: moonshim.DeviceWant
---@field guest_path string?
---@field controller integer? scsi
---@field lun integer? scsi
---@field share string? plan9
---@field port integer? plan9

---@class moonshim.DeviceEffect: moonshim.DeviceFacts
---@field id integer
---@field op "attach"|"add"|"mount"|"unmount"|"eject"|"detach"|"remove"|"assign"|"wait"

---@param config { scsi: { controllers: integer?, luns: integer?, boot: table[]? }?, plan9: { no_writable: boolean? }?, vpci: { boot: table[]? }?, no_eject: boolean?, fold_case: boolean? }?
---@return moonshim.devices? table boot disks are { controller, lun, path }, boot devices { path=, vf=, instance= }
---@return moonshim.Error? err
function core.devices(config) end

---@class moonshim.devices
local devices = {}

---Names it and chooses slot and guest path; no effect.
---@param want moonshim.DeviceWant
---@return string? id
---@return moonshim.DeviceFacts|moonshim.Error facts
function devices:make(want) end

---@param id string
---@param goal "mapped"|"released"
---@return true? ok
---@return moonshim.Error? err `not_found`: for a release that means done
function devices:aim(id, goal) end

---What may start now, each once; `done` is owed for it.
---@return moonshim.DeviceEffect?
function devices:effect() end

---@param effect integer
---@param outcome "ok"|"gone"|"failed"|"unknown"
---@param reason moonshim.Error? what those who wait will get
---@return true? ok
---@return moonshim.Error? err
function devices:done(effect, outcome, reason) end

---The next reservation that reached its aim, or why not.
---@return string? id
---@return "mapped"|"released"|"none" aim
---@return string? code nil: reached
---@return string? message
---@return moonshim.Error? err the same, whole
function devices:settled() end

---@param id string
---@param facts moonshim.DeviceFacts
---@param held "mapped"|"intended"
---@return true? ok
---@return moonshim.Error? err
function devices:restore(id, facts, held) end

---@return table[] { id, aim, pending, facts, parent = { users, state, running? }, mount = { ... } }
function devices:dump() end

---@return { reservations: integer, parents: integer, mounts: integer, running: integer, slots_used: integer, slots_boot: integer, effects: integer, late: integer }
function devices:counts() end

function devices:close() end

-- Terminals --------------------------------------------------------------------------------------------------------

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

-- System -----------------------------------------------------------------------------------------------------------

---What blocks runs on a pool of threads and answers from the loop: those functions take `done(value, err)`.
---@class moonshim.core.sys
---@field umount_flags { force: integer, detach: integer, nofollow: integer }
core.sys = {}

---@class moonshim.LoopDevice
---@field index integer
---@field major integer
---@field minor integer
---@field dev integer of the file behind it
---@field ino integer
---@field tag string

---The device clears itself when this process ends.
---@param want { path: string, read_only: boolean?, size: integer?, tag: string }
---@param done fun(device: moonshim.LoopDevice?, err: moonshim.Error?)
---@return true? ok
---@return moonshim.Error? err
function core.sys.loop_attach(want, done) end

---@param device { index: integer, dev: integer, ino: integer, tag: string }
---@param done fun(ok: true?, err: moonshim.Error?) `gone`: none, or another file behind it; `failed_precondition`: mounted
---@return true? ok
---@return moonshim.Error? err
function core.sys.loop_detach(device, done) end

---@param device { index: integer, dev: integer, ino: integer, tag: string }
---@param done fun(ok: true?, err: moonshim.Error?) `gone`
---@return true? ok
---@return moonshim.Error? err
function core.sys.loop_verify(device, done) end

---@param path string
---@param major integer
---@param minor integer
---@param mode integer? default 0600
---@return true? ok
---@return moonshim.Error? err
function core.sys.mknod_block(path, major, minor, mode) end

---A node like the device at `like`: its kind, number, owner and mode.
---@param path string nothing may be there
---@param like string
---@return { block: boolean, major: integer, minor: integer }? device
---@return moonshim.Error? err `invalid_argument` when `like` is no device
function core.sys.mknod_like(path, like) end

---A detached copy of the mount at `path`. The caller closes the descriptor by sys.close.
---@param want { path: string, read_only: boolean?, recursive: boolean?, file: boolean? }
---@param done fun(fd: integer?, err: moonshim.Error?)
---@return true? ok
---@return moonshim.Error? err
function core.sys.open_tree(want, done) end

---@param path string
---@param flags integer? see umount_flags
---@param done fun(ok: true?, err: moonshim.Error?) `gone`: not mounted; `failed_precondition`: busy
---@return true? ok
---@return moonshim.Error? err
function core.sys.umount(path, flags, done) end

---Never crosses a mount, never follows a link.
---@param path string
---@param done fun(ok: true?, err: moonshim.Error?) `failed_precondition`: something is mounted inside, which stays
---@return true? ok
---@return moonshim.Error? err
function core.sys.remove_tree(path, done) end

---@param path string
---@param bytes integer
---@param done fun(ok: true?, err: moonshim.Error?)
---@return true? ok
---@return moonshim.Error? err
function core.sys.make_sparse(path, bytes, done) end

---@param path string
---@param mode integer? default 0700
---@return true? ok
---@return moonshim.Error? err
function core.sys.mkdir_p(path, mode) end

---@param names string|string[] in every hierarchy if relative; field `within`: milliseconds each may take to empty itself, default 2000
---@param done fun(ok: true?, err: moonshim.Error?)
---@return true? ok
---@return moonshim.Error? err
function core.sys.cgroup_remove(names, done) end

---@param path string
---@param done fun(image: { format: string, inner: string, size: integer }?, err: moonshim.Error?)
---@return true? ok
---@return moonshim.Error? err
function core.sys.detect_image(path, done) end

---Closes a descriptor that core gave; 0 to 2 are refused.
---@param fd integer
function core.sys.close(fd) end

---@return integer? read_end
---@return integer|moonshim.Error write_end
function core.sys.pipe() end

---@param process { pid: integer, start_time: integer? }
---@param done fun(how: { code: integer?, signal: integer?, gone: boolean? })
---@return moonshim.watch? watch
---@return moonshim.Error? err `gone`
function core.sys.watch_process(process, done) end

---@param process { pid: integer, start_time: integer?, signal: integer }
---@return true? ok
---@return moonshim.Error? err `gone`
function core.sys.kill_process(process) end

---@param pid integer
---@return integer? ticks since boot
---@return moonshim.Error? err `gone`
function core.sys.start_time(pid) end

---@return string? id
---@return moonshim.Error? err
function core.sys.boot_id() end

---@param bytes integer 1 to 256
---@return string? text
---@return moonshim.Error? err
function core.sys.random_hex(bytes) end

---An exclusive lock, read-write and appending; the kernel ends it with the process. Never waits.
---@param path string
---@param options { create: boolean?, mode: integer? }? default true, 0600
---@return moonshim.lock? lock
---@return moonshim.Error? err `failed_precondition` names the holder
function core.sys.lock_file(path, options) end

---@class moonshim.watch
local watch = {}

---Then `done` never runs.
function watch:close() end

---@class moonshim.lock
local lock = {}

---Lent: the lock closes it.
---@return integer? fd
---@return moonshim.Error? err
function lock:fd() end

function lock:close() end

-- Network ----------------------------------------------------------------------------------------------------------

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

-- Relay ------------------------------------------------------------------------------------------------------------

---The data thread.
---@return moonshim.relay? relay
---@return moonshim.Error? err
function core.relay() end

---@class moonshim.IoEnd
---@field fd integer? borrowed; its flags are never changed
---@field path string? a fifo, or a file for outputs

---@class moonshim.IoReport
---@field stdin integer bytes that reached their end
---@field stdout integer
---@field stderr integer
---@field cut boolean the deadline came first
---@field errors { stdin: string?, stdout: string?, stderr: string? }

---@class moonshim.relay
local relay = {}

---Opens the ends and listens on dir/<port>, one connection each. `resume`: the agent dials again when a socket breaks, and
---the stream goes on where it was.
---@param want { name: string, dir: string, tty: boolean?, resume: boolean?, stdin: moonshim.IoEnd?, stdout: moonshim.IoEnd?, stderr: moonshim.IoEnd?, ports: { stdin: integer?, stdout: integer?, stderr: integer? }, on_ready: fun(err: moonshim.Error?)?, on_drained: fun(report: moonshim.IoReport)? }
---@return moonshim.io? io
---@return moonshim.Error? err
function relay:open(want) end

---Every io is closed and the thread joined.
function relay:close() end

---@class moonshim.io
local io = {}

---The process has exited: drain, for at most that long, then close; on_drained follows once.
---@param drain_ms integer
---@return true? ok
---@return moonshim.Error? err
function io:exited(drain_ms) end

---@return true? ok
---@return moonshim.Error? err
function io:close_stdin() end

---A fault, for tests: the socket of one stream breaks.
---@param stream "stdin"|"stdout"|"stderr"
---@return true? ok
---@return moonshim.Error? err
function io:cut(stream) end

---@return { stdin: integer, stdout: integer, stderr: integer } bytes so far
function io:counts() end

function io:close() end

return core

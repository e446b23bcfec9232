---@meta _
---core.sys: mounts, files, control groups (csrc/bind/sys.c). The rules of core.lua hold.

---@class moonshim.core
local core = {}

---What blocks runs on a pool of threads and answers from the loop: those functions take `done(value, err)`.
---@class moonshim.core.sys
---@field umount_flags { force: integer, detach: integer, nofollow: integer }
core.sys = {}

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
---@param flags integer? of umount_flags; others raise
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

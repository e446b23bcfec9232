/* agent/fs.h - file system helpers that never follow a link out of the place they were given.
 *
 * Layer      agent; uses sys/fd.h for closing.
 * Words      in root = every link and every ".." is resolved below a directory descriptor (RESOLVE_IN_ROOT), as a
 *            process inside that root would see it; plain = no link is followed at all (RESOLVE_NO_SYMLINKS).
 * Ownership  descriptors given are closed by the caller; all are O_CLOEXEC.
 * Errors     functions giving a descriptor or 0 answer -1 with errno; functions with `err` a code. */
#ifndef MSH_AGENT_FS_H
#define MSH_AGENT_FS_H
#include "base/buf.h"
#include "base/err.h"
#include "sys/fd.h"
#include <stdint.h>
#include <sys/types.h>

/* openat2 with O_CLOEXEC; retried when the kernel asks for it. `resolve` = RESOLVE_* bits. */
int msh_fs_open(int dir, const char *path, int flags, mode_t mode, uint64_t resolve);

/* mkdir -p of an absolute path, plain. Directories that exist keep their mode. */
msh_code msh_fs_mkdirs(const char *path, mode_t mode, msh_err *err);
/* mkdir -p of `path` in root; gives an O_PATH descriptor of the last directory. */
int msh_fs_mkdirs_in_root(int root, const char *path, mode_t mode);
/* An O_PATH descriptor of an absolute directory or file, plain: a link, also as the last part, is refused. */
msh_code msh_fs_open_plain(const char *path, int *fd, msh_err *err);

/* Whole small regular file, in root, at most `limit` bytes. ENOENT, EFBIG, and EINVAL for what is no file (and is not
 * opened, then) as errno. AT_FDCWD for `root`: an ordinary look-up of an absolute path, for files that belong to nobody's
 * image. */
int msh_fs_read(int root, const char *path, size_t limit, msh_buf *out);
/* Creates or replaces a regular file of an absolute path, plain, with exactly this mode. Whatever else is there stays. */
msh_code msh_fs_write(const char *path, msh_slice data, mode_t mode, msh_err *err);
/* Writes to a file that exists (cgroup and sysfs files). -1 with errno. */
int msh_fs_poke(const char *path, const char *text);

/* "/proc/self/fd/N": the name that mount(2) takes for an open file. `out` has MSH_FD_PATH bytes. */
#define MSH_FD_PATH 32
const char *msh_fd_path(int fd, char *out);
#endif

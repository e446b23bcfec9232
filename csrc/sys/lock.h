/* sys/lock.h - a file that one process at a time holds.
 *
 * Layer      sys.
 * Ownership  a lock is its descriptor: it may be read, written and appended to; msh_lock_release ends it. The
 *            kernel ends it with the process.
 * Always     the locked file is the one that stands at the path: a file unlinked or replaced while we
 *            waited is noticed and the lock is tried again on the new one. */
#ifndef MSH_SYS_LOCK_H
#define MSH_SYS_LOCK_H
#include "base/err.h"
#include <stdbool.h>
#include <sys/types.h>

/* Gives a descriptor, O_RDWR | O_APPEND | O_CLOEXEC, exclusively locked; never waits. Held by another:
 * failed_precondition, the message names the holder and *holder (may be NULL) is its pid, 0 when it cannot
 * be told. not_found when there is no file and `create` is false. `mode` is for a created file. */
msh_code msh_lock_take(const char *path, bool create, unsigned mode, int *fd, pid_t *holder, msh_err *err);
void msh_lock_release(int *fd);
#endif

/* sys/mounts.h - detached mounts and unmounting.
 *
 * Layer      sys. Everything here may block, so it belongs on the pool.
 * Ownership  msh_tree_open gives a descriptor; while nobody moves it, closing it dissolves the mount, so
 *            nothing can leak on the host. */
#ifndef MSH_SYS_MOUNTS_H
#define MSH_SYS_MOUNTS_H
#include "base/err.h"
#include <stdbool.h>

typedef struct msh_tree_want {
    const char *path; /* absolute */
    bool read_only;   /* the copy alone is read-only; with `recursive` every mount in it */
    bool recursive;   /* take the mounts below along */
    bool file;        /* path must be a file (else it must be a folder): invalid_argument otherwise */
} msh_tree_want;

/* A detached copy of the mount at `path`, to be handed on and attached with move_mount. nosuid/nodev are
 * left as the source has them. */
msh_code msh_tree_open(const msh_tree_want *want, int *fd, msh_err *err);
/* Flags are those of umount2 (MNT_DETACH, MNT_FORCE, UMOUNT_NOFOLLOW). Not mounted (or absent) is gone. Busy
 * is failed_precondition. */
msh_code msh_umount(const char *path, int flags, msh_err *err);
#endif

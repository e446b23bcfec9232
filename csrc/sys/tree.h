/* sys/tree.h - folders, nodes and trees; everything here may block, so it belongs on the pool.
 *
 * Layer      sys.
 * Words      tree = a folder and what is below it on the same mount.
 * Always     1. msh_remove_tree never crosses a mount, never follows a symbolic link, and removes a mount
 *               point only by rmdir; a user's folder bound into the tree cannot lose a file.
 *            2. nothing here recurses on the C stack, and the open folders are few whatever the depth. */
#ifndef MSH_SYS_TREE_H
#define MSH_SYS_TREE_H
#include "base/err.h"
#include <stdbool.h>

typedef struct msh_device_id {
    bool block; /* else a character device */
    uint32_t major, minor;
} msh_device_id;

/* Makes every missing folder of `path` with `mode` (before the umask). An existing folder is fine; anything
 * else in the way is already_exists. */
msh_code msh_mkdir_p(const char *path, unsigned mode, msh_err *err);
/* A new sparse file of `bytes`, mode 0600. already_exists when there is one; left absent on failure. One of 1 MiB and more is
 * a disk to be, which is of no use where not even the first MiB is free: resource_exhausted. */
msh_code msh_make_sparse(const char *path, uint64_t bytes, msh_err *err);
/* A block device node. An existing node of the same kind and number is fine, another is already_exists. */
msh_code msh_mknod_block(const char *path, uint32_t major, uint32_t minor, unsigned mode, msh_err *err);
/* A node like the device at `like` (its kind, number, owner and mode, whatever the umask). invalid_argument when that is no
 * device; already_exists when something is at `path`. */
msh_code msh_mknod_like(const char *path, const char *like, msh_device_id *out, msh_err *err);
/* Removes `path` (a file, a link itself, or a whole tree). Absent is ok. What is mounted inside stays whole,
 * and so do the folders above it: then the rest is removed and the answer is failed_precondition, naming the
 * first mount point met. The last component is never followed. */
msh_code msh_remove_tree(const char *path, msh_err *err);
#endif

/* agent/mounts.h - taking mounts away without ever touching what was mounted.
 *
 * Layer      agent; blocks, so it belongs on a pool thread. Paths are cleaned, absolute, and no link in them is followed.
 * Always     a mount point goes by rmdir alone; a folder with content is an error, not a reason to delete it. */
#ifndef MSH_AGENT_MOUNTS_H
#define MSH_AGENT_MOUNTS_H
#include "base/err.h"
#include <stddef.h>

/* Unmounts all that is stacked on `path`, then rmdir. Missing or not mounted is fine; busy is failed_precondition. */
msh_code msh_unmount_point(const char *path, msh_err *err);
/* Unmounts only; the folder stays. */
msh_code msh_unmount(const char *path, msh_err *err);
/* Unmounts what is mounted at or below `path`, innermost first; what cannot be unmounted is logged and left. */
void msh_unmount_below(const char *path);
/* How many mounts are at or below `path`. */
size_t msh_mounts_below(const char *path);
/* Makes `path` a mount point of itself, recursively shared. */
msh_code msh_mount_shared(const char *path, msh_err *err);
#endif

/* sys/fd.h - descriptors: one owner each, close-on-exec always.
 *
 * Layer      sys: base and the system.
 * Ownership  a function that gives a descriptor gives it to the caller, who ends it with msh_fd_close.
 * Always     errno survives msh_fd_close, so it may stand on any way out. */
#ifndef MSH_SYS_FD_H
#define MSH_SYS_FD_H
#include "base/err.h"
#include <stddef.h>

/* Closes *fd unless it is -1 and sets it to -1, so that a second call does nothing. */
void msh_fd_close(int *fd);
/* Gives a duplicate (same open file, so the same flags and offset) numbered 3 or higher. */
msh_code msh_fd_dup(int fd, int *out, msh_err *err);
/* Gives both ends of a blocking pipe. */
msh_code msh_fd_pipe(int *read_end, int *write_end, msh_err *err);
#endif

/* sys/fd.h - descriptors: one owner each, close-on-exec always.
 *
 * Layer      sys: base and the system.
 * Ownership  a function that gives a descriptor gives it to the caller, who ends it with msh_fd_close.
 * Always     errno survives msh_fd_close, so it may stand on any way out. */
#ifndef MSH_SYS_FD_H
#define MSH_SYS_FD_H
#include "base/err.h"
#include <stddef.h>
#include <stdint.h>

/* Closes *fd unless it is -1 and sets it to -1, so that a second call does nothing. */
void msh_fd_close(int *fd);
/* Gives a duplicate (same open file, so the same flags and offset) numbered 3 or higher. */
msh_code msh_fd_dup(int fd, int *out, msh_err *err);
/* Gives both ends of a blocking pipe. */
msh_code msh_fd_pipe(int *read_end, int *write_end, msh_err *err);
/* Lets this process open as many descriptors as its hard limit allows; returns the soft limit that it had, for what it
 * starts: programs that use select, or close every number there is, want it low. */
uint64_t msh_fd_limit_raise(void);
/* Sets the soft limit. Safe between fork and exec. */
void msh_fd_limit_set(uint64_t soft);
#endif

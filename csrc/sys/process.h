/* sys/process.h - processes named by pid and start time, held by pidfd.
 *
 * Layer      sys.
 * Words      start time = clock ticks since boot, field 22 of /proc/<pid>/stat; with the pid (and the boot
 *            id) it names one incarnation.
 * Always     a signal reaches the process that was named or nobody: the pidfd is opened first, then the
 *            start time is compared, then the signal goes through the pidfd.
 * See        csrc/sys/process_test.c */
#ifndef MSH_SYS_PROCESS_H
#define MSH_SYS_PROCESS_H
#include "base/err.h"
#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

typedef struct msh_exit {
    bool gone;  /* it ended, and how it ended cannot be told (not our child, or reaped elsewhere) */
    int code;   /* exit code, 0 when killed */
    int signal; /* 0 when it exited */
} msh_exit;

/* gone when there is no such process (a zombie still counts as one). */
msh_code msh_process_start_time(pid_t pid, uint64_t *ticks, msh_err *err);
/* Gives a pidfd. gone when the process ended or is another incarnation. start_time 0 = do not compare. */
msh_code msh_process_open(pid_t pid, uint64_t start_time, int *pidfd, msh_err *err);
msh_code msh_process_signal(int pidfd, int signal, msh_err *err); /* gone when it has ended */
/* open + signal + close */
msh_code msh_process_kill(pid_t pid, uint64_t start_time, int signal, msh_err *err);
/* Reaps a child, or tells that another's process has ended. Waits at most `within_ms` (0 = look, do not
 * wait); again = still running. */
msh_code msh_process_wait(int pidfd, uint64_t within_ms, msh_exit *out, msh_err *err);

/* Watching from a loop. `on_exit` runs once, from the loop, never after msh_watch_close. A watch looks
 * and never reaps: children started by uv_spawn stay libuv's. Of a process that is not our child, and of a child
 * that its owner has reaped before the watch looked, the answer is `gone`. */
typedef struct msh_watch msh_watch;
typedef void (*msh_watch_fn)(void *ctx, const msh_exit *how);
msh_code msh_watch_start(uv_loop_t *loop, pid_t pid, uint64_t start_time, msh_watch_fn on_exit, void *ctx,
                         msh_watch **out, msh_err *err);
/* Takes the watch (NULL is fine); also called after on_exit, and from inside it. */
void msh_watch_close(msh_watch *w);
#endif

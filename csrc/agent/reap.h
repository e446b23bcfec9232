/* agent/reap.h - the one owner of waitpid: children of ours, helpers, orphans of containers.
 *
 * Layer      agent.
 * Words      window = the time in which a pid may end before its name is known here (crun makes the process, we read the
 *            pid from a file). While a window is open, exits that nobody claimed are kept.
 * Threads    run and start: any thread. open, close, watch, window calls: the loop's thread; callbacks run there.
 * Always     1. a pid that is watched or run is reaped here alone, so until its exit was delivered it names that process
 *               and a signal to it cannot hit another.
 *            2. every watch is called exactly once, from the loop, never from inside the call that made it. */
#ifndef MSH_AGENT_REAP_H
#define MSH_AGENT_REAP_H
#include "agent/spawn.h"
#include "base/err.h"
#include <uv.h>

typedef struct msh_reap msh_reap;
typedef void (*msh_reap_fn)(void *ctx, pid_t pid, int wait_status);

msh_code msh_reap_open(uv_loop_t *loop, msh_reap **out, msh_err *err);

/* Runs a helper to its end; after `within_ms` it is killed: deadline_exceeded. Blocks; not for the loop's thread. */
msh_code msh_reap_run(msh_reap *r, const msh_spawn *s, unsigned within_ms, int *wait_status, msh_err *err);
/* Starts a child and leaves it to msh_reap_watch; a window must be open. */
msh_code msh_reap_start(msh_reap *r, const msh_spawn *s, pid_t *pid, msh_err *err);

/* Opens a window and gives its number. Every window is closed again. */
uint64_t msh_reap_window(msh_reap *r);
void msh_reap_window_close(msh_reap *r);
/* `pid` was made after `window` was opened, which is still open. */
msh_code msh_reap_watch(msh_reap *r, pid_t pid, uint64_t window, msh_reap_fn fn, void *ctx, msh_err *err);
#endif

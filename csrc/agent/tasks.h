/* agent/tasks.h - blocking work on threads, in order where order matters.
 *
 * Layer      agent; libuv's thread pool.
 * Words      key = what a job works on (a container id, a mount point, a device). Two jobs with a common key run one after
 *            the other in the order of submission, unless both only share it.
 * Threads    submit: the loop's thread; `work` runs on a pool thread, `done` on the loop's.
 * Always     `done` runs exactly once for every job that was submitted. */
#ifndef MSH_AGENT_TASKS_H
#define MSH_AGENT_TASKS_H
#include "base/err.h"
#include <uv.h>

#define MSH_TASKS_MAX  2048 /* waiting and running */
#define MSH_TASKS_KEYS 4

typedef struct msh_tasks msh_tasks;

typedef struct msh_key {
    uint64_t hash; /* 0: none */
    bool shared;
} msh_key;

/* `space` keeps names of different things apart: "container", "path", "scsi". */
msh_key msh_key_of(const char *space, const char *name, bool shared);

typedef struct msh_task {
    msh_key key[MSH_TASKS_KEYS];
    void (*begin)(
        void *ctx); /* loop thread, right before work, when no task with a common key runs; may be NULL.
                               * What was looked up at submission may be gone by now: this is the place to look again. */
    void (*work)(void *ctx);
    void (*done)(void *ctx);
    void *ctx;
} msh_task;

msh_code msh_tasks_open(uv_loop_t *loop, msh_tasks **out, msh_err *err);
/* resource_exhausted when too many are waiting; then nothing runs. Copies *job. */
msh_code msh_tasks_submit(msh_tasks *jobs, const msh_task *job, msh_err *err);
#endif

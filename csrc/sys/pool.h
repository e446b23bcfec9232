/* sys/pool.h - a bounded pool of threads for calls that block, so that the loop always answers.
 *
 * Layer      sys, over libuv's threads; the system calls themselves are elsewhere.
 * Words      job = one blocking call; `work` runs on a pool thread, `done` on the loop.
 * Ownership  the job's memory is the submitter's; it must live until `done` or `drop` has run.
 * Always     1. exactly one of `done` and `drop` runs for every accepted job; `done` never inside
 *               msh_pool_submit.
 *            2. after msh_pool_close no `done` runs. `drop` only frees: it may run on any thread.
 *            3. msh_pool_close never waits for a stuck call: a running job is left to its thread, which
 *               drops it when the call comes back.
 *            4. the loop stays alive exactly while jobs are out.
 * See        csrc/sys/pool_test.c */
#ifndef MSH_SYS_POOL_H
#define MSH_SYS_POOL_H
#include "base/err.h"
#include "base/list.h"
#include <uv.h>

typedef struct msh_pool msh_pool;
typedef struct msh_job msh_job;

struct msh_job {
    void (*work)(msh_job *job); /* pool thread; leaves its result in the job's surroundings */
    void (*done)(msh_job *job); /* loop thread */
    void (*drop)(msh_job *job); /* any thread, once, instead of done */
    msh_node node;              /* the pool's */
};

/* At most `threads` threads (started when needed) and `queue` waiting jobs. Loop thread. */
msh_code msh_pool_new(uv_loop_t *loop, unsigned threads, unsigned queue, msh_pool **out, msh_err *err);
/* Loop thread. resource_exhausted when the queue is full; then nothing was taken. */
msh_code msh_pool_submit(msh_pool *p, msh_job *job, msh_err *err);
unsigned msh_pool_pending(const msh_pool *p); /* jobs out: waiting, running or not yet delivered */
/* Takes the pool (NULL is fine). Jobs that have not started are dropped here and now. Loop thread; the loop
 * has to turn once more to let go of the handle. */
void msh_pool_close(msh_pool *p);
#endif

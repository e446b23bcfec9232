/* bind/job.h - a call that blocks, asked for by Lua: it runs on the pool of its state and answers from the loop.
 *
 * Layer      bind, over sys/pool.
 * Words      job = the call with its arguments and its outcome; each file that has some embeds this struct in its own.
 * Ownership  msh_l_job_submit takes the job, also when it fails. From then on it is freed by its own `free`: on the loop
 *            after the delivery, or on any thread when the state closes first. What `push` moves into Lua it takes out of
 *            the job, so that `free` frees what nobody got.
 * Always     1. the callback runs once, from the loop, never inside the submitting call; never after the state has begun
 *               to close, nor when the submit failed.
 *            2. `work` and `free` see no Lua. */
#ifndef MSH_BIND_JOB_H
#define MSH_BIND_JOB_H
#include "base/err.h"
#include "bind/call.h"
#include "sys/pool.h"

typedef struct msh_l_job msh_l_job;
struct msh_l_job {
    void (*work)(msh_l_job *j); /* pool thread; leaves rc and err */
    msh_l_push push;            /* of a good outcome, gets the job; NULL: true */
    void (*free)(msh_l_job *j);
    msh_code rc;
    msh_err err;
    /* of job.c */
    msh_job base;
    msh_l_cx *cx;
    int ref; /* not given back when the job is dropped, since then the state is closing */
};

/* Takes the job (NULL: there was no memory for it); the callback is the function at `cb`, checked. Returns what the binding
 * returns: true | nil, err. [-0, +1..2, m: only then the job leaks, with a dying state] */
int msh_l_job_submit(lua_State *L, msh_l_job *j, int cb);
#endif

#include "bind/job.h"

#define THREADS 6
#define QUEUE   4096 /* jobs that may wait */

static void close_pool(msh_l_cx *cx)
{
    msh_pool_close(cx->pool);
    cx->pool = NULL;
}

/* The pool of the state, made when first asked for; NULL and *err when it cannot be. */
static msh_pool *pool_of(msh_l_cx *cx, msh_err *err)
{
    if (cx->pool == NULL && msh_pool_new(cx->loop, THREADS, QUEUE, &cx->pool, err) == MSH_OK)
        msh_l_cx_on_close(cx, close_pool);
    return cx->pool;
}

static void work(msh_job *base)
{
    msh_l_job *j = MSH_LIST_OF(base, msh_l_job, base);
    j->work(j);
}

static void done(msh_job *base)
{
    msh_l_job *j = MSH_LIST_OF(base, msh_l_job, base);
    if (j->rc != MSH_OK)
        msh_l_deliver(j->cx, &j->ref, msh_l_push_failed, &j->err);
    else
        msh_l_deliver(j->cx, &j->ref, j->push != NULL ? j->push : msh_l_push_true, j);
    j->free(j);
}

static void drop(msh_job *base)
{
    msh_l_job *j = MSH_LIST_OF(base, msh_l_job, base);
    j->free(j);
}

int msh_l_job_submit(lua_State *L, msh_l_job *j, int cb)
{
    msh_err err = {0};
    msh_l_cx *cx = msh_l_cx_of(L);
    if (j == NULL) {
        msh_fail(&err, MSH_RESOURCE_EXHAUSTED, "no memory");
        return msh_l_fail(L, &err);
    }
    j->base = (msh_job){.work = work, .done = done, .drop = drop};
    j->cx = cx;
    msh_pool *pool = pool_of(cx, &err);
    if (pool == NULL) {
        j->free(j);
        return msh_l_fail(L, &err);
    }
    j->ref = msh_l_ref(cx, L, cb);
    if (msh_pool_submit(pool, &j->base, &err) != MSH_OK) {
        msh_l_unref(cx, &j->ref);
        j->free(j);
        return msh_l_fail(L, &err);
    }
    lua_pushboolean(L, 1);
    return 1;
}

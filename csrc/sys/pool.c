#include "sys/pool.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

enum { STACK = 256 << 10, MOST_THREADS = 64 };

/* Shared by the owner and the threads, freed by whoever leaves last: a thread stuck in a system call outlives the
 * pool without harm. */
typedef struct core {
    uv_mutex_t lock;
    uv_cond_t work_there;
    msh_node waiting, finished;
    unsigned n_waiting, idle, refs;
    bool closed;
    uv_async_t *wake; /* not touched once closed */
} core;

struct msh_pool {
    uv_async_t wake;
    core *core; /* NULL once closed */
    unsigned threads, max_threads, max_queue;
    unsigned pending;
};

/* Takes one reference. Called with the lock held, leaves without it. */
static void core_leave(core *c)
{
    bool last = --c->refs == 0;
    uv_mutex_unlock(&c->lock);
    if (!last)
        return;
    uv_cond_destroy(&c->work_there);
    uv_mutex_destroy(&c->lock);
    free(c);
}

static void thread_main(void *arg)
{
    core *c = arg;
    uv_mutex_lock(&c->lock);
    while (!c->closed) {
        msh_node *n = msh_list_shift(&c->waiting);
        if (n == NULL) {
            c->idle++;
            uv_cond_wait(&c->work_there, &c->lock);
            c->idle--;
            continue;
        }
        c->n_waiting--;
        msh_job *job = MSH_LIST_OF(n, msh_job, node);
        uv_mutex_unlock(&c->lock);
        job->work(job);
        uv_mutex_lock(&c->lock);
        if (!c->closed) {
            msh_list_push(&c->finished, &job->node);
            uv_async_send(c->wake); /* under the lock: the handle is closed only after `closed` was set */
        } else {
            uv_mutex_unlock(&c->lock);
            job->drop(job);
            uv_mutex_lock(&c->lock);
        }
    }
    core_leave(c);
}

static void on_wake(uv_async_t *h)
{
    msh_pool *p = h->data;
    while (p->core != NULL) { /* a `done` may close the pool; the struct stays until the handle has closed */
        uv_mutex_lock(&p->core->lock);
        msh_node *n = msh_list_shift(&p->core->finished);
        uv_mutex_unlock(&p->core->lock);
        if (n == NULL)
            return;
        if (--p->pending == 0)
            uv_unref((uv_handle_t *)&p->wake);
        msh_job *job = MSH_LIST_OF(n, msh_job, node);
        job->done(job);
    }
}

static core *core_new(void)
{
    core *c = calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    if (uv_mutex_init(&c->lock) != 0) {
        free(c);
        return NULL;
    }
    if (uv_cond_init(&c->work_there) != 0) {
        uv_mutex_destroy(&c->lock);
        free(c);
        return NULL;
    }
    msh_list_init(&c->waiting);
    msh_list_init(&c->finished);
    c->refs = 1;
    return c;
}

msh_code msh_pool_new(uv_loop_t *loop, unsigned threads, unsigned queue, msh_pool **out, msh_err *err)
{
    if (threads == 0 || threads > MOST_THREADS || queue == 0)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "pool of %u threads, queue of %u", threads, queue);
    msh_pool *p = calloc(1, sizeof *p);
    core *c = p != NULL ? core_new() : NULL;
    if (c == NULL) {
        free(p);
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "make a pool: no memory");
    }
    int e = uv_async_init(loop, &p->wake, on_wake);
    if (e != 0) {
        uv_mutex_lock(&c->lock);
        core_leave(c);
        free(p);
        return msh_fail_errno(err, -e, "make a pool");
    }
    uv_unref((uv_handle_t *)&p->wake);
    p->wake.data = p;
    c->wake = &p->wake;
    p->core = c;
    p->max_threads = threads;
    p->max_queue = queue;
    *out = p;
    return MSH_OK;
}

/* With the lock held. True when a thread will look at the queue. */
static bool grow(msh_pool *p)
{
    uv_thread_t id;
    uv_thread_options_t how = {.flags = UV_THREAD_HAS_STACK_SIZE, .stack_size = STACK};
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* inherited: signals are for the owner's thread */
    p->core->refs++;
    int e = uv_thread_create_ex(&id, &how, thread_main, p->core);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (e != 0) {
        p->core->refs--;
        return p->threads > 0;
    }
    pthread_detach(id); /* never joined: it may be stuck in the kernel when the pool goes */
    p->threads++;
    return true;
}

msh_code msh_pool_submit(msh_pool *p, msh_job *job, msh_err *err)
{
    core *c = p->core;
    msh_code rc = MSH_OK;
    uv_mutex_lock(&c->lock);
    if (c->n_waiting >= p->max_queue)
        rc = msh_fail(err, MSH_RESOURCE_EXHAUSTED, "%u calls wait already", c->n_waiting);
    else if (c->n_waiting >= c->idle && p->threads < p->max_threads && !grow(p))
        rc = msh_fail(err, MSH_RESOURCE_EXHAUSTED, "start a thread");
    if (rc == MSH_OK) {
        msh_list_push(&c->waiting, &job->node);
        c->n_waiting++;
        uv_cond_signal(&c->work_there);
    }
    uv_mutex_unlock(&c->lock);
    if (rc == MSH_OK && p->pending++ == 0)
        uv_ref((uv_handle_t *)&p->wake);
    return rc;
}

unsigned msh_pool_pending(const msh_pool *p)
{
    return p->pending;
}

static void on_closed(uv_handle_t *h)
{
    free(h->data);
}

void msh_pool_close(msh_pool *p)
{
    if (p == NULL || p->core == NULL)
        return;
    core *c = p->core;
    p->core = NULL;
    uv_mutex_lock(&c->lock);
    c->closed = true;
    msh_node dropped;
    msh_list_init(&dropped);
    msh_node *n;
    while ((n = msh_list_shift(&c->waiting)) != NULL || (n = msh_list_shift(&c->finished)) != NULL)
        msh_list_push(&dropped, n);
    uv_cond_broadcast(&c->work_there);
    core_leave(c);
    while ((n = msh_list_shift(&dropped)) != NULL) {
        msh_job *job = MSH_LIST_OF(n, msh_job, node);
        job->drop(job);
    }
    uv_close((uv_handle_t *)&p->wake, on_closed);
}

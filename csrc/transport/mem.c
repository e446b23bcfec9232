#include "transport/mem.h"
#include "base/list.h"
#include "transport/defer.h"
#include <stdlib.h>
#include <string.h>

enum { TURNS = 16 }; /* deliveries of one direction before the loop may do something else */

typedef struct mem_write {
    msh_node node;
    msh_stream_done done;
    void *ctx;
    bool shut;
    size_t at, n;
    char data[];
} mem_write;

struct mem_pair;
typedef struct mem_end {
    msh_stream base;
    struct mem_pair *pair;
    struct mem_end *peer;
    msh_node queue; /* mem_write, on the way to the peer */
    msh_reader reader;
    bool reading, ended, shut, closed;
} mem_end;

typedef struct mem_pair {
    mem_end end[2];
    msh_defer defer;
} mem_pair;

static void arm(mem_end *m)
{
    msh_defer_arm(&m->pair->defer);
}

/* The oldest write is through, or will never be. */
static void finish(mem_end *m, const msh_err *why)
{
    mem_write *w = MSH_LIST_OF(msh_list_shift(&m->queue), mem_write, node);
    m->base.queued -= w->n - w->at;
    msh_stream_done done = w->done;
    void *ctx = w->ctx;
    free(w);
    if (done != NULL)
        done(ctx, why);
}

/* One step of what `m` has written; false when there is nothing to do now. */
static bool step(mem_end *m)
{
    mem_end *to = m->peer;
    if (msh_list_empty(&m->queue)) {
        if (!m->closed || to->closed || to->ended || !to->reading)
            return false;
        to->ended = true; /* a closed writer ends after what it has written */
        to->reader.end(to->reader.ctx, NULL);
        return true;
    }
    mem_write *w = MSH_LIST_OF(m->queue.next, mem_write, node);
    if (to->closed) {
        msh_err err = {0};
        msh_fail(&err, MSH_UNAVAILABLE, "the peer has closed");
        finish(m, &err);
        return true;
    }
    if (w->at == w->n && !w->shut) { /* an empty write: a mark in the stream */
        finish(m, NULL);
        return true;
    }
    if (!to->reading || to->ended)
        return false;
    if (w->shut) {
        to->ended = true;
        finish(m, NULL);
        if (!to->closed)
            to->reader.end(to->reader.ctx, NULL);
        return true;
    }
    size_t n = w->n - w->at < MSH_STREAM_READ ? w->n - w->at : MSH_STREAM_READ;
    const char *p = w->data + w->at;
    w->at += n;
    m->base.queued -= n;
    bool whole = w->at == w->n;
    if (whole)
        msh_list_remove(&w->node); /* ours now: the reader may close everything */
    msh_stream_done done = whole ? w->done : NULL;
    void *ctx = w->ctx;
    to->reader.data(to->reader.ctx, (msh_slice){p, n}, -1);
    if (whole)
        free(w);
    if (done != NULL && !m->closed)
        done(ctx, NULL);
    return true;
}

static void deliver(void *ctx)
{
    mem_pair *p = ctx;
    bool more[2] = {true, true};
    for (int turn = 0; turn < TURNS && (more[0] || more[1]); turn++)
        for (int i = 0; i < 2; i++)
            more[i] = step(&p->end[i]);
    if ((more[0] || more[1]) && !(p->end[0].closed && p->end[1].closed))
        msh_defer_arm(&p->defer);
}

static msh_code put(mem_end *m, msh_slice data, bool shut, msh_stream_done done, void *ctx, msh_err *err)
{
    if (m->peer->closed)
        return msh_fail(err, MSH_UNAVAILABLE, "the peer has closed");
    mem_write *w = malloc(sizeof *w + data.n);
    if (w == NULL)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "write: no memory");
    *w = (mem_write){.done = done, .ctx = ctx, .shut = shut, .n = data.n};
    if (data.n > 0)
        memcpy(w->data, data.p, data.n);
    m->base.queued += data.n;
    m->shut = m->shut || shut;
    msh_list_push(&m->queue, &w->node);
    arm(m);
    return MSH_OK;
}

static msh_code mem_write_op(msh_stream *s, msh_slice data, int pass, msh_stream_done done, void *ctx,
                             msh_err *err)
{
    mem_end *m = (mem_end *)s;
    if (pass >= 0)
        return msh_fail(err, MSH_UNIMPLEMENTED, "no descriptors through memory");
    if (m->shut)
        return msh_fail(err, MSH_UNAVAILABLE, "write after the end of writing");
    return put(m, data, false, done, ctx, err);
}

static msh_code mem_read_op(msh_stream *s, const msh_reader *r, msh_err *err)
{
    mem_end *m = (mem_end *)s;
    if (m->ended)
        return msh_fail(err, MSH_FAILED_PRECONDITION, "read after the end");
    m->reader = *r;
    m->reading = true;
    if (!msh_list_empty(&m->peer->queue) || m->peer->closed)
        arm(m);
    return MSH_OK;
}

static void mem_stop_op(msh_stream *s)
{
    ((mem_end *)s)->reading = false;
}

static msh_code mem_shutdown_op(msh_stream *s, msh_stream_done done, void *ctx, msh_err *err)
{
    mem_end *m = (mem_end *)s;
    if (m->shut)
        return msh_fail(err, MSH_FAILED_PRECONDITION, "writing has ended already");
    return put(m, (msh_slice){NULL, 0}, true, done, ctx, err);
}

static void free_pair(void *ctx)
{
    free(ctx);
}

static void drop_queue(mem_end *m)
{
    msh_node *n;
    while ((n = msh_list_shift(&m->queue)) != NULL)
        free(MSH_LIST_OF(n, mem_write, node));
}

static void mem_close_op(msh_stream *s)
{
    mem_end *m = (mem_end *)s;
    if (m->closed)
        return;
    m->closed = true;
    m->reading = false;
    /* What was written still arrives, as it does from a socket; only nobody is told. */
    for (msh_node *n = m->queue.next; n != &m->queue; n = n->next)
        MSH_LIST_OF(n, mem_write, node)->done = NULL;
    if (!m->peer->closed) {
        arm(m);
        return;
    }
    drop_queue(m);
    drop_queue(m->peer);
    msh_defer_close(&m->pair->defer, free_pair);
}

static msh_code mem_peer_op(msh_stream *s, msh_peer *out, msh_err *err)
{
    (void)s, (void)out;
    return msh_fail(err, MSH_UNIMPLEMENTED, "no peer to name in memory");
}

static msh_code mem_take_fds_op(msh_stream *s, msh_err *err)
{
    (void)s;
    return msh_fail(err, MSH_UNIMPLEMENTED, "no descriptors through memory");
}

static const msh_stream_ops mem_ops = {
    .write = mem_write_op,
    .read = mem_read_op,
    .stop = mem_stop_op,
    .shutdown = mem_shutdown_op,
    .close = mem_close_op,
    .peer = mem_peer_op,
    .take_fds = mem_take_fds_op,
};

msh_code msh_mem_pair(uv_loop_t *loop, msh_stream **a, msh_stream **b, msh_err *err)
{
    mem_pair *p = calloc(1, sizeof *p);
    if (p == NULL)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "make a pair of streams: no memory");
    msh_defer_init(loop, &p->defer, deliver, p);
    for (int i = 0; i < 2; i++) {
        mem_end *m = &p->end[i];
        m->base = (msh_stream){.ops = &mem_ops, .loop = loop, .limit = MSH_STREAM_LIMIT};
        m->pair = p;
        m->peer = &p->end[1 - i];
        msh_list_init(&m->queue);
    }
    *a = &p->end[0].base;
    *b = &p->end[1].base;
    return MSH_OK;
}

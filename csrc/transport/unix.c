/* A unix socket on a uv_poll_t. Not uv_pipe_t: that one passes handles, and only of kinds it knows; we pass any
 * descriptor (a detached mount), and try a write at once without a request of its own. */
#include "transport/unix.h"
#include "base/list.h"
#include "sys/fd.h"
#include "transport/defer.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

typedef struct unix_write {
    msh_node node;
    msh_stream_done done;
    void *ctx;
    msh_err err; /* code 0: it has left */
    int pass;    /* -1, or ours until sent */
    bool shut;   /* the end of writing, not bytes */
    size_t at, n;
    char data[];
} unix_write;

typedef struct unix_stream {
    msh_stream base;
    uv_poll_t poll;
    msh_defer defer;
    int fd, handles, events;
    msh_node queue, finished; /* of unix_write */
    msh_reader reader;
    bool reading, ended, take_fds, shut, closed;
    msh_err broken; /* why writing is over */
} unix_stream;

static void on_poll(uv_poll_t *h, int status, int events);

static void update(unix_stream *u)
{
    int want = 0;
    if (u->reading && !u->ended)
        want |= UV_READABLE;
    if (!msh_list_empty(&u->queue))
        want |= UV_WRITABLE;
    if (u->closed || want == u->events)
        return;
    u->events = want;
    if (want == 0)
        uv_poll_stop(&u->poll);
    else
        uv_poll_start(&u->poll, want, on_poll);
}

static void free_write(unix_write *w)
{
    msh_fd_close(&w->pass);
    free(w);
}

/* Takes a write that has left the queue; `done`, if there is one, is told from the loop. */
static void finish(unix_stream *u, unix_write *w, const msh_err *why)
{
    u->base.queued -= w->n - w->at;
    w->at = w->n;
    if (w->done == NULL) {
        free_write(w);
        return;
    }
    if (why != NULL)
        w->err = *why;
    msh_list_push(&u->finished, &w->node);
    msh_defer_arm(&u->defer);
}

static void break_off(unix_stream *u, const msh_err *why)
{
    u->broken = *why;
    for (msh_node *n; (n = msh_list_shift(&u->queue)) != NULL;)
        finish(u, MSH_LIST_OF(n, unix_write, node), why);
}

static void flush(unix_stream *u)
{
    while (!msh_list_empty(&u->queue)) {
        unix_write *w = MSH_LIST_OF(u->queue.next, unix_write, node);
        msh_err err = {0};
        /* It takes what was shifted out for the first: NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
        if (w->at < w->n) {
            size_t sent = 0;
            msh_code rc =
                msh_socket_send(u->fd, (msh_slice){w->data + w->at, w->n - w->at}, w->pass, &sent, &err);
            if (rc == MSH_AGAIN)
                break;
            if (rc != MSH_OK) {
                break_off(u, &err);
                break;
            }
            msh_fd_close(&w->pass);
            w->at += sent;
            u->base.queued -= sent;
            if (w->at < w->n)
                continue;
        } else if (w->shut && shutdown(u->fd, SHUT_WR) != 0) {
            msh_fail_errno(&err, errno, "end of writing");
        }
        msh_list_shift(&u->queue);
        finish(u, w, err.code != MSH_OK ? &err : NULL);
    }
}

static void read_once(unix_stream *u)
{
    msh_err err = {0};
    size_t got = 0;
    int fd = -1;
    char *p = malloc(MSH_STREAM_READ); /* per read: idle connections hold no buffer */
    msh_code rc = MSH_OK;
    if (p == NULL)
        rc = msh_fail(&err, MSH_RESOURCE_EXHAUSTED, "receive: no memory");
    else
        rc = msh_socket_recv(u->fd, p, MSH_STREAM_READ, &got, u->take_fds ? &fd : NULL, &err);
    if (rc == MSH_OK && got > 0) {
        u->reader.data(u->reader.ctx, (msh_slice){p, got}, fd);
    } else if (rc != MSH_AGAIN) {
        u->ended = true;
        update(u);
        u->reader.end(u->reader.ctx, rc == MSH_OK ? NULL : &err);
    }
    free(p);
}

static void on_poll(uv_poll_t *h, int status, int events)
{
    unix_stream *u = h->data;
    if (status < 0) { /* the socket has an error: recv and send tell it better. libuv has stopped the poll */
        events = u->events;
        u->events = 0;
        update(u);
    }
    if ((events & UV_WRITABLE) != 0) {
        flush(u);
        update(u);
    }
    if ((events & UV_READABLE) != 0 && u->reading && !u->ended)
        read_once(u); /* may close the stream; its memory stays until the loop turns */
}

static void tell_finished(void *ctx)
{
    unix_stream *u = ctx;
    while (!u->closed && !msh_list_empty(&u->finished)) {
        unix_write *w = MSH_LIST_OF(msh_list_shift(&u->finished), unix_write, node);
        msh_stream_done done = w->done;
        void *done_ctx = w->ctx;
        msh_err err = w->err;
        free_write(w);
        done(done_ctx, err.code != MSH_OK ? &err : NULL);
    }
}

static unix_write *new_write(msh_slice rest, int pass, msh_stream_done done, void *ctx, msh_err *err)
{
    unix_write *w = malloc(sizeof *w + rest.n);
    if (w == NULL) {
        msh_fail(err, MSH_RESOURCE_EXHAUSTED, "write: no memory");
        return NULL;
    }
    *w = (unix_write){.done = done, .ctx = ctx, .pass = -1, .n = rest.n};
    if (pass >= 0 && msh_fd_dup(pass, &w->pass, err) != MSH_OK) {
        free(w);
        return NULL;
    }
    if (rest.n > 0)
        memcpy(w->data, rest.p, rest.n);
    return w;
}

static msh_code not_writable(const unix_stream *u, msh_err *err)
{
    if (u->broken.code != MSH_OK) {
        if (err != NULL)
            *err = u->broken;
        return u->broken.code;
    }
    return u->shut ? msh_fail(err, MSH_UNAVAILABLE, "write after the end of writing") : MSH_OK;
}

static msh_code unix_write_op(msh_stream *s, msh_slice data, int pass, msh_stream_done done, void *ctx,
                              msh_err *err)
{
    unix_stream *u = (unix_stream *)s;
    msh_code rc = not_writable(u, err);
    if (rc != MSH_OK)
        return rc;
    size_t sent = 0;
    if (msh_list_empty(&u->queue) && data.n > 0) {
        msh_err why = {0};
        rc = msh_socket_send(u->fd, data, pass, &sent, &why);
        if (rc != MSH_OK && rc != MSH_AGAIN) {
            u->broken = why;
            if (err != NULL)
                *err = why;
            return rc;
        }
        if (sent == data.n && done == NULL)
            return MSH_OK;
    }
    unix_write *w =
        new_write((msh_slice){data.p + sent, data.n - sent}, sent == 0 ? pass : -1, done, ctx, err);
    if (w == NULL) {
        if (sent > 0) /* half of it has left: the byte stream is broken for good */
            msh_fail(&u->broken, MSH_RESOURCE_EXHAUSTED, "write: no memory");
        return MSH_RESOURCE_EXHAUSTED;
    }
    u->base.queued += w->n;
    if (w->n == 0 && msh_list_empty(&u->queue)) /* an empty write is a mark: everything before it has left */
        finish(u, w, NULL);
    else
        msh_list_push(&u->queue, &w->node);
    update(u);
    return MSH_OK;
}

static msh_code unix_read_op(msh_stream *s, const msh_reader *r, msh_err *err)
{
    unix_stream *u = (unix_stream *)s;
    if (u->ended)
        return msh_fail(err, MSH_FAILED_PRECONDITION, "read after the end");
    u->reader = *r;
    u->reading = true;
    update(u);
    return MSH_OK;
}

static void unix_stop_op(msh_stream *s)
{
    unix_stream *u = (unix_stream *)s;
    u->reading = false;
    update(u);
}

static msh_code unix_shutdown_op(msh_stream *s, msh_stream_done done, void *ctx, msh_err *err)
{
    unix_stream *u = (unix_stream *)s;
    if (u->shut)
        return msh_fail(err, MSH_FAILED_PRECONDITION, "writing has ended already");
    msh_code rc = not_writable(u, err);
    if (rc != MSH_OK)
        return rc;
    unix_write *w = new_write((msh_slice){NULL, 0}, -1, done, ctx, err);
    if (w == NULL)
        return MSH_RESOURCE_EXHAUSTED;
    w->shut = u->shut = true;
    msh_list_push(&u->queue, &w->node);
    flush(u);
    update(u);
    return MSH_OK;
}

static void unref_handle(unix_stream *u)
{
    if (--u->handles == 0)
        free(u);
}

static void poll_closed(uv_handle_t *h)
{
    unref_handle(h->data);
}

static void defer_closed(void *ctx)
{
    unref_handle(ctx);
}

static void unix_close_op(msh_stream *s)
{
    unix_stream *u = (unix_stream *)s;
    if (u->closed)
        return;
    u->closed = true;
    u->reading = false;
    msh_node *n;
    while ((n = msh_list_shift(&u->queue)) != NULL || (n = msh_list_shift(&u->finished)) != NULL)
        free_write(MSH_LIST_OF(n, unix_write, node));
    uv_close((uv_handle_t *)&u->poll, poll_closed);
    msh_defer_close(&u->defer, defer_closed);
    msh_fd_close(&u->fd); /* uv_close has taken it out of the poll set */
}

static msh_code unix_peer_op(msh_stream *s, msh_peer *out, msh_err *err)
{
    return msh_socket_peer(((unix_stream *)s)->fd, out, err);
}

static msh_code unix_take_fds_op(msh_stream *s, msh_err *err)
{
    (void)err;
    ((unix_stream *)s)->take_fds = true;
    return MSH_OK;
}

static const msh_stream_ops unix_ops = {
    .write = unix_write_op,
    .read = unix_read_op,
    .stop = unix_stop_op,
    .shutdown = unix_shutdown_op,
    .close = unix_close_op,
    .peer = unix_peer_op,
    .take_fds = unix_take_fds_op,
};

msh_code msh_unix_stream(uv_loop_t *loop, int fd, msh_stream **out, msh_err *err)
{
    unix_stream *u = calloc(1, sizeof *u);
    if (u == NULL) {
        msh_fd_close(&fd);
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "make a stream: no memory");
    }
    u->base = (msh_stream){.ops = &unix_ops, .loop = loop, .limit = MSH_STREAM_LIMIT};
    u->fd = fd;
    msh_list_init(&u->queue);
    msh_list_init(&u->finished);
    int e = uv_poll_init(loop, &u->poll, fd);
    if (e != 0) {
        msh_fd_close(&u->fd);
        free(u);
        return msh_fail_errno(err, -e, "make a stream");
    }
    u->poll.data = u;
    msh_defer_init(loop, &u->defer, tell_finished, u);
    u->handles = 2;
    *out = &u->base;
    return MSH_OK;
}

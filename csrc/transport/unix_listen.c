#include "sys/fd.h"
#include "transport/defer.h"
#include "transport/unix.h"
#include <stdlib.h>
#include <string.h>

enum { ACCEPTS = 16, PAUSE_MS = 100, RETRY_MS = 5, RETRY_MAX_MS = 100 };

struct msh_listener {
    uv_poll_t poll;
    uv_timer_t pause; /* out of descriptors: the waiting connection would wake us without end */
    int fd, handles;
    msh_socket_id id;
    void (*on_accept)(void *ctx, msh_stream *s);
    void *ctx;
    bool closed;
    char path[];
};

static void on_connection(uv_poll_t *h, int status, int events);

static void on_pause_over(uv_timer_t *t)
{
    msh_listener *l = t->data;
    uv_poll_start(&l->poll, UV_READABLE, on_connection);
}

static void on_connection(uv_poll_t *h, int status, int events)
{
    (void)status, (void)events;
    msh_listener *l = h->data;
    for (int i = 0; i < ACCEPTS && !l->closed; i++) {
        int fd = -1;
        msh_stream *s = NULL;
        msh_code rc = msh_socket_accept(l->fd, &fd, NULL);
        if (rc == MSH_OK)
            rc = msh_unix_stream(l->poll.loop, fd, &s, NULL);
        if (rc == MSH_OK) {
            l->on_accept(l->ctx, s);
        } else if (rc == MSH_AGAIN) {
            return;
        } else {
            uv_poll_stop(&l->poll);
            uv_timer_start(&l->pause, on_pause_over, PAUSE_MS, 0);
            return;
        }
    }
}

msh_code msh_unix_listen(uv_loop_t *loop, const char *path, unsigned mode,
                         void (*on_accept)(void *ctx, msh_stream *s), void *ctx, msh_listener **out,
                         msh_err *err)
{
    size_t n = strlen(path) + 1;
    msh_listener *l = calloc(1, sizeof *l + n);
    if (l == NULL)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "listen on %s: no memory", path);
    memcpy(l->path, path, n);
    l->on_accept = on_accept;
    l->ctx = ctx;
    msh_code rc = msh_socket_listen(path, mode, &l->fd, &l->id, err);
    if (rc != MSH_OK) {
        free(l);
        return rc;
    }
    int e = uv_poll_init(loop, &l->poll, l->fd);
    if (e != 0) {
        msh_socket_unlink(path, &l->id);
        msh_fd_close(&l->fd);
        free(l);
        return msh_fail_errno(err, -e, "listen on %s", path);
    }
    uv_timer_init(loop, &l->pause);
    l->poll.data = l->pause.data = l;
    l->handles = 2;
    uv_poll_start(&l->poll, UV_READABLE, on_connection);
    *out = l;
    return MSH_OK;
}

static void listener_closed(uv_handle_t *h)
{
    msh_listener *l = h->data;
    if (--l->handles == 0)
        free(l);
}

void msh_listener_close(msh_listener *l)
{
    if (l == NULL || l->closed)
        return;
    l->closed = true;
    msh_socket_unlink(l->path, &l->id);
    uv_close((uv_handle_t *)&l->poll, listener_closed);
    uv_close((uv_handle_t *)&l->pause, listener_closed);
    msh_fd_close(&l->fd);
}

struct msh_connect {
    msh_defer defer;
    uv_timer_t retry;
    uint64_t wait_ms;
    int handles;
    msh_stream *stream;
    msh_err err;
    void (*done)(void *ctx, msh_stream *s, const msh_err *err);
    void *ctx;
    char path[];
};

static void on_retry(uv_timer_t *t);

static void try_connect(msh_connect *c)
{
    int fd = -1;
    msh_code rc = msh_socket_connect(c->path, &fd, &c->err);
    if (rc == MSH_AGAIN) { /* a unix socket cannot be polled for room in the backlog */
        c->wait_ms = c->wait_ms == 0                 ? RETRY_MS
                     : c->wait_ms * 2 < RETRY_MAX_MS ? c->wait_ms * 2
                                                     : RETRY_MAX_MS;
        uv_timer_start(&c->retry, on_retry, c->wait_ms, 0);
        return;
    }
    if (rc == MSH_OK)
        msh_unix_stream(c->retry.loop, fd, &c->stream, &c->err);
    msh_defer_arm(&c->defer);
}

static void on_retry(uv_timer_t *t)
{
    try_connect(t->data);
}

static void connect_closed(msh_connect *c)
{
    if (--c->handles == 0)
        free(c);
}

static void connect_defer_closed(void *ctx)
{
    connect_closed(ctx);
}

static void connect_timer_closed(uv_handle_t *h)
{
    connect_closed(h->data);
}

static void end_connect(msh_connect *c)
{
    msh_defer_close(&c->defer, connect_defer_closed);
    uv_close((uv_handle_t *)&c->retry, connect_timer_closed);
}

static void tell_connected(void *ctx)
{
    msh_connect *c = ctx;
    msh_stream *s = c->stream;
    c->stream = NULL;
    end_connect(c);
    c->done(c->ctx, s, s != NULL ? NULL : &c->err);
}

msh_code msh_unix_connect(uv_loop_t *loop, const char *path,
                          void (*done)(void *ctx, msh_stream *s, const msh_err *err), void *ctx,
                          msh_connect **out, msh_err *err)
{
    size_t n = strlen(path) + 1;
    msh_connect *c = calloc(1, sizeof *c + n);
    if (c == NULL)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "connect to %s: no memory", path);
    memcpy(c->path, path, n);
    c->done = done;
    c->ctx = ctx;
    c->handles = 2;
    msh_defer_init(loop, &c->defer, tell_connected, c);
    uv_timer_init(loop, &c->retry);
    c->retry.data = c;
    *out = c;
    try_connect(c);
    return MSH_OK;
}

void msh_connect_cancel(msh_connect *c)
{
    if (c == NULL)
        return;
    msh_stream_close(c->stream);
    c->stream = NULL;
    end_connect(c);
}

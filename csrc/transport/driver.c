#include "transport/driver.h"
#include "transport/defer.h"
#include <stdlib.h>

struct msh_driver {
    msh_stream *stream;
    msh_session *session;
    msh_driver_event on_event;
    void *ctx;
    uv_prepare_t flush; /* active while something is to be sent */
    uv_timer_t timer;
    msh_defer defer;
    msh_time armed_for;
    msh_buf batch;
    bool waiting; /* for the stream to take the last batch */
    bool freed;
    int handles;
};

static void on_timer(uv_timer_t *t)
{
    msh_driver *d = t->data;
    d->armed_for = MSH_NEVER;
    msh_defer_arm(&d->defer);
}

static void arm_timer(msh_driver *d)
{
    msh_time wake = msh_session_wake(d->session);
    if (wake == d->armed_for)
        return;
    d->armed_for = wake;
    if (wake == MSH_NEVER) {
        uv_timer_stop(&d->timer);
        return;
    }
    msh_time now = msh_now();
    uv_update_time(d->timer.loop);
    uv_timer_start(&d->timer, on_timer, wake > now ? (wake - now + MSH_MS - 1) / MSH_MS : 0, 0);
}

static void deliver(msh_driver *d)
{
    msh_session_event e;
    while (!d->freed && msh_session_event_next(d->session, &e))
        d->on_event(d->ctx, &e);
    if (!d->freed)
        arm_timer(d);
}

static void lose(msh_driver *d, const msh_err *why)
{
    msh_session_lost(d->session, why);
    msh_stream_close(d->stream);
    d->stream = NULL;
    msh_defer_arm(&d->defer);
}

static void on_flushed(void *ctx, const msh_err *err);

static void send_out(msh_driver *d)
{
    msh_err err = {0};
    while (!d->waiting && d->stream != NULL && msh_session_out(d->session, &d->batch)) {
        msh_code rc = msh_stream_write(d->stream, msh_buf_slice(&d->batch), NULL, NULL, &err);
        msh_buf_consume(&d->batch, msh_buf_size(&d->batch));
        if (rc == MSH_OK && d->stream->queued > 0) {
            rc = msh_stream_write(d->stream, (msh_slice){NULL, 0}, on_flushed, d, &err);
            d->waiting = rc == MSH_OK;
        }
        if (rc != MSH_OK)
            lose(d, &err);
    }
}

static void on_flushed(void *ctx, const msh_err *err)
{
    msh_driver *d = ctx;
    d->waiting = false;
    if (err != NULL)
        lose(d, err);
    else
        send_out(d);
}

static void on_flush(uv_prepare_t *h)
{
    uv_prepare_stop(h);
    send_out(h->data);
}

static void on_defer(void *ctx)
{
    msh_driver *d = ctx;
    msh_session_tick(d->session, msh_now());
    deliver(d);
}

static void on_data(void *ctx, msh_slice bytes, int fd)
{
    (void)fd;
    msh_driver *d = ctx;
    msh_session_feed(d->session, bytes,
                     NULL); /* refused only when the session is over: bytes of no interest */
    deliver(d);
    if (!d->freed && d->stream != NULL && msh_session_state_of(d->session) != MSH_SESSION_OPEN) {
        msh_stream_close(d->stream); /* a malformed frame: the session has said so */
        d->stream = NULL;
    }
}

static void on_end(void *ctx, const msh_err *err)
{
    lose(ctx, err);
}

msh_code msh_driver_new(msh_stream *s, const msh_session_config *config, msh_driver_event on_event, void *ctx,
                        msh_driver **out, msh_err *err)
{
    msh_driver *d = calloc(1, sizeof *d);
    if (d == NULL)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "make a driver: no memory");
    msh_session_config standard = {0};
    msh_code rc = msh_session_new(config != NULL ? config : &standard, &d->session, err);
    if (rc == MSH_OK)
        rc = msh_stream_read(s, &(msh_reader){.data = on_data, .end = on_end, .ctx = d}, err);
    if (rc != MSH_OK) {
        msh_session_free(d->session);
        free(d);
        return rc;
    }
    d->stream = s;
    d->on_event = on_event;
    d->ctx = ctx;
    d->armed_for = MSH_NEVER;
    d->handles = 3;
    msh_buf_init(&d->batch, 0);
    uv_prepare_init(s->loop, &d->flush);
    uv_timer_init(s->loop, &d->timer);
    msh_defer_init(s->loop, &d->defer, on_defer, d);
    d->flush.data = d->timer.data = d;
    *out = d;
    return MSH_OK;
}

msh_code msh_driver_call(msh_driver *d, uint32_t type, msh_slice payload, msh_time deadline, void *tag,
                         uint64_t *id, msh_err *err)
{
    msh_code rc = msh_session_call(d->session, type, payload, deadline, tag, id, err);
    if (rc == MSH_OK) {
        arm_timer(d);
        if (!d->waiting)
            uv_prepare_start(&d->flush, on_flush);
    }
    return rc;
}

msh_session *msh_driver_session(msh_driver *d)
{
    return d->session;
}

msh_stream *msh_driver_stream(msh_driver *d)
{
    return d->stream;
}

void msh_driver_end(msh_driver *d)
{
    if (d->freed)
        return;
    msh_session_close(d->session);
    msh_stream_close(d->stream);
    d->stream = NULL;
    msh_defer_arm(&d->defer);
}

void msh_driver_cut(msh_driver *d)
{
    msh_err why = {0};
    if (d->freed || d->stream == NULL)
        return;
    msh_fail(&why, MSH_UNAVAILABLE, "cut by a test");
    lose(d, &why);
}

static void unref_handle(msh_driver *d)
{
    if (--d->handles > 0)
        return;
    msh_session_free(d->session);
    msh_buf_free(&d->batch);
    free(d);
}

static void handle_closed(uv_handle_t *h)
{
    unref_handle(h->data);
}

static void defer_closed(void *ctx)
{
    unref_handle(ctx);
}

void msh_driver_free(msh_driver *d)
{
    if (d == NULL || d->freed)
        return;
    d->freed = true;
    msh_stream_close(d->stream);
    d->stream = NULL;
    uv_close((uv_handle_t *)&d->flush, handle_closed);
    uv_close((uv_handle_t *)&d->timer, handle_closed);
    msh_defer_close(&d->defer, defer_closed);
}

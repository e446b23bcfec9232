#include "transport/defer.h"

static void on_idle(uv_idle_t *h)
{
    (void)h;
}

static void on_check(uv_check_t *h)
{
    msh_defer *d = h->data;
    uv_idle_stop(&d->idle);
    uv_check_stop(&d->check);
    d->armed = false;
    d->fn(d->ctx);
}

void msh_defer_init(uv_loop_t *loop, msh_defer *d, void (*fn)(void *ctx), void *ctx)
{
    *d = (msh_defer){.fn = fn, .ctx = ctx, .handles = 2};
    uv_idle_init(loop, &d->idle); /* these two cannot fail */
    uv_check_init(loop, &d->check);
    d->idle.data = d->check.data = d;
}

void msh_defer_arm(msh_defer *d)
{
    if (d->armed)
        return;
    d->armed = true;
    uv_idle_start(&d->idle, on_idle);
    uv_check_start(&d->check, on_check);
}

static void closed(uv_handle_t *h)
{
    msh_defer *d = h->data;
    if (--d->handles == 0)
        d->on_closed(d->ctx);
}

void msh_defer_close(msh_defer *d, void (*on_closed)(void *ctx))
{
    d->on_closed = on_closed;
    uv_close((uv_handle_t *)&d->idle, closed);
    uv_close((uv_handle_t *)&d->check, closed);
}

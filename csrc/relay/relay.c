/* The owner's side: commands go in, reports come out. */
#include "relay/relay.h"
#include "relay/io.h"
#include "sys/fd.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { STACK = 256 << 10 };

static void send_command(msh_io *io, unsigned what)
{
    msh_relay *r = io->relay;
    uv_mutex_lock(&r->lock);
    io->commands |= what;
    if (io->command_node.next == NULL)
        msh_list_push(&r->commands, &io->command_node);
    uv_mutex_unlock(&r->lock);
    uint64_t one = 1;
    ssize_t n = write(r->wake, &one, sizeof one); /* fails only when the count is full: then it is awake */
    (void)n;
}

static void forget(msh_io *io)
{
    msh_relay *r = io->relay;
    msh_list_remove(&io->all);
    if (--r->n_ios == 0)
        uv_unref((uv_handle_t *)&r->async);
    free(io);
}

static void on_async(uv_async_t *h)
{
    msh_relay *r = h->data;
    while (!r->closed) { /* a callback may close the relay; the struct stays until the handle has closed */
        uv_mutex_lock(&r->lock);
        msh_node *n = msh_list_shift(&r->reports);
        msh_io *io = n != NULL ? MSH_LIST_OF(n, msh_io, report_node) : NULL;
        unsigned what = 0;
        msh_err err = {0};
        msh_io_report report = {0};
        if (io != NULL) {
            what = io->reports;
            io->reports = 0;
            err = io->ready_err;
            report = io->report;
        }
        uv_mutex_unlock(&r->lock);
        if (io == NULL)
            return;
        if ((what & SAY_CLOSED) != 0) {
            forget(io); /* only after msh_io_close: nobody wants to hear the rest */
            continue;
        }
        if ((what & (SAY_READY | SAY_FAILED)) != 0 && !io->closed && io->on_ready != NULL)
            io->on_ready(io->ctx, (what & SAY_FAILED) != 0 ? &err : NULL);
        if ((what & SAY_DRAINED) != 0 && !r->closed && !io->closed && io->on_drained != NULL)
            io->on_drained(io->ctx, &report);
    }
}

static msh_code start_thread(msh_relay *r, msh_err *err)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all,
                    &old); /* inherited: signals, SIGPIPE too, are no business of the data thread */
    uv_thread_options_t how = {.flags = UV_THREAD_HAS_STACK_SIZE, .stack_size = STACK};
    int e = uv_thread_create_ex(&r->thread, &how, msh__relay_thread, r);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return e == 0 ? MSH_OK : msh_fail_errno(err, -e, "start the data thread");
}

static void free_parts(msh_relay *r)
{
    msh_fd_close(&r->wake);
    msh_fd_close(&r->epoll);
    msh_fd_close(&r->inotify);
    msh_pump_kit_free(&r->kit);
    uv_mutex_destroy(&r->lock);
}

static void on_closed(uv_handle_t *h)
{
    free(h->data);
}

msh_code msh_relay_new(uv_loop_t *loop, msh_relay **out, msh_err *err)
{
    msh_relay *r = calloc(1, sizeof *r);
    if (r == NULL)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "make a relay: no memory");
    if (uv_mutex_init(&r->lock) != 0) {
        free(r);
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "make a relay: no lock");
    }
    msh_list_init(&r->ios);
    msh_list_init(&r->commands);
    msh_list_init(&r->reports);
    msh_list_init(&r->hot);
    msh_list_init(&r->draining);
    msh_list_init(&r->lingering);
    msh_list_init(&r->stuck);
    msh_pump_kit_init(&r->kit);
    r->inotify = -1;
    r->epoll = epoll_create1(EPOLL_CLOEXEC);
    r->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
    msh_code rc = MSH_OK;
    int e = 0;
    if (r->epoll < 0 || r->wake < 0 || epoll_ctl(r->epoll, EPOLL_CTL_ADD, r->wake, &ev) != 0)
        rc = msh_fail_errno(err, errno, "make a relay");
    else if ((e = uv_async_init(loop, &r->async, on_async)) != 0)
        rc = msh_fail_errno(err, -e, "make a relay");
    if (rc != MSH_OK) {
        free_parts(r);
        free(r);
        return rc;
    }
    r->async.data = r;
    uv_unref((uv_handle_t *)&r->async);
    rc = start_thread(r, err);
    if (rc != MSH_OK) {
        r->closed = true;
        free_parts(r);
        uv_close((uv_handle_t *)&r->async, on_closed);
        return rc;
    }
    *out = r;
    return MSH_OK;
}

void msh_relay_close(msh_relay *r)
{
    if (r == NULL || r->closed)
        return;
    r->closed = true;
    uv_mutex_lock(&r->lock);
    r->stop = true;
    uv_mutex_unlock(&r->lock);
    uint64_t one = 1;
    ssize_t n = write(r->wake, &one, sizeof one);
    (void)n;
    uv_thread_join(&r->thread); /* it never blocks for long */
    msh_node *node;
    while ((node = msh_list_shift(&r->ios)) != NULL) {
        msh_io *io = MSH_LIST_OF(node, msh_io, all);
        for (int i = 0; i < MSH_STDIO; i++)
            msh__flow_release(&io->flow[i]);
        free(io);
    }
    free_parts(r);
    uv_close((uv_handle_t *)&r->async, on_closed);
}

/* So long that it never ends, but still a time when the clock is added: half of what there is. */
static msh_time span(uint64_t ms)
{
    return ms < MSH_NEVER / MSH_MS / 2 ? ms * MSH_MS : MSH_NEVER / 2;
}

msh_code msh_io_open(msh_relay *r, const msh_io_want *want, msh_io **out, msh_err *err)
{
    msh_io *io = calloc(1, sizeof *io);
    if (io == NULL)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "open stdio: no memory");
    io->relay = r;
    io->on_ready = want->on_ready;
    io->on_drained = want->on_drained;
    io->ctx = want->ctx;
    io->drain_until = io->drain_idle = io->until = io->idle = MSH_NEVER;
    io->away = span(want->away_ms);
    msh_code rc = msh__io_prepare(io, want, err);
    if (rc != MSH_OK) {
        free(io);
        return rc;
    }
    msh_list_push(&r->ios, &io->all);
    if (r->n_ios++ == 0)
        uv_ref((uv_handle_t *)&r->async);
    *out = io;
    send_command(io, DO_OPEN);
    return MSH_OK;
}

static void lower(msh_time *limit, msh_time to)
{
    *limit = to < *limit ? to : *limit;
}

void msh_io_exited(msh_io *io, uint64_t idle_ms, uint64_t most_ms)
{
    msh_relay *r = io->relay;
    msh_time now = msh_now(), most = span(most_ms);
    uv_mutex_lock(&r->lock);
    lower(&io->drain_idle, span(idle_ms));
    lower(&io->drain_until, most < MSH_NEVER - now ? now + most : MSH_NEVER);
    uv_mutex_unlock(&r->lock);
    send_command(io, DO_EXITED);
}

void msh_io_close_stdin(msh_io *io)
{
    send_command(io, DO_CLOSE_STDIN);
}

void msh_io_gone(msh_io *io)
{
    send_command(io, DO_GONE);
}

void msh_io_cut(msh_io *io, int stream)
{
    uv_mutex_lock(&io->relay->lock);
    io->cut |= 1u << stream;
    uv_mutex_unlock(&io->relay->lock);
    send_command(io, DO_CUT);
}

void msh_io_counts(const msh_io *io, uint64_t bytes[MSH_STDIO])
{
    for (int i = 0; i < MSH_STDIO; i++)
        bytes[i] = atomic_load_explicit(&io->flow[i].moved, memory_order_relaxed);
}

void msh_io_close(msh_io *io)
{
    if (io == NULL || io->closed)
        return;
    io->closed = true;
    send_command(io, DO_CLOSE);
}

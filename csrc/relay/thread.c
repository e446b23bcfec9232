/* The data thread: one epoll, edge-triggered, so that waiting costs no system call per change of mind. A flow that
 * met "not ready" is cold; an edge on either of its ends makes it hot. Hot flows take turns of one share each, and
 * commands are looked at between turns. */
#include "relay/io.h"
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

enum { EVENTS = 64 };

void msh__report(msh_io *io, unsigned what)
{
    msh_relay *r = io->relay;
    uv_mutex_lock(&r->lock);
    io->reports |= what;
    if (io->report_node.next == NULL)
        msh_list_push(&r->reports, &io->report_node);
    uv_mutex_unlock(&r->lock);
    uv_async_send(&r->async); /* open until this thread has been joined */
}

static void do_open(msh_io *io)
{
    for (int i = 0; i < MSH_STDIO; i++)
        if (io->flow[i].state == FLOW_LISTEN)
            msh__flow_listen(&io->flow[i]);
    msh__io_check(io);
}

static void do_exited(msh_io *io, msh_time idle, msh_time until)
{
    if (io->drained)
        return;
    if (!io->exited) {
        msh_list_push(&io->relay->draining, &io->draining);
        io->moved_at = msh_now();
    }
    io->exited = true;
    io->idle = idle;
    io->until = until;
    msh__flow_over(&io->flow[MSH_STDIN], 0);
    for (int i = MSH_STDOUT; i < MSH_STDIO; i++) {
        msh_flow *f = &io->flow[i];
        if (f->state == FLOW_LISTEN || f->state == FLOW_AGAIN)
            msh__flow_connection(f); /* it may have come a moment ago */
        if (f->state == FLOW_LISTEN)
            msh__flow_over(f, 0); /* nobody will come any more */
        else if (f->state == FLOW_RUN)
            msh__flow_heat(f); /* one share at least, even when the deadline has passed already */
    }
    msh__io_check(io);
}

static void do_gone(msh_io *io)
{
    io->gone = true;
    for (int i = 0; i < MSH_STDIO; i++)
        msh__flow_gone(&io->flow[i]);
}

static void do_close(msh_io *io)
{
    for (int i = 0; i < MSH_STDIO; i++)
        msh__flow_over(&io->flow[i], 0);
    msh_list_remove(&io->draining);
    msh__report(io, SAY_CLOSED);
}

/* False when it is time to stop. */
static bool take_commands(msh_relay *r)
{
    for (;;) {
        uv_mutex_lock(&r->lock);
        bool stop = r->stop;
        msh_node *n = stop ? NULL : msh_list_shift(&r->commands);
        msh_io *io = n != NULL ? MSH_LIST_OF(n, msh_io, command_node) : NULL;
        unsigned what = 0, cut = 0;
        msh_time idle = MSH_NEVER, until = MSH_NEVER;
        if (io != NULL) {
            what = io->commands;
            io->commands = 0;
            cut = io->cut;
            io->cut = 0;
            idle = io->drain_idle;
            until = io->drain_until;
        }
        uv_mutex_unlock(&r->lock);
        if (io == NULL)
            return !stop;
        if ((what & DO_CLOSE) != 0) { /* the owner's last command: the io is its own again after the report */
            do_close(io);
            continue;
        }
        if ((what & DO_OPEN) != 0)
            do_open(io);
        for (int i = 0; i < MSH_STDIO && (what & DO_CUT) != 0; i++)
            if ((cut & 1u << i) != 0)
                msh__flow_cut(&io->flow[i]);
        if ((what & DO_CLOSE_STDIN) != 0)
            msh__flow_close_stdin(&io->flow[MSH_STDIN]);
        if ((what & DO_GONE) != 0)
            do_gone(io);
        if ((what & DO_EXITED) != 0)
            do_exited(io, idle, until);
    }
}

static void try_hot(msh_relay *r)
{
    msh_node turn; /* those that stay hot line up for the next turn */
    msh_list_init(&turn);
    msh_node *n;
    while ((n = msh_list_shift(&r->hot)) != NULL)
        msh_list_push(&turn, n);
    while ((n = msh_list_shift(&turn)) != NULL)
        msh__flow_try(MSH_LIST_OF(n, msh_flow, hot));
}

/* When the drain ends if nothing moves any more. */
static msh_time drain_deadline(const msh_io *io)
{
    msh_time quiet = io->idle < MSH_NEVER - io->moved_at ? io->moved_at + io->idle : MSH_NEVER;
    return quiet < io->until ? quiet : io->until;
}

/* This thread may have been kept from running, and something may have come meanwhile: that is no standing still. */
static bool still_flows(msh_io *io, msh_time now)
{
    if (io->until <= now)
        return false;
    for (int i = MSH_STDOUT; i < MSH_STDIO; i++) {
        msh_flow *f = &io->flow[i];
        if (f->state == FLOW_AGAIN)
            msh__flow_connection(f);
        if (f->state == FLOW_RUN)
            msh__flow_try(f);
    }
    return io->drained || drain_deadline(io) > now;
}

/* Cuts what is overdue; milliseconds to the next deadline, -1 for none. */
static int deadlines(msh_relay *r)
{
    if (msh_list_empty(&r->draining) && msh_list_empty(&r->stuck))
        return -1;
    msh_time now = msh_now(), next = msh__fifo_overdue(r, now);
    for (msh_node *n = r->draining.next; n != &r->draining;) {
        msh_io *io = MSH_LIST_OF(n, msh_io, draining);
        n = n->next;
        if (drain_deadline(io) > now || still_flows(io, now)) {
            msh_time deadline = io->drained ? MSH_NEVER : drain_deadline(io);
            next = deadline < next ? deadline : next;
            continue;
        }
        for (int i = MSH_STDOUT; i < MSH_STDIO; i++) {
            if (io->flow[i].state != FLOW_RUN && io->flow[i].state != FLOW_AGAIN)
                continue;
            uv_mutex_lock(&r->lock);
            io->report.cut = true;
            uv_mutex_unlock(&r->lock);
            msh__flow_end(&io->flow[i]);
        }
        msh__io_check(io);
    }
    if (next == MSH_NEVER)
        return -1;
    uint64_t ms = (next - now + MSH_MS - 1) / MSH_MS;
    return ms < INT_MAX ? (int)ms : INT_MAX;
}

static void read_inotify(msh_relay *r)
{
    union {
        struct inotify_event e;
        char room[4096];
    } buf;
    ssize_t n = read(r->inotify, &buf, sizeof buf);
    for (ssize_t at = 0; at < n;) {
        struct inotify_event e;
        memcpy(&e, buf.room + at, sizeof e);
        at += (ssize_t)(sizeof e + e.len);
        msh__flow_reader_came(r, e.wd);
    }
}

static void on_event(msh_relay *r, void *what)
{
    if (what == NULL) {
        uint64_t count;
        ssize_t n = read(r->wake, &count, sizeof count);
        (void)n;
    } else if (what == r) {
        read_inotify(r);
    } else {
        msh_flow *f = what;
        if (f->state == FLOW_LISTEN || f->state == FLOW_AGAIN)
            msh__flow_connection(f);
        else if (f->state == FLOW_RUN)
            msh__flow_heat(f);
        else if (f->state == FLOW_HALF || f->state == FLOW_HEAR)
            msh__flow_heard(f);
    }
}

void msh__relay_thread(void *relay)
{
    msh_relay *r = relay;
    struct epoll_event events[EVENTS];
    while (take_commands(r)) {
        try_hot(r);
        int wait = deadlines(r);
        if (!msh_list_empty(&r->hot))
            wait = 0;
        int n = epoll_wait(r->epoll, events, EVENTS, wait);
        /* An io is given back only by a command, so every flow named here is still there. */
        for (int i = 0; i < n; i++)
            on_event(r, events[i].data.ptr);
    }
}

/* Fifos that outputs go into. Their readers come late, go away and come back; we have the fifo open for both directions,
 * so nothing of that is an error, and nothing of it is told to us either: who wants to know whether somebody else reads
 * gives up the reading side for the moment of the look, while the writing side keeps the bytes. */
#include "relay/io.h"
#include "sys/fd.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int reopen(int fd, int flags)
{
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, flags | O_NONBLOCK | O_CLOEXEC);
}

/* ---- at the end: bytes that nobody has read yet ---- */

bool msh__fifo_reader_there(const msh_flow *f)
{
    return !msh__is_ready(f->end, 0); /* POLLERR: none */
}

void msh__fifo_unlinger(msh_flow *f)
{
    msh_relay *r = f->io->relay;
    if (f->state != FLOW_LINGER)
        return;
    msh_list_remove(&f->lingering);
    for (msh_node *n = r->lingering.next; n != &r->lingering && f->watch >= 0; n = n->next)
        if (MSH_LIST_OF(n, msh_flow, lingering)->watch == f->watch)
            f->watch = -1; /* two streams into one fifo have one watch: the last takes it away */
    if (f->watch >= 0)
        inotify_rm_watch(r->inotify, f->watch);
    f->watch = -1;
}

bool msh__fifo_linger(msh_flow *f)
{
    msh_relay *r = f->io->relay;
    char path[40];
    int unread = 0;
    int writer = reopen(f->end, O_WRONLY);
    if (writer < 0)
        return false;
    msh_fd_close(&f->end); /* our reading side goes: from now on poll tells whether there is another */
    f->end = writer;
    if (ioctl(writer, FIONREAD, &unread) != 0 || unread == 0 || msh__fifo_reader_there(f))
        return false;
    if (r->inotify < 0) {
        r->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        if (r->inotify >= 0)
            msh__watch(r, r->inotify, EPOLLIN, r);
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", writer);
    if (r->inotify >= 0)
        f->watch = inotify_add_watch(r->inotify, path, IN_OPEN); /* without it: kept until the io is closed */
    msh_list_push(&r->lingering, &f->lingering);
    f->state = FLOW_LINGER;
    msh__flow_say_over(f);
    msh_fd_close(&f->sock);
    return true;
}

void msh__flow_reader_came(msh_relay *r, int watch)
{
    for (msh_node *n = r->lingering.next; n != &r->lingering;) {
        msh_flow *f = MSH_LIST_OF(n, msh_flow, lingering);
        n = n->next;
        if ((f->watch == watch || watch < 0) && msh__fifo_reader_there(f))
            msh__flow_over(f, 0);
    }
}

/* ---- before the end: a full fifo, and perhaps nobody who reads it ---- */

void msh__fifo_unstick(msh_flow *f)
{
    msh_list_remove(&f->stuck);
}

void msh__fifo_waits(msh_flow *f, bool moved)
{
    msh_io *io = f->io;
    if (moved)
        msh__fifo_unstick(f);
    if (io->away == 0 || f->stuck.next != NULL || msh__is_ready(f->end, POLLOUT))
        return;
    if (f->pump.held_n == 0 && !msh__is_ready(f->sock, POLLIN))
        return; /* nothing is due */
    f->stuck_until = msh_now() + io->away;
    msh_list_push(&io->relay->stuck, &f->stuck);
}

static bool somebody_reads(msh_flow *f)
{
    msh_relay *r = f->io->relay;
    int writer = reopen(f->end, O_WRONLY);
    if (writer < 0)
        return true; /* cannot tell */
    msh__unwatch(r, f->end);
    msh_fd_close(&f->end);
    f->end = writer;
    bool there = msh__fifo_reader_there(f);
    int both = reopen(writer, O_RDWR);
    if (both >= 0) {
        msh_fd_close(&writer);
        f->end = both;
    }
    msh_pump_new_out(&f->pump, f->end);
    msh__flow_watch_out(f);
    return there;
}

msh_time msh__fifo_overdue(msh_relay *r, msh_time now)
{
    msh_time next = MSH_NEVER;
    for (msh_node *n = r->stuck.next; n != &r->stuck;) {
        msh_flow *f = MSH_LIST_OF(n, msh_flow, stuck);
        msh_io *io = f->io;
        n = n->next;
        if (f->stuck_until <= now) {
            if (msh__is_ready(f->end, POLLOUT)) { /* somebody has read; this thread was kept from seeing it */
                msh__fifo_unstick(f);
                msh__flow_heat(f);
                continue;
            }
            if (!somebody_reads(f)) {
                msh__flow_lost(f, ETIMEDOUT);
                msh__io_check(io);
                continue;
            }
            f->stuck_until = now + io->away; /* slow is not away */
        }
        next = f->stuck_until < next ? f->stuck_until : next;
    }
    return next;
}

#include "relay/io.h"
#include "sys/fd.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SHARE = 512 << 10 }; /* bytes of one turn */

int msh__watch(msh_relay *r, int fd, uint32_t events, void *who)
{
    struct epoll_event ev = {.events = events, .data.ptr = who};
    return epoll_ctl(r->epoll, EPOLL_CTL_ADD, fd, &ev) == 0 ? 0 : errno;
}

void msh__unwatch(msh_relay *r, int fd)
{
    if (fd >= 0)
        epoll_ctl(r->epoll, EPOLL_CTL_DEL, fd, NULL);
}

bool msh__is_ready(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    return poll(&p, 1, 0) > 0;
}

static void stop_pump(msh_flow *f)
{
    msh_relay *r = f->io->relay;
    msh_list_remove(&f->hot);
    msh__fifo_unstick(f);
    if (!f->piped)
        return;
    msh__unwatch(r, msh_pump_in(&f->pump));
    msh__unwatch(r, msh_pump_out(&f->pump));
    msh_pump_free(&f->pump);
    f->piped = false;
}

/* Bytes that came out of the socket of an output, whatever became of them. */
static uint64_t taken(const msh_flow *f)
{
    return atomic_load_explicit(&f->moved, memory_order_relaxed) + f->dropped +
           (f->piped ? f->pump.held_n : 0);
}

void msh__flow_say_over(msh_flow *f)
{
    if (!f->resume || f->index == MSH_STDIN || f->sock < 0 || f->said_over)
        return;
    f->said_over = true;
    msh_word_say(f->sock, MSH_WORD_NO_MORE, taken(f));
}

void msh__flow_over(msh_flow *f, int error)
{
    if (f->state == FLOW_NONE || f->state == FLOW_OVER)
        return;
    stop_pump(f);
    msh__fifo_unlinger(f);
    msh__flow_say_over(f);
    if (f->error == 0)
        f->error = error;
    f->state = FLOW_OVER;
    msh__flow_release(f);
}

static void fail_open(msh_flow *f, const msh_err *err)
{
    msh_io *io = f->io;
    msh__flow_over(f, EIO);
    if (io->ready)
        return;
    io->ready = true;
    uv_mutex_lock(&io->relay->lock);
    io->ready_err = *err;
    uv_mutex_unlock(&io->relay->lock);
    msh__report(io, SAY_FAILED);
}

void msh__flow_heat(msh_flow *f)
{
    if (f->hot.next == NULL)
        msh_list_push(&f->io->relay->hot, &f->hot);
}

void msh__flow_listen(msh_flow *f)
{
    int e = msh__watch(f->io->relay, f->listener, EPOLLIN, f);
    if (e != 0) {
        msh_err err;
        msh_fail_errno(&err, e, "wait for %s", f->path);
        fail_open(f, &err);
    }
}

/* Files cannot be waited for and need not be. */
static int watch_end(msh_flow *f, int fd, bool *polls, uint32_t events)
{
    if (!*polls)
        return 0;
    int e = msh__watch(f->io->relay, fd, events | EPOLLET, f);
    if (e == EPERM) {
        *polls = false;
        e = 0;
    }
    return e;
}

int msh__flow_watch_out(msh_flow *f)
{
    bool words = f->index == MSH_STDIN && f->resume;
    return watch_end(f, msh_pump_out(&f->pump), &f->pump.out_polls, words ? EPOLLIN | EPOLLOUT : EPOLLOUT);
}

static msh_code start(msh_flow *f, msh_err *err)
{
    bool in = f->index == MSH_STDIN;
    int from = in ? f->end : f->sock, to = in ? f->sock : f->end;
    msh_code rc = msh_pump_init(&f->pump, &f->io->relay->kit, from, to, err);
    if (rc != MSH_OK)
        return rc;
    f->piped = true;
    if (in && f->resume && (rc = msh_pump_keep(&f->pump, err)) != MSH_OK)
        return rc;
    int e = watch_end(f, msh_pump_in(&f->pump), &f->pump.in_polls, EPOLLIN | EPOLLRDHUP);
    if (e == 0)
        e = msh__flow_watch_out(f);
    if (e != 0)
        return msh_fail_errno(err, e, "wait for %s", f->path);
    return MSH_OK;
}

/* ---- a socket that breaks, and the next one ---- */

/* The socket is lost, and so is whoever could dial another. */
static void end_without_guest(msh_flow *f)
{
    if (f->error == 0)
        f->error = ECONNRESET;
    if (f->index == MSH_STDIN)
        msh__flow_over(f, 0);
    else
        msh__flow_end(f);
}

/* The socket is lost, the stream is not: listens for the agent, which dials again. */
static void again(msh_flow *f)
{
    msh_err err = {0};
    if (f->io->gone) {
        end_without_guest(f);
        return;
    }
    msh_list_remove(&f->hot);
    msh__unwatch(f->io->relay, f->sock);
    msh_fd_close(&f->sock);
    if (f->index == MSH_STDIN)
        msh_pump_new_out(&f->pump, -1);
    else
        msh_pump_new_in(&f->pump, -1);
    f->word_n = 0;
    if (msh_socket_listen(f->path, 0600, &f->listener, &f->id, &err) != MSH_OK) {
        msh__flow_over(f, ECONNRESET);
        return;
    }
    f->state = FLOW_AGAIN;
    if (msh__watch(f->io->relay, f->listener, EPOLLIN, f) != 0)
        msh__flow_over(f, ECONNRESET);
}

static void run(msh_flow *f)
{
    f->state = FLOW_RUN;
    if (f->ending && !f->pump.ended) {
        f->ending = false;
        msh__flow_close_stdin(f);
    }
    if (f->state == FLOW_RUN)
        msh__flow_heat(f);
}

/* The next socket of an output: tells the agent what came through the earlier ones, and reads on. */
static void go_on(msh_flow *f)
{
    msh_pump_new_in(&f->pump, f->sock);
    if (!msh_word_say(f->sock, MSH_WORD_GO_ON, taken(f)) ||
        msh__watch(f->io->relay, f->sock, EPOLLIN | EPOLLRDHUP | EPOLLET, f) != 0)
        again(f);
    else
        run(f);
}

static void connected_again(msh_flow *f)
{
    if (f->index != MSH_STDIN) {
        go_on(f);
    } else if (msh__watch(f->io->relay, f->sock, EPOLLIN | EPOLLOUT | EPOLLET, f) != 0) {
        again(f);
    } else {
        f->state = FLOW_HEAR;
        msh__flow_heard(f);
    }
}

/* A word of the guest about its stdin; true when it or the end of the socket was dealt with. */
static bool hear(msh_flow *f)
{
    uint64_t guest_has = 0;
    bool over;
    msh_word w = msh_word_hear(f->sock, f->word, &f->word_n, &guest_has, &over);
    if (w == MSH_WORD_NO_MORE) {
        f->no_more = true;
        return true;
    }
    if (w == MSH_WORD_GO_ON && f->state == FLOW_HEAR) {
        msh_pump_resume(&f->pump, guest_has);
        msh_pump_new_out(&f->pump, f->sock);
        run(f);
        return true;
    }
    if (w == MSH_WORD_NONE && !over)
        return false;
    again(f);
    return true;
}

void msh__flow_heard(msh_flow *f)
{
    if (f->resume && !f->no_more)
        hear(f);
}

/* True when the socket of a stdin has broken, which nobody would notice while there is nothing to send. */
static bool stdin_broke(msh_flow *f)
{
    return f->index == MSH_STDIN && f->resume && !f->no_more && msh_word_broke(f->sock) && hear(f) &&
           !f->no_more;
}

void msh__flow_cut(msh_flow *f)
{
    if (f->state != FLOW_RUN && f->state != FLOW_HALF && f->state != FLOW_HEAR)
        return;
    if (f->resume && !f->no_more)
        again(f);
    else
        msh__flow_over(f, ECONNRESET);
    msh__io_check(f->io);
}

void msh__flow_gone(msh_flow *f)
{
    if (f->state == FLOW_LISTEN || f->state == FLOW_AGAIN)
        msh__flow_connection(f); /* it may have come a moment ago */
    if (f->state == FLOW_LISTEN) {
        msh_err err;
        msh_fail(&err, MSH_UNAVAILABLE, "%s: the guest is gone", f->path);
        fail_open(f, &err);
    } else if (f->state == FLOW_AGAIN || f->state == FLOW_HEAR || f->state == FLOW_HALF) {
        end_without_guest(f);
    } else if (f->state == FLOW_RUN) {
        msh__flow_heat(f);
    }
    msh__io_check(f->io);
}

void msh__flow_connection(msh_flow *f)
{
    msh_err err = {0};
    msh_code rc = msh_socket_accept(f->listener, &f->sock, &err);
    if (rc == MSH_AGAIN)
        return;
    if (rc == MSH_OK) {
        msh_socket_unlink(f->path, &f->id);
        msh_fd_close(&f->listener); /* one connection per port */
        if (f->state == FLOW_AGAIN) {
            connected_again(f);
            return;
        }
        rc = start(f, &err);
    }
    if (rc != MSH_OK)
        fail_open(f, &err);
    else
        run(f);
    msh__io_check(f->io);
}

/* The guest sees the end of stdin; its socket stays, so that it is not taken for a loss. */
static void end_stdin(msh_flow *f, int error)
{
    msh_list_remove(&f->hot);
    if (f->resume && f->piped) { /* the tail stays until the guest has read it */
        msh__unwatch(f->io->relay, msh_pump_in(&f->pump));
        if (!msh_pump_rereads(&f->pump)) {
            msh_pump_new_in(&f->pump, -1);
            msh_fd_close(&f->end);
        }
        f->pump.ended = true;
    } else {
        stop_pump(f);
        msh_fd_close(&f->end);
    }
    if (f->error == 0)
        f->error = error;
    if (shutdown(f->sock, SHUT_WR) == 0)
        f->state = FLOW_HALF;
    else
        msh__flow_over(f, 0);
}

/* A descriptor ends when nothing more is there. A fifo gives up its own writing side, so that its end comes after
 * the last byte of the last writer. */
void msh__flow_close_stdin(msh_flow *f)
{
    if (f->ending)
        return;
    f->ending = true;
    if (f->state != FLOW_RUN)
        return;
    if (f->fifo) {
        char path[40];
        snprintf(path, sizeof path, "/proc/self/fd/%d", f->end);
        int reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (reader < 0) {
            end_stdin(f, errno);
            return;
        }
        msh__unwatch(f->io->relay, f->end);
        msh_fd_close(&f->end);
        f->end = reader;
        msh_pump_new_in(&f->pump, reader);
        if (watch_end(f, reader, &f->pump.in_polls, EPOLLIN | EPOLLRDHUP) != 0) {
            end_stdin(f, EIO);
            return;
        }
    }
    msh__flow_heat(f);
}

void msh__flow_end(msh_flow *f)
{
    stop_pump(f);
    if (!f->fifo || !msh__fifo_linger(f) ||
        msh__fifo_reader_there(f)) /* there: it came between the look and the watch */
        msh__flow_over(f, 0);
}

/* The program shall see what `yes | head` sees, a broken pipe; closing over unread bytes would be a reset. */
static void refuse_more(msh_flow *f)
{
    char waste[4096];
    shutdown(f->sock, SHUT_RD); /* nothing new comes in, so the rest is at most a socket buffer */
    while (recv(f->sock, waste, sizeof waste, MSG_DONTWAIT) > 0) {
    }
}

/* What comes from now on goes to /dev/null and is counted there. */
static bool drop_from_now_on(msh_flow *f)
{
    msh_err err;
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (null < 0)
        return false;
    f->dropped += f->pump.held_n;
    stop_pump(f);
    msh_fd_close(&f->end);
    f->end = null;
    f->fifo = false;
    f->dropping = true;
    return start(f, &err) == MSH_OK;
}

void msh__flow_lost(msh_flow *f, int error)
{
    if (f->error == 0)
        f->error = error;
    if (f->lossy && !f->dropping && drop_from_now_on(f)) {
        msh__flow_heat(f);
        return;
    }
    msh__flow_say_over(f); /* before the guest can feel it */
    refuse_more(f);
    msh__flow_end(f);
}

void msh__flow_try(msh_flow *f)
{
    uint64_t moved = 0;
    msh_pump_state s = msh_pump_move(&f->pump, SHARE, &moved);
    if (f->dropping)
        f->dropped += moved;
    else
        atomic_fetch_add_explicit(&f->moved, moved, memory_order_relaxed);
    bool in = f->index == MSH_STDIN;
    if (moved > 0 && !in && f->io->exited)
        f->io->moved_at = msh_now();
    if (s == MSH_PUMP_WAIT && in && f->ending && !f->fifo && !msh__is_ready(msh_pump_in(&f->pump), POLLIN))
        s = f->pump.held_n > 0 || (f->pump.tail != NULL && msh_tail_unsent(f->pump.tail).n > 0)
                ? MSH_PUMP_WAIT
                : MSH_PUMP_EOF;
    switch (s) {
    case MSH_PUMP_MORE:
        msh__flow_heat(f);
        return;
    case MSH_PUMP_WAIT:
        if (!stdin_broke(f) && !in && f->fifo)
            msh__fifo_waits(f, moved > 0);
        return;
    case MSH_PUMP_EOF:
        if (in)
            end_stdin(f, 0);
        else if (f->resume && msh_word_broke(f->sock))
            again(f);
        else
            msh__flow_end(f);
        break;
    case MSH_PUMP_LOST: /* a guest that no longer reads its stdin is no error */
        if (stdin_broke(f))
            break;
        if (in)
            msh__flow_over(f, 0);
        else
            msh__flow_lost(f, EPIPE);
        break;
    case MSH_PUMP_FAILED:
        if (in && f->pump.error != ECONNRESET)
            end_stdin(f, f->pump.error);
        else if (!in && f->resume && f->pump.error == ECONNRESET)
            again(f);
        else
            msh__flow_over(f, f->pump.error);
        break;
    }
    msh__io_check(f->io);
}

void msh__io_check(msh_io *io)
{
    bool listening = false, running = false;
    for (int i = 0; i < MSH_STDIO; i++) {
        flow_state s = io->flow[i].state;
        listening = listening || s == FLOW_LISTEN;
        running = running || (i != MSH_STDIN && (s == FLOW_LISTEN || s == FLOW_RUN || s == FLOW_AGAIN));
    }
    if (!io->ready && !listening && !io->exited) {
        io->ready = true;
        msh__report(io, SAY_READY);
    }
    if (!io->exited || running || io->drained)
        return;
    io->drained = true;
    msh_list_remove(&io->draining);
    uv_mutex_lock(&io->relay->lock);
    for (int i = 0; i < MSH_STDIO; i++) {
        io->report.bytes[i] = atomic_load_explicit(&io->flow[i].moved, memory_order_relaxed);
        io->report.dropped[i] = io->flow[i].dropped;
        io->report.error[i] = io->flow[i].error;
    }
    uv_mutex_unlock(&io->relay->lock);
    msh__report(io, SAY_DRAINED);
}

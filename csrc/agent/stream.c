#include "agent/stream.h"
#include "agent/log.h"
#include "sys/fd.h"
#include "sys/usock.h"
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define TURN   (256u << 10) /* bytes of one stream before the next gets its turn */
#define REDIAL (100 * MSH_MS)
#define CONFIRM                                                                                              \
    (5000 * MSH_MS) /* how long a host may take to close an ended output, or to say where to go on */
#define PATIENCE (30000 * MSH_MS) /* how long a stream outlives its process without a host */
#define REPLAY   131072           /* bytes once more, for hosts that cannot say where to go on */

void msh__stream_queue(msh_streams *s, msh_stream_one *x)
{
    if (x->queued)
        return;
    x->queued = true;
    msh_list_push(&s->ready, &x->ready);
}

/* An input: what of it has come out of its sockets. */
static uint64_t taken(const msh_stream_one *x)
{
    return x->moved + (x->piped ? x->pump.held_n : 0);
}

/* Before a descriptor is closed. A registration ends with the open file, not with the descriptor, and that lives on: of a
 * terminal in other descriptors, of anything in a child between its fork and its exec. The event would name a stream
 * that is gone. */
static void unwatch(const msh_stream_one *x, int fd)
{
    if (fd >= 0)
        epoll_ctl(x->epoll, EPOLL_CTL_DEL, fd, NULL);
}

static void unwatch_both(const msh_stream_one *x)
{
    if (x->piped) {
        unwatch(x, msh_pump_in(&x->pump));
        unwatch(x, msh_pump_out(&x->pump));
    }
    unwatch(x, x->from);
    unwatch(x, x->to);
}

void msh__stream_end(msh_stream_one *x)
{
    if (x->input && x->words && x->from >= 0)
        msh_word_say(x->from, MSH_WORD_NO_MORE, taken(x)); /* so that the close is not taken for a break */
    unwatch_both(x);
    if (x->piped)
        msh_pump_free(&x->pump);
    x->piped = false;
    msh_fd_close(&x->from);
    msh_fd_close(&x->to);
    x->state = STREAM_CLOSED;
}

#define SINK UINT64_C(1) /* in the data of an event: it is about the end that we write to */

static bool add_events(msh_streams *s, int fd, uint32_t events, msh_stream_one *x)
{
    uint64_t side = (events & EPOLLOUT) != 0 ? SINK : 0;
    struct epoll_event ev = {.events = events | EPOLLET, .data.u64 = (uint64_t)(uintptr_t)x | side};
    return epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &ev) == 0 ||
           (errno == EEXIST && epoll_ctl(s->epoll, EPOLL_CTL_MOD, fd, &ev) == 0);
}

static uint32_t sink_events(const msh_stream_one *x)
{
    return !x->input && x->words ? EPOLLOUT | EPOLLIN : EPOLLOUT;
}

void msh__stream_start(msh_streams *s, msh_stream_one *x)
{
    msh_err err = {0};
    x->piped = msh_pump_init(&x->pump, &s->kit, x->from, x->to, &err) == MSH_OK;
    if (!x->piped || (!x->input && x->port != NULL && msh_pump_keep(&x->pump, &err) != MSH_OK)) {
        msh_warn("stream: %s", err.msg);
        msh__stream_end(x);
        return;
    }
    x->state = STREAM_PUMP;
    if ((x->pump.in_polls && !add_events(s, msh_pump_in(&x->pump), EPOLLIN, x)) ||
        (x->pump.out_polls && !add_events(s, msh_pump_out(&x->pump), sink_events(x), x))) {
        msh_warn("stream: epoll: %s", strerror(errno));
        msh__stream_end(x);
        return;
    }
    msh__stream_queue(s, x);
}

void msh__stream_give_up_later(msh_stream_one *x, msh_time now)
{
    if (x->exited && !x->init && x->until == MSH_NEVER)
        x->until = now + PATIENCE;
}

static void redial(msh_stream_one *x)
{
    if (x->input) {
        unwatch(x, x->from);
        msh_fd_close(&x->from);
        msh_pump_new_in(&x->pump, -1);
    } else {
        unwatch(x, x->to);
        msh_fd_close(&x->to);
        msh_pump_new_out(&x->pump, -1);
    }
    x->state = STREAM_REDIALLING;
    x->word_n = 0;
    x->due = msh_now() + REDIAL;
    msh__stream_give_up_later(x, msh_now());
}

/* A word of the host about an output. True when it, or the end of the socket, was dealt with. */
static bool hear(msh_streams *s, msh_stream_one *x)
{
    uint64_t host_has = 0;
    bool over;
    msh_word w = msh_word_hear(x->to, x->word, &x->word_n, &host_has, &over);
    if (w == MSH_WORD_NO_MORE) {
        msh__stream_end(x); /* the writer gets EPIPE, as it would from a reader that left */
    } else if (w == MSH_WORD_GO_ON && x->state == STREAM_HEARING) {
        uint64_t gone = msh_pump_resume(&x->pump, host_has);
        if (gone > 0)
            msh_warn("stream: %llu bytes are lost", (unsigned long long)gone);
        x->state = STREAM_PUMP;
        msh__stream_queue(s, x);
    } else if (over || w != MSH_WORD_NONE) {
        redial(x);
    } else {
        return false;
    }
    return true;
}

static void lost(msh_streams *s, msh_stream_one *x)
{
    if (x->port == NULL)
        msh__stream_end(x);
    else if (x->input || !x->words || !hear(s, x))
        redial(x);
}

static void connected(msh_streams *s, msh_stream_one *x, int fd)
{
    if (x->input) {
        x->from = fd;
        msh_pump_new_in(&x->pump, fd);
    } else {
        x->to = fd;
        msh_pump_new_out(&x->pump, fd);
    }
    if (!add_events(s, fd, x->input ? EPOLLIN : sink_events(x), x) ||
        (x->input && !msh_word_say(fd, MSH_WORD_GO_ON, taken(x)))) {
        redial(x);
        return;
    }
    if (!x->input && x->words) {
        x->state = STREAM_HEARING;
        x->due = msh_now() + CONFIRM;
        hear(s, x);
        return;
    }
    if (!x->input)
        msh_tail_replay(x->pump.tail, REPLAY);
    x->state = STREAM_PUMP;
    msh__stream_queue(s, x);
}

static void finish_output(msh_streams *s, msh_stream_one *x)
{
    if (shutdown(x->to, SHUT_WR) != 0) {
        lost(s, x);
        return;
    }
    unwatch(x, msh_pump_in(&x->pump));
    unwatch(x, x->from);
    msh_fd_close(&x->from);
    msh_pump_new_in(&x->pump, -1);
    x->pump.ended = true; /* what is kept may have to be sent once more */
    x->terminal = false;
    x->state = STREAM_CLOSING;
    x->due = x->words ? MSH_NEVER : msh_now() + CONFIRM;
    msh__stream_give_up_later(x, msh_now());
    struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP, .data.u64 = (uint64_t)(uintptr_t)x};
    if (epoll_ctl(s->epoll, EPOLL_CTL_MOD, x->to, &ev) != 0)
        msh__stream_end(x);
}

void msh__stream_turn(msh_streams *s, msh_stream_one *x)
{
    if (x->state != STREAM_PUMP)
        return;
    switch (msh_pump_move(&x->pump, TURN, &x->moved)) {
    case MSH_PUMP_MORE:
        msh__stream_queue(s, x);
        break;
    case MSH_PUMP_WAIT:
        break;
    case MSH_PUMP_EOF:
        if (x->terminal && !x->input && !x->exited)
            x->pump.ended = false; /* who opens the terminal again wakes us */
        else if (x->input && x->words && msh_word_broke(x->from))
            lost(s, x);
        else if (x->input || (x->terminal && !x->words))
            msh__stream_end(x);
        else
            finish_output(s, x);
        break;
    case MSH_PUMP_LOST:
        if (x->input)
            msh__stream_end(x); /* the process reads no more */
        else
            lost(s, x);
        break;
    case MSH_PUMP_FAILED:
        if (x->pump.error == EPIPE || x->pump.error == ECONNRESET || x->pump.error == ENOTCONN) {
            lost(s, x);
            break;
        }
        msh_warn("stream: %s", strerror(x->pump.error));
        msh__stream_end(x);
        break;
    }
}

static void closing(msh_streams *s, msh_stream_one *x)
{
    char drop[512];
    ssize_t n;
    if (x->words) {
        hear(s, x);
        return;
    }
    do
        n = recv(x->to, drop, sizeof drop, MSG_DONTWAIT);
    while (n > 0);
    if (n == 0 || (errno != EAGAIN && errno != EINTR))
        msh__stream_end(x);
}

void msh__stream_event(msh_streams *s, uint64_t data, uint32_t events)
{
    uintptr_t word = (uintptr_t)(data & ~SINK);
    /* NOLINTNEXTLINE(performance-no-int-to-ptr): epoll carries one word */
    msh_stream_one *x = (msh_stream_one *)word;
    bool sink = (data & SINK) != 0;
    if (x->state == STREAM_CLOSING) {
        closing(s, x);
    } else if (x->state == STREAM_HEARING) {
        if (sink)
            hear(s, x);
    } else if (x->state == STREAM_PUMP) {
        /* Without a byte to move nobody would notice that the reader has left. */
        if (sink && (events & (EPOLLHUP | EPOLLERR)) != 0) {
            if (x->input)
                msh__stream_end(x);
            else
                lost(s, x);
        } else if (!sink || x->input || !x->words || (events & EPOLLIN) == 0 || !hear(s, x)) {
            msh__stream_queue(s, x);
        }
    }
}

void msh__stream_due(msh_streams *s, msh_stream_one *x, msh_time now)
{
    if (now >= x->until || (now >= x->due && x->state == STREAM_CLOSING)) {
        msh__stream_end(x);
        return;
    }
    if (now < x->due)
        return;
    int fd = -1;
    if (x->state == STREAM_HEARING)
        redial(x);
    else if (msh_socket_connect(x->port, &fd, NULL) == MSH_OK)
        connected(s, x, fd);
    else
        x->due = now + REDIAL;
}

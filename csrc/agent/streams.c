#include "agent/streams.h"
#include "agent/log.h"
#include "base/list.h"
#include "base/time.h"
#include "sys/fd.h"
#include "sys/usock.h"
#include "transport/pump.h"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define TURN      (256u << 10) /* bytes of one stream before the next gets its turn */
#define REDIAL    (100 * MSH_MS)
#define HANDSHAKE (5000 * MSH_MS) /* how long an ended output waits for the host to close */

/* PUMP --end of input pipe--> CLOSED
 *  |  `--end of output--> CLOSING --host closed / time--> CLOSED
 *  `--host lost--> REDIAL --connected--> PUMP */
typedef enum state { PUMP, CLOSING, REDIALLING, CLOSED } state;

typedef struct stream {
    msh_node node;  /* in streams.all, or in streams.fresh while on its way to the thread */
    msh_node ready; /* in the thread's list of streams that may have something to move */
    bool queued;
    uint64_t owner;
    int from, to;
    bool input, terminal;
    bool exited; /* its process */
    int epoll;   /* that its ends are in */
    char *redial;
    state state;
    msh_pump pump;
    msh_time due; /* of CLOSING and REDIALLING */
} stream;

typedef struct order {
    msh_node node;
    uint64_t owner;
    bool forget;
} order;

struct msh_streams {
    pthread_t thread;
    pthread_mutex_t lock; /* guards fresh and orders */
    msh_node fresh, orders;
    int epoll, wake;
    /* the thread's own */
    msh_node all, ready;
    msh_pump_kit kit;
};

static void queue(msh_streams *s, stream *x)
{
    if (x->queued)
        return;
    x->queued = true;
    msh_list_push(&s->ready, &x->ready);
}

/* The memory goes when the round of events is over: another event may still name it. */
static void end(stream *x)
{
    if (x->state == PUMP)
        msh_pump_free(&x->pump);
    if (x->terminal) /* its open file lives on in other descriptors, and would keep its registration */
        epoll_ctl(x->epoll, EPOLL_CTL_DEL, x->input ? x->to : x->from, NULL);
    msh_fd_close(&x->from);
    msh_fd_close(&x->to);
    x->state = CLOSED;
}

#define SINK UINT64_C(1) /* in the data of an event: it is about the end that we write to */

static bool add_events(msh_streams *s, int fd, uint32_t events, stream *x)
{
    uint64_t side = (events & EPOLLOUT) != 0 ? SINK : 0;
    struct epoll_event ev = {.events = events | EPOLLET, .data.u64 = (uint64_t)(uintptr_t)x | side};
    return epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &ev) == 0 ||
           (errno == EEXIST && epoll_ctl(s->epoll, EPOLL_CTL_MOD, fd, &ev) == 0);
}

static void start(msh_streams *s, stream *x)
{
    msh_err err = {0};
    if (msh_pump_init(&x->pump, &s->kit, x->from, x->to, &err) != MSH_OK) {
        msh_warn("stream: %s", err.msg);
        x->state = CLOSING; /* nothing to free in the pump */
        end(x);
        return;
    }
    x->state = PUMP;
    if ((x->pump.in_polls && !add_events(s, msh_pump_in(&x->pump), EPOLLIN, x)) ||
        (x->pump.out_polls && !add_events(s, msh_pump_out(&x->pump), EPOLLOUT, x))) {
        msh_warn("stream: epoll: %s", strerror(errno));
        end(x);
        return;
    }
    queue(s, x);
}

static void lost(stream *x)
{
    if (x->redial == NULL) {
        end(x); /* the writer gets EPIPE, as it would from a reader that left */
        return;
    }
    msh_pump_free(&x->pump);
    msh_fd_close(&x->to);
    x->state = REDIALLING;
    x->due = msh_now() + REDIAL;
}

static void finish_output(msh_streams *s, stream *x)
{
    if (shutdown(x->to, SHUT_WR) != 0) {
        end(x);
        return;
    }
    msh_pump_free(&x->pump);
    msh_fd_close(&x->from);
    x->state = CLOSING;
    x->due = msh_now() + HANDSHAKE;
    struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP, .data.u64 = (uint64_t)(uintptr_t)x};
    if (epoll_ctl(s->epoll, EPOLL_CTL_MOD, x->to, &ev) != 0)
        end(x);
}

static void turn(msh_streams *s, stream *x)
{
    uint64_t moved = 0;
    if (x->state != PUMP)
        return;
    switch (msh_pump_move(&x->pump, TURN, &moved)) {
    case MSH_PUMP_MORE:
        queue(s, x);
        break;
    case MSH_PUMP_WAIT:
        break;
    case MSH_PUMP_EOF:
        if (x->terminal && !x->input && !x->exited)
            x->pump.ended = false; /* who opens the terminal again wakes us */
        else if (x->input || x->terminal)
            end(x);
        else
            finish_output(s, x);
        break;
    case MSH_PUMP_LOST:
        lost(x);
        break;
    case MSH_PUMP_FAILED:
        if (x->pump.error == EPIPE || x->pump.error == ECONNRESET || x->pump.error == ENOTCONN) {
            lost(x);
            break;
        }
        msh_warn("stream: %s", strerror(x->pump.error));
        end(x);
        break;
    }
}

static void event(msh_streams *s, uint64_t data, uint32_t events)
{
    stream *x =
        (stream *)(uintptr_t)(data & ~SINK); /* NOLINT(performance-no-int-to-ptr): epoll carries one word */
    if (x->state == CLOSING) {
        char drop[512];
        ssize_t n;
        do
            n = recv(x->to, drop, sizeof drop, MSG_DONTWAIT);
        while (n > 0);
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            end(x);
        return;
    }
    /* Without a byte to move nobody would notice that the reader has left. */
    if (x->state == PUMP && (data & SINK) != 0 && (events & (EPOLLHUP | EPOLLERR)) != 0)
        lost(x);
    else if (x->state == PUMP)
        queue(s, x);
}

static void due(msh_streams *s, stream *x, msh_time now)
{
    if (now < x->due)
        return;
    if (x->state == CLOSING) {
        end(x);
        return;
    }
    int fd = -1;
    if (msh_socket_connect(x->redial, &fd, NULL) != MSH_OK) {
        x->due = now + REDIAL;
        return;
    }
    x->to = fd;
    start(s, x);
}

static void take_orders(msh_streams *s)
{
    uint64_t n;
    ssize_t ignored = read(s->wake, &n, sizeof n);
    (void)ignored;
    for (;;) {
        pthread_mutex_lock(&s->lock);
        msh_node *f = msh_list_shift(&s->fresh);
        msh_node *o = f != NULL ? NULL : msh_list_shift(&s->orders); /* a stream before an order about it */
        pthread_mutex_unlock(&s->lock);
        if (f == NULL && o == NULL)
            return;
        if (f != NULL) {
            msh_list_push(&s->all, f);
            start(s, MSH_LIST_OF(f, stream, node));
            continue;
        }
        order *d = MSH_LIST_OF(o, order, node);
        for (msh_node *i = s->all.next; i != &s->all; i = i->next) {
            stream *x = MSH_LIST_OF(i, stream, node);
            if (x->owner != d->owner || x->state == CLOSED)
                continue;
            x->exited = true;
            if (d->forget || x->input)
                end(x);
            else if (x->state == PUMP && x->terminal)
                queue(s, x);
        }
        free(d);
    }
}

static void sweep(msh_streams *s, msh_time now, msh_time *next)
{
    *next = MSH_NEVER;
    for (msh_node *i = s->all.next, *after; i != &s->all; i = after) {
        stream *x = MSH_LIST_OF(i, stream, node);
        after = i->next; /* NOLINT(clang-analyzer-unix.Malloc): what is freed below was taken off the list */
        if (x->state == CLOSING || x->state == REDIALLING)
            due(s, x, now);
        if ((x->state == CLOSING || x->state == REDIALLING) && x->due < *next)
            *next = x->due;
        if (x->state != CLOSED)
            continue;
        msh_list_remove(&x->node);
        if (x->queued)
            msh_list_remove(&x->ready);
        free(x->redial);
        free(x);
    }
}

static void *run(void *arg)
{
    msh_streams *s = arg;
    struct epoll_event ev[64];
    msh_time next = MSH_NEVER;
    for (;;) {
        int wait = -1;
        msh_time now = msh_now();
        if (!msh_list_empty(&s->ready))
            wait = 0;
        else if (next != MSH_NEVER)
            wait = next <= now ? 0 : (int)((next - now) / MSH_MS) + 1;
        int n = epoll_wait(s->epoll, ev, 64, wait);
        bool orders = false;
        for (int i = 0; i < n; i++) {
            if (ev[i].data.u64 == 0)
                orders = true;
            else
                event(s, ev[i].data.u64, ev[i].events);
        }
        msh_node round;
        msh_list_init(&round);
        for (msh_node *r; (r = msh_list_shift(&s->ready)) != NULL;)
            msh_list_push(&round, r);
        for (msh_node *r; (r = msh_list_shift(&round)) != NULL;) {
            stream *x = MSH_LIST_OF(r, stream, ready);
            x->queued = false;
            turn(s, x);
        }
        if (orders)
            take_orders(s);
        sweep(s, msh_now(), &next);
    }
    return NULL;
}

msh_code msh_streams_open(msh_streams **out, msh_err *err)
{
    msh_streams *s = calloc(1, sizeof *s);
    if (s == NULL)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory");
    pthread_mutex_init(&s->lock, NULL);
    msh_list_init(&s->fresh);
    msh_list_init(&s->orders);
    msh_list_init(&s->all);
    msh_list_init(&s->ready);
    msh_pump_kit_init(&s->kit);
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 0};
    if (s->epoll < 0 || s->wake < 0 || epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->wake, &ev) != 0 ||
        pthread_create(&s->thread, NULL, run, s) != 0)
        return msh_fail_errno(err, errno, "start the data thread"); /* the program ends: nothing to undo */
    *out = s;
    return MSH_OK;
}

static void wake(msh_streams *s)
{
    uint64_t one = 1;
    ssize_t ignored = write(s->wake, &one, sizeof one);
    (void)ignored; /* full means that it is awake */
}

msh_code msh_streams_add(msh_streams *s, const msh_stream *want, msh_err *err)
{
    stream *x = calloc(1, sizeof *x);
    char *redial = want->redial == NULL ? NULL : strdup(want->redial);
    if (x == NULL || (want->redial != NULL && redial == NULL)) {
        int from = want->from, to = want->to;
        msh_fd_close(&from);
        msh_fd_close(&to);
        free(x);
        free(redial);
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory");
    }
    x->owner = want->owner;
    x->from = want->from;
    x->to = want->to;
    x->input = want->input;
    x->terminal = want->terminal;
    x->epoll = s->epoll;
    x->redial = redial;
    x->state = CLOSING;
    pthread_mutex_lock(&s->lock);
    msh_list_push(&s->fresh, &x->node);
    pthread_mutex_unlock(&s->lock);
    wake(s);
    return MSH_OK;
}

static void tell(msh_streams *s, uint64_t owner, bool forget)
{
    order *o = calloc(1, sizeof *o);
    if (o == NULL)
        return; /* the streams end by themselves when their processes and the host let go */
    o->owner = owner;
    o->forget = forget;
    pthread_mutex_lock(&s->lock);
    msh_list_push(&s->orders, &o->node);
    pthread_mutex_unlock(&s->lock);
    wake(s);
}

void msh_streams_exited(msh_streams *s, uint64_t owner)
{
    tell(s, owner, false);
}

void msh_streams_forget(msh_streams *s, uint64_t owner)
{
    tell(s, owner, true);
}

#include "agent/streams.h"
#include "agent/log.h"
#include "agent/stream.h"
#include "sys/fd.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

typedef struct order {
    msh_node node;
    uint64_t owner;
    bool forget;
    struct answer *answer; /* a question; its asker waits */
} order;

typedef struct answer {
    pthread_cond_t changed;
    bool done;
    msh_buf *out;
    msh_code rc;
} answer;

/* ---- what others want ---- */

static void describe(msh_streams *s, answer *a)
{
    static const char *const states[] = {"moving", "ending", "dialling", "agreeing", "closed"};
    char line[256];
    for (msh_node *i = s->all.next; i != &s->all && a->rc == MSH_OK; i = i->next) {
        const msh_stream_one *x = MSH_LIST_OF(i, msh_stream_one, node);
        const msh_tail *t = x->piped ? x->pump.tail : NULL;
        snprintf(line, sizeof line, "  owner %llu %s%s: %s, %llu bytes%s%s", (unsigned long long)x->owner,
                 x->terminal ? "terminal " : "", x->input ? "input" : "output", states[x->state],
                 (unsigned long long)x->moved, x->exited ? ", process ended" : "", t == NULL ? "\n" : "");
        a->rc = msh_buf_append(a->out, msh_slice_of(line));
        if (t == NULL || a->rc != MSH_OK)
            continue;
        snprintf(line, sizeof line, ", %zu kept\n", msh_buf_size(&t->mem) + t->piped);
        a->rc = msh_buf_append(a->out, msh_slice_of(line));
    }
}

static void obey(msh_streams *s, const order *d)
{
    if (d->answer != NULL) {
        describe(s, d->answer);
        pthread_mutex_lock(&s->lock);
        d->answer->done = true;
        pthread_cond_signal(&d->answer->changed);
        pthread_mutex_unlock(&s->lock);
        return;
    }
    for (msh_node *i = s->all.next; i != &s->all; i = i->next) {
        msh_stream_one *x = MSH_LIST_OF(i, msh_stream_one, node);
        if (x->owner != d->owner || x->state == STREAM_CLOSED)
            continue;
        x->exited = true;
        if (d->forget || x->input)
            msh__stream_end(x);
        else if (x->state == STREAM_PUMP && x->terminal)
            msh__stream_queue(s, x);
        else if (x->state != STREAM_PUMP)
            msh__stream_give_up_later(x, msh_now());
    }
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
            msh__stream_start(s, MSH_LIST_OF(f, msh_stream_one, node));
            continue;
        }
        order *d = MSH_LIST_OF(o, order, node);
        obey(s, d);
        free(d);
    }
}

static void sweep(msh_streams *s, msh_time now, msh_time *next)
{
    *next = MSH_NEVER;
    for (msh_node *i = s->all.next, *after; i != &s->all; i = after) {
        msh_stream_one *x = MSH_LIST_OF(i, msh_stream_one, node);
        after = i->next; /* NOLINT(clang-analyzer-unix.Malloc): what is freed below was taken off the list */
        if (x->state != STREAM_PUMP && x->state != STREAM_CLOSED)
            msh__stream_due(s, x, now);
        if (x->state != STREAM_PUMP && x->state != STREAM_CLOSED) {
            msh_time when = x->due < x->until ? x->due : x->until;
            *next = when < *next ? when : *next;
        }
        if (x->state != STREAM_CLOSED)
            continue;
        msh_list_remove(&x->node);
        if (x->queued)
            msh_list_remove(&x->ready);
        free(x->port);
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
                msh__stream_event(s, ev[i].data.u64, ev[i].events);
        }
        msh_node round;
        msh_list_init(&round);
        for (msh_node *r; (r = msh_list_shift(&s->ready)) != NULL;)
            msh_list_push(&round, r);
        for (msh_node *r; (r = msh_list_shift(&round)) != NULL;) {
            msh_stream_one *x = MSH_LIST_OF(r, msh_stream_one, ready);
            x->queued = false;
            msh__stream_turn(s, x);
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
    msh_stream_one *x = calloc(1, sizeof *x);
    bool dials = want->port != NULL && (want->words || (want->init && !want->input));
    char *port = dials ? strdup(want->port) : NULL;
    if (x == NULL || (dials && port == NULL)) {
        int from = want->from, to = want->to;
        msh_fd_close(&from);
        msh_fd_close(&to);
        free(x);
        free(port);
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory");
    }
    x->owner = want->owner;
    x->from = want->from;
    x->to = want->to;
    x->input = want->input;
    x->terminal = want->terminal;
    x->epoll = s->epoll;
    x->words = dials && want->words;
    x->init = want->init;
    x->port = port;
    x->state = STREAM_CLOSING;
    x->due = x->until = MSH_NEVER;
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

msh_code msh_streams_describe(msh_streams *s, msh_buf *out, msh_err *err)
{
    order *o = calloc(1, sizeof *o);
    answer a = {.out = out};
    if (o == NULL)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory");
    pthread_cond_init(&a.changed, NULL);
    o->answer = &a;
    pthread_mutex_lock(&s->lock);
    msh_list_push(&s->orders, &o->node);
    wake(s);
    while (!a.done)
        pthread_cond_wait(&a.changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
    pthread_cond_destroy(&a.changed);
    return a.rc == MSH_OK ? MSH_OK : msh_fail(err, a.rc, "the list of streams is too long");
}

void msh_streams_exited(msh_streams *s, uint64_t owner)
{
    tell(s, owner, false);
}

void msh_streams_forget(msh_streams *s, uint64_t owner)
{
    tell(s, owner, true);
}

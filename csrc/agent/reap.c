#include "agent/reap.h"
#include "agent/log.h"
#include "base/list.h"
#include "base/time.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* An exit that nobody had asked for when it happened. */
typedef struct orphan {
    pid_t pid;
    int status;
    uint64_t seq;
} orphan;

#define ORPHANS_MAX 65536u

typedef struct watch {
    msh_node node;
    pid_t pid;
    msh_reap_fn fn; /* loop watch */
    void *ctx;
    bool ended;
    int status;
} watch;

struct msh_reap {
    uv_signal_t signal;
    uv_async_t kick;
    pthread_mutex_t
        lock; /* guards all below; held over fork, so that a child is known before it can be reaped */
    pthread_cond_t changed; /* some blocking run ended; on the monotonic clock */
    msh_node runs;          /* watch: helpers of other threads */
    msh_node watches;       /* watch: callbacks */
    orphan *orphans;
    size_t n_orphans, cap_orphans;
    uint64_t seq; /* grows with every exit and every window */
    unsigned windows;
};

static void keep_orphan(msh_reap *r, pid_t pid, int status)
{
    if (r->windows == 0)
        return;
    if (r->n_orphans == r->cap_orphans) {
        size_t cap = r->cap_orphans == 0 ? 64 : r->cap_orphans * 2;
        orphan *p = cap > ORPHANS_MAX ? NULL : realloc(r->orphans, cap * sizeof *p);
        if (p == NULL) { /* the oldest half is the least likely to be asked for */
            memmove(r->orphans, r->orphans + r->n_orphans / 2,
                    (r->n_orphans - r->n_orphans / 2) * sizeof *r->orphans);
            r->n_orphans -= r->n_orphans / 2;
        } else {
            r->orphans = p;
            r->cap_orphans = cap;
        }
    }
    if (r->n_orphans < r->cap_orphans)
        r->orphans[r->n_orphans++] = (orphan){pid, status, r->seq};
}

static watch *find(msh_node *head, pid_t pid)
{
    for (msh_node *n = head->next; n != head; n = n->next) {
        watch *w = MSH_LIST_OF(n, watch, node);
        if (w->pid == pid && !w->ended)
            return w;
    }
    return NULL;
}

static void reap_all(msh_reap *r)
{
    for (;;) {
        int status;
        pthread_mutex_lock(&r->lock);
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid <= 0) {
            pthread_mutex_unlock(&r->lock);
            return;
        }
        r->seq++;
        watch *w = find(&r->runs, pid);
        if (w != NULL) {
            w->ended = true;
            w->status = status;
            pthread_cond_broadcast(&r->changed);
            pthread_mutex_unlock(&r->lock);
            continue;
        }
        w = find(&r->watches, pid);
        if (w != NULL)
            msh_list_remove(&w->node);
        else
            keep_orphan(r, pid, status);
        pthread_mutex_unlock(&r->lock);
        if (w != NULL) {
            w->fn(w->ctx, pid, status);
            free(w);
        }
    }
}

static void on_child(uv_signal_t *s, int signum)
{
    (void)signum;
    reap_all(s->data);
}

/* Watches of processes that had ended already. */
static void on_kick(uv_async_t *a)
{
    msh_reap *r = a->data;
    for (;;) {
        watch *w = NULL;
        pthread_mutex_lock(&r->lock);
        for (msh_node *n = r->watches.next; n != &r->watches && w == NULL; n = n->next)
            if (MSH_LIST_OF(n, watch, node)->ended)
                w = MSH_LIST_OF(n, watch, node);
        if (w != NULL)
            msh_list_remove(&w->node);
        pthread_mutex_unlock(&r->lock);
        if (w == NULL)
            return;
        w->fn(w->ctx, w->pid, w->status);
        free(w);
    }
}

msh_code msh_reap_open(uv_loop_t *loop, msh_reap **out, msh_err *err)
{
    msh_reap *r = calloc(1, sizeof *r);
    if (r == NULL)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory");
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&r->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&r->lock, NULL);
    msh_list_init(&r->runs);
    msh_list_init(&r->watches);
    r->signal.data = r->kick.data = r;
    int rc = uv_async_init(loop, &r->kick, on_kick);
    if (rc == 0)
        rc = uv_signal_init(loop, &r->signal);
    if (rc == 0)
        rc = uv_signal_start(&r->signal, on_child, SIGCHLD);
    if (rc != 0)
        return msh_fail_errno(err, -rc, "watch for child exits"); /* the program ends: nothing to undo */
    *out = r;
    return MSH_OK;
}

/* Forks under the lock. On failure the child, if there was one, is left to waitpid as an orphan. */
static msh_code launch(msh_reap *r, const msh_spawn *s, watch *w, pid_t *pid, msh_err *err)
{
    pthread_mutex_lock(&r->lock);
    msh_code rc = msh_spawn_run(s, pid, err);
    if (rc == MSH_OK && w != NULL) {
        w->pid = *pid;
        msh_list_push(&r->runs, &w->node);
    }
    pthread_mutex_unlock(&r->lock);
    return rc;
}

msh_code msh_reap_start(msh_reap *r, const msh_spawn *s, pid_t *pid, msh_err *err)
{
    return launch(r, s, NULL, pid, err);
}

msh_code msh_reap_run(msh_reap *r, const msh_spawn *s, unsigned within_ms, int *wait_status, msh_err *err)
{
    watch w = {0};
    pid_t pid;
    msh_code rc = launch(r, s, &w, &pid, err);
    if (rc != MSH_OK)
        return rc;
    bool killed = false;
    msh_time end = msh_now() + within_ms * MSH_MS;
    struct timespec until = {(time_t)(end / 1000000000u), (long)(end % 1000000000u)};
    pthread_mutex_lock(&r->lock);
    while (!w.ended) {
        if (killed)
            pthread_cond_wait(&r->changed, &r->lock);
        else if (pthread_cond_timedwait(&r->changed, &r->lock, &until) == ETIMEDOUT && !w.ended) {
            kill(-pid, SIGKILL); /* its session too */
            kill(pid, SIGKILL);
            killed = true;
        }
    }
    msh_list_remove(&w.node);
    pthread_mutex_unlock(&r->lock);
    if (killed)
        return msh_fail(err, MSH_DEADLINE_EXCEEDED, "%s did not end within %u ms", s->path, within_ms);
    *wait_status = w.status;
    return MSH_OK;
}

uint64_t msh_reap_window(msh_reap *r)
{
    pthread_mutex_lock(&r->lock);
    r->windows++;
    uint64_t seq = ++r->seq;
    pthread_mutex_unlock(&r->lock);
    return seq;
}

void msh_reap_window_close(msh_reap *r)
{
    pthread_mutex_lock(&r->lock);
    if (--r->windows == 0)
        r->n_orphans = 0;
    pthread_mutex_unlock(&r->lock);
}

msh_code msh_reap_watch(msh_reap *r, pid_t pid, uint64_t window, msh_reap_fn fn, void *ctx, msh_err *err)
{
    watch *w = calloc(1, sizeof *w);
    if (w == NULL)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory");
    w->pid = pid;
    w->fn = fn;
    w->ctx = ctx;
    pthread_mutex_lock(&r->lock);
    for (size_t i = r->n_orphans; i-- > 0 && !w->ended;) {
        if (r->orphans[i].pid != pid || r->orphans[i].seq < window)
            continue;
        w->ended = true;
        w->status = r->orphans[i].status;
        r->orphans[i] = r->orphans[--r->n_orphans];
    }
    msh_list_push(&r->watches, &w->node);
    pthread_mutex_unlock(&r->lock);
    if (w->ended)
        uv_async_send(&r->kick);
    return MSH_OK;
}

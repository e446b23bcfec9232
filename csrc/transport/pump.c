#include "transport/pump.h"
#include "sys/fd.h"
#include "transport/pump_ends.h"
#include "transport/tail.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>

enum way { SPLICE, SENDFILE, MIDDLE, COPY, KEEP };

void msh_pump_kit_init(msh_pump_kit *k)
{
    *k = (msh_pump_kit){.mid = {-1, -1}, .null = -1};
}

void msh_pump_kit_free(msh_pump_kit *k)
{
    free(k->scratch);
    msh_fd_close(&k->mid[0]);
    msh_fd_close(&k->mid[1]);
    msh_fd_close(&k->null);
    while (k->n_spare > 0) {
        int *pair = k->spare[--k->n_spare];
        msh_fd_close(&pair[0]);
        msh_fd_close(&pair[1]);
    }
    msh_pump_kit_init(k);
}

static int way_for(int in, int out)
{
    bool file_in = in == FILE_ || in == FILE_APPEND;
    if (in == PIPE && (out == PIPE || out == SOCKET_NONBLOCK || out == FILE_ || out == MEMORY))
        return SPLICE;
    if (in == SOCKET_NONBLOCK && out == PIPE)
        return SPLICE;
    if (in == SOCKET_NONBLOCK && (out == FILE_ || out == MEMORY || out == SOCKET_NONBLOCK))
        return out == SOCKET_NONBLOCK ? COPY : MIDDLE; /* a middle shared by many must never be left full */
    if (file_in && out == SOCKET_NONBLOCK)
        return SENDFILE;
    if (file_in && out == PIPE)
        return SPLICE;
    return COPY;
}

msh_code msh_pump_init(msh_pump *p, msh_pump_kit *kit, int in, int out, msh_err *err)
{
    *p = (msh_pump){.kit = kit, .in = in, .out = out, .own_in = -1, .own_out = -1};
    msh_code rc = msh__end_look(in, false, &p->own_in, &p->in_kind, err);
    if (rc == MSH_OK)
        rc = msh__end_look(out, true, &p->own_out, &p->out_kind, err);
    if (rc != MSH_OK) {
        msh_pump_free(p);
        return rc;
    }
    p->way = way_for(p->in_kind, p->out_kind);
    p->in_polls = msh__end_polls(p->in_kind);
    p->out_polls = msh__end_polls(p->out_kind);
    return MSH_OK;
}

msh_code msh_pump_keep(msh_pump *p, msh_err *err)
{
    if (p->out_kind != SOCKET_NONBLOCK)
        return msh_fail(err, MSH_INTERNAL, "what is sent can be kept for a socket only");
    p->tail = malloc(sizeof *p->tail);
    if (p->tail == NULL)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory");
    msh_tail_init(p->tail, p->kit);
    if (p->way != SENDFILE) /* a file can be read once more */
        p->way = KEEP;
    return MSH_OK;
}

bool msh_pump_rereads(const msh_pump *p)
{
    return p->tail != NULL && p->way == SENDFILE;
}

uint64_t msh_pump_resume(msh_pump *p, uint64_t taken)
{
    msh_tail *t = p->tail;
    if (!msh_pump_rereads(p) || taken >= t->sent)
        return msh_tail_resume(t, taken);
    uint64_t back = t->sent - taken;
    if (lseek(p->in, -(off_t)back, SEEK_CUR) < 0)
        return back;
    t->sent = t->end = taken;
    p->ended = false;
    return 0;
}

void msh_pump_new_in(msh_pump *p, int in)
{
    p->in = in;
    p->ended = false;
}

void msh_pump_new_out(msh_pump *p, int out)
{
    p->out = out;
}

void msh_pump_free(msh_pump *p)
{
    if (p->tail != NULL)
        msh_tail_free(p->tail);
    free(p->tail);
    p->tail = NULL;
    free(p->held);
    p->held = NULL;
    p->held_n = 0;
    msh_fd_close(&p->own_in);
    msh_fd_close(&p->own_out);
}

int msh_pump_in(const msh_pump *p)
{
    return p->own_in >= 0 ? p->own_in : p->in;
}

int msh_pump_out(const msh_pump *p)
{
    return p->own_out >= 0 ? p->own_out : p->out;
}

/* The kernel cannot splice these two, or no memory for the middle: from now on by copying. */
static bool fall_back(msh_pump *p, int e)
{
    if (e != EINVAL && e != ENOSYS && e != EOPNOTSUPP && e != EMFILE && e != ENFILE)
        return false;
    p->way = p->tail != NULL ? KEEP : COPY;
    return true;
}

static msh_pump_state hold(msh_pump *p, const char *from, size_t n)
{
    if (p->held == NULL)
        p->held = malloc(MSH_PUMP_HELD);
    if (p->held == NULL)
        return msh__pump_failed(p, ENOMEM);
    memcpy(p->held, from, n);
    p->held_at = 0;
    p->held_n = n;
    return MSH_PUMP_MORE;
}

/* EOF stands for "all of it has left" here. */
static msh_pump_state give_held(msh_pump *p, uint64_t *moved)
{
    while (p->held_n > 0) {
        ssize_t n = msh__end_give(p, p->held + p->held_at, p->held_n);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return msh__end_out_error(p, errno);
        }
        *moved += (uint64_t)n;
        p->held_at += (size_t)n;
        p->held_n -= (size_t)n;
    }
    free(p->held);
    p->held = NULL;
    return MSH_PUMP_EOF;
}

static msh_pump_state copy(msh_pump *p, size_t *budget, uint64_t *moved)
{
    msh_pump_kit *k = p->kit;
    if (k->scratch == NULL && (k->scratch = malloc(MSH_PUMP_HELD)) == NULL)
        return msh__pump_failed(p, ENOMEM);
    ssize_t n = msh__end_take(p, k->scratch, MSH_PUMP_HELD);
    if (n < 0)
        return errno == EINTR ? MSH_PUMP_MORE : msh__end_in_error(p, errno);
    if (n == 0)
        return MSH_PUMP_EOF;
    *budget -= (size_t)n < *budget ? (size_t)n : *budget;
    size_t at = 0;
    while (at < (size_t)n) {
        ssize_t m = msh__end_give(p, k->scratch + at, (size_t)n - at);
        if (m >= 0) {
            at += (size_t)m;
            *moved += (uint64_t)m;
            continue;
        }
        if (errno == EINTR)
            continue;
        msh_pump_state s = msh__end_out_error(p, errno);
        if (s != MSH_PUMP_WAIT)
            return s;
        s = hold(p, k->scratch + at, (size_t)n - at);
        return s == MSH_PUMP_MORE ? MSH_PUMP_WAIT : s;
    }
    return MSH_PUMP_MORE;
}

static msh_pump_state direct(msh_pump *p, size_t *budget, uint64_t *moved)
{
    int in = msh_pump_in(p), out = msh_pump_out(p);
    ssize_t n = p->way == SENDFILE
                    ? sendfile(out, in, NULL, MSH_PUMP_HELD)
                    : splice(in, NULL, out, NULL, MSH_PUMP_HELD, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    if (n == 0)
        return MSH_PUMP_EOF;
    if (n > 0) {
        if (p->tail != NULL)
            p->tail->end += (uint64_t)n;
        *moved += p->tail != NULL ? msh_tail_sent(p->tail, (size_t)n) : (uint64_t)n;
        *budget -= (size_t)n < *budget ? (size_t)n : *budget;
        return MSH_PUMP_MORE;
    }
    if (errno == EINTR || fall_back(p, errno))
        return MSH_PUMP_MORE;
    /* One errno for two ends: a reset comes from the socket, a broken pipe from the end written to. */
    return p->in_kind == SOCKET_NONBLOCK && errno != EPIPE ? msh__end_in_error(p, errno)
                                                           : msh__end_out_error(p, errno);
}

/* Bytes in the middle that `out` did not take by splice: by copying, or thrown away with the pipe. */
static msh_pump_state empty_middle(msh_pump *p, size_t n, int e)
{
    msh_pump_kit *k = p->kit;
    if (fall_back(p, e)) {
        if (k->scratch == NULL && (k->scratch = malloc(MSH_PUMP_HELD)) == NULL)
            e = ENOMEM;
        else if (read(k->mid[0], k->scratch, n) == (ssize_t)n)
            return hold(p, k->scratch, n);
    }
    msh_fd_close(&k->mid[0]);
    msh_fd_close(&k->mid[1]);
    return e == EAGAIN ? msh__pump_failed(p, EIO) : msh__end_out_error(p, e);
}

static msh_pump_state middle(msh_pump *p, size_t *budget, uint64_t *moved)
{
    msh_pump_kit *k = p->kit;
    if (k->mid[0] < 0 && pipe2(k->mid, O_CLOEXEC) != 0) {
        k->mid[0] = k->mid[1] = -1;
        return fall_back(p, errno) ? MSH_PUMP_MORE : msh__pump_failed(p, errno);
    }
    ssize_t n =
        splice(msh_pump_in(p), NULL, k->mid[1], NULL, MSH_PUMP_HELD, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    if (n == 0)
        return MSH_PUMP_EOF;
    if (n < 0)
        return errno == EINTR || fall_back(p, errno) ? MSH_PUMP_MORE : msh__end_in_error(p, errno);
    *budget -= (size_t)n < *budget ? (size_t)n : *budget;
    for (size_t left = (size_t)n; left > 0;) {
        ssize_t m = splice(k->mid[0], NULL, msh_pump_out(p), NULL, left, SPLICE_F_MOVE);
        if (m > 0) {
            *moved += (uint64_t)m;
            left -= (size_t)m;
        } else if (m == 0 || errno != EINTR) {
            return empty_middle(p, left, m == 0 ? EIO : errno);
        }
    }
    return MSH_PUMP_MORE;
}

/* To a socket, with a copy of all that it took and its reader did not. */

static msh_pump_state kept_out(msh_pump *p, size_t *budget, uint64_t *moved, ssize_t n)
{
    if (n < 0)
        return errno == EINTR ? MSH_PUMP_MORE : msh__end_out_error(p, errno);
    *moved += msh_tail_sent(p->tail, (size_t)n);
    *budget -= (size_t)n < *budget ? (size_t)n : *budget;
    return MSH_PUMP_MORE;
}

static msh_pump_state keep_copy(msh_pump *p)
{
    char *to = msh_tail_reserve(p->tail, MSH_PUMP_HELD);
    if (to == NULL) /* full: its reader has to read first; else no memory */
        return msh_tail_trim(p->tail, p->out) ? MSH_PUMP_MORE : MSH_PUMP_WAIT;
    ssize_t n = msh__end_take(p, to, MSH_PUMP_HELD);
    if (n < 0)
        return errno == EINTR ? MSH_PUMP_MORE : msh__end_in_error(p, errno);
    if (n == 0)
        return MSH_PUMP_EOF;
    msh_tail_commit(p->tail, (size_t)n);
    return MSH_PUMP_MORE;
}

static msh_pump_state keep_more(msh_pump *p)
{
    if (p->in_kind != PIPE)
        return keep_copy(p);
    ssize_t n = msh_tail_tee(p->tail, p->in);
    if (n > 0)
        return MSH_PUMP_MORE;
    if (n == 0)
        return MSH_PUMP_EOF;
    if (errno == ENOMEM || errno == EINVAL)
        return keep_copy(p);
    int e = errno;
    bool more =
        e == EINTR || (e == EAGAIN && msh__end_ready(p->in, POLLIN) && msh_tail_trim(p->tail, p->out));
    return more ? MSH_PUMP_MORE : msh__end_in_error(p, e);
}

static msh_pump_state keep(msh_pump *p, size_t *budget, uint64_t *moved)
{
    msh_tail *t = p->tail;
    msh_slice again = msh_tail_unsent(t);
    if (again.n > 0)
        return kept_out(p, budget, moved, msh__end_give(p, again.p, again.n));
    size_t ahead = msh_tail_ahead(t);
    if (ahead > 0)
        return kept_out(p, budget, moved,
                        splice(p->in, NULL, p->out, NULL, ahead, SPLICE_F_NONBLOCK | SPLICE_F_MOVE));
    return keep_more(p);
}

static msh_pump_state move_kept(msh_pump *p, size_t budget, uint64_t *moved)
{
    msh_pump_state s = MSH_PUMP_MORE;
    while (budget > 0 && s == MSH_PUMP_MORE) {
        if (p->ended && msh_tail_unsent(p->tail).n == 0)
            return MSH_PUMP_EOF;
        s = keep(p, &budget, moved);
        if (s == MSH_PUMP_EOF)
            p->ended = true;
    }
    if (s == MSH_PUMP_WAIT)
        msh_tail_trim(p->tail, p->out);
    return s;
}

msh_pump_state msh_pump_move(msh_pump *p, size_t budget, uint64_t *moved)
{
    if (p->way == KEEP)
        return move_kept(p, budget, moved);
    while (budget > 0) {
        if (p->held_n > 0) {
            msh_pump_state s = give_held(p, moved);
            if (s != MSH_PUMP_EOF)
                return s;
        }
        if (p->ended)
            return MSH_PUMP_EOF;
        msh_pump_state s = p->way == COPY     ? copy(p, &budget, moved)
                           : p->way == MIDDLE ? middle(p, &budget, moved)
                                              : direct(p, &budget, moved);
        if (s == MSH_PUMP_EOF)
            p->ended = true;
        else if (s != MSH_PUMP_MORE)
            return s;
    }
    return MSH_PUMP_MORE;
}

#include "transport/tail.h"
#include "sys/fd.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    SLACK =
        64, /* a buffer is counted as one byte while it is being freed, and no buffer is smaller than this */
    BLIND = 131072, /* what may be on its way where the kernel does not say: what other peers replay */
};

void msh_tail_init(msh_tail *t, msh_pump_kit *kit)
{
    *t = (msh_tail){.kit = kit, .pipe = {-1, -1}};
}

/* Empty pipes are kept for the next stream that is in a hurry. */
static void drop_pipe(msh_tail *t)
{
    if (t->pipe[0] >= 0 && t->piped == 0 && t->kit->n_spare < MSH_PUMP_SPARE) {
        int *slot = t->kit->spare[t->kit->n_spare++];
        slot[0] = t->pipe[0];
        slot[1] = t->pipe[1];
        t->pipe[0] = t->pipe[1] = -1;
    }
    msh_fd_close(&t->pipe[0]);
    msh_fd_close(&t->pipe[1]);
    t->piped = 0;
}

static bool open_pipe(msh_tail *t)
{
    if (t->pipe[0] >= 0)
        return true;
    if (t->kit->n_spare > 0) {
        const int *slot = t->kit->spare[--t->kit->n_spare];
        t->pipe[0] = slot[0];
        t->pipe[1] = slot[1];
        return true;
    }
    if (pipe2(t->pipe, O_CLOEXEC | O_NONBLOCK) != 0) {
        t->pipe[0] = t->pipe[1] = -1;
        return false;
    }
    fcntl(t->pipe[1], F_SETPIPE_SZ,
          (int)MSH_TAIL_MAX); /* smaller is fine: it fills earlier, then the reader is waited for */
    return true;
}

void msh_tail_free(msh_tail *t)
{
    msh_fd_close(&t->pipe[0]);
    msh_fd_close(&t->pipe[1]);
    msh_buf_free(&t->mem);
    t->piped = 0;
}

static size_t kept(const msh_tail *t)
{
    return msh_buf_size(&t->mem) + t->piped;
}

msh_slice msh_tail_unsent(const msh_tail *t)
{
    msh_slice all = msh_buf_slice(&t->mem);
    size_t n = t->piped > 0 ? 0 : (size_t)(t->end - t->sent);
    return (msh_slice){n == 0 ? NULL : all.p + (all.n - n), n};
}

size_t msh_tail_ahead(const msh_tail *t)
{
    return t->piped > 0 ? (size_t)(t->end - t->sent) : 0;
}

size_t msh_tail_sent(msh_tail *t, size_t n)
{
    t->sent += n;
    if (t->sent <= t->high)
        return 0;
    size_t fresh = (size_t)(t->sent - t->high);
    t->high = t->sent;
    return fresh;
}

ssize_t msh_tail_tee(msh_tail *t, int in)
{
    if (!open_pipe(t)) {
        errno = ENOMEM;
        return -1;
    }
    ssize_t n = tee(in, t->pipe[1], MSH_PUMP_HELD, SPLICE_F_NONBLOCK);
    if (n > 0) {
        t->piped += (size_t)n;
        t->end += (uint64_t)n;
    }
    return n;
}

/* The newer part behind the older, all in memory. What is only ahead is dropped: it is still in its pipe. */
static bool load(msh_tail *t)
{
    size_t ahead = msh_tail_ahead(t), n = t->piped - ahead;
    char *to = n == 0 ? NULL : msh_buf_reserve(&t->mem, n);
    bool ok = n == 0 || (to != NULL && read(t->pipe[0], to, n) == (ssize_t)n);
    if (ok && n > 0)
        msh_buf_commit(&t->mem, n);
    t->end -= ahead;
    if (ahead > 0 || !ok) { /* not empty: of no use to others */
        msh_fd_close(&t->pipe[0]);
        msh_fd_close(&t->pipe[1]);
    }
    t->piped = 0;
    if (!ok) /* what is in front of a hole helps nobody */
        msh_buf_consume(&t->mem, msh_buf_size(&t->mem));
    return ok;
}

char *msh_tail_reserve(msh_tail *t, size_t n)
{
    if ((t->piped > 0 && !load(t)) || msh_buf_size(&t->mem) + n > MSH_TAIL_MAX)
        return NULL;
    return msh_buf_reserve(&t->mem, n);
}

void msh_tail_commit(msh_tail *t, size_t n)
{
    msh_buf_commit(&t->mem, n);
    t->end += n;
}

static bool throw_away(msh_tail *t, size_t n)
{
    msh_pump_kit *k = t->kit;
    if (k->null < 0)
        k->null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    while (n > 0) {
        char waste[4096];
        ssize_t m = k->null >= 0 ? splice(t->pipe[0], NULL, k->null, NULL, n, SPLICE_F_NONBLOCK)
                                 : read(t->pipe[0], waste, n < sizeof waste ? n : sizeof waste);
        if (m <= 0)
            return false;
        n -= (size_t)m;
        t->piped -= (size_t)m;
    }
    return true;
}

bool msh_tail_trim(msh_tail *t, int sock)
{
    int queued = 0;
    if (kept(t) == 0)
        return false;
    if (ioctl(sock, SIOCOUTQ, &queued) != 0)
        queued = BLIND;
    if (msh_word_broke(
            sock)) /* the queue of a reader that has gone is empty, too; the kernel marks the loss first */
        return false;
    uint64_t keep = (queued < SLACK ? 0 : (uint64_t)queued) + (t->end - t->sent);
    if (keep >= kept(t))
        return false;
    size_t drop = kept(t) - (size_t)keep;
    size_t old = drop < msh_buf_size(&t->mem) ? drop : msh_buf_size(&t->mem);
    if (old > 0)
        msh_buf_consume(&t->mem, old);
    if (msh_buf_size(&t->mem) == 0)
        msh_buf_free(&t->mem);
    throw_away(t, drop - old); /* fails on a broken pipe only; then more is kept than is needed */
    if (t->piped == 0)
        drop_pipe(t);
    return true;
}

uint64_t msh_tail_resume(msh_tail *t, uint64_t taken)
{
    load(t);
    uint64_t first = t->end - msh_buf_size(&t->mem), lost = 0;
    if (taken < first) {
        lost = first - taken;
        taken = first;
    }
    if (taken > t->end)
        taken = t->end; /* nobody can have read what was never sent */
    msh_buf_consume(&t->mem, (size_t)(taken - first));
    t->sent = taken;
    return lost;
}

void msh_tail_replay(msh_tail *t, uint64_t most)
{
    load(t);
    uint64_t first = t->end - msh_buf_size(&t->mem);
    msh_tail_resume(t, t->end > most && t->end - most > first ? t->end - most : first);
}

/* Words: "mshR", what is said, the position; little-endian. */

static const char mark[4] = {'m', 's', 'h', 'R'};

bool msh_word_say(int sock, msh_word word, uint64_t taken)
{
    unsigned char b[MSH_WORD_SIZE];
    memcpy(b, mark, 4);
    for (int i = 0; i < 4; i++)
        b[4 + i] = i == 0 ? (unsigned char)word : 0;
    for (int i = 0; i < 8; i++)
        b[8 + i] = (unsigned char)(taken >> (8 * i));
    return send(sock, b, sizeof b, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof b;
}

msh_word msh_word_hear(int sock, char *got, size_t *n, uint64_t *taken, bool *over)
{
    *over = false;
    while (*n < MSH_WORD_SIZE) {
        ssize_t m = recv(sock, got + *n, MSH_WORD_SIZE - *n, MSG_DONTWAIT);
        if (m < 0 && errno == EINTR)
            continue;
        if (m <= 0) {
            *over = m == 0 || errno != EAGAIN;
            return MSH_WORD_NONE;
        }
        *n += (size_t)m;
    }
    const unsigned char *b = (const unsigned char *)got;
    *n = 0;
    if (memcmp(b, mark, 4) != 0 || (b[4] != MSH_WORD_GO_ON && b[4] != MSH_WORD_NO_MORE)) {
        *over = true;
        return MSH_WORD_NONE;
    }
    *taken = 0;
    for (int i = 0; i < 8; i++)
        *taken |= (uint64_t)b[8 + i] << (8 * i);
    return (msh_word)b[4];
}

bool msh_word_broke(int sock)
{
    struct pollfd p = {.fd = sock, .events = POLLIN};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR)) != 0;
}

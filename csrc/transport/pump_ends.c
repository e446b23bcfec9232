#include "transport/pump_ends.h"
#include "sys/fd.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    ODD_WRITE = 256, /* what a terminal takes once poll says writable */
};

static bool nonblock(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_NONBLOCK) != 0;
}

msh_code msh__end_look(int fd, bool out, int *own, int *kind, msh_err *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return msh_fail_errno(err, errno, "look at descriptor %d", fd);
    if (S_ISFIFO(st.st_mode)) {
        *kind = PIPE;
    } else if (S_ISSOCK(st.st_mode)) {
        *kind = nonblock(fd) ? SOCKET_NONBLOCK : SOCKET;
    } else if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)) {
        *kind = (fcntl(fd, F_GETFL) & O_APPEND) != 0 ? FILE_APPEND : FILE_;
    } else if (S_ISCHR(st.st_mode) && major(st.st_rdev) == 1) {
        *kind = MEMORY;
    } else if (S_ISDIR(st.st_mode)) {
        return msh_fail(err, MSH_INVALID_ARGUMENT, "descriptor %d is a folder", fd);
    } else {
        *kind = ODD;
        if (isatty(fd) && st.st_rdev == makedev(5, 2)) {
            /* The master of a pty cannot be re-opened: that would make a new pty. */
            if (nonblock(fd))
                *kind = TERMINAL;
        } else if (isatty(fd)) {
            char path[40];
            snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
            *own = open(path, (out ? O_WRONLY : O_RDONLY) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
            if (*own >= 0)
                *kind = TERMINAL;
        }
    }
    return MSH_OK;
}

bool msh__end_polls(int kind)
{
    return kind != FILE_ && kind != FILE_APPEND && kind != MEMORY;
}

bool msh__end_ready(int fd, short events)
{
    struct pollfd f = {.fd = fd, .events = events};
    return poll(&f, 1, 0) > 0;
}

ssize_t msh__end_take(const msh_pump *p, char *to, size_t n)
{
    int fd = msh_pump_in(p);
    struct iovec v = {.iov_base = to, .iov_len = n};
    ssize_t got;
    switch (p->in_kind) {
    case SOCKET:
    case SOCKET_NONBLOCK:
        return recv(fd, to, n, MSG_DONTWAIT);
    case PIPE:
        got = preadv2(fd, &v, 1, -1, RWF_NOWAIT);
        if (got >= 0 || errno != EOPNOTSUPP)
            return got;
        break;
    case ODD:
        break;
    default:
        return read(fd, to, n);
    }
    if (!msh__end_ready(fd, POLLIN)) {
        errno = EAGAIN;
        return -1;
    }
    return read(fd, to, n);
}

ssize_t msh__end_give(const msh_pump *p, const char *from, size_t n)
{
    int fd = msh_pump_out(p);
    struct iovec v = {.iov_base = (void *)from, .iov_len = n};
    ssize_t done;
    size_t most = ODD_WRITE;
    switch (p->out_kind) {
    case SOCKET:
    case SOCKET_NONBLOCK:
        return send(fd, from, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    case PIPE:
        done = pwritev2(fd, &v, 1, -1, RWF_NOWAIT);
        if (done >= 0 || errno != EOPNOTSUPP)
            return done;
        most = PIPE_BUF;
        break;
    case ODD:
        break;
    default:
        return write(fd, from, n);
    }
    if (!msh__end_ready(fd, POLLOUT)) {
        errno = EAGAIN;
        return -1;
    }
    return write(fd, from, n < most ? n : most);
}

msh_pump_state msh__pump_failed(msh_pump *p, int e)
{
    p->error = e;
    return MSH_PUMP_FAILED;
}

msh_pump_state msh__end_in_error(msh_pump *p, int e)
{
    if (e == EAGAIN)
        return MSH_PUMP_WAIT;
    if (e == EIO && (p->in_kind == TERMINAL || p->in_kind == ODD)) /* the other side of a pty hung up */
        return MSH_PUMP_EOF;
    return msh__pump_failed(p, e);
}

msh_pump_state msh__end_out_error(msh_pump *p, int e)
{
    if (e == EAGAIN)
        return MSH_PUMP_WAIT;
    if (e == EPIPE || e == ECONNRESET || e == ENOTCONN ||
        (e == EIO && (p->out_kind == TERMINAL || p->out_kind == ODD)))
        return MSH_PUMP_LOST;
    return msh__pump_failed(p, e);
}

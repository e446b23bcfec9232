#include "sys/usock.h"
#include "sys/fd.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 128, PASSED = 16 };

/* Puts `path` into an address; a long one as <folder's descriptor>/<name>, whose descriptor the caller closes. */
static msh_code address(const char *path, struct sockaddr_un *a, int *folder, msh_err *err)
{
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    size_t n = strlen(path);
    if (n == 0 || n >= PATH_MAX)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "socket path of %zu bytes", n);
    if (n < sizeof a->sun_path) {
        memcpy(a->sun_path, path, n + 1);
        return MSH_OK;
    }
    char dir[PATH_MAX];
    memcpy(dir, path, n + 1);
    char *slash = strrchr(dir, '/');
    if (slash == NULL)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "socket name of %zu bytes", n);
    *slash = '\0';
    int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return msh_fail_errno(err, errno, "open %s", dir);
    int m = snprintf(a->sun_path, sizeof a->sun_path, "/proc/self/fd/%d/%s", fd, slash + 1);
    if (m < 0 || (size_t)m >= sizeof a->sun_path) {
        msh_fd_close(&fd);
        return msh_fail(err, MSH_INVALID_ARGUMENT, "socket name of %zu bytes", strlen(slash + 1));
    }
    *folder = fd;
    return MSH_OK;
}

msh_code msh_socket_listen(const char *path, unsigned mode, int *fd, msh_socket_id *id, msh_err *err)
{
    struct sockaddr_un a;
    struct stat st;
    int folder = -1;
    msh_code rc = address(path, &a, &folder, err);
    if (rc != MSH_OK)
        return rc;
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* The mode is set before the file exists: between bind and a chmod others could connect. */
    if (s < 0 || fchmod(s, mode) != 0) {
        rc = msh_fail_errno(err, errno, "make a socket for %s", path);
    } else if (bind(s, (struct sockaddr *)&a, sizeof a) != 0) {
        int e = errno == EADDRINUSE ? EEXIST : errno;
        rc = msh_fail_errno(err, e, "listen on %s", path);
    } else if (listen(s, BACKLOG) != 0 || lstat(path, &st) != 0) {
        rc = msh_fail_errno(err, errno, "listen on %s", path);
        unlink(path);
    } else {
        *id = (msh_socket_id){.dev = st.st_dev, .ino = st.st_ino};
        *fd = s;
        s = -1;
    }
    msh_fd_close(&s);
    msh_fd_close(&folder);
    return rc;
}

void msh_socket_unlink(const char *path, const msh_socket_id *id)
{
    struct stat st;
    int saved = errno;
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_dev == id->dev && st.st_ino == id->ino)
        unlink(path);
    errno = saved;
}

msh_code msh_socket_connect(const char *path, int *fd, msh_err *err)
{
    struct sockaddr_un a;
    int folder = -1;
    msh_code rc = address(path, &a, &folder, err);
    if (rc != MSH_OK)
        return rc;
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int e = 0;
    if (s < 0) {
        e = errno;
    } else {
        do
            e = connect(s, (struct sockaddr *)&a, sizeof a) == 0 ? 0 : errno;
        while (e == EINTR);
    }
    if (e != 0) {
        rc = msh_fail_errno(err, e, "connect to %s", path);
    } else {
        *fd = s;
        s = -1;
    }
    msh_fd_close(&s);
    msh_fd_close(&folder);
    return rc;
}

msh_code msh_socket_accept(int listener, int *fd, msh_err *err)
{
    for (;;) {
        int s = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (s >= 0) {
            *fd = s;
            return MSH_OK;
        }
        if (errno != EINTR && errno != ECONNABORTED)
            return msh_fail_errno(err, errno, "accept a connection");
    }
}

msh_code msh_socket_peer(int fd, msh_peer *out, msh_err *err)
{
    struct ucred c;
    socklen_t n = sizeof c;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &n) != 0)
        return msh_fail_errno(err, errno, "ask who the peer is");
    *out = (msh_peer){.pid = c.pid, .uid = c.uid, .gid = c.gid};
    return MSH_OK;
}

msh_code msh_socket_send(int fd, msh_slice data, int pass, size_t *sent, msh_err *err)
{
    struct iovec iov = {.iov_base = (void *)data.p, .iov_len = data.n};
    union {
        struct cmsghdr h;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    if (pass >= 0) {
        m.msg_control = &control;
        m.msg_controllen = sizeof control;
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &pass, sizeof pass);
    }
    for (;;) {
        ssize_t n = sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            *sent = (size_t)n;
            return MSH_OK;
        }
        if (errno != EINTR)
            return msh_fail_errno(err, errno, "send");
    }
}

/* Keeps the first descriptor of a message in *pass and closes the others. */
static void take_fds(struct msghdr *m, int *pass)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int got;
            memcpy(&got, CMSG_DATA(c) + i * sizeof got, sizeof got);
            if (*pass < 0)
                *pass = got;
            else
                msh_fd_close(&got);
        }
    }
}

msh_code msh_socket_recv(int fd, void *p, size_t n, size_t *got, int *pass, msh_err *err)
{
    struct iovec iov = {.iov_base = p, .iov_len = n};
    union {
        struct cmsghdr h;
        char room[CMSG_SPACE(PASSED * sizeof(int))];
    } control;
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    if (pass != NULL) {
        m.msg_control = &control;
        m.msg_controllen = sizeof control;
    }
    for (;;) {
        ssize_t r = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (r >= 0) {
            *got = (size_t)r;
            if (pass != NULL) {
                *pass = -1;
                take_fds(&m, pass);
            }
            return MSH_OK;
        }
        if (errno != EINTR)
            return msh_fail_errno(err, errno, "receive");
    }
}

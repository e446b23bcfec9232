#include "sys/fd.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

void msh_fd_close(int *fd)
{
    if (*fd < 0)
        return;
    int saved = errno;
    close(*fd); /* on Linux the number is free even after EINTR: never close again */
    *fd = -1;
    errno = saved;
}

msh_code msh_fd_dup(int fd, int *out, msh_err *err)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (copy < 0)
        return msh_fail_errno(err, errno, "duplicate descriptor %d", fd);
    *out = copy;
    return MSH_OK;
}

msh_code msh_fd_pipe(int *read_end, int *write_end, msh_err *err)
{
    int p[2];
    if (pipe2(p, O_CLOEXEC) != 0)
        return msh_fail_errno(err, errno, "make a pipe");
    *read_end = p[0];
    *write_end = p[1];
    return MSH_OK;
}

uint64_t msh_fd_limit_raise(void)
{
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) != 0)
        return 0;
    uint64_t before = l.rlim_cur;
    l.rlim_cur = l.rlim_max;
    setrlimit(RLIMIT_NOFILE, &l); /* else it stays as it was, and opening fails where it failed before */
    return before;
}

void msh_fd_limit_set(uint64_t soft)
{
    struct rlimit l;
    if (soft == 0 || getrlimit(RLIMIT_NOFILE, &l) != 0)
        return;
    l.rlim_cur = soft < l.rlim_max ? soft : l.rlim_max;
    setrlimit(RLIMIT_NOFILE, &l);
}

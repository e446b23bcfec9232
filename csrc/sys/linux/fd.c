#include "sys/fd.h"
#include <errno.h>
#include <fcntl.h>
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

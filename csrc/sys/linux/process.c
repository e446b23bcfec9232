#include "sys/process.h"
#include "base/time.h"
#include "sys/fd.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

msh_code msh_process_start_time(pid_t pid, uint64_t *ticks, msh_err *err)
{
    char path[48], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? msh_fail(err, MSH_GONE, "no process %d", (int)pid)
                               : msh_fail_errno(err, errno, "open %s", path);
    ssize_t n = read(fd, text, sizeof text - 1);
    int e = errno;
    msh_fd_close(&fd);
    if (n <= 0)
        return n < 0 && e != ESRCH ? msh_fail_errno(err, e, "read %s", path)
                                   : msh_fail(err, MSH_GONE, "no process %d", (int)pid);
    text[n] = '\0';
    /* The second field is the program's name in brackets and may hold anything: count from its last bracket. */
    char *at = strrchr(text, ')');
    for (int field = 2; at != NULL && field < 22; field++)
        at = strchr(at + 1, ' ');
    char *end = at;
    uint64_t value = at != NULL ? strtoull(at + 1, &end, 10) : 0;
    if (at == NULL || end == at + 1)
        return msh_fail(err, MSH_INTERNAL, "%s: unknown form", path);
    *ticks = value;
    return MSH_OK;
}

msh_code msh_process_open(pid_t pid, uint64_t start_time, int *pidfd, msh_err *err)
{
    if (pid <= 0)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "%d is no process", (int)pid);
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0) {
        int e = errno;
        if (e == ESRCH || e == EINVAL || e == ENOENT) /* EINVAL: the number belongs to a thread now */
            return msh_fail(err, MSH_GONE, "no process %d", (int)pid);
        return msh_fail_errno(err, e, "open process %d", (int)pid);
    }
    /* Compared after the open: whoever has the right start time now had the number when we opened it. */
    uint64_t is = start_time;
    msh_code rc = start_time != 0 ? msh_process_start_time(pid, &is, err) : MSH_OK;
    if (rc == MSH_OK && is != start_time)
        rc = msh_fail(err, MSH_GONE, "process %d is another one now", (int)pid);
    if (rc != MSH_OK)
        msh_fd_close(&fd);
    else
        *pidfd = fd;
    return rc;
}

msh_code msh_process_signal(int pidfd, int signal, msh_err *err)
{
    if (syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) == 0)
        return MSH_OK;
    if (errno == ESRCH)
        return msh_fail(err, MSH_GONE, "the process has ended");
    return msh_fail_errno(err, errno, "send signal %d", signal);
}

msh_code msh_process_kill(pid_t pid, uint64_t start_time, int signal, msh_err *err)
{
    int fd = -1;
    msh_code rc = msh_process_open(pid, start_time, &fd, err);
    if (rc == MSH_OK)
        rc = msh_process_signal(fd, signal, err);
    msh_fd_close(&fd);
    return rc;
}

static int until_exit(int pidfd, uint64_t within_ms)
{
    msh_time due = msh_now() + within_ms * MSH_MS;
    for (;;) {
        struct pollfd p = {.fd = pidfd, .events = POLLIN};
        msh_time now = msh_now();
        uint64_t left = due > now ? (due - now + MSH_MS - 1) / MSH_MS : 0;
        int n = poll(&p, 1, left > INT_MAX ? INT_MAX : (int)left);
        if (n >= 0 && (n > 0 || left <= INT_MAX))
            return n;
        if (n < 0 && errno != EINTR)
            return -1;
    }
}

msh_code msh_process_wait(int pidfd, uint64_t within_ms, msh_exit *out, msh_err *err)
{
    if (within_ms > UINT32_MAX)
        within_ms = UINT32_MAX; /* seven weeks */
    int n = until_exit(pidfd, within_ms);
    if (n < 0)
        return msh_fail_errno(err, errno, "wait for a process");
    if (n == 0)
        return msh_fail(err, MSH_AGAIN, "the process is running");
    siginfo_t si = {0};
    int rc;
    do
        rc = waitid(P_PIDFD, (id_t)pidfd, &si, WEXITED | WNOHANG);
    while (rc != 0 && errno == EINTR);
    if (rc != 0 && errno != ECHILD)
        return msh_fail_errno(err, errno, "reap a process");
    if (rc == 0 && si.si_pid == 0)
        return msh_fail(err, MSH_AGAIN, "the process is running");
    *out = (msh_exit){0};
    if (rc != 0)
        out->gone = true;
    else if (si.si_code == CLD_EXITED)
        out->code = si.si_status;
    else
        out->signal = si.si_status;
    return MSH_OK;
}

/* flock, not an open-file-description lock: /proc/locks names the holder of the former only. */
#include "sys/lock.h"
#include "sys/fd.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static pid_t holder_of(const struct stat *st)
{
    FILE *f = fopen("/proc/locks", "re");
    if (f == NULL)
        return 0;
    pid_t by_inode = 0, exact = 0;
    char line[256];
    while (exact == 0 && fgets(line, sizeof line, f) != NULL) {
        /* 1: FLOCK  ADVISORY  WRITE 4242 08:01:1234 0 EOF */
        int pid;
        unsigned major, minor;
        unsigned long long ino;
        if (strstr(line, " -> ") != NULL || /* a waiter */
            sscanf(line, "%*s FLOCK %*s %*s %d %x:%x:%llu", &pid, &major, &minor, &ino) != 4)
            continue;
        if (ino != st->st_ino || pid <= 0)
            continue;
        by_inode = pid;
        if (makedev(major, minor) == st->st_dev)
            exact = pid;
    }
    fclose(f);
    /* btrfs and overlay show another device number in stat than the kernel keeps in the table. */
    return exact != 0 ? exact : by_inode;
}

static msh_code held(const char *path, int fd, pid_t *holder, msh_err *err)
{
    struct stat st;
    pid_t pid = fstat(fd, &st) == 0 ? holder_of(&st) : 0;
    if (holder != NULL)
        *holder = pid;
    if (pid > 0)
        return msh_fail(err, MSH_FAILED_PRECONDITION, "%s is locked by process %d", path, (int)pid);
    return msh_fail(err, MSH_FAILED_PRECONDITION, "%s is locked by another process", path);
}

msh_code msh_lock_take(const char *path, bool create, unsigned mode, int *fd, pid_t *holder, msh_err *err)
{
    int flags = O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | (create ? O_CREAT : 0);
    for (int tries = 0; tries < 100; tries++) {
        int f = open(path, flags, mode);
        if (f < 0)
            return msh_fail_errno(err, errno, "open %s", path);
        if (flock(f, LOCK_EX | LOCK_NB) != 0) {
            int e = errno;
            if (e == EINTR) {
                msh_fd_close(&f);
                continue;
            }
            msh_code rc =
                e == EWOULDBLOCK ? held(path, f, holder, err) : msh_fail_errno(err, e, "lock %s", path);
            msh_fd_close(&f);
            return rc;
        }
        struct stat mine, there;
        if (fstat(f, &mine) == 0 && stat(path, &there) == 0 && mine.st_dev == there.st_dev &&
            mine.st_ino == there.st_ino) {
            *fd = f;
            return MSH_OK;
        }
        msh_fd_close(&f); /* we locked a file that is no longer at this path */
    }
    return msh_fail(err, MSH_ABORTED, "lock %s: the file keeps being replaced", path);
}

void msh_lock_release(int *fd)
{
    msh_fd_close(fd);
}

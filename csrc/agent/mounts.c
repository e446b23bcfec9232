#include "agent/mounts.h"
#include "agent/fs.h"
#include "agent/log.h"
#include "agent/paths.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#define STACKED_MAX 5
#define BUSY_TRIES  20 /* times 10 ms: whoever handed us the mount may not have let go of it yet */

/* Whether `path` can be reached without following a link; false with MSH_OK when it is not there at all. */
static msh_code reachable(const char *path, bool *there, msh_err *err)
{
    int fd = -1;
    msh_err mine = {0};
    msh_code rc = msh_fs_open_plain(path, &fd, &mine);
    msh_fd_close(&fd); /* an open descriptor would keep the mount busy */
    *there = rc == MSH_OK;
    if (rc == MSH_OK || rc == MSH_NOT_FOUND)
        return MSH_OK;
    if (err != NULL)
        *err = mine;
    return rc;
}

msh_code msh_unmount(const char *path, msh_err *err)
{
    bool there;
    msh_code rc = reachable(path, &there, err);
    for (int i = 0, tries = 0; rc == MSH_OK && there && i < STACKED_MAX;) {
        if (umount2(path, UMOUNT_NOFOLLOW) == 0) {
            i++;
            continue;
        }
        if (errno == EINVAL || errno == ENOENT)
            break;
        if (errno == EBUSY && tries++ < BUSY_TRIES) {
            nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
            continue;
        }
        return msh_fail_errno(err, errno, "unmount %s", path);
    }
    return rc;
}

msh_code msh_unmount_point(const char *path, msh_err *err)
{
    msh_code rc = msh_unmount(path, err);
    if (rc == MSH_OK && rmdir(path) != 0 && errno != ENOENT)
        return msh_fail_errno(err, errno, "remove mount point %s", path);
    return rc;
}

/* Undoes the \040 escapes of mountinfo. */
static void unescape(char *s)
{
    char *out = s;
    for (; *s != '\0'; s++) {
        if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' &&
            s[3] <= '7') {
            *out++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
            s += 3;
        } else {
            *out++ = *s;
        }
    }
    *out = '\0';
}

/* Mount points at or below `path` in the order of mountinfo, in which a mount comes after what it stands on. */
static char **list_below(const char *path, size_t *n)
{
    char **list = NULL, *line = NULL;
    size_t cap = 0, room = 0;
    *n = 0;
    FILE *f = fopen("/proc/self/mountinfo", "re");
    while (f != NULL && getline(&line, &cap, f) > 0) {
        char at[4 * MSH_PATH_MAX]; /* each byte may be escaped */
        if (sscanf(line, "%*s %*s %*s %*s %16383s", at) != 1)
            continue;
        unescape(at);
        if (!msh_path_below(at, path))
            continue;
        if (*n == room) {
            char **more = realloc(list, (room = room == 0 ? 16 : room * 2) * sizeof *list);
            if (more == NULL)
                break;
            list = more;
        }
        if ((list[*n] = strdup(at)) != NULL)
            (*n)++;
    }
    free(line);
    if (f != NULL)
        fclose(f);
    return list;
}

size_t msh_mounts_below(const char *path)
{
    size_t n;
    char **list = list_below(path, &n);
    for (size_t i = 0; i < n; i++)
        free(list[i]);
    free(list);
    return n;
}

void msh_unmount_below(const char *path)
{
    size_t n;
    char **list = list_below(path, &n);
    while (n-- > 0) {
        if (umount2(list[n], UMOUNT_NOFOLLOW) != 0 && errno != EINVAL && errno != ENOENT)
            msh_warn("unmount %s: %s", list[n], strerror(errno));
        free(list[n]);
    }
    free(list);
}

msh_code msh_mount_shared(const char *path, msh_err *err)
{
    char name[MSH_FD_PATH];
    int fd = -1;
    msh_code rc = msh_fs_open_plain(path, &fd, err);
    if (rc != MSH_OK)
        return rc;
    msh_fd_path(fd, name);
    if (mount(name, name, NULL, MS_BIND | MS_REC, NULL) != 0)
        rc = msh_fail_errno(err, errno, "bind %s", path);
    msh_fd_close(&fd);
    if (rc == MSH_OK && mount(NULL, path, NULL, MS_SHARED | MS_REC, NULL) != 0)
        rc = msh_fail_errno(err, errno, "share the mounts of %s", path);
    return rc;
}

#include "sys/cgroup.h"
#include "base/time.h"
#include "sys/fd.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

enum { DEPTH = 32 };

/* 0, or the errno of the first group that would not go. Depth first; recursion bounded by DEPTH. */
static int remove_group(int at, const char *name, int depth)
{
    if (unlinkat(at, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return 0;
    if (errno != EBUSY && errno != ENOTEMPTY)
        return errno;
    if (depth == DEPTH)
        return ELOOP;
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : errno;
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        int e = errno;
        msh_fd_close(&fd);
        return e;
    }
    int first = 0;
    struct dirent *d;
    while ((d = readdir(dir)) != NULL) {
        if (d->d_type != DT_DIR || strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
            continue;
        int e = remove_group(fd, d->d_name, depth + 1);
        if (first == 0)
            first = e;
    }
    closedir(dir);
    if (unlinkat(at, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return 0;
    return first != 0 ? first : errno;
}

static msh_code remove_at(const char *path, msh_time due, msh_err *err)
{
    struct statfs fs;
    if (statfs(path, &fs) != 0)
        return errno == ENOENT ? MSH_OK : msh_fail_errno(err, errno, "look at %s", path);
    if (fs.f_type != CGROUP_SUPER_MAGIC && fs.f_type != CGROUP2_SUPER_MAGIC)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "%s is not in a control group file system", path);
    long wait_ms = 1;
    for (;;) {
        int e = remove_group(AT_FDCWD, path, 0);
        if (e == 0)
            return MSH_OK;
        if (e != EBUSY || msh_now() >= due)
            return msh_fail_errno(err, e, "remove control group %s", path);
        /* A dying process leaves its group a moment after its parent has reaped it; v1 has nothing to wait on. */
        struct timespec ts = {.tv_nsec = wait_ms * (long)MSH_MS};
        nanosleep(&ts, NULL);
        wait_ms = wait_ms < 32 ? wait_ms * 2 : wait_ms;
    }
}

static bool has_dots(const char *name)
{
    for (const char *p = name; (p = strstr(p, "..")) != NULL; p += 2)
        if ((p == name || p[-1] == '/') && (p[2] == '\0' || p[2] == '/'))
            return true;
    return false;
}

/* In place: \040 and friends, as the kernel writes them. */
static void unescape(char *s)
{
    char *to = s;
    for (; *s != '\0'; s++) {
        if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' &&
            s[3] <= '7') {
            *to++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
            s += 3;
        } else {
            *to++ = *s;
        }
    }
    *to = '\0';
}

/* "36 35 98:0 /root /where opts shared:1 - cgroup src opts": its fifth word, when the type fits. */
static char *cgroup_mount(char *line)
{
    char *type = strstr(line, " - cgroup");
    if (type == NULL || (strncmp(type, " - cgroup ", 10) != 0 && strncmp(type, " - cgroup2 ", 11) != 0))
        return NULL;
    char *at = line;
    for (int i = 0; i < 4; i++) {
        at = strchr(at, ' ');
        if (at == NULL)
            return NULL;
        at++;
    }
    char *end = strchr(at, ' ');
    if (end == NULL)
        return NULL;
    *end = '\0';
    unescape(at);
    return at;
}

msh_code msh_cgroup_remove(const char *name, unsigned within_ms, msh_err *err)
{
    size_t n = strlen(name);
    if (n == 0 || n >= PATH_MAX || has_dots(name) || strspn(name, "/.") == n)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "control group name \"%.80s\"", name);
    msh_time due = msh_now() + within_ms * MSH_MS;
    if (name[0] == '/')
        return remove_at(name, due, err);
    FILE *f = fopen("/proc/self/mountinfo", "re");
    if (f == NULL)
        return msh_fail_errno(err, errno, "open /proc/self/mountinfo");
    msh_code first = MSH_OK;
    char line[2 * PATH_MAX], path[2 * PATH_MAX];
    while (fgets(line, sizeof line, f) != NULL) {
        const char *where = cgroup_mount(line);
        if (where == NULL)
            continue;
        snprintf(path, sizeof path, "%s/%s", where, name);
        msh_code rc = remove_at(path, due, first == MSH_OK ? err : NULL);
        if (first == MSH_OK)
            first = rc;
    }
    fclose(f);
    return first;
}

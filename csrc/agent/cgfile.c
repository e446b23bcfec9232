#include "agent/cgfile.h"
#include "sys/fd.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <unistd.h>

#define INNER_ROOT "/sys/fs/cgroup"
#define V1_HUGE                                                                                              \
    (UINT64_C(1) << 62) /* v1 says "no limit" as the largest count of pages, which depends on the page size */

msh_cg msh_cg_at(const char *root, bool v2, const char *path)
{
    msh_cg cg = {.v2 = v2};
    snprintf(cg.root, sizeof cg.root, "%s", root);
    while (*path == '/')
        path++;
    snprintf(cg.path, sizeof cg.path, "%s", path);
    return cg;
}

msh_cg msh_cg_inner(const char *path)
{
    struct statfs fs;
    bool v2 = statfs(INNER_ROOT, &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC;
    return msh_cg_at(INNER_ROOT, v2, path);
}

bool msh_cg_up(msh_cg *cg)
{
    if (cg->path[0] == '\0')
        return false;
    char *slash = strrchr(cg->path, '/');
    *(slash == NULL ? cg->path : slash) = '\0';
    return true;
}

const char *msh_cg_path(const msh_cg *cg, const char *controller, const char *file, char *out)
{
    const char *slash = cg->path[0] == '\0' ? "" : "/";
    if (cg->v2)
        snprintf(out, MSH_CG_PATH, "%s%s%s/%.64s", cg->root, slash, cg->path, file);
    else
        snprintf(out, MSH_CG_PATH, "%s/%.32s%s%s/%.64s", cg->root, controller, slash, cg->path, file);
    return out;
}

bool msh_cg_read(const msh_cg *cg, const char *controller, const char *file, char *out, size_t size)
{
    char path[MSH_CG_PATH];
    int fd = open(msh_cg_path(cg, controller, file, path), O_RDONLY | O_CLOEXEC);
    size_t n = 0;
    ssize_t got = fd < 0 ? -1 : 1;
    while (got > 0 && n < size) {
        got = read(fd, out + n, size - n);
        if (got < 0 && errno == EINTR)
            got = 1;
        else if (got > 0)
            n += (size_t)got;
    }
    msh_fd_close(&fd);
    if (got != 0) /* unreadable, or longer than the buffer: half a text would be read as other numbers */
        return false;
    while (n > 0 && out[n - 1] == '\n')
        n--;
    out[n] = '\0';
    return true;
}

static bool number(const char *text, uint64_t *out)
{
    char *end;
    if (strncmp(text, "max", 3) == 0 && (text[3] == '\0' || text[3] == ' ' || text[3] == '\n')) {
        *out = MSH_CG_UNLIMITED;
        return true;
    }
    if (text[0] < '0' || text[0] > '9')
        return false;
    unsigned long long v = strtoull(text, &end, 10);
    if (*end != '\0' && *end != '\n' && *end != ' ')
        return false;
    *out = v;
    return true;
}

bool msh_cg_number(const msh_cg *cg, const char *controller, const char *file, uint64_t *out)
{
    char text[64];
    if (!msh_cg_read(cg, controller, file, text, sizeof text) || !number(text, out))
        return false;
    if (!cg->v2 && strcmp(controller, "memory") == 0 && *out >= V1_HUGE)
        *out = MSH_CG_UNLIMITED;
    return true;
}

int msh_cg_write(const msh_cg *cg, const char *controller, const char *file, const char *text)
{
    char path[MSH_CG_PATH];
    int fd = open(msh_cg_path(cg, controller, file, path), O_WRONLY | O_TRUNC | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n;
    do /* one write: the kernel takes each as a whole command */
        n = write(fd, text, strlen(text));
    while (n < 0 && errno == EINTR);
    int saved = errno;
    msh_fd_close(&fd);
    errno = saved;
    return n < 0 ? -1 : 0;
}

bool msh_cg_key(const char *text, const char *key, uint64_t *out)
{
    size_t n = strlen(key);
    for (const char *line = text; line != NULL && *line != '\0';) {
        if (strncmp(line, key, n) == 0 && line[n] == ' ')
            return number(line + n + 1, out);
        line = strchr(line, '\n');
        line = line == NULL ? NULL : line + 1;
    }
    return false;
}

uint64_t msh_cg_memory_limit(const msh_cg *cg)
{
    uint64_t least = MSH_CG_UNLIMITED, v;
    msh_cg at = *cg;
    do {
        if (msh_cg_number(&at, "memory", cg->v2 ? "memory.max" : "memory.limit_in_bytes", &v) && v < least)
            least = v;
    } while (msh_cg_up(&at));
    return least;
}

bool msh_cg_oom_kills(const msh_cg *cg, uint64_t *out)
{
    char text[512];
    return msh_cg_read(cg, "memory", cg->v2 ? "memory.events" : "memory.oom_control", text, sizeof text) &&
           msh_cg_key(text, "oom_kill", out);
}

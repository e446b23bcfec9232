#include "agent/fs.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int msh_fs_open(int dir, const char *path, int flags, mode_t mode, uint64_t resolve)
{
    struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC), .mode = mode, .resolve = resolve};
    for (int tries = 0;; tries++) {
        long fd = syscall(SYS_openat2, dir, path, &how, sizeof how);
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR) || tries > 1000)
            return (int)fd;
    }
}

const char *msh_fd_path(int fd, char *out)
{
    snprintf(out, MSH_FD_PATH, "/proc/self/fd/%d", fd);
    return out;
}

/* Walks `path` component by component from `dir` (taken), making what is missing. */
static int walk(int dir, const char *path, mode_t mode, uint64_t resolve, int root)
{
    char part[NAME_MAX + 1];
    char seen[PATH_MAX] = "";
    size_t used = 0;
    for (const char *p = path;;) {
        p += strspn(p, "/");
        size_t n = strcspn(p, "/");
        if (n == 0)
            return dir;
        if (n > NAME_MAX || used + n + 2 > sizeof seen) {
            msh_fd_close(&dir);
            errno = ENAMETOOLONG;
            return -1;
        }
        memcpy(part, p, n);
        part[n] = '\0';
        p += n;
        seen[used++] = '/';
        memcpy(seen + used, part, n + 1);
        used += n;
        /* In root a link may lead anywhere below the root, so the prefix is resolved from there each time. */
        int from = root >= 0 ? root : dir;
        const char *name = root >= 0 ? seen : part;
        int next = msh_fs_open(from, name, O_PATH | O_DIRECTORY, 0, resolve);
        if (next < 0 && errno == ENOENT) {
            if (mkdirat(dir, part, mode) != 0 && errno != EEXIST) {
                msh_fd_close(&dir);
                return -1;
            }
            next = msh_fs_open(from, name, O_PATH | O_DIRECTORY, 0, resolve);
        }
        msh_fd_close(&dir);
        if (next < 0)
            return -1;
        dir = next;
    }
}

int msh_fs_mkdirs_in_root(int root, const char *path, mode_t mode)
{
    int dir = msh_fs_open(root, ".", O_PATH | O_DIRECTORY, 0, 0);
    return dir < 0 ? -1 : walk(dir, path, mode, RESOLVE_IN_ROOT, root);
}

msh_code msh_fs_mkdirs(const char *path, mode_t mode, msh_err *err)
{
    int dir = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir >= 0)
        dir = walk(dir, path, mode, RESOLVE_NO_SYMLINKS, -1);
    if (dir < 0)
        return msh_fail_errno(err, errno, "make directory %s", path);
    msh_fd_close(&dir);
    return MSH_OK;
}

msh_code msh_fs_open_plain(const char *path, int *fd, msh_err *err)
{
    /* Not with O_NOFOLLOW: of a last link that would give the link itself, whose name others follow. */
    int got = msh_fs_open(AT_FDCWD, path, O_PATH, 0, RESOLVE_NO_SYMLINKS);
    if (got < 0)
        return msh_fail_errno(err, errno, "open %s", path);
    *fd = got;
    return MSH_OK;
}

/* An image may have a device or a fifo in the place of a file, and to open these does something. So it is looked at first,
 * and then the very thing that was looked at is opened. */
static int open_regular(int root, const char *path)
{
    struct stat st;
    char name[MSH_FD_PATH];
    int at = msh_fs_open(root, path, O_PATH, 0, root == AT_FDCWD ? 0 : RESOLVE_IN_ROOT), fd = -1;
    if (at < 0)
        return -1;
    if (fstat(at, &st) == 0 && !S_ISREG(st.st_mode))
        errno = EINVAL;
    else
        fd = open(msh_fd_path(at, name), O_RDONLY | O_CLOEXEC);
    msh_fd_close(&at);
    return fd;
}

int msh_fs_read(int root, const char *path, size_t limit, msh_buf *out)
{
    int fd = open_regular(root, path), rc = -1;
    if (fd < 0)
        return -1;
    for (;;) {
        if (msh_buf_size(out) > limit) {
            errno = EFBIG;
            goto out;
        }
        char *p = msh_buf_reserve(out, 4096);
        if (p == NULL) {
            errno = ENOMEM;
            goto out;
        }
        ssize_t n = read(fd, p, 4096);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            goto out;
        if (n == 0)
            break;
        msh_buf_commit(out, (size_t)n);
    }
    rc = 0;
out:
    msh_fd_close(&fd);
    return rc;
}

static int write_all(int fd, msh_slice s)
{
    while (s.n > 0) {
        ssize_t n = write(fd, s.p, s.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        s.p += n;
        s.n -= (size_t)n;
    }
    return 0;
}

msh_code msh_fs_write(const char *path, msh_slice data, mode_t mode, msh_err *err)
{
    /* A fifo without a reader is refused, not waited for. */
    int fd =
        msh_fs_open(AT_FDCWD, path, O_WRONLY | O_CREAT | O_NONBLOCK | O_NOCTTY, mode, RESOLVE_NO_SYMLINKS);
    if (fd < 0)
        return msh_fail_errno(err, errno, "create %s", path);
    struct stat st;
    msh_code rc = MSH_OK;
    if (fstat(fd, &st) == 0 && !S_ISREG(st.st_mode))
        rc = msh_fail(err, MSH_INVALID_ARGUMENT, "%s is no file", path);
    else if (ftruncate(fd, 0) != 0 || fchmod(fd, mode) != 0 || write_all(fd, data) != 0)
        rc = msh_fail_errno(err, errno, "write %s", path);
    msh_fd_close(&fd);
    return rc;
}

int msh_fs_poke(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int rc = write_all(fd, msh_slice_of(text));
    msh_fd_close(&fd);
    return rc;
}

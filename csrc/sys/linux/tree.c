/* Making things; msh_remove_tree is in remove.c. */
#include "sys/tree.h"
#include "sys/fd.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static msh_code make_folder(const char *path, unsigned mode, msh_err *err)
{
    if (mkdir(path, mode) == 0)
        return MSH_OK;
    int e = errno;
    struct stat st;
    /* Ask first what is there: mkdir answers EROFS or EACCES for folders that exist, too. */
    if (stat(path, &st) == 0) {
        if (S_ISDIR(st.st_mode))
            return MSH_OK;
        return msh_fail(err, MSH_ALREADY_EXISTS, "make folder %s: something else is there", path);
    }
    return msh_fail_errno(err, e, "make folder %s", path);
}

msh_code msh_mkdir_p(const char *path, unsigned mode, msh_err *err)
{
    char part[PATH_MAX];
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof part)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "make folder: path of %zu bytes", n);
    memcpy(part, path, n + 1);
    for (size_t i = 1; i < n; i++) {
        if (part[i] != '/' || part[i - 1] == '/')
            continue;
        part[i] = '\0';
        msh_code rc = make_folder(part, mode, err);
        if (rc != MSH_OK)
            return rc;
        part[i] = '/';
    }
    return make_folder(part, mode, err);
}

/* Less is not enough for the tables of any file system. */
#define SPARSE_ROOM ((uint64_t)1 << 20)

msh_code msh_make_sparse(const char *path, uint64_t bytes, msh_err *err)
{
    if (bytes > INT64_MAX)
        return msh_fail(err, MSH_OUT_OF_RANGE, "make %s: too large", path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return msh_fail_errno(err, errno, "make %s", path);
    msh_code rc = MSH_OK;
    struct statvfs room;
    if (ftruncate(fd, (off_t)bytes) != 0)
        rc = msh_fail_errno(err, errno, "set the size of %s", path);
    else if (bytes >= SPARSE_ROOM && fstatvfs(fd, &room) == 0 && room.f_bavail * room.f_frsize < SPARSE_ROOM)
        rc = msh_fail(err, MSH_RESOURCE_EXHAUSTED, "make %s: no space left: %llu of %llu KiB are free", path,
                      (unsigned long long)(room.f_bavail * room.f_frsize >> 10),
                      (unsigned long long)(room.f_blocks * room.f_frsize >> 10));
    if (rc != MSH_OK)
        unlink(path);
    msh_fd_close(&fd);
    return rc;
}

msh_code msh_mknod_block(const char *path, uint32_t major, uint32_t minor, unsigned mode, msh_err *err)
{
    dev_t dev = makedev(major, minor);
    if (mknod(path, S_IFBLK | (mode & 07777), dev) == 0)
        return MSH_OK;
    int e = errno;
    struct stat st;
    if (e == EEXIST && lstat(path, &st) == 0 && S_ISBLK(st.st_mode) && st.st_rdev == dev)
        return MSH_OK;
    return msh_fail_errno(err, e, "make block node %s", path);
}

msh_code msh_mknod_like(const char *path, const char *like, msh_device_id *out, msh_err *err)
{
    struct stat st;
    if (stat(like, &st) != 0)
        return msh_fail_errno(err, errno, "look at %s", like);
    if (!S_ISBLK(st.st_mode) && !S_ISCHR(st.st_mode))
        return msh_fail(err, MSH_INVALID_ARGUMENT, "%s is no device", like);
    if (mknod(path, (st.st_mode & S_IFMT) | 0600, st.st_rdev) != 0)
        return msh_fail_errno(err, errno, "make device node %s", path);
    if (chown(path, st.st_uid, st.st_gid) != 0 || chmod(path, st.st_mode & 0777) != 0) {
        msh_code rc = msh_fail_errno(err, errno, "set the owner of device node %s", path);
        unlink(path);
        return rc;
    }
    *out = (msh_device_id){S_ISBLK(st.st_mode), major(st.st_rdev), minor(st.st_rdev)};
    return MSH_OK;
}

#include "agent/effects.h"
#include "agent/fs.h"
#include "agent/mounts.h"
#include "agent/paths.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static msh_code mount_on(const char *path, const char *type, const char *data, msh_err *err)
{
    char name[MSH_FD_PATH];
    int fd = -1;
    msh_code rc = msh_fs_open_plain(path, &fd, err);
    if (rc != MSH_OK)
        return rc;
    if (mount(type, msh_fd_path(fd, name), type, MS_NOSUID | MS_NODEV, data) != 0)
        rc = msh_fail_errno(err, errno, "mount %s on %s", type, path);
    msh_fd_close(&fd);
    return rc;
}

static msh_code hugetlb(const msh_effect *x, msh_err *err)
{
    struct stat st;
    char data[64];
    if (lstat(x->path, &st) == 0)
        return MSH_OK; /* mounted for an earlier container */
    msh_code rc = msh_fs_mkdirs(x->path, x->mode, err);
    snprintf(data, sizeof data, "pagesize=%.15s", x->text);
    return rc != MSH_OK ? rc : mount_on(x->path, "hugetlbfs", data, err);
}

static msh_code one(const msh_effect *x, msh_err *err)
{
    switch (x->kind) {
    case MSH_MAKE_FOLDER:
        return msh_fs_mkdirs(x->path, x->mode, err);
    case MSH_SHARE:
        return msh_mount_shared(x->path, err);
    case MSH_TMPFS:
        return mount_on(x->path, "tmpfs", "mode=0755", err);
    case MSH_HUGETLB:
        return hugetlb(x, err);
    case MSH_WRITE_FILE:
        return msh_fs_write(x->path, msh_slice_of(x->text), x->mode, err);
    }
    return msh_fail(err, MSH_INTERNAL, "unknown effect");
}

msh_code msh_effects_do(const msh_effects *e, const char *root, msh_err *err)
{
    for (size_t i = 0; i < e->n; i++) {
        if (!msh_path_below(e->item[i].path, root))
            return msh_fail(err, MSH_INVALID_ARGUMENT, "%s leaves the pod's folder", e->item[i].path);
        msh_code rc = one(&e->item[i], err);
        if (rc != MSH_OK)
            return rc;
    }
    return MSH_OK;
}

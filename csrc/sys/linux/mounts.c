#include "sys/mounts.h"
#include "sys/fd.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

msh_code msh_tree_open(const msh_tree_want *want, int *fd, msh_err *err)
{
    msh_code rc = MSH_OK;
    int tree = -1;
    int at = open(want->path, O_PATH | O_CLOEXEC);
    if (at < 0)
        return msh_fail_errno(err, errno, "open tree %s", want->path);
    struct stat st;
    if (fstat(at, &st) != 0) {
        rc = msh_fail_errno(err, errno, "look at %s", want->path);
        goto out;
    }
    if (S_ISDIR(st.st_mode) == want->file) {
        rc = msh_fail(err, MSH_INVALID_ARGUMENT, "open tree %s: not a %s", want->path,
                      want->file ? "file" : "folder");
        goto out;
    }
    unsigned below = want->recursive ? AT_RECURSIVE : 0;
    tree = open_tree(at, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | below);
    if (tree < 0) {
        rc = msh_fail_errno(err, errno, "open tree %s", want->path);
        goto out;
    }
    /* Private: as a peer of a shared host mount, the copy would send what the guest mounts on it back to us. */
    struct mount_attr attr = {.propagation = MS_PRIVATE};
    if (want->read_only)
        attr.attr_set = MOUNT_ATTR_RDONLY;
    if (mount_setattr(tree, "", AT_EMPTY_PATH | below, &attr, sizeof attr) != 0) {
        rc = msh_fail_errno(err, errno, "set attributes of the tree %s", want->path);
        goto out;
    }
    *fd = tree;
    tree = -1;
out:
    msh_fd_close(&tree);
    msh_fd_close(&at);
    return rc;
}

msh_code msh_umount(const char *path, int flags, msh_err *err)
{
    if (umount2(path, flags) == 0)
        return MSH_OK;
    int e = errno;
    if (e == ENOENT)
        return msh_fail(err, MSH_GONE, "umount %s: no such path", path);
    if (e == EINVAL) /* our flags are fixed values: what is left is "no mount point" */
        return msh_fail(err, MSH_GONE, "umount %s: not mounted", path);
    return msh_fail_errno(err, e, "umount %s", path);
}

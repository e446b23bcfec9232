#include "agent/world.h"
#include "agent/fs.h"
#include "agent/program.h"
#include "agent/vpci.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static msh_code find_user(void *ctx, const char *rootfs, const char *text, msh_user *out, msh_err *err)
{
    (void)ctx;
    int root = -1;
    msh_code rc = msh_fs_open_plain(rootfs, &root, err);
    if (rc == MSH_OK)
        rc = msh_program_user(root, text, out, err);
    msh_fd_close(&root);
    return rc;
}

static msh_code describe(const char *path, const struct stat *st, msh_device_node *out, msh_err *err)
{
    if (!S_ISBLK(st->st_mode) && !S_ISCHR(st->st_mode))
        return msh_fail(err, MSH_FAILED_PRECONDITION, "%s is not a device", path);
    if (strlen(path) >= sizeof out->path)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "the device path is too long");
    *out = (msh_device_node){.type = S_ISBLK(st->st_mode) ? 'b' : 'c',
                             .major = major(st->st_rdev),
                             .minor = minor(st->st_rdev),
                             .mode = st->st_mode & 07777,
                             .uid = st->st_uid,
                             .gid = st->st_gid};
    memcpy(out->path, path, strlen(path) + 1);
    return MSH_OK;
}

static msh_code find_device(void *ctx, const char *path, bool link, msh_device_node *out, msh_err *err)
{
    (void)ctx;
    struct stat st;
    if (path[0] != '/')
        return msh_fail(err, MSH_INVALID_ARGUMENT, "device path \"%.60s\" is not absolute", path);
    if (link && (lstat(path, &st) != 0 || !S_ISLNK(st.st_mode)))
        return msh_fail(err, MSH_FAILED_PRECONDITION, "%s is not a mapped block device", path);
    if (stat(path, &st) != 0)
        return msh_fail_errno(err, errno, "device %s", path);
    if (link && !S_ISBLK(st.st_mode))
        return msh_fail(err, MSH_FAILED_PRECONDITION, "%s is not a block device", path);
    return describe(path, &st, out, err);
}

static msh_code each_device(void *ctx, size_t i, msh_device_node *out, msh_err *err)
{
    (void)ctx;
    DIR *d = opendir("/dev");
    if (d == NULL)
        return msh_fail_errno(err, errno, "read /dev");
    msh_code rc = MSH_NOT_FOUND;
    for (struct dirent *e; rc == MSH_NOT_FOUND && (e = readdir(d)) != NULL;) {
        char path[300];
        struct stat st;
        snprintf(path, sizeof path, "/dev/%s", e->d_name);
        if (lstat(path, &st) != 0 || (!S_ISBLK(st.st_mode) && !S_ISCHR(st.st_mode)) || i-- > 0)
            continue;
        rc = describe(path, &st, out, err);
    }
    closedir(d);
    return rc;
}

static msh_code assigned(void *ctx, const char *instance, size_t i, msh_device_node *out, msh_err *err)
{
    (void)ctx;
    return msh_vpci_node(MSH_VPCI_DIR, instance, i, out, err);
}

static msh_code exists(void *ctx, const char *path, msh_err *err)
{
    (void)ctx;
    struct stat st;
    return stat(path, &st) == 0 ? MSH_OK : msh_fail_errno(err, errno, "%s", path);
}

void msh_world_open(msh_spec_world *out, char *hostname)
{
    if (gethostname(hostname, 255) != 0)
        hostname[0] = '\0';
    hostname[255] = '\0';
    *out = (msh_spec_world){.hostname = hostname,
                            .find_user = find_user,
                            .find_device = find_device,
                            .each_device = each_device,
                            .assigned = assigned,
                            .exists = exists};
}

#include "agent/disks.h"
#include "agent/fs.h"
#include "agent/log.h"
#include "agent/mounts.h"
#include "agent/paths.h"
#include "agent/root.h"
#include "agent/shares.h"
#include "base/time.h"
#include "wire/gcs.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MKFS_WITHIN_MS 120000u
#define POLL_MS        10

typedef struct disk_job {
    msh_request *request;
    char path[MSH_PATH_MAX]; /* "" = only find the device */
    unsigned controller, lun;
    uint64_t partition;
    bool read_only, block_dev, ensure;
    char filesystem[16];
    unsigned long propagation[8];
    size_t n_propagation;
    msh_err err;
} disk_job;

int msh_probe_filesystem(int fd, const char **type)
{
    unsigned char super[58]; /* as much of a super block as tells */
    static const unsigned char erofs[4] = {0xe2, 0xe1, 0xf5, 0xe0};
    ssize_t n = pread(fd, super, sizeof super, 1024);
    if (n < 0)
        return -1;
    *type = n >= 4 && memcmp(super, erofs, sizeof erofs) == 0                      ? "erofs"
            : n == (ssize_t)sizeof super && super[56] == 0x53 && super[57] == 0xef ? "ext4"
                                                                                   : "";
    return 0;
}

/* ---- devices, on a pool thread ---- */

static void node_path(const disk_job *j, char *out, size_t size)
{
    if (j->partition == 0)
        snprintf(out, size, "%s/c%ul%u", j->request->agent->options.scsi, j->controller, j->lun);
    else
        snprintf(out, size, "/dev/moonshim-c%ul%up%llu", j->controller, j->lun,
                 (unsigned long long)j->partition);
}

/* Number of partition `n` of the disk whose node is at `path`: the entry below it in /sys that says so. */
static bool find_partition(const char *path, uint64_t n, dev_t *out)
{
    struct stat st;
    char dir[128], file[512], text[32];
    if (stat(path, &st) != 0 || !S_ISBLK(st.st_mode))
        return false;
    snprintf(dir, sizeof dir, "/sys/dev/block/%u:%u", major(st.st_rdev), minor(st.st_rdev));
    DIR *d = opendir(dir);
    bool found = false;
    for (struct dirent *e; d != NULL && !found && (e = readdir(d)) != NULL;) {
        unsigned ma, mi;
        snprintf(file, sizeof file, "%s/%.255s/partition", dir, e->d_name);
        FILE *f = fopen(file, "re");
        if (f == NULL)
            continue;
        found = fgets(text, sizeof text, f) != NULL && strtoull(text, NULL, 10) == n;
        fclose(f);
        if (!found)
            continue;
        snprintf(file, sizeof file, "%s/%.255s/dev", dir, e->d_name);
        f = fopen(file, "re");
        found = f != NULL && fscanf(f, "%u:%u", &ma, &mi) == 2;
        if (f != NULL)
            fclose(f);
        if (found)
            *out = makedev(ma, mi);
    }
    if (d != NULL)
        closedir(d);
    return found;
}

/* Opens the device once it is there; never waits for ever. `node` gets its path. */
static msh_code open_device(const disk_job *j, int flags, char *node, size_t size, int *fd, msh_err *err)
{
    char disk[256];
    msh_time end = msh_now() + j->request->agent->options.disk_within * MSH_MS;
    snprintf(disk, sizeof disk, "%s/c%ul%u", j->request->agent->options.scsi, j->controller, j->lun);
    node_path(j, node, size);
    for (;;) {
        dev_t dev;
        int e = 0;
        if (j->partition == 0 || find_partition(disk, j->partition, &dev)) {
            if (j->partition != 0) {
                unlink(node);
                e = mknod(node, S_IFBLK | 0600, dev) != 0 ? errno : 0;
            }
            struct stat st;
            int got = e != 0 ? -1 : open(node, flags | O_CLOEXEC);
            e = e != 0 ? e : errno;
            if (got >= 0 && fstat(got, &st) == 0 && S_ISBLK(st.st_mode)) {
                *fd = got;
                return MSH_OK;
            }
            if (got >= 0) {
                msh_fd_close(&got);
                return msh_fail(err, MSH_FAILED_PRECONDITION, "disk %u:%u is not a block device",
                                j->controller, j->lun);
            }
            if (e != ENOENT && e != ENXIO && e != ENODEV)
                return msh_fail_errno(err, e, "disk %u:%u", j->controller, j->lun);
        }
        if (msh_now() > end) {
            msh_fail(err, MSH_NOT_FOUND, "disk %u:%u, partition %llu: no device", j->controller, j->lun,
                     (unsigned long long)j->partition);
            err->hresult = MSH_HR_FAIL;
            return MSH_NOT_FOUND;
        }
        nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000}, NULL);
    }
}

static msh_code format(const disk_job *j, const char *node, msh_err *err)
{
    static const char *const env[] = {"PATH=" MSH_GUEST_PATH, "LANG=C", NULL};
    bool ext4 = strcmp(j->filesystem, "ext4") == 0;
    char program[256];
    int status = 0;
    if (!ext4 && strcmp(j->filesystem, "xfs") != 0)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "cannot make a file system of type \"%s\": ext4 or xfs",
                        j->filesystem);
    const char *name = ext4 ? "mkfs.ext4" : "mkfs.xfs";
    msh_code rc = msh_spawn_find(name, MSH_GUEST_PATH, program, sizeof program, err);
    if (rc != MSH_OK) {
        err->hresult = MSH_HR_FAIL; /* it is the UVM that lacks a program, not the container */
        return rc;
    }
    /* Fast: tables are written when they are first used; the disk is new and reads as zero. */
    const char *ext4_args[] = {name, "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard",
                               node, NULL};
    const char *xfs_args[] = {name, "-q", "-f", node, NULL};
    msh_spawn s = {.path = program,
                   .argv = ext4 ? ext4_args : xfs_args,
                   .env = env,
                   .cwd = "/",
                   .fd = {MSH_SPAWN_NULL, MSH_SPAWN_NULL, MSH_SPAWN_NULL}};
    rc = msh_reap_run(j->request->agent->reap, &s, MKFS_WITHIN_MS, &status, err);
    if (rc == MSH_OK && !WIFEXITED(status))
        rc = msh_fail(err, MSH_UNKNOWN, "%s was ended by signal %d", name, WTERMSIG(status));
    else if (rc == MSH_OK && WEXITSTATUS(status) != 0)
        rc = msh_fail(err, MSH_UNKNOWN, "%s failed with status %d", name, WEXITSTATUS(status));
    return rc;
}

/* The type to mount with; formats when asked and needed. */
static msh_code settle_type(const disk_job *j, int *fd, const char *node, const char **type, msh_err *err)
{
    const char *found = "";
    if (msh_probe_filesystem(*fd, &found) != 0)
        return msh_fail_errno(err, errno, "read disk %u:%u", j->controller, j->lun);
    msh_fd_close(fd);
    if (j->ensure && strcmp(found, j->filesystem) != 0) {
        msh_code rc = format(j, node, err);
        if (rc != MSH_OK)
            return rc;
    }
    *type = j->filesystem[0] != '\0' ? j->filesystem : found;
    if ((*type)[0] == '\0')
        return msh_fail(err, MSH_FAILED_PRECONDITION,
                        "disk %u:%u has no file system that is known here (ext4 and erofs are)",
                        j->controller, j->lun);
    return MSH_OK;
}

static msh_code mount_disk(const disk_job *j, const char *node, const char *type, msh_err *err)
{
    char name[MSH_FD_PATH];
    int target = -1;
    msh_code rc = msh_fs_mkdirs(j->path, 0700, err);
    if (rc == MSH_OK)
        rc = msh_fs_open_plain(j->path, &target, err);
    if (rc != MSH_OK)
        return rc;
    const char *data = j->read_only && strncmp(type, "ext", 3) == 0 ? "noload" : "";
    if (mount(node, msh_fd_path(target, name), type, j->read_only ? MS_RDONLY : 0, data) != 0)
        rc = msh_fail_errno(err, errno, "mount disk %u:%u as %s", j->controller, j->lun, type);
    msh_fd_close(&target);
    for (size_t i = 0; i < j->n_propagation && rc == MSH_OK; i++)
        if (mount(NULL, j->path, NULL, j->propagation[i], NULL) != 0)
            rc = msh_fail_errno(err, errno, "set the propagation of %s", j->path);
    return rc;
}

static msh_code link_device(const disk_job *j, const char *node, msh_err *err)
{
    char parent[MSH_PATH_MAX];
    msh_path_parent(j->path, parent, sizeof parent);
    msh_code rc = msh_fs_mkdirs(parent, 0700, err);
    if (rc == MSH_OK && symlink(node, j->path) != 0)
        rc = msh_fail_errno(err, errno, "link %s", j->path);
    return rc;
}

/* Only a link, and only where no other link leads to. */
static msh_code unlink_device(const disk_job *j, msh_err *err)
{
    char parent[MSH_PATH_MAX];
    int dir = -1;
    struct stat st;
    const char *name = strrchr(j->path, '/') + 1;
    msh_path_parent(j->path, parent, sizeof parent);
    msh_code rc = msh_fs_open_plain(parent, &dir, err);
    if (rc == MSH_OK && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        if (!S_ISLNK(st.st_mode))
            rc = msh_fail(err, MSH_FAILED_PRECONDITION, "%s is not a block device of ours", j->path);
        else if (unlinkat(dir, name, 0) != 0)
            rc = msh_fail_errno(err, errno, "remove %s", j->path);
    }
    msh_fd_close(&dir);
    if (rc == MSH_NOT_FOUND)
        *err = (msh_err){0};
    return rc == MSH_NOT_FOUND ? MSH_OK : rc;
}

static void mount_once(disk_job *j, const char *node, const char *type)
{
    msh_err ignored = {0};
    if (msh_mounts_below(j->path) > 0)
        msh_fail(&j->err, MSH_ALREADY_EXISTS, "%s is a mount point already", j->path);
    else if (mount_disk(j, node, type, &j->err) != MSH_OK)
        msh_unmount_point(j->path, &ignored);
}

static void add_work(void *ctx)
{
    disk_job *j = ctx;
    char node[256];
    const char *type = "";
    int fd = -1;
    msh_code rc = open_device(j, O_RDONLY, node, sizeof node, &fd, &j->err);
    if (rc == MSH_OK && j->path[0] != '\0' && j->block_dev) {
        link_device(j, node, &j->err);
    } else if (rc == MSH_OK && j->path[0] != '\0') {
        if (settle_type(j, &fd, node, &type, &j->err) == MSH_OK)
            mount_once(j, node, type);
    }
    msh_fd_close(&fd);
}

static void remove_work(void *ctx)
{
    disk_job *j = ctx;
    char node[256];
    if (j->path[0] == '\0')
        return;
    if (j->block_dev) {
        unlink_device(j, &j->err);
    } else {
        msh_unmount_point(j->path, &j->err);
    }
    if (j->partition != 0 && j->err.code == MSH_OK) {
        node_path(j, node, sizeof node);
        unlink(node);
    }
}

/* ---- on the loop ---- */

static void done(void *ctx)
{
    disk_job *j = ctx;
    msh_finish(j->request, &j->err);
    free(j);
}

static void read_propagation(disk_job *j, const json_t *options)
{
    static const struct {
        const char *name;
        unsigned long flags;
    } known[] = {{"private", MS_PRIVATE},
                 {"shared", MS_SHARED},
                 {"slave", MS_SLAVE},
                 {"unbindable", MS_UNBINDABLE},
                 {"rprivate", MS_PRIVATE | MS_REC},
                 {"rshared", MS_SHARED | MS_REC},
                 {"rslave", MS_SLAVE | MS_REC},
                 {"runbindable", MS_UNBINDABLE | MS_REC}};
    size_t i;
    json_t *v;
    json_array_foreach((json_t *)options, i, v)
    {
        for (size_t k = 0; k < sizeof known / sizeof *known; k++)
            if (strcmp(json_string_value(v), known[k].name) == 0 && j->n_propagation < 8)
                j->propagation[j->n_propagation++] = known[k].flags;
    }
}

static msh_code read_settings(disk_job *j, const json_t *settings, msh_err *err)
{
    msh_reader in = msh_read(settings);
    const char *path = msh_read_text(&in, "MountPath"), *type = msh_read_text(&in, "Filesystem");
    j->controller = (unsigned)msh_read_number(&in, "Controller", UINT8_MAX);
    j->lun = (unsigned)msh_read_number(&in, "Lun", UINT8_MAX);
    j->partition = msh_read_number(&in, "Partition", INT64_MAX);
    j->read_only = msh_read_flag(&in, "ReadOnly");
    j->block_dev = msh_read_flag(&in, "BlockDev");
    j->ensure = msh_read_flag(&in, "EnsureFilesystem");
    bool encrypted = msh_read_flag(&in, "Encrypted");
    read_propagation(j, msh_read_texts(&in, "Options"));
    if (in.bad != NULL) {
        msh_fail(err, MSH_INVALID_ARGUMENT, "MappedVirtualDisk: %s has a wrong type", in.bad);
        err->hresult = MSH_HR_INVALID_JSON;
        return err->code;
    }
    if (j->controller > 3 || j->lun > 63 || j->partition > 128)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "there is no disk %u:%u, partition %llu", j->controller,
                        j->lun, (unsigned long long)j->partition);
    if (encrypted)
        return msh_fail(err, MSH_FAILED_PRECONDITION, "encrypted disks are not available in this UVM");
    if (strlen(type) >= sizeof j->filesystem ||
        strspn(type, "abcdefghijklmnopqrstuvwxyz0123456789") != strlen(type))
        return msh_fail(err, MSH_INVALID_ARGUMENT, "Filesystem \"%.40s\" is not a type", type);
    memcpy(j->filesystem, type, strlen(type) + 1);
    return path[0] == '\0' ? MSH_OK : msh_own_path(j->request->agent, "MountPath", path, j->path, err);
}

static void start(msh_request *r, const json_t *settings, void (*work)(void *))
{
    msh_err err = {0};
    char device[64];
    disk_job *j = calloc(1, sizeof *j);
    if (j == NULL) {
        msh_refuse(r, MSH_HR_FAIL, "no memory");
        return;
    }
    j->request = r;
    msh_code rc = read_settings(j, settings, &err);
    snprintf(device, sizeof device, "%u:%u", j->controller, j->lun);
    msh_task t = {.key = {msh_key_of("path", j->path, false), msh_key_of("scsi", device, true)},
                  .work = work,
                  .done = done,
                  .ctx = j};
    if (rc == MSH_OK)
        rc = msh_tasks_submit(r->agent->tasks, &t, &err);
    if (rc != MSH_OK) {
        free(j);
        msh_refuse_err(r, &err);
    }
}

void msh_disk_add(msh_request *r, const json_t *settings)
{
    start(r, settings, add_work);
}

void msh_disk_remove(msh_request *r, const json_t *settings)
{
    start(r, settings, remove_work);
}

/* On local the device belongs to the host alone: when everything that was in flight for it is over, it may go. */
static void eject_work(void *ctx)
{
    (void)ctx;
}

void msh_scsi_remove(msh_request *r, const json_t *settings)
{
    msh_err err = {0};
    char device[64];
    msh_reader in = msh_read(settings);
    unsigned controller = (unsigned)msh_read_number(&in, "Controller", UINT8_MAX);
    unsigned lun = (unsigned)msh_read_number(&in, "Lun", UINT8_MAX);
    disk_job *j = in.bad != NULL ? NULL : calloc(1, sizeof *j);
    if (j == NULL) {
        msh_refuse(r, in.bad != NULL ? MSH_HR_INVALID_JSON : MSH_HR_FAIL, in.bad);
        return;
    }
    j->request = r;
    snprintf(device, sizeof device, "%u:%u", controller, lun);
    msh_task t = {.key = {msh_key_of("scsi", device, false)}, .work = eject_work, .done = done, .ctx = j};
    if (msh_tasks_submit(r->agent->tasks, &t, &err) != MSH_OK) {
        free(j);
        msh_refuse_err(r, &err);
    }
}

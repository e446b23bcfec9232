#include "agent/root.h"
#include "agent/fs.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Most of the tmpfs root holds nothing; the limit keeps a runaway helper from eating the host's memory. */
#define ROOT_OPTIONS "mode=0755,size=256m,nr_inodes=200k"

/* What is taken from the host before its root goes away: detached copies of mounts. */
typedef struct trees {
    int usr, sockets, scsi, vpci, program;
} trees;

static msh_code clone_tree(const char *path, uint64_t set, uint64_t clear, int *fd, msh_err *err)
{
    int got = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (got < 0)
        return msh_fail_errno(err, errno, "copy the mount of %s", path);
    struct mount_attr attr = {.attr_set = set, .attr_clr = clear};
    if (mount_setattr(got, "", AT_EMPTY_PATH, &attr, sizeof attr) != 0) {
        msh_fail_errno(err, errno, "set the mount flags of %s", path);
        msh_fd_close(&got);
        return err->code;
    }
    *fd = got;
    return MSH_OK;
}

static msh_code take(const char *run_dir, trees *t, msh_err *err)
{
    char path[512];
    const uint64_t inert = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;
    msh_code rc = clone_tree("/usr", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV, 0, &t->usr, err);
    if (rc != MSH_OK)
        return rc;
    snprintf(path, sizeof path, "%s/s", run_dir);
    if ((rc = clone_tree(path, inert | MOUNT_ATTR_NODEV, 0, &t->sockets, err)) != MSH_OK)
        return rc;
    /* The host's /run usually forbids device nodes; inside, this folder exists for nothing else. */
    snprintf(path, sizeof path, "%s/scsi", run_dir);
    if ((rc = clone_tree(path, inert, MOUNT_ATTR_NODEV | MOUNT_ATTR_RDONLY, &t->scsi, err)) != MSH_OK)
        return rc;
    snprintf(path, sizeof path, "%s/vpci", run_dir);
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return msh_fail_errno(err, errno, "make %s", path);
    if ((rc = clone_tree(path, inert, MOUNT_ATTR_NODEV | MOUNT_ATTR_RDONLY, &t->vpci, err)) != MSH_OK)
        return rc;
    ssize_t n =
        readlink("/proc/self/exe", path, sizeof path - 1); /* the link itself leads into the old namespace */
    path[n > 0 ? n : 0] = '\0';
    if (clone_tree(path, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, &t->program, err) != MSH_OK)
        *err = (msh_err){0}; /* replaced by an upgrade, or in nobody's reach: then it is copied */
    return MSH_OK;
}

static msh_code place(int *tree, const char *path, msh_err *err)
{
    if (move_mount(*tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) != 0)
        return msh_fail_errno(err, errno, "mount %s", path);
    msh_fd_close(tree);
    return MSH_OK;
}

/* Folders of the new root, relative to it. */
static msh_code folders(msh_err *err)
{
    static const struct {
        const char *path;
        mode_t mode;
    } list[] = {{"usr", 0755},      {"etc", 0755},        {"proc", 0555},          {"sys", 0555},
                {"dev", 0755},      {"run", 0755},        {"tmp", 01777},          {"root", 0700},
                {"var", 0755},      {"var/tmp", 01777},   {"sbin", 0755},          {"mnt", 0755},
                {"run/host", 0700}, {"run/host/s", 0700}, {"run/host/scsi", 0700}, {"run/host/vpci", 0700},
                {"run/gcs", 0700},  {"run/mounts", 0700}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (mkdir(list[i].path, list[i].mode) != 0 || chmod(list[i].path, list[i].mode) != 0)
            return msh_fail_errno(err, errno, "make /%s", list[i].path);
    if (symlink("../run", "var/run") != 0)
        return msh_fail_errno(err, errno, "link /var/run");
    return MSH_OK;
}

/* /bin, /lib, ...: links into /usr as on the host. A host without merged /usr has real folders: those are bound. */
static msh_code top_links(msh_err *err)
{
    static const char *const names[] = {"bin", "lib", "lib64", "lib32", "libx32"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[64], target[256];
        struct stat st;
        snprintf(path, sizeof path, "/%s", names[i]);
        if (lstat(path, &st) != 0)
            continue;
        if (S_ISLNK(st.st_mode)) {
            ssize_t n = readlink(path, target, sizeof target - 1);
            target[n < 0 ? 0 : n] = '\0';
            if (n <= 0 || symlink(target, names[i]) != 0)
                return msh_fail_errno(err, errno, "link %s", path);
            continue;
        }
        int tree = -1;
        msh_code rc = clone_tree(path, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV, 0, &tree, err);
        if (rc == MSH_OK && mkdir(names[i], 0755) != 0)
            rc = msh_fail_errno(err, errno, "make %s", path);
        if (rc == MSH_OK)
            rc = place(&tree, names[i], err);
        msh_fd_close(&tree);
        if (rc != MSH_OK)
            return rc;
    }
    return MSH_OK;
}

/* Only what programs need to start and what mkfs reads; nothing that is private on the host. */
static msh_code etc_files(msh_err *err)
{
    static const char *const files[] = {"passwd",      "group",     "nsswitch.conf",
                                        "ld.so.cache", "localtime", "mke2fs.conf",
                                        "protocols",   "services",  "hosts"};
    char here[512];
    if (getcwd(here, sizeof here) == NULL)
        return msh_fail_errno(err, errno, "name of the new root");
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        msh_buf data;
        char path[600];
        msh_buf_init(&data, 4u << 20);
        snprintf(path, sizeof path, "/etc/%s", files[i]);
        if (msh_fs_read(AT_FDCWD, path, 2u << 20, &data) == 0) {
            snprintf(path, sizeof path, "%s/etc/%s", here, files[i]);
            msh_code rc = msh_fs_write(path, msh_buf_slice(&data), 0644, err);
            msh_buf_free(&data);
            if (rc != MSH_OK)
                return rc;
        }
        msh_buf_free(&data);
    }
    struct stat st;
    if (stat("/etc/alternatives", &st) != 0 || !S_ISDIR(st.st_mode))
        return MSH_OK;
    int tree = -1;
    msh_code rc = clone_tree("/etc/alternatives", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV, 0, &tree, err);
    if (rc == MSH_OK && mkdir("etc/alternatives", 0755) != 0)
        rc = msh_fail_errno(err, errno, "make /etc/alternatives");
    if (rc == MSH_OK)
        rc = place(&tree, "etc/alternatives", err);
    msh_fd_close(&tree);
    return rc;
}

static msh_code devices(msh_err *err)
{
    static const struct {
        const char *name;
        int minor;
        int major;
    } nodes[] = {{"null", 3, 1},   {"zero", 5, 1},    {"full", 7, 1},
                 {"random", 8, 1}, {"urandom", 9, 1}, {"tty", 0, 5}};
    static const char *const links[][2] = {{"/proc/self/fd", "dev/fd"},
                                           {"/proc/self/fd/0", "dev/stdin"},
                                           {"/proc/self/fd/1", "dev/stdout"},
                                           {"/proc/self/fd/2", "dev/stderr"},
                                           {"pts/ptmx", "dev/ptmx"}};
    if (mount("dev", "dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755,size=1m") != 0)
        return msh_fail_errno(err, errno, "mount /dev");
    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++) {
        char path[64];
        snprintf(path, sizeof path, "dev/%s", nodes[i].name);
        if (mknod(path, S_IFCHR | 0666, makedev((unsigned)nodes[i].major, (unsigned)nodes[i].minor)) != 0 ||
            chmod(path, 0666) != 0)
            return msh_fail_errno(err, errno, "make /%s", path);
    }
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        if (symlink(links[i][0], links[i][1]) != 0)
            return msh_fail_errno(err, errno, "link /%s", links[i][1]);
    if (mkdir("dev/pts", 0755) != 0 || mkdir("dev/shm", 0755) != 0 || mkdir("dev/mqueue", 0755) != 0)
        return msh_fail_errno(err, errno, "make the folders of /dev");
    if (mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
              "newinstance,ptmxmode=0666,mode=0620,gid=5") != 0)
        return msh_fail_errno(err, errno, "mount /dev/pts");
    if (mount("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=64m") != 0)
        return msh_fail_errno(err, errno, "mount /dev/shm");
    if (mount("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0)
        return msh_fail_errno(err, errno, "mount /dev/mqueue");
    return MSH_OK;
}

static msh_code kernel_views(const msh_cgroups *cgroups, msh_err *err)
{
    const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    if (mount("proc", "proc", "proc", flags, NULL) != 0)
        return msh_fail_errno(err, errno, "mount /proc");
    if (mount("sysfs", "sys", "sysfs", flags, NULL) != 0)
        return msh_fail_errno(err, errno, "mount /sys");
    /* Read-only for this mount alone: as a mount flag of the file system it would bind the containers' mounts too. */
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
    if (mount_setattr(AT_FDCWD, "sys", 0, &attr, sizeof attr) != 0)
        return msh_fail_errno(err, errno, "make /sys read-only");
    char here[512];
    if (getcwd(here, sizeof here) == NULL)
        return msh_fail_errno(err, errno, "name of the new root");
    return msh_cgroups_mount(cgroups, here, err);
}

static msh_code become_root(msh_err *err)
{
    /* With the same folder twice the old root is stacked on the new one, so no folder is needed for it. */
    if (syscall(SYS_pivot_root, ".", ".") != 0)
        return msh_fail_errno(err, errno, "pivot_root");
    if (umount2(".", MNT_DETACH) != 0)
        return msh_fail_errno(err, errno, "drop the host's root");
    if (chdir("/") != 0)
        return msh_fail_errno(err, errno, "enter the new root");
    return MSH_OK;
}

static msh_code program(trees *t, msh_err *err)
{
    int to = open("sbin/moonshim-guest", O_WRONLY | O_CREAT | O_CLOEXEC, 0755), from = -1;
    ssize_t n = to < 0 ? -1 : 0;
    if (n == 0 && t->program < 0) {
        from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        do
            n = sendfile(to, from, NULL, 1u << 20);
        while (n > 0);
    }
    msh_fd_close(&from);
    msh_fd_close(&to);
    if (n < 0)
        return msh_fail_errno(err, errno, "make %s", MSH_GUEST_PROGRAM);
    return t->program < 0 ? MSH_OK : place(&t->program, "sbin/moonshim-guest", err);
}

msh_code msh_root_enter(const char *run_dir, const msh_cgroups *cgroups, msh_err *err)
{
    trees t = {-1, -1, -1, -1, -1};
    msh_err mine = {0};
    msh_err *e = err != NULL ? err : &mine;
    msh_code rc = MSH_OK;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        rc = msh_fail_errno(e, errno, "cut mount propagation");
        goto out;
    }
    if ((rc = take(run_dir, &t, e)) != MSH_OK)
        goto out;
    if (mount("moonshim", run_dir, "tmpfs", MS_NODEV, ROOT_OPTIONS) != 0 || chdir(run_dir) != 0) {
        rc = msh_fail_errno(e, errno, "mount the root at %s", run_dir);
        goto out;
    }
    if ((rc = folders(e)) == MSH_OK && (rc = place(&t.usr, "usr", e)) == MSH_OK &&
        (rc = place(&t.sockets, "run/host/s", e)) == MSH_OK &&
        (rc = place(&t.scsi, "run/host/scsi", e)) == MSH_OK &&
        (rc = place(&t.vpci, "run/host/vpci", e)) == MSH_OK && (rc = program(&t, e)) == MSH_OK &&
        (rc = top_links(e)) == MSH_OK && (rc = etc_files(e)) == MSH_OK && (rc = devices(e)) == MSH_OK &&
        (rc = kernel_views(cgroups, e)) == MSH_OK)
        rc = become_root(e);
out:
    msh_fd_close(&t.usr);
    msh_fd_close(&t.sockets);
    msh_fd_close(&t.scsi);
    msh_fd_close(&t.vpci);
    msh_fd_close(&t.program);
    return rc;
}

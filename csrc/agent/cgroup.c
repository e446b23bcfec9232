#include "agent/cgroup.h"
#include "agent/controllers.h"
#include "agent/fs.h"
#include "agent/log.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#define CGROUP_ROOT "/sys/fs/cgroup"

static bool is_v2(const char *path)
{
    struct statfs fs;
    return statfs(path, &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC;
}

/* Controllers and name of a v1 tree from its super block options ("rw,cpu,cpuacct", "rw,xattr,name=systemd"). */
static void v1_options(char *super, msh_cgroup_tree *t)
{
    static const char *const noise[] = {"rw",       "ro",   "xattr",         "clone_children",
                                        "noprefix", "none", "cpuset_v2_mode"};
    bool named = false;
    char *save = NULL;
    t->options[0] = t->name[0] = '\0';
    for (char *o = strtok_r(super, ",", &save); o != NULL; o = strtok_r(NULL, ",", &save)) {
        bool skip = strncmp(o, "release_agent=", 14) == 0;
        for (size_t i = 0; i < sizeof noise / sizeof *noise; i++)
            skip = skip || strcmp(o, noise[i]) == 0;
        if (skip)
            continue;
        const char *label = o;
        if (strncmp(o, "name=", 5) == 0) {
            named = true;
            label = o + 5;
        }
        size_t n = strlen(t->options), m = strlen(t->name);
        snprintf(t->options + n, sizeof t->options - n, "%s%s", n > 0 ? "," : "", o);
        snprintf(t->name + m, sizeof t->name - m, "%s%s", m > 0 ? "," : "", label);
    }
    if (named && strncmp(t->options, "name=", 5) == 0 && strchr(t->options, ',') == NULL) {
        char copy[sizeof t->options];
        memcpy(copy, t->options, sizeof copy);
        snprintf(t->options, sizeof t->options, "none,%.90s", copy);
    }
}

msh_code msh_cgroups_find(msh_cgroups *out, msh_err *err)
{
    msh_cgroups c = {0};
    if (is_v2(CGROUP_ROOT)) {
        c.v2 = true;
        c.n = 1;
        snprintf(c.tree[0].at, sizeof c.tree[0].at, "%s", CGROUP_ROOT);
        *out = c;
        return MSH_OK;
    }
    FILE *f = fopen("/proc/self/mountinfo", "re");
    if (f == NULL)
        return msh_fail_errno(err, errno, "read /proc/self/mountinfo");
    char *line = NULL;
    size_t cap = 0;
    while (getline(&line, &cap, f) > 0 && c.n < MSH_CGROUP_TREES) {
        char at[512], type[64], super[512];
        const char *dash = strstr(line, " - ");
        if (dash == NULL || sscanf(line, "%*s %*s %*s %*s %511s", at) != 1 ||
            sscanf(dash + 3, "%63s %*s %511s", type, super) != 2)
            continue;
        msh_cgroup_tree t = {0};
        if (strcmp(type, "cgroup") != 0 || strlen(at) >= sizeof t.at)
            continue;
        snprintf(t.at, sizeof t.at, "%s", at);
        v1_options(super, &t);
        bool known = t.name[0] == '\0';
        for (size_t i = 0; i < c.n; i++)
            known = known || strcmp(c.tree[i].name, t.name) == 0;
        if (!known)
            c.tree[c.n++] = t;
    }
    free(line);
    fclose(f);
    if (c.n == 0)
        return msh_fail(err, MSH_FAILED_PRECONDITION, "no cgroup tree is mounted below %s", CGROUP_ROOT);
    *out = c;
    return MSH_OK;
}

/* A new cpuset is empty and refuses processes until it has the cpus and nodes of its parent. */
static void fill_cpuset(const char *parent, const char *dir)
{
    static const char *const files[] = {"cpuset.cpus", "cpuset.mems"};
    for (size_t i = 0; i < 2; i++) {
        char path[640], text[512];
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
        msh_fd_close(&fd);
        if (n < 0 || (n > 0 && text[0] != '\n'))
            continue;
        snprintf(path, sizeof path, "%s/%s", parent, files[i]);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
        msh_fd_close(&fd);
        if (n <= 0)
            continue;
        text[n] = '\0';
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        msh_fs_poke(path, text);
    }
    char path[640];
    snprintf(path, sizeof path, "%s/cgroup.clone_children", dir);
    msh_fs_poke(path, "1");
}

static msh_code make_below(const msh_cgroup_tree *t, const char *path, msh_err *err)
{
    char dir[512], parent[512];
    size_t n = (size_t)snprintf(dir, sizeof dir, "%s", t->at);
    for (const char *p = path; *p != '\0';) {
        p += strspn(p, "/");
        size_t len = strcspn(p, "/");
        if (len == 0)
            break;
        if (n + len + 2 > sizeof dir)
            return msh_fail(err, MSH_INVALID_ARGUMENT, "cgroup path %s is too long", path);
        memcpy(parent, dir, n + 1);
        dir[n++] = '/';
        memcpy(dir + n, p, len);
        n += len;
        dir[n] = '\0';
        p += len;
        if (mkdir(dir, 0755) != 0 && errno != EEXIST)
            return msh_fail_errno(err, errno, "make cgroup %s", dir);
        if (strstr(t->name, "cpuset") != NULL)
            fill_cpuset(parent, dir);
    }
    return MSH_OK;
}

/* v2: gives `path` its controllers. One that it cannot have makes those limits impossible, and nothing else. */
static void hand_down(const char *tree, const char *path)
{
    char missing[128];
    if (!msh_controllers_hand_down(tree, path, missing, sizeof missing))
        msh_warn("cgroup %s/%s cannot be limited by: %s", tree, path, missing);
}

msh_code msh_cgroups_make(const msh_cgroups *c, const char *path, msh_err *err)
{
    for (size_t i = 0; i < c->n; i++) {
        /* The last VM to end takes the common parent away: then it is made again. */
        msh_code rc = MSH_NOT_FOUND;
        for (int tries = 0; rc == MSH_NOT_FOUND && tries < 100; tries++)
            rc = make_below(&c->tree[i], path, err);
        if (rc != MSH_OK)
            return rc;
        if (c->v2)
            hand_down(c->tree[i].at, path);
    }
    return MSH_OK;
}

static void remove_below(const char *dir, int depth)
{
    DIR *d = depth > 0 ? opendir(dir) : NULL;
    if (d != NULL) {
        for (struct dirent *e; (e = readdir(d)) != NULL;) {
            char path[768];
            if (e->d_type != DT_DIR || e->d_name[0] == '.')
                continue;
            snprintf(path, sizeof path, "%.500s/%.255s", dir, e->d_name);
            remove_below(path, depth - 1);
        }
        closedir(d);
    }
    rmdir(dir);
}

void msh_cgroups_unmake(const msh_cgroups *c, const char *path)
{
    for (size_t i = 0; i < c->n; i++) {
        char dir[640];
        snprintf(dir, sizeof dir, "%s/%s", c->tree[i].at, path);
        remove_below(dir, 8);
        char *slash = strrchr(dir, '/');
        *slash = '\0';
        if (strlen(dir) > strlen(c->tree[i].at))
            rmdir(dir); /* the folder of all UVMs, when this was the last */
    }
}

msh_code msh_cgroups_join(const msh_cgroups *c, const char *path, msh_err *err)
{
    for (size_t i = 0; i < c->n; i++) {
        char file[640];
        snprintf(file, sizeof file, "%s/%s/cgroup.procs", c->tree[i].at, path);
        if (msh_fs_poke(file, "0") != 0)
            return msh_fail_errno(err, errno, "join cgroup %s", file);
    }
    return MSH_OK;
}

msh_code msh_cgroups_mount(const msh_cgroups *c, const char *root, msh_err *err)
{
    const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    char base[512], at[640];
    snprintf(base, sizeof base, "%s%s", root, CGROUP_ROOT);
    if (c->v2) {
        if (mount("cgroup2", base, "cgroup2", flags, NULL) != 0)
            return msh_fail_errno(err, errno, "mount cgroup2");
        return MSH_OK;
    }
    if (mount("cgroup", base, "tmpfs", flags, "mode=0755,size=64k") != 0)
        return msh_fail_errno(err, errno, "mount the cgroup folder");
    for (size_t i = 0; i < c->n; i++) {
        const msh_cgroup_tree *t = &c->tree[i];
        snprintf(at, sizeof at, "%s/%s", base, t->name);
        if (mkdir(at, 0755) != 0 || mount("cgroup", at, "cgroup", flags, t->options) != 0)
            return msh_fail_errno(err, errno, "mount cgroup %s", t->name);
        if (strchr(t->name, ',') == NULL)
            continue;
        char names[sizeof t->name], *save = NULL;
        memcpy(names, t->name, sizeof names);
        for (char *s = strtok_r(names, ",", &save); s != NULL; s = strtok_r(NULL, ",", &save)) {
            snprintf(at, sizeof at, "%s/%s", base, s);
            if (symlink(t->name, at) != 0)
                return msh_fail_errno(err, errno, "link cgroup %s", s);
        }
    }
    return MSH_OK;
}

msh_code msh_cgroups_delegate(msh_err *err)
{
    if (!is_v2(CGROUP_ROOT))
        return MSH_OK;
    if (mkdir(CGROUP_ROOT "/gcs", 0755) != 0 && errno != EEXIST)
        return msh_fail_errno(err, errno, "make the agent's cgroup");
    if (msh_fs_poke(CGROUP_ROOT "/gcs/cgroup.procs", "0") != 0)
        return msh_fail_errno(err, errno, "join the agent's cgroup");
    hand_down(CGROUP_ROOT, "gcs");
    return MSH_OK;
}

/* Calls `fn` with the absolute folder of `path` in every tree of this namespace. */
static void each_tree(const char *path, void (*fn)(const char *dir, const char *tree, void *arg), void *arg)
{
    char dir[640];
    while (*path == '/')
        path++;
    if (is_v2(CGROUP_ROOT)) {
        snprintf(dir, sizeof dir, "%s/%s", CGROUP_ROOT, path);
        fn(dir, CGROUP_ROOT, arg);
        return;
    }
    DIR *d = opendir(CGROUP_ROOT);
    if (d == NULL)
        return;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.' || e->d_type == DT_LNK)
            continue;
        char tree[320];
        snprintf(tree, sizeof tree, "%s/%s", CGROUP_ROOT, e->d_name);
        if (is_v2(tree))
            continue;
        snprintf(dir, sizeof dir, "%s/%s", tree, path);
        fn(dir, tree, arg);
    }
    closedir(d);
}

typedef struct pid_list {
    pid_t *out;
    size_t n, max;
    bool seen; /* one v1 tree is enough: all hold the same processes */
} pid_list;

static void read_pids(const char *dir, pid_list *l, int depth)
{
    char path[768];
    snprintf(path, sizeof path, "%s/cgroup.procs", dir);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return;
    l->seen = true;
    int pid;
    while (l->n < l->max && fscanf(f, "%d", &pid) == 1)
        if (pid > 0)
            l->out[l->n++] = pid;
    fclose(f);
    DIR *d = depth > 0 ? opendir(dir) : NULL;
    if (d == NULL)
        return;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_type != DT_DIR || e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%.500s/%.255s", dir, e->d_name);
        read_pids(path, l, depth - 1);
    }
    closedir(d);
}

static void collect(const char *dir, const char *tree, void *arg)
{
    (void)tree;
    pid_list *l = arg;
    if (!l->seen)
        read_pids(dir, l, 8);
}

size_t msh_inner_cgroup_pids(const char *path, pid_t *out, size_t max)
{
    pid_list l = {.out = out, .max = max};
    each_tree(path, collect, &l);
    return l.n;
}

bool msh_inner_cgroup_kill(const char *path, int rounds)
{
    pid_t pids[512];
    for (int i = 0; i < rounds; i++) {
        size_t n = msh_inner_cgroup_pids(path, pids, sizeof pids / sizeof *pids);
        if (n == 0)
            return true;
        for (size_t k = 0; k < n; k++)
            if (pids[k] > 1)
                kill(pids[k], SIGKILL);
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return false;
}

static void remove_one(const char *dir, const char *tree, void *arg)
{
    (void)arg;
    if (strlen(dir) > strlen(tree) + 1)
        remove_below(dir, 8);
}

void msh_inner_cgroup_remove(const char *path)
{
    each_tree(path, remove_one, NULL);
}

typedef struct create_args {
    const char *path;
    msh_code rc;
    msh_err *err;
} create_args;

static void create_one(const char *dir, const char *tree, void *arg)
{
    (void)dir;
    create_args *a = arg;
    msh_cgroup_tree t = {0};
    snprintf(t.at, sizeof t.at, "%s", tree);
    snprintf(t.name, sizeof t.name, "%.60s", strrchr(tree, '/') + 1);
    if (a->rc == MSH_OK)
        a->rc = make_below(&t, a->path, a->err);
    if (a->rc == MSH_OK && is_v2(tree))
        hand_down(tree, a->path);
}

msh_code msh_inner_cgroup_create(const char *path, msh_err *err)
{
    create_args a = {.path = path, .rc = MSH_OK, .err = err};
    each_tree(path, create_one, &a);
    return a.rc;
}

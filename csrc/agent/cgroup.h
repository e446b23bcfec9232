/* agent/cgroup.h - the UVM's cgroups, from outside (boot makes and joins them) and from inside (mounts, pids).
 *
 * Layer      agent.
 * Words      tree = one hierarchy as the host mounts it: a v1 controller set, a named v1 hierarchy, or v2. On a hybrid
 *            host the v2 tree has no controllers and is left out, or crun refuses to run inside.
 * Paths      `path` is relative to the root of every tree, as "moonshim/0123456789abcdef" or "/pods/p1/c1". */
#ifndef MSH_AGENT_CGROUP_H
#define MSH_AGENT_CGROUP_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define MSH_CGROUP_TREES 24

typedef struct msh_cgroup_tree {
    char at[128];     /* where the host mounts it */
    char options[96]; /* for mount(2) inside: "cpu,cpuacct" or "none,name=systemd"; "" for v2 */
    char name[64];    /* folder below /sys/fs/cgroup: "cpu,cpuacct", "systemd"; "" for v2 */
} msh_cgroup_tree;

typedef struct msh_cgroups {
    bool v2;
    size_t n;
    msh_cgroup_tree tree[MSH_CGROUP_TREES];
} msh_cgroups;

/* Reads the trees of the calling process' mount namespace. */
msh_code msh_cgroups_find(msh_cgroups *out, msh_err *err);
/* Makes `path` in every tree, ready to hold processes (v1: cpuset filled in) and to be limited (v2: with controllers). */
msh_code msh_cgroups_make(const msh_cgroups *c, const char *path, msh_err *err);
/* Removes `path` and what is below it from every tree, as far as it is empty. */
void msh_cgroups_unmake(const msh_cgroups *c, const char *path);
/* Moves the calling process into `path` of every tree. */
msh_code msh_cgroups_join(const msh_cgroups *c, const char *path, msh_err *err);
/* Mounts every tree below `root`/sys/fs/cgroup; called inside the new cgroup namespace. */
msh_code msh_cgroups_mount(const msh_cgroups *c, const char *root, msh_err *err);
/* Inside, v2 only: moves the agent to a leaf of its own and hands all controllers down, so that containers may get them. */
msh_code msh_cgroups_delegate(msh_err *err);

/* Inside the UVM: pids of `path` and the cgroups below it; at most `max`, the number found is returned. */
size_t msh_inner_cgroup_pids(const char *path, pid_t *out, size_t max);
/* SIGKILL to everything in `path`, again until it is empty or `rounds` rounds of 10 ms passed. True when empty. */
bool msh_inner_cgroup_kill(const char *path, int rounds);
/* Removes the empty cgroup `path` from every tree; what is not there counts as removed. */
void msh_inner_cgroup_remove(const char *path);
/* Makes `path` in every tree, inside the UVM. */
msh_code msh_inner_cgroup_create(const char *path, msh_err *err);
#endif

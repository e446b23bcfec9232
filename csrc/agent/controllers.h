/* agent/controllers.h - v2: which controllers a cgroup has, and handing them down to it.
 *
 * Layer      agent; the kernel's files of a tree, wherever it is mounted, so that tests run over folders.
 * Words      a cgroup *has* a controller when it can be limited by it (cgroup.controllers); its parent *hands it down*
 *            (cgroup.subtree_control). At the top everything is there and often nothing is handed down: who wants limits
 *            enables them on the way, as runtimes do. What is above us keeps them while we hand them down ourselves: the
 *            kernel refuses to take a controller from a parent whose child has it in cgroup.subtree_control.
 * Source     Documentation/admin-guide/cgroup-v2.rst, "Enabling and Disabling", "Top-down Constraint",
 *            "No Internal Process Constraint". */
#ifndef MSH_AGENT_CONTROLLERS_H
#define MSH_AGENT_CONTROLLERS_H
#include <stdbool.h>
#include <stddef.h>

/* Makes every cgroup from the top of the tree at `tree` down to the parent of `path` hand down what it has, of what is
 * used here: cpuset, cpu, io, memory, hugetlb, pids. False when `path` lacks one that the top has; `missing` (`size` bytes)
 * then names those, separated by blanks. A cgroup that holds processes cannot hand down, unless it is the root. */
bool msh_controllers_hand_down(const char *tree, const char *path, char *missing, size_t size);

/* Is `name` one of the controllers of the cgroup at `dir`? */
bool msh_controllers_has(const char *dir, const char *name);
#endif

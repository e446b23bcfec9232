/* agent/limits.h - the limits of a pod as a whole, on the cgroup that holds its containers.
 *
 * Layer      agent. The plan is pure; applying it blocks.
 * Words      OCI linux.resources of the sandbox: memory.limit, cpu.{shares,quota,period,cpus,mems}, pids.limit. What a
 *            runtime does for one container is done here for the folder above it. */
#ifndef MSH_AGENT_LIMITS_H
#define MSH_AGENT_LIMITS_H
#include "base/err.h"
#include <jansson.h>

#define MSH_LIMITS_MAX 8

typedef struct msh_limit {
    const char *tree, *file; /* v1: folder of the controller, file in it; v2: tree is "" */
    char text[96];
} msh_limit;

typedef struct msh_limits {
    size_t n;
    msh_limit item[MSH_LIMITS_MAX];
} msh_limits;

/* invalid_argument names the member of `resources` (NULL is fine) that has a wrong type or value. */
msh_code msh_limits_plan(const json_t *resources, bool v2, msh_limits *out, msh_err *err);
/* Writes them to the cgroup `path` ("/pods/p1"), which exists. */
msh_code msh_limits_apply(const json_t *resources, const char *path, msh_err *err);
#endif

/* agent/resources.h - OCI linux.resources as limits of a cgroup: read, applied as one change, read back.
 *
 * Layer      agent; blocking only on the kernel. The cgroup files are written here and not by the runtime, because the
 *            runtimes apply half of a refused update and mistake "no limit" for a number.
 * Words      bound = a number of the spec; -1 means none, absent means "as it is".
 * Units      memory in bytes, swap is memory and swap together as on v1, quota and period in microseconds.
 * Always     1. an update is applied whole or not at all.
 *            2. what was asked for is what the files say afterwards, up to the kernel's rounding; else it is refused.
 * See        agent/resources_test.c, over folders that look like v1 and v2 */
#ifndef MSH_AGENT_RESOURCES_H
#define MSH_AGENT_RESOURCES_H
#include "agent/cgfile.h"
#include <jansson.h>

typedef struct msh_bound {
    bool set;
    int64_t value; /* -1: none */
} msh_bound;

typedef struct msh_resources {
    msh_bound memory, swap, reservation, shares, quota, period, pids;
    char cpus[256], mems[256]; /* "" when absent */
} msh_resources;

/* Reads and checks; invalid_argument names the field. Members that are none of ours (devices, blockIO, ...) are left
 * alone. */
msh_code msh_resources_read(const json_t *resources, msh_resources *out, msh_err *err);
/* Removes the members that mean "no limit" in a new cgroup: runtimes turn some of them into errors. */
void msh_resources_tidy(json_t *resources);
/* Names a member that an update would have to change and this agent cannot ("blockIO"); NULL when there is none.
 * `devices` is no such member: hosts send it along with every update, and it means the devices of creation. */
const char *msh_resources_beyond(const json_t *resources);

/* Fails and names the limit when the cgroup `top` of the UVM cannot be limited in that way: failed_precondition. Runtimes
 * would only say that a file is not there. */
msh_code msh_resources_possible(const json_t *resources, const msh_cg *top, msh_err *err);
/* Reads and applies: the limits of a pod as a whole, whose cgroup `path` ("/pods/p1") exists. */
msh_code msh_resources_limit(const json_t *resources, const char *path, msh_err *err);
msh_code msh_resources_apply(const msh_resources *l, const msh_cg *cg, msh_err *err);
#endif

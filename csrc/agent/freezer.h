/* agent/freezer.h - stopping all processes of a cgroup where they are, and letting them go on.
 *
 * Layer      agent. freeze blocks and is for pool threads; thaw does not wait and is for any thread.
 * Always     1. a freeze that fails, for whatever reason, leaves the cgroup thawed.
 *            2. thawing what is not frozen, or not there, is fine. */
#ifndef MSH_AGENT_FREEZER_H
#define MSH_AGENT_FREEZER_H
#include "agent/cgfile.h"

/* Returns when the kernel says that all are frozen. deadline_exceeded after `within_ms` (a process in the middle of a
 * device's answer cannot be frozen), aborted when *cancel became true, failed_precondition without a freezer. */
msh_code msh_freeze(const msh_cg *cg, unsigned within_ms, const bool *cancel, msh_err *err);
void msh_thaw(const msh_cg *cg);
/* True while the cgroup itself is told to be frozen, done or not. */
bool msh_frozen(const msh_cg *cg);
#endif

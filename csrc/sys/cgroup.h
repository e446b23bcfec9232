/* sys/cgroup.h - taking away empty control groups.
 *
 * Layer      sys. Waits a little for groups that empty themselves, so it belongs on the pool.
 * Always     it kills nothing and touches only control group file systems. */
#ifndef MSH_SYS_CGROUP_H
#define MSH_SYS_CGROUP_H
#include "base/err.h"

/* `name` is either absolute (/sys/fs/cgroup/pids/moonshim/ab) or relative (moonshim/ab): then it is removed
 * in every mounted hierarchy, v1 and v2. Children go first. Absent is ok. A group that is still busy after
 * `within_ms` is failed_precondition and names it; the others are removed all the same. A name with ".."
 * or an empty one is invalid_argument. */
msh_code msh_cgroup_remove(const char *name, unsigned within_ms, msh_err *err);
#endif

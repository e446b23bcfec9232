/* agent/root.h - the root file system of a local UVM.
 *
 * Layer      agent; runs in pid 1 of the UVM, inside its new mount, pid, uts, ipc, network and cgroup namespaces.
 * Result     a tmpfs with read-only /usr of the host, copies of a few files of its /etc, own /proc, /sys, /dev, /dev/pts
 *            and cgroups, the agent at /sbin/moonshim-guest, the host's sockets and device nodes below /run/host.
 * Host       nothing is written to the host's file system and no mount is visible there. */
#ifndef MSH_AGENT_ROOT_H
#define MSH_AGENT_ROOT_H
#include "agent/cgroup.h"
#include "base/err.h"

#define MSH_GUEST_PROGRAM "/sbin/moonshim-guest"
#define MSH_GUEST_PATH    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* Builds the root on top of `run_dir` (only in this mount namespace) and makes it "/". */
msh_code msh_root_enter(const char *run_dir, const msh_cgroups *cgroups, msh_err *err);
#endif

/* agent/boot.h - makes a local UVM and stays as its parent.
 *
 * Layer      agent.
 * Says       one JSON line on stdout: {"pid":<of pid 1, as the host sees it>,"start_time":<ticks since boot>,"cgroup":"..."}
 *            when the UVM's root stands and the agent is about to run; or {"error":"..."} and exit status 1.
 * Lives      until pid 1 ends, then exits with its status (128 + n for a signal). With die_with_parent both die with
 *            the process that started boot; when that has ended before boot began, nothing is made. Terminating
 *            the UVM is one SIGKILL to pid 1. */
#ifndef MSH_AGENT_BOOT_H
#define MSH_AGENT_BOOT_H
#include <stdbool.h>
#include <sys/types.h>

typedef struct msh_boot_options {
    const char *run_dir; /* absolute; holds s/ and scsi/ */
    const char *id;      /* becomes the host name, cut to 63 bytes */
    const char *cgroup;  /* relative: "moonshim/<16 hex>" */
    const char *log;     /* file that stderr goes to; NULL keeps stderr */
    bool die_with_parent;
    pid_t parent; /* who started boot; 0: whoever is the parent when it begins */
} msh_boot_options;

int msh_boot(const msh_boot_options *o); /* gives the exit status of the process */
#endif

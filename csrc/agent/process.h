/* agent/process.h - a process that a host may wait for and signal, from its start to the last wait.
 *
 * Layer      agent; loop thread.
 * Life       RUNNING --reaped--> EXITED --> gone. An exec or external process is forgotten once a wait has had its code; init
 *            is kept until its container is deleted.
 * Always     waits are answered at exit, not when the output has drained: a background child that keeps a pipe open
 *            must not hide the exit. */
#ifndef MSH_AGENT_PROCESS_H
#define MSH_AGENT_PROCESS_H
#include "agent/agent.h"

struct msh_container;

typedef enum msh_process_kind { MSH_INIT, MSH_EXEC, MSH_EXTERNAL } msh_process_kind;

typedef struct msh_process {
    msh_node node; /* in container->processes or agent->externals */
    msh_agent *agent;
    struct msh_container *container; /* NULL for external ones */
    msh_process_kind kind;
    pid_t pid;
    uint64_t owner; /* of its streams */
    bool exited, collected;
    uint64_t told; /* when collected: number of the last connection that had asked */
    bool terminal;
    int console; /* master of its terminal until its exit; -1 */
    bool dead;   /* forgotten before its exit: only the reaper still knows it */
    uint32_t code;
    msh_node waits; /* struct wait in process.c */
} msh_process;

/* Registers a child that was made in `window` and watches it. NULL with err without memory. */
msh_process *msh_process_new(msh_agent *a, struct msh_container *c, msh_process_kind kind, pid_t pid,
                             uint64_t owner, uint64_t window, msh_err *err);
msh_process *msh_process_find(msh_agent *a, const struct msh_container *c, pid_t pid);
/* Forgets it; waits that are left get 0x80070490. One that still runs is freed when it is reaped. */
void msh_process_free(msh_process *p);
#endif

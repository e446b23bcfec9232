/* agent/container.h - the containers of this UVM.
 *
 * Layer      agent; loop thread. A task works on copies, or on fields that do not change after `creating`.
 * States     CREATING --runtime made it--> CREATED --init started--> RUNNING --init reaped--> TERMINATED
 *            and out of the table by DeleteContainerState or a failed create. */
#ifndef MSH_AGENT_CONTAINER_H
#define MSH_AGENT_CONTAINER_H
#include "agent/agent.h"
#include "agent/network.h"
#include "agent/process.h"
#include "agent/spec.h"

typedef enum msh_container_state {
    MSH_CREATING,
    MSH_CREATED,
    MSH_RUNNING,
    MSH_TERMINATED
} msh_container_state;
typedef enum msh_exit_type { MSH_UNEXPECTED_EXIT, MSH_GRACEFUL_EXIT, MSH_FORCED_EXIT } msh_exit_type;

typedef struct msh_container {
    msh_node node;
    msh_agent *agent;
    char *id, *activity;
    uint64_t
        serial; /* tells it from an earlier one of the same id: a task looks it up again when its turn comes */
    msh_spec_class what;
    msh_container_state state;
    char *bundle, *scratch, *root, *rootfs, *cgroup;
    json_t *process; /* of the spec, as the runtime got it */
    bool named_user, private_pids, terminal;
    msh_network *network; /* the namespace that it holds for its pod, or NULL */
    int stdio[3];         /* the agent's ends of init's pipes, until init is started; -1 */
    bool starting;        /* an ExecuteProcess for init is on its way */
    msh_process *init;
    msh_node processes; /* init and execs */
    msh_exit_type exit_type;
    bool notified, removed; /* removed: the runtime has forgotten it */
    struct msh_oom *oom;    /* oom.h; NULL when nothing is watched */
    bool frozen;
    bool *freeze_cancel; /* of the freeze that is on its way; constraints.c */
} msh_container;

msh_container *msh_container_find(msh_agent *a, const char *id);
/* As the table of section 5.2 says: found and not being created, else the request is refused and NULL is given. */
msh_container *msh_container_of(msh_request *r);
/* Takes it out of the table and frees it with its processes and streams. */
void msh_container_free(msh_container *c);
/* Init was reaped, or a wait on it was answered: sends the notification when both have happened. */
void msh_container_exited(msh_container *c);
void msh_container_maybe_notify(msh_container *c);
#endif

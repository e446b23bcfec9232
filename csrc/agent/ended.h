/* agent/ended.h - exits that a host may not have heard of.
 *
 * Layer      agent; loop thread.
 * Words      An exec is forgotten once a wait was answered with its code. When the connection breaks in that moment the answer
 *            is lost, so the last codes stay known to later connections; to the one that was told they are forgotten.
 * Ownership  one table for the agent's life, of fixed size: the oldest goes first. */
#ifndef MSH_AGENT_ENDED_H
#define MSH_AGENT_ENDED_H
#include "agent/agent.h"

/* `container`: NULL for a process of the UVM. `told`: the last connection that asked. The answer may have left over a later one,
 * whose host cannot be relied on to know the ids of the one before: it asks again. */
void msh_ended_keep(msh_agent *a, const char *container, pid_t pid, uint32_t code, uint64_t told);
/* True when it was told to an earlier connection; from now on to this one. */
bool msh_ended_find(msh_agent *a, const char *container, pid_t pid, uint32_t *code);
/* The container is gone, its id and its pids may be used again. */
void msh_ended_forget(msh_agent *a, const char *container);
#endif

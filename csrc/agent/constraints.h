/* agent/constraints.h - the requests that change a container that runs: its limits and its freezer; and the limit of all
 * containers together.
 *
 * Layer      agent; loop thread. See wire/PROTOCOL.md for the freezer, which is an extension of ours. */
#ifndef MSH_AGENT_CONSTRAINTS_H
#define MSH_AGENT_CONSTRAINTS_H
#include "agent/container.h"

/* ContainerConstraints and ContainerFreezer of a container. Takes the request. */
void msh_container_modify(msh_request *r, msh_container *c);
/* PodCgroupMemoryLimit: what is left of the UVM's memory when the agent has its share. Takes the request. */
void msh_pods_memory(msh_request *r);

/* What has been told to end, or has ended, must not stay frozen: its signal could not reach it, its remains could not be
 * reaped. Also ends a freeze that is on its way. */
void msh_container_thaw(msh_container *c);
/* Every container, before the UVM ends: frozen processes would keep it. */
void msh_containers_thaw(msh_agent *a);
#endif

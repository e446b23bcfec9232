/* agent/oom.h - noticing that the kernel killed a process of a container for want of memory, and saying so.
 *
 * Layer      agent; loop thread.
 * How        v1: an eventfd on memory.oom_control, which wakes us before the kill, so the counter is looked at again for
 *            a moment. v2: a watch on memory.events. On both the counter is read at every exit, too, so that the news
 *            leaves before the exit does, whatever the wake-up is doing.
 * Always     one notification for each rise of the counter; watch and descriptor end with the container's init. */
#ifndef MSH_AGENT_OOM_H
#define MSH_AGENT_OOM_H
#include "agent/container.h"

/* Begins to watch a container that was just made. Without a memory controller nothing happens. */
void msh_oom_watch(msh_container *c);
/* A process of it has ended: is there news to tell first? */
void msh_oom_check(msh_container *c);
void msh_oom_end(msh_container *c);
#endif

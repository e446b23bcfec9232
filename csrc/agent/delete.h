/* agent/delete.h - what is left of a container, taken away.
 *
 * Layer      agent. Blocks: pool threads.
 * Always     only what this agent made is deleted: bundles, and scratch folders that CombinedLayers prepared. Trees are
 *            deleted without crossing a mount, mount points by rmdir alone. */
#ifndef MSH_AGENT_DELETE_H
#define MSH_AGENT_DELETE_H
#include "agent/container.h"

/* After a create that failed. `keep_bundle`: it belongs to CombinedLayers, only our files in it go. */
void msh_undo_create(const msh_container *c, bool keep_bundle);
/* Deletes a tree that this agent made. No link on the way to it is followed, no mount in it is crossed; absent is fine. */
msh_code msh_remove_ours(const char *path, msh_err *err);
/* rmdir of the bundle and of its pod's folder below /run/gcs/pods, as far as they are empty. */
void msh_remove_empty_bundle(const char *bundle);
#endif

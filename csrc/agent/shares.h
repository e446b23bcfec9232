/* agent/shares.h - folders and files of the host: MappedDirectory.
 *
 * Layer      agent; records belong to the loop's thread.
 * Protocol   on local: connect to the 9P port, send {"aname":"<share>"} and a newline; the host answers 'D' with one
 *            descriptor (a detached mount of a folder), 'F' + name + newline with one (of a file), or 'E' + text.
 * Always     what lies below a share is the user's: nothing there is ever deleted (msh_share_holds). */
#ifndef MSH_AGENT_SHARES_H
#define MSH_AGENT_SHARES_H
#include "agent/agent.h"

/* Whether `path` (cleaned) is a share's mount point or lies below one. */
bool msh_share_holds(msh_agent *a, const char *path);
/* msh_path_target, and not held by a share: a path that the agent may write and delete at. `out` has MSH_PATH_MAX bytes. */
msh_code msh_own_path(msh_agent *a, const char *what, const char *text, char *out, msh_err *err);
void msh_share_add(msh_request *r, const json_t *settings);
void msh_share_remove(msh_request *r, const json_t *settings);
#endif

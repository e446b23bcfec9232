/* agent/spawn.h - fork and exec of one program, nothing inherited but what is named.
 *
 * Layer      agent.
 * Always     the child has the three descriptors it was given and no other, default signals, an empty signal mask and
 *            umask 022. */
#ifndef MSH_AGENT_SPAWN_H
#define MSH_AGENT_SPAWN_H
#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define MSH_SPAWN_NULL   (-1) /* /dev/null */
#define MSH_SPAWN_CLOSED (-2) /* no descriptor at all */

typedef struct msh_spawn {
    const char *path;        /* absolute */
    const char *const *argv; /* NULL at the end */
    const char *const *env;  /* the whole environment, NULL at the end */
    const char *cwd;         /* NULL: the agent's */
    bool terminal;           /* fd[0] becomes its controlling terminal */
    int fd[3];               /* borrowed, numbered 3 and up; or one of the two above */
} msh_spawn;

/* How many descriptors children may open: as many as the agent might, before it took all it could get. */
void msh_spawn_files(uint64_t soft);
/* How ready the kernel is to kill children when memory is short: the agent's own, from before it protected itself. */
void msh_spawn_oom_score(int score);
/* The caller holds what keeps the child from being reaped before it is known (agent/reap.h). */
msh_code msh_spawn_run(const msh_spawn *s, pid_t *pid, msh_err *err);
/* Absolute path of an executable `name`: itself when it has a slash, else from the folders of `path` (colons). */
msh_code msh_spawn_find(const char *name, const char *path, char *out, size_t size, msh_err *err);
#endif

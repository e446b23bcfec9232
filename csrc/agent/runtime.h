/* agent/runtime.h - who makes containers: a table of functions, so that crun, runc and later a path of our own can stand
 * behind it.
 *
 * Layer      agent. All functions block and run on pool threads; any number at once for different containers.
 * Errors     hresult is the number for the host: exists, not found, running, stopped, program missing, ...
 * Stdio      descriptors are borrowed; the container's process inherits them, nothing else.
 * Terminal   with `console` the process has the terminal that its document asks for instead, and *console is its master, the
 *            caller's (agent/console.h); NULL: it has none. */
#ifndef MSH_AGENT_RUNTIME_H
#define MSH_AGENT_RUNTIME_H
#include "agent/reap.h"
#include "base/err.h"
#include <jansson.h>

typedef struct msh_runtime msh_runtime;

typedef struct msh_runtime_ops {
    /* Makes the container from <bundle>/config.json; its init waits for start. */
    msh_code (*create)(msh_runtime *r, const char *id, const char *bundle, const int fd[3], int *console,
                       pid_t *pid, msh_err *err);
    msh_code (*start)(msh_runtime *r, const char *id, msh_err *err);
    msh_code (*exec)(msh_runtime *r, const char *id, const json_t *process, const int fd[3], int *console,
                     pid_t *pid, msh_err *err);
    /* Forgets a container whose processes have ended. One that is not known is fine. */
    msh_code (*remove)(msh_runtime *r, const char *id, msh_err *err);
} msh_runtime_ops;

struct msh_runtime {
    const msh_runtime_ops *ops;
    msh_reap *reap;
    const char *program; /* absolute */
    char state[64];      /* its own folder */
    bool crun;
    uint64_t serial; /* names of temporary files; atomic */
};

/* crun, else runc, from the usual folders; not_found names both. */
msh_code msh_runtime_open(msh_reap *reap, msh_runtime **out, msh_err *err);
#endif

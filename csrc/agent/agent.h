/* agent/agent.h - the agent's parts and how they meet.
 *
 * Layer      agent; one loop, a thread pool for what blocks (tasks.h), one data thread (streams.h).
 * Words      request = one frame from the host on its way to exactly one answer. container, process: container.h,
 *            process.h. bundle record: what CombinedLayers set up for a container that may never be created.
 * Threads    everything here belongs to the loop's thread, except what a task copied.
 * Ownership  msh_answer and msh_refuse take the request. A request that is never answered is a bug. */
#ifndef MSH_AGENT_AGENT_H
#define MSH_AGENT_AGENT_H
#include "agent/json.h"
#include "agent/reap.h"
#include "agent/runtime.h"
#include "agent/streams.h"
#include "agent/tasks.h"
#include "base/list.h"
#include "base/time.h"
#include <uv.h>

#define MSH_REQUESTS_MAX 16384u /* in flight, waits included */

typedef struct msh_bridge msh_bridge;
typedef struct msh_ended msh_ended;

typedef struct msh_agent_options {
    const char *sockets;  /* folder of the host's sockets, one per port */
    const char *scsi;     /* folder of device nodes "c<controller>l<lun>" */
    unsigned disk_within; /* ms to wait for a device node */
} msh_agent_options;

typedef struct msh_agent {
    uv_loop_t *loop;
    msh_agent_options options;
    msh_bridge *bridge;
    msh_reap *reap;
    msh_tasks *tasks;
    msh_streams *streams;
    msh_runtime *runtime;
    msh_node containers; /* msh_container */
    msh_node externals;  /* msh_process outside any container */
    msh_node bundles;    /* layers.h */
    msh_node shares;     /* share.c */
    msh_node networks;   /* network.c */
    msh_node pending;    /* msh_request, oldest first */
    msh_ended *ended;    /* ended.h; NULL until there is one */
    uint64_t serial;     /* owners of streams, names of folders */
    size_t requests;
    size_t n_externals;
    bool tells_oom; /* the host asked for it when it negotiated */
    bool resumes;   /* likewise: streams outlive their sockets */
} msh_agent;

typedef struct msh_request {
    msh_agent *agent;
    uint32_t type;
    uint64_t id;
    json_t *body;
    const char *container, *activity; /* in body */
    msh_time since;
    uint64_t connection; /* over which it came; its answer may leave over a later one */
    msh_node node;       /* in agent->pending */
} msh_request;

/* Runs the agent for ever; gives the exit status when it could not start. */
int msh_agent_main(const msh_agent_options *o);

/* Sends `extra` (taken; NULL for none), whose fields join the envelope. */
void msh_answer(msh_request *r, json_t *extra);
void msh_refuse(msh_request *r, int32_t hresult, const char *text);
void msh_refuse_err(msh_request *r, const msh_err *err);
/* MSH_OK -> answer without fields, else refuse. */
void msh_finish(msh_request *r, const msh_err *err);

/* Path of the socket of a port; `out` has 256 bytes. */
void msh_port_path(const msh_agent *a, uint32_t port, char *out, size_t size);
bool msh_is_null_container(const char *id);

/* The handlers, by file. Each takes the request. */
void msh_on_create(msh_request *r);         /* create.c */
void msh_on_start(msh_request *r);          /* container.c */
void msh_on_shutdown(msh_request *r);       /* container.c */
void msh_on_delete_state(msh_request *r);   /* delete.c */
void msh_on_get_properties(msh_request *r); /* properties.c */
void msh_on_execute(msh_request *r);        /* exec.c */
void msh_on_wait(msh_request *r);           /* process.c */
void msh_on_signal(msh_request *r);         /* process.c */
void msh_on_resize(msh_request *r);         /* process.c */
void msh_on_modify(msh_request *r);         /* modify.c */
void msh_on_dump_stacks(msh_request *r);    /* dump.c */
/* A frame of the host; dispatch.c. `negotiated` belongs to the connection. */
void msh_dispatch(msh_agent *a, uint32_t type, uint64_t id, msh_slice body, bool *negotiated);
#endif

#include "agent/agent.h"
#include "agent/bridge.h"
#include "agent/fs.h"
#include "agent/log.h"
#include "agent/paths.h"
#include "agent/spawn.h"
#include "sys/fd.h"
#include "wire/gcs.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static msh_code open_parts(msh_agent *a, msh_err *err)
{
    msh_code rc = msh_fs_mkdirs(MSH_STATE_DIR, 0700, err);
    if (rc == MSH_OK)
        rc = msh_reap_open(a->loop, &a->reap, err);
    if (rc == MSH_OK)
        rc = msh_tasks_open(a->loop, &a->tasks, err);
    if (rc == MSH_OK)
        rc = msh_streams_open(&a->streams, err);
    if (rc == MSH_OK)
        rc = msh_runtime_open(a->reap, &a->runtime, err);
    if (rc == MSH_OK)
        rc = msh_bridge_open(a, &a->bridge, err);
    return rc;
}

/* With the UVM's memory at its limit, a container shall go and not the agent, whose end would be everybody's. */
static void protect(void)
{
    int before = 0;
    FILE *f = fopen("/proc/self/oom_score_adj", "r+e");
    if (f != NULL && fscanf(f, "%d", &before) == 1 && before > -900) {
        rewind(f);
        if (fprintf(f, "-900\n") > 0 && fflush(f) == 0)
            msh_spawn_oom_score(before);
    }
    if (f != NULL)
        fclose(f);
}

/* A stream is several descriptors, and a pod may have hundreds of containers. */
static void open_many(void)
{
    uint64_t before = msh_fd_limit_raise();
    const char *told = getenv("MOONSHIM_NOFILE"); /* the shim's, from before it did the same */
    uint64_t soft = told == NULL ? 0 : strtoull(told, NULL, 10);
    msh_spawn_files(soft != 0 ? soft : before);
}

int msh_agent_main(const msh_agent_options *o)
{
    static uv_loop_t loop;
    msh_agent a = {.loop = &loop, .options = *o};
    msh_err err = {0};
    char log[256];
    msh_port_path(&a, MSH_PORT_LOG, log, sizeof log);
    msh_log_connect(log); /* a host that wants none does not listen */
    open_many();
    protect();
    umask(0); /* every mode here is meant as it is written */
    signal(SIGPIPE, SIG_IGN);
    setenv("UV_THREADPOOL_SIZE", "16", 0);
    msh_list_init(&a.containers);
    msh_list_init(&a.externals);
    msh_list_init(&a.bundles);
    msh_list_init(&a.shares);
    msh_list_init(&a.pending);
    msh_list_init(&a.networks);
    int rc = uv_loop_init(&loop);
    if (rc != 0)
        msh_fail(&err, MSH_INTERNAL, "event loop: %s", uv_strerror(rc));
    else
        open_parts(&a, &err);
    if (err.code != MSH_OK || a.runtime == NULL) {
        msh_warn("agent: %s", err.msg);
        return 1;
    }
    msh_info("agent %s is ready, runtime %s", MSH_VERSION, a.runtime->program);
    uv_run(&loop, UV_RUN_DEFAULT); /* ends only with the UVM */
    return 0;
}

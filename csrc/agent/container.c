#include "agent/container.h"
#include "agent/bridge.h"
#include "agent/cgroup.h"
#include "agent/constraints.h"
#include "agent/ended.h"
#include "agent/log.h"
#include "agent/oom.h"
#include "agent/reply.h"
#include "sys/fd.h"
#include "wire/gcs.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

msh_container *msh_container_find(msh_agent *a, const char *id)
{
    for (msh_node *n = a->containers.next; n != &a->containers; n = n->next) {
        msh_container *c = MSH_LIST_OF(n, msh_container, node);
        if (strcmp(c->id, id) == 0)
            return c;
    }
    return NULL;
}

msh_container *msh_container_of(msh_request *r)
{
    msh_container *c = msh_container_find(r->agent, r->container);
    if (c == NULL)
        msh_refuse(r, MSH_HR_SYSTEM_NOT_FOUND, NULL);
    else if (c->state == MSH_CREATING)
        msh_refuse(r, MSH_HR_FAIL, "the container is being created");
    return c == NULL || c->state == MSH_CREATING ? NULL : c;
}

void msh_container_free(msh_container *c)
{
    while (!msh_list_empty(&c->processes)) {
        msh_process *p = MSH_LIST_OF(c->processes.next, msh_process, node);
        msh_streams_forget(c->agent->streams, p->owner);
        msh_process_free(p);
    }
    msh_ended_forget(c->agent, c->id);
    for (int i = 0; i < 3; i++)
        msh_fd_close(&c->stdio[i]);
    msh_oom_end(c);
    msh_list_remove(&c->node);
    msh_network_leave(c->network);
    json_decref(c->process);
    free(c->id);
    free(c->activity);
    free(c->bundle);
    free(c->scratch);
    free(c->root);
    free(c->rootfs);
    free(c->cgroup);
    free(c);
}

void msh_container_maybe_notify(msh_container *c)
{
    static const char *const types[] = {"UnexpectedExit", "GracefulExit", "ForcedExit"};
    if (c->state != MSH_TERMINATED || c->notified || c->init == NULL || !c->init->collected)
        return;
    c->notified = true;
    msh_bridge_notify(c->agent->bridge, msh_notice_exit(c->id, c->activity, types[c->exit_type]));
}

/* Without a pid namespace of its own the rest of a container outlives its init; the kernel does not end it. */
typedef struct kill_rest {
    char *cgroup;
} kill_rest;

static void kill_work(void *ctx)
{
    kill_rest *k = ctx;
    if (!msh_inner_cgroup_kill(k->cgroup, 500))
        msh_warn("processes of %s survive their init", k->cgroup);
}

static void kill_done(void *ctx)
{
    kill_rest *k = ctx;
    free(k->cgroup);
    free(k);
}

void msh_container_exited(msh_container *c)
{
    bool started = c->state == MSH_RUNNING || c->starting;
    c->state = MSH_TERMINATED;
    msh_oom_end(c);
    msh_container_thaw(c);
    for (int i = 0; i < 3 && !started; i++)
        msh_fd_close(&c->stdio[i]);
    if (!c->private_pids) {
        kill_rest *k = calloc(1, sizeof *k);
        if (k != NULL && (k->cgroup = strdup(c->cgroup)) != NULL) {
            msh_task t = {.key = {msh_key_of("container", c->id, false)},
                          .work = kill_work,
                          .done = kill_done,
                          .ctx = k};
            if (msh_tasks_submit(c->agent->tasks, &t, NULL) != MSH_OK)
                kill_done(k);
        } else {
            free(k);
        }
    }
    msh_container_maybe_notify(c);
}

void msh_on_start(msh_request *r)
{
    msh_answer(r, NULL);
}

/* The end of the UVM itself. As pid 1 our end is everybody's end. */
static void power_off(msh_agent *a)
{
    msh_info("shut down by the host");
    msh_containers_thaw(a);
    if (getpid() == 1)
        kill(-1, SIGKILL);
    _exit(0);
}

void msh_on_shutdown(msh_request *r)
{
    bool forced = r->type == MSH_GCS_SHUTDOWN_FORCED;
    if (msh_is_null_container(r->container))
        power_off(r->agent);
    msh_container *c = msh_container_of(r);
    if (c == NULL)
        return;
    if (c->init == NULL || c->init->exited) {
        msh_refuse(r, MSH_HR_SYSTEM_STOPPED, NULL);
        return;
    }
    if (kill(c->init->pid, forced ? SIGKILL : SIGTERM) != 0) {
        msh_refuse(r, errno == ESRCH ? MSH_HR_SYSTEM_STOPPED : MSH_HR_FAIL, strerror(errno));
        return;
    }
    c->exit_type = forced ? MSH_FORCED_EXIT : MSH_GRACEFUL_EXIT;
    msh_container_thaw(c);
    msh_answer(r, NULL);
}

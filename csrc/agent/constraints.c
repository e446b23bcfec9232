#include "agent/constraints.h"
#include "agent/cgroup.h"
#include "agent/freezer.h"
#include "agent/log.h"
#include "agent/resources.h"
#include "wire/gcs.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FREEZE_WITHIN 5000u
/* Of a UVM's memory, for the agent, the runtime and the kernel's tables. */
#define ROOT_RESERVE (UINT64_C(64) << 20)

typedef struct change {
    msh_request *request;
    char *id;
    msh_container *container; /* looked up again at the beginning; stays while the task holds its key */
    msh_cg cg;
    msh_resources limits;
    bool frozen; /* the freezer's new state, when it is about that */
    bool cancel; /* atomic: thawed meanwhile */
    msh_err err;
} change;

static void begin(void *ctx)
{
    change *k = ctx;
    k->container = msh_container_find(k->request->agent, k->id);
    if (k->container == NULL) {
        msh_fail(&k->err, MSH_NOT_FOUND, "the container is gone");
        k->err.hresult = MSH_HR_SYSTEM_NOT_FOUND;
    } else if (k->container->state == MSH_TERMINATED) {
        msh_fail(&k->err, MSH_FAILED_PRECONDITION, "the container has ended");
        k->err.hresult = MSH_HR_SYSTEM_STOPPED;
    }
}

static void finish(change *k)
{
    msh_finish(k->request, &k->err);
    free(k->id);
    free(k);
}

static void submit(change *k, const msh_task *how)
{
    msh_task t = *how;
    t.key[0] = msh_key_of("container", k->id, false);
    t.ctx = k;
    if (msh_tasks_submit(k->request->agent->tasks, &t, &k->err) != MSH_OK)
        finish(k);
}

static change *new_change(msh_request *r, const msh_container *c)
{
    change *k = calloc(1, sizeof *k);
    char *id = strdup(c->id);
    if (k == NULL || id == NULL) {
        free(k);
        free(id);
        msh_refuse(r, MSH_HR_FAIL, "no memory");
        return NULL;
    }
    *k = (change){.request = r, .id = id, .cg = msh_cg_inner(c->cgroup)};
    return k;
}

/* ---- limits ---- */

static void limits_work(void *ctx)
{
    change *k = ctx;
    if (k->err.code == MSH_OK)
        msh_resources_apply(&k->limits, &k->cg, &k->err);
}

static void limits_done(void *ctx)
{
    finish(ctx);
}

static void constrain(msh_request *r, const msh_container *c, const json_t *settings)
{
    msh_err err = {0};
    const json_t *resources = msh_json_get(settings, "Linux");
    if (!json_is_object(resources)) {
        msh_refuse(r, MSH_HR_INVALID_JSON, "Settings.Linux is missing");
        return;
    }
    const char *beyond = msh_resources_beyond(resources);
    if (beyond != NULL)
        msh_fail(&err, MSH_INVALID_ARGUMENT, "resources: %.60s cannot be changed here", beyond);
    msh_resources limits;
    if (beyond != NULL || msh_resources_read(resources, &limits, &err) != MSH_OK) {
        msh_refuse_err(r, &err);
        return;
    }
    change *k = new_change(r, c);
    if (k == NULL)
        return;
    k->limits = limits;
    submit(k, &(msh_task){.begin = begin, .work = limits_work, .done = limits_done});
}

/* ---- freezer ---- */

static void freezer_begin(void *ctx)
{
    change *k = ctx;
    begin(ctx);
    if (k->err.code != MSH_OK)
        return;
    msh_container *c = k->container;
    if (c->state != MSH_RUNNING || c->init == NULL || c->init->exited) {
        msh_fail(&k->err, MSH_FAILED_PRECONDITION, "the container does not run");
        k->err.hresult = MSH_HR_INVALID_STATE;
    } else if (k->frozen) {
        c->freeze_cancel = &k->cancel;
    }
}

static void freezer_work(void *ctx)
{
    change *k = ctx;
    if (k->err.code != MSH_OK)
        return;
    if (k->frozen)
        msh_freeze(&k->cg, FREEZE_WITHIN, &k->cancel, &k->err);
    else
        msh_thaw(&k->cg);
}

static void freezer_done(void *ctx)
{
    change *k = ctx;
    msh_container *c = k->container;
    if (c != NULL && c->freeze_cancel == &k->cancel)
        c->freeze_cancel = NULL;
    if (k->cancel) { /* perhaps after the last look at it */
        msh_thaw(&k->cg);
        msh_fail(&k->err, MSH_ABORTED, "freeze: the container is being ended");
        k->err.hresult = MSH_HR_INVALID_STATE;
    }
    if (k->err.code == MSH_OK && c != NULL)
        c->frozen = k->frozen;
    finish(k);
}

static void freeze(msh_request *r, const msh_container *c, const json_t *settings)
{
    msh_reader in = msh_read(settings);
    const char *state = msh_read_text(&in, "State");
    bool frozen = strcmp(state, "Frozen") == 0;
    if (in.bad != NULL || (!frozen && strcmp(state, "Thawed") != 0)) {
        msh_refuse(r, MSH_HR_INVALID_JSON, "Settings.State is neither Frozen nor Thawed");
        return;
    }
    change *k = new_change(r, c);
    if (k == NULL)
        return;
    k->frozen = frozen;
    submit(k, &(msh_task){.begin = freezer_begin, .work = freezer_work, .done = freezer_done});
}

void msh_container_thaw(msh_container *c)
{
    if (c->freeze_cancel != NULL)
        __atomic_store_n(c->freeze_cancel, true, __ATOMIC_RELEASE);
    if (c->freeze_cancel == NULL && !c->frozen)
        return;
    msh_cg cg = msh_cg_inner(c->cgroup);
    msh_thaw(&cg);
    c->frozen = false;
}

void msh_containers_thaw(msh_agent *a)
{
    for (msh_node *n = a->containers.next; n != &a->containers; n = n->next)
        msh_container_thaw(MSH_LIST_OF(n, msh_container, node));
}

void msh_container_modify(msh_request *r, msh_container *c)
{
    msh_reader body = msh_read(r->body);
    msh_reader in = msh_read(msh_read_object(&body, "Request"));
    const char *resource = msh_read_text(&in, "ResourceType");
    msh_read_text(&in, "RequestType");
    const json_t *settings = msh_read_object(&in, "Settings");
    if (body.bad != NULL || in.bad != NULL)
        msh_refuse(r, MSH_HR_INVALID_JSON, body.bad != NULL ? body.bad : in.bad);
    else if (strcmp(resource, "ContainerConstraints") == 0)
        constrain(r, c, settings);
    else if (strcmp(resource, "ContainerFreezer") == 0)
        freeze(r, c, settings);
    else
        msh_refuse(r, MSH_HR_FAIL, "a container has no such resource");
}

/* ---- all containers together ---- */

static uint64_t total_memory(void)
{
    char line[128];
    unsigned long long kb = 0;
    FILE *f = fopen("/proc/meminfo", "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "MemTotal: %llu kB", &kb) == 1)
            break;
    if (f != NULL)
        fclose(f);
    /* A UVM of namespaces has its memory from its own cgroup. */
    msh_cg top = msh_cg_inner("");
    uint64_t limit = msh_cg_memory_limit(&top), total = (uint64_t)kb << 10;
    return limit < total || total == 0 ? limit : total;
}

void msh_pods_memory(msh_request *r)
{
    msh_err err = {0};
    uint64_t total = total_memory();
    msh_resources l = {.memory = {.set = true, .value = -1}};
    if (total <= INT64_MAX)
        l.memory.value = (int64_t)(total - (total > 4 * ROOT_RESERVE ? ROOT_RESERVE : total / 4));
    msh_cg pods = msh_cg_inner("pods");
    char path[MSH_CG_PATH];
    if (msh_inner_cgroup_create("/pods", &err) == MSH_OK)
        msh_resources_apply(&l, &pods, &err);
    if (err.code == MSH_OK)
        msh_info("%s: %" PRId64 " bytes", msh_cg_path(&pods, "memory", "limit", path), l.memory.value);
    msh_finish(r, &err);
}

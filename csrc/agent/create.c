/* Create: from the host's document to a container whose init waits to be started. */
#include "agent/cgroup.h"
#include "agent/container.h"
#include "agent/delete.h"
#include "agent/effects.h"
#include "agent/fs.h"
#include "agent/layers.h"
#include "agent/oom.h"
#include "agent/paths.h"
#include "agent/program.h"
#include "agent/resources.h"
#include "agent/shares.h"
#include "agent/stdio.h"
#include "agent/world.h"
#include "wire/gcs.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct create {
    msh_request *request;
    msh_container *container; /* registered as creating; its strings do not change meanwhile */
    json_t *spec;
    uint64_t window;
    bool keep_bundle; /* CombinedLayers made it: DeleteContainerState ends it */
    /* results */
    pid_t pid;
    int mine[3], console;
    msh_err err;
} create;

static msh_container *sandbox_of(msh_agent *a, const char *pod)
{
    for (msh_node *n = a->containers.next; n != &a->containers; n = n->next) {
        msh_container *c = MSH_LIST_OF(n, msh_container, node);
        if (c->what.kind == MSH_SANDBOX && strcmp(c->what.sandbox, pod) == 0)
            return c;
    }
    return NULL;
}

/* The sandbox may have gone, and the bundle may have come, while the request waited for its turn. */
static void create_begin(void *ctx)
{
    create *k = ctx;
    const msh_container *c = k->container;
    msh_agent *a = c->agent;
    if (c->what.kind == MSH_WORKLOAD && sandbox_of(a, c->what.sandbox) == NULL)
        msh_fail(&k->err, MSH_UNKNOWN, "sandbox %.80s does not exist", c->what.sandbox);
    k->keep_bundle = msh_bundle_by_container(a, c->id) != NULL || msh_bundle_by_root(a, c->rootfs) != NULL;
}

/* ---- on a pool thread ---- */

/* The root file system below the bundle may be no more than a place for mounts, as for the pause container. */
static msh_code ready_rootfs(const msh_container *c, int *root, msh_err *err)
{
    if (msh_path_below(c->rootfs, c->bundle)) {
        msh_code rc = msh_fs_mkdirs(c->rootfs, 0755, err);
        if (rc != MSH_OK)
            return rc;
    }
    return msh_fs_open_plain(c->rootfs, root, err);
}

static msh_code write_config(const create *k, msh_err *err)
{
    char path[MSH_PATH_MAX + 16];
    char *text = json_dumps(k->spec, JSON_COMPACT);
    if (text == NULL)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory");
    snprintf(path, sizeof path, "%s/config.json", k->container->bundle);
    msh_code rc = msh_fs_write(path, msh_slice_of(text), 0600, err);
    free(text);
    return rc;
}

/* The runtime's words for "no such program" are checked against the root file system, which knows better. */
static void explain(const create *k, int root, msh_err *err)
{
    msh_err better = {0};
    if (err->hresult != MSH_HR_FILE_NOT_FOUND && err->hresult != MSH_HR_ACCESS_DENIED)
        return;
    if (msh_program_find(root, msh_json_get(k->spec, "process"), &better) != MSH_OK && better.hresult != 0)
        *err = better;
}

/* Asked of the root that init is in, where all mounts are: a program may be on one of them. */
static msh_code runnable(const create *k, msh_err *err)
{
    int inside = msh_program_root(k->pid);
    msh_code rc = inside < 0 ? MSH_OK /* init is gone: its exit will tell */
                             : msh_program_runs(inside, msh_json_get(k->spec, "process"), err);
    msh_fd_close(&inside);
    return rc;
}

static msh_code make(create *k, int root, msh_err *err)
{
    const msh_container *c = k->container;
    static const bool all[3] = {true, true, true};
    int child[3] = {-1, -1, -1};
    const char *cwd = json_string_value(msh_json_get(msh_json_get(k->spec, "process"), "cwd"));
    int dir = msh_fs_mkdirs_in_root(root, cwd,
                                    0755); /* a read-only root may still have it: the runtime will tell */
    msh_fd_close(&dir);
    msh_code rc = write_config(k, err);
    if (rc == MSH_OK && !c->terminal)
        rc = msh_stdio_pipes(all, child, k->mine, err);
    if (rc == MSH_OK) {
        msh_runtime *rt = c->agent->runtime;
        rc = rt->ops->create(rt, c->id, c->bundle, child, c->terminal ? &k->console : NULL, &k->pid, err);
        if (rc != MSH_OK)
            explain(k, root, err);
        else if ((rc = runnable(k, err)) != MSH_OK)
            rt->ops->remove(rt, c->id, NULL); /* ends its init, too */
    }
    msh_stdio_close(child);
    return rc;
}

static void create_work(void *ctx)
{
    create *k = ctx;
    msh_container *c = k->container;
    msh_err *err = &k->err;
    if (err->code != MSH_OK)
        return;
    char hostname[256], pod[600];
    int root = -1;
    msh_spec_world world;
    msh_effects effects = {0};
    msh_network_names names;
    msh_cg top = msh_cg_inner("");
    msh_world_open(&world, hostname);
    msh_code rc = msh_network_read(c->network, &names, err);
    msh_spec_job job = {.id = c->id,
                        .bundle = c->bundle,
                        .root = c->root,
                        .rootfs = c->rootfs,
                        .what = c->what,
                        .resolv = names.resolv,
                        .address = names.address};
    if (rc == MSH_OK)
        rc = msh_fs_mkdirs(c->bundle, 0700, err);
    if (rc == MSH_OK)
        rc = ready_rootfs(c, &root, err);
    if (rc == MSH_OK)
        rc = msh_spec_change(k->spec, &job, &world, &effects, err);
    if (rc == MSH_OK)
        rc = msh_resources_possible(msh_json_get(msh_json_get(k->spec, "linux"), "resources"), &top, err);
    if (rc == MSH_OK)
        rc = msh_effects_do(&effects, c->root, err);
    if (rc == MSH_OK && c->what.kind == MSH_SANDBOX) {
        snprintf(pod, sizeof pod, "/pods/%s", c->what.sandbox);
        rc = msh_inner_cgroup_create(pod, err);
        if (rc == MSH_OK)
            rc = msh_resources_limit(msh_json_get(msh_json_get(k->spec, "linux"), "resources"), pod, err);
    }
    if (rc == MSH_OK)
        rc = make(k, root, err);
    if (rc == MSH_OK &&
        (rc = msh_network_enter(c->network, c->what.host_network ? 0 : k->pid, err)) != MSH_OK)
        c->agent->runtime->ops->remove(c->agent->runtime, c->id, NULL); /* ends its init, too */
    msh_fd_close(&root);
    msh_effects_free(&effects);
    free(names.resolv);
    if (rc != MSH_OK) {
        msh_stdio_close(k->mine);
        msh_fd_close(&k->console);
        msh_undo_create(c, k->keep_bundle);
    }
}

/* ---- on the loop ---- */

static void create_done(void *ctx)
{
    create *k = ctx;
    msh_container *c = k->container;
    msh_agent *a = c->agent;
    if (k->err.code == MSH_OK) {
        c->process = json_incref(msh_json_get(k->spec, "process"));
        memcpy(c->stdio, k->mine, sizeof c->stdio);
        c->state = MSH_CREATED;
        c->init = msh_process_new(a, c, MSH_INIT, k->pid, ++a->serial, k->window, &k->err);
        if (c->init == NULL) {
            kill(k->pid, SIGKILL);
            msh_fd_close(&k->console);
        } else {
            c->init->console = k->console;
            c->init->terminal = c->terminal;
        }
    }
    msh_reap_window_close(a->reap);
    if (k->err.code == MSH_OK) {
        msh_oom_watch(c);
        json_t *o = json_object();
        json_object_set_new(o, "SelectedProtocolVersion", json_integer(0));
        msh_answer(k->request, o);
    } else {
        msh_refuse_err(k->request, &k->err);
        msh_container_free(c);
    }
    json_decref(k->spec);
    free(k);
}

static bool private_pids(const json_t *spec)
{
    size_t i;
    json_t *ns;
    json_array_foreach(msh_json_get(msh_json_get(spec, "linux"), "namespaces"), i, ns)
    {
        const char *type = json_string_value(msh_json_get(ns, "type"));
        const char *path = json_string_value(msh_json_get(ns, "path"));
        if (type != NULL && strcmp(type, "pid") == 0)
            return path == NULL || path[0] == '\0';
    }
    return false;
}

static msh_code find_root(msh_container *c, char *root, size_t size, msh_err *err)
{
    char parent[MSH_PATH_MAX], rest[300];
    if (c->what.kind == MSH_WORKLOAD) {
        msh_container *sandbox = sandbox_of(c->agent, c->what.sandbox);
        if (sandbox == NULL || sandbox->state == MSH_CREATING)
            return msh_fail(err, MSH_UNKNOWN, "sandbox %.80s does not exist", c->what.sandbox);
        c->what.host_network = c->what.host_network || sandbox->what.host_network;
        snprintf(root, size, "%s", sandbox->root);
        return MSH_OK;
    }
    if (c->what.kind == MSH_STANDALONE || !c->what.virtual_pod) {
        snprintf(root, size, "%s", c->bundle);
        return MSH_OK;
    }
    msh_path_parent(c->bundle, parent, sizeof parent);
    snprintf(rest, sizeof rest, "virtual-pods/%s", c->what.sandbox);
    return msh_path_join(parent, rest, root, size, err);
}

/* Fills a new container from the document. */
static msh_code describe(msh_container *c, const json_t *config, const json_t *spec, msh_err *err)
{
    char bundle[MSH_PATH_MAX], scratch[MSH_PATH_MAX] = "", root[MSH_PATH_MAX], rootfs[MSH_PATH_MAX],
                               cgroup[600];
    msh_reader in = msh_read(config);
    const char *bundle_text = msh_read_text(&in, "OciBundlePath"),
               *scratch_text = msh_read_text(&in, "ScratchDirPath");
    msh_code rc = msh_spec_check(spec, err);
    if (rc == MSH_OK)
        rc = msh_spec_classify(spec, c->id, &c->what, err);
    if (rc == MSH_OK)
        rc = msh_own_path(c->agent, "OciBundlePath", bundle_text, bundle, err);
    if (rc == MSH_OK && scratch_text[0] != '\0')
        rc = msh_own_path(c->agent, "ScratchDirPath", scratch_text, scratch, err);
    if (rc != MSH_OK)
        return rc;
    const char *root_path = json_string_value(msh_json_get(msh_json_get(spec, "root"), "path"));
    c->bundle = strdup(bundle);
    if (root_path[0] != '/' && (rc = msh_path_join(bundle, root_path, rootfs, sizeof rootfs, err)) != MSH_OK)
        return rc;
    rc = msh_path_target("root.path", root_path[0] == '/' ? root_path : rootfs, rootfs, sizeof rootfs, err);
    if (rc == MSH_OK && strcmp(rootfs, bundle) == 0)
        rc = msh_fail(err, MSH_INVALID_ARGUMENT, "root.path is the bundle itself");
    if (rc == MSH_OK && c->bundle != NULL)
        rc = find_root(c, root, sizeof root, err);
    if (rc != MSH_OK)
        return rc;
    if (c->what.kind == MSH_STANDALONE)
        snprintf(cgroup, sizeof cgroup, "/pods/%s", c->id);
    else
        snprintf(cgroup, sizeof cgroup, "/pods/%s/%s", c->what.sandbox, c->id);
    c->scratch = strdup(scratch);
    c->root = strdup(root);
    c->rootfs = strdup(rootfs);
    c->cgroup = strdup(cgroup);
    c->private_pids = private_pids(spec);
    json_t *process = msh_json_get(spec, "process");
    const char *user = json_string_value(msh_json_get(msh_json_get(process, "user"), "username"));
    c->named_user = user != NULL && user[0] != '\0';
    c->terminal = json_is_true(msh_json_get(process, "terminal"));
    if (c->bundle == NULL || c->scratch == NULL || c->root == NULL || c->rootfs == NULL || c->cgroup == NULL)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory");
    return MSH_OK;
}

static msh_container *register_new(msh_request *r)
{
    msh_container *c = calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    *c = (msh_container){.agent = r->agent, .state = MSH_CREATING, .stdio = {-1, -1, -1}};
    c->serial = ++r->agent->serial;
    msh_list_init(&c->processes);
    msh_list_push(&r->agent->containers, &c->node);
    c->id = strdup(r->container);
    c->activity = strdup(r->activity);
    if (c->id == NULL || c->activity == NULL) {
        msh_container_free(c);
        return NULL;
    }
    return c;
}

/* ContainerConfig as an object, with its schema version checked. */
static json_t *read_config(const msh_request *r, msh_err *err)
{
    msh_reader in = msh_read(r->body);
    const char *text = msh_read_text(&in, "ContainerConfig");
    json_t *config = in.bad != NULL ? NULL : msh_json_parse(msh_slice_of(text), "ContainerConfig", err);
    if (config != NULL) {
        msh_reader top = msh_read(config);
        msh_reader version = msh_read(msh_read_object(&top, "SchemaVersion"));
        uint64_t major = msh_read_number(&version, "Major", UINT32_MAX);
        uint64_t minor = msh_read_number(&version, "Minor", UINT32_MAX);
        msh_read_text(&top, "OciBundlePath");
        msh_read_text(&top, "ScratchDirPath");
        json_t *spec = msh_read_object(&top, "OciSpecification");
        if (top.bad != NULL || version.bad != NULL)
            msh_fail(err, MSH_INVALID_ARGUMENT, "ContainerConfig: %s has a wrong type",
                     top.bad != NULL ? top.bad : version.bad);
        else if (major < 2 || (major == 2 && minor < 1))
            msh_fail(err, MSH_INVALID_ARGUMENT, "ContainerConfig: schema version %llu.%llu is below 2.1",
                     (unsigned long long)major, (unsigned long long)minor);
        else if (spec == NULL)
            msh_fail(err, MSH_INVALID_ARGUMENT, "ContainerConfig: OciSpecification is missing");
        else
            return config;
        json_decref(config);
    } else if (in.bad != NULL) {
        msh_fail(err, MSH_INVALID_ARGUMENT, "%s has a wrong type", in.bad);
    }
    err->hresult = MSH_HR_INVALID_JSON;
    return NULL;
}

void msh_on_create(msh_request *r)
{
    msh_err err = {0};
    msh_agent *a = r->agent;
    if (!msh_id_ok(r->container)) {
        msh_refuse(r, MSH_HR_INVALID_ARGUMENT, "the container id is not an id");
        return;
    }
    json_t *config = read_config(r, &err);
    if (config == NULL) {
        msh_refuse_err(r, &err);
        return;
    }
    if (msh_container_find(a, r->container) != NULL) {
        json_decref(config);
        msh_refuse(r, MSH_HR_SYSTEM_EXISTS, NULL);
        return;
    }
    json_t *spec = json_incref(msh_json_get(config, "OciSpecification"));
    msh_container *c = register_new(r);
    create *k = c == NULL ? NULL : calloc(1, sizeof *k);
    msh_code rc =
        k == NULL ? msh_fail(&err, MSH_RESOURCE_EXHAUSTED, "no memory") : describe(c, config, spec, &err);
    if (rc == MSH_OK && c->what.kind != MSH_WORKLOAD)
        rc = msh_network_of(a, spec, c->what.kind == MSH_SANDBOX, &c->network, &err);
    json_decref(config);
    if (rc == MSH_OK) {
        *k = (create){.request = r, .container = c, .spec = spec, .mine = {-1, -1, -1}, .console = -1};
        k->keep_bundle =
            msh_bundle_by_container(a, c->id) != NULL || msh_bundle_by_root(a, c->rootfs) != NULL;
        k->window = msh_reap_window(a->reap);
        msh_task t = {.key = {msh_key_of("container", c->id, false),
                              msh_key_of("container", c->what.sandbox, true),
                              msh_key_of("path", c->rootfs, true), msh_network_key(c->network)},
                      .begin = create_begin,
                      .work = create_work,
                      .done = create_done,
                      .ctx = k};
        if (strcmp(c->id, c->what.sandbox) == 0)
            t.key[1] = (msh_key){0};
        rc = msh_tasks_submit(a->tasks, &t, &err);
        if (rc != MSH_OK)
            msh_reap_window_close(a->reap);
    }
    if (rc != MSH_OK) {
        json_decref(spec);
        free(k);
        if (c != NULL)
            msh_container_free(c);
        msh_refuse_err(r, &err);
    }
}

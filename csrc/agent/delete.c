#include "agent/delete.h"
#include "agent/cgroup.h"
#include "agent/fs.h"
#include "agent/layers.h"
#include "agent/log.h"
#include "agent/mounts.h"
#include "agent/paths.h"
#include "agent/shares.h"
#include "sys/tree.h"
#include "wire/gcs.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

msh_code msh_remove_ours(const char *path, msh_err *err)
{
    int fd = -1;
    char parent[MSH_PATH_MAX];
    msh_path_parent(path, parent, sizeof parent);
    msh_err mine = {0};
    msh_code rc = msh_fs_open_plain(parent, &fd, &mine);
    msh_fd_close(&fd);
    if (rc == MSH_NOT_FOUND)
        return MSH_OK;
    if (rc != MSH_OK) {
        *err = mine;
        return rc;
    }
    return msh_remove_tree(path, err);
}

/* The folders that a sandbox shares with its pod hold mounts of its containers; a container on its own may have them, too. */
static void unmount_shared(const char *root)
{
    static const char *const names[] = {"sandboxMounts", "sandboxTmpfsMounts", "hugepages"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[MSH_PATH_MAX];
        if (msh_path_join(root, names[i], path, sizeof path, NULL) == MSH_OK)
            msh_unmount_below(path);
    }
}

static void remove_pod_folder(const char *bundle)
{
    char parent[MSH_PATH_MAX];
    msh_path_parent(bundle, parent, sizeof parent);
    if (msh_path_below(parent, "/run/gcs/pods") && strcmp(parent, "/run/gcs/pods") != 0)
        rmdir(parent); /* only when it is empty */
}

void msh_remove_empty_bundle(const char *bundle)
{
    if (rmdir(bundle) == 0)
        remove_pod_folder(bundle);
}

void msh_undo_create(const msh_container *c, bool keep_bundle)
{
    static const char *const files[] = {"config.json", "hostname", "hosts", "resolv.conf"};
    msh_err err = {0};
    char path[MSH_PATH_MAX];
    msh_inner_cgroup_remove(c->cgroup);
    if (c->what.kind != MSH_WORKLOAD)
        unmount_shared(c->root);
    if (c->what.kind == MSH_SANDBOX) {
        snprintf(path, sizeof path, "/pods/%s", c->what.sandbox);
        msh_inner_cgroup_remove(path);
    }
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (msh_path_join(c->bundle, files[i], path, sizeof path, NULL) == MSH_OK)
            unlink(path);
    if (!keep_bundle && msh_remove_ours(c->bundle, &err) != MSH_OK)
        msh_warn("after a failed create: %s", err.msg);
    if (c->what.kind == MSH_SANDBOX && strcmp(c->root, c->bundle) != 0 &&
        msh_remove_ours(c->root, &err) != MSH_OK)
        msh_warn("after a failed create: %s", err.msg);
    if (!keep_bundle)
        remove_pod_folder(c->bundle);
}

typedef struct delete_job {
    msh_request *request;
    uint64_t serial;          /* of the container that was there when the request came; 0 = none */
    msh_container *container; /* NULL: layers were combined, the container was never created */
    bool bound;
    char *bundle, *scratch; /* "" when there is nothing of ours */
    msh_err err;
} delete_job;

static void delete_work(void *ctx)
{
    delete_job *d = ctx;
    msh_container *c = d->container;
    msh_err *err = &d->err;
    msh_code rc = err->code;
    if (rc != MSH_OK)
        return;
    if (c != NULL) {
        msh_runtime *rt = c->agent->runtime;
        if ((rc = rt->ops->remove(rt, c->id, err)) != MSH_OK)
            return;
        msh_inner_cgroup_kill(c->cgroup, 200);
        msh_inner_cgroup_remove(c->cgroup);
        if (c->what.kind != MSH_WORKLOAD)
            unmount_shared(c->root);
        if (c->what.kind == MSH_SANDBOX) {
            char pod[600];
            snprintf(pod, sizeof pod, "/pods/%s", c->what.sandbox);
            msh_inner_cgroup_remove(pod);
            if (strcmp(c->root, c->bundle) != 0)
                rc = msh_remove_ours(c->root, err);
        }
    }
    if (rc == MSH_OK && d->bound)
        rc = msh_unmount(d->bundle, err);
    if (rc == MSH_OK && d->scratch[0] != '\0')
        rc = msh_remove_ours(d->scratch, err);
    if (rc == MSH_OK && d->bundle[0] != '\0')
        rc = msh_remove_ours(d->bundle, err);
    if (rc == MSH_OK && d->bundle[0] != '\0')
        remove_pod_folder(d->bundle);
}

static void delete_free(delete_job *d)
{
    free(d->bundle);
    free(d->scratch);
    free(d);
}

/* What there is to delete, or why not; nothing else works on this container now. */
static void delete_begin(void *ctx)
{
    delete_job *d = ctx;
    msh_agent *a = d->request->agent;
    msh_container *c = msh_container_find(a, d->request->container);
    msh_bundle_record *b = msh_bundle_by_container(a, d->request->container);
    const char *why = NULL;
    bool other = c != NULL && c->serial != d->serial; /* made meanwhile: nobody asked to delete that one */
    if (b == NULL && c != NULL)
        b = msh_bundle_by_root(a, c->rootfs);
    d->err.hresult = MSH_HR_INVALID_STATE;
    if (other || (c == NULL && b == NULL)) {
        d->err.hresult = MSH_HR_SYSTEM_NOT_FOUND;
        why = "it is gone already";
    } else if (c != NULL && c->state == MSH_RUNNING) {
        why = "the container is running";
    } else if (b != NULL && b->mounted) {
        why = "its layers are still combined: remove them first";
    }
    if (why != NULL) {
        int32_t hresult = d->err.hresult;
        msh_fail(&d->err, MSH_FAILED_PRECONDITION, "%s", why);
        d->err.hresult = hresult;
        return;
    }
    d->err.hresult = 0;
    const char *bundle = c != NULL ? c->bundle : b->bound || b->scratch[0] != '\0' ? b->bundle : "";
    d->container = c;
    d->bound = b != NULL && b->bound;
    d->bundle = strdup(msh_share_holds(a, bundle) ? "" : bundle);
    d->scratch = strdup(b == NULL || msh_share_holds(a, b->scratch) ? "" : b->scratch);
    if (d->bundle == NULL || d->scratch == NULL)
        msh_fail(&d->err, MSH_RESOURCE_EXHAUSTED, "no memory");
    else if (c != NULL && c->init != NULL && !c->init->exited)
        kill(c->init->pid, SIGKILL); /* created, never started */
}

static void delete_done(void *ctx)
{
    delete_job *d = ctx;
    msh_agent *a = d->request->agent;
    if (d->err.code == MSH_OK) { /* otherwise it stays known, and a retry goes on where this one stopped */
        msh_bundle_record *b = msh_bundle_by_container(a, d->request->container);
        if (b == NULL && d->container != NULL)
            b = msh_bundle_by_root(a, d->container->rootfs);
        if (b != NULL)
            msh_bundle_free(b);
        if (d->container != NULL)
            msh_container_free(d->container);
    }
    msh_finish(d->request, &d->err);
    delete_free(d);
}

void msh_on_delete_state(msh_request *r)
{
    msh_agent *a = r->agent;
    msh_err err = {0};
    const msh_container *c = msh_container_find(a, r->container);
    if (c != NULL && c->state == MSH_CREATING) {
        msh_refuse(r, MSH_HR_FAIL, "the container is being created");
        return;
    }
    delete_job *d = calloc(1, sizeof *d);
    if (d == NULL) {
        msh_refuse(r, MSH_HR_FAIL, "no memory");
        return;
    }
    d->request = r;
    d->serial = c == NULL ? 0 : c->serial;
    msh_task t = {
        .key = {msh_key_of("container", r->container, false), msh_network_key(c != NULL ? c->network : NULL)},
        .begin = delete_begin,
        .work = delete_work,
        .done = delete_done,
        .ctx = d};
    if (msh_tasks_submit(a->tasks, &t, &err) != MSH_OK) {
        delete_free(d);
        msh_refuse_err(r, &err);
    }
}

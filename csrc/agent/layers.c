#include "agent/layers.h"
#include "agent/delete.h"
#include "agent/fs.h"
#include "agent/log.h"
#include "agent/mounts.h"
#include "agent/shares.h"
#include "sys/tree.h"
#include "wire/gcs.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define LAYERS_MAX  128u
#define OPTIONS_MAX 4000u /* mount(2) takes one page */
#define POINTS_MAX  512u

typedef struct layers_job {
    msh_request *request;
    char root[MSH_PATH_MAX], bundle[MSH_PATH_MAX], scratch[MSH_PATH_MAX], skeleton[128];
    json_t *layers; /* of cleaned paths, top-most first */
    json_t *points; /* "MountPoints" of the settings, or NULL */
    char *container;
    bool known;    /* there is a record */
    bool recorded; /* this Add made it */
    bool bind;     /* Add: put the bundle on scratch */
    bool bound;    /* result: it is */
    bool by_fd;    /* a layer is in a share: whoever writes there could put a link into its place */
    msh_err err;
} layers_job;

/* ---- records ---- */

msh_bundle_record *msh_bundle_by_root(msh_agent *a, const char *root)
{
    for (msh_node *n = a->bundles.next; n != &a->bundles; n = n->next) {
        msh_bundle_record *b = MSH_LIST_OF(n, msh_bundle_record, node);
        if (strcmp(b->root, root) == 0)
            return b;
    }
    return NULL;
}

msh_bundle_record *msh_bundle_by_container(msh_agent *a, const char *container)
{
    for (msh_node *n = a->bundles.next; n != &a->bundles; n = n->next) {
        msh_bundle_record *b = MSH_LIST_OF(n, msh_bundle_record, node);
        if (b->container[0] != '\0' && strcmp(b->container, container) == 0)
            return b;
    }
    return NULL;
}

void msh_bundle_free(msh_bundle_record *b)
{
    msh_list_remove(&b->node);
    free(b->container);
    free(b->root);
    free(b->bundle);
    free(b->scratch);
    free(b->skeleton);
    free(b);
}

static msh_bundle_record *new_record(const layers_job *j)
{
    msh_bundle_record *b = calloc(1, sizeof *b);
    if (b == NULL)
        return NULL;
    msh_list_push(&j->request->agent->bundles, &b->node);
    b->container = strdup(j->container);
    b->root = strdup(j->root);
    b->bundle = strdup(j->bundle);
    b->scratch = strdup(j->scratch);
    b->skeleton = strdup(j->skeleton);
    if (b->container != NULL && b->root != NULL && b->bundle != NULL && b->scratch != NULL &&
        b->skeleton != NULL)
        return b;
    msh_bundle_free(b);
    return NULL;
}

/* ---- on a pool thread ---- */

static msh_code make_point(int skeleton, const char *path, bool file, msh_err *err)
{
    char clean[MSH_PATH_MAX], parent[MSH_PATH_MAX];
    msh_code rc = msh_path_clean(path, clean, sizeof clean, err);
    if (rc != MSH_OK || strcmp(clean, "/") == 0)
        return rc;
    if (file)
        msh_path_parent(clean, parent, sizeof parent);
    int dir = msh_fs_mkdirs_in_root(skeleton, file ? parent : clean, 0755);
    if (dir < 0)
        return msh_fail_errno(err, errno, "mount point %s", clean);
    if (file) {
        int fd = openat(dir, strrchr(clean, '/') + 1, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
        if (fd < 0)
            rc = msh_fail_errno(err, errno, "mount point %s", clean);
        msh_fd_close(&fd);
    }
    msh_fd_close(&dir);
    return rc;
}

/* The folder that makes mount points appear in an image that lacks them. */
static msh_code make_skeleton(const layers_job *j, msh_err *err)
{
    static const char *const folders[] = {"/proc", "/sys", "/dev", "/tmp", "/run"};
    static const char *const files[] = {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"};
    int fd = -1;
    msh_code rc = msh_fs_mkdirs(j->skeleton, 0755, err);
    if (rc == MSH_OK)
        rc = msh_fs_open_plain(j->skeleton, &fd, err);
    for (size_t i = 0; i < sizeof folders / sizeof *folders && rc == MSH_OK; i++)
        rc = make_point(fd, folders[i], false, err);
    for (size_t i = 0; i < sizeof files / sizeof *files && rc == MSH_OK; i++)
        rc = make_point(fd, files[i], true, err);
    size_t i;
    json_t *p;
    json_array_foreach(j->points, i, p)
    {
        /* "/folder", or {"Path": "/file", "File": true} */
        const char *path =
            json_is_string(p) ? json_string_value(p) : json_string_value(msh_json_get(p, "Path"));
        if (rc == MSH_OK)
            rc = path == NULL ? msh_fail(err, MSH_INVALID_ARGUMENT, "MountPoints[%zu] has no path", i)
                              : make_point(fd, path, json_is_true(msh_json_get(p, "File")), err);
    }
    msh_fd_close(&fd);
    return rc;
}

/* "a:b:c", by their paths, or by descriptor when the paths do not fit into the one page that mount takes. */
static msh_code lower_list(const layers_job *j, int *fds, size_t *n_fds, char *out, size_t size, msh_err *err)
{
    size_t n = json_array_size(j->layers), used = 0, i;
    json_t *v;
    json_array_foreach(j->layers, i, v) used += strlen(json_string_value(v)) + 1;
    bool by_path = !j->by_fd && used + strlen(j->skeleton) + 2 * strlen(j->scratch) + 64 < size;
    used = 0;
    for (i = 0; i <= n; i++) {
        char name[MSH_FD_PATH];
        const char *path = i < n ? json_string_value(json_array_get(j->layers, i)) : j->skeleton;
        if (path[0] == '\0')
            continue;
        int fd = -1;
        msh_code rc = msh_fs_open_plain(path, &fd, err);
        if (rc != MSH_OK) {
            msh_err_note(err, "layer");
            return rc;
        }
        fds[(*n_fds)++] = fd;
        if (!by_path)
            path = msh_fd_path(fd, name);
        int m = snprintf(out + used, size - used, "%s%s", used > 0 ? ":" : "", path);
        if (m < 0 || (size_t)m >= size - used)
            return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "%zu layers are too many for one mount", n);
        used += (size_t)m;
    }
    return MSH_OK;
}

static msh_code mount_overlay(const layers_job *j, msh_err *err)
{
    char lower[OPTIONS_MAX], options[OPTIONS_MAX + 64], name[MSH_FD_PATH];
    int fds[LAYERS_MAX + 1], target = -1;
    size_t n_fds = 0;
    bool writable = j->scratch[0] != '\0';
    msh_code rc = lower_list(j, fds, &n_fds, lower, sizeof lower, err);
    if (rc == MSH_OK)
        rc = msh_fs_open_plain(j->root, &target, err);
    int n = writable ? snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s/upper,workdir=%s/work",
                                lower, j->scratch, j->scratch)
                     : snprintf(options, sizeof options, "lowerdir=%s", lower);
    if (rc == MSH_OK && (n < 0 || (size_t)n >= sizeof options))
        rc = msh_fail(err, MSH_RESOURCE_EXHAUSTED, "the layers are too many for one mount");
    if (rc == MSH_OK &&
        mount("overlay", msh_fd_path(target, name), "overlay", writable ? 0 : MS_RDONLY, options) != 0)
        rc = msh_fail_errno(err, errno, "combine %zu layers", json_array_size(j->layers));
    msh_fd_close(&target);
    while (n_fds > 0)
        msh_fd_close(&fds[--n_fds]);
    return rc;
}

static msh_code bind_bundle(layers_job *j, msh_err *err)
{
    char from[MSH_PATH_MAX + 16], a[MSH_FD_PATH], b[MSH_FD_PATH];
    int source = -1, target = -1;
    snprintf(from, sizeof from, "%s/bundle", j->scratch);
    msh_code rc = msh_mounts_below(j->bundle) > 0
                      ? msh_fail(err, MSH_ALREADY_EXISTS, "there are mounts at or below %s", j->bundle)
                      : msh_fs_mkdirs(from, 0700, err);
    if (rc == MSH_OK)
        rc = msh_fs_mkdirs(j->bundle, 0700, err);
    if (rc == MSH_OK)
        rc = msh_fs_open_plain(from, &source, err);
    if (rc == MSH_OK)
        rc = msh_fs_open_plain(j->bundle, &target, err);
    if (rc == MSH_OK && mount(msh_fd_path(source, a), msh_fd_path(target, b), NULL, MS_BIND, NULL) != 0)
        rc = msh_fail_errno(err, errno, "bind the bundle to scratch");
    j->bound = rc == MSH_OK;
    msh_fd_close(&source);
    msh_fd_close(&target);
    return rc;
}

static msh_code make_scratch(const layers_job *j, msh_err *err)
{
    static const char *const names[] = {"upper", "work"};
    char path[MSH_PATH_MAX + 16];
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", j->scratch, names[i]);
        msh_code rc = msh_fs_mkdirs(path, 0755, err);
        if (rc != MSH_OK)
            return rc;
    }
    return MSH_OK;
}

static void remove_skeleton(const char *path)
{
    msh_err err = {0};
    if (path[0] != '\0' && msh_path_below(path, MSH_STATE_DIR) && msh_remove_tree(path, &err) != MSH_OK)
        msh_warn("skeleton: %s", err.msg);
}

static void add_work(void *ctx)
{
    layers_job *j = ctx;
    msh_err *err = &j->err, ignored = {0};
    struct stat st;
    if (err->code != MSH_OK)
        return;
    msh_code rc = MSH_OK;
    if (msh_mounts_below(j->root) > 0)
        rc = msh_fail(err, MSH_ALREADY_EXISTS, "%s is a mount point already", j->root);
    else if (j->scratch[0] != '\0' && msh_mounts_below(j->scratch) > 0)
        rc = msh_fail(err, MSH_INVALID_ARGUMENT, "ScratchPath \"%.80s\" is a mount point", j->scratch);
    if (rc != MSH_OK) {
        j->skeleton[0] = '\0';
        return;
    }
    bool fresh =
        j->scratch[0] != '\0' && lstat(j->scratch, &st) != 0; /* what was there before is not ours to undo */
    if (j->scratch[0] != '\0') {
        rc = make_scratch(j, err);
        if (rc == MSH_OK && j->bind)
            rc = bind_bundle(j, err);
    } else {
        rc = make_skeleton(j, err);
    }
    if (rc == MSH_OK)
        rc = msh_fs_mkdirs(j->root, 0755, err);
    if (rc == MSH_OK)
        rc = mount_overlay(j, err);
    if (rc == MSH_OK)
        return;
    rmdir(j->root);
    if (j->bind && j->bound && msh_unmount(j->bundle, &ignored) == MSH_OK)
        j->bound = false;
    if (!j->bound)
        msh_remove_empty_bundle(j->bundle);
    if (fresh && !j->bound && msh_remove_ours(j->scratch, &ignored) != MSH_OK)
        msh_warn("scratch after a failed mount: %s", ignored.msg);
    remove_skeleton(j->skeleton);
}

static void remove_work(void *ctx)
{
    layers_job *j = ctx;
    if (!j->known || msh_unmount_point(j->root, &j->err) != MSH_OK)
        return;
    remove_skeleton(j->skeleton);
    if (!j->bound)
        msh_remove_empty_bundle(j->bundle); /* it is only empty when no container was made in it */
}

/* ---- on the loop ---- */

static void job_free(layers_job *j)
{
    json_decref(j->layers);
    json_decref(j->points);
    free(j->container);
    free(j);
}

static void add_done(void *ctx)
{
    layers_job *j = ctx;
    msh_bundle_record *b = j->known || j->recorded ? msh_bundle_by_root(j->request->agent, j->root) : NULL;
    if (b != NULL && j->recorded && j->err.code != MSH_OK && !j->bound) {
        msh_bundle_free(b);
    } else if (b != NULL) { /* also when the bind could not be undone: DeleteContainerState may still */
        b->mounted = j->err.code == MSH_OK;
        b->bound = j->bound;
    }
    msh_finish(j->request, &j->err);
    job_free(j);
}

static void remove_done(void *ctx)
{
    layers_job *j = ctx;
    msh_bundle_record *b = msh_bundle_by_root(j->request->agent, j->root);
    if (b != NULL && j->err.code == MSH_OK) {
        b->mounted = false;
        if (!b->bound && b->scratch[0] == '\0')
            msh_bundle_free(b);
    }
    msh_finish(j->request, &j->err);
    job_free(j);
}

/* What goes into the option text of the mount must not be able to say anything else there. */
static msh_code layer_path(const char *what, const char *text, char *out, msh_err *err)
{
    msh_code rc = msh_path_target(what, text, out, MSH_PATH_MAX, err);
    if (rc == MSH_OK && strpbrk(out, ":,\\\n") != NULL)
        rc = msh_fail(err, MSH_INVALID_ARGUMENT, "%s \"%.80s\" has characters that a mount cannot take", what,
                      out);
    return rc;
}

static msh_code read_layers(layers_job *j, const json_t *list, msh_err *err)
{
    size_t i;
    json_t *v;
    j->layers = json_array();
    if (json_array_size(list) == 0 || json_array_size(list) > LAYERS_MAX)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "%zu layers: 1 to %u are possible", json_array_size(list),
                        LAYERS_MAX);
    json_array_foreach((json_t *)list, i, v)
    {
        char path[MSH_PATH_MAX];
        const char *text = json_string_value(msh_json_get(v, "Path"));
        msh_code rc = text == NULL ? msh_fail(err, MSH_INVALID_ARGUMENT, "layer %zu has no path", i)
                                   : layer_path("layer", text, path, err);
        if (rc != MSH_OK)
            return rc;
        json_array_append_new(j->layers, json_string(path));
    }
    return MSH_OK;
}

/* Scratch is ours to write and to delete, so it cannot be a mount point or lie in a user's folder. */
static msh_code read_scratch(layers_job *j, const char *text, msh_err *err)
{
    if (text[0] == '\0')
        return MSH_OK;
    msh_code rc = layer_path("ScratchPath", text, j->scratch, err);
    return rc != MSH_OK ? rc : msh_own_path(j->request->agent, "ScratchPath", text, j->scratch, err);
}

static layers_job *read_job(msh_request *r, const json_t *settings, bool add)
{
    msh_err err = {0};
    msh_reader in = msh_read(settings);
    const char *container = msh_read_text(&in, "ContainerID");
    const char *root = msh_read_text(&in, "ContainerRootPath"), *scratch = msh_read_text(&in, "ScratchPath");
    const json_t *layers = msh_read_array(&in, "Layers"), *points = msh_read_array(&in, "MountPoints");
    layers_job *j = in.bad != NULL ? NULL : calloc(1, sizeof *j);
    if (j == NULL) {
        msh_refuse(r, in.bad != NULL ? MSH_HR_INVALID_JSON : MSH_HR_FAIL, in.bad);
        return NULL;
    }
    j->request = r;
    msh_code rc = msh_own_path(r->agent, "ContainerRootPath", root, j->root, &err);
    if (rc == MSH_OK && add && container[0] != '\0' && !msh_id_ok(container))
        rc = msh_fail(&err, MSH_INVALID_ARGUMENT, "ContainerID \"%.60s\" is not an id", container);
    if (rc == MSH_OK)
        msh_path_parent(j->root, j->bundle, sizeof j->bundle);
    if (rc == MSH_OK && add)
        rc = strcmp(j->bundle, "/run") == 0
                 ? msh_fail(&err, MSH_INVALID_ARGUMENT, "ContainerRootPath must lie in a folder of its own")
                 : read_layers(j, layers, &err);
    if (rc == MSH_OK && add)
        rc = read_scratch(j, scratch, &err);
    if (rc == MSH_OK && json_array_size(points) > POINTS_MAX)
        rc = msh_fail(&err, MSH_INVALID_ARGUMENT, "more than %u mount points", POINTS_MAX);
    if (rc == MSH_OK && (j->container = strdup(container)) == NULL)
        rc = msh_fail(&err, MSH_RESOURCE_EXHAUSTED, "no memory");
    if (rc != MSH_OK) {
        job_free(j);
        msh_refuse_err(r, &err);
        return NULL;
    }
    j->points = json_incref((json_t *)points);
    return j;
}

static void submit(layers_job *j, void (*begin)(void *), void (*work)(void *), void (*done)(void *))
{
    msh_task t = {.key = {msh_key_of("path", j->root, false), msh_key_of("container", j->container, false)},
                  .begin = begin,
                  .work = work,
                  .done = done,
                  .ctx = j};
    if (j->container[0] == '\0')
        t.key[1] = (msh_key){0};
    msh_err err = {0};
    if (msh_tasks_submit(j->request->agent->tasks, &t, &err) == MSH_OK)
        return;
    msh_refuse_err(j->request, &err);
    job_free(j);
}

/* `old`: the record of this root, NULL when there is none. Only one with scratch stays when its layers are removed. */
static msh_code may_begin(layers_job *j, const msh_bundle_record *old)
{
    msh_agent *a = j->request->agent;
    if (old != NULL && old->mounted)
        return msh_fail(&j->err, MSH_ALREADY_EXISTS, "layers are combined at %s already", j->root);
    if (old != NULL && (strcmp(old->scratch, j->scratch) != 0 || strcmp(old->container, j->container) != 0))
        return msh_fail(&j->err, MSH_ALREADY_EXISTS, "%s belongs to container \"%.60s\" with scratch %s",
                        j->root, old->container, old->scratch);
    for (msh_node *n = a->bundles.next; j->scratch[0] != '\0' && n != &a->bundles; n = n->next) {
        const msh_bundle_record *b = MSH_LIST_OF(n, msh_bundle_record, node);
        if (strcmp(b->root, j->root) != 0 && b->scratch[0] != '\0' &&
            (msh_path_below(j->scratch, b->scratch) || msh_path_below(b->scratch, j->scratch)))
            return msh_fail(&j->err, MSH_ALREADY_EXISTS, "ScratchPath \"%.80s\" is that of %s", j->scratch,
                            b->root);
    }
    return MSH_OK;
}

static bool any_shared(const layers_job *j)
{
    size_t i;
    json_t *v;
    json_array_foreach(j->layers, i, v)
    {
        if (msh_share_holds(j->request->agent, json_string_value(v)))
            return true;
    }
    return false;
}

static void add_begin(void *ctx)
{
    layers_job *j = ctx;
    msh_agent *a = j->request->agent;
    msh_bundle_record *old = msh_bundle_by_root(a, j->root);
    if (may_begin(j, old) != MSH_OK)
        return;
    /* Removed before and combined again, as after a failed create: it stays known if this fails. */
    j->known = old != NULL;
    j->bound = old != NULL && old->bound;
    j->by_fd = any_shared(j);
    j->bind = !j->bound && j->scratch[0] != '\0' && !msh_path_below(j->scratch, j->bundle);
    if (j->scratch[0] == '\0')
        snprintf(j->skeleton, sizeof j->skeleton, MSH_STATE_DIR "/skeleton/%llu",
                 (unsigned long long)++a->serial);
    if (old == NULL && !(j->recorded = new_record(j) != NULL))
        msh_fail(&j->err, MSH_RESOURCE_EXHAUSTED, "no memory");
}

static void remove_begin(void *ctx)
{
    layers_job *j = ctx;
    const msh_bundle_record *b = msh_bundle_by_root(j->request->agent, j->root);
    j->known = b != NULL; /* what stands at other paths is not ours to take away */
    if (b != NULL)
        snprintf(j->skeleton, sizeof j->skeleton, "%s", b->skeleton);
    j->bound = b == NULL || b->bound;
}

void msh_layers_add(msh_request *r, const json_t *settings)
{
    layers_job *j = read_job(r, settings, true);
    if (j != NULL)
        submit(j, add_begin, add_work, add_done);
}

void msh_layers_remove(msh_request *r, const json_t *settings)
{
    layers_job *j = read_job(r, settings, false);
    if (j != NULL)
        submit(j, remove_begin, remove_work, remove_done);
}

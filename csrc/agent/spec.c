#include "agent/spec.h"
#include "agent/files.h"
#include "agent/json.h"
#include "agent/paths.h"
#include "agent/resources.h"
#include "wire/gcs.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CORE_LIMIT   "io.microsoft.lcow.rlimitcore"
#define HOST_NETWORK "io.microsoft.virtualmachine.lcow.hostnetwork"

/* ---- effects and small helpers ---- */

void msh_effects_free(msh_effects *e)
{
    for (size_t i = 0; i < e->n; i++) {
        free(e->item[i].path);
        free(e->item[i].text);
    }
    free(e->item);
    *e = (msh_effects){0};
}

msh_code msh__effect(msh_effects *e, msh_effect_kind kind, const char *path, const char *text, mode_t mode,
                     msh_err *err)
{
    if (e->n == e->cap) {
        size_t cap = e->cap == 0 ? 16 : e->cap * 2;
        msh_effect *p = realloc(e->item, cap * sizeof *p);
        if (p == NULL)
            return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory");
        e->item = p;
        e->cap = cap;
    }
    msh_effect x = {
        .kind = kind, .path = strdup(path), .text = text == NULL ? NULL : strdup(text), .mode = mode};
    e->item[e->n++] = x;
    if (x.path == NULL || (text != NULL && x.text == NULL))
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory");
    return MSH_OK;
}

const char *msh__annotation(const json_t *spec, const char *key)
{
    const char *v = json_string_value(json_object_get(msh_json_get(spec, "annotations"), key));
    return v == NULL ? "" : v;
}

bool msh__annotation_flag(const json_t *spec, const char *key, bool fallback)
{
    static const char *const yes[] = {"1", "t", "T", "TRUE", "true", "True"};
    static const char *const no[] = {"0", "f", "F", "FALSE", "false", "False"};
    const char *v = msh__annotation(spec, key);
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
        if (strcmp(v, yes[i]) == 0)
            return true;
        if (strcmp(v, no[i]) == 0)
            return false;
    }
    return fallback;
}

bool msh__mounted(const json_t *spec, const char *destination)
{
    size_t i;
    json_t *m;
    json_array_foreach(msh_json_get(spec, "mounts"), i, m)
    {
        char clean[MSH_PATH_MAX];
        const char *d = json_string_value(msh_json_get(m, "destination"));
        if (d != NULL && msh_path_clean(d, clean, sizeof clean, NULL) == MSH_OK &&
            strcmp(clean, destination) == 0)
            return true;
    }
    return false;
}

msh_code msh__add_bind(json_t *spec, const char *source, const char *destination)
{
    json_t *mounts = json_object_get(spec, "mounts");
    if (!json_is_array(mounts)) {
        json_object_set_new(spec, "mounts", json_array());
        mounts = json_object_get(spec, "mounts");
    }
    json_t *options = json_pack("[s]", "bind");
    if (json_is_true(msh_json_get(msh_json_get(spec, "root"), "readonly")))
        json_array_append_new(options, json_string("ro"));
    json_t *m = json_pack("{s:s,s:s,s:s,s:o}", "destination", destination, "type", "bind", "source", source,
                          "options", options);
    return json_array_append_new(mounts, m) == 0 ? MSH_OK : MSH_RESOURCE_EXHAUSTED;
}

/* ---- classification ---- */

msh_code msh_spec_classify(const json_t *spec, const char *id, msh_spec_class *out, msh_err *err)
{
    msh_spec_class c = {.host_network = msh__annotation_flag(spec, HOST_NETWORK, false)};
    const char *type = msh__annotation(spec, "io.kubernetes.cri.container-type");
    const char *pod = msh__annotation(spec, "io.kubernetes.cri.sandbox-id");
    const char *virtual = msh__annotation(spec, "io.microsoft.cri.virtual-pod-id");
    const char *sandbox = id;
    if (type[0] == '\0') {
        c.kind = MSH_STANDALONE;
    } else if (strcmp(type, "sandbox") == 0) {
        c.kind = MSH_SANDBOX;
    } else if (strcmp(type, "container") == 0) {
        c.kind = MSH_WORKLOAD;
        sandbox = pod;
    } else {
        return msh_fail(err, MSH_UNKNOWN, "container type \"%.40s\" is neither sandbox nor container", type);
    }
    if (virtual[0] != '\0') {
        c.virtual_pod = true;
        sandbox = virtual;
        if (strcmp(virtual, id) == 0)
            c.kind = MSH_SANDBOX;
    }
    if (!msh_id_ok(sandbox))
        return msh_fail(err, MSH_UNKNOWN, "sandbox id \"%.40s\" is not an id", sandbox);
    snprintf(c.sandbox, sizeof c.sandbox, "%s", sandbox);
    *out = c;
    return MSH_OK;
}

/* ---- checks ---- */

static msh_code check_env(const json_t *env, const char *where, msh_err *err)
{
    size_t i;
    json_t *v;
    json_array_foreach((json_t *)env, i, v)
    {
        const char *eq = strchr(json_string_value(v), '=');
        if (eq == NULL || eq == json_string_value(v))
            return msh_fail(err, MSH_INVALID_ARGUMENT, "%s.env: \"%.60s\" is not NAME=value", where,
                            json_string_value(v));
    }
    return MSH_OK;
}

msh_code msh_process_check(const json_t *process, const char *where, msh_err *err)
{
    msh_reader r = msh_read(process);
    json_t *args = msh_read_texts(&r, "args");
    json_t *env = msh_read_texts(&r, "env");
    const char *cwd = msh_read_text(&r, "cwd");
    json_t *user = msh_read_object(&r, "user");
    msh_read_flag(&r, "terminal");
    if (r.bad == NULL) {
        msh_reader u = msh_read(user);
        msh_read_number(&u, "uid", UINT32_MAX - 1);
        msh_read_number(&u, "gid", UINT32_MAX - 1);
        msh_read_text(&u, "username");
        r.bad = u.bad;
    }
    if (r.bad != NULL)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "%s.%s has a wrong type or value", where, r.bad);
    if (json_array_size(args) == 0 || json_string_value(json_array_get(args, 0))[0] == '\0')
        return msh_fail(err, MSH_INVALID_ARGUMENT, "%s.args names no program", where);
    if (cwd[0] != '/')
        return msh_fail(err, MSH_INVALID_ARGUMENT, "%s.cwd \"%.60s\" is not absolute", where, cwd);
    return check_env(env, where, err);
}

msh_code msh_spec_check(const json_t *spec, msh_err *err)
{
    msh_reader r = msh_read(spec);
    json_t *process = msh_read_object(&r, "process"), *root = msh_read_object(&r, "root");
    json_t *linux_part = msh_read_object(&r, "linux"), *mounts = msh_read_array(&r, "mounts");
    msh_read_object(&r, "annotations");
    msh_read_text(&r, "hostname");
    if (r.bad != NULL)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "OCI spec: %s has a wrong type", r.bad);
    const char *missing = process == NULL      ? "process"
                          : root == NULL       ? "root"
                          : linux_part == NULL ? "linux"
                                               : NULL;
    if (missing != NULL)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "OCI spec: %s is missing", missing);
    msh_reader in_root = msh_read(root), in_linux = msh_read(linux_part);
    msh_read_flag(&in_root, "readonly");
    if (msh_read_text(&in_root, "path")[0] == '\0' || in_root.bad != NULL)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "OCI spec: root.path is missing");
    msh_read_object(&in_linux, "resources");
    msh_read_array(&in_linux, "devices");
    msh_read_array(&in_linux, "namespaces");
    if (in_linux.bad != NULL)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "OCI spec: linux.%s has a wrong type", in_linux.bad);
    size_t i;
    json_t *m;
    json_array_foreach(mounts, i, m)
    {
        msh_reader in = msh_read(json_is_object(m) ? m : NULL);
        const char *destination = msh_read_text(&in, "destination");
        msh_read_text(&in, "source");
        msh_read_text(&in, "type");
        msh_read_texts(&in, "options");
        if (destination[0] == '\0' || in.bad != NULL)
            return msh_fail(err, MSH_INVALID_ARGUMENT,
                            "OCI spec: mounts[%zu]: %s is missing or has a wrong type", i,
                            in.bad != NULL ? in.bad : "destination");
    }
    return msh_process_check(process, "process", err);
}

/* ---- changes ---- */

msh_code msh_process_user(json_t *process, const char *rootfs, const msh_spec_world *world, msh_err *err)
{
    json_t *user = msh_json_get(process, "user");
    const char *name = json_string_value(msh_json_get(user, "username"));
    if (name == NULL || name[0] == '\0')
        return MSH_OK;
    msh_user u;
    msh_code rc = world->find_user(world->ctx, rootfs, name, &u, err);
    if (rc != MSH_OK)
        return rc;
    json_t *groups = json_array();
    size_t i;
    json_t *g;
    json_array_foreach(msh_json_get(user, "additionalGids"), i, g) json_array_append(groups, g);
    for (size_t k = 0; k < u.n_groups; k++)
        json_array_append_new(groups, json_integer(u.groups[k]));
    json_object_del(user, "username");
    json_object_set_new(user, "uid", json_integer(u.uid));
    json_object_set_new(user, "gid", json_integer(u.gid));
    if (json_array_size(groups) > 0)
        json_object_set(user, "additionalGids", groups);
    json_decref(groups);
    return MSH_OK;
}

static msh_code core_limit(json_t *spec, msh_err *err)
{
    const char *text = msh__annotation(spec, CORE_LIMIT);
    if (text[0] == '\0')
        return MSH_OK;
    char *end;
    unsigned long long soft = strtoull(text, &end, 10), hard = 0;
    bool ok = text[0] >= '0' && text[0] <= '9' && *end == ';' && end[1] >= '0' && end[1] <= '9';
    if (ok)
        hard = strtoull(end + 1, &end, 10);
    if (!ok || *end != '\0' || soft > INT64_MAX || hard > INT64_MAX)
        return msh_fail(err, MSH_INVALID_ARGUMENT,
                        "annotation " CORE_LIMIT ": \"%.40s\" is not <soft>;<hard>", text);
    json_t *process = msh_json_get(spec, "process");
    json_t *limits = msh_json_get(process, "rlimits");
    if (!json_is_array(limits)) {
        json_object_set_new(process, "rlimits", json_array());
        limits = json_object_get(process, "rlimits");
    }
    json_array_append_new(limits, json_pack("{s:s,s:I,s:I}", "type", "RLIMIT_CORE", "soft", (json_int_t)soft,
                                            "hard", (json_int_t)hard));
    return MSH_OK;
}

static const char *const etc_names[] = {"hostname", "hosts", "resolv.conf"};

/* Writes the three files into the root, and for a standalone container mounts them; what the spec mounts itself stays. */
static msh_code name_files(json_t *spec, const msh_spec_job *job, const msh_spec_world *world,
                           msh_effects *effects, msh_err *err)
{
    bool alone = job->what.kind == MSH_STANDALONE;
    const char *name = json_string_value(msh_json_get(spec, "hostname"));
    msh_code rc = MSH_OK;
    if (name == NULL || name[0] == '\0')
        name = world->hostname;
    if ((rc = msh_hostname_check(name, err)) != MSH_OK)
        return rc;
    for (size_t i = 0; i < 3 && rc == MSH_OK; i++) {
        char path[MSH_PATH_MAX], destination[32];
        msh_buf text;
        snprintf(destination, sizeof destination, "/etc/%s", etc_names[i]);
        if (alone && msh__mounted(spec, destination))
            continue;
        msh_buf_init(&text, 64u << 10);
        if ((rc = msh_path_join(job->root, etc_names[i], path, sizeof path, err)) != MSH_OK)
            return rc;
        rc = i == 0                ? msh_hostname_file(name, &text)
             : i == 1              ? msh_hosts_file(name, job->address, &text)
             : job->resolv != NULL ? msh_buf_append(&text, msh_slice_of(job->resolv))
                                   : MSH_OK;
        if (rc == MSH_OK)
            rc = msh_buf_append(&text, (msh_slice){"", 1});
        if (rc == MSH_OK)
            rc = msh__effect(effects, MSH_WRITE_FILE, path, msh_buf_slice(&text).p, 0644, err);
        msh_buf_free(&text);
        if (rc == MSH_OK && alone)
            rc = msh__add_bind(spec, path, destination);
    }
    return rc;
}

static msh_code shared_folders(const msh_spec_job *job, msh_effects *effects, msh_err *err)
{
    static const struct {
        const char *name;
        bool tmpfs, share;
        mode_t mode;
    } list[] = {{"sandboxMounts", false, true, 0755},
                {"sandboxTmpfsMounts", true, true, 0755},
                {"hugepages", false, true, 0755},
                {"logs", false, false, 0777}};
    msh_code rc = MSH_OK;
    for (size_t i = 0; i < sizeof list / sizeof *list && rc == MSH_OK; i++) {
        char path[MSH_PATH_MAX];
        if ((rc = msh_path_join(job->root, list[i].name, path, sizeof path, err)) == MSH_OK)
            rc = msh__effect(effects, MSH_MAKE_FOLDER, path, NULL, list[i].mode, err);
        if (rc == MSH_OK && list[i].tmpfs)
            rc = msh__effect(effects, MSH_TMPFS, path, NULL, 0, err);
        if (rc == MSH_OK && list[i].share)
            rc = msh__effect(effects, MSH_SHARE, path, NULL, 0, err);
    }
    return rc;
}

static void drop_network_namespace(json_t *spec)
{
    json_t *list = msh_json_get(msh_json_get(spec, "linux"), "namespaces");
    for (size_t i = json_array_size(list); i-- > 0;) {
        const char *type = json_string_value(msh_json_get(json_array_get(list, i), "type"));
        if (type != NULL && strcmp(type, "network") == 0)
            json_array_remove(list, i);
    }
}

msh_code msh_spec_change(json_t *spec, const msh_spec_job *job, const msh_spec_world *world,
                         msh_effects *effects, msh_err *err)
{
    msh_code rc = msh_spec_check(spec, err);
    if (rc != MSH_OK)
        return rc;
    json_t *linux_part = msh_json_get(spec, "linux"), *process = msh_json_get(spec, "process");
    const char *hostname = json_string_value(msh_json_get(spec, "hostname"));
    if (msh_json_get(spec, "ociVersion") == NULL)
        json_object_set_new(spec, "ociVersion", json_string("1.0.2"));
    if (msh_json_get(linux_part, "resources") == NULL)
        json_object_set_new(linux_part, "resources", json_object());
    msh_resources limits;
    json_t *resources = msh_json_get(linux_part, "resources");
    if ((rc = msh_resources_read(resources, &limits, err)) != MSH_OK)
        return rc;
    msh_resources_tidy(resources);
    json_object_set_new(msh_json_get(spec, "root"), "path", json_string(job->rootfs));
    if (job->what.host_network)
        drop_network_namespace(spec);
    msh__spec_deny(spec, job);
    if (job->what.kind == MSH_WORKLOAD) {
        if (hostname != NULL && hostname[0] != '\0')
            return msh_fail(err, MSH_UNKNOWN,
                            "a workload container has the host name of its pod, it cannot set one");
        rc = msh__spec_workload(spec, job, err);
    } else {
        rc = msh__effect(effects, MSH_MAKE_FOLDER, job->root, NULL, 0755, err);
        if (rc == MSH_OK)
            rc = name_files(spec, job, world, effects, err);
        if (rc == MSH_OK && (job->what.kind == MSH_SANDBOX || msh__spec_shares(spec)))
            rc = shared_folders(job, effects, err);
    }
    if (rc == MSH_OK && job->what.kind != MSH_SANDBOX)
        rc = msh__spec_mounts(spec, job, world, effects, err);
    if (rc == MSH_OK && job->what.kind != MSH_SANDBOX)
        rc = msh__spec_devices(spec, job, world, err);
    if (rc == MSH_OK && job->what.kind != MSH_STANDALONE)
        rc = core_limit(spec, err);
    if (rc == MSH_OK)
        rc = msh_process_user(process, job->rootfs, world, err);
    if (rc != MSH_OK)
        return rc;
    char cgroup[600];
    if (job->what.kind == MSH_STANDALONE)
        snprintf(cgroup, sizeof cgroup, "/pods/%s", job->id);
    else
        snprintf(cgroup, sizeof cgroup, "/pods/%s/%s", job->what.sandbox, job->id);
    json_object_set_new(linux_part, "cgroupsPath", json_string(cgroup));
    json_object_del(spec, "windows");
    return MSH_OK;
}

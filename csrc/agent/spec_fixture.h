/* agent/spec_fixture.h - for the tests of spec*.c: a made-up UVM, a minimal spec, and what became of it. */
#ifndef MSH_AGENT_SPEC_FIXTURE_H
#define MSH_AGENT_SPEC_FIXTURE_H
#include "agent/json.h"
#include "agent/spec.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* ---- a UVM of our own ---- */

static inline msh_code find_user(void *ctx, const char *rootfs, const char *text, msh_user *out, msh_err *err)
{
    (void)ctx;
    assert_string_equal(rootfs, "/run/r");
    if (strcmp(text, "web") != 0)
        return msh_fail(err, MSH_NOT_FOUND, "no user %s", text);
    *out = (msh_user){.uid = 33, .gid = 34, .n_groups = 1, .groups = {50}};
    return MSH_OK;
}

static inline msh_code find_device(void *ctx, const char *path, bool link, msh_device_node *out, msh_err *err)
{
    (void)ctx;
    if (strcmp(path, link ? "/run/mounts/scsi/0_1_0" : "/dev/fuse") != 0)
        return msh_fail(err, MSH_NOT_FOUND, "no device %s", path);
    *out = (msh_device_node){
        .type = link ? 'b' : 'c', .major = link ? 7 : 10, .minor = link ? 1 : 229, .mode = 0666};
    snprintf(out->path, sizeof out->path, "%s", path);
    return MSH_OK;
}

static inline msh_code each_device(void *ctx, size_t i, msh_device_node *out, msh_err *err)
{
    (void)ctx;
    if (i > 1)
        return msh_fail(err, MSH_NOT_FOUND, "no more");
    *out = (msh_device_node){.type = 'c', .major = 1, .minor = (unsigned)i + 3, .mode = 0666};
    snprintf(out->path, sizeof out->path, "/dev/d%zu", i);
    return MSH_OK;
}

/* g1 has two nodes, g2 one. */
static inline msh_code assigned(void *ctx, const char *instance, size_t i, msh_device_node *out, msh_err *err)
{
    (void)ctx;
    bool one = strcmp(instance, "g2") == 0;
    if ((!one && strcmp(instance, "g1") != 0) || i > (one ? 0 : 1))
        return msh_fail(err, MSH_NOT_FOUND, "device %s is not here", instance);
    *out =
        (msh_device_node){.type = 'c', .major = 195, .minor = one ? 9 : (unsigned)i, .mode = 0660, .gid = 44};
    snprintf(out->path, sizeof out->path, "/run/host/vpci/%s/n%zu", instance, i);
    return MSH_OK;
}

static inline msh_code exists(void *ctx, const char *path, msh_err *err)
{
    (void)ctx;
    return strcmp(path, "/etc") == 0 ? MSH_OK : msh_fail(err, MSH_NOT_FOUND, "no %s", path);
}

static const msh_spec_world world = {.hostname = "uvm",
                                     .find_user = find_user,
                                     .find_device = find_device,
                                     .each_device = each_device,
                                     .assigned = assigned,
                                     .exists = exists};

typedef struct fixture {
    json_t *spec;
    msh_spec_class what;
    msh_effects effects;
    msh_err err;
    msh_code rc;
} fixture;

/* `more` holds members that replace those of a minimal spec. */
static inline fixture change(const char *more)
{
    fixture f = {0};
    json_error_t e;
    f.spec = json_loads(
        "{\"process\":{\"args\":[\"a\"],\"cwd\":\"/\",\"user\":{\"uid\":1,\"gid\":1}},"
        "\"root\":{\"path\":\"/run/r\"},\"linux\":{},\"windows\":{\"network\":{}},\"other\":[1,2]}",
        0, &e);
    json_t *add = json_loads(more, 0, &e);
    if (add == NULL)
        fail_msg("%s: %s", more, e.text);
    json_object_update(f.spec, add);
    json_decref(add);
    f.rc = msh_spec_classify(f.spec, "c1", &f.what, &f.err);
    msh_spec_job job = {.id = "c1",
                        .bundle = "/run/gcs/pods/p/c1",
                        .root = f.what.kind == MSH_WORKLOAD ? "/run/gcs/pods/p/p" : "/run/gcs/pods/p/c1",
                        .rootfs = "/run/r",
                        .what = f.what};
    if (f.rc == MSH_OK)
        f.rc = msh_spec_change(f.spec, &job, &world, &f.effects, &f.err);
    return f;
}

static inline void done(fixture *f)
{
    json_decref(f->spec);
    msh_effects_free(&f->effects);
}

static inline fixture accepted(const char *more)
{
    fixture f = change(more);
    if (f.rc != MSH_OK)
        fail_msg("%s: %s", more, f.err.msg);
    return f;
}

static inline void refused(const char *more, const char *word)
{
    fixture f = change(more);
    if (f.rc == MSH_OK || strstr(f.err.msg, word) == NULL)
        fail_msg("%s: expected \"%s\", got %s", more, word, f.err.msg);
    done(&f);
}

static inline const msh_effect *effect(const fixture *f, msh_effect_kind kind, const char *path)
{
    for (size_t i = 0; i < f->effects.n; i++)
        if (f->effects.item[i].kind == kind && strcmp(f->effects.item[i].path, path) == 0)
            return &f->effects.item[i];
    return NULL;
}

static inline json_t *mount_at(const fixture *f, const char *destination)
{
    size_t i;
    json_t *m, *found = NULL;
    json_array_foreach(json_object_get(f->spec, "mounts"), i, m)
    {
        if (strcmp(json_string_value(json_object_get(m, "destination")), destination) == 0) {
            assert_null(found); /* once only */
            found = m;
        }
    }
    return found;
}

static inline const char *source_of(const fixture *f, const char *destination)
{
    return json_string_value(json_object_get(mount_at(f, destination), "source"));
}

static inline const char *cgroup_of(const fixture *f)
{
    return json_string_value(json_object_get(json_object_get(f->spec, "linux"), "cgroupsPath"));
}

static inline json_t *rule_at(const fixture *f, size_t i)
{
    json_t *resources = json_object_get(json_object_get(f->spec, "linux"), "resources");
    return json_array_get(json_object_get(resources, "devices"), i);
}

#define SANDBOX  "\"io.kubernetes.cri.container-type\":\"sandbox\",\"io.kubernetes.cri.sandbox-id\":\"c1\""
#define WORKLOAD "\"io.kubernetes.cri.container-type\":\"container\",\"io.kubernetes.cri.sandbox-id\":\"p\""
#endif

/* The devices of a container: which nodes it gets, and what its device cgroup allows. */
#include "agent/json.h"
#include "agent/paths.h"
#include "agent/spec.h"
#include <stdio.h>
#include <string.h>

#define PRIVILEGED "io.microsoft.virtualmachine.lcow.privileged"

static json_t *rules_of(json_t *spec)
{
    json_t *resources = msh_json_get(msh_json_get(spec, "linux"), "resources");
    json_t *list = json_object_get(resources, "devices");
    if (!json_is_array(list)) {
        json_object_set_new(resources, "devices", json_array());
        list = json_object_get(resources, "devices");
    }
    return list;
}

static bool privileged(const json_t *spec, const msh_spec_job *job)
{
    return job->what.kind == MSH_WORKLOAD && msh__annotation_flag(spec, PRIVILEGED, false);
}

/* A runtime that is told nothing leaves all devices open to who can make a node, and containers can by default. */
void msh__spec_deny(json_t *spec, const msh_spec_job *job)
{
    if (!privileged(spec, job))
        json_array_insert_new(rules_of(spec), 0, json_pack("{s:b,s:s}", "allow", 0, "access", "rwm"));
}

void msh__spec_allow(json_t *spec, const msh_device_node *d, const char *access)
{
    char type[2] = {d->type, '\0'};
    json_array_append_new(rules_of(spec),
                          json_pack("{s:b,s:s,s:i,s:i,s:s}", "allow", 1, "type", type, "major", (int)d->major,
                                    "minor", (int)d->minor, "access", access));
}

static json_t *entry(const msh_device_node *d, const char *path)
{
    char type[2] = {d->type, '\0'};
    json_t *o = json_pack("{s:s,s:s,s:i,s:i,s:i}", "path", path, "type", type, "major", (int)d->major,
                          "minor", (int)d->minor, "fileMode", (int)(d->mode & 07777));
    if (d->uid != 0)
        json_object_set_new(o, "uid", json_integer(d->uid));
    if (d->gid != 0)
        json_object_set_new(o, "gid", json_integer(d->gid));
    return o;
}

static json_t *list_of(json_t *spec)
{
    json_t *linux_part = msh_json_get(spec, "linux");
    if (!json_is_array(json_object_get(linux_part, "devices")))
        json_object_set_new(linux_part, "devices", json_array());
    return json_object_get(linux_part, "devices");
}

/* Everything in the UVM, and no rule but one. */
static msh_code give_all(json_t *spec, const msh_spec_world *world, msh_err *err)
{
    msh_device_node d;
    msh_code rc = MSH_OK;
    json_t *all = json_array();
    for (size_t i = 0; (rc = world->each_device(world->ctx, i, &d, err)) == MSH_OK; i++)
        json_array_append_new(all, entry(&d, d.path));
    json_object_set_new(msh_json_get(spec, "linux"), "devices", all);
    json_array_clear(rules_of(spec));
    json_array_append_new(rules_of(spec), json_pack("{s:b,s:s}", "allow", 1, "access", "rwm"));
    return rc == MSH_NOT_FOUND ? MSH_OK : rc;
}

/* Numbers in the spec are those of another kernel's idea: the UVM's own node decides. */
static msh_code look_up(json_t *spec, const msh_spec_world *world, msh_err *err)
{
    json_t *list = msh_json_get(msh_json_get(spec, "linux"), "devices");
    msh_device_node d;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *path = json_string_value(msh_json_get(json_array_get(list, i), "path"));
        msh_code rc = world->find_device(world->ctx, path == NULL ? "" : path, false, &d, err);
        if (rc != MSH_OK)
            return rc;
        json_array_set_new(list, i, entry(&d, d.path));
        msh__spec_allow(spec, &d, "rwm");
    }
    return MSH_OK;
}

static bool access_ok(const char *access)
{
    return access[0] != '\0' && strlen(access) <= 3 && strspn(access, "rwm") == strlen(access);
}

/* All nodes of one assigned device. `path` and `access` are an addition of ours: without them the nodes are called as
 * in the UVM and may be read, written and made. */
static msh_code give(json_t *spec, const json_t *device, const msh_spec_world *world, msh_err *err)
{
    msh_reader in = msh_read(device);
    const char *id = msh_read_text(&in, "id"), *path = msh_read_text(&in, "path"),
               *access = msh_read_text(&in, "access");
    char at[MSH_PATH_MAX];
    msh_device_node d;
    msh_code rc = MSH_OK;
    size_t n = 0;
    if (in.bad != NULL)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "%s has a wrong type", in.bad);
    if (access[0] != '\0' && !access_ok(access))
        return msh_fail(err, MSH_INVALID_ARGUMENT, "access \"%.10s\" is not some of r, w and m", access);
    for (; (rc = world->assigned(world->ctx, id, n, &d, err)) == MSH_OK; n++) {
        if (path[0] == '\0')
            snprintf(at, sizeof at, "/dev/%s", strrchr(d.path, '/') + 1);
        else if (n > 0)
            return msh_fail(err, MSH_FAILED_PRECONDITION, "a path for a device with several nodes");
        else if ((rc = msh_path_clean(path, at, sizeof at, err)) != MSH_OK)
            return rc;
        if (strcmp(at, "/") == 0)
            return msh_fail(err, MSH_INVALID_ARGUMENT, "path \"%.40s\" is no place for a device", path);
        json_array_append_new(list_of(spec), entry(&d, at));
        msh__spec_allow(spec, &d, access[0] != '\0' ? access : "rwm");
    }
    if (rc != MSH_NOT_FOUND || n == 0)
        return rc;
    if (err != NULL)
        *err = (msh_err){0};
    return MSH_OK;
}

static msh_code assigned(json_t *spec, const msh_spec_world *world, msh_err *err)
{
    static const char *const known[] = {"vpci", "vpci-instance-id", "gpu"};
    size_t i;
    json_t *d;
    json_array_foreach(msh_json_get(msh_json_get(spec, "windows"), "devices"), i, d)
    {
        const char *type = json_string_value(msh_json_get(d, "idType"));
        bool ours = false;
        for (size_t k = 0; k < sizeof known / sizeof *known; k++)
            ours = ours || (type != NULL && strcmp(type, known[k]) == 0);
        if (!ours)
            continue; /* of another kind of guest */
        msh_code rc = give(spec, d, world, err);
        if (rc != MSH_OK) {
            msh_err_note(err, "windows.devices[%zu]", i);
            return rc;
        }
    }
    return MSH_OK;
}

msh_code msh__spec_devices(json_t *spec, const msh_spec_job *job, const msh_spec_world *world, msh_err *err)
{
    msh_code rc = MSH_OK;
    if (privileged(spec, job))
        rc = give_all(spec, world, err);
    else
        rc = look_up(spec, world, err);
    return rc == MSH_OK ? assigned(spec, world, err) : rc;
}

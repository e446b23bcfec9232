/* What containers with a root of their own get: folders shared through the sandbox; its names and shm for workloads. */
#include "agent/json.h"
#include "agent/paths.h"
#include "agent/spec.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHM_SIZE "io.microsoft.lcow.shm.size-kb"

static bool starts(const char *text, const char *prefix, const char **rest)
{
    size_t n = strlen(prefix);
    if (strncmp(text, prefix, n) != 0)
        return false;
    *rest = text + n;
    return true;
}

static bool has_option(json_t *mount, const char *option)
{
    size_t i;
    json_t *o;
    json_array_foreach(msh_json_get(mount, "options"), i, o)
    {
        if (strcmp(json_string_value(o), option) == 0)
            return true;
    }
    return false;
}

static msh_code hugepages(const msh_spec_job *job, const char *rest, char *out, size_t size,
                          msh_effects *effects, msh_err *err)
{
    char page[16], base[MSH_PATH_MAX];
    size_t n = strcspn(rest, "/");
    if (n == 0 || n >= sizeof page || rest[n] != '/' || strspn(rest, "0123456789KMG") != n)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "mount source hugepages://%.40s is not <size>/<place>",
                        rest);
    memcpy(page, rest, n);
    page[n] = '\0';
    msh_code rc = msh_path_join(job->root, "hugepages", base, sizeof base, err);
    if (rc == MSH_OK) /* both parts are cleaned together: ".." cannot leave the size's folder's parent */
        rc = msh_path_join(base, rest, out, size, err);
    return rc != MSH_OK ? rc : msh__effect(effects, MSH_HUGETLB, out, page, 0755, err);
}

static msh_code one_mount(json_t *spec, json_t *mount, const msh_spec_job *job, const msh_spec_world *world,
                          msh_effects *effects, msh_err *err)
{
    const char *source = json_string_value(msh_json_get(mount, "source"));
    const char *destination = json_string_value(msh_json_get(mount, "destination"));
    const char *rest;
    char base[MSH_PATH_MAX], path[MSH_PATH_MAX];
    msh_code rc = MSH_OK;
    if (starts(destination, "blockdev://", &rest)) {
        msh_device_node d;
        if ((rc = world->find_device(world->ctx, source == NULL ? "" : source, true, &d, err)) != MSH_OK)
            return rc;
        msh__spec_allow(spec, &d, has_option(mount, "ro") ? "r" : "rwm");
        json_t *plain = json_string(rest);
        json_object_set_new(mount, "destination", plain);
    }
    if (source == NULL)
        return MSH_OK;
    bool tmp = starts(source, "sandbox-tmp://", &rest);
    if (tmp || starts(source, "sandbox://", &rest)) {
        rc = msh_path_join(job->root, tmp ? "sandboxTmpfsMounts" : "sandboxMounts", base, sizeof base, err);
        if (rc == MSH_OK)
            rc = msh_path_join(base, rest, path, sizeof path, err);
        if (rc == MSH_OK)
            rc = msh__effect(effects, MSH_MAKE_FOLDER, path, NULL, 0777, err);
    } else if (starts(source, "hugepages://", &rest)) {
        rc = hugepages(job, rest, path, sizeof path, effects, err);
    } else if (starts(source, "uvm://", &rest)) {
        rc = msh_path_join("/", rest, path, sizeof path, err);
        if (rc == MSH_OK)
            rc = world->exists(world->ctx, path, err);
    } else {
        return MSH_OK;
    }
    if (rc == MSH_OK)
        json_object_set_new(mount, "source", json_string(path));
    return rc;
}

static msh_code names(json_t *spec, const msh_spec_job *job, msh_err *err)
{
    static const char *const files[] = {"hostname", "hosts", "resolv.conf"};
    for (size_t i = 0; i < 3; i++) {
        char destination[32], source[MSH_PATH_MAX];
        snprintf(destination, sizeof destination, "/etc/%s", files[i]);
        if (msh__mounted(spec, destination))
            continue;
        msh_code rc = msh_path_join(job->root, files[i], source, sizeof source, err);
        if (rc == MSH_OK)
            rc = msh__add_bind(spec, source, destination);
        if (rc != MSH_OK)
            return rc;
    }
    return MSH_OK;
}

static msh_code shm(json_t *spec, msh_err *err)
{
    const char *text = msh__annotation(spec, SHM_SIZE);
    if (text[0] == '\0')
        return MSH_OK;
    size_t n = strlen(text);
    if (n > 15 || strspn(text, "0123456789") != n || strtoull(text, NULL, 10) == 0)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "annotation " SHM_SIZE ": \"%.40s\" is not a size", text);
    json_t *mounts = msh_json_get(spec, "mounts");
    for (size_t i = json_array_size(mounts); i-- > 0;) {
        const char *d = json_string_value(msh_json_get(json_array_get(mounts, i), "destination"));
        if (strcmp(d, "/dev/shm") == 0)
            json_array_remove(mounts, i);
    }
    char size[32];
    snprintf(size, sizeof size, "size=%.15sk", text);
    json_t *m = json_pack("{s:s,s:s,s:s,s:[s,s,s,s,s]}", "destination", "/dev/shm", "type", "tmpfs", "source",
                          "shm", "options", "nosuid", "noexec", "nodev", "mode=1777", size);
    if (!json_is_array(mounts)) {
        json_object_set_new(spec, "mounts", json_array());
        mounts = json_object_get(spec, "mounts");
    }
    json_array_append_new(mounts, m);
    return MSH_OK;
}

bool msh__spec_shares(const json_t *spec)
{
    size_t i;
    json_t *m;
    json_array_foreach(msh_json_get(spec, "mounts"), i, m)
    {
        const char *source = json_string_value(msh_json_get(m, "source")), *rest;
        if (source != NULL &&
            (starts(source, "sandbox://", &rest) || starts(source, "sandbox-tmp://", &rest) ||
             starts(source, "hugepages://", &rest)))
            return true;
    }
    return false;
}

msh_code msh__spec_mounts(json_t *spec, const msh_spec_job *job, const msh_spec_world *world,
                          msh_effects *effects, msh_err *err)
{
    size_t i;
    json_t *m;
    json_array_foreach(msh_json_get(spec, "mounts"), i, m)
    {
        msh_code rc = one_mount(spec, m, job, world, effects, err);
        if (rc != MSH_OK) {
            msh_err_note(err, "mounts[%zu]", i);
            return rc;
        }
    }
    return MSH_OK;
}

msh_code msh__spec_workload(json_t *spec, const msh_spec_job *job, msh_err *err)
{
    msh_code rc = names(spec, job, err);
    return rc == MSH_OK ? shm(spec, err) : rc;
}

/* From the host's spec to the runtime's, for each kind of container, with a made-up UVM. */
#include "agent/json.h"
#include "agent/spec.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* ---- a UVM of our own ---- */

static msh_code find_user(void *ctx, const char *rootfs, const char *text, msh_user *out, msh_err *err)
{
    (void)ctx;
    assert_string_equal(rootfs, "/run/r");
    if (strcmp(text, "web") != 0)
        return msh_fail(err, MSH_NOT_FOUND, "no user %s", text);
    *out = (msh_user){.uid = 33, .gid = 34, .n_groups = 1, .groups = {50}};
    return MSH_OK;
}

static msh_code find_device(void *ctx, const char *path, bool link, msh_device_node *out, msh_err *err)
{
    (void)ctx;
    if (strcmp(path, link ? "/run/mounts/scsi/0_1_0" : "/dev/fuse") != 0)
        return msh_fail(err, MSH_NOT_FOUND, "no device %s", path);
    *out = (msh_device_node){
        .type = link ? 'b' : 'c', .major = link ? 7 : 10, .minor = link ? 1 : 229, .mode = 0666};
    snprintf(out->path, sizeof out->path, "%s", path);
    return MSH_OK;
}

static msh_code each_device(void *ctx, size_t i, msh_device_node *out, msh_err *err)
{
    (void)ctx;
    if (i > 1)
        return msh_fail(err, MSH_NOT_FOUND, "no more");
    *out = (msh_device_node){.type = 'c', .major = 1, .minor = (unsigned)i + 3, .mode = 0666};
    snprintf(out->path, sizeof out->path, "/dev/d%zu", i);
    return MSH_OK;
}

/* g1 has two nodes, g2 one. */
static msh_code assigned(void *ctx, const char *instance, size_t i, msh_device_node *out, msh_err *err)
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

static msh_code exists(void *ctx, const char *path, msh_err *err)
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
static fixture change(const char *more)
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

static void done(fixture *f)
{
    json_decref(f->spec);
    msh_effects_free(&f->effects);
}

static fixture accepted(const char *more)
{
    fixture f = change(more);
    if (f.rc != MSH_OK)
        fail_msg("%s: %s", more, f.err.msg);
    return f;
}

static void refused(const char *more, const char *word)
{
    fixture f = change(more);
    if (f.rc == MSH_OK || strstr(f.err.msg, word) == NULL)
        fail_msg("%s: expected \"%s\", got %s", more, word, f.err.msg);
    done(&f);
}

static const msh_effect *effect(const fixture *f, msh_effect_kind kind, const char *path)
{
    for (size_t i = 0; i < f->effects.n; i++)
        if (f->effects.item[i].kind == kind && strcmp(f->effects.item[i].path, path) == 0)
            return &f->effects.item[i];
    return NULL;
}

static json_t *mount_at(const fixture *f, const char *destination)
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

static const char *source_of(const fixture *f, const char *destination)
{
    return json_string_value(json_object_get(mount_at(f, destination), "source"));
}

static const char *cgroup_of(const fixture *f)
{
    return json_string_value(json_object_get(json_object_get(f->spec, "linux"), "cgroupsPath"));
}

#define SANDBOX  "\"io.kubernetes.cri.container-type\":\"sandbox\",\"io.kubernetes.cri.sandbox-id\":\"c1\""
#define WORKLOAD "\"io.kubernetes.cri.container-type\":\"container\",\"io.kubernetes.cri.sandbox-id\":\"p\""

/* ---- then ---- */

static void kinds_come_from_annotations(void **state)
{
    (void)state;
    fixture f = accepted("{}");
    assert_int_equal(f.what.kind, MSH_STANDALONE);
    assert_string_equal(f.what.sandbox, "c1");
    done(&f);
    f = accepted("{\"annotations\":{" SANDBOX "}}");
    assert_int_equal(f.what.kind, MSH_SANDBOX);
    done(&f);
    f = accepted("{\"annotations\":{" WORKLOAD "}}");
    assert_int_equal(f.what.kind, MSH_WORKLOAD);
    assert_string_equal(f.what.sandbox, "p");
    done(&f);
    f = accepted("{\"annotations\":{" WORKLOAD ",\"io.microsoft.cri.virtual-pod-id\":\"c1\"}}");
    assert_int_equal(f.what.kind, MSH_SANDBOX);
    assert_true(f.what.virtual_pod);
    done(&f);
    refused("{\"annotations\":{\"io.kubernetes.cri.container-type\":\"pod\"}}", "container type");
    refused("{\"annotations\":{\"io.kubernetes.cri.container-type\":\"container\"}}", "sandbox id");
    refused("{\"annotations\":{\"io.kubernetes.cri.container-type\":\"container\",\"io.kubernetes.cri."
            "sandbox-id\":\"../x\"}}",
            "sandbox id");
}

static void what_is_not_named_passes_through(void **state)
{
    (void)state;
    fixture f = accepted("{\"hooks\":{\"x\":[]},\"linux\":{\"seccomp\":{\"defaultAction\":\"A\"},"
                         "\"resources\":{\"memory\":{\"limit\":9007199254740993}}}}");
    json_t *l = json_object_get(f.spec, "linux");
    assert_int_equal(json_array_size(json_object_get(f.spec, "other")), 2);
    assert_non_null(json_object_get(f.spec, "hooks"));
    assert_non_null(json_object_get(l, "seccomp"));
    json_t *memory = json_object_get(json_object_get(l, "resources"), "memory");
    assert_true(json_integer_value(json_object_get(memory, "limit")) == 9007199254740993);
    assert_null(json_object_get(f.spec, "windows"));
    assert_non_null(json_object_get(f.spec, "ociVersion"));
    done(&f);
}

static void a_standalone_container_gets_its_names_mounted(void **state)
{
    (void)state;
    fixture f = accepted("{\"hostname\":\"web.org\",\"mounts\":[{\"destination\":\"/etc//"
                         "hosts\",\"type\":\"bind\",\"source\":\"/run/x\"}],"
                         "\"root\":{\"path\":\"/run/r\",\"readonly\":true}}");
    assert_string_equal(cgroup_of(&f), "/pods/c1");
    assert_string_equal(effect(&f, MSH_WRITE_FILE, "/run/gcs/pods/p/c1/hostname")->text, "web.org\n");
    assert_null(effect(&f, MSH_WRITE_FILE, "/run/gcs/pods/p/c1/hosts")); /* it brings its own */
    assert_null(mount_at(&f, "/etc/hosts"));
    assert_string_equal(source_of(&f, "/etc/hostname"), "/run/gcs/pods/p/c1/hostname");
    json_t *options = json_object_get(mount_at(&f, "/etc/resolv.conf"), "options");
    assert_string_equal(json_string_value(json_array_get(options, 1)), "ro");
    assert_null(effect(&f, MSH_MAKE_FOLDER, "/run/gcs/pods/p/c1/sandboxMounts"));
    done(&f);
    f = accepted("{}");
    assert_string_equal(effect(&f, MSH_WRITE_FILE, "/run/gcs/pods/p/c1/hostname")->text, "uvm\n");
    assert_int_equal(json_array_size(json_object_get(mount_at(&f, "/etc/hosts"), "options")), 1);
    done(&f);
    refused("{\"hostname\":\"a b\"}", "host name");
}

static void a_sandbox_writes_its_names_and_mounts_none(void **state)
{
    (void)state;
    fixture f = accepted("{\"hostname\":\"pod\",\"annotations\":{" SANDBOX
                         ",\"io.microsoft.lcow.rlimitcore\":\"1;2\"}}");
    assert_string_equal(cgroup_of(&f), "/pods/c1/c1");
    assert_string_equal(effect(&f, MSH_WRITE_FILE, "/run/gcs/pods/p/c1/hostname")->text, "pod\n");
    assert_string_equal(effect(&f, MSH_WRITE_FILE, "/run/gcs/pods/p/c1/resolv.conf")->text, "");
    assert_null(json_object_get(f.spec, "mounts"));
    assert_non_null(effect(&f, MSH_SHARE, "/run/gcs/pods/p/c1/sandboxMounts"));
    assert_non_null(effect(&f, MSH_TMPFS, "/run/gcs/pods/p/c1/sandboxTmpfsMounts"));
    assert_non_null(effect(&f, MSH_SHARE, "/run/gcs/pods/p/c1/hugepages"));
    assert_int_equal(effect(&f, MSH_MAKE_FOLDER, "/run/gcs/pods/p/c1/logs")->mode, 0777);
    json_t *limit = json_array_get(json_object_get(json_object_get(f.spec, "process"), "rlimits"), 0);
    assert_string_equal(json_string_value(json_object_get(limit, "type")), "RLIMIT_CORE");
    assert_int_equal(json_integer_value(json_object_get(limit, "hard")), 2);
    done(&f);
    for (int i = 0; i < 5; i++) {
        static const char *const bad[] = {"1", "1;", ";2", "a;b", "1;2;3"};
        char more[256];
        snprintf(more, sizeof more, "{\"annotations\":{" SANDBOX ",\"io.microsoft.lcow.rlimitcore\":\"%s\"}}",
                 bad[i]);
        refused(more, "rlimitcore");
    }
}

static void a_workload_is_wired_to_its_pod(void **state)
{
    (void)state;
    fixture f = accepted("{\"annotations\":{" WORKLOAD "},\"mounts\":["
                         "{\"destination\":\"/a\",\"type\":\"bind\",\"source\":\"sandbox:///x/../../y\"},"
                         "{\"destination\":\"/b\",\"type\":\"bind\",\"source\":\"sandbox-tmp://t\"},"
                         "{\"destination\":\"/c\",\"type\":\"bind\",\"source\":\"hugepages://2M/h\"},"
                         "{\"destination\":\"/d\",\"type\":\"bind\",\"source\":\"uvm:///etc\"},"
                         "{\"destination\":\"blockdev:///dev/x\",\"type\":\"bind\",\"source\":\"/run/mounts/"
                         "scsi/0_1_0\",\"options\":[\"ro\"]},"
                         "{\"destination\":\"/e\",\"type\":\"bind\",\"source\":\"/run/plain\"},"
                         "{\"destination\":\"/f\",\"type\":\"tmpfs\"}]}");
    assert_string_equal(cgroup_of(&f), "/pods/p/c1");
    assert_string_equal(source_of(&f, "/a"), "/run/gcs/pods/p/p/sandboxMounts/y");
    assert_int_equal(effect(&f, MSH_MAKE_FOLDER, "/run/gcs/pods/p/p/sandboxMounts/y")->mode, 0777);
    assert_string_equal(source_of(&f, "/b"), "/run/gcs/pods/p/p/sandboxTmpfsMounts/t");
    assert_string_equal(source_of(&f, "/c"), "/run/gcs/pods/p/p/hugepages/2M/h");
    assert_string_equal(effect(&f, MSH_HUGETLB, "/run/gcs/pods/p/p/hugepages/2M/h")->text, "2M");
    assert_string_equal(source_of(&f, "/d"), "/etc");
    assert_string_equal(source_of(&f, "/e"), "/run/plain");
    assert_non_null(mount_at(&f, "/dev/x"));
    json_t *rule = json_array_get(
        json_object_get(json_object_get(json_object_get(f.spec, "linux"), "resources"), "devices"), 1);
    assert_string_equal(json_string_value(json_object_get(rule, "access")), "r");
    assert_int_equal(json_integer_value(json_object_get(rule, "major")), 7);
    assert_string_equal(source_of(&f, "/etc/hosts"), "/run/gcs/pods/p/p/hosts");
    assert_null(effect(&f, MSH_WRITE_FILE, "/run/gcs/pods/p/p/hosts"));
    done(&f);
}

static void a_workload_gets_shm_and_devices(void **state)
{
    (void)state;
    fixture f = accepted(
        "{\"annotations\":{" WORKLOAD ",\"io.microsoft.lcow.shm.size-kb\":\"64\"},"
        "\"mounts\":[{\"destination\":\"/dev/shm\",\"type\":\"bind\",\"source\":\"/run/x\"}],"
        "\"linux\":{\"devices\":[{\"path\":\"/dev/fuse\",\"type\":\"c\",\"major\":0,\"minor\":0}]}}");
    json_t *options = json_object_get(mount_at(&f, "/dev/shm"), "options");
    assert_string_equal(json_string_value(json_array_get(options, 4)), "size=64k");
    json_t *l = json_object_get(f.spec, "linux");
    assert_int_equal(
        json_integer_value(json_object_get(json_array_get(json_object_get(l, "devices"), 0), "minor")), 229);
    assert_int_equal(json_array_size(json_object_get(json_object_get(l, "resources"), "devices")), 2);
    done(&f);
    f = accepted("{\"annotations\":{" WORKLOAD ",\"io.microsoft.virtualmachine.lcow.privileged\":\"T\"}}");
    l = json_object_get(f.spec, "linux");
    assert_int_equal(json_array_size(json_object_get(l, "devices")), 2);
    json_t *rules = json_object_get(json_object_get(l, "resources"), "devices");
    assert_int_equal(json_array_size(rules), 1);
    assert_null(json_object_get(json_array_get(rules, 0), "type")); /* all of them */
    done(&f);
    refused("{\"annotations\":{" WORKLOAD "},\"linux\":{\"devices\":[{\"path\":\"/dev/nosuch\"}]}}",
            "/dev/nosuch");
    refused("{\"annotations\":{" WORKLOAD ",\"io.microsoft.lcow.shm.size-kb\":\"0\"}}", "shm.size-kb");
    refused("{\"annotations\":{" WORKLOAD ",\"io.microsoft.lcow.shm.size-kb\":\"1,mode=0\"}}", "shm.size-kb");
}

static void a_workload_cannot_ask_for_more(void **state)
{
    (void)state;
    refused("{\"hostname\":\"x\",\"annotations\":{" WORKLOAD "}}", "host name");
    refused("{\"annotations\":{" WORKLOAD
            "},\"mounts\":[{\"destination\":\"/d\",\"source\":\"uvm:///nosuch\"}]}",
            "mounts[0]");
    refused("{\"annotations\":{" WORKLOAD
            "},\"mounts\":[{\"destination\":\"/d\",\"source\":\"hugepages://x,y/z\"}]}",
            "mounts[0]");
    refused("{\"annotations\":{" WORKLOAD
            "},\"mounts\":[{\"destination\":\"blockdev:///d\",\"source\":\"/etc/x\"}]}",
            "mounts[0]");
    refused("{\"annotations\":{" WORKLOAD "},\"windows\":{\"devices\":[{\"id\":\"x\",\"idType\":\"vpci\"}]}}",
            "windows.devices[0]: device x");
}

static json_t *rule_at(const fixture *f, size_t i)
{
    json_t *resources = json_object_get(json_object_get(f->spec, "linux"), "resources");
    return json_array_get(json_object_get(resources, "devices"), i);
}

static void devices_are_closed_to_every_kind_unless_given(void **state)
{
    (void)state;
    static const char *const kinds[] = {"", SANDBOX, WORKLOAD};
    for (size_t i = 0; i < 3; i++) {
        char more[256];
        snprintf(more, sizeof more, "{\"annotations\":{%s}}", kinds[i]);
        fixture f = accepted(more);
        assert_true(json_is_false(json_object_get(rule_at(&f, 0), "allow")));
        assert_null(json_object_get(rule_at(&f, 0), "type"));
        assert_null(rule_at(&f, 1));
        done(&f);
    }
}

static void given_devices_become_nodes_and_rules(void **state)
{
    (void)state;
    static const char *const kinds[] = {"", WORKLOAD};
    for (size_t i = 0; i < 2; i++) {
        char more[512];
        snprintf(more, sizeof more,
                 "{\"annotations\":{%s},\"windows\":{\"devices\":["
                 "{\"id\":\"g1\",\"idType\":\"vpci\"},{\"id\":\"x\",\"idType\":\"class\"},"
                 "{\"id\":\"g2\",\"idType\":\"gpu\",\"path\":\"/dev/card/\",\"access\":\"rw\"}]}}",
                 kinds[i]);
        fixture f = accepted(more);
        json_t *list = json_object_get(json_object_get(f.spec, "linux"), "devices");
        assert_int_equal(json_array_size(list), 3);
        static const char *const paths[] = {"/dev/n0", "/dev/n1", "/dev/card"};
        static const char *const access[] = {"rwm", "rwm", "rw"};
        for (size_t k = 0; k < 3; k++) {
            json_t *d = json_array_get(list, k);
            assert_string_equal(json_string_value(json_object_get(d, "path")), paths[k]);
            assert_int_equal(json_integer_value(json_object_get(d, "fileMode")), 0660);
            assert_int_equal(json_integer_value(json_object_get(d, "gid")), 44);
            assert_string_equal(json_string_value(json_object_get(rule_at(&f, k + 1), "access")), access[k]);
            assert_int_equal(json_integer_value(json_object_get(rule_at(&f, k + 1), "minor")),
                             k == 2 ? 9 : k);
        }
        assert_null(json_object_get(f.spec, "windows"));
        done(&f);
    }
    static const struct {
        const char *device, *word;
    } bad[] = {{"\"id\":\"nosuch\"", "windows.devices[0]: device nosuch"},
               {"\"id\":\"g1\",\"path\":\"/dev/one\"", "several nodes"},
               {"\"id\":\"g2\",\"path\":\"dev/one\"", "windows.devices[0]"},
               {"\"id\":\"g2\",\"path\":\"/..\"", "no place"},
               {"\"id\":\"g2\",\"access\":\"rx\"", "access"},
               {"\"id\":7", "id has a wrong type"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char more[256];
        snprintf(more, sizeof more, "{\"windows\":{\"devices\":[{%s,\"idType\":\"vpci-instance-id\"}]}}",
                 bad[i].device);
        refused(more, bad[i].word);
    }
}

static void a_container_on_its_own_gets_nodes_of_the_uvm(void **state)
{
    (void)state;
    fixture f = accepted(
        "{\"linux\":{\"devices\":[{\"path\":\"/dev/fuse\",\"type\":\"c\",\"major\":0,\"minor\":0}]}}");
    json_t *list = json_object_get(json_object_get(f.spec, "linux"), "devices");
    assert_int_equal(json_integer_value(json_object_get(json_array_get(list, 0), "minor")), 229);
    assert_int_equal(json_integer_value(json_object_get(rule_at(&f, 1), "minor")), 229);
    done(&f);
    refused("{\"linux\":{\"devices\":[{\"path\":\"/dev/nosuch\"}]}}", "/dev/nosuch");
}

static void a_container_on_its_own_has_the_mounts_of_a_pod(void **state)
{
    (void)state;
    fixture f = accepted("{\"mounts\":["
                         "{\"destination\":\"/a\",\"type\":\"bind\",\"source\":\"sandbox-tmp://t\"},"
                         "{\"destination\":\"blockdev:///dev/x\",\"type\":\"bind\",\"source\":\"/run/mounts/"
                         "scsi/0_1_0\"}]}");
    assert_string_equal(source_of(&f, "/a"), "/run/gcs/pods/p/c1/sandboxTmpfsMounts/t");
    assert_non_null(effect(&f, MSH_TMPFS, "/run/gcs/pods/p/c1/sandboxTmpfsMounts"));
    assert_non_null(mount_at(&f, "/dev/x"));
    assert_string_equal(json_string_value(json_object_get(rule_at(&f, 1), "access")), "rwm");
    done(&f);
}

static void every_kind_has_its_user_looked_up(void **state)
{
    (void)state;
    static const char *const kinds[] = {"", SANDBOX, WORKLOAD};
    for (size_t i = 0; i < 3; i++) {
        char more[512];
        snprintf(more, sizeof more,
                 "{\"process\":{\"args\":[\"a\"],\"cwd\":\"/"
                 "\",\"user\":{\"username\":\"web\",\"additionalGids\":[9]}},"
                 "\"annotations\":{%s}}",
                 kinds[i]);
        fixture f = accepted(more);
        json_t *user = json_object_get(json_object_get(f.spec, "process"), "user");
        assert_int_equal(json_integer_value(json_object_get(user, "uid")), 33);
        assert_int_equal(json_integer_value(json_object_get(user, "gid")), 34);
        assert_int_equal(json_array_size(json_object_get(user, "additionalGids")), 2);
        assert_null(json_object_get(user, "username"));
        done(&f);
        snprintf(more, sizeof more,
                 "{\"process\":{\"args\":[\"a\"],\"cwd\":\"/"
                 "\",\"user\":{\"username\":\"nosuch\"}},\"annotations\":{%s}}",
                 kinds[i]);
        refused(more, "nosuch");
    }
}

static void a_host_network_takes_the_namespace_away(void **state)
{
    (void)state;
    fixture f = accepted("{\"annotations\":{\"io.microsoft.virtualmachine.lcow.hostnetwork\":\"true\"},"
                         "\"linux\":{\"namespaces\":[{\"type\":\"network\"},{\"type\":\"pid\"}]}}");
    assert_int_equal(json_array_size(json_object_get(json_object_get(f.spec, "linux"), "namespaces")), 1);
    done(&f);
}

static void specs_that_are_none_are_refused_by_name(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"{\"process\":null}", "process"},
        {"{\"process\":5}", "process"},
        {"{\"root\":null}", "root"},
        {"{\"root\":{}}", "root.path"},
        {"{\"root\":{\"path\":5}}", "root.path"},
        {"{\"linux\":null}", "linux"},
        {"{\"linux\":{\"resources\":[]}}", "linux.resources"},
        {"{\"linux\":{\"devices\":{}}}", "linux.devices"},
        {"{\"mounts\":{}}", "mounts"},
        {"{\"mounts\":[5]}", "mounts[0]"},
        {"{\"mounts\":[{\"type\":\"x\"}]}", "mounts[0]: destination"},
        {"{\"mounts\":[{\"destination\":\"/a\",\"options\":[1]}]}", "mounts[0]: options"},
        {"{\"annotations\":[]}", "annotations"},
        {"{\"process\":{\"cwd\":\"/\"}}", "process.args"},
        {"{\"process\":{\"cwd\":\"/\",\"args\":[]}}", "process.args"},
        {"{\"process\":{\"cwd\":\"/\",\"args\":[\"\"]}}", "process.args"},
        {"{\"process\":{\"cwd\":\"/\",\"args\":[1]}}", "process.args"},
        {"{\"process\":{\"args\":[\"a\"]}}", "process.cwd"},
        {"{\"process\":{\"cwd\":\"tmp\",\"args\":[\"a\"]}}", "process.cwd"},
        {"{\"process\":{\"cwd\":\"/\",\"args\":[\"a\"],\"env\":[\"A\"]}}", "\"A\""},
        {"{\"process\":{\"cwd\":\"/\",\"args\":[\"a\"],\"env\":[\"=x\"]}}", "\"=x\""},
        {"{\"process\":{\"cwd\":\"/\",\"args\":[\"a\"],\"user\":{\"uid\":-1}}}", "process.uid"},
        {"{\"process\":{\"cwd\":\"/\",\"args\":[\"a\"],\"user\":{\"uid\":4294967295}}}", "process.uid"},
        {"{\"process\":{\"cwd\":\"/\",\"args\":[\"a\"],\"terminal\":\"yes\"}}", "process.terminal"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        refused(rows[i][0], rows[i][1]);
    fixture f =
        accepted("{\"process\":{\"cwd\":\"/"
                 "\",\"args\":[\"a\"],\"env\":[\"A=\",\"B=c=d\"]},\"mounts\":null,\"annotations\":null}");
    done(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds_come_from_annotations),
        cmocka_unit_test(what_is_not_named_passes_through),
        cmocka_unit_test(a_standalone_container_gets_its_names_mounted),
        cmocka_unit_test(a_sandbox_writes_its_names_and_mounts_none),
        cmocka_unit_test(a_workload_is_wired_to_its_pod),
        cmocka_unit_test(a_workload_gets_shm_and_devices),
        cmocka_unit_test(a_workload_cannot_ask_for_more),
        cmocka_unit_test(devices_are_closed_to_every_kind_unless_given),
        cmocka_unit_test(given_devices_become_nodes_and_rules),
        cmocka_unit_test(a_container_on_its_own_gets_nodes_of_the_uvm),
        cmocka_unit_test(a_container_on_its_own_has_the_mounts_of_a_pod),
        cmocka_unit_test(every_kind_has_its_user_looked_up),
        cmocka_unit_test(a_host_network_takes_the_namespace_away),
        cmocka_unit_test(specs_that_are_none_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

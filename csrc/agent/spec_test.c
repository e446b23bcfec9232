/* From the host's spec to the runtime's: kinds of containers, what each gets, what is refused. */
#include "agent/spec_fixture.h"

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
        cmocka_unit_test(a_container_on_its_own_has_the_mounts_of_a_pod),
        cmocka_unit_test(every_kind_has_its_user_looked_up),
        cmocka_unit_test(a_host_network_takes_the_namespace_away),
        cmocka_unit_test(specs_that_are_none_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

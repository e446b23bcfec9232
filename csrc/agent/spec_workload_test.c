/* From the host's spec to the runtime's: a container of a pod, and what it shares with its sandbox. */
#include "agent/spec_fixture.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_workload_is_wired_to_its_pod),
        cmocka_unit_test(a_workload_gets_shm_and_devices),
        cmocka_unit_test(a_workload_cannot_ask_for_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* From the host's spec to the runtime's: devices, and the rules that open them. */
#include "agent/spec_fixture.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices_are_closed_to_every_kind_unless_given),
        cmocka_unit_test(given_devices_become_nodes_and_rules),
        cmocka_unit_test(a_container_on_its_own_gets_nodes_of_the_uvm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

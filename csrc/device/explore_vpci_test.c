/* Every state of small worlds: devices; what is checked stands in model.c. */
#include "device/explore.h"
#include "device/rig.h"

static void devices(void **state)
{
    (void)state;
    setting s = {
        .name = "a device used twice", .clients = 2, .wants = {A_DEVICE("/a", 1), A_DEVICE("/a", 2)}};
    explore_all(&s);
    s.name = "a device and another one";
    s.eager = true;
    s.clients = 3;
    s.wants[2] = (msh_want)A_DEVICE("/b", 3);
    explore_all(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENARIO("devices", devices),
    };
    return cmocka_run_group_tests_name("device exploration of vPCI", tests, NULL, NULL);
}

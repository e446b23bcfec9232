/* Every state of small worlds: after a crash; what is checked stands in model.c. */
#include "device/explore.h"
#include "device/rig.h"

static void disks_after_a_crash(void **state)
{
    (void)state;
    setting s = {.name = "two partitions after a crash, nobody knows what is there",
                 .config = {1, 1, .no_eject = false},
                 .clients = 2,
                 .wants = {A_DISK("/a", 1), A_DISK("/a", 2)},
                 .restored = true};
    s.attached = s.mounted[1] = s.mounted[2] = true;
    explore_all(&s);
    s.name = "two partitions after a crash, one is known to be mounted";
    s.held[0] = MSH_HELD_MAPPED;
    s.mounted[2] = false;
    explore_all(&s);
    s.name = "a half detached disk after a crash";
    s.held[0] = MSH_HELD_INTENDED;
    s.mounted[1] = false;
    s.ejected = true;
    explore_all(&s);
    s.name = "one mount of two users after a crash, one of them vouches for it";
    s.wants[0].partition = s.wants[1].partition = 0;
    s.ejected = false;
    s.mounted[0] = true;
    s.held[1] = MSH_HELD_MAPPED;
    explore_all(&s);
}

static void devices_after_a_crash(void **state)
{
    (void)state;
    setting s = {.name = "a device after a crash, nobody knows whether it is there",
                 .clients = 2,
                 .wants = {A_DEVICE("/a", 1), A_DEVICE("/a", 1)},
                 .restored = true};
    s.attached = true;
    explore_all(&s);
    s.name = "a device after a crash, one of its two users vouches for it";
    s.held[1] = MSH_HELD_MAPPED;
    s.mounted[0] = true;
    explore_all(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENARIO("disks after a crash", disks_after_a_crash),
        SCENARIO("devices after a crash", devices_after_a_crash),
    };
    return cmocka_run_group_tests_name("device exploration after a crash", tests, NULL, NULL);
}

/* Every state of small worlds, and long random ways through bigger ones; what is checked stands in model.c. */
#include "device/explore.h"
#include "device/rig.h"

static void one_mount_shared_by_two(void **state)
{
    (void)state;
    explore_all(&(setting){.name = "one mount, two users, effects at any moment",
                           .config = {1, 1, .no_eject = false},
                           .clients = 2,
                           .wants = {A_DISK("/a", 0), A_DISK("/a", 0)}});
}

static void two_partitions_of_a_disk(void **state)
{
    (void)state;
    explore_all(&(setting){.name = "two partitions of one disk, effects at any moment",
                           .config = {1, 2, .no_eject = false},
                           .boot = true,
                           .clients = 2,
                           .wants = {A_DISK("/a", 1), A_DISK("/a", 2)}});
}

static void two_disks_and_one_slot(void **state)
{
    (void)state;
    explore_all(&(setting){.name = "two disks want one slot beside a boot disk",
                           .config = {1, 2, .no_eject = false},
                           .boot = true,
                           .clients = 2,
                           .wants = {A_DISK("/a", 0), A_DISK("/b", 0)}});
}

static void two_disks_three_users(void **state)
{
    (void)state;
    explore_all(&(setting){.name = "one disk used twice and another one, one slot",
                           .config = {1, 1, .no_eject = true},
                           .eager = true,
                           .clients = 3,
                           .wants = {A_DISK("/a", 0), A_DISK("/a", 0), A_DISK("/b", 0)}});
}

static void three_users_of_one_disk(void **state)
{
    (void)state;
    explore_all(&(setting){.name = "two partitions of one disk, one of them used twice",
                           .config = {1, 2, .no_eject = false},
                           .boot = true,
                           .eager = true,
                           .clients = 3,
                           .wants = {A_DISK("/a", 1), A_DISK("/a", 2), A_DISK("/a", 1)}});
    explore_all(&(setting){.name = "one mount used three times",
                           .config = {1, 1, .no_eject = false},
                           .eager = true,
                           .clients = 3,
                           .wants = {A_DISK("/a", 0), A_DISK("/a", 0), A_DISK("/a", 0)}});
}

static void shares(void **state)
{
    (void)state;
    explore_all(&(setting){.name = "a share used twice",
                           .config = {.no_writable = true},
                           .clients = 2,
                           .wants = {A_SHARE("/d", true), A_SHARE("/d", true)}});
}

static void ten_thousand_random_acts(void **state)
{
    (void)state;
    setting disks = {.name = "five disks and partitions, eight clients, three slots",
                     .config = {1, 4, .no_eject = false},
                     .boot = true,
                     .clients = 8,
                     .wants = {A_DISK("/a", 0), A_DISK("/a", 0), A_DISK("/b", 1), A_DISK("/b", 2),
                               A_DISK("/b", 1), A_DISK("/c", 0), A_DISK("/d", 0), A_DISK("/e", 2)}};
    setting trees = {.name = "shares, eight clients",
                     .clients = 8,
                     .wants = {A_SHARE("/a", true), A_SHARE("/a", true), A_SHARE("/a", false),
                               A_SHARE("/b", false), A_SHARE("/b", false), A_SHARE("/b", false),
                               A_SHARE("/c", true), A_SHARE("/d", true)}};
    setting cards = {.name = "devices, six clients",
                     .clients = 6,
                     .wants = {A_DEVICE("/a", 1), A_DEVICE("/a", 2), A_DEVICE("/a", 3), A_DEVICE("/b", 4),
                               A_DEVICE("/b", 5), A_DEVICE("/c", 6)}};
    for (uint32_t seed = 1; seed <= 8; seed++) {
        explore_at_random(&disks, seed);
        explore_at_random(&cards, seed);
        explore_at_random(&trees, seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENARIO("one mount shared by two", one_mount_shared_by_two),
        SCENARIO("two partitions of a disk", two_partitions_of_a_disk),
        SCENARIO("two disks and one slot", two_disks_and_one_slot),
        SCENARIO("two disks three users", two_disks_three_users),
        SCENARIO("shares", shares),
        SCENARIO("three users of one disk", three_users_of_one_disk),
        SCENARIO("ten thousand random acts [#277]", ten_thousand_random_acts),
    };
    return cmocka_run_group_tests_name("device exploration", tests, NULL, NULL);
}

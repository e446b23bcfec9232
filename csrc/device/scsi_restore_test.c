/* Disks: a table that is built again from facts, and what it says of itself. The number in brackets is the one of the behaviour specification. */
#include "device/rig.h"

static void restored_reservations_are_where_they_were(void **state)
{
    (void)state;
    msh_resvs *old = rig_new(NULL), *t = rig_new(NULL);
    assert_int_equal(msh_resvs_boot_disk(old, 0, 0, "/boot", NULL), MSH_OK);
    assert_int_equal(msh_resvs_boot_disk(t, 0, 0, "/boot", NULL), MSH_OK);
    msh_resv a = rig_make(old, DISK("/a")), b = rig_make(old, DISK("/b")), b2 = rig_make(old, DISK("/b"));
    rig_up(old, b, "attach /b 0:2", "mount /b 0:2:0");
    rig_aim(old, a, MSH_AIM_MAPPED);
    rig_starts(old, "attach /a 0:1"); /* and here it crashed */
    msh_facts f = rig_facts(old, b);
    assert_int_equal(msh_resv_restore(t, b, &f, NULL), MSH_OK);
    f = rig_facts(old, a);
    assert_int_equal(f.held, MSH_HELD_INTENDED);
    assert_int_equal(msh_resv_restore(t, a, &f, NULL), MSH_OK);
    f = rig_facts(old, b2);
    f.held = MSH_HELD_INTENDED; /* its own receipt says so; the other one vouches for the mount */
    assert_int_equal(msh_resv_restore(t, b2, &f, NULL), MSH_OK);
    assert_int_equal(msh_resv_restore(t, b2, &f, NULL), MSH_ALREADY_EXISTS);
    rig_rests(t);
    assert_int_equal(rig_facts(t, a).lun, 1);
    assert_int_equal(rig_facts(t, b).held, MSH_HELD_MAPPED);
    rig_up(t, b2, NULL, NULL);
    msh_resv fresh = rig_make(t, DISK("/c"));
    assert_true(fresh > b2);
    assert_int_equal(rig_facts(t, fresh).lun, 3);
    rig_leave(t, b);
    rig_disk_down(t, b2, "/b", "0:2");
    rig_disk_down(t, a, "/a", "0:1"); /* the whole way down, since nobody knows */
    rig_leave(t, fresh);
    rig_empty(t);
    msh_resvs_free(old);
}

static void who_needs_anothers_mount_down_hears_why_it_stays(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_facts f = {.want = *DISK("/a")};
    f.want.partition = 1;
    assert_int_equal(msh_resv_restore(t, 1, &f, NULL), MSH_OK);
    f.want.partition = 2;
    assert_int_equal(msh_resv_restore(t, 2, &f, NULL), MSH_OK);
    rig_aim(t, 1, MSH_AIM_MAPPED); /* nobody knows of either mount: both go before the disk does */
    rig_ok(t, "unmount /a 0:0:1");
    rig_does(t, "unmount /a 0:0:2", MSH_DONE_FAILED);
    rig_settled(t, 1, MSH_INTERNAL);
    rig_rests(t);
    rig_aim(t, 1, MSH_AIM_MAPPED);
    rig_ok(t, "unmount /a 0:0:2");
    rig_ok(t, "eject /a 0:0");
    rig_ok(t, "detach /a 0:0");
    rig_ok(t, "attach /a 0:0");
    rig_ok(t, "mount /a 0:0:1");
    rig_settled(t, 1, MSH_OK);
    rig_leave(t, 2); /* nothing of it is left */
    msh_resvs_free(t);
}

static void facts_that_contradict_are_refused(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(&(msh_resvs_config){.controllers = 1, .luns = 4});
    assert_int_equal(msh_resvs_boot_disk(t, 0, 3, "/boot", NULL), MSH_OK);
    msh_resv r = rig_make(t, DISK("/a"));
    msh_facts good = rig_facts(t, r), f = good;
    msh_err e;
    f.lun = 1;
    assert_int_equal(msh_resv_restore(t, 9, &f, &e), MSH_FAILED_PRECONDITION); /* the disk is in slot 0 */
    f = good;
    f.want.path = "/b";
    f.guest_path[0] = '\0';
    assert_int_equal(msh_resv_restore(t, 9, &f, &e),
                     MSH_FAILED_PRECONDITION); /* the slot is of another disk */
    f.lun = 3;
    assert_int_equal(msh_resv_restore(t, 9, &f, &e), MSH_FAILED_PRECONDITION); /* of a boot disk */
    f.lun = 4;
    assert_int_equal(msh_resv_restore(t, 9, &f, &e), MSH_OUT_OF_RANGE);
    f = good;
    f.want.read_only = false;
    assert_int_equal(msh_resv_restore(t, 9, &f, &e), MSH_FAILED_PRECONDITION);
    f = good;
    f.want.mount.encrypted = true;
    assert_int_equal(msh_resv_restore(t, 9, &f, &e), MSH_FAILED_PRECONDITION);
    f = good;
    f.guest_path[0] = '!';
    assert_int_equal(msh_resv_restore(t, 9, &f, &e), MSH_INVALID_ARGUMENT);
    f = good;
    f.share = 3;
    assert_int_equal(msh_resv_restore(t, 9, &f, &e), MSH_INVALID_ARGUMENT);
    assert_int_equal(msh_resv_restore(t, 0, &good, &e), MSH_INVALID_ARGUMENT);
    rig_aim(t, r, MSH_AIM_MAPPED);
    msh_effect attach = rig_starts(t, "attach /a 0:0");
    assert_int_equal(msh_resv_restore(t, 9, &good, &e), MSH_FAILED_PRECONDITION); /* an effect runs */
    msh_resv_done(t, attach.id, MSH_DONE_FAILED);
    rig_settled(t, r, MSH_INTERNAL);
    rig_leave(t, r);
    rig_empty(t);
}

static void a_dump_tells_all_in_order(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_facts f = {.want = *DISK("/a"), .held = MSH_HELD_MAPPED};
    assert_int_equal(msh_resv_restore(t, 7, &f, NULL), MSH_OK);
    f = (msh_facts){.want = *DISK("/b"), .lun = 1};
    assert_int_equal(msh_resv_restore(t, 3, &f, NULL), MSH_OK);
    msh_resv c = rig_make(t, DISK("/c"));
    rig_aim(t, c, MSH_AIM_MAPPED);
    rig_starts(t, "attach /c 0:2");
    msh_resv cursor = 0;
    msh_resv_info i;
    assert_true(msh_resv_next(t, &cursor, &i));
    assert_int_equal(i.resv, 3);
    assert_int_equal(i.state[0], MSH_OBJ_TAINTED);
    assert_true(msh_resv_next(t, &cursor, &i));
    assert_int_equal(i.resv, 7);
    assert_int_equal(i.state[1], MSH_OBJ_UP);
    assert_int_equal(i.running[0], -1);
    assert_true(msh_resv_next(t, &cursor, &i));
    assert_int_equal(i.resv, 8);
    assert_int_equal(i.state[0], MSH_OBJ_ABSENT);
    assert_int_equal(i.running[0], MSH_OP_ATTACH);
    assert_true(i.pending);
    assert_false(msh_resv_next(t, &cursor, &i));
    msh_resvs_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENARIO("restored reservations are where they were", restored_reservations_are_where_they_were),
        SCENARIO("who needs another's mount down hears why it stays",
                 who_needs_anothers_mount_down_hears_why_it_stays),
        SCENARIO("facts that contradict are refused", facts_that_contradict_are_refused),
        SCENARIO("a dump tells all in order", a_dump_tells_all_in_order),
    };
    return cmocka_run_group_tests_name("disks: restored", tests, NULL, NULL);
}

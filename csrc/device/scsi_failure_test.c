/* Disks: effects that fail, end nobody knows how, or meet a dead VM. The number in brackets is the one of the behaviour specification. */
#include "device/rig.h"

static void a_failed_attach_fails_all_who_wait_and_the_next_try_is_clean(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv one = rig_make(t, DISK("/a")), two = rig_make(t, DISK("/a"));
    rig_aim(t, one, MSH_AIM_MAPPED);
    msh_effect attach = rig_starts(t, "attach /a 0:0");
    rig_aim(t, two, MSH_AIM_MAPPED);
    msh_err why;
    msh_fail(&why, MSH_PERMISSION_DENIED, "attach /a: access denied");
    msh_resv_done_why(t, attach.id, MSH_DONE_FAILED, &why);
    rig_settled(t, one, MSH_PERMISSION_DENIED); /* [#245] */
    assert_string_equal(msh_resv_settlement(t)->err.msg, "attach /a: access denied");
    assert_int_equal(msh_resv_settlement(t)->aim, MSH_AIM_MAPPED);
    rig_settled(t, two, MSH_PERMISSION_DENIED);
    rig_rests(t);      /* nothing is tried again by itself */
    rig_leave(t, one); /* [#247] the slot stays with the other one */
    msh_resv other = rig_make(t, DISK("/b"));
    assert_int_equal(rig_facts(t, other).lun, 1);
    rig_up(t, other, "attach /b 0:1", "mount /b 0:1:0");
    rig_up(t, two, "attach /a 0:0", "mount /a 0:0:0"); /* [#248] its own disk, afresh */
    rig_disk_down(t, two, "/a", "0:0");
    msh_resv third = rig_make(t, DISK("/c"));
    assert_int_equal(rig_facts(t, third).lun, 0);
    rig_up(t, third, "attach /c 0:0", "mount /c 0:0:0");
    assert_int_equal(msh_resv_aim(t, two, MSH_AIM_RELEASED), MSH_NOT_FOUND); /* [#249] */
    rig_rests(t); /* a stale holder reaches nobody */
    rig_up(t, third, NULL, NULL);
    rig_disk_down(t, other, "/b", "0:1");
    rig_disk_down(t, third, "/c", "0:0");
    rig_empty(t);
}

static void a_failed_attach_of_one_leaves_without_effects(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv r = rig_make(t, DISK("/a"));
    rig_aim(t, r, MSH_AIM_MAPPED);
    rig_does(t, "attach /a 0:0", MSH_DONE_FAILED);
    rig_settled(t, r, MSH_INTERNAL);
    rig_leave(t, r); /* [#246] */
    rig_empty(t);
}

static void a_failed_mount_drains_and_can_be_tried_again(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv r = rig_make(t, DISK("/a"));
    rig_aim(t, r, MSH_AIM_MAPPED);
    rig_ok(t, "attach /a 0:0");
    rig_does(t, "mount /a 0:0:0", MSH_DONE_FAILED);
    rig_settled(t, r, MSH_INTERNAL);
    rig_aim(t, r, MSH_AIM_RELEASED); /* [#250] */
    rig_ok(t, "eject /a 0:0");
    rig_ok(t, "detach /a 0:0");
    rig_settled(t, r, MSH_OK);
    assert_int_equal(msh_resvs_count(t).slots_used, 0);
    r = rig_make(t, DISK("/a")); /* [#252] */
    rig_up(t, r, "attach /a 0:0", "mount /a 0:0:0");
    rig_disk_down(t, r, "/a", "0:0");
    rig_empty(t);
}

static void a_failed_mount_of_two_detaches_after_the_second(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv one = rig_make(t, DISK("/a")), two = rig_make(t, DISK("/a"));
    rig_aim(t, one, MSH_AIM_MAPPED);
    rig_aim(t, two, MSH_AIM_MAPPED);
    rig_ok(t, "attach /a 0:0");
    rig_does(t, "mount /a 0:0:0", MSH_DONE_FAILED);
    rig_settled(t, one, MSH_INTERNAL);
    rig_settled(t, two, MSH_INTERNAL);
    rig_leave(t, one); /* [#251] */
    rig_aim(t, two, MSH_AIM_RELEASED);
    rig_ok(t, "eject /a 0:0");
    rig_ok(t, "detach /a 0:0");
    rig_settled(t, two, MSH_OK);
    rig_empty(t);
}

static void a_release_that_failed_goes_on_where_it_stopped(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv r = rig_make(t, DISK("/a"));
    rig_up(t, r, "attach /a 0:0", "mount /a 0:0:0");
    rig_aim(t, r, MSH_AIM_RELEASED);
    rig_does(t, "unmount /a 0:0:0", MSH_DONE_FAILED);
    rig_settled(t, r, MSH_INTERNAL); /* [#256] */
    rig_rests(t);
    rig_aim(t, r, MSH_AIM_RELEASED);
    rig_ok(t, "unmount /a 0:0:0");
    rig_does(t, "eject /a 0:0", MSH_DONE_FAILED);
    rig_settled(t, r, MSH_INTERNAL);
    rig_aim(t, r, MSH_AIM_RELEASED);
    rig_ok(t, "eject /a 0:0"); /* [#257] no second unmount */
    rig_does(t, "detach /a 0:0", MSH_DONE_FAILED);
    rig_settled(t, r, MSH_INTERNAL);
    rig_aim(t, r, MSH_AIM_RELEASED);
    rig_ok(t, "detach /a 0:0"); /* [#258] */
    rig_settled(t, r, MSH_OK);
    rig_empty(t);
}

static void a_retry_never_takes_another_holders_mount(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv one = rig_make(t, DISK("/a"));
    rig_up(t, one, "attach /a 0:0", "mount /a 0:0:0");
    rig_aim(t, one, MSH_AIM_RELEASED);
    rig_ok(t, "unmount /a 0:0:0");
    rig_does(t, "eject /a 0:0", MSH_DONE_FAILED);
    rig_settled(t, one, MSH_INTERNAL);
    msh_resv two = rig_make(t, DISK("/a")); /* [#260] the disk is still attached: it is used */
    rig_up(t, two, NULL, "mount /a 0:0:0");
    rig_leave(t, one); /* [#259] */
    rig_up(t, two, NULL, NULL);
    rig_disk_down(t, two, "/a", "0:0");
    rig_empty(t);
}

static void an_ejected_disk_is_detached_before_it_is_used_again(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv one = rig_make(t, DISK("/a"));
    rig_up(t, one, "attach /a 0:0", "mount /a 0:0:0");
    rig_aim(t, one, MSH_AIM_RELEASED);
    rig_ok(t, "unmount /a 0:0:0");
    rig_ok(t, "eject /a 0:0");
    rig_does(t, "detach /a 0:0", MSH_DONE_FAILED);
    rig_settled(t, one, MSH_INTERNAL);
    msh_resv_info info;
    msh_resv cursor = 0;
    assert_true(msh_resv_next(t, &cursor, &info));
    assert_int_equal(info.state[0], MSH_OBJ_HALF);
    msh_resv two = rig_make(t, DISK("/a")); /* [#261] never taken for attached */
    rig_aim(t, two, MSH_AIM_MAPPED);
    rig_ok(t, "detach /a 0:0");
    rig_ok(t, "attach /a 0:0");
    rig_ok(t, "mount /a 0:0:0");
    rig_settled(t, two, MSH_OK);
    rig_leave(t, one);
    rig_disk_down(t, two, "/a", "0:0");
    rig_empty(t);
}

static void an_unknown_attach_keeps_its_slot_until_the_way_down_is_done(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv one = rig_make(t, DISK("/a")), two = rig_make(t, DISK("/a"));
    rig_aim(t, one, MSH_AIM_MAPPED);
    rig_aim(t, two, MSH_AIM_MAPPED);
    msh_err why;
    msh_fail(&why, MSH_DEADLINE_EXCEEDED, "attach: no answer in time");
    msh_resv_done_why(t, rig_starts(t, "attach /a 0:0").id, MSH_DONE_UNKNOWN, &why);
    rig_settled(t, one, MSH_DEADLINE_EXCEEDED);
    rig_settled(t, two, MSH_DEADLINE_EXCEEDED);
    rig_leave(t, one); /* the other one still holds the trouble */
    rig_aim(t, two, MSH_AIM_RELEASED);
    rig_ok(t, "eject /a 0:0");
    msh_effect detach = rig_starts(t, "detach /a 0:0");
    msh_resv b = rig_make(t, DISK("/b")); /* [#274] */
    assert_int_equal(rig_facts(t, b).lun, 1);
    msh_resv_done(t, detach.id, MSH_DONE_UNKNOWN);
    rig_settled(t, two, MSH_UNKNOWN);
    rig_rests(t);
    assert_int_equal(msh_resvs_count(t).slots_used, 2);
    rig_aim(t, two, MSH_AIM_RELEASED);
    rig_ok(t, "detach /a 0:0");
    rig_settled(t, two, MSH_OK);
    assert_int_equal(rig_facts(t, rig_make(t, DISK("/c"))).lun, 0);
    msh_resvs_free(t);
}

static void a_tainted_disk_goes_down_before_it_is_used(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv r = rig_make(t, DISK("/a"));
    rig_aim(t, r, MSH_AIM_MAPPED);
    rig_does(t, "attach /a 0:0", MSH_DONE_UNKNOWN);
    rig_settled(t, r, MSH_UNKNOWN);
    rig_aim(t, r, MSH_AIM_MAPPED);
    rig_ok(t, "eject /a 0:0");
    rig_ok(t, "detach /a 0:0");
    rig_ok(t, "attach /a 0:0");
    rig_does(t, "mount /a 0:0:0", MSH_DONE_UNKNOWN);
    rig_settled(t, r, MSH_UNKNOWN);
    rig_aim(t, r, MSH_AIM_MAPPED);
    rig_does(t, "unmount /a 0:0:0",
             MSH_DONE_FAILED); /* the way down itself fails: told to who wanted it up */
    rig_settled(t, r, MSH_INTERNAL);
    rig_rests(t);
    rig_aim(t, r, MSH_AIM_MAPPED);
    rig_ok(t, "unmount /a 0:0:0");
    rig_ok(t, "mount /a 0:0:0");
    rig_settled(t, r, MSH_OK);
    rig_disk_down(t, r, "/a", "0:0");
    rig_empty(t);
}

static void late_answers_are_believed_while_nothing_else_happened(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv r = rig_make(t, DISK("/a"));
    rig_aim(t, r, MSH_AIM_MAPPED);
    msh_effect e = rig_starts(t, "attach /a 0:0");
    msh_resv_done(t, e.id, MSH_DONE_UNKNOWN);
    rig_settled(t, r, MSH_UNKNOWN);
    msh_resv_done(t, e.id, MSH_DONE_OK); /* it is attached after all */
    rig_rests(t);
    rig_aim(t, r, MSH_AIM_MAPPED);
    e = rig_starts(t, "mount /a 0:0:0");
    msh_resv_done(t, e.id, MSH_DONE_UNKNOWN);
    rig_settled(t, r, MSH_UNKNOWN);
    rig_aim(t, r, MSH_AIM_RELEASED);
    msh_effect un = rig_starts(t, "unmount /a 0:0:0");
    msh_resv_done(t, e.id, MSH_DONE_OK); /* too late: it is being undone */
    assert_int_equal(msh_resvs_count(t).late, 1);
    msh_resv_done(t, un.id, MSH_DONE_UNKNOWN);
    rig_settled(t, r, MSH_UNKNOWN);
    msh_resv_done(t, un.id, MSH_DONE_OK);
    msh_resv_done(t, un.id, MSH_DONE_OK); /* twice */
    msh_resv_done(t, 12345, MSH_DONE_OK); /* never given out */
    assert_int_equal(msh_resvs_count(t).late, 3);
    rig_aim(t, r, MSH_AIM_RELEASED);
    rig_ok(t, "eject /a 0:0");
    rig_ok(t, "detach /a 0:0");
    rig_settled(t, r, MSH_OK);
    rig_empty(t);
}

static void a_dead_guest_ends_the_unmount_and_the_host_still_detaches(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv r = rig_make(t, DISK("/a"));
    rig_up(t, r, "attach /a 0:0", "mount /a 0:0:0");
    rig_aim(t, r, MSH_AIM_RELEASED); /* [#275] */
    rig_does(t, "unmount /a 0:0:0", MSH_DONE_GONE);
    rig_does(t, "eject /a 0:0", MSH_DONE_GONE);
    rig_ok(t, "detach /a 0:0");
    rig_settled(t, r, MSH_OK);
    r = rig_make(t, DISK("/a"));
    rig_aim(t, r, MSH_AIM_MAPPED);
    rig_does(t, "attach /a 0:0", MSH_DONE_GONE); /* on the way up it is a failure, and says why */
    rig_settled(t, r, MSH_GONE);
    rig_leave(t, r);
    rig_empty(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENARIO("a failed attach fails all who wait, the next try is clean [#245] [#247] [#248] [#249]",
                 a_failed_attach_fails_all_who_wait_and_the_next_try_is_clean),
        SCENARIO("a failed attach leaves without effects [#246]",
                 a_failed_attach_of_one_leaves_without_effects),
        SCENARIO("a failed mount drains and can be tried again [#250] [#252]",
                 a_failed_mount_drains_and_can_be_tried_again),
        SCENARIO("a failed mount of two detaches after the second [#251]",
                 a_failed_mount_of_two_detaches_after_the_second),
        SCENARIO("a release that failed goes on where it stopped [#256] [#257] [#258]",
                 a_release_that_failed_goes_on_where_it_stopped),
        SCENARIO("a retry never takes another holder's mount [#259] [#260]",
                 a_retry_never_takes_another_holders_mount),
        SCENARIO("an ejected disk is detached before it is used again [#261]",
                 an_ejected_disk_is_detached_before_it_is_used_again),
        SCENARIO("an unknown attach keeps its slot until the way down is done [#274]",
                 an_unknown_attach_keeps_its_slot_until_the_way_down_is_done),
        SCENARIO("a tainted disk goes down before it is used", a_tainted_disk_goes_down_before_it_is_used),
        SCENARIO("late answers are believed while nothing else happened",
                 late_answers_are_believed_while_nothing_else_happened),
        SCENARIO("a dead guest ends the unmount, the host still detaches [#275]",
                 a_dead_guest_ends_the_unmount_and_the_host_still_detaches),
    };
    return cmocka_run_group_tests_name("disks: failures", tests, NULL, NULL);
}

/* Disks: up and down, by one and by several. The number in brackets is the one of the behaviour specification. */
#include "device/rig.h"

static void attach_then_mount(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv r = rig_make(t, DISK("/a"));
    rig_up(t, r, "attach /a 0:0", "mount /a 0:0:0"); /* [#240] */
    assert_int_equal(rig_facts(t, r).held, MSH_HELD_MAPPED);
    rig_up(t, r, NULL, NULL); /* [#241] */
    rig_disk_down(t, r, "/a", "0:0");
    assert_int_equal(msh_resv_aim(t, r, MSH_AIM_RELEASED), MSH_NOT_FOUND); /* [#264] */
    assert_int_equal(msh_resv_aim(t, r, MSH_AIM_MAPPED), MSH_NOT_FOUND);   /* [#244] */
    assert_int_equal(msh_resv_aim(t, 99, MSH_AIM_MAPPED), MSH_NOT_FOUND);
    assert_int_equal(msh_resv_aim(t, 99, MSH_AIM_RELEASED), MSH_NOT_FOUND);
    rig_empty(t);
}

static void two_users_attach_and_mount_once(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv one = rig_make(t, DISK("/a")), two = rig_make(t, DISK("/a"));
    rig_aim(t, one, MSH_AIM_MAPPED);
    msh_effect attach = rig_starts(t, "attach /a 0:0");
    rig_aim(t, two, MSH_AIM_MAPPED); /* [#243] it waits for the attach in flight */
    rig_rests(t);
    msh_resv_done(t, attach.id, MSH_DONE_OK);
    rig_ok(t, "mount /a 0:0:0"); /* [#242] */
    rig_settled(t, one, MSH_OK);
    rig_settled(t, two, MSH_OK);
    rig_leave(t, one); /* [#253] */
    rig_up(t, two, NULL, NULL);
    rig_disk_down(t, two, "/a", "0:0"); /* [#254] */
    rig_empty(t);
}

static void a_partition_goes_alone(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_want p1 = *DISK("/a"), p2 = *DISK("/a");
    p1.partition = 1;
    p2.partition = 2;
    msh_resv one = rig_make(t, &p1), two = rig_make(t, &p2);
    rig_aim(t, one, MSH_AIM_MAPPED);
    rig_aim(t, two, MSH_AIM_MAPPED);
    rig_ok(t, "attach /a 0:0");
    msh_effect m1 = rig_starts(t, "mount /a 0:0:1"); /* both at once */
    rig_ok(t, "mount /a 0:0:2");
    rig_settled(t, two, MSH_OK);
    msh_resv_done(t, m1.id, MSH_DONE_OK);
    rig_settled(t, one, MSH_OK);
    rig_aim(t, one, MSH_AIM_RELEASED); /* [#255] */
    rig_ok(t, "unmount /a 0:0:1");
    rig_settled(t, one, MSH_OK);
    rig_rests(t);
    rig_up(t, two, NULL, NULL);
    msh_resvs_free(t);
}

static void who_comes_during_the_way_down_waits_for_it(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv one = rig_make(t, DISK("/a"));
    rig_up(t, one, "attach /a 0:0", "mount /a 0:0:0");
    rig_aim(t, one, MSH_AIM_RELEASED);
    rig_ok(t, "unmount /a 0:0:0");
    msh_effect eject = rig_starts(t, "eject /a 0:0");
    msh_resv two = rig_make(t, DISK("/a")); /* [#260] */
    rig_settled(t, one, MSH_OK);            /* what is left belongs to the newcomer */
    rig_aim(t, two, MSH_AIM_MAPPED);
    rig_rests(t);
    msh_resv_done(t, eject.id, MSH_DONE_OK);
    rig_ok(t, "detach /a 0:0");
    rig_ok(t, "attach /a 0:0");
    rig_ok(t, "mount /a 0:0:0");
    rig_settled(t, two, MSH_OK);
    rig_disk_down(t, two, "/a", "0:0");
    rig_empty(t);
}

static void who_never_mapped_leaves_others_alone(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv one = rig_make(t, DISK("/a")), two = rig_make(t, DISK("/a"));
    rig_up(t, one, "attach /a 0:0", "mount /a 0:0:0");
    rig_leave(t, two); /* [#263] */
    rig_up(t, one, NULL, NULL);
    rig_disk_down(t, one, "/a", "0:0");
    rig_empty(t);
}

static void counts_follow_reservations(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL); /* [#270] */
    msh_resv a = rig_make(t, DISK("/a"));
    rig_up(t, a, "attach /a 0:0", "mount /a 0:0:0");
    msh_resv b = rig_make(t, DISK("/a"));
    rig_up(t, b, NULL, NULL);
    rig_leave(t, a);
    msh_resv c = rig_make(t, DISK("/a"));
    rig_leave(t, b);
    rig_up(t, c, NULL, NULL); /* it was never unmounted */
    rig_disk_down(t, c, "/a", "0:0");
    rig_empty(t);
}

static bool same_text(const char *a, const char *b)
{
    return strcmp(a != NULL ? a : "", b != NULL ? b : "") == 0;
}

static void an_unmount_carries_every_field_of_the_mount(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    char path[] = "/scratch.vhd", fs[] = "xfs", opt[] = "rshared";
    const char *options[] = {opt, "ro"};
    msh_want w = {.bus = MSH_BUS_SCSI,
                  .path = path,
                  .type = "PassThru",
                  .partition = 3,
                  .mount = {.read_only = true,
                            .encrypted = true,
                            .ensure_filesystem = true,
                            .block_dev = true,
                            .filesystem = fs,
                            .options = {options, 2}}};
    msh_resv r = rig_make(t, &w);
    path[1] = fs[0] = opt[0] = '!'; /* all of it was copied */
    rig_aim(t, r, MSH_AIM_MAPPED);
    msh_effect e = rig_starts(t, "attach /scratch.vhd 0:0");
    assert_string_equal(e.facts.want.type, "PassThru");
    assert_false(e.facts.want.read_only);
    assert_string_equal(e.facts.guest_path, "");
    msh_resv_done(t, e.id, MSH_DONE_OK);
    msh_effect mount = rig_starts(t, "mount /scratch.vhd 0:0:3");
    msh_resv_done(t, mount.id, MSH_DONE_OK);
    rig_aim(t, r, MSH_AIM_RELEASED);
    msh_effect unmount = rig_starts(t, "unmount /scratch.vhd 0:0:3"); /* [#266] [#267] */
    const msh_mount_config *m = &unmount.facts.want.mount;
    assert_true(m->read_only && m->encrypted && m->ensure_filesystem && m->block_dev);
    assert_true(same_text(m->filesystem, "xfs"));
    assert_int_equal(m->options.n, 2);
    assert_string_equal(m->options.items[0], "rshared");
    assert_string_equal(m->options.items[1], "ro");
    assert_string_equal(unmount.facts.guest_path, "/run/mounts/scsi/0_0_3");
    assert_string_equal(unmount.facts.guest_path, mount.facts.guest_path);
    msh_resvs_free(t);
}

static void a_windows_guest_needs_no_eject(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(&(msh_resvs_config){.no_eject = true});
    msh_resv r = rig_make(t, DISK("/a"));
    rig_up(t, r, "attach /a 0:0", "mount /a 0:0:0");
    rig_aim(t, r, MSH_AIM_RELEASED); /* [#268] */
    rig_ok(t, "unmount /a 0:0:0");
    rig_ok(t, "detach /a 0:0");
    rig_settled(t, r, MSH_OK);
    rig_empty(t);
}

static void disks_do_not_wait_for_each_other(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv a = rig_make(t, DISK("/a")), b = rig_make(t, DISK("/b"));
    rig_aim(t, a, MSH_AIM_MAPPED);
    rig_aim(t, b, MSH_AIM_MAPPED);
    msh_effect slow = rig_starts(t, "attach /a 0:0");
    rig_ok(t, "attach /b 0:1"); /* [#273] */
    rig_ok(t, "mount /b 0:1:0");
    rig_settled(t, b, MSH_OK);
    msh_resv_done(t, slow.id, MSH_DONE_OK);
    rig_ok(t, "mount /a 0:0:0");
    rig_settled(t, a, MSH_OK);
    msh_resvs_free(t);
}

static void a_new_aim_takes_the_place_of_the_old_one(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv r = rig_make(t, DISK("/a"));
    rig_aim(t, r, MSH_AIM_MAPPED);
    rig_aim(t, r, MSH_AIM_RELEASED); /* before anything was given out: nothing to do */
    rig_no_effect(t);
    rig_settled(t, r, MSH_OK);
    r = rig_make(t, DISK("/a"));
    rig_aim(t, r, MSH_AIM_MAPPED);
    msh_effect attach = rig_starts(t, "attach /a 0:0");
    rig_aim(t, r, MSH_AIM_RELEASED); /* an attach is not cancelled; then down */
    rig_rests(t);
    msh_resv_done(t, attach.id, MSH_DONE_OK);
    msh_effect eject = rig_starts(t, "eject /a 0:0");
    rig_aim(t, r, MSH_AIM_MAPPED); /* changed its mind again */
    msh_resv_done(t, eject.id, MSH_DONE_FAILED);
    rig_ok(t, "mount /a 0:0:0");     /* it is still attached */
    rig_aim(t, r, MSH_AIM_RELEASED); /* the uncollected "mapped" is void */
    rig_ok(t, "unmount /a 0:0:0");
    rig_ok(t, "eject /a 0:0");
    rig_ok(t, "detach /a 0:0");
    rig_settled(t, r, MSH_OK);
    assert_int_equal(msh_resv_settlement(t)->aim, MSH_AIM_RELEASED);
    r = rig_make(t, DISK("/a"));
    rig_aim(t, r, MSH_AIM_MAPPED);
    attach = rig_starts(t, "attach /a 0:0");
    rig_aim(t, r, MSH_AIM_RELEASED);
    msh_resv_done(t, attach.id, MSH_DONE_FAILED); /* no trouble for who leaves */
    rig_settled(t, r, MSH_OK);
    assert_int_equal(msh_resv_aim(t, r, MSH_AIM_NONE), MSH_NOT_FOUND);
    r = rig_make(t, DISK("/a"));
    assert_int_equal(msh_resv_aim(t, r, MSH_AIM_NONE), MSH_INVALID_ARGUMENT);
    rig_leave(t, r);
    rig_empty(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENARIO("attach, then mount; again is nothing [#240] [#241] [#244] [#264] [#269]",
                 attach_then_mount),
        SCENARIO("two users attach and mount once [#242] [#243] [#253] [#254]",
                 two_users_attach_and_mount_once),
        SCENARIO("a partition goes alone [#255]", a_partition_goes_alone),
        SCENARIO("who comes during the way down waits for it [#260]",
                 who_comes_during_the_way_down_waits_for_it),
        SCENARIO("who never mapped leaves others alone [#263]", who_never_mapped_leaves_others_alone),
        SCENARIO("counts follow reservations [#270]", counts_follow_reservations),
        SCENARIO("an unmount carries every field of the mount [#266] [#267]",
                 an_unmount_carries_every_field_of_the_mount),
        SCENARIO("a Windows guest needs no eject [#268]", a_windows_guest_needs_no_eject),
        SCENARIO("disks do not wait for each other [#273]", disks_do_not_wait_for_each_other),
        SCENARIO("a new aim takes the place of the old one", a_new_aim_takes_the_place_of_the_old_one),
    };
    return cmocka_run_group_tests_name("disks: up and down", tests, NULL, NULL);
}

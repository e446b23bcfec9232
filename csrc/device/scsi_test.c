/* Scenarios of disks; the number in brackets is the one of the behaviour specification. */
#include "device/rig.h"

static void map(msh_resvs *t, msh_resv r, const char *attach, const char *mount)
{
    rig_aim(t, r, MSH_AIM_MAPPED);
    if (attach != NULL)
        rig_ok(t, attach);
    if (mount != NULL)
        rig_ok(t, mount);
    rig_settled(t, r, MSH_OK);
    rig_rests(t);
}

static void unmap(msh_resvs *t, msh_resv r, const char *path, const char *slot)
{
    char text[200];
    rig_aim(t, r, MSH_AIM_RELEASED);
    snprintf(text, sizeof text, "unmount %s %s:0", path, slot);
    rig_ok(t, text);
    snprintf(text, sizeof text, "eject %s %s", path, slot);
    rig_ok(t, text);
    snprintf(text, sizeof text, "detach %s %s", path, slot);
    rig_ok(t, text);
    rig_settled(t, r, MSH_OK);
}

static void leave(msh_resvs *t, msh_resv r) /* without any effect */
{
    rig_aim(t, r, MSH_AIM_RELEASED);
    rig_no_effect(t);
    rig_settled(t, r, MSH_OK);
}

static void boot_disks_keep_their_slots(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    assert_int_equal(msh_resvs_boot_disk(t, 0, 0, "/boot/root.vhd", NULL), MSH_OK);
    assert_int_equal(msh_resvs_boot_disk(t, 0, 1, NULL, NULL), MSH_OK);
    assert_int_equal(msh_resvs_boot_disk(t, 0, 1, "/x", NULL), MSH_ALREADY_EXISTS);
    assert_int_equal(msh_resvs_boot_disk(t, 0, 5, "/boot/./root.vhd", NULL), MSH_ALREADY_EXISTS);
    assert_int_equal(msh_resvs_boot_disk(t, 4, 0, "/x", NULL), MSH_OUT_OF_RANGE);
    assert_int_equal(msh_resvs_boot_disk(t, 0, 64, "/x", NULL), MSH_OUT_OF_RANGE);
    rig_refused(t, DISK("/boot//root.vhd"), MSH_FAILED_PRECONDITION);
    msh_resv r = rig_make(t, DISK("/a"));
    assert_int_equal(rig_facts(t, r).lun, 2);
    map(t, r, "attach /a 0:2", "mount /a 0:2:0");
    unmap(t, r, "/a", "0:2");
    assert_int_equal(msh_resvs_count(t).slots_boot, 2);
    assert_int_equal(rig_facts(t, rig_make(t, DISK("/b"))).lun, 2);
    msh_resvs_free(t);
}

static void all_slots_and_then_no_more(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    char path[32];
    msh_resv r[256];
    for (unsigned i = 0; i < 256; i++) {
        snprintf(path, sizeof path, "/d%u", i);
        r[i] = rig_make(t, DISK(path));
        msh_facts f = rig_facts(t, r[i]);
        assert_int_equal(f.controller * 64 + f.lun, i);
    }
    rig_refused(t, DISK("/d256"), MSH_RESOURCE_EXHAUSTED);
    rig_make(t, DISK("/d255")); /* a known one is still shared */
    leave(t, r[77]);
    msh_facts f = rig_facts(t, rig_make(t, DISK("/other"))); /* [#265] */
    assert_int_equal(f.controller * 64 + f.lun, 77);
    msh_resvs_free(t);
}

static void a_reservation_has_no_effect_by_itself(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv r = rig_make(t, DISK("/a"));
    rig_rests(t);
    msh_facts f = rig_facts(t, r);
    assert_string_equal(f.guest_path, "/run/mounts/scsi/0_0_0");
    assert_int_equal(f.held, MSH_HELD_INTENDED);
    leave(t, r); /* [#262] its slot and its configuration are free again */
    msh_want other = *DISK("/a");
    other.read_only = false;
    leave(t, rig_make(t, &other));
    rig_empty(t);
}

static void equal_wants_share_and_others_are_refused(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    static const char *const abc[] = {"noatime", "rshared", "RO"}, *const cab[] = {"ro", "NoAtime", "rshared",
                                                                                   "ro"};
    msh_want w = *DISK("/a");
    w.partition = 2;
    w.mount.options = (msh_texts){abc, 3};
    w.mount.filesystem = "ext4";
    msh_resv one = rig_make(t, &w);
    w.mount.options = (msh_texts){cab, 4};
    msh_resv two = rig_make(t, &w); /* [#233] [#237] */
    assert_true(one != two);
    msh_resv_info info;
    msh_resv cursor = 0;
    assert_true(msh_resv_next(t, &cursor, &info));
    assert_int_equal(info.users[0], 2);
    assert_int_equal(info.users[1], 2);
    const msh_want base = w; /* [#238] */
    w.mount.filesystem = "xfs";
    rig_refused(t, &w, MSH_FAILED_PRECONDITION);
    w = base;
    w.mount.encrypted = true;
    rig_refused(t, &w, MSH_FAILED_PRECONDITION);
    w = base;
    w.mount.ensure_filesystem = true;
    rig_refused(t, &w, MSH_FAILED_PRECONDITION);
    w = base;
    w.mount.block_dev = true;
    rig_refused(t, &w, MSH_FAILED_PRECONDITION);
    w = base;
    w.mount.read_only = false;
    rig_refused(t, &w, MSH_FAILED_PRECONDITION);
    w = base;
    w.mount.options.n = 2;
    rig_refused(t, &w, MSH_FAILED_PRECONDITION);
    w = base; /* [#234] */
    w.read_only = false;
    rig_refused(t, &w, MSH_FAILED_PRECONDITION);
    w = base;
    w.type = "PassThru";
    rig_refused(t, &w, MSH_FAILED_PRECONDITION);
    w.type = "ExtensibleVirtualDisk";
    w.provider = "p1";
    rig_refused(t, &w, MSH_FAILED_PRECONDITION);
    w.path = "/e";
    rig_make(t, &w);
    w.provider = "p2";
    rig_refused(t, &w, MSH_FAILED_PRECONDITION);
    w = base; /* [#236] another partition: one slot, two mounts */
    w.partition = 3;
    w.mount.filesystem = "xfs";
    msh_resv three = rig_make(t, &w);
    assert_int_equal(rig_facts(t, three).lun, rig_facts(t, one).lun);
    assert_string_equal(rig_facts(t, three).guest_path, "/run/mounts/scsi/0_0_3");
    assert_int_equal(msh_resvs_count(t).mounts, 3);
    msh_resvs_free(t);
}

static void a_path_has_one_slot_however_it_is_spelled(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    static const char *const spellings[] = {"/a/b",   "/a//b",     "/a/./b",   "/a/c/../b",
                                            "//a/b/", "/../a/b/.", "/a/b/c/.."};
    for (size_t i = 0; i < sizeof spellings / sizeof spellings[0]; i++) {
        msh_facts f = rig_facts(t, rig_make(t, DISK(spellings[i])));
        assert_string_equal(f.want.path, "/a/b");
        assert_int_equal(f.lun, 0);
    }
    assert_int_equal(rig_facts(t, rig_make(t, DISK("/A/b"))).lun, 1); /* two files where letter case counts */
    msh_resvs_free(t);
    t = rig_new(&(msh_resvs_config){.fold_case = true}); /* [#235] */
    rig_make(t, DISK("/Layers/Base.vhd"));
    assert_int_equal(rig_facts(t, rig_make(t, DISK("/layers/BASE.VHD"))).lun, 0);
    rig_make(t, DISK("C:\\layers\\base.vhd"));
    assert_int_equal(rig_facts(t, rig_make(t, DISK("c:\\Layers\\base.vhd"))).lun, 1);
    msh_resvs_free(t);
}

static void malformed_wants_are_refused(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    char longest[MSH_RESV_PATH + 2];
    memset(longest, 'x', sizeof longest);
    longest[0] = '/';
    longest[sizeof longest - 1] = '\0';
    rig_refused(t, DISK(longest), MSH_INVALID_ARGUMENT);
    longest[sizeof longest - 2] = '\0';
    leave(t, rig_make(t, DISK(longest)));
    rig_refused(t, DISK(""), MSH_INVALID_ARGUMENT);
    rig_refused(t, DISK(NULL), MSH_INVALID_ARGUMENT);
    rig_refused(t, DISK("relative/path"), MSH_INVALID_ARGUMENT);
    rig_refused(t, DISK("/a\nb"), MSH_INVALID_ARGUMENT);
    msh_want w = *DISK("/a");
    w.partition = MSH_SCSI_PARTS + 1;
    rig_refused(t, &w, MSH_INVALID_ARGUMENT);
    w = *DISK("/a");
    w.type = "Floppy";
    rig_refused(t, &w, MSH_INVALID_ARGUMENT);
    w.type = "VirtualDisk";
    w.provider = "p";
    rig_refused(t, &w, MSH_INVALID_ARGUMENT);
    w = *DISK("/a");
    w.mount.filesystem = "a-file-system-with-much-too-long-a-name";
    rig_refused(t, &w, MSH_INVALID_ARGUMENT);
    w = *DISK("/a");
    const char *many[MSH_RESV_LIST + 1];
    for (size_t i = 0; i <= MSH_RESV_LIST; i++)
        many[i] = "ro";
    w.mount.options = (msh_texts){many, MSH_RESV_LIST + 1};
    rig_refused(t, &w, MSH_INVALID_ARGUMENT);
    w.mount.options.n = 1;
    many[0] = "ro\nrw";
    rig_refused(t, &w, MSH_INVALID_ARGUMENT);
    many[0] = "";
    rig_refused(t, &w, MSH_INVALID_ARGUMENT);
    w = *DISK("/a");
    w.names = (msh_texts){many + 1, 1};
    rig_refused(t, &w, MSH_INVALID_ARGUMENT);
    w = *DISK("/a");
    w.bus = (msh_bus)7;
    rig_refused(t, &w, MSH_INVALID_ARGUMENT);
    msh_resvs *none = NULL;
    assert_int_equal(msh_resvs_new(&(msh_resvs_config){.controllers = 5}, &none, NULL), MSH_INVALID_ARGUMENT);
    rig_empty(t);
}

static void attach_then_mount(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv r = rig_make(t, DISK("/a"));
    map(t, r, "attach /a 0:0", "mount /a 0:0:0"); /* [#240] */
    assert_int_equal(rig_facts(t, r).held, MSH_HELD_MAPPED);
    map(t, r, NULL, NULL); /* [#241] */
    unmap(t, r, "/a", "0:0");
    assert_int_equal(msh_resv_aim(t, r, MSH_AIM_RELEASED), MSH_NOT_FOUND); /* [#264] */
    assert_int_equal(msh_resv_aim(t, r, MSH_AIM_MAPPED), MSH_NOT_FOUND);   /* [#244] */
    assert_int_equal(msh_resv_aim(t, 99, MSH_AIM_MAPPED), MSH_NOT_FOUND);
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
    leave(t, one); /* [#253] */
    map(t, two, NULL, NULL);
    unmap(t, two, "/a", "0:0"); /* [#254] */
    rig_empty(t);
}

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
    rig_rests(t);  /* nothing is tried again by itself */
    leave(t, one); /* [#247] the slot stays with the other one */
    msh_resv other = rig_make(t, DISK("/b"));
    assert_int_equal(rig_facts(t, other).lun, 1);
    map(t, other, "attach /b 0:1", "mount /b 0:1:0");
    map(t, two, "attach /a 0:0", "mount /a 0:0:0"); /* [#248] its own disk, afresh */
    unmap(t, two, "/a", "0:0");
    msh_resv third = rig_make(t, DISK("/c"));
    assert_int_equal(rig_facts(t, third).lun, 0);
    assert_int_equal(msh_resv_aim(t, two, MSH_AIM_RELEASED),
                     MSH_NOT_FOUND); /* [#249] a stale holder reaches nobody */
    map(t, third, "attach /c 0:0", "mount /c 0:0:0");
    unmap(t, other, "/b", "0:1");
    unmap(t, third, "/c", "0:0");
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
    leave(t, r); /* [#246] */
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
    map(t, r, "attach /a 0:0", "mount /a 0:0:0");
    unmap(t, r, "/a", "0:0");
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
    leave(t, one); /* [#251] */
    rig_aim(t, two, MSH_AIM_RELEASED);
    rig_ok(t, "eject /a 0:0");
    rig_ok(t, "detach /a 0:0");
    rig_settled(t, two, MSH_OK);
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
    map(t, two, NULL, NULL);
    msh_resvs_free(t);
}

static void a_release_that_failed_goes_on_where_it_stopped(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv r = rig_make(t, DISK("/a"));
    map(t, r, "attach /a 0:0", "mount /a 0:0:0");
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
    map(t, one, "attach /a 0:0", "mount /a 0:0:0");
    rig_aim(t, one, MSH_AIM_RELEASED);
    rig_ok(t, "unmount /a 0:0:0");
    rig_does(t, "eject /a 0:0", MSH_DONE_FAILED);
    rig_settled(t, one, MSH_INTERNAL);
    msh_resv two = rig_make(t, DISK("/a")); /* [#260] the disk is still attached: it is used */
    map(t, two, NULL, "mount /a 0:0:0");
    leave(t, one); /* [#259] and W3 */
    map(t, two, NULL, NULL);
    unmap(t, two, "/a", "0:0");
    rig_empty(t);
}

static void an_ejected_disk_is_detached_before_it_is_used_again(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv one = rig_make(t, DISK("/a"));
    map(t, one, "attach /a 0:0", "mount /a 0:0:0");
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
    leave(t, one);
    unmap(t, two, "/a", "0:0");
    rig_empty(t);
}

static void who_comes_during_the_way_down_waits_for_it(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv one = rig_make(t, DISK("/a"));
    map(t, one, "attach /a 0:0", "mount /a 0:0:0");
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
    unmap(t, two, "/a", "0:0");
    rig_empty(t);
}

static void who_never_mapped_leaves_others_alone(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv one = rig_make(t, DISK("/a")), two = rig_make(t, DISK("/a"));
    map(t, one, "attach /a 0:0", "mount /a 0:0:0");
    leave(t, two); /* [#263] */
    map(t, one, NULL, NULL);
    unmap(t, one, "/a", "0:0");
    rig_empty(t);
}

static void counts_follow_reservations(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL); /* [#270] */
    msh_resv a = rig_make(t, DISK("/a"));
    map(t, a, "attach /a 0:0", "mount /a 0:0:0");
    msh_resv b = rig_make(t, DISK("/a"));
    map(t, b, NULL, NULL);
    leave(t, a);
    msh_resv c = rig_make(t, DISK("/a"));
    leave(t, b);
    map(t, c, NULL, NULL); /* it was never unmounted */
    unmap(t, c, "/a", "0:0");
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
    map(t, r, "attach /a 0:0", "mount /a 0:0:0");
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
    leave(t, one); /* the other one still holds the trouble */
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
    unmap(t, r, "/a", "0:0");
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
    map(t, r, "attach /a 0:0", "mount /a 0:0:0");
    rig_aim(t, r, MSH_AIM_RELEASED); /* [#275] */
    rig_does(t, "unmount /a 0:0:0", MSH_DONE_GONE);
    rig_does(t, "eject /a 0:0", MSH_DONE_GONE);
    rig_ok(t, "detach /a 0:0");
    rig_settled(t, r, MSH_OK);
    r = rig_make(t, DISK("/a"));
    rig_aim(t, r, MSH_AIM_MAPPED);
    rig_does(t, "attach /a 0:0", MSH_DONE_GONE); /* on the way up it is a failure, and says why */
    rig_settled(t, r, MSH_GONE);
    leave(t, r);
    rig_empty(t);
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
    leave(t, r);
    rig_empty(t);
}

static void restored_reservations_are_where_they_were(void **state)
{
    (void)state;
    msh_resvs *old = rig_new(NULL), *t = rig_new(NULL);
    assert_int_equal(msh_resvs_boot_disk(old, 0, 0, "/boot", NULL), MSH_OK);
    assert_int_equal(msh_resvs_boot_disk(t, 0, 0, "/boot", NULL), MSH_OK);
    msh_resv a = rig_make(old, DISK("/a")), b = rig_make(old, DISK("/b")), b2 = rig_make(old, DISK("/b"));
    map(old, b, "attach /b 0:2", "mount /b 0:2:0");
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
    map(t, b2, NULL, NULL);
    msh_resv fresh = rig_make(t, DISK("/c"));
    assert_true(fresh > b2);
    assert_int_equal(rig_facts(t, fresh).lun, 3);
    leave(t, b);
    unmap(t, b2, "/b", "0:2");
    unmap(t, a, "/a", "0:1"); /* the whole way down, since nobody knows */
    leave(t, fresh);
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
    leave(t, 2); /* nothing of it is left */
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
    leave(t, r);
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
        SCENARIO(
            "boot disks keep their slots, and their paths are refused [#228] [#230] [#231] [#271] [#272]",
            boot_disks_keep_their_slots),
        SCENARIO("256 disks fit, number 257 is told so [#229] [#265]", all_slots_and_then_no_more),
        SCENARIO("a reservation has no effect by itself [#232] [#262]",
                 a_reservation_has_no_effect_by_itself),
        SCENARIO("equal wants share, others are refused [#233] [#234] [#236] [#237] [#238] [#239]",
                 equal_wants_share_and_others_are_refused),
        SCENARIO("a path has one slot however it is spelled [#235]",
                 a_path_has_one_slot_however_it_is_spelled),
        SCENARIO("malformed wants are refused and leave nothing [#239]", malformed_wants_are_refused),
        SCENARIO("attach, then mount; again is nothing [#240] [#241] [#244] [#264] [#269]",
                 attach_then_mount),
        SCENARIO("two users attach and mount once [#242] [#243] [#253] [#254]",
                 two_users_attach_and_mount_once),
        SCENARIO("a failed attach fails all who wait, the next try is clean [#245] [#247] [#248] [#249]",
                 a_failed_attach_fails_all_who_wait_and_the_next_try_is_clean),
        SCENARIO("a failed attach leaves without effects [#246]",
                 a_failed_attach_of_one_leaves_without_effects),
        SCENARIO("a failed mount drains and can be tried again [#250] [#252]",
                 a_failed_mount_drains_and_can_be_tried_again),
        SCENARIO("a failed mount of two detaches after the second [#251]",
                 a_failed_mount_of_two_detaches_after_the_second),
        SCENARIO("a partition goes alone [#255]", a_partition_goes_alone),
        SCENARIO("a release that failed goes on where it stopped [#256] [#257] [#258]",
                 a_release_that_failed_goes_on_where_it_stopped),
        SCENARIO("a retry never takes another holder's mount [#259] [#260]",
                 a_retry_never_takes_another_holders_mount),
        SCENARIO("an ejected disk is detached before it is used again [#261]",
                 an_ejected_disk_is_detached_before_it_is_used_again),
        SCENARIO("who comes during the way down waits for it [#260]",
                 who_comes_during_the_way_down_waits_for_it),
        SCENARIO("who never mapped leaves others alone [#263]", who_never_mapped_leaves_others_alone),
        SCENARIO("counts follow reservations [#270]", counts_follow_reservations),
        SCENARIO("an unmount carries every field of the mount [#266] [#267]",
                 an_unmount_carries_every_field_of_the_mount),
        SCENARIO("a Windows guest needs no eject [#268]", a_windows_guest_needs_no_eject),
        SCENARIO("disks do not wait for each other [#273]", disks_do_not_wait_for_each_other),
        SCENARIO("an unknown attach keeps its slot until the way down is done [#274]",
                 an_unknown_attach_keeps_its_slot_until_the_way_down_is_done),
        SCENARIO("a tainted disk goes down before it is used", a_tainted_disk_goes_down_before_it_is_used),
        SCENARIO("late answers are believed while nothing else happened",
                 late_answers_are_believed_while_nothing_else_happened),
        SCENARIO("a dead guest ends the unmount, the host still detaches [#275]",
                 a_dead_guest_ends_the_unmount_and_the_host_still_detaches),
        SCENARIO("a new aim takes the place of the old one", a_new_aim_takes_the_place_of_the_old_one),
        SCENARIO("restored reservations are where they were", restored_reservations_are_where_they_were),
        SCENARIO("who needs another's mount down hears why it stays",
                 who_needs_anothers_mount_down_hears_why_it_stays),
        SCENARIO("facts that contradict are refused", facts_that_contradict_are_refused),
        SCENARIO("a dump tells all in order", a_dump_tells_all_in_order),
    };
    return cmocka_run_group_tests_name("disks", tests, NULL, NULL);
}

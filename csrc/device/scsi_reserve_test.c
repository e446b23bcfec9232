/* Disks: what a reservation is, before anything happens. The number in brackets is the one of the behaviour specification. */
#include "device/rig.h"

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
    rig_up(t, r, "attach /a 0:2", "mount /a 0:2:0");
    rig_disk_down(t, r, "/a", "0:2");
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
    rig_leave(t, r[77]);
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
    rig_leave(t, r); /* [#262] its slot and its configuration are free again */
    msh_want other = *DISK("/a");
    other.read_only = false;
    rig_leave(t, rig_make(t, &other));
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
    rig_leave(t, rig_make(t, DISK(longest)));
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENARIO(
            "boot disks keep their slots, and their paths are refused [#228] [#230] [#231] [#271] [#272]",
            boot_disks_keep_their_slots),
        SCENARIO("256 disks fit, number 257 is told so [#229] [#265]", all_slots_and_then_no_more),
        SCENARIO("a reservation has no effect by itself [#232] [#262]",
                 a_reservation_has_no_effect_by_itself),
        SCENARIO("equal wants share, others are refused [#233] [#234] [#236] [#237] [#238]",
                 equal_wants_share_and_others_are_refused),
        SCENARIO("a path has one slot however it is spelled [#235]",
                 a_path_has_one_slot_however_it_is_spelled),
        SCENARIO("malformed wants are refused and leave nothing [#239]", malformed_wants_are_refused),
    };
    return cmocka_run_group_tests_name("disks: reservations", tests, NULL, NULL);
}

/* Scenarios of shares; the number in brackets is the one of the behaviour specification. */
#include "device/rig.h"

static void names_are_numbers_that_only_grow(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv a = rig_make(t, SHARE("/a")); /* [#278] */
    rig_rests(t);
    assert_int_equal(rig_facts(t, a).share, 0);
    assert_string_equal(rig_facts(t, a).guest_path, "/run/mounts/plan9/0");
    msh_resv b = rig_make(t, SHARE("/b"));
    assert_int_equal(rig_facts(t, b).share, 1);
    rig_leave(t, a);
    rig_leave(t, b);
    assert_int_equal(msh_resvs_count(t).parents, 0);
    a = rig_make(t, SHARE("/a")); /* [#279] [#301] */
    assert_int_equal(rig_facts(t, a).share, 2);
    rig_leave(t, a);
    rig_empty(t);
}

static void the_key_is_path_rights_and_names(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    static const char *const xy[] = {"x", "y"}, *const yx[] = {"y", "x", "y"}, *const upper[] = {"X", "y"};
    msh_want w = {
        .bus = MSH_BUS_PLAN9, .path = "/a", .read_only = true, .restrict_names = true, .names = {xy, 2}};
    msh_resv r = rig_make(t, &w);
    w.names = (msh_texts){yx, 3}; /* [#280] [#281] */
    msh_resv again = rig_make(t, &w);
    assert_true(r != again);
    assert_int_equal(rig_facts(t, again).share, 0);
    w.names = (msh_texts){xy, 1}; /* [#283] */
    assert_int_equal(rig_facts(t, rig_make(t, &w)).share, 1);
    w.names = (msh_texts){upper, 2}; /* another file where letter case counts */
    assert_int_equal(rig_facts(t, rig_make(t, &w)).share, 2);
    w.names = (msh_texts){xy, 2};
    w.read_only = false; /* [#282] */
    assert_int_equal(rig_facts(t, rig_make(t, &w)).share, 3);
    assert_int_equal(rig_facts(t, rig_make(t, SHARE("/a"))).share, 4);
    assert_int_equal(rig_facts(t, rig_make(t, SHARE("/b/../a/"))).share, 4);
    msh_resvs_free(t);
    t = rig_new(&(msh_resvs_config){.fold_case = true}); /* [#281] */
    w.read_only = true;
    rig_make(t, &w);
    w.names = (msh_texts){upper, 2};
    w.path = "/A";
    assert_int_equal(rig_facts(t, rig_make(t, &w)).share, 0);
    msh_resvs_free(t);
}

static void writable_shares_can_be_denied(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(&(msh_resvs_config){.no_writable = true});
    rig_refused(t, &(msh_want){.bus = MSH_BUS_PLAN9, .path = "/a"}, MSH_PERMISSION_DENIED); /* [#284] */
    assert_int_equal(rig_facts(t, rig_make(t, SHARE("/a"))).share, 0);
    msh_facts f = {.want = {.bus = MSH_BUS_PLAN9, .path = "/b"}, .share = 8, .port = MSH_PLAN9_PORT};
    assert_int_equal(msh_resv_restore(t, 50, &f, NULL), MSH_PERMISSION_DENIED);
    msh_resvs_free(t);
}

static void names_cannot_leave_the_directory(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    static const char *const bad[] = {".", "..", "a/b", "/a", "", "a\nb", NULL};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        rig_refused(
            t, &(msh_want){.bus = MSH_BUS_PLAN9, .path = "/a", .restrict_names = true, .names = {&bad[i], 1}},
            MSH_INVALID_ARGUMENT);
    static const char *const good[] = {"x"};
    rig_refused(t, &(msh_want){.bus = MSH_BUS_PLAN9, .path = "/a", .restrict_names = true},
                MSH_INVALID_ARGUMENT);
    rig_refused(t, &(msh_want){.bus = MSH_BUS_PLAN9, .path = "/a", .names = {good, 1}}, MSH_INVALID_ARGUMENT);
    rig_refused(t, &(msh_want){.bus = MSH_BUS_PLAN9, .path = "/a", .partition = 1}, MSH_INVALID_ARGUMENT);
    rig_refused(t, &(msh_want){.bus = MSH_BUS_PLAN9, .path = "/a", .mount.encrypted = true},
                MSH_INVALID_ARGUMENT);
    rig_empty(t);
}

static void add_then_mount(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    static const char *const file[] = {"resolv.conf"};
    msh_want w = {
        .bus = MSH_BUS_PLAN9, .path = "/etc", .read_only = true, .restrict_names = true, .names = {file, 1}};
    msh_resv r = rig_make(t, &w);
    rig_aim(t, r, MSH_AIM_MAPPED); /* [#285] */
    msh_effect e = rig_starts(t, "add /etc #0");
    assert_true(e.facts.want.read_only && e.facts.want.restrict_names); /* [#287] */
    assert_int_equal(e.facts.want.names.n, 1);
    assert_string_equal(e.facts.want.names.items[0], "resolv.conf");
    msh_resv_done(t, e.id, MSH_DONE_OK);
    e = rig_starts(t, "mount /etc #0");
    assert_string_equal(e.facts.guest_path, "/run/mounts/plan9/0");
    assert_int_equal(e.facts.port, 564);
    assert_true(e.facts.want.read_only);
    msh_resv_done(t, e.id, MSH_DONE_OK);
    rig_settled(t, r, MSH_OK);
    rig_up(t, r, NULL, NULL); /* [#288] */
    rig_aim(t, r, MSH_AIM_RELEASED);
    e = rig_starts(t, "unmount /etc #0");
    assert_true(e.facts.want.read_only);
    assert_int_equal(e.facts.port, 564);
    msh_resv_done(t, e.id, MSH_DONE_OK);
    rig_ok(t, "remove /etc #0");
    rig_settled(t, r, MSH_OK);
    assert_int_equal(msh_resv_aim(t, r, MSH_AIM_MAPPED), MSH_NOT_FOUND); /* [#300] */
    assert_int_equal(msh_resv_aim(t, r, MSH_AIM_RELEASED), MSH_NOT_FOUND);
    assert_int_equal(msh_resv_aim(t, 99, MSH_AIM_MAPPED), MSH_NOT_FOUND);
    rig_empty(t);
}

static void two_users_share_one(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv one = rig_make(t, SHARE("/a")), two = rig_make(t, SHARE("/a"));
    rig_up(t, one, "add /a #0", "mount /a #0");
    rig_up(t, two, NULL, NULL);
    rig_leave(t, one);                                 /* [#289] */
    rig_down(t, two, "unmount /a #0", "remove /a #0"); /* [#290] */
    rig_empty(t);
}

static void a_failed_add_drains_without_calls(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv one = rig_make(t, SHARE("/a")), two = rig_make(t, SHARE("/a"));
    rig_aim(t, one, MSH_AIM_MAPPED);
    rig_aim(t, two, MSH_AIM_MAPPED);
    rig_does(t, "add /a #0", MSH_DONE_FAILED);
    rig_settled(t, one, MSH_INTERNAL); /* [#291] */
    rig_settled(t, two, MSH_INTERNAL);
    rig_leave(t, one); /* [#292] */
    rig_leave(t, two);
    one = rig_make(t, SHARE("/a"));
    rig_up(t, one, "add /a #1", "mount /a #1");
    rig_down(t, one, "unmount /a #1", "remove /a #1");
    rig_empty(t);
}

static void a_failed_mount_removes_the_share_after_the_last(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv one = rig_make(t, SHARE("/a")), two = rig_make(t, SHARE("/a"));
    rig_aim(t, one, MSH_AIM_MAPPED);
    rig_ok(t, "add /a #0");
    rig_does(t, "mount /a #0", MSH_DONE_FAILED);
    rig_settled(t, one, MSH_INTERNAL);
    msh_resv three = rig_make(t, SHARE("/a")); /* [#302] taken; the next try is a fresh one */
    rig_aim(t, three, MSH_AIM_MAPPED);
    rig_does(t, "mount /a #0", MSH_DONE_FAILED);
    rig_settled(t, three, MSH_INTERNAL);
    rig_leave(t, one);
    rig_leave(t, two);                        /* [#294] */
    rig_down(t, three, NULL, "remove /a #0"); /* [#293] */
    rig_empty(t);
}

static void a_release_that_failed_goes_on_where_it_stopped(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv r = rig_make(t, SHARE("/a"));
    rig_up(t, r, "add /a #0", "mount /a #0");
    rig_aim(t, r, MSH_AIM_RELEASED);
    rig_does(t, "unmount /a #0", MSH_DONE_FAILED); /* [#295] */
    rig_settled(t, r, MSH_INTERNAL);
    rig_aim(t, r, MSH_AIM_RELEASED);
    rig_ok(t, "unmount /a #0");
    rig_does(t, "remove /a #0", MSH_DONE_FAILED); /* [#296] */
    rig_settled(t, r, MSH_INTERNAL);
    msh_resv two = rig_make(t, SHARE("/a")); /* [#297] the share is still there */
    rig_up(t, two, NULL, "mount /a #0");
    rig_leave(t, r);
    rig_up(t, two, NULL, NULL);
    rig_down(t, two, "unmount /a #0", "remove /a #0");
    rig_empty(t);
}

static void who_never_mapped_leaves_others_alone(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv one = rig_make(t, SHARE("/a")), two = rig_make(t, SHARE("/a"));
    rig_leave(t, one); /* [#299] */
    rig_up(t, two, "add /a #0", "mount /a #0");
    rig_down(t, two, "unmount /a #0", "remove /a #0");
    one = rig_make(t, SHARE("/a"));
    rig_leave(t, one); /* [#298] */
    rig_empty(t);
}

static void a_dead_guest_ends_only_the_unmount(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv r = rig_make(t, SHARE("/a"));
    rig_up(t, r, "add /a #0", "mount /a #0");
    rig_aim(t, r, MSH_AIM_RELEASED); /* [#303] */
    rig_does(t, "unmount /a #0", MSH_DONE_GONE);
    rig_does(t, "remove /a #0", MSH_DONE_GONE);
    rig_settled(t, r, MSH_OK);
    rig_empty(t);
}

static void shares_do_not_wait_for_each_other(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv a = rig_make(t, SHARE("/a")), b = rig_make(t, SHARE("/b"));
    rig_aim(t, a, MSH_AIM_MAPPED);
    rig_starts(t, "add /a #0");
    rig_up(t, b, "add /b #1", "mount /b #1"); /* [#304] */
    msh_resvs_free(t);
}

static void restored_shares_keep_their_names(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_facts f = {.want = *SHARE("/a"), .share = 41, .port = MSH_PLAN9_PORT, .held = MSH_HELD_MAPPED};
    msh_err e;
    assert_int_equal(msh_resv_restore(t, 5, &f, &e), MSH_OK);
    assert_string_equal(rig_facts(t, 5).guest_path, "/run/mounts/plan9/41");
    f.want.path = "/b";
    assert_int_equal(msh_resv_restore(t, 6, &f, &e), MSH_FAILED_PRECONDITION); /* the name is taken */
    f.share = UINT64_MAX;
    assert_int_equal(msh_resv_restore(t, 6, &f, &e), MSH_INVALID_ARGUMENT);
    f.share = 4;
    f.port = 0;
    assert_int_equal(msh_resv_restore(t, 6, &f, &e), MSH_INVALID_ARGUMENT);
    assert_int_equal(rig_facts(t, rig_make(t, SHARE("/c"))).share, 42);
    rig_down(t, 5, "unmount /a #41", "remove /a #41");
    msh_resvs_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENARIO("names are numbers that only grow [#278] [#279] [#301]", names_are_numbers_that_only_grow),
        SCENARIO("the key is path, rights and names [#280] [#281] [#282] [#283]",
                 the_key_is_path_rights_and_names),
        SCENARIO("writable shares can be denied before any change [#284]", writable_shares_can_be_denied),
        SCENARIO("names cannot leave the directory", names_cannot_leave_the_directory),
        SCENARIO("add, then mount; again is nothing [#285] [#287] [#288] [#300]", add_then_mount),
        SCENARIO("two users share one [#289] [#290]", two_users_share_one),
        SCENARIO("a failed add drains without calls [#291] [#292]", a_failed_add_drains_without_calls),
        SCENARIO("a failed mount removes the share after the last [#293] [#294] [#302]",
                 a_failed_mount_removes_the_share_after_the_last),
        SCENARIO("a release that failed goes on where it stopped [#295] [#296] [#297]",
                 a_release_that_failed_goes_on_where_it_stopped),
        SCENARIO("who never mapped leaves others alone [#298] [#299]", who_never_mapped_leaves_others_alone),
        SCENARIO("a dead guest ends only the unmount [#303]", a_dead_guest_ends_only_the_unmount),
        SCENARIO("shares do not wait for each other [#304]", shares_do_not_wait_for_each_other),
        SCENARIO("restored shares keep their names", restored_shares_keep_their_names),
    };
    return cmocka_run_group_tests_name("shares", tests, NULL, NULL);
}

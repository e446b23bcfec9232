/* Scenarios of PCI devices; the number in brackets is the one of the behaviour specification. */
#include "device/rig.h"

#define G1              "11111111-1111-4111-8111-111111111111"
#define G2              "22222222-2222-4222-8222-222222222222"
#define DEVICE(p, f, g) (&(msh_want){.bus = MSH_BUS_VPCI, .path = (p), .vf = (f), .instance = (g)})

static void refused(msh_resvs *t, msh_resv r) /* an aim at a spoiled device: an error, and no call */
{
    rig_aim(t, r, MSH_AIM_MAPPED);
    rig_no_effect(t);
    rig_settled(t, r, MSH_FAILED_PRECONDITION);
    rig_rests(t);
}

static void the_key_is_path_and_function(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv a = rig_make(t, DEVICE("/dev/x", 0, G1)); /* [#306] */
    rig_rests(t);
    assert_string_equal(rig_facts(t, a).want.instance, G1);
    assert_string_equal(rig_facts(t, a).guest_path, "");
    msh_resv b = rig_make(t, DEVICE("/dev/./x", 0, G2)); /* [#307] */
    assert_true(a != b);
    assert_string_equal(rig_facts(t, b).want.instance, G1);
    msh_resv vf = rig_make(t, DEVICE("/dev/x", 3, G2)); /* [#308] */
    assert_string_equal(rig_facts(t, vf).want.instance, G2);
    assert_int_equal(rig_facts(t, vf).want.vf, 3);
    rig_refused(t, DEVICE("/dev/y", 0, G2), MSH_FAILED_PRECONDITION); /* an instance names one device */
    rig_refused(t, DEVICE("/dev/y", 65536, G1), MSH_INVALID_ARGUMENT);
    rig_refused(t, DEVICE("/dev/y", 0, NULL), MSH_INVALID_ARGUMENT); /* [#325] */
    rig_refused(t, DEVICE("/dev/y", 0, "A1111111-1111-4111-8111-111111111111"), MSH_INVALID_ARGUMENT);
    msh_want w = *DEVICE("/dev/y", 0, "33333333-3333-4333-8333-333333333333");
    w.mount.read_only = true;
    rig_refused(t, &w, MSH_INVALID_ARGUMENT);
    rig_leave(t, a); /* [#313] */
    rig_leave(t, b);
    rig_leave(t, vf);
    rig_empty(t);
}

static void one_assignment_for_all_holders(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv a = rig_make(t, DEVICE("/dev/x", 2, G1)), b = rig_make(t, DEVICE("/dev/x", 2, G2));
    rig_up(t, a, "assign /dev/x:2", "wait /dev/x:2");
    assert_int_equal(rig_facts(t, a).held, MSH_HELD_MAPPED);
    rig_up(t, b, NULL, NULL); /* [#310] */
    rig_leave(t, a);          /* [#311] */
    assert_int_equal(rig_facts(t, b).held, MSH_HELD_MAPPED);
    rig_aim(t, b, MSH_AIM_RELEASED); /* [#312] [#321]: the guest is told nothing */
    rig_ok(t, "remove /dev/x:2");
    rig_no_effect(t);
    rig_settled(t, b, MSH_OK);
    msh_resv c = rig_make(t, DEVICE("/dev/x", 2, G2));
    assert_string_equal(rig_facts(t, c).want.instance, G2);
    rig_leave(t, c);
    rig_empty(t);
}

static void a_holder_that_never_added_takes_nothing_away(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv a = rig_make(t, DEVICE("/dev/x", 0, G1)), b = rig_make(t, DEVICE("/dev/x", 0, G1));
    rig_up(t, b, "assign /dev/x:0", "wait /dev/x:0");
    rig_leave(t, a); /* [#314] */
    assert_int_equal(rig_facts(t, b).held, MSH_HELD_MAPPED);
    rig_down(t, b, "remove /dev/x:0", NULL);
    rig_empty(t);
}

static void a_failed_assignment_leaves_nothing(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv a = rig_make(t, DEVICE("/dev/x", 0, G1)), b = rig_make(t, DEVICE("/dev/x", 0, G1));
    rig_aim(t, a, MSH_AIM_MAPPED);
    rig_aim(t, b, MSH_AIM_MAPPED);
    rig_does(t, "assign /dev/x:0", MSH_DONE_FAILED); /* [#315] */
    rig_settled(t, a, MSH_INTERNAL);
    rig_settled(t, b, MSH_INTERNAL);
    rig_rests(t);
    rig_leave(t, a); /* [#316] */
    rig_leave(t, b);
    rig_empty(t);
}

static void a_failed_wait_spoils_the_device(void **state)
{
    (void)state;
    static const msh_outcome bad[] = {MSH_DONE_FAILED, MSH_DONE_UNKNOWN, MSH_DONE_GONE};
    for (size_t i = 0; i < 3; i++) {
        msh_resvs *t = rig_new(NULL);
        msh_resv a = rig_make(t, DEVICE("/dev/x", 0, G1)), b = rig_make(t, DEVICE("/dev/x", 0, G1));
        rig_aim(t, a, MSH_AIM_MAPPED);
        rig_ok(t, "assign /dev/x:0");
        msh_effect wait = rig_starts(t, "wait /dev/x:0");
        msh_resv_done(t, wait.id, bad[i]);
        rig_settled(t, a,
                    bad[i] == MSH_DONE_FAILED ? MSH_INTERNAL
                    : bad[i] == MSH_DONE_GONE ? MSH_GONE
                                              : MSH_UNKNOWN);
        refused(t, a); /* [#317] */
        refused(t, b);
        msh_resv_done(t, wait.id, MSH_DONE_OK); /* an answer that comes now changes nothing */
        refused(t, b);
        rig_leave(t, a);
        rig_aim(t, b, MSH_AIM_RELEASED);
        rig_does(t, "remove /dev/x:0", MSH_DONE_FAILED); /* [#318] */
        rig_settled(t, b, MSH_INTERNAL);
        refused(t, b);
        rig_down(t, b, "remove /dev/x:0", NULL);
        rig_empty(t);
    }
}

static void a_failed_removal_is_repeated_and_spoils_the_device(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv a = rig_make(t, DEVICE("/dev/x", 0, G1));
    rig_up(t, a, "assign /dev/x:0", "wait /dev/x:0");
    rig_aim(t, a, MSH_AIM_RELEASED);
    msh_effect e = rig_starts(t, "remove /dev/x:0");
    msh_resv b = rig_make(t, DEVICE("/dev/x", 0, G2)); /* comes while it goes */
    rig_aim(t, b, MSH_AIM_MAPPED);
    msh_resv_done(t, e.id, MSH_DONE_FAILED); /* [#319] */
    rig_settled(t, a, MSH_OK);               /* it is the other's trouble now */
    rig_settled(t, b, MSH_INTERNAL);         /* and this is what it was */
    refused(t, b);
    rig_aim(t, b, MSH_AIM_RELEASED);
    rig_does(t, "remove /dev/x:0", MSH_DONE_FAILED);
    rig_settled(t, b, MSH_INTERNAL);
    refused(t, b);
    rig_down(t, b, "remove /dev/x:0", NULL);
    rig_empty(t);
}

static void who_comes_while_it_goes_gets_it_anew(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv a = rig_make(t, DEVICE("/dev/x", 0, G1));
    rig_up(t, a, "assign /dev/x:0", "wait /dev/x:0");
    rig_aim(t, a, MSH_AIM_RELEASED);
    msh_effect e = rig_starts(t, "remove /dev/x:0");
    msh_resv b = rig_make(t, DEVICE("/dev/x", 0, G2));
    rig_settled(t, a, MSH_OK);
    rig_aim(t, b, MSH_AIM_MAPPED);
    rig_no_effect(t);
    msh_resv_done(t, e.id, MSH_DONE_OK);
    rig_ok(t, "assign /dev/x:0");
    rig_ok(t, "wait /dev/x:0"); /* not taken for seen because it was before */
    rig_settled(t, b, MSH_OK);
    rig_down(t, b, "remove /dev/x:0", NULL);
    rig_empty(t);
}

static void unknown_ids_and_vms_that_are_gone(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    assert_int_equal(msh_resv_aim(t, 7, MSH_AIM_MAPPED), MSH_NOT_FOUND); /* [#320] */
    assert_int_equal(msh_resv_aim(t, 7, MSH_AIM_RELEASED), MSH_NOT_FOUND);
    msh_resv a = rig_make(t, DEVICE("/dev/x", 0, G1));
    rig_up(t, a, "assign /dev/x:0", "wait /dev/x:0");
    rig_aim(t, a, MSH_AIM_RELEASED);
    rig_does(t, "remove /dev/x:0", MSH_DONE_GONE); /* [#322] */
    rig_settled(t, a, MSH_OK);
    rig_empty(t);
}

static void devices_of_the_vm_document_are_shared_and_stay(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    assert_int_equal(msh_resvs_boot_device(t, "/dev/gpu", 1, G1, NULL), MSH_OK);
    assert_int_equal(msh_resvs_boot_device(t, "/dev/gpu", 1, G2, NULL), MSH_ALREADY_EXISTS);
    assert_int_equal(msh_resvs_boot_device(t, "/dev/gpu", 2, G1, NULL), MSH_FAILED_PRECONDITION);
    msh_resv a = rig_make(t, DEVICE("/dev/gpu", 1, G2)); /* [#323] */
    assert_string_equal(rig_facts(t, a).want.instance, G1);
    rig_up(t, a, NULL, NULL);
    rig_leave(t, a);
    rig_empty(t);
}

static void slow_waits_hold_up_nobody_else(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_resv a = rig_make(t, DEVICE("/dev/a", 0, G1)), b = rig_make(t, DEVICE("/dev/b", 0, G2));
    rig_aim(t, a, MSH_AIM_MAPPED);
    rig_ok(t, "assign /dev/a:0");
    msh_effect slow = rig_starts(t, "wait /dev/a:0");
    rig_up(t, b, "assign /dev/b:0", "wait /dev/b:0"); /* [#324] */
    msh_resv_done(t, slow.id, MSH_DONE_OK);
    rig_settled(t, a, MSH_OK);
    msh_resvs_free(t);
}

static void a_crash_is_survived_by_facts(void **state)
{
    (void)state;
    msh_resvs *t = rig_new(NULL);
    msh_facts f = {.want = *DEVICE("/dev/x", 1, G1), .held = MSH_HELD_MAPPED};
    assert_int_equal(msh_resv_restore(t, 5, &f, NULL), MSH_OK);
    assert_int_equal(rig_facts(t, 5).held, MSH_HELD_MAPPED);
    f.want.instance = G2; /* the same device cannot be there twice */
    assert_int_equal(msh_resv_restore(t, 6, &f, NULL), MSH_FAILED_PRECONDITION);
    f.want.path = "/dev/y";
    f.port = MSH_PLAN9_PORT;
    assert_int_equal(msh_resv_restore(t, 6, &f, NULL), MSH_INVALID_ARGUMENT);
    f.port = 0;
    f.held = MSH_HELD_INTENDED;
    assert_int_equal(msh_resv_restore(t, 6, &f, NULL), MSH_OK);
    refused(t, 6); /* nobody knows whether it was assigned */
    rig_down(t, 6, "remove /dev/y:1", NULL);
    rig_down(t, 5, "remove /dev/x:1", NULL);
    rig_empty(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENARIO("the key is path and function [#306] [#307] [#308] [#313] [#325]",
                 the_key_is_path_and_function),
        SCENARIO("one assignment for all holders [#310] [#311] [#312] [#321]",
                 one_assignment_for_all_holders),
        SCENARIO("a holder that never added takes nothing away [#314]",
                 a_holder_that_never_added_takes_nothing_away),
        SCENARIO("a failed assignment leaves nothing [#315] [#316]", a_failed_assignment_leaves_nothing),
        SCENARIO("a failed wait spoils the device until it was removed [#317] [#318]",
                 a_failed_wait_spoils_the_device),
        SCENARIO("a failed removal is repeated and spoils the device [#319]",
                 a_failed_removal_is_repeated_and_spoils_the_device),
        SCENARIO("who comes while it goes gets it anew", who_comes_while_it_goes_gets_it_anew),
        SCENARIO("unknown ids, and VMs that are gone [#320] [#322]", unknown_ids_and_vms_that_are_gone),
        SCENARIO("devices of the VM's document are shared and stay [#323]",
                 devices_of_the_vm_document_are_shared_and_stay),
        SCENARIO("slow waits hold up nobody else [#324]", slow_waits_hold_up_nobody_else),
        SCENARIO("a crash is survived by facts", a_crash_is_survived_by_facts),
    };
    return cmocka_run_group_tests_name("devices of the PCI bus", tests, NULL, NULL);
}

/* device/rig.h - for tests: a table whose effects and settlements are named in text. */
#ifndef MSH_DEVICE_RIG_H
#define MSH_DEVICE_RIG_H
#include "device/resv.h"
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SCENARIO(text, fn)                                                                                   \
    {                                                                                                        \
        text, fn, NULL, NULL, NULL                                                                           \
    }
#define DISK(p)  (&(msh_want){.bus = MSH_BUS_SCSI, .path = (p), .read_only = true, .mount.read_only = true})
#define SHARE(p) (&(msh_want){.bus = MSH_BUS_PLAN9, .path = (p), .read_only = true})

static inline msh_resvs *rig_new(const msh_resvs_config *config)
{
    msh_resvs *t = NULL;
    static const msh_resvs_config none;
    assert_int_equal(msh_resvs_new(config != NULL ? config : &none, &t, NULL), MSH_OK);
    return t;
}

static inline msh_resv rig_make(msh_resvs *t, const msh_want *want)
{
    msh_resv r = 0;
    msh_err e = {0};
    if (msh_resv_make(t, want, &r, &e) != MSH_OK)
        fail_msg("make: %s: %s", msh_code_text(e.code), e.msg);
    return r;
}

static inline void rig_refused(msh_resvs *t, const msh_want *want, msh_code code)
{
    msh_resvs_counts before = msh_resvs_count(t), after;
    msh_resv r = 77;
    msh_err e = {0};
    assert_int_equal(msh_resv_make(t, want, &r, &e), code);
    assert_int_equal(e.code, code);
    assert_true(e.msg[0] != '\0');
    assert_int_equal(r, 77);
    after = msh_resvs_count(t);
    assert_memory_equal(&before, &after, sizeof before); /* nothing was recorded */
}

static inline msh_facts rig_facts(msh_resvs *t, msh_resv r)
{
    msh_facts f;
    assert_int_equal(msh_resv_facts(t, r, &f), MSH_OK);
    return f;
}

static inline void rig_no_effect(msh_resvs *t)
{
    msh_effect e;
    if (msh_resv_effect(t, &e))
        fail_msg("an effect nobody expected: %s %s", msh_op_text(e.op), e.facts.want.path);
}

/* The next effect is `text`: "attach /a 0:1", "mount /a 0:1:0" (slot and partition), "add /d #0", "mount /d #0", "assign /x:0" (vf). */
static inline msh_effect rig_starts(msh_resvs *t, const char *text)
{
    msh_effect e;
    char is[5000];
    if (!msh_resv_effect(t, &e))
        fail_msg("no effect, expected: %s", text);
    if (e.facts.want.bus == MSH_BUS_PLAN9)
        snprintf(is, sizeof is, "%s %s #%" PRIu64, msh_op_text(e.op), e.facts.want.path, e.facts.share);
    else if (e.facts.want.bus == MSH_BUS_VPCI)
        snprintf(is, sizeof is, "%s %s:%u", msh_op_text(e.op), e.facts.want.path, e.facts.want.vf);
    else if (e.op == MSH_OP_MOUNT || e.op == MSH_OP_UNMOUNT)
        snprintf(is, sizeof is, "%s %s %u:%u:%u", msh_op_text(e.op), e.facts.want.path, e.facts.controller,
                 e.facts.lun, e.facts.want.partition);
    else
        snprintf(is, sizeof is, "%s %s %u:%u", msh_op_text(e.op), e.facts.want.path, e.facts.controller,
                 e.facts.lun);
    assert_string_equal(is, text);
    return e;
}

static inline void rig_does(msh_resvs *t, const char *text, msh_outcome outcome)
{
    msh_resv_done(t, rig_starts(t, text).id, outcome);
}

static inline void rig_ok(msh_resvs *t, const char *text)
{
    rig_does(t, text, MSH_DONE_OK);
}

static inline void rig_aim(msh_resvs *t, msh_resv r, msh_goal goal)
{
    assert_int_equal(msh_resv_aim(t, r, goal), MSH_OK);
}

/* Exactly this one settled, in this way. */
static inline void rig_settled(msh_resvs *t, msh_resv r, msh_code code)
{
    msh_resv is = 0;
    msh_code how;
    if (!msh_resv_settled(t, &is, &how))
        fail_msg("reservation %" PRIu64 " did not settle", r);
    assert_int_equal(is, r);
    assert_string_equal(msh_code_text(how), msh_code_text(code));
    assert_int_equal(msh_resv_settlement(t)->resv, r);
    assert_int_equal(msh_resv_settlement(t)->err.code, code);
}

static inline void rig_rests(msh_resvs *t) /* nothing due, nothing settled */
{
    msh_resv r;
    msh_code code;
    rig_no_effect(t);
    if (msh_resv_settled(t, &r, &code))
        fail_msg("reservation %" PRIu64 " settled: %s", r, msh_code_text(code));
}

/* Up by these effects (NULL: none), all of them ok, and settled. */
static inline void rig_up(msh_resvs *t, msh_resv r, const char *first, const char *second)
{
    rig_aim(t, r, MSH_AIM_MAPPED);
    if (first != NULL)
        rig_ok(t, first);
    if (second != NULL)
        rig_ok(t, second);
    rig_settled(t, r, MSH_OK);
    rig_rests(t);
}

/* Released by these effects (NULL: none) and no other, all of them ok. */
static inline void rig_down(msh_resvs *t, msh_resv r, const char *first, const char *second)
{
    rig_aim(t, r, MSH_AIM_RELEASED);
    if (first != NULL)
        rig_ok(t, first);
    if (second != NULL)
        rig_ok(t, second);
    rig_no_effect(t);
    rig_settled(t, r, MSH_OK);
}

static inline void rig_leave(msh_resvs *t, msh_resv r) /* released without any effect */
{
    rig_down(t, r, NULL, NULL);
}

/* The last user of partition 0 of a disk goes: the whole way down. `slot` as in "0:1". */
static inline void rig_disk_down(msh_resvs *t, msh_resv r, const char *path, const char *slot)
{
    char text[200];
    rig_aim(t, r, MSH_AIM_RELEASED);
    snprintf(text, sizeof text, "unmount %s %s:0", path, slot);
    rig_ok(t, text);
    snprintf(text, sizeof text, "eject %s %s", path, slot);
    rig_ok(t, text);
    snprintf(text, sizeof text, "detach %s %s", path, slot);
    rig_ok(t, text);
    rig_no_effect(t);
    rig_settled(t, r, MSH_OK);
}

static inline void rig_empty(msh_resvs *t) /* ends the test */
{
    rig_rests(t);
    msh_resvs_counts c = msh_resvs_count(t);
    assert_int_equal(c.reservations + c.parents + c.mounts + c.running + c.slots_used, 0);
    msh_resvs_free(t);
}
#endif

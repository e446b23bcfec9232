/* Memory that runs out at any moment: every part refuses what it cannot do, keeps what it has, and loses nothing.
 * The linker puts these allocators in front of the real ones (--wrap). */
#include "bridge/session.h"
#include "device/resv.h"
#include "wire/frame.h"
#include "wire/gcs.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static long left = -1; /* allocations that succeed; -1: all */

void *__real_malloc(size_t n);
void *__real_calloc(size_t k, size_t n);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t k, size_t n);
void *__wrap_realloc(void *p, size_t n);

static bool granted(void)
{
    return left < 0 || left-- > 0;
}
void *__wrap_malloc(size_t n)
{
    return granted() ? __real_malloc(n) : NULL;
}
void *__wrap_calloc(size_t k, size_t n)
{
    return granted() ? __real_calloc(k, n) : NULL;
}
void *__wrap_realloc(void *p, size_t n)
{
    return granted() ? __real_realloc(p, n) : NULL;
}

static bool calls(long allowed) /* true when the memory was enough */
{
    msh_session *s = NULL;
    msh_session_event e;
    uint64_t id;
    int queued = 0, ended = 0;
    bool enough = true;
    left = allowed;
    if (msh_session_new(&(msh_session_config){.first_id = 0}, &s, NULL) != MSH_OK) {
        left = -1;
        return false;
    }
    for (int i = 0; i < 40; i++) {
        msh_code rc =
            msh_session_call(s, MSH_GCS_START, msh_slice_of("{}"), (msh_time)i + 1, NULL, &id, NULL);
        assert_true(rc == MSH_OK || rc == MSH_RESOURCE_EXHAUSTED);
        queued += rc == MSH_OK;
        enough = enough && rc == MSH_OK;
    }
    msh_session_tick(s, 10);
    static const char half[] = "\1\2\x10\x20\x40\0\0\0\0\0\0\0";
    msh_session_feed(s, (msh_slice){half, 12},
                     NULL); /* to be kept: a decoder without memory loses the connection */
    while (msh_session_event_next(s, &e))
        ended += e.kind == MSH_SESSION_FAILED;
    enough = enough && msh_session_state_of(s) == MSH_SESSION_OPEN;
    msh_session_lost(s, NULL);
    while (msh_session_event_next(s, &e))
        ended += e.kind == MSH_SESSION_FAILED;
    enough = enough && left != 0;
    left = -1;
    assert_int_equal(ended, queued); /* none is forgotten */
    msh_session_free(s);
    return enough;
}

static msh_code reserve(msh_resvs *t, unsigned i, msh_resv *r)
{
    static const char *const paths[] = {"/a", "/b", "/c", "/a"};
    static const char *const names[] = {"x", "y"};
    msh_want w = {.bus = i % 3 == 2 ? MSH_BUS_PLAN9 : MSH_BUS_SCSI, .path = paths[i % 4], .read_only = true};
    if (w.bus == MSH_BUS_PLAN9) {
        w.restrict_names = true;
        w.names = (msh_texts){names, 2};
    } else {
        w.partition = i / 4;
        w.mount.options = (msh_texts){names, 2};
    }
    return msh_resv_make(t, &w, r, NULL);
}

static void all_effects(msh_resvs *t)
{
    msh_effect e;
    msh_resv r;
    msh_code code;
    while (msh_resv_effect(t, &e))
        msh_resv_done(t, e.id, MSH_DONE_OK);
    while (msh_resv_settled(t, &r, &code))
        assert_true(code == MSH_OK || code == MSH_RESOURCE_EXHAUSTED);
}

static bool reservations(long allowed)
{
    enum { N = 24 };
    msh_resvs *t = NULL;
    msh_resv r[N] = {0};
    msh_resvs_config config = {.controllers = 1};
    bool enough = true;
    left = allowed;
    if (msh_resvs_new(&config, &t, NULL) != MSH_OK) {
        left = -1;
        return false;
    }
    for (unsigned i = 0; i < N; i++) {
        msh_resvs_counts before = msh_resvs_count(t);
        msh_code rc = reserve(t, i, &r[i]);
        assert_true(rc == MSH_OK || rc == MSH_RESOURCE_EXHAUSTED);
        if (rc != MSH_OK) {
            msh_resvs_counts after = msh_resvs_count(t);
            assert_memory_equal(&before, &after, sizeof before);
            enough = false;
        }
    }
    for (unsigned i = 0; i < N; i++)
        msh_resv_aim(t, r[i], MSH_AIM_MAPPED);
    all_effects(t);
    enough = enough && left != 0;
    left = -1; /* it comes back: whatever was reached can be released */
    for (unsigned i = 0; i < N; i++)
        msh_resv_aim(t, r[i], MSH_AIM_RELEASED);
    all_effects(t);
    msh_resvs_counts c = msh_resvs_count(t);
    assert_int_equal(c.reservations + c.parents + c.mounts + c.slots_used + c.running, 0);
    msh_resvs_free(t);
    return enough;
}

static void until_enough(bool (*run)(long))
{
    long allowed = 0;
    while (!run(allowed)) {
        allowed++;
        assert_true(allowed < 1000);
    }
    assert_true(allowed > 5);
}

static void a_bridge_without_memory_forgets_no_call(void **state)
{
    (void)state;
    until_enough(calls);
}

static void a_table_without_memory_loses_no_slot(void **state)
{
    (void)state;
    until_enough(reservations);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bridge_without_memory_forgets_no_call),
        cmocka_unit_test(a_table_without_memory_loses_no_slot),
    };
    return cmocka_run_group_tests_name("no memory", tests, NULL, NULL);
}

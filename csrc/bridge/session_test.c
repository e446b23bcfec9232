/* Tests of bridge/: every way a call can end, by hand and without a loop. Numbers in brackets are the scenarios of
 * the behaviour specification. */
#include "bridge/deadlines.h"
#include "bridge/session.h"
#include "wire/frame.h"
#include "wire/gcs.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static msh_session *start(const msh_session_config *config)
{
    static const msh_session_config none;
    msh_session *s = NULL;
    assert_int_equal(msh_session_new(config != NULL ? config : &none, &s, NULL), MSH_OK);
    return s;
}

static uint64_t call(msh_session *s, msh_time deadline, void *tag)
{
    uint64_t id = UINT64_MAX;
    assert_int_equal(msh_session_call(s, MSH_GCS_START, msh_slice_of("{}"), deadline, tag, &id, NULL),
                     MSH_OK);
    return id;
}

static void feed(msh_session *s, uint32_t type, uint64_t id, const char *body)
{
    static msh_buf b; /* stays until the events are read */
    b.start = b.end = 0;
    assert_int_equal(msh_frame_append(&b, type, id, msh_slice_of(body), false, MSH_FRAME_CEILING, NULL),
                     MSH_OK);
    assert_int_equal(msh_session_feed(s, msh_buf_slice(&b), NULL), MSH_OK);
}

static void expect_none(msh_session *s)
{
    msh_session_event e;
    assert_false(msh_session_event_next(s, &e));
}

static msh_session_event expect(msh_session *s, msh_session_kind kind, uint64_t id)
{
    msh_session_event e;
    assert_true(msh_session_event_next(s, &e));
    assert_int_equal(e.kind, kind);
    assert_int_equal(e.id, id);
    return e;
}

static void a_call_is_sent_as_one_frame_and_answered(void **state)
{
    (void)state;
    msh_session *s = start(NULL);
    int tag;
    uint64_t id = call(s, MSH_NEVER, &tag);
    assert_int_equal(id, 0);
    msh_buf batch;
    msh_buf_init(&batch, 0);
    assert_true(msh_session_out(s, &batch));
    static const uint8_t want[] = {1, 2, 0x10, 0x10, 19, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, '{', '}', '\n'};
    assert_int_equal(msh_buf_size(&batch), sizeof want);
    assert_memory_equal(msh_buf_slice(&batch).p, want, sizeof want);
    msh_buf_consume(&batch, sizeof want);
    assert_false(msh_session_out(s, &batch));
    feed(s, 0x20100201, 0, "{\"Result\":0}\n");
    msh_session_event e = expect(s, MSH_SESSION_ANSWER, 0);
    assert_ptr_equal(e.tag, &tag);
    assert_int_equal(e.payload.n, 12); /* without the newline */
    expect_none(s);
    assert_int_equal(msh_session_count(s).pending, 0);
    msh_session_free(s);
    msh_buf_free(&batch);
}

static void calls_made_together_leave_in_one_batch(void **state)
{
    (void)state;
    msh_session *s = start(NULL);
    for (int i = 0; i < 64; i++)
        call(s, MSH_NEVER, NULL);
    msh_buf batch;
    msh_buf_init(&batch, 0);
    assert_true(msh_session_out(s, &batch));
    assert_int_equal(msh_buf_size(&batch), 64 * 19);
    call(s, MSH_NEVER, NULL); /* while the batch is in flight */
    assert_int_equal(msh_buf_size(&batch), 64 * 19);
    msh_buf_consume(&batch, 64 * 19);
    assert_true(msh_session_out(s, &batch));
    assert_int_equal(msh_buf_size(&batch), 19);
    msh_buf_free(&batch);
    msh_session_free(s);
}

static void answers_come_in_any_order(void **state)
{
    (void)state;
    msh_session *s = start(&(msh_session_config){.first_id = 100});
    int tags[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(call(s, MSH_NEVER, &tags[i]), 100 + i);
    feed(s, 0x20100201, 102, "{}");
    assert_ptr_equal(expect(s, MSH_SESSION_ANSWER, 102).tag, &tags[2]);
    expect_none(s);
    feed(s, 0x20100201, 100, "{}");
    assert_ptr_equal(expect(s, MSH_SESSION_ANSWER, 100).tag, &tags[0]);
    expect_none(s);
    assert_int_equal(msh_session_count(s).pending, 1);
    assert_int_equal(msh_session_next_id(s), 103);
    msh_session_free(s);
}

static void one_late_call_fails_alone(void **state) /* [#392] */
{
    (void)state;
    msh_session *s = start(NULL);
    uint64_t slow = call(s, 100, NULL), other = call(s, 300, NULL), forever = call(s, MSH_NEVER, NULL);
    assert_int_equal(msh_session_wake(s), 100);
    msh_session_tick(s, 99);
    expect_none(s);
    msh_session_tick(s, 100);
    msh_session_event e = expect(s, MSH_SESSION_FAILED, slow);
    assert_int_equal(e.err.code, MSH_DEADLINE_EXCEEDED);
    assert_string_equal(e.err.op, "Start");
    assert_int_equal(msh_session_wake(s), 300);
    feed(s, 0x20100201, slow, "{}"); /* its answer, too late */
    expect_none(s);
    feed(s, 0x20100201, other, "{}");
    expect(s, MSH_SESSION_ANSWER, other);
    expect_none(s);
    feed(s, 0x20100201, forever, "{}");
    expect(s, MSH_SESSION_ANSWER, forever);
    expect_none(s);
    msh_session_counts c = msh_session_count(s);
    assert_int_equal(c.late, 1);
    assert_int_equal(c.expired, 1);
    assert_int_equal(c.received, 3);
    assert_int_equal(msh_session_state_of(s), MSH_SESSION_OPEN);
    assert_int_equal(msh_session_wake(s), MSH_NEVER);
    msh_session_free(s);
}

static void an_abandoned_call_gives_no_event_and_its_answer_reaches_nobody(void **state)
{
    (void)state;
    msh_session *s = start(NULL);
    int tag;
    void *back = NULL;
    uint64_t id = call(s, 50, &tag);
    assert_true(msh_session_abandon(s, id, &back));
    assert_ptr_equal(back, &tag);
    assert_false(msh_session_abandon(s, id, &back));
    assert_int_equal(msh_session_wake(s), MSH_NEVER);
    uint64_t next = call(s, MSH_NEVER, NULL);
    assert_true(next > id);
    feed(s, 0x20100201, id, "{}");
    expect_none(s);
    assert_int_equal(msh_session_count(s).late, 1);
    assert_int_equal(msh_session_count(s).pending, 1);
    msh_session_free(s);
}

static void what_makes_no_sense_is_counted_and_dropped(void **state) /* [#393] [#394] */
{
    (void)state;
    msh_session *s = start(NULL);
    uint64_t id = call(s, MSH_NEVER, NULL);
    feed(s, 0x20100201, 77, "{}"); /* never asked */
    expect_none(s);
    feed(s, 0x10100101, id, "{}"); /* a request from the guest */
    expect_none(s);
    assert_int_equal(msh_session_count(s).unknown, 2);
    feed(s, 0x20100101, id, "{}"); /* matched by id alone */
    expect(s, MSH_SESSION_ANSWER, id);
    expect_none(s);
    assert_int_equal(msh_session_count(s).mismatch, 1);
    feed(s, 0x20100201, id, "{}"); /* answered twice */
    expect_none(s);
    assert_int_equal(msh_session_count(s).late, 1);
    feed(s, 0x3fffff01, 0, "not JSON"); /* whoever listens judges it */
    assert_int_equal(expect(s, MSH_SESSION_NOTIFY, 0).type, 0x3fffff01);
    expect_none(s);
    assert_int_equal(msh_session_state_of(s), MSH_SESSION_OPEN);
    msh_session_free(s);
}

static void a_notification_before_the_answer_keeps_its_place(void **state) /* [#400] */
{
    (void)state;
    msh_session *s = start(NULL);
    uint64_t id = call(s, MSH_NEVER, NULL);
    msh_buf b;
    msh_buf_init(&b, 0);
    msh_frame_append(&b, MSH_GCS_CONTAINER_NOTIFICATION, 0, msh_slice_of("{\"n\":1}"), false, 65536, NULL);
    msh_frame_append(&b, 0x20100201, id, msh_slice_of("{}"), false, 65536, NULL);
    msh_frame_append(&b, MSH_GCS_CONTAINER_NOTIFICATION, 0, msh_slice_of("{\"n\":2}"), false, 65536, NULL);
    assert_int_equal(msh_session_feed(s, msh_buf_slice(&b), NULL), MSH_OK);
    assert_memory_equal(expect(s, MSH_SESSION_NOTIFY, 0).payload.p, "{\"n\":1}", 7);
    expect(s, MSH_SESSION_ANSWER, id);
    assert_memory_equal(expect(s, MSH_SESSION_NOTIFY, 0).payload.p, "{\"n\":2}", 7);
    expect_none(s);
    msh_buf_free(&b);
    msh_session_free(s);
}

static void loss_fails_all_calls_with_the_cause(void **state) /* [#396] */
{
    (void)state;
    msh_session *s = start(NULL);
    uint64_t a = call(s, 10, NULL), b = call(s, MSH_NEVER, NULL), c = call(s, 5, NULL);
    msh_err why;
    msh_fail(&why, MSH_UNAVAILABLE, "connection reset");
    msh_session_lost(s, &why);
    msh_session_lost(s, &why);
    uint64_t ids[] = {a, b, c};
    for (int i = 0; i < 3; i++) {
        msh_session_event e = expect(s, MSH_SESSION_FAILED, ids[i]);
        assert_int_equal(e.err.code, MSH_UNAVAILABLE);
        assert_string_equal(e.err.msg, "bridge lost: connection reset");
    }
    assert_string_equal(expect(s, MSH_SESSION_ENDED, 0).err.msg, "bridge lost: connection reset");
    expect_none(s);
    assert_int_equal(msh_session_wake(s), MSH_NEVER);
    msh_buf batch;
    msh_buf_init(&batch, 0);
    assert_false(msh_session_out(s, &batch));
    uint64_t id;
    msh_err e;
    assert_int_equal(msh_session_call(s, MSH_GCS_START, msh_slice_of("{}"), MSH_NEVER, NULL, &id, &e),
                     MSH_UNAVAILABLE);
    assert_string_equal(e.msg, "bridge lost: connection reset");
    assert_int_equal(msh_session_feed(s, msh_slice_of("x"), NULL), MSH_UNAVAILABLE);
    msh_session_free(s);
}

static void a_malformed_frame_loses_the_connection_after_what_came_before(void **state)
{
    (void)state;
    msh_session *s = start(NULL);
    uint64_t a = call(s, MSH_NEVER, NULL), b = call(s, MSH_NEVER, NULL);
    msh_buf in;
    msh_buf_init(&in, 0);
    msh_frame_append(&in, 0x20100201, a, msh_slice_of("{}"), false, 65536, NULL);
    msh_buf_append(&in, (msh_slice){"\1\2\x10\x20\3\0\0\0\0\0\0\0\0\0\0\0", 16});
    assert_int_equal(msh_session_feed(s, msh_buf_slice(&in), NULL), MSH_OK);
    expect(s, MSH_SESSION_ANSWER, a);
    assert_int_equal(expect(s, MSH_SESSION_FAILED, b).err.code, MSH_UNAVAILABLE);
    assert_int_equal(expect(s, MSH_SESSION_ENDED, 0).err.code, MSH_PROTOCOL);
    expect_none(s);
    assert_int_equal(msh_session_state_of(s), MSH_SESSION_LOST);
    msh_buf_free(&in);
    msh_session_free(s);
}

static void close_twice_is_fine_and_gives_no_end_event(void **state) /* [#397] */
{
    (void)state;
    msh_session *s = start(NULL);
    uint64_t a = call(s, MSH_NEVER, NULL);
    msh_session_close(s);
    msh_session_close(s);
    msh_session_lost(s, NULL);
    msh_session_event e = expect(s, MSH_SESSION_FAILED, a);
    assert_int_equal(e.err.code, MSH_UNAVAILABLE);
    assert_string_equal(e.err.msg, "bridge closed");
    expect_none(s);
    assert_int_equal(msh_session_state_of(s), MSH_SESSION_CLOSED);
    msh_session_free(s);
    msh_session_free(NULL);
}

static void a_payload_survives_a_close_from_its_handler(void **state)
{
    (void)state;
    msh_session *s = start(NULL);
    uint64_t id = call(s, MSH_NEVER, NULL);
    msh_buf in;
    msh_buf_init(&in, 0);
    msh_frame_append(&in, 0x20100201, id, msh_slice_of("{\"Result\":0}"), false, 65536, NULL);
    msh_slice all = msh_buf_slice(&in);
    for (size_t i = 0; i + 1 < all.n; i++) { /* in pieces, so that it lies in the session's own memory */
        assert_int_equal(msh_session_feed(s, (msh_slice){all.p + i, 1}, NULL), MSH_OK);
        expect_none(s);
    }
    assert_int_equal(msh_session_feed(s, (msh_slice){all.p + all.n - 1, 1}, NULL), MSH_OK);
    msh_session_event e = expect(s, MSH_SESSION_ANSWER, id);
    msh_session_close(s);
    assert_memory_equal(e.payload.p, "{\"Result\":0}", e.payload.n);
    expect_none(s);
    msh_buf_free(&in);
    msh_session_free(s);
}

static void what_waits_is_bounded(void **state)
{
    (void)state;
    msh_session *s = start(&(msh_session_config){.max_pending = 2, .max_out = 100, .max_frame = 1});
    uint64_t id = 99;
    msh_err e;
    char *big = malloc(70000);
    memset(big, 'x', 70000);
    assert_int_equal(msh_session_call(s, MSH_GCS_START, (msh_slice){big, 70000}, 1, NULL, &id, &e),
                     MSH_RESOURCE_EXHAUSTED); /* above the cap of a frame */
    assert_int_equal(msh_session_call(s, MSH_GCS_START, (msh_slice){big, 90}, 1, NULL, &id, &e),
                     MSH_RESOURCE_EXHAUSTED); /* above what may queue */
    assert_int_equal(id, 99);
    assert_int_equal(msh_session_next_id(s), 0); /* no id was used */
    assert_int_equal(msh_session_wake(s), MSH_NEVER);
    call(s, MSH_NEVER, NULL);
    call(s, MSH_NEVER, NULL);
    assert_int_equal(msh_session_call(s, MSH_GCS_START, msh_slice_of("{}"), 1, NULL, &id, &e),
                     MSH_RESOURCE_EXHAUSTED);
    assert_true(msh_session_abandon(s, 0, NULL));
    call(s, MSH_NEVER, NULL);
    assert_int_equal(msh_session_call(s, 0x20100101, msh_slice_of("{}"), 1, NULL, &id, &e),
                     MSH_INVALID_ARGUMENT);
    msh_session *none = NULL;
    assert_int_equal(msh_session_new(&(msh_session_config){.first_id = UINT64_MAX}, &none, &e),
                     MSH_INVALID_ARGUMENT);
    free(big);
    msh_session_free(s);
}

static void a_peer_that_never_reads_or_answers_holds_up_nobody(void **state)
{
    (void)state;
    msh_session *s = start(NULL); /* nothing is ever taken out */
    for (uint64_t i = 0; i < 100; i++)
        call(s, 1000, NULL);
    msh_session_tick(s, 2000);
    for (uint64_t i = 0; i < 100; i++) {
        msh_session_event e;
        assert_true(msh_session_event_next(s, &e));
        assert_int_equal(e.err.code, MSH_DEADLINE_EXCEEDED);
    }
    expect_none(s);
    msh_session_free(s);
}

static void a_frame_of_10_mb_passes_both_ways(void **state)
{
    (void)state;
    size_t n = 10u << 20;
    char *big = malloc(n + 1);
    memset(big, 'x', n);
    big[n] = '\0';
    msh_session *s = start(NULL);
    uint64_t id;
    assert_int_equal(msh_session_call(s, MSH_GCS_CREATE, (msh_slice){big, n}, MSH_NEVER, NULL, &id, NULL),
                     MSH_OK);
    msh_buf batch;
    msh_buf_init(&batch, 0);
    assert_true(msh_session_out(s, &batch));
    assert_int_equal(msh_buf_size(&batch), n + 17);
    feed(s, 0x20100101, id, big);
    assert_int_equal(expect(s, MSH_SESSION_ANSWER, id).payload.n, n);
    expect_none(s);
    msh_buf_consume(&batch, n + 17);
    call(s, MSH_NEVER, NULL);
    assert_true(msh_session_out(s, &batch));
    assert_true(batch.cap < 4096); /* the memory of the big batch is not kept */
    msh_buf_free(&batch);
    msh_session_free(s);
    free(big);
}

static void deadlines_come_out_in_order(void **state)
{
    (void)state;
    enum { N = 500 };
    static msh_deadline d[N];
    msh_deadlines h = {0};
    uint32_t seed = 7;
    for (int i = 0; i < N; i++) {
        seed = seed * 1664525u + 1013904223u;
        d[i].at = seed >> 20;
        assert_true(msh_deadlines_add(&h, &d[i]));
    }
    for (int i = 0; i < N; i += 3)
        msh_deadlines_remove(&h, &d[i]);
    msh_deadlines_remove(&h, &d[0]);
    msh_time last = 0;
    size_t left = h.n;
    for (size_t i = 0; i < left; i++) {
        msh_deadline *first = msh_deadlines_first(&h);
        assert_true(first->at >= last);
        last = first->at;
        msh_deadlines_remove(&h, first);
    }
    assert_null(msh_deadlines_first(&h));
    msh_deadlines_free(&h);
}

static void ten_thousand_calls_leave_nothing_behind(void **state)
{
    (void)state;
    msh_session *s = start(NULL);
    msh_buf batch;
    msh_buf_init(&batch, 0);
    uint64_t waits = call(s, MSH_NEVER, NULL); /* like the wait for a process: it stays while others pass */
    for (uint64_t i = 1; i <= 10000; i++) {
        uint64_t id = call(s, 10 * i, NULL);
        assert_true(msh_session_out(s, &batch));
        msh_buf_consume(&batch, msh_buf_size(&batch));
        if (i % 2) {
            feed(s, 0x20100201, id, "{}");
            expect(s, MSH_SESSION_ANSWER, id);
        } else {
            msh_session_tick(s, 10 * i);
            expect(s, MSH_SESSION_FAILED, id);
        }
        expect_none(s);
    }
    assert_int_equal(msh_session_count(s).pending, 1);
    feed(s, 0x20100201, waits, "{}");
    expect(s, MSH_SESSION_ANSWER, waits);
    msh_buf_free(&batch);
    msh_session_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_is_sent_as_one_frame_and_answered),
        cmocka_unit_test(calls_made_together_leave_in_one_batch),
        cmocka_unit_test(answers_come_in_any_order),
        cmocka_unit_test(one_late_call_fails_alone),
        cmocka_unit_test(an_abandoned_call_gives_no_event_and_its_answer_reaches_nobody),
        cmocka_unit_test(what_makes_no_sense_is_counted_and_dropped),
        cmocka_unit_test(a_notification_before_the_answer_keeps_its_place),
        cmocka_unit_test(loss_fails_all_calls_with_the_cause),
        cmocka_unit_test(a_malformed_frame_loses_the_connection_after_what_came_before),
        cmocka_unit_test(close_twice_is_fine_and_gives_no_end_event),
        cmocka_unit_test(a_payload_survives_a_close_from_its_handler),
        cmocka_unit_test(what_waits_is_bounded),
        cmocka_unit_test(a_peer_that_never_reads_or_answers_holds_up_nobody),
        cmocka_unit_test(a_frame_of_10_mb_passes_both_ways),
        cmocka_unit_test(deadlines_come_out_in_order),
        cmocka_unit_test(ten_thousand_calls_leave_nothing_behind),
    };
    return cmocka_run_group_tests_name("bridge", tests, NULL, NULL);
}

#include "transport/driver.h"
#include "transport/mem.h"
#include "wire/frame.h"
#include "wire/gcs.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
/* after the above */
#include <cmocka.h>

enum { RESPONSE = 0x10000000 }; /* added to a request's type */

typedef struct given {
    uv_loop_t loop;
    msh_driver *d;
    msh_stream *guest;
    msh_frame_decoder in;
    int deliveries, requests, answers, failures, notes, ended;
    msh_err err;
    bool silent, free_on_answer, inside;
    char last[32];
} given;

static void send_frame(given *g, uint32_t type, uint64_t id, const char *text)
{
    msh_buf out;
    msh_buf_init(&out, 0);
    assert_int_equal(msh_frame_append(&out, type, id, msh_slice_of(text), false, msh_frame_cap(0), NULL),
                     MSH_OK);
    assert_int_equal(msh_stream_write(g->guest, msh_buf_slice(&out), NULL, NULL, NULL), MSH_OK);
    msh_buf_free(&out);
}

static void on_guest_data(void *ctx, msh_slice bytes, int fd)
{
    given *g = ctx;
    msh_frame f;
    (void)fd;
    g->deliveries++;
    assert_int_equal(msh_frame_feed(&g->in, bytes, NULL), MSH_OK);
    while (msh_frame_next(&g->in, &f, NULL) == MSH_OK) {
        g->requests++;
        if (!g->silent)
            send_frame(g, f.type + RESPONSE, f.id, "{}");
    }
}

static void on_guest_end(void *ctx, const msh_err *err)
{
    (void)ctx, (void)err;
}

static void on_event(void *ctx, const msh_session_event *e)
{
    given *g = ctx;
    assert_false(g->inside);
    switch (e->kind) {
    case MSH_SESSION_ANSWER:
        g->answers++;
        if (g->free_on_answer) {
            msh_driver_free(g->d);
            g->d = NULL;
        }
        break;
    case MSH_SESSION_FAILED:
        g->failures++;
        g->err = e->err;
        break;
    case MSH_SESSION_NOTIFY:
        g->notes++;
        snprintf(g->last, sizeof g->last, "%.*s", (int)e->payload.n, e->payload.p);
        break;
    case MSH_SESSION_ENDED:
        g->ended++;
        g->err = e->err;
        break;
    }
}

static int given_driver(void **state)
{
    given *g = calloc(1, sizeof *g);
    msh_stream *host;
    assert_int_equal(uv_loop_init(&g->loop), 0);
    assert_int_equal(msh_mem_pair(&g->loop, &host, &g->guest, NULL), MSH_OK);
    msh_frame_decoder_init(&g->in, msh_frame_cap(0));
    assert_int_equal(
        msh_stream_read(g->guest, &(msh_reader){.data = on_guest_data, .end = on_guest_end, .ctx = g}, NULL),
        MSH_OK);
    assert_int_equal(msh_driver_new(host, NULL, on_event, g, &g->d, NULL), MSH_OK);
    *state = g;
    return 0;
}

static int after(void **state)
{
    given *g = *state;
    msh_driver_free(g->d);
    msh_stream_close(g->guest);
    uv_run(&g->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&g->loop), 0);
    msh_frame_decoder_free(&g->in);
    free(g);
    return 0;
}

static uint64_t call(given *g, msh_time deadline)
{
    uint64_t id = 0;
    g->inside = true;
    assert_int_equal(
        msh_driver_call(g->d, MSH_GCS_GET_PROPERTIES, msh_slice_of("{}"), deadline, NULL, &id, NULL), MSH_OK);
    g->inside = false;
    return id;
}

static void calls_of_one_turn_leave_in_one_write(void **state)
{
    given *g = *state;
    for (int i = 0; i < 100; i++)
        call(g, MSH_NEVER);
    while (g->answers < 100)
        uv_run(&g->loop, UV_RUN_ONCE);
    assert_int_equal(g->requests, 100);
    assert_int_equal(g->deliveries, 1);
    assert_int_equal(g->failures, 0);
}

static void a_deadline_ends_a_call_and_the_connection_lives_on(void **state)
{
    given *g = *state;
    g->silent = true;
    call(g, msh_now() + 5 * MSH_MS);
    call(g, msh_now() + MSH_MS); /* due before the first */
    while (g->failures < 2)
        uv_run(&g->loop, UV_RUN_ONCE);
    assert_int_equal(g->err.code, MSH_DEADLINE_EXCEEDED);
    g->silent = false;
    call(g, msh_now() + 3600 * 1000 * MSH_MS);
    while (g->answers < 1)
        uv_run(&g->loop, UV_RUN_ONCE);
    assert_int_equal(g->ended, 0);
}

static void notifications_come_through(void **state)
{
    given *g = *state;
    send_frame(g, MSH_GCS_CONTAINER_NOTIFICATION, 0, "exit");
    while (g->notes < 1)
        uv_run(&g->loop, UV_RUN_ONCE);
    assert_string_equal(g->last, "exit");
}

static void a_lost_peer_fails_what_waits(void **state)
{
    given *g = *state;
    g->silent = true;
    call(g, MSH_NEVER);
    while (g->requests < 1)
        uv_run(&g->loop, UV_RUN_ONCE);
    msh_stream_close(g->guest);
    g->guest = NULL;
    while (g->ended < 1)
        uv_run(&g->loop, UV_RUN_ONCE);
    assert_int_equal(g->failures, 1);
    assert_int_equal(g->err.code, MSH_UNAVAILABLE);
    uint64_t id;
    assert_int_equal(
        msh_driver_call(g->d, MSH_GCS_GET_PROPERTIES, msh_slice_of("{}"), MSH_NEVER, NULL, &id, NULL),
        MSH_UNAVAILABLE);
    assert_null(msh_driver_stream(g->d));
    uv_run(&g->loop, UV_RUN_DEFAULT); /* nothing keeps the loop alive */
}

static void a_malformed_frame_loses_the_connection(void **state)
{
    given *g = *state;
    call(g, MSH_NEVER);
    char bad[16] = {0};
    g->silent = true;
    assert_int_equal(msh_stream_write(g->guest, (msh_slice){bad, sizeof bad}, NULL, NULL, NULL), MSH_OK);
    while (g->ended < 1)
        uv_run(&g->loop, UV_RUN_ONCE);
    assert_int_equal(g->failures, 1);
    uv_run(&g->loop, UV_RUN_DEFAULT);
}

static void ending_tells_what_waits_and_freeing_tells_nothing(void **state)
{
    given *g = *state;
    g->silent = true;
    call(g, MSH_NEVER);
    g->inside = true;
    msh_driver_end(g->d);
    msh_driver_end(g->d);
    g->inside = false;
    uv_run(&g->loop, UV_RUN_DEFAULT);
    assert_int_equal(g->failures, 1);
    assert_int_equal(g->ended, 0);
}

static void an_event_may_free_the_driver(void **state)
{
    given *g = *state;
    g->free_on_answer = true;
    call(g, MSH_NEVER);
    call(g, MSH_NEVER);
    uv_run(&g->loop, UV_RUN_DEFAULT);
    assert_int_equal(g->answers, 1);
    assert_null(g->d);
}

static void a_peer_that_does_not_read_holds_calls_back(void **state)
{
    given *g = *state;
    msh_stream_stop(g->guest);
    char *big = malloc((1 << 20) + 1);
    memset(big, 'x', 1 << 20);
    big[1 << 20] = '\0';
    uint64_t id;
    msh_code rc = MSH_OK;
    int taken = 0;
    while (rc == MSH_OK && taken < 1000) {
        rc = msh_driver_call(g->d, MSH_GCS_GET_PROPERTIES, msh_slice_of(big), MSH_NEVER, NULL, &id, NULL);
        taken += rc == MSH_OK;
        uv_run(&g->loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(rc, MSH_RESOURCE_EXHAUSTED); /* a bound, not memory without end */
    assert_int_equal(
        msh_stream_read(g->guest, &(msh_reader){.data = on_guest_data, .end = on_guest_end, .ctx = g}, NULL),
        MSH_OK);
    while (g->answers < taken)
        uv_run(&g->loop, UV_RUN_ONCE);
    free(big);
}

#define WITH_DRIVER(f) cmocka_unit_test_setup_teardown(f, given_driver, after)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_DRIVER(calls_of_one_turn_leave_in_one_write),
        WITH_DRIVER(a_deadline_ends_a_call_and_the_connection_lives_on),
        WITH_DRIVER(notifications_come_through),
        WITH_DRIVER(a_lost_peer_fails_what_waits),
        WITH_DRIVER(a_malformed_frame_loses_the_connection),
        WITH_DRIVER(ending_tells_what_waits_and_freeing_tells_nothing),
        WITH_DRIVER(an_event_may_free_the_driver),
        WITH_DRIVER(a_peer_that_does_not_read_holds_calls_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* One suite over every carrier, so that the one in memory cannot drift from the real one. */
#include "sys/fd.h"
#include "transport/mem.h"
#include "transport/unix.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
/* after the above */
#include <cmocka.h>

typedef msh_code (*make_pair)(uv_loop_t *loop, msh_stream **a, msh_stream **b);

typedef struct ear { /* what one end has heard */
    char *bytes;
    size_t n;
    int ends;
    msh_err end_err;
    msh_stream *close_on_data;
} ear;

typedef struct given {
    uv_loop_t loop;
    msh_stream *a, *b;
    ear heard; /* by b */
    int done, failed;
    bool inside; /* a call is on the stack */
} given;

static msh_code unix_pair(uv_loop_t *loop, msh_stream **a, msh_stream **b)
{
    int p[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, p), 0);
    assert_int_equal(msh_unix_stream(loop, p[0], a, NULL), MSH_OK);
    return msh_unix_stream(loop, p[1], b, NULL);
}

static msh_code mem_pair(uv_loop_t *loop, msh_stream **a, msh_stream **b)
{
    return msh_mem_pair(loop, a, b, NULL);
}

static given *now; /* cmocka has no test context for callbacks */

static void on_data(void *ctx, msh_slice bytes, int fd)
{
    ear *e = ctx;
    assert_false(now->inside);
    assert_int_equal(fd, -1);
    assert_true(bytes.n > 0 && bytes.n <= MSH_STREAM_READ);
    e->bytes = realloc(e->bytes, e->n + bytes.n);
    memcpy(e->bytes + e->n, bytes.p, bytes.n);
    e->n += bytes.n;
    if (e->close_on_data != NULL) {
        msh_stream_close(e->close_on_data);
        e->close_on_data = NULL;
    }
}

static void on_end(void *ctx, const msh_err *err)
{
    ear *e = ctx;
    assert_false(now->inside);
    e->ends++;
    if (err != NULL)
        e->end_err = *err;
}

static void on_done(void *ctx, const msh_err *err)
{
    given *g = ctx;
    assert_false(g->inside);
    if (err != NULL)
        g->failed++;
    else
        g->done++;
}

static given *given_pair(void **state)
{
    make_pair make = *(make_pair *)state;
    given *g = calloc(1, sizeof *g);
    assert_int_equal(uv_loop_init(&g->loop), 0);
    assert_int_equal(make(&g->loop, &g->a, &g->b), MSH_OK);
    now = g;
    return g;
}

static void listen_b(given *g)
{
    assert_int_equal(
        msh_stream_read(g->b, &(msh_reader){.data = on_data, .end = on_end, .ctx = &g->heard}, NULL), MSH_OK);
}

static msh_code put(given *g, msh_stream *s, const char *p, size_t n)
{
    g->inside = true;
    msh_code rc = msh_stream_write(s, (msh_slice){p, n}, on_done, g, NULL);
    g->inside = false;
    return rc;
}

static void turn(given *g)
{
    for (int i = 0; i < 50; i++)
        uv_run(&g->loop, UV_RUN_NOWAIT);
}

static void after(given *g)
{
    msh_stream_close(g->a);
    msh_stream_close(g->b);
    uv_run(&g->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&g->loop), 0);
    free(g->heard.bytes);
    free(g);
}

static void bytes_arrive_in_order(void **state)
{
    given *g = given_pair(state);
    listen_b(g);
    for (int i = 0; i < 100; i++) {
        char c = (char)i;
        assert_int_equal(put(g, g->a, &c, 1), MSH_OK);
    }
    while (g->heard.n < 100 || g->done < 100)
        uv_run(&g->loop, UV_RUN_ONCE);
    for (int i = 0; i < 100; i++)
        assert_int_equal(g->heard.bytes[i], i);
    assert_int_equal(g->a->queued, 0);
    after(g);
}

static void a_large_write_is_taken_whole_and_the_next_waits_its_turn(void **state)
{
    given *g = given_pair(state);
    size_t n = 3 << 20;
    char *p = malloc(n);
    for (size_t i = 0; i < n; i++)
        p[i] = (char)(i * 7 + i / 251);
    g->a->limit = 1 << 20;
    assert_int_equal(put(g, g->a, p, n), MSH_OK); /* beyond the limit, but the queue was empty */
    assert_int_equal(put(g, g->a, "x", 1), MSH_RESOURCE_EXHAUSTED);
    assert_int_equal(put(g, g->a, NULL, 0),
                     MSH_OK); /* an empty one is a mark: told when all before it has left */
    listen_b(g);
    while (g->done < 2)
        uv_run(&g->loop, UV_RUN_ONCE);
    assert_int_equal(put(g, g->a, "x", 1), MSH_OK);
    while (g->heard.n < n + 1)
        uv_run(&g->loop, UV_RUN_ONCE);
    assert_memory_equal(g->heard.bytes, p, n);
    free(p);
    after(g);
}

static void a_shutdown_comes_after_the_last_byte_and_the_other_way_stays(void **state)
{
    given *g = given_pair(state);
    size_t n = 1 << 20;
    char *p = calloc(1, n);
    listen_b(g);
    assert_int_equal(put(g, g->a, p, n), MSH_OK);
    assert_int_equal(msh_stream_shutdown(g->a, on_done, g, NULL), MSH_OK);
    assert_int_equal(msh_stream_shutdown(g->a, on_done, g, NULL), MSH_FAILED_PRECONDITION);
    assert_int_equal(put(g, g->a, "late", 4), MSH_UNAVAILABLE);
    while (g->heard.ends == 0 || g->done < 2)
        uv_run(&g->loop, UV_RUN_ONCE);
    assert_int_equal(g->heard.n, n);
    assert_int_equal(g->heard.end_err.code, MSH_OK);
    assert_int_equal(msh_stream_read(g->b, &(msh_reader){0}, NULL), MSH_FAILED_PRECONDITION);
    ear back = {0};
    assert_int_equal(msh_stream_read(g->a, &(msh_reader){.data = on_data, .end = on_end, .ctx = &back}, NULL),
                     MSH_OK);
    assert_int_equal(put(g, g->b, "back", 4), MSH_OK);
    while (back.n < 4)
        uv_run(&g->loop, UV_RUN_ONCE);
    free(back.bytes);
    free(p);
    after(g);
}

static void nothing_is_delivered_while_stopped(void **state)
{
    given *g = given_pair(state);
    listen_b(g);
    msh_stream_stop(g->b);
    put(g, g->a, "abc", 3);
    turn(g);
    assert_int_equal(g->heard.n, 0);
    listen_b(g);
    while (g->heard.n < 3)
        uv_run(&g->loop, UV_RUN_ONCE);
    after(g);
}

static void a_peer_that_closes_is_an_end_after_its_bytes(void **state)
{
    given *g = given_pair(state);
    listen_b(g);
    put(g, g->a, "bye", 3);
    msh_stream_close(g->a);
    g->a = NULL;
    while (g->heard.ends == 0)
        uv_run(&g->loop, UV_RUN_ONCE);
    assert_int_equal(g->heard.n, 3);
    assert_int_equal(g->heard.ends, 1);
    assert_int_equal(put(g, g->b, "x", 1), MSH_UNAVAILABLE);
    turn(g);
    assert_int_equal(g->heard.ends, 1);
    assert_int_equal(g->done + g->failed, 0); /* both ends are silent about what was closed */
    after(g);
}

static void writes_on_their_way_to_a_peer_that_closes_fail(void **state)
{
    given *g = given_pair(state);
    size_t n = 4 << 20;
    char *p = calloc(1, n);
    put(g, g->a, p, n);
    put(g, g->a, p, n);
    turn(g);
    assert_int_equal(g->done, 0);
    msh_stream_close(g->b);
    g->b = NULL;
    while (g->failed < 2)
        uv_run(&g->loop, UV_RUN_ONCE);
    assert_int_equal(put(g, g->a, "x", 1), MSH_UNAVAILABLE);
    assert_int_equal(g->a->queued, 0);
    free(p);
    after(g);
}

static void closing_drops_callbacks(void **state)
{
    given *g = given_pair(state);
    char *p = calloc(1, 4 << 20);
    listen_b(g);
    put(g, g->a, p, 4 << 20);
    put(g, g->b, "x", 1);
    msh_stream_close(g->a);
    msh_stream_close(g->b);
    msh_stream_close(NULL);
    g->a = g->b = NULL;
    turn(g);
    assert_int_equal(g->done + g->failed + g->heard.ends + (int)g->heard.n, 0);
    free(p);
    after(g);
}

static void a_reader_may_close_everything(void **state)
{
    given *g = given_pair(state);
    listen_b(g);
    g->heard.close_on_data = g->b;
    g->b = NULL;
    put(g, g->a, "abc", 3);
    turn(g);
    assert_int_equal(g->heard.n, 3);
    assert_int_equal(g->heard.ends, 0);
    after(g);
}

#define OVER(carrier, f)                                                                                     \
    {                                                                                                        \
#carrier ": " #f, f, NULL, NULL, (void *)(carrier)                                                   \
    }
#define ALL_OVER(carrier)                                                                                    \
    OVER(carrier, bytes_arrive_in_order),                                                                    \
        OVER(carrier, a_large_write_is_taken_whole_and_the_next_waits_its_turn),                             \
        OVER(carrier, a_shutdown_comes_after_the_last_byte_and_the_other_way_stays),                         \
        OVER(carrier, nothing_is_delivered_while_stopped),                                                   \
        OVER(carrier, a_peer_that_closes_is_an_end_after_its_bytes),                                         \
        OVER(carrier, writes_on_their_way_to_a_peer_that_closes_fail),                                       \
        OVER(carrier, closing_drops_callbacks), OVER(carrier, a_reader_may_close_everything)

int main(void)
{
    const struct CMUnitTest tests[] = {ALL_OVER(unix_pair), ALL_OVER(mem_pair)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "sys/pool.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
/* after the above */
#include <cmocka.h>

typedef struct gate { /* a call that blocks until the test lets it go */
    uv_sem_t open, entered;
} gate;

typedef struct call {
    msh_job job;
    gate *gate;
    int in, out;
    int *done;
    _Atomic int *dropped;
    msh_pool *close;
} call;

static void work(msh_job *job)
{
    call *c = MSH_LIST_OF(job, call, job);
    if (c->gate != NULL) {
        uv_sem_post(&c->gate->entered);
        uv_sem_wait(&c->gate->open);
    }
    c->out = c->in * 2;
}

static void done(msh_job *job)
{
    call *c = MSH_LIST_OF(job, call, job);
    assert_int_equal(c->out, c->in * 2);
    ++*c->done;
    if (c->close != NULL)
        msh_pool_close(c->close);
    free(c);
}

static void drop(msh_job *job)
{
    call *c = MSH_LIST_OF(job, call, job);
    atomic_fetch_add(c->dropped, 1);
    free(c);
}

typedef struct given {
    uv_loop_t loop;
    msh_pool *pool;
    gate gate;
    int done;
    _Atomic int dropped;
} given;

static given *given_pool(unsigned threads, unsigned queue)
{
    given *g = calloc(1, sizeof *g);
    assert_int_equal(uv_loop_init(&g->loop), 0);
    assert_int_equal(msh_pool_new(&g->loop, threads, queue, &g->pool, NULL), MSH_OK);
    uv_sem_init(&g->gate.open, 0);
    uv_sem_init(&g->gate.entered, 0);
    return g;
}

static call *submit(given *g, int in, bool gated)
{
    call *c = calloc(1, sizeof *c);
    *c = (call){.job = {.work = work, .done = done, .drop = drop},
                .gate = gated ? &g->gate : NULL,
                .in = in,
                .done = &g->done,
                .dropped = &g->dropped};
    if (msh_pool_submit(g->pool, &c->job, NULL) == MSH_OK)
        return c;
    free(c);
    return NULL;
}

static void after(given *g)
{
    msh_pool_close(g->pool);
    uv_run(&g->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&g->loop), 0);
    uv_sem_destroy(&g->gate.open);
    uv_sem_destroy(&g->gate.entered);
    free(g);
}

static void every_job_is_done_on_the_loop(void **state)
{
    (void)state;
    given *g = given_pool(4, 1000);
    uv_run(&g->loop, UV_RUN_DEFAULT); /* an idle pool does not keep a loop alive */
    for (int i = 0; i < 1000; i++)
        assert_non_null(submit(g, i, false));
    assert_int_equal(g->done, 0); /* never from inside submit */
    assert_int_equal(msh_pool_pending(g->pool), 1000);
    uv_run(&g->loop, UV_RUN_DEFAULT);
    assert_int_equal(g->done, 1000);
    assert_int_equal(msh_pool_pending(g->pool), 0);
    assert_int_equal(g->dropped, 0);
    after(g);
}

static void a_stuck_call_holds_up_one_thread_only(void **state)
{
    (void)state;
    given *g = given_pool(2, 100);
    submit(g, 1, true);
    for (int i = 0; i < 50; i++)
        submit(g, i, false);
    while (g->done < 50)
        uv_run(&g->loop, UV_RUN_ONCE);
    assert_int_equal(msh_pool_pending(g->pool), 1);
    uv_sem_post(&g->gate.open);
    uv_run(&g->loop, UV_RUN_DEFAULT);
    assert_int_equal(g->done, 51);
    after(g);
}

static void the_queue_is_bounded(void **state)
{
    (void)state;
    given *g = given_pool(1, 2);
    submit(g, 1, true);
    uv_sem_wait(&g->gate.entered); /* it runs: the queue is empty */
    assert_non_null(submit(g, 2, false));
    assert_non_null(submit(g, 3, false));
    assert_null(submit(g, 4, false));
    uv_sem_post(&g->gate.open);
    uv_run(&g->loop, UV_RUN_DEFAULT);
    assert_int_equal(g->done, 3);
    after(g);
}

static void closing_waits_for_no_stuck_call(void **state)
{
    (void)state;
    given *g = given_pool(1, 10);
    submit(g, 1, true);
    uv_sem_wait(&g->gate.entered);
    submit(g, 2, false);
    submit(g, 3, false);
    msh_pool_close(g->pool);
    assert_int_equal(g->dropped, 2);
    uv_run(&g->loop, UV_RUN_DEFAULT);
    assert_int_equal(g->done, 0);
    uv_sem_post(&g->gate.open); /* the call comes back: its thread drops it */
    while (atomic_load(&g->dropped) < 3)
        uv_sleep(1);
    g->pool = NULL;
    after(g);
}

static void a_completion_may_close_the_pool(void **state)
{
    (void)state;
    given *g = given_pool(1, 10);
    call *c = submit(g, 1, true);
    submit(g, 2, false);
    c->close = g->pool;
    uv_sem_post(&g->gate.open);
    uv_run(&g->loop, UV_RUN_DEFAULT);
    while (g->done + atomic_load(&g->dropped) < 2)
        uv_sleep(1);
    assert_int_equal(g->done, 1);
    g->pool = NULL;
    after(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_job_is_done_on_the_loop),
        cmocka_unit_test(a_stuck_call_holds_up_one_thread_only),
        cmocka_unit_test(the_queue_is_bounded),
        cmocka_unit_test(closing_waits_for_no_stuck_call),
        cmocka_unit_test(a_completion_may_close_the_pool),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

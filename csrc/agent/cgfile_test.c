#include "agent/cgfile.h"
#include "agent/cgroup_fixture.h"
#include "agent/freezer.h"
#include <errno.h>
#include <pthread.h>
#include <time.h>

static void names_files_by_version(void **state)
{
    (void)state;
    char path[MSH_CG_PATH];
    msh_cg v1 = msh_cg_at("/r", false, "/pods/c1"), v2 = msh_cg_at("/r", true, "/pods/c1"),
           top = msh_cg_at("/r", true, "/");
    assert_string_equal(msh_cg_path(&v1, "memory", "memory.stat", path), "/r/memory/pods/c1/memory.stat");
    assert_string_equal(msh_cg_path(&v2, "memory", "memory.stat", path), "/r/pods/c1/memory.stat");
    assert_string_equal(msh_cg_path(&top, "", "cgroup.procs", path), "/r/cgroup.procs");
}

static void reads_numbers_and_no_limit(void **state)
{
    (void)state;
    uint64_t v = 7;
    tree one = new_tree(false, "/c"), two = new_tree(true, "/c");
    given(&one, "memory", "memory.limit_in_bytes", "9223372036854771712");
    given(&two, "", "memory.max", "max");
    given(&two, "", "pids.max", "12 apples");
    given(&two, "", "pids.current", "many");
    assert_true(msh_cg_number(&one.cg, "memory", "memory.limit_in_bytes", &v));
    assert_true(v == MSH_CG_UNLIMITED);
    v = 7;
    assert_true(msh_cg_number(&two.cg, "memory", "memory.max", &v));
    assert_true(v == MSH_CG_UNLIMITED);
    v = 7;
    assert_false(msh_cg_number(&two.cg, "pids", "pids.current", &v));
    assert_false(msh_cg_number(&two.cg, "pids", "absent", &v));
    assert_int_equal(v, 7);
    free_tree(&one);
    free_tree(&two);
}

static void a_text_longer_than_the_buffer_is_not_half_read(void **state)
{
    (void)state;
    char text[8];
    tree t = new_tree(true, "c");
    given(&t, "", "f", "12345678");
    assert_false(msh_cg_read(&t.cg, "", "f", text, sizeof text));
    given(&t, "", "f", "123456");
    assert_true(msh_cg_read(&t.cg, "", "f", text, sizeof text));
    assert_string_equal(text, "123456");
    free_tree(&t);
}

static void a_key_is_a_whole_word_at_a_line_start(void **state)
{
    (void)state;
    uint64_t v = 0;
    const char text[] = "oom_kill_disable 0\nunder_oom 1\noom_kill 42\n";
    assert_true(msh_cg_key(text, "oom_kill", &v));
    assert_int_equal(v, 42);
    assert_false(msh_cg_key(text, "oom", &v));
    assert_false(msh_cg_key(text, "kill", &v));
    assert_false(msh_cg_key("", "oom_kill", &v));
}

static void the_memory_limit_is_the_least_on_the_way_up(void **state)
{
    (void)state;
    tree t = new_tree(true, "pods/p/c");
    given(&t, "", "memory.max", "max");
    assert_true(msh_cg_memory_limit(&t.cg) == MSH_CG_UNLIMITED);
    tree up = t;
    assert_true(msh_cg_up(&up.cg));
    given(&up, "", "memory.max", "1048576");
    assert_int_equal(msh_cg_memory_limit(&t.cg), 1048576);
    assert_true(msh_cg_up(&up.cg));
    given(&up, "", "memory.max", "4096");
    assert_int_equal(msh_cg_memory_limit(&t.cg), 4096);
    assert_true(msh_cg_up(&up.cg));
    assert_false(msh_cg_up(&up.cg));
    free_tree(&t);
}

static void counts_kills_on_both_versions(void **state)
{
    (void)state;
    uint64_t v = 0;
    tree one = new_tree(false, "c"), two = new_tree(true, "c");
    assert_false(msh_cg_oom_kills(&one.cg, &v));
    given(&one, "memory", "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3");
    given(&two, "", "memory.events", "low 0\nhigh 0\nmax 12\noom 2\noom_kill 5\noom_group_kill 0");
    assert_true(msh_cg_oom_kills(&one.cg, &v));
    assert_int_equal(v, 3);
    assert_true(msh_cg_oom_kills(&two.cg, &v));
    assert_int_equal(v, 5);
    free_tree(&one);
    free_tree(&two);
}

/* ---- freezer ---- */

enum { HOUR = 3600 * 1000 };

/* The kernel's part, on a thread: tells that everything is frozen once it was asked to. */
typedef struct kernel {
    const tree *t;
    bool stop;
} kernel;

static void *answer(void *arg)
{
    kernel *k = arg;
    while (!__atomic_load_n(&k->stop, __ATOMIC_ACQUIRE)) {
        given(k->t, "", "cgroup.events",
              msh_frozen(&k->t->cg) ? "populated 1\nfrozen 1" : "populated 1\nfrozen 0");
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return NULL;
}

static void freezes_when_the_kernel_says_so(void **state)
{
    (void)state;
    tree one = new_tree(false, "c"), two = new_tree(true, "c");
    bool cancel = false;
    given(&one, "freezer", "freezer.state", "THAWED");
    assert_false(msh_frozen(&one.cg));
    assert_int_equal(msh_freeze(&one.cg, HOUR, &cancel, NULL), MSH_OK); /* a file keeps what is written */
    holds(&one, "freezer", "freezer.state", "FROZEN");
    assert_true(msh_frozen(&one.cg));
    msh_thaw(&one.cg);
    holds(&one, "freezer", "freezer.state", "THAWED");

    given(&two, "", "cgroup.freeze", "0");
    kernel k = {.t = &two};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, answer, &k), 0);
    assert_int_equal(msh_freeze(&two.cg, HOUR, &cancel, NULL), MSH_OK);
    __atomic_store_n(&k.stop, true, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    holds(&two, "", "cgroup.freeze", "1");
    msh_thaw(&two.cg);
    holds(&two, "", "cgroup.freeze", "0");
    free_tree(&one);
    free_tree(&two);
}

static void a_freeze_that_fails_leaves_all_thawed(void **state)
{
    (void)state;
    msh_err err = {0};
    bool cancel = false;
    tree t = new_tree(true, "c");
    assert_int_equal(msh_freeze(&t.cg, 50, &cancel, &err), MSH_FAILED_PRECONDITION); /* no freezer */
    given(&t, "", "cgroup.freeze", "0");
    given(&t, "", "cgroup.events", "populated 1\nfrozen 0");
    assert_int_equal(msh_freeze(&t.cg, 1, &cancel, &err), MSH_DEADLINE_EXCEEDED);
    holds(&t, "", "cgroup.freeze", "0");
    cancel = true;
    assert_int_equal(msh_freeze(&t.cg, HOUR, &cancel, &err), MSH_ABORTED);
    holds(&t, "", "cgroup.freeze", "0");
    free_tree(&t);
    msh_thaw(&t.cg); /* not there: fine */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_files_by_version),
        cmocka_unit_test(reads_numbers_and_no_limit),
        cmocka_unit_test(a_text_longer_than_the_buffer_is_not_half_read),
        cmocka_unit_test(a_key_is_a_whole_word_at_a_line_start),
        cmocka_unit_test(the_memory_limit_is_the_least_on_the_way_up),
        cmocka_unit_test(counts_kills_on_both_versions),
        cmocka_unit_test(freezes_when_the_kernel_says_so),
        cmocka_unit_test(a_freeze_that_fails_leaves_all_thawed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

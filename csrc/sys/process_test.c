#include "sys/lock.h"
#include "sys/process.h"
#include "sys/sys_fixture.h"
#include "sys/system.h"
#include <signal.h>
#include <sys/wait.h>

static pid_t child(int exit_code)
{
    pid_t pid = fork();
    if (pid == 0) {
        if (exit_code < 0)
            pause();
        _exit(exit_code);
    }
    return pid;
}

static void a_child_is_reaped_with_its_code(void **state)
{
    (void)state;
    msh_exit how;
    int fd = -1;
    pid_t pid = child(7);
    assert_int_equal(msh_process_open(pid, 0, &fd, NULL), MSH_OK);
    assert_int_equal(msh_process_wait(fd, 60000, &how, NULL), MSH_OK);
    assert_false(how.gone);
    assert_int_equal(how.code, 7);
    assert_int_equal(how.signal, 0);
    assert_int_equal(msh_process_wait(fd, 0, &how, NULL), MSH_OK);
    assert_true(how.gone); /* how it ended has been told already */
    assert_int_equal(msh_process_signal(fd, SIGTERM, NULL), MSH_GONE);
    close(fd);
    assert_int_equal(msh_process_open(pid, 0, &fd, NULL), MSH_GONE);
}

static void a_process_is_killed_only_under_its_start_time(void **state)
{
    (void)state;
    uint64_t start = 0;
    msh_exit how;
    int fd = -1;
    pid_t pid = child(-1);
    assert_int_equal(msh_process_start_time(pid, &start, NULL), MSH_OK);
    assert_true(start > 0);
    assert_int_equal(msh_process_kill(pid, start + 1, SIGKILL, NULL), MSH_GONE);
    assert_int_equal(msh_process_open(pid, start, &fd, NULL), MSH_OK);
    assert_int_equal(msh_process_wait(fd, 0, &how, NULL), MSH_AGAIN);
    assert_int_equal(msh_process_wait(fd, 5, &how, NULL), MSH_AGAIN);
    assert_int_equal(msh_process_kill(pid, start, SIGKILL, NULL), MSH_OK);
    assert_int_equal(msh_process_wait(fd, 60000, &how, NULL), MSH_OK);
    assert_int_equal(how.signal, SIGKILL);
    close(fd);
    assert_int_equal(msh_process_kill(pid, start, SIGKILL, NULL), MSH_GONE);
    assert_int_equal(msh_process_start_time(pid, &start, NULL), MSH_GONE);
    assert_int_equal(msh_process_kill(0, 0, SIGKILL, NULL), MSH_INVALID_ARGUMENT);
    assert_int_equal(msh_process_kill(-1, 0, SIGKILL, NULL), MSH_INVALID_ARGUMENT);
}

static void anothers_process_is_gone_when_it_ends(void **state)
{
    (void)state;
    int p[2], fd = -1;
    pid_t grandchild = 0;
    msh_exit how;
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        pid_t g = child(-1);
        if (write(p[1], &g, sizeof g) == sizeof g)
            waitpid(g, NULL, 0);
        _exit(0);
    }
    assert_int_equal(read(p[0], &grandchild, sizeof grandchild), sizeof grandchild);
    assert_int_equal(msh_process_open(grandchild, 0, &fd, NULL), MSH_OK);
    assert_int_equal(msh_process_signal(fd, SIGKILL, NULL), MSH_OK);
    assert_int_equal(msh_process_wait(fd, 60000, &how, NULL), MSH_OK);
    assert_true(how.gone);
    waitpid(pid, NULL, 0);
    close(fd);
    close(p[0]);
    close(p[1]);
}

typedef struct seen {
    int times;
    msh_exit how;
    msh_watch *watch;
} seen;

static void on_exit_seen(void *ctx, const msh_exit *how)
{
    seen *s = ctx;
    s->times++;
    s->how = *how;
    msh_watch_close(s->watch); /* from inside */
}

static void a_watch_tells_once(void **state)
{
    (void)state;
    uv_loop_t loop;
    seen s = {0}, closed = {0};
    uint64_t start = 0;
    assert_int_equal(uv_loop_init(&loop), 0);
    pid_t pid = child(-1);
    assert_int_equal(msh_process_start_time(pid, &start, NULL), MSH_OK);
    assert_int_equal(msh_watch_start(&loop, pid, start, on_exit_seen, &s, &s.watch, NULL), MSH_OK);
    assert_int_equal(msh_watch_start(&loop, pid, start, on_exit_seen, &closed, &closed.watch, NULL), MSH_OK);
    msh_watch_close(closed.watch);
    kill(pid, SIGTERM);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(s.times, 1);
    assert_int_equal(s.how.signal, SIGTERM);
    assert_int_equal(closed.times, 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid); /* it only looked: reaping is the owner's */
    assert_int_equal(msh_watch_start(&loop, pid, start, on_exit_seen, &s, &s.watch, NULL), MSH_GONE);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void a_lock_is_held_once_and_names_its_holder(void **state)
{
    (void)state;
    int a = -1, b = -1, p[2];
    pid_t holder = 0;
    msh_err err = {0};
    char path[128];
    snprintf(path, sizeof path, "%s", in_dir("lock"));
    assert_int_equal(msh_lock_take(path, false, 0600, &a, NULL, NULL), MSH_NOT_FOUND);
    assert_int_equal(msh_lock_take(path, true, 0600, &a, NULL, NULL), MSH_OK);
    assert_true((fcntl(a, F_GETFL) & O_APPEND) != 0);
    assert_int_equal(msh_lock_take(path, true, 0600, &b, &holder, &err), MSH_FAILED_PRECONDITION);
    assert_int_equal(holder, getpid());
    char number[24];
    snprintf(number, sizeof number, "process %d", (int)getpid());
    assert_non_null(strstr(err.msg, number));
    msh_lock_release(&a);
    assert_int_equal(a, -1);
    assert_int_equal(msh_lock_take(path, true, 0600, &b, NULL, NULL), MSH_OK);
    msh_lock_release(&b);

    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = -1;
        if (msh_lock_take(path, true, 0600, &fd, NULL, NULL) == MSH_OK && write(p[1], "x", 1) == 1)
            pause();
        _exit(1);
    }
    char c;
    assert_int_equal(read(p[0], &c, 1), 1);
    assert_int_equal(msh_lock_take(path, true, 0600, &a, &holder, NULL), MSH_FAILED_PRECONDITION);
    assert_int_equal(holder, pid);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_int_equal(msh_lock_take(path, true, 0600, &a, NULL, NULL), MSH_OK); /* it went with its holder */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(msh_lock_take(path, true, 0600, &b, NULL, NULL), MSH_OK); /* another file now */
    msh_lock_release(&a);
    msh_lock_release(&b);
    close(p[0]);
    close(p[1]);
}

static void the_boot_and_chance(void **state)
{
    (void)state;
    char a[MSH_BOOT_ID], b[MSH_BOOT_ID], x[33], y[33];
    assert_int_equal(msh_boot_id(a, NULL), MSH_OK);
    assert_int_equal(msh_boot_id(b, NULL), MSH_OK);
    assert_int_equal(strlen(a), 36);
    assert_string_equal(a, b);
    assert_int_equal(msh_random_hex(x, 16, NULL), MSH_OK);
    assert_int_equal(msh_random_hex(y, 16, NULL), MSH_OK);
    assert_int_equal(strspn(x, "0123456789abcdef"), 32);
    assert_string_not_equal(x, y);
    assert_int_equal(msh_random_hex(x, 257, NULL), MSH_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_child_is_reaped_with_its_code),
        cmocka_unit_test(a_process_is_killed_only_under_its_start_time),
        cmocka_unit_test(anothers_process_is_gone_when_it_ends),
        cmocka_unit_test(a_watch_tells_once),
        cmocka_unit_test_setup_teardown(a_lock_is_held_once_and_names_its_holder, given_a_folder,
                                        after_a_folder),
        cmocka_unit_test(the_boot_and_chance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

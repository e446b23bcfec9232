#include "sys/sys_fixture.h"
#include "sys/terminal.h"
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <termios.h>

typedef struct fixture {
    int master, slave;
    struct termios before;
    int flags;
} fixture;

static int given_a_terminal(void **state)
{
    static fixture x;
    assert_int_equal(msh_terminal_open(&x.master, &x.slave, NULL), MSH_OK);
    memset(&x.before, 0, sizeof x.before); /* it has holes */
    assert_int_equal(tcgetattr(x.slave, &x.before), 0);
    x.flags = fcntl(x.slave, F_GETFL);
    *state = &x;
    return 0;
}

static int after_a_terminal(void **state)
{
    fixture *x = *state;
    close(x->master);
    close(x->slave);
    return 0;
}

static void assert_as_before(const fixture *x)
{
    struct termios now = {0};
    assert_int_equal(tcgetattr(x->slave, &now), 0);
    assert_memory_equal(&now, &x->before, sizeof now);
    assert_int_equal(fcntl(x->slave, F_GETFL), x->flags);
}

static bool is_raw(int fd)
{
    struct termios now;
    return tcgetattr(fd, &now) == 0 && (now.c_lflag & (ISIG | ICANON | ECHO)) == 0 &&
           (now.c_oflag & OPOST) == 0;
}

static void raw_is_given_back_as_it_was(void **state)
{
    fixture *x = *state;
    x->before.c_cc[VINTR] = 7; /* whatever the user has set */
    x->before.c_iflag |= IXANY;
    assert_int_equal(tcsetattr(x->slave, TCSANOW, &x->before), 0);
    assert_int_equal(msh_terminal_raw(x->slave, NULL), MSH_OK);
    assert_true(is_raw(x->slave));
    assert_int_equal(fcntl(x->slave, F_GETFL), x->flags);
    msh_terminal_restore();
    assert_as_before(x);
    msh_terminal_restore();
    assert_as_before(x);
}

static void raw_again_remembers_the_first_modes(void **state)
{
    fixture *x = *state;
    assert_int_equal(msh_terminal_raw(x->slave, NULL), MSH_OK);
    assert_int_equal(tcsetattr(x->slave, TCSANOW, &x->before), 0); /* a shell, while we were stopped */
    assert_int_equal(msh_terminal_raw(x->slave, NULL), MSH_OK);
    assert_true(is_raw(x->slave));
    msh_terminal_restore();
    assert_as_before(x);
}

static void the_descriptor_may_be_closed_meanwhile(void **state)
{
    fixture *x = *state;
    int other = dup(x->slave);
    assert_int_equal(msh_terminal_raw(other, NULL), MSH_OK);
    close(other);
    msh_terminal_restore();
    assert_as_before(x);
}

static void what_is_no_terminal_is_refused(void **state)
{
    (void)state;
    msh_err err = {0};
    msh_terminal_size size = {7, 7};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_int_equal(msh_terminal_raw(null, &err), MSH_FAILED_PRECONDITION);
    assert_non_null(strstr(err.msg, "is no terminal"));
    assert_int_equal(msh_terminal_get_size(null, &size, NULL), MSH_FAILED_PRECONDITION);
    assert_int_equal(size.rows, 7);
    assert_int_equal(msh_terminal_set_size(null, size, NULL), MSH_FAILED_PRECONDITION);
    assert_false(msh_terminal_is(null));
    assert_false(msh_terminal_is_master(null));
    close(null);
    assert_int_not_equal(msh_terminal_raw(-1, NULL), MSH_OK);
    msh_terminal_restore();
}

static void both_sides_have_one_size(void **state)
{
    fixture *x = *state;
    static const msh_terminal_size sizes[] = {{24, 80}, {0, 0}, {65535, 65535}, {1, 500}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        msh_terminal_size got = {0};
        assert_int_equal(msh_terminal_set_size(i % 2 == 0 ? x->master : x->slave, sizes[i], NULL), MSH_OK);
        assert_int_equal(msh_terminal_get_size(i % 2 == 0 ? x->slave : x->master, &got, NULL), MSH_OK);
        assert_memory_equal(&got, &sizes[i], sizeof got);
    }
    assert_true(msh_terminal_is(x->slave));
    assert_true(msh_terminal_is_master(x->master));
    assert_false(msh_terminal_is_master(x->slave));
}

/* A child that makes the terminal raw and ends by `end`. */
static int status_of(const fixture *x, void (*end)(int), int arg)
{
    int ready[2], status = 0;
    char c;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        for (int sig = 1; sig < NSIG; sig++)
            signal(sig, SIG_DFL); /* cmocka has its own */
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        if (msh_terminal_raw(x->slave, NULL) != MSH_OK || !is_raw(x->slave) || write(ready[1], "r", 1) != 1)
            _exit(99);
        end(arg);
        _exit(98);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &c, 1), 1);
    close(ready[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void by_signal(int sig)
{
    kill(getpid(), sig);
    pause();
}

static void by_abort(int unused)
{
    (void)unused;
    abort();
}

static void every_end_but_kill_gives_it_back(void **state)
{
    fixture *x = *state;
    static const int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGSEGV,
                                  SIGBUS, SIGFPE, SIGUSR1, SIGALRM, SIGSYS};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        int status = status_of(x, by_signal, signals[i]);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), signals[i]); /* the shell is told the truth */
        assert_as_before(x);
    }
    int status = status_of(x, by_abort, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_as_before(x);
    status = status_of(x, exit, 3);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 3);
    assert_as_before(x);
}

static volatile sig_atomic_t seen;

static void on_term(int sig)
{
    seen = sig;
}

static void a_handled_signal_is_left_to_its_handler(void **state)
{
    fixture *x = *state;
    struct sigaction mine = {.sa_handler = on_term}, old, now;
    sigaction(SIGTERM, &mine, &old);
    assert_int_equal(msh_terminal_raw(x->slave, NULL), MSH_OK);
    raise(SIGTERM);
    assert_int_equal(seen, SIGTERM);
    assert_true(is_raw(x->slave));
    msh_terminal_restore();
    sigaction(SIGTERM, &old, &now);
    assert_true(now.sa_handler == on_term);
    sigaction(SIGQUIT, NULL, &now);
    assert_true(now.sa_handler == SIG_DFL); /* ours went with the need for it */
    assert_as_before(x);
}

static void a_child_leaves_it_alone(void **state)
{
    fixture *x = *state;
    int status = 0;
    assert_int_equal(msh_terminal_raw(x->slave, NULL), MSH_OK);
    pid_t pid = fork();
    if (pid == 0) {
        msh_terminal_restore();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(is_raw(x->slave));
    msh_terminal_restore();
    assert_as_before(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, given_a_terminal, after_a_terminal)
        T(raw_is_given_back_as_it_was),
        T(raw_again_remembers_the_first_modes),
        T(the_descriptor_may_be_closed_meanwhile),
        T(what_is_no_terminal_is_refused),
        T(both_sides_have_one_size),
        T(every_end_but_kill_gives_it_back),
        T(a_handled_signal_is_left_to_its_handler),
        T(a_child_leaves_it_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

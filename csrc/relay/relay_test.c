#include "relay/relay_fixture.h"
#include <pty.h>

enum { HOUR = 3600 * 1000 };

static void sockets_take_one_connection_and_are_unlinked(void **state)
{
    fixture *x = *state;
    told t = {0};
    msh_io *io;
    msh_io_want want = no_stdio(x, &t);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), another = -1;
    for (int i = 0; i < MSH_STDIO; i++)
        want.end[i].fd = null;
    assert_int_equal(msh_io_open(x->relay, &want, &io, NULL), MSH_OK);
    struct stat st;
    assert_int_equal(lstat(at(x, "2"), &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 07777, 0600);
    int guest[3] = {dial(x, 1), dial(x, 2), -1};
    uv_run(&x->loop, UV_RUN_NOWAIT);
    assert_int_equal(t.ready, 0); /* not while a port has nobody */
    guest[2] = dial(x, 3);
    until(x, t.ready == 1);
    assert_int_equal(t.err.code, MSH_OK);
    assert_int_equal(msh_socket_connect(at(x, "2"), &another, NULL), MSH_NOT_FOUND);
    msh_io_close(io);
    for (int i = 0; i < 3; i++)
        close(guest[i]);
    close(null);
}

static void a_terminal_has_no_stderr(void **state)
{
    fixture *x = *state;
    told t = {0};
    msh_io *io;
    msh_io_want want = no_stdio(x, &t);
    want.tty = true;
    want.end[MSH_STDERR].path = "/does/not/exist";
    assert_int_equal(msh_io_open(x->relay, &want, &io, NULL), MSH_OK);
    until(x, t.ready == 1); /* no stream at all: ready at once */
    msh_io_exited(io, 0, 0);
    until(x, t.drained == 1);
    msh_io_close(io);
}

static void an_open_that_fails_leaves_nothing(void **state)
{
    fixture *x = *state;
    told t = {0};
    msh_io *io;
    msh_err err = {0};
    msh_io_want want = no_stdio(x, &t);
    unsigned fds = open_fds();
    want.end[MSH_STDOUT].fd = 0;
    want.end[MSH_STDERR].path = at(x, "missing");
    assert_int_equal(msh_io_open(x->relay, &want, &io, &err), MSH_NOT_FOUND);
    assert_non_null(strstr(err.msg, "stderr of test"));
    assert_int_equal(access(at(x, "2"), F_OK), -1);
    assert_int_equal(open_fds(), fds);
}

/* [#530] */
static void stdin_ends_while_output_goes_on(void **state)
{
    fixture *x = *state;
    told t = {0};
    msh_io *io;
    msh_io_want want = no_stdio(x, &t);
    int in[2], out[2];
    char got[16];
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    want.end[MSH_STDIN].fd = in[0];
    want.end[MSH_STDOUT].fd = out[1];
    assert_int_equal(msh_io_open(x->relay, &want, &io, NULL), MSH_OK);
    close(in[0]);
    close(out[1]);
    int guest_in = dial(x, 1), guest_out = dial(x, 2);
    write_all(in[1], "hello", 5);
    close(in[1]);
    assert_int_equal(read_all(guest_in, got, sizeof got), 5); /* then the end */
    write_all(guest_out, "answer", 6);
    assert_int_equal(read_all(out[0], got, 6), 6);
    assert_memory_equal(got, "answer", 6);
    shutdown(guest_out, SHUT_WR);
    assert_int_equal(read_all(out[0], got, 1), 0);
    assert_int_equal(read_all(guest_out, got, 1), 0); /* the host closes after the guest's end */
    msh_io_exited(io, HOUR, HOUR);
    until(x, t.drained == 1);
    assert_false(t.report.cut);
    assert_int_equal(t.report.bytes[MSH_STDIN], 5);
    assert_int_equal(t.report.bytes[MSH_STDOUT], 6);
    msh_io_close(io);
    close(guest_in);
    close(guest_out);
    close(out[0]);
}

/* [#538] (known bug 49) */
static void asking_a_descriptor_stdin_to_close_delivers_what_is_there(void **state)
{
    fixture *x = *state;
    told t = {0};
    msh_io *io;
    msh_io_want want = no_stdio(x, &t);
    int in[2];
    char got[16];
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    want.end[MSH_STDIN].fd = in[0];
    assert_int_equal(msh_io_open(x->relay, &want, &io, NULL), MSH_OK);
    write_all(in[1], "last", 4);
    msh_io_close_stdin(io); /* before the guest has even dialled */
    msh_io_close_stdin(io);
    int guest = dial(x, 1);
    assert_int_equal(read_all(guest, got, sizeof got), 4); /* the writer still has its end open */
    msh_io_close(io);
    close(guest);
    close(in[0]);
    close(in[1]);
}

static void a_slow_reader_holds_the_guest_back_in_bounded_memory(void **state)
{
    fixture *x = *state;
    told t = {0};
    msh_io *io;
    msh_io_want want = no_stdio(x, &t);
    int out[2];
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    want.end[MSH_STDOUT].fd = out[1];
    assert_int_equal(msh_io_open(x->relay, &want, &io, NULL), MSH_OK);
    close(out[1]);
    int guest = dial(x, 2);
    size_t taken = fill(guest);
    assert_true(taken > 0 && taken < 1 << 20); /* the socket's buffer, the pipe's, and nothing of ours */
    close(guest);
    assert_int_equal(read_zeros(out[0], taken + 1), taken);
    msh_io_close(io);
    close(out[0]);
}

/* [#534] */
static void output_that_a_child_keeps_open_is_cut_at_the_deadline(void **state)
{
    fixture *x = *state;
    told t = {0};
    msh_io *io;
    msh_io_want want = no_stdio(x, &t);
    int out[2];
    char got[8];
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    want.end[MSH_STDOUT].fd = want.end[MSH_STDERR].fd = out[1];
    assert_int_equal(msh_io_open(x->relay, &want, &io, NULL), MSH_OK);
    close(out[1]);
    int held = dial(x, 2), done = dial(x, 3);
    write_all(held, "abc", 3);
    close(done);
    msh_io_exited(io, HOUR, HOUR);
    msh_io_exited(io, 20, 20); /* only ever shorter */
    msh_io_exited(io, HOUR, HOUR);
    until(x, t.drained == 1);
    assert_true(t.report.cut);
    assert_int_equal(read_all(out[0], got, sizeof got), 3);
    assert_int_equal(read_all(held, got, 1), 0); /* the child writes to nobody now */
    msh_io_close(io);
    close(held);
    close(out[0]);
}

static void an_exit_before_anyone_dialled_drains_at_once(void **state)
{
    fixture *x = *state;
    told t = {0};
    msh_io *io;
    msh_io_want want = no_stdio(x, &t);
    want.end[MSH_STDOUT].fd = 2;
    assert_int_equal(msh_io_open(x->relay, &want, &io, NULL), MSH_OK);
    msh_io_exited(io, HOUR, HOUR);
    until(x, t.drained == 1);
    assert_int_equal(t.ready, 0);
    assert_int_equal(access(at(x, "2"), F_OK), -1);
    msh_io_close(io);
}

/* [#533] */
static void a_reader_that_leaves_for_good_ends_the_output(void **state)
{
    fixture *x = *state;
    told t = {0};
    msh_io *io;
    msh_io_want want = no_stdio(x, &t);
    int out[2];
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    want.end[MSH_STDOUT].fd = out[1];
    assert_int_equal(msh_io_open(x->relay, &want, &io, NULL), MSH_OK);
    close(out[1]);
    close(out[0]);
    int guest = dial(x, 2);
    ssize_t n;
    do /* until the guest feels it, as `yes | head` does */
        n = send(guest, "y\n", 2, MSG_NOSIGNAL);
    while (n > 0);
    assert_int_equal(errno, EPIPE);
    msh_io_exited(io, HOUR, HOUR);
    until(x, t.drained == 1);
    assert_int_equal(t.report.error[MSH_STDOUT], EPIPE);
    msh_io_close(io);
    close(guest);
}

static void *flood(void *arg)
{
    static const char zero[65536];
    int fd = *(int *)arg;
    while (send(fd, zero, sizeof zero, MSG_NOSIGNAL) > 0) {
    }
    return NULL;
}

static void a_flood_delays_neither_others_nor_its_own_close(void **state)
{
    fixture *x = *state;
    told noisy = {0}, quiet = {0};
    msh_io *a, *b;
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC), out[2];
    char got[8];
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    msh_io_want want = no_stdio(x, &noisy);
    want.end[MSH_STDOUT].fd = null;
    assert_int_equal(msh_io_open(x->relay, &want, &a, NULL), MSH_OK);
    int loud = dial(x, 2);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, flood, &loud), 0);
    until(x, noisy.ready == 1);

    for (int round = 0; round < 100; round++) {
        quiet = (told){0};
        want = no_stdio(x, &quiet);
        want.end[MSH_STDOUT].fd = out[1];
        assert_int_equal(msh_io_open(x->relay, &want, &b, NULL), MSH_OK);
        int guest = dial(x, 2);
        write_all(guest, "hi", 2);
        close(guest);
        assert_int_equal(read_all(out[0], got, 2), 2);
        msh_io_exited(b, HOUR, HOUR);
        until(x, quiet.drained == 1);
        msh_io_close(b);
    }
    uint64_t bytes[MSH_STDIO];
    msh_io_counts(a, bytes);
    assert_true(bytes[MSH_STDOUT] > 0);
    msh_io_exited(a, 0, 0); /* the flood goes on: cut, not drained for ever */
    until(x, noisy.drained == 1);
    assert_true(noisy.report.cut);
    msh_io_close(a);
    pthread_join(thread, NULL);
    close(loud);
    close(null);
    close(out[0]);
    close(out[1]);
}

static void a_terminal_keeps_its_flags_and_passes_both_ways(void **state)
{
    fixture *x = *state;
    told t = {0};
    msh_io *io;
    int master, slave;
    char got[16];
    if (openpty(&master, &slave, NULL, NULL, NULL) != 0) {
        print_message("skipped: no pty here\n");
        skip();
    }
    struct termios raw;
    tcgetattr(slave, &raw);
    cfmakeraw(&raw);
    tcsetattr(slave, TCSANOW, &raw);
    int flags = fcntl(slave, F_GETFL);
    msh_io_want want = no_stdio(x, &t);
    want.tty = true;
    want.end[MSH_STDIN].fd = want.end[MSH_STDOUT].fd = slave;
    assert_int_equal(msh_io_open(x->relay, &want, &io, NULL), MSH_OK);
    int in = dial(x, 1), out = dial(x, 2);
    write_all(master, "typed", 5);
    assert_int_equal(read_all(in, got, 5), 5);
    assert_memory_equal(got, "typed", 5);
    char line[5000];
    memset(line, 'z', sizeof line);
    write_all(out, line, sizeof line); /* more than a terminal takes at once */
    close(out);
    char back[sizeof line];
    assert_int_equal(read_all(master, back, sizeof back), sizeof line);
    assert_memory_equal(line, back, sizeof line);
    assert_int_equal(fcntl(slave, F_GETFL), flags);
    msh_io_exited(io, HOUR, HOUR);
    until(x, t.drained == 1);
    assert_int_equal(t.report.bytes[MSH_STDOUT], sizeof line);
    msh_io_close(io);
    close(in);
    close(master);
    close(slave);
}

/* [#537] */
static void a_thousand_opens_leave_the_descriptors_as_they_were(void **state)
{
    fixture *x = *state;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    char path[128];
    given_fifo(x, path);
    unsigned before = 0;
    for (int i = 0; i < 1000; i++) {
        told t = {0};
        msh_io *io;
        msh_io_want want = no_stdio(x, &t);
        want.end[MSH_STDIN].fd = null;
        want.end[MSH_STDOUT].fd = null;
        want.end[MSH_STDERR].path = path;
        assert_int_equal(msh_io_open(x->relay, &want, &io, NULL), MSH_OK);
        if (i % 3 == 0) { /* closed before anyone dials */
            msh_io_close(io);
        } else {
            int guest[3] = {dial(x, 1), dial(x, 2), dial(x, 3)};
            write_all(guest[2], "unread", 6); /* kept for a reader that never comes */
            for (int k = 0; k < 3; k++)
                close(guest[k]);
            if (i % 3 == 1) {
                msh_io_exited(io, HOUR, HOUR);
                until(x, t.drained == 1);
            }
            msh_io_close(io);
        }
        while (uv_run(&x->loop, UV_RUN_DEFAULT) != 0) { /* alive while an io is open */
        }
        if (i == 2) /* the shared pipe, the scratch and inotify are made by now */
            before = open_fds();
    }
    assert_int_equal(open_fds(), before);
    close(null);
}

static void closing_the_relay_ends_everything(void **state)
{
    (void)state;
    unsigned fds = open_fds();
    for (int round = 0; round < 50; round++) {
        void *own = NULL;
        given_relay(&own);
        fixture *x = own;
        told t = {0};
        msh_io *io;
        msh_io_want want = no_stdio(x, &t);
        want.end[MSH_STDOUT].fd = want.end[MSH_STDERR].fd = 2;
        assert_int_equal(msh_io_open(x->relay, &want, &io, NULL), MSH_OK);
        int guest = dial(x, 2);
        if (round % 2 == 0)
            msh_io_close(io);
        after_relay(&own);
        close(guest);
        assert_int_equal(t.ready + t.drained, 0);
    }
    assert_int_equal(open_fds(), fds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RELAY(sockets_take_one_connection_and_are_unlinked),
        WITH_RELAY(a_terminal_has_no_stderr),
        WITH_RELAY(an_open_that_fails_leaves_nothing),
        WITH_RELAY(stdin_ends_while_output_goes_on),
        WITH_RELAY(asking_a_descriptor_stdin_to_close_delivers_what_is_there),
        WITH_RELAY(a_slow_reader_holds_the_guest_back_in_bounded_memory),
        WITH_RELAY(output_that_a_child_keeps_open_is_cut_at_the_deadline),
        WITH_RELAY(an_exit_before_anyone_dialled_drains_at_once),
        WITH_RELAY(a_reader_that_leaves_for_good_ends_the_output),
        WITH_RELAY(a_flood_delays_neither_others_nor_its_own_close),
        WITH_RELAY(a_terminal_keeps_its_flags_and_passes_both_ways),
        WITH_RELAY(a_thousand_opens_leave_the_descriptors_as_they_were),
        cmocka_unit_test(closing_the_relay_ends_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Readers that stay away, read nothing or leave for good, and what that may cost a program and its exit. */
#include "base/time.h"
#include "relay/relay_fixture.h"
#include <stdatomic.h>
#include <sys/ioctl.h>

enum { HOUR = 3600 * 1000 };

/* In place of base/time.c: the machine's clock, until a test takes it into its own hands. The data thread's look number
 * `looks` at it calls `meanwhile`. */
static _Atomic msh_time held;
static _Atomic int looks;
static atomic_bool happened;
static void (*meanwhile)(void);
static pthread_t owner;

msh_time msh_now(void)
{
    msh_time at = atomic_load(&held);
    if (at == 0)
        return uv_hrtime();
    if (!pthread_equal(pthread_self(), owner) && atomic_load(&looks) > 0 &&
        atomic_fetch_sub(&looks, 1) == 1) {
        meanwhile();
        atomic_store(&happened, true);
    }
    return atomic_load(&held);
}

/* An exit looks at it once by itself; the second look is for what is overdue. */
static void at_the_next_deadline(void (*fn)(void))
{
    meanwhile = fn;
    atomic_store(&happened, false);
    atomic_store(&looks, 2);
}

static void until_it_happened(void)
{
    while (!atomic_load(&happened))
        sched_yield();
}

static void hold_time(void)
{
    owner = pthread_self();
    atomic_store(&held, uv_hrtime());
}

static void pass(msh_time ms)
{
    atomic_fetch_add(&held, ms * MSH_MS);
}

static void let_time_go(void)
{
    atomic_store(&held, 0);
}

typedef struct given_output {
    told t;
    msh_io *io;
    int guest;
} given_output;

/* Stdout into a fifo, its guest connected. */
static void given_fifo_output(fixture *x, given_output *o, const char *path, uint64_t away_ms)
{
    o->t = (told){0};
    msh_io_want want = no_stdio(x, &o->t);
    want.end[MSH_STDOUT].path = path;
    want.away_ms = away_ms;
    assert_int_equal(msh_io_open(x->relay, &want, &o->io, NULL), MSH_OK);
    o->guest = dial(x, 2);
}

/* Writes as a program does, until it is told that nobody takes any more. */
static size_t write_until_refused(int fd)
{
    static const char zero[4096];
    size_t n = 0;
    ssize_t k;
    while ((k = send(fd, zero, sizeof zero, MSG_NOSIGNAL)) > 0)
        n += (size_t)k;
    assert_true(errno == EPIPE || errno == ECONNRESET);
    return n;
}

/* [#522] [#533]: after the limit it looks once more whether somebody reads, then the stream ends with an error. */
static void a_reader_that_stays_away_too_long_ends_the_output(void **state)
{
    fixture *x = *state;
    char path[128];
    given_output o;
    given_fifo(x, path);
    given_fifo_output(x, &o, path, 30);
    write_until_refused(o.guest);
    msh_io_exited(o.io, HOUR, HOUR);
    until(x, o.t.drained == 1);
    assert_int_equal(o.t.report.error[MSH_STDOUT], ETIMEDOUT);
    assert_false(o.t.report.cut);
    int reader = open(path, O_RDONLY | O_CLOEXEC); /* what the fifo had taken is not lost */
    assert_int_equal(read_zeros(reader, SIZE_MAX), o.t.report.bytes[MSH_STDOUT]);
    close(reader);
    close(o.guest);
    msh_io_close(o.io);
}

/* [#523]: the stream without a limit outlives one with. And a reader that is there and slow is not away. */
static void without_a_limit_it_waits_and_a_slow_reader_is_not_away(void **state)
{
    fixture *x = *state;
    char path[3][128];
    given_output limited, patient, slow;
    given_fifo_named(x, "a", path[0]);
    given_fifo_named(x, "b", path[1]);
    given_fifo_named(x, "c", path[2]);
    given_fifo_output(x, &patient, path[0], 0);
    size_t patient_sent = fill(patient.guest);
    given_fifo_output(x, &slow, path[1], 30);
    int slow_reader = open(path[1], O_RDONLY | O_CLOEXEC);
    size_t slow_sent = fill(slow.guest); /* waits ten times the limit */
    given_fifo_output(x, &limited, path[2], 30);
    write_until_refused(limited.guest);

    int patient_reader = open(path[0], O_RDONLY | O_CLOEXEC);
    close(patient.guest);
    close(slow.guest);
    assert_int_equal(read_zeros(patient_reader, patient_sent + 1), patient_sent);
    assert_int_equal(read_zeros(slow_reader, slow_sent + 1), slow_sent);
    close(patient_reader);
    close(slow_reader);
    close(limited.guest);
    msh_io_close(patient.io);
    msh_io_close(slow.io);
    msh_io_close(limited.io);
}

/* [#525]: each time it goes the limit begins anew; all absences together are longer than it. */
static void a_reader_that_comes_back_has_the_whole_limit_again(void **state)
{
    fixture *x = *state;
    char path[128];
    given_output o;
    size_t sent = 0, got = 0;
    given_fifo(x, path);
    hold_time();
    given_fifo_output(x, &o, path, 1000);
    for (int round = 0; round < 6; round++) {
        sent += fill(o.guest);
        pass(900); /* and nobody reads */
        int reader = open(path, O_RDONLY | O_CLOEXEC);
        got += read_zeros(reader, 100000);
        close(reader);
    }
    close(o.guest);
    int reader = open(path, O_RDONLY | O_CLOEXEC);
    got += read_zeros(reader, sent + 1);
    assert_int_equal(got, sent);
    close(reader);
    msh_io_close(o.io);
    let_time_go();
}

/* [#528] */
static void a_close_does_not_wait_for_a_reader_that_is_away(void **state)
{
    fixture *x = *state;
    char path[128], got;
    given_output o;
    given_fifo(x, path);
    given_fifo_output(x, &o, path, HOUR);
    fill(o.guest);
    msh_io_close(o.io);
    ssize_t n = recv(o.guest, &got, 1, 0);
    assert_true(n == 0 || (n < 0 && errno == ECONNRESET)); /* the guest is let go */
    close(o.guest);
}

/* [#527] */
static void a_reader_that_is_there_and_never_reads_does_not_hold_up_an_exit(void **state)
{
    fixture *x = *state;
    char path[128];
    given_output o;
    given_fifo(x, path);
    given_fifo_output(x, &o, path, 0);
    int reader = open(path, O_RDONLY | O_CLOEXEC);
    fill(o.guest);
    msh_io_exited(o.io, 20, HOUR);
    until(x, o.t.drained == 1);
    assert_true(o.t.report.cut);
    close(reader);
    close(o.guest);
    msh_io_close(o.io);
}

/* [#536]: what still flows is not cut, however long it takes, and never longer than the second limit says. */
static void output_that_still_flows_is_not_cut(void **state)
{
    fixture *x = *state;
    char path[128], got;
    given_output o;
    given_fifo(x, path);
    given_fifo_output(x, &o, path, 0);
    int reader = open(path, O_RDONLY | O_CLOEXEC);
    enum { IDLE = 1000, TIMES = 20 };
    hold_time();
    msh_io_exited(o.io, IDLE, HOUR);
    for (int i = 0; i < TIMES; i++) { /* a byte, and the next when it has come, and not at once */
        write_all(o.guest, "x", 1);
        assert_int_equal(read_all(reader, &got, 1), 1);
        pass(IDLE - 100);
    }
    close(o.guest);
    until(x, o.t.drained == 1);
    assert_false(o.t.report.cut);
    assert_int_equal(o.t.report.bytes[MSH_STDOUT], TIMES);
    close(reader);
    msh_io_close(o.io);
    let_time_go();
}

/* What the data thread meets that was kept from running: its limit is over, and something has happened before. */
static given_output late;
static char late_path[128];
static size_t late_got;

static void bytes_come(void)
{
    write_all(late.guest, "late", 4);
    pass(2000);
}

static void output_that_came_while_nobody_looked_is_not_cut(void **state)
{
    fixture *x = *state;
    char got[4];
    given_fifo(x, late_path);
    given_fifo_output(x, &late, late_path, 0);
    int reader = open(late_path, O_RDONLY | O_CLOEXEC);
    until(x, late.t.ready == 1);
    hold_time();
    at_the_next_deadline(bytes_come);
    msh_io_exited(late.io, 1000, HOUR);
    until_it_happened();
    assert_int_equal(read_all(reader, got, 4), 4);
    close(late.guest);
    until(x, late.t.drained == 1);
    assert_false(late.t.report.cut);
    assert_int_equal(late.t.report.bytes[MSH_STDOUT], 4);
    close(reader);
    msh_io_close(late.io);
    let_time_go();
}

static void until_full(const char *path)
{
    for (int held_bytes = 0; held_bytes < 50000; sched_yield()) {
        int reader = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        assert_int_equal(ioctl(reader, FIONREAD, &held_bytes), 0);
        close(reader);
    }
}

static void a_reader_comes_and_goes(void)
{
    int reader = open(late_path, O_RDONLY | O_CLOEXEC);
    late_got = read_zeros(reader, 50000);
    close(reader);
    pass(2000);
}

static void a_reader_that_was_there_while_nobody_looked_was_not_away(void **state)
{
    fixture *x = *state;
    given_fifo(x, late_path);
    hold_time();
    given_fifo_output(x, &late, late_path, 1000);
    size_t sent = fill(late.guest);
    until_full(late_path); /* the data thread is to read what it would have to write */
    at_the_next_deadline(a_reader_comes_and_goes);
    msh_io_exited(late.io, HOUR, HOUR);
    until_it_happened();
    close(late.guest);
    int reader = open(late_path, O_RDONLY | O_CLOEXEC);
    size_t more = read_zeros(reader, SIZE_MAX);
    until(x, late.t.drained == 1);
    assert_int_equal(late.t.report.error[MSH_STDOUT], 0);
    assert_int_equal(late_got + more, sent);
    close(reader);
    msh_io_close(late.io);
    let_time_go();
}

static void output_that_never_stops_is_cut_in_the_end(void **state)
{
    fixture *x = *state;
    char path[128], got;
    given_output o;
    given_fifo(x, path);
    given_fifo_output(x, &o, path, 0);
    int reader = open(path, O_RDONLY | O_CLOEXEC);
    msh_io_exited(o.io, HOUR, 50);
    while (send(o.guest, "x", 1, MSG_NOSIGNAL) == 1 && read(reader, &got, 1) == 1) {
    }
    until(x, o.t.drained == 1);
    assert_true(o.t.report.cut);
    close(reader);
    close(o.guest);
    msh_io_close(o.io);
}

/* [#526] */
static void an_error_of_the_end_ends_the_stream_and_lets_the_program_go(void **state)
{
    fixture *x = *state;
    told t = {0};
    msh_io *io;
    msh_io_want want = no_stdio(x, &t);
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    want.end[MSH_STDOUT].fd = full;
    assert_int_equal(msh_io_open(x->relay, &want, &io, NULL), MSH_OK);
    close(full);
    int guest = dial(x, 2);
    write_until_refused(guest);
    msh_io_exited(io, HOUR, HOUR);
    until(x, t.drained == 1);
    assert_int_equal(t.report.error[MSH_STDOUT], ENOSPC);
    assert_int_equal(t.report.bytes[MSH_STDOUT], 0);
    close(guest);
    msh_io_close(io);
}

/* [#551]: its reader is a program that ended early; what comes after it is counted and goes nowhere. */
static void a_lossy_output_lets_the_program_go_on_without_its_reader(void **state)
{
    fixture *x = *state;
    told t = {0};
    msh_io *io;
    int out[2];
    char got[8];
    msh_io_want want = no_stdio(x, &t);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    want.end[MSH_STDOUT].fd = out[1];
    want.end[MSH_STDOUT].lossy = true;
    assert_int_equal(msh_io_open(x->relay, &want, &io, NULL), MSH_OK);
    close(out[1]);
    int guest = dial(x, 2);
    write_all(guest, "before", 6);
    assert_int_equal(read_all(out[0], got, 6), 6);
    close(out[0]);
    enum { MORE = 3 << 20 };
    char *zero = calloc(1, MORE);
    assert_non_null(zero);
    write_all(guest, zero, MORE);
    free(zero);
    close(guest);
    msh_io_exited(io, HOUR, HOUR);
    until(x, t.drained == 1);
    assert_false(t.report.cut);
    assert_int_equal(t.report.error[MSH_STDOUT], EPIPE);
    assert_int_equal(t.report.bytes[MSH_STDOUT], 6);
    assert_int_equal(t.report.dropped[MSH_STDOUT], MORE);
    msh_io_close(io);
}

/* [#531] */
static void a_stdin_that_is_stuck_does_not_hold_up_an_exit(void **state)
{
    fixture *x = *state;
    told t = {0};
    msh_io *io;
    int in[2];
    msh_io_want want = no_stdio(x, &t);
    assert_int_equal(pipe2(in, O_CLOEXEC | O_NONBLOCK), 0);
    want.end[MSH_STDIN].fd = in[0];
    assert_int_equal(msh_io_open(x->relay, &want, &io, NULL), MSH_OK);
    int guest = dial(x, 1); /* which reads nothing */
    static const char zero[4096];
    struct pollfd p = {.fd = in[1], .events = POLLOUT};
    while (poll(&p, 1, 300) > 0)
        (void)!write(in[1], zero, sizeof zero);
    msh_io_exited(io, HOUR, HOUR);
    until(x, t.drained == 1);
    assert_false(t.report.cut);
    close(guest);
    close(in[0]);
    close(in[1]);
    msh_io_close(io);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RELAY(a_reader_that_stays_away_too_long_ends_the_output),
        WITH_RELAY(without_a_limit_it_waits_and_a_slow_reader_is_not_away),
        WITH_RELAY(a_reader_that_comes_back_has_the_whole_limit_again),
        WITH_RELAY(a_close_does_not_wait_for_a_reader_that_is_away),
        WITH_RELAY(a_reader_that_is_there_and_never_reads_does_not_hold_up_an_exit),
        WITH_RELAY(output_that_still_flows_is_not_cut),
        WITH_RELAY(output_that_came_while_nobody_looked_is_not_cut),
        WITH_RELAY(a_reader_that_was_there_while_nobody_looked_was_not_away),
        WITH_RELAY(output_that_never_stops_is_cut_in_the_end),
        WITH_RELAY(an_error_of_the_end_ends_the_stream_and_lets_the_program_go),
        WITH_RELAY(a_lossy_output_lets_the_program_go_on_without_its_reader),
        WITH_RELAY(a_stdin_that_is_stuck_does_not_hold_up_an_exit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Fifos by path: whoever is on their other side may go and come back. */
#include "relay/relay_fixture.h"

static void a_client_that_detaches_does_not_end_a_fifo_stdin(void **state)
{
    fixture *x = *state;
    told t = {0};
    msh_io *io;
    msh_io_want want = no_stdio(x, &t);
    char path[128], got[8];
    given_fifo(x, path);
    want.end[MSH_STDIN].path = path;
    assert_int_equal(msh_io_open(x->relay, &want, &io, NULL), MSH_OK);
    int guest = dial(x, 1);
    for (int round = 0; round < 3; round++) {
        int client = open(path, O_WRONLY | O_CLOEXEC);
        write_all(client, "abc", 3);
        close(client);
        assert_int_equal(read_all(guest, got, 3), 3);
    }
    msh_io_close_stdin(io);
    assert_int_equal(read_all(guest, got, 1), 0);
    msh_io_close(io);
    close(guest);
}

static void a_fifo_reader_goes_and_comes_back_without_loss(void **state)
{
    fixture *x = *state;
    told t = {0};
    msh_io *io;
    msh_io_want want = no_stdio(x, &t);
    char path[128];
    given_fifo(x, path);
    want.end[MSH_STDOUT].path = path;
    assert_int_equal(msh_io_open(x->relay, &want, &io, NULL), MSH_OK);
    int guest = dial(x, 2);
    size_t sent = 0, got = 0;
    for (int round = 0; round < 3; round++) {
        int reader = open(path, O_RDONLY | O_CLOEXEC);
        sent += fill(guest);
        got += read_zeros(reader, 10000);
        close(reader);
        sent += fill(guest); /* nobody reads: the guest waits, nothing is thrown away */
    }
    int reader = open(path, O_RDONLY | O_CLOEXEC);
    close(guest);
    msh_io_exited(io, 3600 * 1000);
    got += read_zeros(reader, sent + 1);
    assert_int_equal(got, sent);
    until(x, t.drained == 1);
    assert_int_equal(t.report.error[MSH_STDOUT], 0);
    close(reader);
    msh_io_close(io);
}

static void a_late_fifo_reader_gets_the_output_and_the_end(void **state)
{
    fixture *x = *state;
    told t = {0};
    msh_io *io;
    msh_io_want want = no_stdio(x, &t);
    char path[128], got[8];
    given_fifo(x, path);
    want.end[MSH_STDOUT].path = want.end[MSH_STDERR].path = path; /* 2>&1 */
    assert_int_equal(msh_io_open(x->relay, &want, &io, NULL), MSH_OK);
    int guest = dial(x, 2), quiet = dial(x, 3);
    write_all(guest, "x\n", 2);
    close(guest);
    close(quiet);
    msh_io_exited(io, 1000);
    until(x, t.drained == 1);
    assert_false(t.report.cut);
    int reader = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(read_all(reader, got, sizeof got), 2);
    close(reader);
    msh_io_close(io);
}

static void a_cut_drain_keeps_what_is_in_the_fifo(void **state)
{
    fixture *x = *state;
    told t = {0};
    msh_io *io;
    msh_io_want want = no_stdio(x, &t);
    char path[128];
    given_fifo(x, path);
    want.end[MSH_STDOUT].path = path;
    assert_int_equal(msh_io_open(x->relay, &want, &io, NULL), MSH_OK);
    int guest = dial(x, 2);
    size_t sent = fill(guest); /* nobody reads: the fifo and the socket are full */
    msh_io_exited(io, 1);
    until(x, t.drained == 1);
    assert_true(t.report.cut);
    uint64_t moved = t.report.bytes[MSH_STDOUT];
    assert_true(moved > 0 && moved < sent);
    int reader = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(read_zeros(reader, sent + 1), moved); /* and then the end */
    close(reader);
    close(guest);
    msh_io_close(io);
}

#define WITH_RELAY(f) cmocka_unit_test_setup_teardown(f, given_relay, after_relay)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RELAY(a_client_that_detaches_does_not_end_a_fifo_stdin),
        WITH_RELAY(a_fifo_reader_goes_and_comes_back_without_loss),
        WITH_RELAY(a_late_fifo_reader_gets_the_output_and_the_end),
        WITH_RELAY(a_cut_drain_keeps_what_is_in_the_fifo),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

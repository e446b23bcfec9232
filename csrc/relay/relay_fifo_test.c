/* Fifos by path: whoever is on their other side may go and come back. */
#include "relay/relay_fixture.h"

/* [#516]: in the order stdin, stdout, stderr, as the one that is missed first shows. */
static void three_fifos_are_connected_in_order(void **state)
{
    fixture *x = *state;
    told t = {0};
    msh_io *io;
    msh_io_want want = no_stdio(x, &t);
    static const char *const names[] = {"stdin", "stdout", "stderr"};
    char path[MSH_STDIO][128], got[8];
    for (int i = 0; i < MSH_STDIO; i++) {
        snprintf(path[i], sizeof path[i], "%s/%s", x->dir, names[i]);
        want.end[i].path = path[i];
    }
    for (int i = 0; i < MSH_STDIO; i++) {
        msh_err err = {0};
        assert_int_equal(msh_io_open(x->relay, &want, &io, &err), MSH_NOT_FOUND);
        assert_non_null(strstr(err.msg, names[i]));
        assert_int_equal(mkfifo(path[i], 0600), 0);
    }
    assert_int_equal(msh_io_open(x->relay, &want, &io, NULL), MSH_OK);
    int guest[] = {dial(x, 1), dial(x, 2), dial(x, 3)};
    int client[] = {open(path[0], O_WRONLY | O_CLOEXEC), open(path[1], O_RDONLY | O_CLOEXEC),
                    open(path[2], O_RDONLY | O_CLOEXEC)};
    for (int i = 0; i < MSH_STDIO; i++) {
        write_all(i == MSH_STDIN ? client[i] : guest[i], names[i], 5);
        assert_int_equal(read_all(i == MSH_STDIN ? guest[i] : client[i], got, 5), 5);
        assert_memory_equal(got, names[i], 5);
    }
    msh_io_close(io);
    for (int i = 0; i < MSH_STDIO; i++) {
        close(guest[i]);
        close(client[i]);
    }
}

/* [#517] */
static void a_missing_fifo_fails_at_once_and_closes_the_others(void **state)
{
    fixture *x = *state;
    told t = {0};
    msh_io *io;
    msh_err err = {0};
    msh_io_want want = no_stdio(x, &t);
    char in[128], out[128], missing[128], got;
    given_fifo_named(x, "in", in);
    given_fifo_named(x, "out", out);
    snprintf(missing, sizeof missing, "%s/missing", x->dir);
    want.end[MSH_STDIN].path = in;
    want.end[MSH_STDOUT].path = out;
    want.end[MSH_STDERR].path = missing;
    int reader = open(out, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    unsigned fds = open_fds();
    assert_int_equal(msh_io_open(x->relay, &want, &io, &err), MSH_NOT_FOUND);
    assert_non_null(strstr(err.msg, "stderr of test"));
    assert_int_equal(open_fds(), fds);
    assert_int_equal(open(in, O_WRONLY | O_NONBLOCK | O_CLOEXEC), -1);
    assert_int_equal(errno, ENXIO);                      /* nobody has stdin open */
    assert_int_equal(read(reader, &got, 1), 0);          /* nor stdout */
    for (unsigned port = 1; port <= MSH_STDIO; port++) { /* no port of its listens */
        char name[16];
        snprintf(name, sizeof name, "%u", port);
        assert_int_equal(access(at(x, name), F_OK), -1);
    }
    close(reader);
}

/* [#519] [#520] */
static void a_stream_that_is_not_asked_for_has_no_channel(void **state)
{
    fixture *x = *state;
    char path[128], name[16];
    given_fifo(x, path);
    for (unsigned only = 0; only < MSH_STDIO; only++) /* stdin alone, and everything but stdin */
        for (unsigned all_but = 0; all_but < 2; all_but++) {
            told t = {0};
            msh_io *io;
            msh_io_want want = no_stdio(x, &t);
            for (unsigned i = 0; i < MSH_STDIO; i++)
                if ((i == only) != (all_but == 1))
                    want.end[i].path = path;
            assert_int_equal(msh_io_open(x->relay, &want, &io, NULL), MSH_OK);
            for (unsigned i = 0; i < MSH_STDIO; i++) {
                snprintf(name, sizeof name, "%u", i + 1);
                if (want.end[i].path != NULL)
                    close(dial(x, i + 1));
                else
                    assert_int_equal(access(at(x, name), F_OK), -1);
            }
            until(x, t.ready == 1);
            msh_io_close(io);
        }
}

/* (known bug 50) */
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

/* [#521] (known bug 51) */
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
    msh_io_exited(io, 3600 * 1000, 3600 * 1000);
    got += read_zeros(reader, sent + 1);
    assert_int_equal(got, sent);
    until(x, t.drained == 1);
    assert_int_equal(t.report.error[MSH_STDOUT], 0);
    close(reader);
    msh_io_close(io);
}

/* [#518]: whoever is late to open the other side is not waited for, and misses nothing. (known bug 46) */
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
    msh_io_exited(io, 3600 * 1000, 3600 * 1000);
    until(x, t.drained == 1);
    assert_false(t.report.cut);
    int reader = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(read_all(reader, got, sizeof got), 2);
    close(reader);
    msh_io_close(io);
}

/* [#524] */
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
    msh_io_exited(io, 1, 1);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RELAY(three_fifos_are_connected_in_order),
        WITH_RELAY(a_missing_fifo_fails_at_once_and_closes_the_others),
        WITH_RELAY(a_stream_that_is_not_asked_for_has_no_channel),
        WITH_RELAY(a_client_that_detaches_does_not_end_a_fifo_stdin),
        WITH_RELAY(a_fifo_reader_goes_and_comes_back_without_loss),
        WITH_RELAY(a_late_fifo_reader_gets_the_output_and_the_end),
        WITH_RELAY(a_cut_drain_keeps_what_is_in_the_fifo),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

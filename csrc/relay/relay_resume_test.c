/* Streams that outlive their sockets. The test plays the agent: what it sent is at hand, so it needs no tail. */
#include "relay/relay_fixture.h"
#include "transport/tail.h"
#include <signal.h>

enum { ALL = 3 << 20, FOR_EVER = 3600 * 1000 };

static char *pattern(size_t n)
{
    char *p = malloc(n);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++)
        p[i] = (char)((i * 2654435761u) >> 13 ^ i);
    return p;
}

static int dial_again(const fixture *x, unsigned port)
{
    char name[16];
    int fd = -1;
    snprintf(name, sizeof name, "%u", port);
    while (msh_socket_connect(at(x, name), &fd, NULL) != MSH_OK)
        sched_yield();
    assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
    return fd;
}

/* Waits for a word of the relay. */
static msh_word word_of(int fd, uint64_t *taken)
{
    char got[MSH_WORD_SIZE];
    size_t n = 0;
    bool over = false;
    msh_word w;
    while ((w = msh_word_hear(fd, got, &n, taken, &over)) == MSH_WORD_NONE && !over) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        poll(&p, 1, -1);
    }
    return w;
}

static msh_io *open_with(fixture *x, told *t, int stream, int fd)
{
    msh_io *io = NULL;
    msh_io_want want = no_stdio(x, t);
    want.resume = true;
    want.end[stream].fd = fd;
    assert_int_equal(msh_io_open(x->relay, &want, &io, NULL), MSH_OK);
    return io;
}

static void an_output_goes_on_where_it_was(void **state)
{
    fixture *x = *state;
    told t = {0};
    char *bytes = pattern(ALL);
    int file = open(at(x, "out"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    msh_io *io = open_with(x, &t, MSH_STDOUT, file);
    int guest = dial(x, 2);
    unsigned cuts = 0;
    uint64_t sent = 0, taken = 0;
    for (;;) {
        size_t n = 1 + sent * 7919 % 60000;
        n = n < ALL - sent ? n : (size_t)(ALL - sent);
        ssize_t m = n == 0 ? -1 : send(guest, bytes + sent, n, MSG_NOSIGNAL);
        if (n == 0) {
            shutdown(guest, SHUT_WR);
            if (word_of(guest, &taken) == MSH_WORD_NO_MORE)
                break;
        }
        if (m > 0) {
            sent += (uint64_t)m;
            if (sent / 300000 > cuts) {
                cuts++;
                msh_io_cut(io, MSH_STDOUT);
            }
            continue;
        }
        close(guest);
        guest = dial_again(x, 2);
        assert_int_equal(word_of(guest, &taken), MSH_WORD_GO_ON);
        assert_true(taken <= sent);
        sent = taken;
    }
    assert_true(taken == ALL);
    msh_io_exited(io, FOR_EVER, FOR_EVER);
    until(x, t.drained == 1);
    assert_false(t.report.cut);
    assert_true(t.report.bytes[MSH_STDOUT] == ALL);
    assert_true(cuts > 5);
    char *back = malloc(ALL + 1);
    assert_int_equal(pread(file, back, ALL + 1, 0), ALL);
    assert_memory_equal(back, bytes, ALL);
    msh_io_close(io);
    close(guest);
    close(file);
    free(back);
    free(bytes);
}

/* As the agent does: everything that is in the old socket is read first. */
static size_t read_stdin(const fixture *x, msh_io *io, int guest, char *to, unsigned cut_every)
{
    size_t got = 0;
    unsigned cuts = 0;
    for (;;) {
        ssize_t n = recv(guest, to + got, 1 + got * 7919 % 60000, 0);
        if (n > 0) {
            got += (size_t)n;
            if (got / cut_every > cuts) {
                cuts++;
                msh_io_cut(io, MSH_STDIN);
            }
            continue;
        }
        if (n == 0 && !msh_word_broke(guest))
            break;
        close(guest);
        guest = dial_again(x, 1);
        assert_true(msh_word_say(guest, MSH_WORD_GO_ON, got));
    }
    assert_true(msh_word_say(guest, MSH_WORD_NO_MORE, got));
    close(guest);
    assert_true(cuts > 3);
    return got;
}

static void an_input_goes_on_where_it_was(void **state)
{
    fixture *x = *state;
    told t = {0};
    char *bytes = pattern(ALL), *back = malloc(ALL + 65536);
    int file = open(at(x, "in"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    write_all(file, bytes, ALL);
    lseek(file, 0, SEEK_SET);
    msh_io *io = open_with(x, &t, MSH_STDIN, file);
    assert_int_equal(read_stdin(x, io, dial(x, 1), back, 300000), ALL);
    assert_memory_equal(back, bytes, ALL);
    msh_io_exited(io, FOR_EVER, FOR_EVER);
    until(x, t.drained == 1);
    assert_true(t.report.bytes[MSH_STDIN] == ALL);
    msh_io_close(io);
    close(file);
    free(back);
    free(bytes);
}

static void an_input_from_a_pipe_loses_nothing_in_a_dead_socket(void **state)
{
    fixture *x = *state;
    told t = {0};
    int p[2], guest;
    char buf[64];
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    msh_io *io = open_with(x, &t, MSH_STDIN, p[0]);
    guest = dial(x, 1);
    write_all(p[1], "one two ", 8);
    assert_int_equal(read_all(guest, buf, 4), 4);
    struct pollfd f = {.fd = guest, .events = POLLIN};
    poll(&f, 1, -1); /* "two " is here, and goes down with the socket */
    close(guest);
    guest = dial_again(x, 1);
    assert_true(msh_word_say(guest, MSH_WORD_GO_ON, 4));
    write_all(p[1], "three", 5);
    close(p[1]);
    assert_int_equal(read_all(guest, buf, sizeof buf), 9);
    assert_memory_equal(buf, "two three", 9);
    close(guest); /* over an end that was never confirmed: once more */
    guest = dial_again(x, 1);
    assert_true(msh_word_say(guest, MSH_WORD_GO_ON, 8));
    assert_int_equal(read_all(guest, buf, sizeof buf), 5);
    assert_memory_equal(buf, "three", 5);
    msh_io_exited(io, 0, 0);
    until(x, t.drained == 1);
    msh_io_close(io);
    close(guest);
    close(p[0]);
}

static void a_guest_that_reads_no_more_says_so(void **state)
{
    fixture *x = *state;
    told t = {0};
    int p[2], guest, none;
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    msh_io *io = open_with(x, &t, MSH_STDIN, p[0]);
    guest = dial(x, 1);
    assert_true(msh_word_say(guest, MSH_WORD_NO_MORE, 0));
    close(guest);
    write_all(p[1], "for nobody", 10);
    close(p[0]);
    while (fcntl(p[1], F_GETFD) >= 0) { /* the writer learns that its reader has left */
        struct pollfd f = {.fd = p[1], .events = POLLOUT};
        if (poll(&f, 1, 1) > 0 && (f.revents & POLLERR) != 0)
            break;
    }
    assert_int_equal(msh_socket_connect(at(x, "1"), &none, NULL), MSH_NOT_FOUND);
    msh_io_exited(io, 0, 0);
    until(x, t.drained == 1);
    msh_io_close(io);
    close(p[1]);
}

static void an_output_whose_agent_never_comes_back_is_cut(void **state)
{
    fixture *x = *state;
    told t = {0};
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    msh_io *io = open_with(x, &t, MSH_STDOUT, null);
    int guest = dial(x, 2);
    write_all(guest, "abc", 3);
    close(guest); /* no shutdown, no waiting: it broke */
    char name[16] = "2";
    while (access(at(x, name), F_OK) != 0)
        sched_yield();
    msh_io_exited(io, 50, 50);
    until(x, t.drained == 1);
    assert_true(t.report.cut);
    assert_true(t.report.bytes[MSH_STDOUT] == 3);
    assert_int_equal(access(at(x, name), F_OK), -1);
    msh_io_close(io);
    close(null);
}

static void an_output_whose_guest_is_gone_waits_for_nobody(void **state)
{
    fixture *x = *state;
    told t = {0};
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    msh_io *io = open_with(x, &t, MSH_STDOUT, null);
    int guest = dial(x, 2);
    write_all(guest, "abc", 3);
    close(guest);
    while (access(at(x, "2"), F_OK) != 0)
        sched_yield(); /* it listens again */
    msh_io_gone(io);
    msh_io_exited(io, FOR_EVER, FOR_EVER);
    until(x, t.drained == 1);
    assert_false(t.report.cut);
    assert_true(t.report.bytes[MSH_STDOUT] == 3);
    assert_int_equal(access(at(x, "2"), F_OK), -1);
    msh_io_close(io);
    close(null);
}

static void what_a_guest_sent_before_it_was_gone_arrives(void **state)
{
    fixture *x = *state;
    told t = {0};
    char *bytes = pattern(ALL), *got = malloc(ALL);
    int p[2];
    assert_non_null(got);
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    msh_io *io = open_with(x, &t, MSH_STDOUT, p[1]);
    close(p[1]);
    int guest = dial(x, 2);
    assert_int_equal(fcntl(guest, F_SETFL, O_NONBLOCK), 0);
    size_t sent = 0;
    struct pollfd f = {.fd = guest, .events = POLLOUT};
    while (poll(&f, 1, 300) > 0) { /* as much as fits, while nobody reads */
        ssize_t n = send(guest, bytes + sent, ALL - sent, MSG_NOSIGNAL);
        assert_true(n > 0);
        sent += (size_t)n;
        assert_true(sent < ALL);
    }
    msh_io_gone(io);
    msh_io_exited(io, FOR_EVER, FOR_EVER);
    close(guest); /* after the news: its end shall not be taken for a break any more */
    assert_true(read_all(p[0], got, ALL) == sent);
    assert_memory_equal(bytes, got, sent);
    until(x, t.drained == 1);
    assert_false(t.report.cut);
    assert_int_equal(access(at(x, "2"), F_OK), -1);
    msh_io_close(io);
    close(p[0]);
    free(bytes);
    free(got);
}

static void a_stream_that_nobody_called_fails_when_the_guest_is_gone(void **state)
{
    fixture *x = *state;
    told t = {0};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    msh_io *io = open_with(x, &t, MSH_STDIN, null);
    msh_io_gone(io);
    until(x, t.ready == 1);
    assert_int_equal(t.err.code, MSH_UNAVAILABLE);
    msh_io_gone(io);
    msh_io_exited(io, FOR_EVER, FOR_EVER);
    until(x, t.drained == 1);
    msh_io_close(io);
    close(null);
}

static void a_reader_that_left_is_no_break(void **state)
{
    fixture *x = *state;
    told t = {0};
    int p[2];
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    msh_io *io = open_with(x, &t, MSH_STDOUT, p[1]);
    int guest = dial(x, 2);
    close(p[1]);
    close(p[0]);
    send(guest, "abc", 3, MSG_NOSIGNAL); /* it may know already */
    uint64_t taken = 0;
    assert_int_equal(word_of(guest, &taken), MSH_WORD_NO_MORE);
    msh_io_exited(io, 0, 0);
    until(x, t.drained == 1);
    msh_io_close(io);
    close(guest);
}

/* Else its agent would take the broken pipe for a broken connection, and wait for the next one. */
static void the_word_is_there_before_the_broken_pipe(void **state)
{
    fixture *x = *state;
    static const char zero[4096];
    for (int round = 0; round < 200; round++) {
        told t = {0};
        int p[2];
        assert_int_equal(pipe2(p, O_CLOEXEC), 0);
        msh_io *io = open_with(x, &t, MSH_STDOUT, p[1]);
        int guest = dial(x, 2);
        close(p[1]);
        close(p[0]);
        while (send(guest, zero, sizeof zero, MSG_NOSIGNAL) > 0) {
        }
        char got[MSH_WORD_SIZE];
        size_t n = 0;
        uint64_t taken = 0;
        bool over;
        assert_int_equal(msh_word_hear(guest, got, &n, &taken, &over), MSH_WORD_NO_MORE);
        msh_io_exited(io, 0, 0);
        until(x, t.drained == 1);
        msh_io_close(io);
        close(guest);
    }
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        WITH_RELAY(an_output_goes_on_where_it_was),
        WITH_RELAY(an_input_goes_on_where_it_was),
        WITH_RELAY(an_input_from_a_pipe_loses_nothing_in_a_dead_socket),
        WITH_RELAY(a_guest_that_reads_no_more_says_so),
        WITH_RELAY(an_output_whose_agent_never_comes_back_is_cut),
        WITH_RELAY(a_reader_that_left_is_no_break),
        WITH_RELAY(the_word_is_there_before_the_broken_pipe),
        WITH_RELAY(an_output_whose_guest_is_gone_waits_for_nobody),
        WITH_RELAY(what_a_guest_sent_before_it_was_gone_arrives),
        WITH_RELAY(a_stream_that_nobody_called_fails_when_the_guest_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

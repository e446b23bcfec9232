/* A stream whose socket breaks again and again: every byte arrives, once, in order. */
#include "sys/fd.h"
#include "transport/tail.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
/* after the above */
#include <cmocka.h>

typedef struct given {
    msh_pump_kit kit;
    msh_pump pump;
    int source[2], sock[2]; /* sock[0] is the writer's */
    uint64_t wrote, taken, moved;
    unsigned seed;
} given;

static unsigned pick(given *g, unsigned below)
{
    g->seed = g->seed * 1103515245u + 12345u;
    return (g->seed >> 8) % below;
}

/* What stands at a position; no two near ones look alike. */
static char byte_at(uint64_t at)
{
    return (char)((at * 2654435761u) >> 13 ^ at);
}

static void connect_pair(given *g)
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, g->sock), 0);
}

/* `sockets`: the source is a socket, so that bytes are copied. */
static void begin(given *g, bool copies)
{
    msh_err err = {0};
    *g = (given){.seed = 7};
    msh_pump_kit_init(&g->kit);
    if (copies)
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, g->source), 0);
    else
        assert_int_equal(pipe2(g->source, O_CLOEXEC | O_NONBLOCK), 0);
    connect_pair(g);
    assert_int_equal(msh_pump_init(&g->pump, &g->kit, g->source[0], g->sock[0], &err), MSH_OK);
    assert_int_equal(msh_pump_keep(&g->pump, &err), MSH_OK);
}

static void finish(given *g)
{
    msh_pump_free(&g->pump);
    msh_pump_kit_free(&g->kit);
    for (int i = 0; i < 2; i++) {
        msh_fd_close(&g->source[i]);
        msh_fd_close(&g->sock[i]);
    }
}

static void produce(given *g, size_t n)
{
    char b[65536];
    if (n > sizeof b)
        n = sizeof b;
    for (size_t i = 0; i < n; i++)
        b[i] = byte_at(g->wrote + i);
    ssize_t m = write(g->source[1], b, n);
    if (m > 0)
        g->wrote += (uint64_t)m;
}

/* Reads at most n bytes and checks each. */
static void consume(given *g, size_t n)
{
    char b[65536];
    if (n > sizeof b)
        n = sizeof b;
    ssize_t m = recv(g->sock[1], b, n, MSG_DONTWAIT);
    for (ssize_t i = 0; i < m; i++)
        if (b[i] != byte_at(g->taken + (uint64_t)i))
            fail_msg("byte %llu is wrong", (unsigned long long)g->taken + (unsigned long long)i);
    if (m > 0)
        g->taken += (uint64_t)m;
}

static msh_pump_state move(given *g)
{
    return msh_pump_move(&g->pump, 256 << 10, &g->moved);
}

/* The reader's socket goes away over unread bytes; both meet again. */
static void cut(given *g)
{
    char word[MSH_WORD_SIZE];
    size_t n = 0;
    uint64_t taken = 0;
    bool over;
    msh_fd_close(&g->sock[1]);
    if (pick(g, 2) == 0)
        move(g); /* may notice, need not */
    msh_fd_close(&g->sock[0]);
    connect_pair(g);
    assert_true(msh_word_say(g->sock[1], MSH_WORD_GO_ON, g->taken));
    assert_int_equal(msh_word_hear(g->sock[0], word, &n, &taken, &over), MSH_WORD_GO_ON);
    assert_true(taken == g->taken);
    msh_pump_new_out(&g->pump, g->sock[0]);
    assert_true(msh_tail_resume(g->pump.tail, taken) == 0);
}

static void to_the_end(given *g)
{
    msh_fd_close(&g->source[1]);
    for (int i = 0; i < 100000 && move(g) != MSH_PUMP_EOF; i++)
        consume(g, sizeof(char[65536]));
    for (int i = 0; i < 1000; i++)
        consume(g, 65536);
    assert_true(g->taken == g->wrote);
    assert_true(g->moved == g->wrote);
}

static void churn(bool copies, size_t biggest, unsigned rounds)
{
    given g;
    begin(&g, copies);
    for (unsigned i = 0; i < rounds; i++) {
        switch (pick(&g, 8)) {
        case 0:
        case 1:
        case 2:
            produce(&g, 1 + pick(&g, (unsigned)biggest));
            break;
        case 3:
        case 4:
            move(&g);
            break;
        case 5:
        case 6:
            consume(&g, 1 + pick(&g, (unsigned)biggest));
            break;
        default:
            if (pick(&g, 4) == 0)
                cut(&g);
        }
    }
    to_the_end(&g);
    finish(&g);
}

static void nothing_is_lost_or_doubled(void **state)
{
    (void)state;
    for (int copies = 0; copies < 2; copies++) {
        churn(copies, 10, 20000);
        churn(copies, 5000, 20000);
        churn(copies, 65536, 5000);
    }
}

static void a_reader_that_does_not_read_is_waited_for(void **state)
{
    (void)state;
    for (int copies = 0; copies < 2; copies++) {
        given g;
        begin(&g, copies);
        uint64_t before;
        do {
            before = g.wrote;
            produce(&g, 10);
            move(&g);
            produce(&g, 65536);
            move(&g);
        } while (g.wrote != before);
        assert_int_equal(move(&g), MSH_PUMP_WAIT);
        assert_true(msh_buf_size(&g.pump.tail->mem) + g.pump.tail->piped <= MSH_TAIL_MAX);
        cut(&g);
        to_the_end(&g);
        finish(&g);
    }
}

static void an_idle_stream_holds_nothing(void **state)
{
    (void)state;
    for (int copies = 0; copies < 2; copies++) {
        given g;
        begin(&g, copies);
        for (int i = 0; i < 1000; i++) {
            produce(&g, 100);
            assert_int_equal(move(&g), MSH_PUMP_WAIT);
            consume(&g, 100);
        }
        assert_int_equal(move(&g), MSH_PUMP_WAIT);
        assert_int_equal(msh_buf_size(&g.pump.tail->mem) + g.pump.tail->piped, 0);
        assert_int_equal(g.pump.tail->pipe[0], -1);
        assert_null(g.pump.tail->mem.p);
        finish(&g);
    }
}

static void the_end_can_be_sent_once_more(void **state)
{
    (void)state;
    given g;
    begin(&g, false);
    produce(&g, 5000);
    msh_fd_close(&g.source[1]);
    assert_int_equal(move(&g), MSH_PUMP_EOF);
    consume(&g, 100);
    cut(&g);
    assert_int_equal(move(&g), MSH_PUMP_EOF);
    consume(&g, 65536);
    assert_true(g.taken == 5000 && g.moved == 5000);
    finish(&g);
}

static void a_reader_that_cannot_count_gets_what_is_kept(void **state)
{
    (void)state;
    given g;
    char b[4096];
    begin(&g, false);
    produce(&g, 3000);
    move(&g);
    consume(&g, 1000);
    msh_fd_close(&g.sock[0]);
    msh_fd_close(&g.sock[1]);
    connect_pair(&g);
    msh_pump_new_out(&g.pump, g.sock[0]);
    msh_tail_replay(g.pump.tail, 131072);
    move(&g);
    assert_int_equal(recv(g.sock[1], b, sizeof b, MSG_DONTWAIT), 3000);
    assert_int_equal(b[0], byte_at(0));
    finish(&g);
}

static void words_come_whole_or_not_at_all(void **state)
{
    (void)state;
    int s[2];
    char got[MSH_WORD_SIZE];
    size_t n = 0;
    uint64_t taken = 0;
    bool over;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s), 0);
    assert_int_equal(msh_word_hear(s[0], got, &n, &taken, &over), MSH_WORD_NONE);
    assert_false(over);
    assert_true(msh_word_say(s[1], MSH_WORD_NO_MORE, UINT64_C(0x0102030405060708)));
    char raw[MSH_WORD_SIZE];
    assert_int_equal(recv(s[0], raw, sizeof raw, 0), MSH_WORD_SIZE);
    for (int i = 0; i < MSH_WORD_SIZE; i++) { /* byte by byte */
        assert_int_equal(send(s[1], raw + i, 1, 0), 1);
        msh_word w = msh_word_hear(s[0], got, &n, &taken, &over);
        assert_int_equal(w, i == MSH_WORD_SIZE - 1 ? MSH_WORD_NO_MORE : MSH_WORD_NONE);
        assert_false(over);
    }
    assert_true(taken == UINT64_C(0x0102030405060708));
    assert_false(msh_word_broke(s[0]));
    shutdown(s[1], SHUT_WR);
    assert_false(msh_word_broke(s[0])); /* it ended and waits */
    send(s[0], "not a word at all", 16, 0);
    assert_int_equal(msh_word_hear(s[1], got, &n, &taken, &over), MSH_WORD_NONE);
    assert_true(over);
    close(s[1]);
    assert_true(msh_word_broke(s[0]));
    n = 0;
    assert_int_equal(msh_word_hear(s[0], got, &n, &taken, &over), MSH_WORD_NONE);
    assert_true(over);
    close(s[0]);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_lost_or_doubled),
        cmocka_unit_test(a_reader_that_does_not_read_is_waited_for),
        cmocka_unit_test(an_idle_stream_holds_nothing),
        cmocka_unit_test(the_end_can_be_sent_once_more),
        cmocka_unit_test(a_reader_that_cannot_count_gets_what_is_kept),
        cmocka_unit_test(words_come_whole_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* relay/relay_fixture.h - for the tests of the relay: a loop, a relay, a folder, and the guest's side of a stream. */
#ifndef MSH_RELAY_FIXTURE_H
#define MSH_RELAY_FIXTURE_H
#include "relay/relay.h"
#include "sys/fd.h"
#include "sys/tree.h"
#include "sys/usock.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
/* after the above */
#include <cmocka.h>

typedef struct fixture {
    uv_loop_t loop;
    msh_relay *relay;
    char dir[64];
} fixture;

typedef struct told { /* what one io has reported */
    int ready, drained;
    msh_err err;
    msh_io_report report;
} told;

static inline void note_ready(void *ctx, const msh_err *err)
{
    told *t = ctx;
    t->ready++;
    if (err != NULL)
        t->err = *err;
}

static inline void note_drained(void *ctx, const msh_io_report *report)
{
    told *t = ctx;
    t->drained++;
    t->report = *report;
}

static inline int given_relay(void **state)
{
    fixture *x = calloc(1, sizeof *x);
    assert_non_null(x);
    snprintf(x->dir, sizeof x->dir, "/tmp/msh-relay-XXXXXX");
    assert_non_null(mkdtemp(x->dir));
    assert_int_equal(uv_loop_init(&x->loop), 0);
    assert_int_equal(msh_relay_new(&x->loop, &x->relay, NULL), MSH_OK);
    *state = x;
    return 0;
}

static inline int after_relay(void **state)
{
    fixture *x = *state;
    msh_relay_close(x->relay);
    while (uv_run(&x->loop, UV_RUN_DEFAULT) != 0) {
    }
    assert_int_equal(uv_loop_close(&x->loop), 0);
    assert_int_equal(msh_remove_tree(x->dir, NULL), MSH_OK);
    free(x);
    return 0;
}

#define WITH_RELAY(f) cmocka_unit_test_setup_teardown(f, given_relay, after_relay)

#define until(x, condition)                                                                                  \
    while (!(condition))                                                                                     \
    assert_int_not_equal(uv_run(&(x)->loop, UV_RUN_ONCE), 0)

static inline msh_io_want no_stdio(fixture *x, told *t)
{
    return (msh_io_want){
        .name = "test",
        .dir = x->dir,
        .end = {{.fd = -1, .port = 1}, {.fd = -1, .port = 2}, {.fd = -1, .port = 3}},
        .on_ready = note_ready,
        .on_drained = note_drained,
        .ctx = t,
    };
}

static inline const char *at(const fixture *x, const char *name)
{
    static _Thread_local char path[128];
    snprintf(path, sizeof path, "%s/%s", x->dir, name);
    return path;
}

/* The guest dials; its side is blocking, as a program's is. */
static inline int dial(const fixture *x, unsigned port)
{
    char name[16];
    int fd = -1;
    snprintf(name, sizeof name, "%u", port);
    assert_int_equal(msh_socket_connect(at(x, name), &fd, NULL), MSH_OK);
    assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
    return fd;
}

static inline void given_fifo_named(const fixture *x, const char *name, char path[128])
{
    snprintf(path, 128, "%s/%s", x->dir, name);
    assert_int_equal(mkfifo(path, 0600), 0);
}

static inline void given_fifo(const fixture *x, char path[128])
{
    given_fifo_named(x, "fifo", path);
}

static inline unsigned open_fds(void)
{
    unsigned n = 0;
    for (int fd = 0; fd < 4096; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* Reads to the end, or `most` bytes. */
static inline size_t read_all(int fd, char *to, size_t most)
{
    size_t got = 0;
    while (got < most) {
        ssize_t n = read(fd, to + got, most - got);
        if (n < 0 && errno == EINTR)
            continue;
        assert_true(n >= 0);
        if (n == 0)
            break;
        got += (size_t)n;
    }
    return got;
}

static inline void write_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t w = write(fd, p, n);
        if (w < 0 && errno == EINTR)
            continue;
        assert_true(w > 0);
        p += w;
        n -= (size_t)w;
    }
}

/* Writes until nobody takes any more for a while; says how much. */
static inline size_t fill(int fd)
{
    static const char zero[4096];
    size_t n = 0;
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        if (poll(&p, 1, 300) == 0)
            return n;
        ssize_t k = send(fd, zero, sizeof zero, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (k < 0 && errno == EAGAIN)
            continue;
        assert_true(k > 0);
        n += (size_t)k;
    }
}

static inline size_t read_zeros(int fd, size_t n)
{
    char buf[65536];
    size_t got = 0;
    while (got < n) {
        size_t k = read_all(fd, buf, n - got < sizeof buf ? n - got : sizeof buf);
        if (k == 0)
            break;
        got += k;
    }
    return got;
}

#endif

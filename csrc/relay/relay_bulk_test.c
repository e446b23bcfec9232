/* 64 MiB through every kind of end: complete, in order, and the flags of the ends untouched. */
#include "relay/relay_fixture.h"

enum { BULK = 64 << 20 };

typedef struct worker {
    pthread_t thread;
    int fd;
    size_t chunk;
    uint64_t n, hash;
    bool failed;
} worker;

/* Byte by byte over a buffer of one's own: nothing for a sanitizer to see, and most of its time. */
__attribute__((no_sanitize("thread", "address"))) static uint64_t hash_of(uint64_t h, const unsigned char *p,
                                                                          size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h;
}

__attribute__((no_sanitize("thread", "address"))) static uint64_t noise(uint64_t x, unsigned char *p,
                                                                        size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if ((i & 7) == 0)
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        p[i] = (unsigned char)(x >> (8 * (i & 7)));
    }
    return x;
}

static void *produce(void *arg)
{
    worker *w = arg;
    unsigned char *p = malloc(w->chunk);
    uint64_t x = 88172645463325252u;
    for (uint64_t sent = 0; sent < BULK && !w->failed;) {
        size_t n = BULK - sent < w->chunk ? (size_t)(BULK - sent) : w->chunk;
        x = noise(x, p, n);
        w->hash = hash_of(w->hash, p, n);
        for (size_t done = 0; done < n;) {
            ssize_t k = write(w->fd, p + done, n - done);
            if (k <= 0) {
                w->failed = true;
                break;
            }
            done += (size_t)k;
        }
        sent += n;
        w->n = sent;
    }
    free(p);
    msh_fd_close(&w->fd);
    return NULL;
}

static void *consume(void *arg)
{
    worker *w = arg;
    unsigned char *p = malloc(w->chunk);
    for (;;) {
        ssize_t k = read(w->fd, p, w->chunk);
        if (k < 0)
            w->failed = true;
        if (k <= 0)
            break;
        w->hash = hash_of(w->hash, p, (size_t)k);
        w->n += (uint64_t)k;
    }
    free(p);
    return NULL;
}

static void start(worker *w, int fd, size_t chunk, void *(*fn)(void *))
{
    *w = (worker){.fd = fd, .chunk = chunk};
    assert_int_equal(pthread_create(&w->thread, NULL, fn, w), 0);
}

static void join(worker *w)
{
    pthread_join(w->thread, NULL);
    assert_false(w->failed);
}

static void same(const worker *from, const worker *to)
{
    assert_int_equal(from->n, BULK);
    assert_int_equal(to->n, BULK);
    assert_true(from->hash == to->hash);
}

/* [#535]
 * Runs stdout from a guest into `sink` (a descriptor) or the fifo `path`. `from` is what the guest wrote. */
static void run_output(fixture *x, int sink, const char *path, worker *from)
{
    told t = {0};
    msh_io *io;
    msh_io_want want = no_stdio(x, &t);
    want.end[MSH_STDOUT].fd = sink;
    want.end[MSH_STDOUT].path = path;
    int flags = sink >= 0 ? fcntl(sink, F_GETFL) : 0;
    assert_int_equal(msh_io_open(x->relay, &want, &io, NULL), MSH_OK);
    start(from, dial(x, 2), 50000, produce);
    until(x, t.ready == 1);
    msh_io_exited(io, 3600 * 1000, 3600 * 1000);
    until(x, t.drained == 1);
    join(from);
    assert_false(t.report.cut);
    assert_int_equal(t.report.error[MSH_STDOUT], 0);
    assert_int_equal(t.report.bytes[MSH_STDOUT], BULK);
    if (sink >= 0)
        assert_int_equal(fcntl(sink, F_GETFL), flags);
    msh_io_close(io);
}

static void stdout_into_a_pipe(void **state)
{
    int p[2];
    worker from, to;
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    start(&to, p[0], 65536, consume);
    run_output(*state, p[1], NULL, &from);
    close(p[1]);
    join(&to);
    close(p[0]);
    same(&from, &to);
}

static void stdout_into_a_socket_that_others_share(void **state)
{
    int p[2];
    worker from, to;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p), 0);
    start(&to, p[0], 30011, consume);
    run_output(*state, p[1], NULL, &from);
    close(p[1]);
    join(&to);
    close(p[0]);
    same(&from, &to);
}

static void into_file(fixture *x, int flags)
{
    worker from, to;
    int fd = open(at(x, "out"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | flags, 0600);
    assert_true(fd >= 0);
    run_output(x, fd, NULL, &from);
    assert_int_equal(lseek(fd, 0, SEEK_CUR), BULK); /* the offset is shared with the caller */
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    start(&to, fd, 65536, consume);
    join(&to);
    close(fd);
    same(&from, &to);
}

static void stdout_into_a_file(void **state)
{
    into_file(*state, 0);
}

static void stdout_into_a_file_opened_for_appending(void **state)
{
    into_file(*state, O_APPEND);
}

static void stdout_into_a_fifo(void **state)
{
    fixture *x = *state;
    char path[128];
    worker from, to;
    given_fifo(x, path);
    int reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    int keep = open(path, O_WRONLY | O_CLOEXEC); /* until the relay has opened it: else an end at once */
    assert_int_equal(fcntl(reader, F_SETFL, 0), 0);
    start(&to, reader, 65536, consume);
    run_output(x, -1, path, &from);
    close(keep);
    join(&to); /* it saw the end: nobody holds the fifo any more */
    close(reader);
    same(&from, &to);
}

/* Runs stdin from `source` or the fifo `path` into a guest that reads to the end. */
static void run_input(fixture *x, int source, const char *path, worker *from, worker *to)
{
    told t = {0};
    msh_io *io;
    msh_io_want want = no_stdio(x, &t);
    want.end[MSH_STDIN].fd = source;
    want.end[MSH_STDIN].path = path;
    int flags = source >= 0 ? fcntl(source, F_GETFL) : 0;
    assert_int_equal(msh_io_open(x->relay, &want, &io, NULL), MSH_OK);
    int guest = dial(x, 1);
    start(to, guest, 40000, consume);
    until(x, t.ready == 1);
    if (path != NULL) { /* closing overtakes nothing: the writer is still at work */
        int writer = open(path, O_WRONLY | O_CLOEXEC);
        assert_true(writer >= 0);
        msh_io_close_stdin(io);
        start(from, writer, 60000, produce);
    }
    join(to);
    msh_io_exited(io, 0, 0);
    until(x, t.drained == 1);
    assert_int_equal(t.report.bytes[MSH_STDIN], BULK);
    if (source >= 0)
        assert_int_equal(fcntl(source, F_GETFL), flags);
    msh_io_close(io);
    close(guest);
}

static void stdin_from_a_pipe(void **state)
{
    int p[2];
    worker from, to;
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    start(&from, p[1], 65536, produce);
    run_input(*state, p[0], NULL, &from, &to);
    join(&from);
    close(p[0]);
    same(&from, &to);
}

static void stdin_from_a_socket_that_others_share(void **state)
{
    int p[2];
    worker from, to;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p), 0);
    start(&from, p[1], 9999, produce);
    run_input(*state, p[0], NULL, &from, &to);
    join(&from);
    close(p[0]);
    same(&from, &to);
}

static void stdin_from_a_file(void **state)
{
    fixture *x = *state;
    worker from, to;
    int fd = open(at(x, "in"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    start(&from, dup(fd), 65536, produce);
    join(&from);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    run_input(x, fd, NULL, &from, &to);
    close(fd);
    same(&from, &to);
}

static void stdin_from_a_fifo_closed_while_its_writer_writes(void **state)
{
    fixture *x = *state;
    char path[128];
    worker from, to;
    given_fifo(x, path);
    run_input(x, -1, path, &from, &to);
    join(&from);
    same(&from, &to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RELAY(stdout_into_a_pipe),
        WITH_RELAY(stdout_into_a_socket_that_others_share),
        WITH_RELAY(stdout_into_a_file),
        WITH_RELAY(stdout_into_a_file_opened_for_appending),
        WITH_RELAY(stdout_into_a_fifo),
        WITH_RELAY(stdin_from_a_pipe),
        WITH_RELAY(stdin_from_a_socket_that_others_share),
        WITH_RELAY(stdin_from_a_file),
        WITH_RELAY(stdin_from_a_fifo_closed_while_its_writer_writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

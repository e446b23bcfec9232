/* What only the carrier over unix sockets has: files, descriptors, peers. */
#include "sys/fd.h"
#include "sys/tree.h"
#include "transport/mem.h"
#include "transport/unix.h"
#include <fcntl.h>
#include <limits.h>
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

typedef struct given {
    uv_loop_t loop;
    char dir[64], path[PATH_MAX];
    msh_listener *listener;
    msh_stream *server, *client;
    int accepted, connected, ended;
    msh_err err;
    char got[64];
    size_t n;
    int fd, fds;
} given;

static void on_accept(void *ctx, msh_stream *s)
{
    given *g = ctx;
    g->accepted++;
    msh_stream_close(g->server);
    g->server = s;
}

static void on_connected(void *ctx, msh_stream *s, const msh_err *err)
{
    given *g = ctx;
    g->connected++;
    g->client = s;
    if (err != NULL)
        g->err = *err;
}

static void on_data(void *ctx, msh_slice bytes, int fd)
{
    given *g = ctx;
    assert_true(g->n + bytes.n <= sizeof g->got);
    memcpy(g->got + g->n, bytes.p, bytes.n);
    g->n += bytes.n;
    if (fd >= 0) {
        g->fds++;
        msh_fd_close(&g->fd);
        g->fd = fd;
    }
}

static void on_end(void *ctx, const msh_err *err)
{
    given *g = ctx;
    (void)err;
    g->ended++;
}

static int given_folder(void **state)
{
    given *g = calloc(1, sizeof *g);
    g->fd = -1;
    snprintf(g->dir, sizeof g->dir, "/tmp/msh-unix-XXXXXX");
    assert_non_null(mkdtemp(g->dir));
    snprintf(g->path, sizeof g->path, "%s/s", g->dir);
    assert_int_equal(uv_loop_init(&g->loop), 0);
    *state = g;
    return 0;
}

static int after(void **state)
{
    given *g = *state;
    msh_listener_close(g->listener);
    msh_stream_close(g->server);
    msh_stream_close(g->client);
    msh_fd_close(&g->fd);
    uv_run(&g->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&g->loop), 0);
    assert_int_equal(msh_remove_tree(g->dir, NULL), MSH_OK);
    free(g);
    return 0;
}

static void connect_both(given *g)
{
    msh_connect *c;
    assert_int_equal(msh_unix_listen(&g->loop, g->path, 0600, on_accept, g, &g->listener, NULL), MSH_OK);
    assert_int_equal(msh_unix_connect(&g->loop, g->path, on_connected, g, &c, NULL), MSH_OK);
    assert_int_equal(g->connected, 0);
    while (g->connected == 0 || g->accepted == 0)
        uv_run(&g->loop, UV_RUN_ONCE);
    assert_non_null(g->client);
}

static void the_socket_is_private_and_goes_with_its_listener(void **state)
{
    given *g = *state;
    struct stat st;
    msh_peer peer;
    connect_both(g);
    assert_int_equal(lstat(g->path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(msh_stream_peer(g->server, &peer, NULL), MSH_OK);
    assert_int_equal(peer.pid, getpid());
    assert_int_equal(peer.uid, geteuid());
    msh_listener *second;
    assert_int_equal(msh_unix_listen(&g->loop, g->path, 0600, on_accept, g, &second, NULL),
                     MSH_ALREADY_EXISTS);
    msh_listener_close(g->listener);
    g->listener = NULL;
    assert_int_equal(lstat(g->path, &st), -1);
}

static void a_path_that_another_took_over_is_left_alone(void **state)
{
    given *g = *state;
    struct stat st;
    connect_both(g);
    assert_int_equal(unlink(g->path), 0);
    int other = open(g->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    close(other);
    msh_listener_close(g->listener);
    g->listener = NULL;
    assert_int_equal(lstat(g->path, &st), 0);
}

static void longer(given *g, const char *more)
{
    size_t n = strlen(g->path);
    snprintf(g->path + n, sizeof g->path - n, "%s", more);
}

static void paths_may_be_longer_than_an_address(void **state)
{
    given *g = *state;
    for (int i = 0; i < 10; i++)
        longer(g, "/a-rather-long-name-of-a-folder");
    assert_int_equal(unlink(g->path), -1);
    assert_int_equal(msh_mkdir_p(g->path, 0700, NULL), MSH_OK);
    longer(g, "/1073741824");
    connect_both(g);
    assert_int_equal(access(g->path, F_OK), 0);
}

static void a_connect_that_fails_says_why(void **state)
{
    given *g = *state;
    msh_connect *c;
    assert_int_equal(msh_unix_connect(&g->loop, g->path, on_connected, g, &c, NULL), MSH_OK);
    while (g->connected == 0)
        uv_run(&g->loop, UV_RUN_ONCE);
    assert_null(g->client);
    assert_int_equal(g->err.code, MSH_NOT_FOUND);
}

static void a_full_backlog_is_waited_for_until_it_is_cancelled(void **state)
{
    given *g = *state;
    int listener, fds[600], n = 0;
    msh_socket_id id;
    msh_connect *c, *cancelled;
    assert_int_equal(msh_socket_listen(g->path, 0600, &listener, &id, NULL), MSH_OK);
    while (n < 600 && msh_socket_connect(g->path, &fds[n], NULL) == MSH_OK)
        n++;
    assert_true(n < 600);
    assert_int_equal(msh_unix_connect(&g->loop, g->path, on_connected, g, &c, NULL), MSH_OK);
    assert_int_equal(msh_unix_connect(&g->loop, g->path, on_connected, g, &cancelled, NULL), MSH_OK);
    uv_run(&g->loop, UV_RUN_ONCE);
    assert_int_equal(g->connected, 0);
    msh_connect_cancel(cancelled);
    int one = -1;
    assert_int_equal(msh_socket_accept(listener, &one, NULL), MSH_OK);
    uv_run(&g->loop, UV_RUN_DEFAULT);
    assert_int_equal(g->connected, 1);
    assert_non_null(g->client);
    close(one);
    close(listener);
    while (n > 0)
        close(fds[--n]);
}

static void read_server(given *g)
{
    assert_int_equal(
        msh_stream_read(g->server, &(msh_reader){.data = on_data, .end = on_end, .ctx = g}, NULL), MSH_OK);
}

static void a_descriptor_travels_with_its_bytes(void **state)
{
    given *g = *state;
    int p[2];
    char c = 0;
    connect_both(g);
    read_server(g);
    assert_int_equal(msh_stream_take_fds(g->server, NULL), MSH_OK);
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    assert_int_equal(msh_stream_send_fd(g->client, p[1], (msh_slice){"K", 1}, NULL, NULL, NULL), MSH_OK);
    close(p[1]); /* borrowed for the call alone */
    while (g->n < 1)
        uv_run(&g->loop, UV_RUN_ONCE);
    assert_int_equal(g->fds, 1);
    assert_true((fcntl(g->fd, F_GETFD) & FD_CLOEXEC) != 0);
    assert_int_equal(write(g->fd, "x", 1), 1);
    assert_int_equal(read(p[0], &c, 1), 1);
    close(p[0]);
    assert_int_equal(msh_stream_send_fd(g->client, -1, (msh_slice){"K", 1}, NULL, NULL, NULL),
                     MSH_INVALID_ARGUMENT);
    assert_int_equal(msh_stream_send_fd(g->client, 0, (msh_slice){"", 0}, NULL, NULL, NULL),
                     MSH_INVALID_ARGUMENT);
}

static void a_descriptor_waits_behind_queued_bytes(void **state)
{
    given *g = *state;
    size_t n = 4 << 20;
    char *p = calloc(1, n);
    connect_both(g);
    msh_stream_stop(g->server);
    assert_int_equal(msh_stream_write(g->client, (msh_slice){p, n}, NULL, NULL, NULL), MSH_OK);
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(msh_stream_send_fd(g->client, fd, (msh_slice){"K", 1}, NULL, NULL, NULL), MSH_OK);
    close(fd);
    msh_stream_close(g->client); /* its duplicate goes with the queue */
    g->client = NULL;
    free(p);
}

static void descriptors_that_nobody_asked_for_do_not_come_in(void **state)
{
    given *g = *state;
    connect_both(g);
    read_server(g);
    assert_int_equal(msh_stream_send_fd(g->client, 0, (msh_slice){"abc", 3}, NULL, NULL, NULL), MSH_OK);
    while (g->n < 3)
        uv_run(&g->loop, UV_RUN_ONCE);
    assert_int_equal(g->fds, 0);
}

static void a_burst_of_connections_is_accepted(void **state)
{
    given *g = *state;
    int fds[100];
    assert_int_equal(msh_unix_listen(&g->loop, g->path, 0600, on_accept, g, &g->listener, NULL), MSH_OK);
    for (int i = 0; i < 100; i++)
        assert_int_equal(msh_socket_connect(g->path, &fds[i], NULL), MSH_OK);
    while (g->accepted < 100)
        uv_run(&g->loop, UV_RUN_ONCE);
    for (int i = 0; i < 100; i++)
        close(fds[i]);
}

#define IN_FOLDER(f) cmocka_unit_test_setup_teardown(f, given_folder, after)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(the_socket_is_private_and_goes_with_its_listener),
        IN_FOLDER(a_path_that_another_took_over_is_left_alone),
        IN_FOLDER(paths_may_be_longer_than_an_address),
        IN_FOLDER(a_connect_that_fails_says_why),
        IN_FOLDER(a_full_backlog_is_waited_for_until_it_is_cancelled),
        IN_FOLDER(a_descriptor_travels_with_its_bytes),
        IN_FOLDER(a_descriptor_waits_behind_queued_bytes),
        IN_FOLDER(descriptors_that_nobody_asked_for_do_not_come_in),
        IN_FOLDER(a_burst_of_connections_is_accepted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

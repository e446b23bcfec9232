/* The log's way to the host: a socket that the test listens on. */
#include "agent/log.h"
#include "sys/fd.h"
#include "sys/usock.h"
#include <fcntl.h>
#include <jansson.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* after the above */
#include <cmocka.h>

typedef struct fixture {
    char dir[64], path[96];
    int listener, fd;
    char buffer[1 << 20];
    size_t n;
} fixture;

static int given_a_host(void **state)
{
    fixture *x = calloc(1, sizeof *x);
    msh_socket_id id;
    assert_non_null(x);
    x->fd = x->listener = -1;
    snprintf(x->dir, sizeof x->dir, "/tmp/msh-log-XXXXXX");
    assert_non_null(mkdtemp(x->dir));
    snprintf(x->path, sizeof x->path, "%s/109", x->dir);
    assert_int_equal(msh_socket_listen(x->path, 0600, &x->listener, &id, NULL), MSH_OK);
    assert_true(msh_log_connect(x->path));
    assert_int_equal(msh_socket_accept(x->listener, &x->fd, NULL), MSH_OK);
    *state = x;
    return 0;
}

static int after(void **state)
{
    fixture *x = *state;
    msh_fd_close(&x->fd);
    msh_fd_close(&x->listener);
    unlink(x->path);
    rmdir(x->dir);
    free(x);
    return 0;
}

/* The next record; the caller frees it. NULL: nothing more has come. */
static json_t *record_of(fixture *x)
{
    char *end;
    while ((end = memchr(x->buffer, '\n', x->n)) == NULL) {
        ssize_t n = read(x->fd, x->buffer + x->n, sizeof x->buffer - x->n);
        if (n <= 0)
            return NULL;
        x->n += (size_t)n;
    }
    json_t *o = json_loadb(x->buffer, (size_t)(end - x->buffer), 0, NULL);
    assert_non_null(o);
    x->n -= (size_t)(end + 1 - x->buffer);
    memmove(x->buffer, end + 1, x->n);
    return o;
}

static const char *text(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static void a_line_is_a_record(void **state)
{
    msh_warn("disk %s:\n\"%s\"", "c\\d", "busy");
    json_t *o = record_of(*state);
    assert_string_equal(text(o, "level"), "warn");
    assert_string_equal(text(o, "msg"), "disk c\\d: \"busy\"");
    assert_int_equal(strlen(text(o, "time")), strlen("2026-01-02T03:04:05.678Z"));
    assert_null(json_object_get(o, "dropped"));
    json_decref(o);
    msh_info("and so on");
    o = record_of(*state);
    assert_string_equal(text(o, "level"), "info");
    json_decref(o);
}

static void any_bytes_are_a_record(void **state)
{
    char longest[4000];
    memset(longest, 0x1f, sizeof longest);
    longest[sizeof longest - 1] = '\0';
    msh_info("name \xff\xfe of a user, \xc3\xbc");
    json_t *o = record_of(*state);
    assert_string_equal(text(o, "msg"), "name ?? of a user, ??");
    json_decref(o);
    msh_info("\xc3\xbc");
    o = record_of(*state);
    assert_string_equal(text(o, "msg"), "\xc3\xbc");
    json_decref(o);
    memset(longest, '"', sizeof longest - 1);
    msh_info("%s", longest); /* every byte needs two */
    o = record_of(*state);
    assert_true(strlen(text(o, "msg")) > 900);
    json_decref(o);
}

static void a_host_that_does_not_read_holds_nothing_up(void **state)
{
    fixture *x = *state;
    char filler[900];
    memset(filler, 'x', sizeof filler - 1);
    filler[sizeof filler - 1] = '\0';
    enum { LINES = 2000 };
    for (int i = 0; i < LINES; i++)
        msh_info("%s", filler);
    unsigned came = 0, lost = 0;
    json_t *o;
    while ((o = record_of(x)) != NULL) {
        came++;
        json_decref(o);
    }
    assert_true(came > 0 && came < LINES);
    msh_info("again");
    assert_non_null(o = record_of(x));
    assert_string_equal(text(o, "msg"), "again");
    lost = (unsigned)json_integer_value(json_object_get(o, "dropped"));
    json_decref(o);
    assert_int_equal(came + lost, LINES);
}

static void a_host_that_left_is_no_trouble(void **state)
{
    fixture *x = *state;
    msh_fd_close(&x->fd);
    msh_warn("to nobody");
    msh_warn("to nobody");
    assert_false(msh_log_connect("/tmp/no/such/socket"));
}

int main(void)
{
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC), kept = dup(STDERR_FILENO);
    signal(SIGPIPE, SIG_DFL); /* the log never raises it */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_line_is_a_record, given_a_host, after),
        cmocka_unit_test_setup_teardown(any_bytes_are_a_record, given_a_host, after),
        cmocka_unit_test_setup_teardown(a_host_that_does_not_read_holds_nothing_up, given_a_host, after),
        cmocka_unit_test_setup_teardown(a_host_that_left_is_no_trouble, given_a_host, after),
    };
    dup2(null, STDERR_FILENO); /* thousands of lines */
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    dup2(kept, STDERR_FILENO);
    return rc;
}

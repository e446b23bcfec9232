#include "agent/console.h"
#include "sys/fd.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
/* after the above */
#include <cmocka.h>

static char dir[64], path[96];

static int given_a_folder(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/msh-console-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/1.tty", dir);
    return 0;
}

static int after_a_folder(void **state)
{
    (void)state;
    return rmdir(dir); /* nothing may be left in it */
}

/* What a runtime does: it connects, sends, and ends. */
static void send_fd(int fd)
{
    int sock;
    size_t sent;
    assert_int_equal(msh_socket_connect(path, &sock, NULL), MSH_OK);
    assert_int_equal(msh_socket_send(sock, (msh_slice){"/dev/pts/0", 10}, fd, &sent, NULL), MSH_OK);
    close(sock);
}

static void the_master_that_was_sent_is_taken(void **state)
{
    (void)state;
    msh_console c;
    int master, slave, got = -1;
    msh_terminal_size size = {40, 120}, seen = {0};
    assert_int_equal(msh_terminal_open(&master, &slave, NULL), MSH_OK);
    assert_int_equal(msh_console_listen(&c, path, NULL), MSH_OK);
    send_fd(master);
    close(master);
    assert_int_equal(msh_console_take(&c, &got, NULL), MSH_OK);
    assert_true((fcntl(got, F_GETFL) & O_NONBLOCK) != 0);
    assert_true((fcntl(got, F_GETFD) & FD_CLOEXEC) != 0);
    assert_int_equal(msh_terminal_set_size(got, size, NULL), MSH_OK);
    assert_int_equal(msh_terminal_get_size(slave, &seen, NULL), MSH_OK);
    assert_memory_equal(&seen, &size, sizeof size);
    msh_console_close(&c);
    msh_console_close(&c);
    close(got);
    close(slave);
}

static void nothing_else_is(void **state)
{
    (void)state;
    msh_console c;
    msh_err err = {0};
    int master, slave, got = -1, null = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_int_equal(msh_terminal_open(&master, &slave, NULL), MSH_OK);
    const int wrong[] = {null, slave, -1};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(msh_console_listen(&c, path, NULL), MSH_OK);
        send_fd(wrong[i]);
        assert_int_equal(msh_console_take(&c, &got, &err), MSH_INTERNAL);
        assert_int_equal(got, -1);
        msh_console_close(&c);
    }
    assert_int_equal(msh_console_listen(&c, path, NULL), MSH_OK);
    assert_int_equal(msh_console_take(&c, &got, &err), MSH_INTERNAL);
    assert_string_equal(err.msg, "the runtime sent no terminal");
    msh_console_close(&c);
    close(null);
    close(master);
    close(slave);
}

static void a_terminal_that_nobody_took_is_hung_up(void **state)
{
    (void)state;
    msh_console c;
    int master, slave;
    char byte;
    assert_int_equal(msh_terminal_open(&master, &slave, NULL), MSH_OK);
    assert_int_equal(msh_console_listen(&c, path, NULL), MSH_OK);
    send_fd(master);
    close(master);
    msh_console_close(&c);
    assert_int_equal(read(slave, &byte, 1), 0);
    close(slave);
}

static void sizes_are_read_from_the_parameters(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        msh_terminal_size size;
        bool bad;
    } rows[] = {
        {"{}", {0, 0}, false},
        {"{\"ConsoleSize\":null}", {0, 0}, false},
        {"{\"ConsoleSize\":[24,80]}", {24, 80}, false},
        {"{\"consolesize\":[0,0]}", {0, 0}, false},
        {"{\"ConsoleSize\":[65535,65535]}", {65535, 65535}, false},
        {"{\"ConsoleSize\":[65536,80]}", {0, 0}, true},
        {"{\"ConsoleSize\":[-1,80]}", {0, 0}, true},
        {"{\"ConsoleSize\":[24]}", {0, 0}, true},
        {"{\"ConsoleSize\":[24,80,3]}", {0, 0}, true},
        {"{\"ConsoleSize\":[24.5,80]}", {0, 0}, true},
        {"{\"ConsoleSize\":[\"24\",80]}", {0, 0}, true},
        {"{\"ConsoleSize\":{\"rows\":24}}", {0, 0}, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *o = msh_json_parse(msh_slice_of(rows[i].json), "parameters", NULL);
        msh_reader in = msh_read(o);
        msh_terminal_size size = msh_console_read_size(&in);
        assert_memory_equal(&size, &rows[i].size, sizeof size);
        assert_int_equal(in.bad != NULL, rows[i].bad);
        json_decref(o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, given_a_folder, after_a_folder)
        T(the_master_that_was_sent_is_taken),
        T(nothing_else_is),
        T(a_terminal_that_nobody_took_is_hung_up),
        cmocka_unit_test(sizes_are_read_from_the_parameters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

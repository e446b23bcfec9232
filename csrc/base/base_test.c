/* Tests of base/: id map, GUIDs, buffers, checksums, the log line. */
#include "base/buf.h"
#include "base/crc.h"
#include "base/guid.h"
#include "base/idmap.h"
#include "base/log.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void idmap_finds_what_was_put_and_nothing_else(void **state)
{
    (void)state;
    msh_idmap m;
    msh_idmap_init(&m);
    int a, b;
    assert_null(msh_idmap_get(&m, 0));
    assert_null(msh_idmap_remove(&m, 0));
    assert_int_equal(msh_idmap_put(&m, 0, &a), MSH_OK);
    assert_int_equal(msh_idmap_put(&m, UINT64_MAX, &b), MSH_OK);
    assert_int_equal(msh_idmap_put(&m, 0, &b), MSH_ALREADY_EXISTS);
    assert_ptr_equal(msh_idmap_get(&m, 0), &a);
    assert_ptr_equal(msh_idmap_remove(&m, 0), &a);
    assert_null(msh_idmap_get(&m, 0));
    assert_ptr_equal(msh_idmap_get(&m, UINT64_MAX), &b);
    msh_idmap_free(&m);
}

static void idmap_agrees_with_a_plain_array(void **state)
{
    (void)state;
    enum { IDS = 700 };
    static char cell[IDS];
    void *plain[IDS] = {0};
    msh_idmap m;
    msh_idmap_init(&m);
    uint32_t seed = 1;
    size_t used = 0;
    for (int step = 0; step < 200000; step++) {
        seed = seed * 1664525u + 1013904223u;
        uint32_t i = (seed >> 8) % IDS;
        uint64_t id = (uint64_t)i << (i % 3 * 20); /* close together and far apart */
        if (seed >> 31) {
            msh_code rc = msh_idmap_put(&m, id, &cell[i]);
            assert_int_equal(rc, plain[i] ? MSH_ALREADY_EXISTS : MSH_OK);
            used += plain[i] == NULL;
            plain[i] = &cell[i];
        } else {
            assert_ptr_equal(msh_idmap_remove(&m, id), plain[i]);
            used -= plain[i] != NULL;
            plain[i] = NULL;
        }
        assert_int_equal(m.used, used);
    }
    for (uint32_t i = 0; i < IDS; i++)
        assert_ptr_equal(msh_idmap_get(&m, (uint64_t)i << (i % 3 * 20)), plain[i]);
    size_t cursor = 0, seen = 0;
    while (msh_idmap_each(&m, &cursor) != NULL)
        seen++;
    assert_int_equal(seen, used);
    msh_idmap_free(&m);
}

static void ids_are_never_handed_out_twice(void **state)
{
    (void)state;
    msh_idmap m;
    msh_idmap_init(&m);
    int a;
    uint64_t first = msh_idmap_next(&m);
    assert_int_equal(first, 1);
    msh_idmap_put(&m, first, &a);
    msh_idmap_remove(&m, first);
    assert_int_equal(msh_idmap_next(&m), 2);
    msh_idmap_seen(&m, 40);
    msh_idmap_seen(&m, 7);
    assert_int_equal(msh_idmap_next(&m), 41);
    msh_idmap_free(&m);
    assert_int_equal(msh_idmap_next(&m), 42);
}

static void guids_cross_as_text(void **state)
{
    (void)state;
    msh_guid g = {{0}};
    char text[MSH_GUID_TEXT];
    assert_true(msh_guid_parse("DF6d0690-79e5-55b6-a5ec-c1e2f77f580a", &g));
    msh_guid_format(&g, text);
    assert_string_equal(text, "df6d0690-79e5-55b6-a5ec-c1e2f77f580a");
    const char *bad[] = {"",
                         "df6d0690",
                         "df6d0690-79e5-55b6-a5ec-c1e2f77f580",
                         "df6d0690-79e5-55b6-a5ec-c1e2f77f580a0",
                         "{df6d0690-79e5-55b6-a5ec-c1e2f77f580a}",
                         "df6d069079e555b6a5ecc1e2f77f580a",
                         "gf6d0690-79e5-55b6-a5ec-c1e2f77f580a"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(msh_guid_parse(bad[i], &g));
    uint8_t ones[16];
    memset(ones, 0xff, sizeof ones);
    g = msh_guid_of_random(ones);
    msh_guid_format(&g, text);
    assert_string_equal(text, "ffffffff-ffff-4fff-bfff-ffffffffffff");
}

static void an_error_is_one_line_whatever_it_quotes(void **state)
{
    (void)state;
    msh_err e;
    msh_fail(&e, MSH_INVALID_ARGUMENT, "no \"%s\"", "a\nb\r\x1b]0;x\x07\x7f");
    assert_string_equal(e.msg, "no \"a b  ]0;x  \"");
    msh_err_note(&e, "in %s", "\x1b[1m");
    assert_string_equal(e.msg, "in  [1m: no \"a b  ]0;x  \"");
}

static void buffers_keep_their_limit(void **state)
{
    (void)state;
    msh_buf b;
    msh_buf_init(&b, 10);
    assert_int_equal(msh_buf_append(&b, msh_slice_of("01234567")), MSH_OK);
    assert_int_equal(msh_buf_append(&b, msh_slice_of("abc")), MSH_RESOURCE_EXHAUSTED);
    msh_buf_consume(&b, 4);
    assert_int_equal(msh_buf_append(&b, msh_slice_of("abc")), MSH_OK);
    assert_int_equal(msh_buf_size(&b), 7);
    assert_memory_equal(msh_buf_slice(&b).p, "4567abc", 7);
    assert_true(b.cap <= 10);
    msh_buf_free(&b);
    assert_int_equal(b.limit, 10);
}

struct sunk {
    int lines;
    char last[MSH_LOG_LINE + 1];
};
static void sink(void *ctx, msh_level level, const char *area, const char *line)
{
    struct sunk *s = ctx;
    (void)level;
    (void)area;
    s->lines++;
    snprintf(s->last, sizeof s->last, "%s", line);
    errno = EIO;
}

static void a_log_line_is_one_line_and_keeps_errno(void **state)
{
    (void)state;
    struct sunk s = {0};
    msh_log log = {sink, &s, MSH_INFO};
    errno = ENOENT;
    msh_log_line(&log, MSH_DEBUG, "x", "below");
    assert_int_equal(s.lines, 0);
    msh_log_line(&log, MSH_ERROR, "x", "a\nb\x1b[0m %d", 7);
    assert_int_equal(s.lines, 1);
    assert_string_equal(s.last, "a b [0m 7");
    assert_int_equal(errno, ENOENT);
    msh_log_line(NULL, MSH_ERROR, "x", "to nobody");
    msh_log_line(&log, MSH_ERROR, "x", "%02000d", 1);
    assert_int_equal(strlen(s.last), MSH_LOG_LINE);
}

static void checksums_are_those_of_everybody(void **state)
{
    (void)state;
    assert_int_equal(msh_crc32(msh_slice_of("")), 0);
    assert_int_equal(msh_crc32(msh_slice_of("123456789")), 0xcbf43926);
    assert_int_equal(msh_crc32((msh_slice){"\0\xff\x80", 3}), 0x81dda740);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idmap_finds_what_was_put_and_nothing_else),
        cmocka_unit_test(idmap_agrees_with_a_plain_array),
        cmocka_unit_test(ids_are_never_handed_out_twice),
        cmocka_unit_test(guids_cross_as_text),
        cmocka_unit_test(an_error_is_one_line_whatever_it_quotes),
        cmocka_unit_test(buffers_keep_their_limit),
        cmocka_unit_test(checksums_are_those_of_everybody),
        cmocka_unit_test(a_log_line_is_one_line_and_keeps_errno),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}

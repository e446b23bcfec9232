/* The pure parts: names, users, files, command lines, lenient JSON, answers, and the frames of existing peers. */
#include "agent/files.h"
#include "agent/json.h"
#include "agent/paths.h"
#include "agent/program.h"
#include "agent/reply.h"
#include "agent/split.h"
#include "agent/users.h"
#include "wire/frame.h"
#include "wire/gcs.h"
#include "wire/vectors.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- users ---- */

static const char passwd_text[] = "root:x:0:0:root:/root:/bin/sh\n"
                                  "bad line\n"
                                  "half:x:12\n"
                                  "odd:x:0x0:0:::\n"
                                  "minus:x:-1:0:::\n"
                                  "daemon:x:1:7::/:/bin/sh\r\n"
                                  "nobody:x:65534:65533::/:/bin/false\n"
                                  "4294967296:x:0:0:::\n"
                                  "last:x:9:9:::";
static const char group_text[] =
    "root:x:0:\ndaemon:x:7:nobody\nextra:x:50:other,nobody\nempty:x:x:nobody\nown:x:65533:nobody\n";

static void users_are_found_or_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool ok;
        uint32_t uid, gid;
    } rows[] = {{"0", true, 0, 0},
                {"1", true, 1, 7},
                {"1:5", true, 1, 5},
                {"nobody", true, 65534, 65533},
                {"nobody:5", true, 65534, 5},
                {"nobody:extra", true, 65534, 50},
                {"77", true, 77, 0},
                {"last", true, 9, 9},
                {"4294967294", true, 4294967294u, 0},
                {"007", true, 7, 0},
                {":5", false, 0, 0},
                {"", false, 0, 0},
                {":", false, 0, 0},
                {"0x1", false, 0, 0},
                {"-1", false, 0, 0},
                {"4294967295", false, 0, 0},
                {"4294967296", false, 0, 0},
                {"99999999999999999999", false, 0, 0},
                {"nosuch", false, 0, 0},
                {"half", false, 0, 0},
                {"odd", false, 0, 0},
                {"minus", false, 0, 0},
                {"nobody:nosuch", false, 0, 0},
                {"nobody:", false, 0, 0},
                {"nobody:-1", false, 0, 0},
                {"1:4294967295", false, 0, 0},
                {"root ", false, 0, 0},
                {" 0", false, 0, 0},
                {"+0", false, 0, 0},
                {"1:5:6", false, 0, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        msh_user u = {.uid = 1234};
        msh_err err = {0};
        msh_code rc =
            msh_user_find(rows[i].text, msh_slice_of(passwd_text), msh_slice_of(group_text), &u, &err);
        if ((rc == MSH_OK) != rows[i].ok)
            fail_msg("user \"%s\": %s %s", rows[i].text, msh_code_text(rc), err.msg);
        if (rows[i].ok && (u.uid != rows[i].uid || u.gid != rows[i].gid))
            fail_msg("user \"%s\": %u:%u", rows[i].text, u.uid, u.gid);
        if (!rows[i].ok)
            assert_int_equal(u.uid, 1234); /* outputs are untouched */
    }
}

static void a_user_without_a_group_gets_the_further_ones(void **state)
{
    (void)state;
    msh_user u;
    assert_int_equal(msh_user_find("nobody", msh_slice_of(passwd_text), msh_slice_of(group_text), &u, NULL),
                     MSH_OK);
    assert_int_equal(u.n_groups, 2);
    assert_int_equal(u.groups[0], 7);
    assert_int_equal(u.groups[1], 50);
    assert_int_equal(msh_user_find("nobody:5", msh_slice_of(passwd_text), msh_slice_of(group_text), &u, NULL),
                     MSH_OK);
    assert_int_equal(u.n_groups, 0);
    assert_int_equal(msh_user_find("5", msh_slice_of(""), msh_slice_of(""), &u, NULL), MSH_OK);
    assert_int_equal(msh_user_find("root", msh_slice_of(""), msh_slice_of(""), &u, NULL), MSH_NOT_FOUND);
}

/* ---- paths ---- */

static void paths_are_cleaned(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"/a/b", "/a/b"},     {"/a//b/", "/a/b"}, {"/a/./b", "/a/b"},    {"/a/c/../b", "/a/b"},
        {"/", "/"},           {"/..", "/"},       {"/a/..", "/"},        {"/../../a", "/a"},
        {"/a/...", "/a/..."}, {"//", "/"},        {"/a/../../b/.", "/b"}};
    char out[64];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(msh_path_clean(rows[i][0], out, sizeof out, NULL), MSH_OK);
        assert_string_equal(out, rows[i][1]);
    }
    assert_int_equal(msh_path_clean("a", out, sizeof out, NULL), MSH_INVALID_ARGUMENT);
    assert_int_equal(msh_path_clean("", out, sizeof out, NULL), MSH_INVALID_ARGUMENT);
    char small[4];
    assert_int_equal(msh_path_clean("/abc", small, sizeof small, NULL), MSH_INVALID_ARGUMENT);
    assert_int_equal(msh_path_clean("/ab", small, sizeof small, NULL), MSH_OK);
}

static void targets_lie_below_run(void **state)
{
    (void)state;
    static const char *const no[] = {"/",
                                     "/run",
                                     "/runx/a",
                                     "/etc/x",
                                     "/run/..",
                                     "/run/../etc",
                                     "/run/host",
                                     "/run/host/s/1",
                                     "relative",
                                     "",
                                     "/run/moonshim-guest/crun"};
    static const char *const yes[] = {"/run/a", "/run/hosts", "/run/moonshim-guests",
                                      "/x/../run/gcs/pods/p/c"};
    char out[MSH_PATH_MAX];
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        assert_int_equal(msh_path_target("f", no[i], out, sizeof out, NULL), MSH_INVALID_ARGUMENT);
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
        assert_int_equal(msh_path_target("f", yes[i], out, sizeof out, NULL), MSH_OK);
    assert_true(msh_path_below("/a/b", "/a"));
    assert_true(msh_path_below("/a", "/a"));
    assert_false(msh_path_below("/ab", "/a"));
    assert_int_equal(msh_path_join("/a", "../../b", out, sizeof out, NULL), MSH_OK);
    assert_string_equal(out, "/a/b");
    msh_path_parent("/a", out, sizeof out);
    assert_string_equal(out, "/");
}

static void ids_cannot_be_paths(void **state)
{
    (void)state;
    char longest[202];
    memset(longest, 'x', 201);
    longest[201] = '\0';
    static const char *const no[] = {"", ".", "..", "...", "a/b", "a b", "a\n", "\xc3\xa4", "a:b"};
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        assert_false(msh_id_ok(no[i]));
    assert_false(msh_id_ok(longest));
    assert_true(msh_id_ok(longest + 1));
    assert_true(msh_id_ok("a.b_C-9+"));
}

/* ---- files ---- */

static const char *text_of(msh_buf *b)
{
    assert_int_equal(msh_buf_append(b, (msh_slice){"", 1}), MSH_OK);
    const char *text = msh_buf_slice(b).p;
    return text != NULL ? text : "";
}

static void hosts_has_the_name_and_its_first_label(void **state)
{
    (void)state;
    msh_buf b;
    msh_buf_init(&b, 4096);
    assert_int_equal(msh_hosts_file("web.example.org", NULL, &b), MSH_OK);
    const char *text = text_of(&b);
    assert_true(strncmp(text, "127.0.0.1 localhost\n127.0.0.1 web.example.org web\n\n#", 52) == 0);
    assert_non_null(strstr(text,
                           "\n::1 ip6-localhost ip6-loopback\nfe00::0 ip6-localnet\nff00::0 ip6-mcastprefix\n"
                           "ff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n"));
    msh_buf_free(&b);
}

static void resolv_has_every_word_once(void **state)
{
    (void)state;
    const char *search[] = {" Example.org , a.b", "A.B,"},
               *servers[] = {"10.0.0.1,10.0.0.2", " 10.0.0.1 ,fe80::1%eth0"};
    msh_buf b;
    msh_buf_init(&b, 4096);
    assert_int_equal(msh_resolv_file(search, servers, 2, &b, NULL), MSH_OK);
    assert_string_equal(text_of(&b), "search example.org a.b\nnameserver 10.0.0.1\nnameserver 10.0.0.2\n"
                                     "nameserver fe80::1%eth0\n");
    msh_buf_free(&b);
    const char *seven[] = {"a,b,c,d,e,f,g"}, *none[] = {""}, *evil[] = {"a\nnameserver 6.6.6.6"};
    assert_int_equal(msh_resolv_file(seven, none, 1, &b, NULL), MSH_INVALID_ARGUMENT);
    assert_int_equal(msh_resolv_file(evil, none, 1, &b, NULL), MSH_INVALID_ARGUMENT);
    assert_int_equal(msh_hostname_check("a b", NULL), MSH_INVALID_ARGUMENT);
    assert_int_equal(msh_hostname_check("a\n", NULL), MSH_INVALID_ARGUMENT);
    assert_int_equal(msh_hostname_check("", NULL), MSH_OK);
    msh_buf_free(&b);
}

/* ---- command lines ---- */

static void command_lines_are_cut_into_words(void **state)
{
    (void)state;
    static const struct {
        const char *line, *joined; /* words with | between; NULL = refused */
    } rows[] = {{"a b  c", "a|b|c"},
                {"'a b' \"c d\"", "a b|c d"},
                {"a\\ b", "a b"},
                {"'a\\b'", "a\\b"},
                {"\"a\\\"b\"", "a\"b"},
                {"a;b", "a"},
                {"a ; b", "a"},
                {"a>b", "a"},
                {"\"a;b\"", "a;b"},
                {"''", ""},
                {"", NULL},
                {"a\\tb", "a\tb"},
                {"'a", NULL},
                {"a (b)", NULL},
                {"a''b", "ab"},
                {"\\", "\\"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char **list = NULL, joined[128] = "";
        msh_code rc = msh_split_command(rows[i].line, &list, NULL);
        if (rows[i].joined == NULL && rc != MSH_OK)
            continue;
        assert_int_equal(rc, MSH_OK);
        for (size_t k = 0; list[k] != NULL; k++) {
            size_t at = strlen(joined);
            snprintf(joined + at, sizeof joined - at, "%s%s", k > 0 ? "|" : "", list[k]);
            free(list[k]);
        }
        if (rows[i].joined == NULL)
            assert_null(list[0]);
        else
            assert_string_equal(joined, rows[i].joined);
        free(list);
    }
}

/* ---- JSON ---- */

static json_t *parse(const char *text)
{
    msh_err err = {0};
    json_t *o = msh_json_parse(msh_slice_of(text), "test", &err);
    if (o == NULL)
        fail_msg("%s: %s", text, err.msg);
    return o;
}

static void keys_match_in_any_case_and_the_exact_one_first(void **state)
{
    (void)state;
    json_t *o = parse("{\"processid\":1,\"ProcessId\":2,\"PROCESSID\":3,\"name\":null,\"Name2\":\"x\","
                      "\"name2\":\"y\",\"F\":true}");
    msh_reader r = msh_read(o);
    assert_int_equal(msh_read_number(&r, "ProcessId", 100), 2);
    assert_string_equal(msh_read_text(&r, "Name"), "");
    assert_string_equal(msh_read_text(&r, "NAME2"), "y"); /* the last of several */
    assert_true(msh_read_flag(&r, "f"));
    assert_false(msh_read_flag(&r, "absent"));
    assert_null(msh_read_object(&r, "absent"));
    assert_null(r.bad);
    json_decref(o);
}

static void wrong_types_are_named_and_stick(void **state)
{
    (void)state;
    static const char *const bad[] = {"{\"N\":1.0}", "{\"N\":\"1\"}", "{\"N\":-1}",
                                      "{\"N\":101}", "{\"N\":true}",  "{\"N\":[]}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *o = parse(bad[i]);
        msh_reader r = msh_read(o);
        assert_int_equal(msh_read_number(&r, "N", 100), 0);
        assert_string_equal(r.bad, "N");
        assert_string_equal(msh_read_text(&r, "X"), "");
        assert_string_equal(r.bad, "N");
        json_decref(o);
    }
    static const char *const none[] = {"",     "[]",  "1", "{", "{\"a\":1,}", "{\"a\":\"\\u0000\"}",
                                       "{} x", "\xff"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        msh_err err = {0};
        assert_null(msh_json_parse(msh_slice_of(none[i]), "test", &err));
        assert_int_equal(err.code, MSH_INVALID_ARGUMENT);
    }
}

/* ---- answers against the frames of existing peers ---- */

static const struct msh_vector *vector(const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof msh_vectors / sizeof *msh_vectors; i++)
        if (strncmp(msh_vectors[i].name, name, n) == 0 && msh_vectors[i].name[n] == ' ')
            return &msh_vectors[i];
    fail_msg("no vector %s", name);
    return NULL;
}

static void unhex(const char *hex, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned v;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &v), 1);
        out[i] = (uint8_t)v;
    }
}

/* Takes `body`: equal as JSON to the vector's, and its frame's type and id are the vector's, byte for byte. */
static void same_as(const char *name, json_t *body)
{
    const struct msh_vector *v = vector(name);
    json_t *want = parse(v->body);
    if (!json_equal(want, body))
        fail_msg("%s: %s", name, json_dumps(body, 0));
    msh_buf frame;
    uint8_t header[MSH_FRAME_HEADER];
    char *text = json_dumps(body, JSON_COMPACT);
    msh_buf_init(&frame, 0);
    assert_int_equal(
        msh_frame_append(&frame, v->type, v->id, msh_slice_of(text), false, MSH_FRAME_CEILING, NULL), MSH_OK);
    unhex(v->hex, header, sizeof header);
    assert_memory_equal(msh_buf_slice(&frame).p, header, sizeof header);
    msh_buf_free(&frame);
    free(text);
    json_decref(want);
    json_decref(body);
}

static const char zero[] = MSH_GCS_NULL_CONTAINER;

static json_t *with(const char *key, json_t *value)
{
    json_t *o = msh_reply_ok(zero);
    json_object_set_new(o, key, value);
    return o;
}

static void answers_are_those_of_existing_peers(void **state)
{
    (void)state;
    same_as("V2", msh_reply_negotiated(zero));
    same_as("V4", msh_reply_ok(zero));
    same_as("V7", with("SelectedProtocolVersion", json_integer(0)));
    same_as("V10", with("ProcessId", json_integer(173)));
    same_as("V15", msh_reply_fail(zero, MSH_HR_NOT_FOUND, NULL));
    same_as("V18", with("Properties", json_string("{\"ProcessList\":[{\"ProcessId\":173}]}")));
    same_as("V19", with("ExitCode", json_integer(137)));
    same_as("V20", msh_notice_exit("c1", zero, "ForcedExit"));
}

static void an_answer_without_activity_has_none(void **state)
{
    (void)state;
    json_t *o = msh_reply_fail("", MSH_HR_FAIL, "bad \xff text");
    assert_null(json_object_get(o, "ActivityId"));
    assert_string_equal(json_string_value(json_object_get(o, "ErrorMessage")), "HRESULT: 0x80004005");
    json_decref(o);
    char big[20000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    o = msh_reply_fail("", MSH_HR_FAIL, big);
    assert_true(strlen(json_string_value(json_object_get(o, "ErrorMessage"))) <= 4096);
    json_decref(o);
}

static void requests_of_existing_hosts_are_understood(void **state)
{
    (void)state;
    json_t *o = parse(vector("V3")->body);
    msh_reader r = msh_read(o);
    msh_reader request = msh_read(msh_read_object(&r, "Request"));
    msh_reader settings = msh_read(msh_read_object(&request, "Settings"));
    assert_string_equal(msh_read_text(&request, "ResourceType"), "MappedVirtualDisk");
    assert_int_equal(msh_read_number(&settings, "Lun", 63), 1);
    assert_int_equal(msh_read_number(&settings, "Controller", 3), 0);
    assert_true(msh_read_flag(&settings, "ReadOnly"));
    assert_int_equal(json_array_size(msh_read_texts(&settings, "Options")), 1);
    json_decref(o);

    o = parse(vector("V12")->body);
    r = msh_read(o);
    settings = msh_read(msh_read_object(&r, "Settings"));
    json_t *params = parse(msh_read_text(&settings, "ProcessParameters"));
    msh_reader p = msh_read(params);
    assert_true(msh_read_flag(&p, "CreateStdOutPipe"));
    json_t *args = json_object_get(msh_read_object(&p, "OciProcess"), "args");
    assert_string_equal(json_string_value(json_array_get(args, 1)), "a&b");
    json_decref(params);
    json_decref(o);

    o = parse(vector("V11")->body);
    r = msh_read(o);
    assert_int_equal(msh_read_number(&r, "TimeoutInMs", UINT32_MAX), MSH_GCS_WAIT_FOREVER);
    json_decref(o);
}

static void what_runtimes_say_is_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int32_t number;
    } rows[] = {{"executable file `x` not found in $PATH: No such file or directory", MSH_HR_FILE_NOT_FOUND},
                {"open executable: Permission denied", MSH_HR_ACCESS_DENIED},
                {"open executable: Operation not permitted", MSH_HR_ACCESS_DENIED},
                {"exec: \"x\": executable file not found in $PATH: unknown", MSH_HR_FILE_NOT_FOUND},
                {"exec: \"/x\": permission denied: unknown", MSH_HR_ACCESS_DENIED},
                {"mount `/a` to `b`: No such file or directory", 0},
                {"open `/run/x/config.json`: Permission denied", 0},
                {"", 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(msh_program_blame(rows[i].text), rows[i].number);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(users_are_found_or_refused),
        cmocka_unit_test(a_user_without_a_group_gets_the_further_ones),
        cmocka_unit_test(paths_are_cleaned),
        cmocka_unit_test(targets_lie_below_run),
        cmocka_unit_test(ids_cannot_be_paths),
        cmocka_unit_test(hosts_has_the_name_and_its_first_label),
        cmocka_unit_test(resolv_has_every_word_once),
        cmocka_unit_test(command_lines_are_cut_into_words),
        cmocka_unit_test(keys_match_in_any_case_and_the_exact_one_first),
        cmocka_unit_test(wrong_types_are_named_and_stick),
        cmocka_unit_test(answers_are_those_of_existing_peers),
        cmocka_unit_test(an_answer_without_activity_has_none),
        cmocka_unit_test(requests_of_existing_hosts_are_understood),
        cmocka_unit_test(what_runtimes_say_is_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Tests of wire/: vectors byte for byte, any split of the stream, garbage headers, limits. */
#include "wire/frame.h"
#include "wire/gcs.h"
#include "wire/vectors.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define VECTORS (sizeof msh_vectors / sizeof msh_vectors[0])

static size_t unhex(const char *hex, uint8_t *out)
{
    size_t n = strlen(hex) / 2;
    for (size_t i = 0; i < n; i++) {
        char two[3] = {hex[2 * i], hex[2 * i + 1], 0};
        out[i] = (uint8_t)strtoul(two, NULL, 16);
    }
    return n;
}

static void check_frame(const msh_frame *f, const struct msh_vector *v)
{
    assert_int_equal(f->type, v->type);
    assert_int_equal(f->id, v->id);
    size_t n = strlen(v->body);
    assert_int_equal(f->body.n, n + v->newline);
    assert_memory_equal(f->body.p, v->body, n);
}

static void vectors_encode_byte_for_byte(void **state)
{
    (void)state;
    for (size_t i = 0; i < VECTORS; i++) {
        const struct msh_vector *v = &msh_vectors[i];
        uint8_t want[1024];
        size_t n = unhex(v->hex, want);
        msh_buf out;
        msh_buf_init(&out, 0);
        assert_int_equal(
            msh_frame_append(&out, v->type, v->id, msh_slice_of(v->body), v->newline, 65536, NULL), MSH_OK);
        assert_int_equal(msh_buf_size(&out), n);
        assert_memory_equal(msh_buf_slice(&out).p, want, n);
        msh_buf_free(&out);
    }
}

static void vectors_decode(void **state)
{
    (void)state;
    for (size_t i = 0; i < VECTORS; i++) {
        uint8_t bytes[1024];
        msh_slice in = {(char *)bytes, unhex(msh_vectors[i].hex, bytes)};
        msh_frame_decoder d;
        msh_frame f;
        msh_frame_decoder_init(&d, 65536);
        assert_int_equal(msh_frame_feed(&d, in, NULL), MSH_OK);
        assert_int_equal(msh_frame_next(&d, &f, NULL), MSH_OK);
        check_frame(&f, &msh_vectors[i]);
        assert_ptr_equal(f.body.p, (char *)bytes + 16); /* a whole frame is not copied */
        assert_int_equal(msh_frame_next(&d, &f, NULL), MSH_AGAIN);
        assert_int_equal(msh_frame_end(&d, NULL), MSH_OK);
        msh_frame_decoder_free(&d);
    }
}

/* Feeds all vectors as one stream, cut by `cut(i)` into reads whose memory is gone after each feed. */
static void feed_in_pieces(size_t (*cut)(unsigned i))
{
    size_t total = 0, at = 0, seen = 0;
    uint8_t *all = malloc(65536);
    for (size_t i = 0; i < VECTORS; i++)
        total += unhex(msh_vectors[i].hex, all + total);
    msh_frame_decoder d;
    msh_frame_decoder_init(&d, 65536);
    for (unsigned i = 0; at < total; i++) {
        size_t n = cut(i) < total - at ? cut(i) : total - at;
        char *piece = malloc(n);
        memcpy(piece, all + at, n);
        at += n;
        msh_frame f;
        msh_code rc;
        assert_int_equal(msh_frame_feed(&d, (msh_slice){piece, n}, NULL), MSH_OK);
        while ((rc = msh_frame_next(&d, &f, NULL)) == MSH_OK)
            check_frame(&f, &msh_vectors[seen++]);
        assert_int_equal(rc, MSH_AGAIN);
        free(piece);
    }
    assert_int_equal(seen, VECTORS);
    assert_int_equal(msh_frame_end(&d, NULL), MSH_OK);
    msh_frame_decoder_free(&d);
    free(all);
}

static size_t one(unsigned i)
{
    (void)i;
    return 1;
}
static size_t everything(unsigned i)
{
    (void)i;
    return 65536;
}
static size_t about_three_frames(unsigned i)
{
    (void)i;
    return 1000;
}
static size_t uneven(unsigned i)
{
    return 1 + i * 37 % 211;
}

static void any_split_of_the_stream_works(void **state)
{
    (void)state;
    feed_in_pieces(one);
    feed_in_pieces(everything);
    feed_in_pieces(about_three_frames);
    feed_in_pieces(uneven);
}

static msh_code decode_header(uint32_t type, uint32_t size, uint64_t id, uint32_t cap, msh_err *err)
{
    uint8_t h[16];
    msh_frame_put_header(h, type, id, 0);
    for (unsigned i = 0; i < 4; i++)
        h[4 + i] = (uint8_t)(size >> (8 * i));
    msh_frame_decoder d;
    msh_frame f;
    msh_frame_decoder_init(&d, cap);
    assert_int_equal(msh_frame_feed(&d, (msh_slice){(char *)h, 16}, NULL), MSH_OK);
    msh_code rc = msh_frame_next(&d, &f, err);
    if (rc == MSH_PROTOCOL) {
        /* it stays so, with the same text, whatever comes */
        msh_err again;
        assert_int_equal(msh_frame_feed(&d, (msh_slice){(char *)h, 16}, NULL), MSH_OK);
        assert_int_equal(msh_frame_next(&d, &f, &again), MSH_PROTOCOL);
        assert_string_equal(again.msg, err->msg);
        assert_int_equal(msh_frame_end(&d, NULL), MSH_PROTOCOL);
    }
    assert_true(d.part.cap <= 4096); /* a claim allocates nothing */
    msh_frame_decoder_free(&d);
    return rc;
}

static void garbage_headers_are_a_typed_error(void **state)
{
    (void)state;
    msh_err e;
    uint32_t ok = MSH_GCS_CREATE;
    for (uint32_t size = 0; size < 16; size++)
        assert_int_equal(decode_header(ok, size, 0, 65536, &e), MSH_PROTOCOL);
    assert_int_equal(decode_header(ok, 16, 0, 65536, &e), MSH_OK);
    assert_int_equal(decode_header(ok, 65536, 0, 65536, &e), MSH_AGAIN);
    assert_int_equal(decode_header(ok, 65537, 0, 65536, &e), MSH_PROTOCOL);
    assert_int_equal(decode_header(ok, UINT32_MAX, 0, MSH_FRAME_CEILING, &e), MSH_PROTOCOL);
    assert_int_equal(decode_header(ok, 10u << 20, 0, MSH_FRAME_PEER, &e), MSH_PROTOCOL);
    assert_int_equal(decode_header(ok, 10u << 20, 0, MSH_FRAME_DEFAULT, &e), MSH_AGAIN);
    for (uint32_t c = 0; c < 16; c++)
        assert_int_equal(decode_header(c << 28 | 0x00100101u, 16, 0, 65536, &e),
                         c >= 1 && c <= 3 ? MSH_OK : MSH_PROTOCOL);
    assert_int_equal(decode_header(ok, 16, UINT64_C(1) << 63, 65536, &e), MSH_PROTOCOL);
    assert_int_equal(decode_header(ok, 16, (UINT64_C(1) << 63) - 1, 65536, &e), MSH_OK);
    assert_int_equal(decode_header(0x7b224f6bu, 0x73223a22, 0x7d, 65536, &e),
                     MSH_PROTOCOL); /* text, no frame */
}

static void a_frame_of_10_mb_passes_below_the_cap_and_its_memory_is_given_back(void **state)
{
    (void)state;
    size_t n = 10u << 20;
    char *body = malloc(n);
    memset(body, 'x', n);
    msh_buf out;
    msh_buf_init(&out, 0);
    msh_err e;
    assert_int_equal(
        msh_frame_append(&out, MSH_GCS_CREATE, 7, (msh_slice){body, n}, true, MSH_FRAME_PEER, &e),
        MSH_RESOURCE_EXHAUSTED);
    assert_int_equal(msh_buf_size(&out), 0);
    assert_int_equal(
        msh_frame_append(&out, MSH_GCS_CREATE, 7, (msh_slice){body, n}, true, MSH_FRAME_DEFAULT, &e), MSH_OK);
    assert_int_equal(msh_buf_size(&out), n + 17);
    msh_frame_decoder d;
    msh_frame f;
    msh_frame_decoder_init(&d, MSH_FRAME_DEFAULT);
    msh_slice in = msh_buf_slice(&out);
    unsigned seen = 0;
    for (size_t at = 0; at < in.n; at += 65536) {
        size_t piece = in.n - at < 65536 ? in.n - at : 65536;
        assert_int_equal(msh_frame_feed(&d, (msh_slice){in.p + at, piece}, NULL), MSH_OK);
        while (msh_frame_next(&d, &f, NULL) == MSH_OK) {
            seen++;
            assert_int_equal(f.body.n, n + 1);
            assert_int_equal(f.body.p[n - 1], 'x');
            assert_int_equal(f.body.p[n], '\n');
        }
        assert_true(d.part.cap <= 2 * (at + piece) + 256);
    }
    assert_int_equal(seen, 1);
    assert_int_equal(d.part.cap, 0);
    msh_frame_decoder_free(&d);
    msh_buf_free(&out);
    free(body);
}

static void an_end_inside_a_frame_is_seen(void **state)
{
    (void)state;
    uint8_t bytes[1024];
    size_t n = unhex(msh_vectors[0].hex, bytes);
    for (size_t cut = 1; cut < n; cut++) {
        msh_frame_decoder d;
        msh_frame f;
        msh_frame_decoder_init(&d, 65536);
        assert_int_equal(msh_frame_feed(&d, (msh_slice){(char *)bytes, cut}, NULL), MSH_OK);
        assert_int_equal(msh_frame_next(&d, &f, NULL), MSH_AGAIN);
        assert_int_equal(msh_frame_end(&d, NULL), MSH_PROTOCOL);
        msh_frame_decoder_free(&d);
    }
}

static void a_feed_before_the_last_is_drained_is_refused(void **state)
{
    (void)state;
    uint8_t bytes[1024];
    msh_slice in = {(char *)bytes, unhex(msh_vectors[0].hex, bytes)};
    msh_frame_decoder d;
    msh_frame_decoder_init(&d, 65536);
    assert_int_equal(msh_frame_feed(&d, in, NULL), MSH_OK);
    assert_int_equal(msh_frame_feed(&d, in, NULL), MSH_FAILED_PRECONDITION);
    msh_frame_decoder_free(&d);
}

static void what_a_decoder_would_refuse_is_not_sent(void **state)
{
    (void)state;
    msh_buf out;
    msh_buf_init(&out, 64);
    msh_slice body = msh_slice_of("{}");
    assert_int_equal(msh_frame_append(&out, 0x00100101, 1, body, true, 65536, NULL), MSH_INVALID_ARGUMENT);
    assert_int_equal(msh_frame_append(&out, MSH_GCS_CREATE, UINT64_MAX, body, true, 65536, NULL),
                     MSH_INVALID_ARGUMENT);
    assert_int_equal(msh_frame_append(&out, MSH_GCS_CREATE, 1, body, true, 18, NULL), MSH_RESOURCE_EXHAUSTED);
    assert_int_equal(msh_frame_append(&out, MSH_GCS_CREATE, 1, body, false, 18, NULL), MSH_OK);
    assert_int_equal(msh_frame_append(&out, MSH_GCS_CREATE, 1, msh_slice_of("{}\n"), true, 19, NULL), MSH_OK);
    assert_int_equal(msh_buf_size(&out), 18 + 19); /* a newline that is there is not doubled */
    assert_int_equal(msh_frame_append(&out, MSH_GCS_CREATE, 1, msh_slice_of("0123456789"), true, 65536, NULL),
                     MSH_OK);
    assert_int_equal(msh_frame_append(&out, MSH_GCS_CREATE, 1, body, true, 65536, NULL),
                     MSH_RESOURCE_EXHAUSTED);
    assert_int_equal(msh_buf_size(&out), 64); /* the buffer's own limit */
    msh_buf_free(&out);
}

static void caps_are_moved_into_their_bounds(void **state)
{
    (void)state;
    assert_int_equal(msh_frame_cap(0), MSH_FRAME_DEFAULT);
    assert_int_equal(msh_frame_cap(1), MSH_FRAME_PEER);
    assert_int_equal(msh_frame_cap(1u << 20), 1u << 20);
    assert_int_equal(msh_frame_cap(UINT64_MAX), MSH_FRAME_CEILING);
}

static void names_and_numbers_agree(void **state)
{
    (void)state;
    assert_string_equal(msh_gcs_name(0x10100a01), "ModifySettings");
    assert_string_equal(msh_gcs_name(0x20100a01), "ModifySettings");
    assert_string_equal(msh_gcs_name(0x30100101), "ContainerNotification");
    assert_null(msh_gcs_name(0x10101001));
    assert_null(msh_gcs_name(0));
    assert_int_equal(msh_gcs_request("NegotiateProtocol"), 0x10100b01);
    assert_int_equal(msh_gcs_request("ModifyServiceSettings"), 0x10200101);
    assert_int_equal(msh_gcs_request("modifysettings"), 0);
    assert_int_equal(msh_gcs_response(0x1fffff01), 0x2fffff01);
    assert_int_equal(MSH_HR_SYSTEM_NOT_FOUND, -1070137074); /* [#398] */
    assert_int_equal(MSH_HR_NOT_FOUND, -2147023728);        /* [#399] */
    assert_string_equal(msh_hresult_text(-1070137079), "timeout");
    assert_null(msh_hresult_text(0));
    assert_string_equal(msh_gcs_scsi_controller(3), "305891a9-b251-5dfe-91a2-c25d9212275b");
    assert_null(msh_gcs_scsi_controller(4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_encode_byte_for_byte),
        cmocka_unit_test(vectors_decode),
        cmocka_unit_test(any_split_of_the_stream_works),
        cmocka_unit_test(garbage_headers_are_a_typed_error),
        cmocka_unit_test(a_frame_of_10_mb_passes_below_the_cap_and_its_memory_is_given_back),
        cmocka_unit_test(an_end_inside_a_frame_is_seen),
        cmocka_unit_test(a_feed_before_the_last_is_drained_is_refused),
        cmocka_unit_test(what_a_decoder_would_refuse_is_not_sent),
        cmocka_unit_test(caps_are_moved_into_their_bounds),
        cmocka_unit_test(names_and_numbers_agree),
    };
    return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}

/* Any bytes, cut into reads in any way, give the same frames as the same bytes in one read; what was decoded encodes
 * to what was read; and nothing grows beyond what came. */
#include "testing/fuzz.h"
#include "wire/frame.h"
#include <string.h>

typedef struct whole {
    msh_buf frames; /* every decoded frame, encoded again */
    msh_code end;
} whole;

static whole decode(const uint8_t *p, size_t n, uint32_t cap, const uint8_t *cuts, size_t ncuts)
{
    whole w;
    msh_frame_decoder d;
    size_t at = 0, i = 0;
    msh_buf_init(&w.frames, 0);
    msh_frame_decoder_init(&d, cap);
    w.end = MSH_AGAIN;
    while (at < n && w.end == MSH_AGAIN) {
        size_t piece = ncuts == 0 ? n : (size_t)cuts[i++ % ncuts] + 1;
        msh_fuzz rest = {p + at, n - at};
        char *bytes = fuzz_bytes(&rest, piece, &piece);
        at += piece;
        must(msh_frame_feed(&d, (msh_slice){bytes, piece}, NULL) == MSH_OK);
        msh_frame f;
        msh_err e = {0};
        while ((w.end = msh_frame_next(&d, &f, &e)) == MSH_OK) {
            must(f.body.n + MSH_FRAME_HEADER <= cap);
            must(msh_frame_append(&w.frames, f.type, f.id, f.body, false, cap, NULL) == MSH_OK);
        }
        must(w.end == MSH_AGAIN || (w.end == MSH_PROTOCOL && e.code == MSH_PROTOCOL && e.msg[0] != '\0'));
        must(d.part.cap <= 2 * at + 256);
        free(bytes);
    }
    must(w.end != MSH_PROTOCOL || msh_frame_end(&d, NULL) == MSH_PROTOCOL);
    msh_frame_decoder_free(&d);
    return w;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    msh_fuzz in = {data, size};
    uint32_t cap = 16u + fuzz_byte(&in) * 8u;
    size_t ncuts = fuzz_byte(&in) % 8u;
    if (in.n < ncuts)
        return 0;
    const uint8_t *cuts = in.p, *p = in.p + ncuts;
    size_t n = in.n - ncuts;
    whole one = decode(p, n, cap, NULL, 0), pieces = decode(p, n, cap, cuts, ncuts);
    msh_slice a = msh_buf_slice(&one.frames), b = msh_buf_slice(&pieces.frames);
    must(one.end == pieces.end || n == 0);
    must(a.n == b.n && a.n <= n);
    must(a.n == 0 || (memcmp(a.p, b.p, a.n) == 0 && memcmp(a.p, p, a.n) == 0));
    msh_buf_free(&one.frames);
    msh_buf_free(&pieces.frames);
    return 0;
}

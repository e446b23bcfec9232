/* Any order of calls, answers, garbage, time and loss: every call ends exactly once, and what waits stays bounded. */
#include "bridge/session.h"
#include "testing/fuzz.h"
#include "wire/frame.h"
#include "wire/gcs.h"

enum { CALLS = 512, PENDING = 40 };

typedef struct book {
    msh_session *s;
    uint8_t ended[CALLS]; /* by number of the call: 0 waits, 1 ended */
    uint64_t ids[CALLS];
    int calls;
    bool lost;
    char read;
} book;

static void drain(book *b)
{
    msh_session_event e;
    while (msh_session_event_next(b->s, &e)) {
        for (size_t i = 0; i < e.payload.n; i++) /* it can be read to its end */
            b->read ^= e.payload.p[i];
        if (e.kind == MSH_SESSION_ENDED) {
            must(!b->lost);
            b->lost = true;
        }
        if (e.kind != MSH_SESSION_ANSWER && e.kind != MSH_SESSION_FAILED)
            continue;
        size_t i = (size_t)(uintptr_t)e.tag - 1;
        must(i < (size_t)b->calls && b->ids[i] == e.id && b->ended[i] == 0);
        must((e.kind == MSH_SESSION_FAILED) == (e.err.code != MSH_OK));
        b->ended[i] = 1;
    }
}

static void call(book *b, msh_fuzz *in, msh_time now)
{
    size_t n, was = msh_session_count(b->s).pending;
    msh_time deadline = fuzz_byte(in);
    char *payload = fuzz_bytes(in, fuzz_byte(in) % 16u, &n);
    uint64_t id;
    msh_err e;
    void *tag = (void *)(uintptr_t)(b->calls + 1);
    msh_code rc = b->calls == CALLS
                      ? MSH_AGAIN
                      : msh_session_call(b->s, MSH_GCS_CREATE + (n << 8), (msh_slice){payload, n},
                                         deadline == 0 ? MSH_NEVER : now + deadline, tag, &id, &e);
    if (rc == MSH_OK) {
        must(b->calls == 0 || id > b->ids[b->calls - 1]);
        must(was < PENDING);
        b->ids[b->calls++] = id;
    } else {
        must(msh_session_count(b->s).pending == was);
    }
    free(payload);
}

static void feed(book *b, msh_fuzz *in, bool frame)
{
    size_t n;
    char *bytes = fuzz_bytes(in, fuzz_byte(in), &n);
    msh_buf out;
    msh_buf_init(&out, 0);
    if (frame) {
        uint32_t type = (uint32_t)(fuzz_byte(in) % 3 + 1) << 28 | 0x00100101u;
        msh_frame_append(&out, type, fuzz_byte(in), (msh_slice){bytes, n}, false, MSH_FRAME_PEER, NULL);
    } else {
        msh_buf_append(&out, (msh_slice){bytes, n});
    }
    free(bytes);
    msh_session_feed(b->s, msh_buf_slice(&out), NULL);
    drain(b);
    msh_buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static book b; /* large; begins anew for every input */
    msh_fuzz in = {data, size};
    msh_time now = 0;
    msh_buf batch;
    msh_session_config config = {
        .first_id = fuzz_byte(&in), .max_frame = 1, .max_out = 400, .max_pending = PENDING};
    b = (book){0};
    msh_buf_init(&batch, 0);
    must(msh_session_new(&config, &b.s, NULL) == MSH_OK);
    while (in.n > 0) {
        switch (fuzz_byte(&in) % 10) {
        case 0:
        case 1:
        case 2:
            call(&b, &in, now);
            break;
        case 3:
            feed(&b, &in, false);
            break;
        case 4:
        case 5:
            feed(&b, &in, true);
            break;
        case 6:
            now += fuzz_byte(&in);
            msh_session_tick(b.s, now);
            must(msh_session_wake(b.s) > now);
            drain(&b);
            break;
        case 7: {
            size_t i = fuzz_byte(&in);
            void *tag = NULL;
            if (i < (size_t)b.calls && msh_session_abandon(b.s, b.ids[i], &tag)) {
                must((size_t)(uintptr_t)tag == i + 1 && b.ended[i] == 0);
                b.ended[i] = 1;
            }
            break;
        }
        case 8:
            if (msh_session_out(b.s, &batch)) {
                must(msh_buf_size(&batch) <= 400);
                msh_buf_consume(&batch, msh_buf_size(&batch));
            }
            break;
        default:
            if (fuzz_byte(&in) < 32) {
                msh_session_lost(b.s, NULL);
                drain(&b);
            }
        }
    }
    msh_session_close(b.s);
    drain(&b);
    for (int i = 0; i < b.calls; i++)
        must(b.ended[i] == 1);
    must(msh_session_count(b.s).pending == 0 && !msh_session_out(b.s, &batch));
    msh_session_free(b.s);
    msh_buf_free(&batch);
    return 0;
}

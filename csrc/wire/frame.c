#include "wire/frame.h"
#include "wire/gcs.h"
#include <string.h>

/* What a partial frame may keep when it is done; a rare big frame must not hold its memory for ever. */
#define KEEP (256u << 10)

uint32_t msh_frame_cap(uint64_t configured)
{
    if (configured == 0)
        return MSH_FRAME_DEFAULT;
    if (configured < MSH_FRAME_PEER)
        return MSH_FRAME_PEER;
    return configured > MSH_FRAME_CEILING ? MSH_FRAME_CEILING : (uint32_t)configured;
}

static void put_le(uint8_t *p, uint64_t v, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get_le(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++)
        v |= (uint64_t)p[i] << (8 * i); /* NOLINT(clang-analyzer-core.NullDereference): counted by callers */
    return v;
}

static bool good_type(uint32_t type)
{
    unsigned c = msh_gcs_class_of(type);
    return c >= MSH_GCS_REQUEST && c <= MSH_GCS_NOTIFICATION;
}

static bool good_id(uint64_t id)
{
    return id >> 63 == 0;
}

void msh_frame_put_header(uint8_t out[MSH_FRAME_HEADER], uint32_t type, uint64_t id, uint32_t body)
{
    put_le(out, type, 4);
    put_le(out + 4, (uint64_t)MSH_FRAME_HEADER + body, 4);
    put_le(out + 8, id, 8);
}

msh_code msh_frame_get_header(const uint8_t in[MSH_FRAME_HEADER], uint32_t cap, msh_frame_head *out,
                              msh_err *err)
{
    uint32_t type = (uint32_t)get_le(in, 4);
    uint32_t size = (uint32_t)get_le(in + 4, 4);
    uint64_t id = get_le(in + 8, 8);
    if (!good_type(type))
        return msh_fail(err, MSH_PROTOCOL, "frame of type 0x%08x: no such class", type);
    if (size < MSH_FRAME_HEADER)
        return msh_fail(err, MSH_PROTOCOL, "frame of type 0x%08x: size %u is below the header's", type, size);
    if (size > cap)
        return msh_fail(err, MSH_PROTOCOL, "frame of type 0x%08x: size %u is above the cap of %u", type, size,
                        cap);
    if (!good_id(id))
        return msh_fail(err, MSH_PROTOCOL, "frame of type 0x%08x: id 0x%llx is out of range", type,
                        (unsigned long long)id);
    *out = (msh_frame_head){.type = type, .id = id, .body = size - MSH_FRAME_HEADER};
    return MSH_OK;
}

msh_code msh_frame_append(msh_buf *out, uint32_t type, uint64_t id, msh_slice body, bool newline,
                          uint32_t cap, msh_err *err)
{
    if (!good_type(type) || !good_id(id))
        return msh_fail(err, MSH_INVALID_ARGUMENT, "frame of type 0x%08x, id 0x%llx: no peer would take it",
                        type, (unsigned long long)id);
    bool add = newline && (body.n == 0 || body.p[body.n - 1] != '\n');
    if (cap < MSH_FRAME_HEADER || body.n > cap - MSH_FRAME_HEADER || body.n + add > cap - MSH_FRAME_HEADER)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED,
                        "frame of type 0x%08x: %zu bytes are above the cap of %u", type,
                        body.n + MSH_FRAME_HEADER + add, cap);
    size_t whole = MSH_FRAME_HEADER + body.n + add;
    char *p = msh_buf_reserve(out, whole);
    if (p == NULL)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED,
                        "frame of type 0x%08x: no room for %zu more bytes beside %zu", type, whole,
                        msh_buf_size(out));
    msh_frame_put_header((uint8_t *)p, type, id, (uint32_t)(body.n + add));
    if (body.n > 0)
        memcpy(p + MSH_FRAME_HEADER, body.p, body.n);
    if (add)
        p[whole - 1] = '\n';
    msh_buf_commit(out, whole);
    return MSH_OK;
}

void msh_frame_decoder_init(msh_frame_decoder *d, uint32_t cap)
{
    *d = (msh_frame_decoder){.cap = cap};
    msh_buf_init(&d->part, cap);
}

void msh_frame_decoder_free(msh_frame_decoder *d)
{
    msh_buf_free(&d->part);
    d->in = (msh_slice){0};
    d->drop = 0;
}

msh_code msh_frame_feed(msh_frame_decoder *d, msh_slice in, msh_err *err)
{
    if (d->failed.code != MSH_OK)
        return MSH_OK; /* msh_frame_next tells */
    if (d->in.n > 0)
        return msh_fail(err, MSH_FAILED_PRECONDITION, "%zu bytes of the last feed are not used up", d->in.n);
    d->in = in;
    return MSH_OK;
}

/* Moves up to `n` bytes from the fed ones behind the partial frame. */
static bool gather(msh_frame_decoder *d, size_t n)
{
    msh_slice s = {d->in.p, d->in.n < n ? d->in.n : n};
    if (s.n == 0)
        return true;
    if (msh_buf_append(&d->part, s) != MSH_OK)
        return false;
    d->in.p += s.n;
    d->in.n -= s.n;
    return true;
}

static void forget_reported(msh_frame_decoder *d)
{
    if (d->drop == 0)
        return;
    msh_buf_consume(&d->part, d->drop);
    d->drop = 0;
    if (msh_buf_size(&d->part) == 0 && d->part.cap > KEEP)
        msh_buf_free(&d->part);
}

static msh_code fail_for_ever(msh_frame_decoder *d, msh_err *err)
{
    d->in = (msh_slice){0};
    msh_buf_free(&d->part);
    if (err != NULL)
        *err = d->failed;
    return d->failed.code != MSH_OK ? d->failed.code : MSH_PROTOCOL;
}

static msh_code no_memory(msh_frame_decoder *d, msh_err *err)
{
    msh_fail(&d->failed, MSH_RESOURCE_EXHAUSTED, "no memory for a frame being received");
    return fail_for_ever(d, err);
}

/* The frame begins in the partial buffer: complete its header, then its body, and no more. */
static msh_code next_from_part(msh_frame_decoder *d, msh_frame *out, msh_err *err)
{
    size_t have = msh_buf_size(&d->part);
    if (have < MSH_FRAME_HEADER) {
        if (!gather(d, MSH_FRAME_HEADER - have))
            return no_memory(d, err);
        have = msh_buf_size(&d->part);
        if (have < MSH_FRAME_HEADER)
            return MSH_AGAIN;
    }
    msh_frame_head h;
    if (msh_frame_get_header((const uint8_t *)msh_buf_slice(&d->part).p, d->cap, &h, &d->failed) != MSH_OK)
        return fail_for_ever(d, err);
    size_t whole = (size_t)MSH_FRAME_HEADER + h.body;
    if (have < whole) {
        if (!gather(d, whole - have))
            return no_memory(d, err);
        if (msh_buf_size(&d->part) < whole)
            return MSH_AGAIN;
    }
    *out = (msh_frame){h.type, h.id, {msh_buf_slice(&d->part).p + MSH_FRAME_HEADER, h.body}};
    d->drop = whole;
    return MSH_OK;
}

msh_code msh_frame_next(msh_frame_decoder *d, msh_frame *out, msh_err *err)
{
    if (d->failed.code != MSH_OK)
        return fail_for_ever(d, err);
    forget_reported(d);
    if (msh_buf_size(&d->part) > 0)
        return next_from_part(d, out, err);
    if (d->in.n < MSH_FRAME_HEADER)
        return gather(d, d->in.n) ? MSH_AGAIN : no_memory(d, err);
    msh_frame_head h;
    if (msh_frame_get_header((const uint8_t *)d->in.p, d->cap, &h, &d->failed) != MSH_OK)
        return fail_for_ever(d, err);
    size_t whole = (size_t)MSH_FRAME_HEADER + h.body;
    if (d->in.n < whole)
        return gather(d, d->in.n) ? MSH_AGAIN : no_memory(d, err);
    *out = (msh_frame){h.type, h.id, {d->in.p + MSH_FRAME_HEADER, h.body}};
    d->in.p += whole;
    d->in.n -= whole;
    return MSH_OK;
}

msh_code msh_frame_end(const msh_frame_decoder *d, msh_err *err)
{
    if (d->failed.code != MSH_OK)
        return msh_fail(err, d->failed.code, "%s", d->failed.msg);
    size_t left = msh_buf_size(&d->part) - d->drop + d->in.n;
    if (left > 0)
        return msh_fail(err, MSH_PROTOCOL, "the stream ended inside a frame, after %zu of its bytes", left);
    return MSH_OK;
}

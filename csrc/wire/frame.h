/* wire/frame.h - cut the byte stream of a guest bridge into frames, and back.
 *
 * Layer      wire: base/ and nothing else. No loop, no clock, no Lua.
 * Words      frame = header + body; header = the 16 fixed bytes (PROTOCOL.md);
 *            class = the top four bits of the type: request, response or notification.
 * Ownership  a decoded body points into the fed bytes or into the decoder; it is good until the next
 *            call on the decoder. Fed bytes are borrowed until msh_frame_next has said MSH_AGAIN or failed.
 * Always     1. a frame is reported only when it is whole.
 *            2. memory grows with the bytes that arrived, never with the size that a header claims, and
 *               never beyond the cap.
 *            3. after a failure the decoder repeats it for ever: a stream out of step is not read on.
 * See        PROTOCOL.md, wire/frame_test.c */
#ifndef MSH_WIRE_FRAME_H
#define MSH_WIRE_FRAME_H
#include "base/buf.h"
#include "base/err.h"

#define MSH_FRAME_HEADER  16u
#define MSH_FRAME_PEER    65536u /* what existing hosts accept, header included: an agent stays below it */
#define MSH_FRAME_DEFAULT (16u << 20) /* our cap when the configuration names none */
#define MSH_FRAME_CEILING (64u << 20) /* no configuration goes beyond this */

/* A cap as the configuration gives it, in bytes with the header; 0 is the default. What is below one small
 * frame (MSH_FRAME_PEER) or above the ceiling is moved to that bound. */
uint32_t msh_frame_cap(uint64_t configured);

typedef struct msh_frame {
    uint32_t type; /* wire/gcs.h */
    uint64_t id;   /* 0 on notifications, where it means nothing */
    msh_slice body;
} msh_frame;

/* Writes the 16 bytes; `body` is the body's length, at most UINT32_MAX - 16. */
void msh_frame_put_header(uint8_t out[MSH_FRAME_HEADER], uint32_t type, uint64_t id, uint32_t body);

/* Reads a header. `body` is how many bytes follow.
 * MSH_PROTOCOL: size below 16 or above `cap`, a class other than 1, 2, 3, or an id of 2^63 or more. */
typedef struct msh_frame_head {
    uint32_t type;
    uint64_t id;
    uint32_t body;
} msh_frame_head;
msh_code msh_frame_get_header(const uint8_t in[MSH_FRAME_HEADER], uint32_t cap, msh_frame_head *out,
                              msh_err *err);

/* Appends one whole frame, so that a driver writes header and body together. `newline` ends the body with one
 * '\n' unless it has one, as hosts do. MSH_INVALID_ARGUMENT: a class or id that a decoder would refuse.
 * MSH_RESOURCE_EXHAUSTED: beyond `cap`, beyond the limit of `out`, or no memory; then nothing was appended.
 */
msh_code msh_frame_append(msh_buf *out, uint32_t type, uint64_t id, msh_slice body, bool newline,
                          uint32_t cap, msh_err *err);

typedef struct msh_frame_decoder {
    msh_slice in; /* borrowed: fed and not cut yet */
    msh_buf part; /* owned: the front of a frame whose end has not come */
    size_t drop;  /* bytes of `part` that the last reported frame used */
    uint32_t cap;
    msh_err failed; /* .code is MSH_OK while all is well */
} msh_frame_decoder;

void msh_frame_decoder_init(msh_frame_decoder *d, uint32_t cap); /* cap: from msh_frame_cap */
void msh_frame_decoder_free(msh_frame_decoder *d);
/* Hands over what was read. MSH_FAILED_PRECONDITION when the bytes of the last feed are not used up. */
msh_code msh_frame_feed(msh_frame_decoder *d, msh_slice in, msh_err *err);
/* Next whole frame; MSH_AGAIN when more bytes are needed; MSH_PROTOCOL or MSH_RESOURCE_EXHAUSTED for ever. */
msh_code msh_frame_next(msh_frame_decoder *d, msh_frame *out, msh_err *err);
/* The stream has ended: MSH_OK between frames, MSH_PROTOCOL inside one. */
msh_code msh_frame_end(const msh_frame_decoder *d, msh_err *err);
#endif

/* transport/stream.h - a byte stream on a loop, whatever carries it.
 *
 * Layer      transport: base, sys; libuv for the loop, which is always passed in.
 * Words      reader = the two functions that get what arrives.
 * Ownership  the maker gives a stream; msh_stream_close takes it. Data given to a reader is borrowed for the
 *            call. Data given to msh_stream_write is copied where it cannot leave at once.
 * Always     1. no function here runs a callback before it returns; callbacks come from the loop.
 *            2. after msh_stream_close no callback runs; writes that are still queued may be dropped.
 *            3. a `done` runs once, with NULL or the reason; a call that fails never runs it.
 *            4. what waits to be written is bounded by `limit`; beyond it write answers resource_exhausted
 *               (one write into an empty queue is always taken whole).
 *            5. a callback may call anything here, msh_stream_close too.
 * See        csrc/transport/stream_test.c, one suite over all carriers */
#ifndef MSH_TRANSPORT_STREAM_H
#define MSH_TRANSPORT_STREAM_H
#include "base/buf.h"
#include "base/err.h"
#include "sys/usock.h"
#include <uv.h>

#define MSH_STREAM_LIMIT (8u << 20)  /* bytes waiting, unless set */
#define MSH_STREAM_READ  (64u << 10) /* most bytes of one delivery */

typedef struct msh_stream msh_stream;
typedef void (*msh_stream_done)(void *ctx, const msh_err *err);

typedef struct msh_reader {
    /* Bytes, at least one. `fd` is -1 unless msh_stream_take_fds is on and the peer sent one: then it is
     * given. */
    void (*data)(void *ctx, msh_slice bytes, int fd);
    /* Once: NULL = the peer sent its last byte (we may still write), else why reading is over. */
    void (*end)(void *ctx, const msh_err *err);
    void *ctx;
} msh_reader;

typedef struct msh_stream_ops {
    msh_code (*write)(msh_stream *s, msh_slice data, int pass, msh_stream_done done, void *ctx, msh_err *err);
    msh_code (*read)(msh_stream *s, const msh_reader *r, msh_err *err);
    void (*stop)(msh_stream *s);
    msh_code (*shutdown)(msh_stream *s, msh_stream_done done, void *ctx, msh_err *err);
    void (*close)(msh_stream *s);
    msh_code (*peer)(msh_stream *s, msh_peer *out, msh_err *err);
    msh_code (*take_fds)(msh_stream *s, msh_err *err);
} msh_stream_ops;

struct msh_stream { /* the head of every carrier's own struct */
    const msh_stream_ops *ops;
    uv_loop_t *loop;
    size_t queued; /* bytes accepted and not yet written */
    size_t limit;
};

/* `done` may be NULL. unavailable after the peer went or after msh_stream_shutdown. */
msh_code msh_stream_write(msh_stream *s, msh_slice data, msh_stream_done done, void *ctx, msh_err *err);
/* Sends `data` (at least one byte) with a descriptor attached to its first byte. Borrows `fd` (duplicated
 * until it has left). unimplemented where the carrier cannot. */
msh_code msh_stream_send_fd(msh_stream *s, int fd, msh_slice data, msh_stream_done done, void *ctx,
                            msh_err *err);
/* Starts, or replaces the reader and goes on. failed_precondition after the end was told. */
msh_code msh_stream_read(msh_stream *s, const msh_reader *r, msh_err *err);
void msh_stream_stop(msh_stream *s); /* no delivery until msh_stream_read; the peer feels it in the end */
/* No more writes; the peer sees the end after what is queued. A second call is failed_precondition. */
msh_code msh_stream_shutdown(msh_stream *s, msh_stream_done done, void *ctx, msh_err *err);
msh_code msh_stream_peer(msh_stream *s, msh_peer *out, msh_err *err); /* who it is; unimplemented in memory */
msh_code msh_stream_take_fds(msh_stream *s, msh_err *err);            /* from now on accept descriptors */
void msh_stream_close(msh_stream *s);                                 /* NULL is fine */
#endif

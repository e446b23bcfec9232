/* relay/relay.h - the data thread: the stdio of a process as one object.
 *
 * Layer      relay: base, sys, transport (pump). The owner's loop is passed in; Lua is unknown here.
 * Words      owner = the thread of the loop given to msh_relay_new; all functions are called there.
 *            end = our side of a stream: a descriptor, or a fifo by path.
 *            port = the guest's side: a unix socket named by the decimal port in `dir`.
 * Ownership  descriptors in a msh_io_want are borrowed (duplicated). Their flags are never changed, since
 *            the open file is shared with the user's shell. The relay owns sockets, fifos and the thread.
 * Always     1. when msh_io_open returns ok the sockets listen; each takes one connection and is unlinked
 *               then.
 *            2. on_ready runs at most once, on_drained exactly once after msh_io_exited; both from the
 *               owner's loop, neither after msh_io_close.
 *            3. the three streams are independent. stdin's end reaches the guest (half-close) after its last
 *               byte. An output's end closes its socket; so does an output whose reader left for good, unless it is
 *               `lossy`: then the program goes on, and what it prints is read, counted and thrown away.
 *            4. a fifo keeps its bytes when its reader leaves and goes on when a reader comes back; while
 *               there is none the program blocks on a full pipe, for at most `away_ms`: then the reader has left for
 *               good (ETIMEDOUT). Bytes unread at the end wait for a late reader until msh_io_close. A stdin fifo
 *               ends only by msh_io_close_stdin, after its writers have left.
 *            5. with `resume` a stream outlives its socket: when that breaks, the port listens again, and the stream
 *               goes on where it was, nothing lost and nothing doubled (transport/tail.h).
 *            6. memory is bounded: kernel buffers plus MSH_PUMP_HELD a stream, and with `resume` a stdin's tail.
 *               Streams take turns, so a
 *               flood on one delays neither another nor a close.
 * See        csrc/relay/relay_test.c */
#ifndef MSH_RELAY_RELAY_H
#define MSH_RELAY_RELAY_H
#include "base/err.h"
#include <stdbool.h>
#include <uv.h>

typedef struct msh_relay msh_relay;
typedef struct msh_io msh_io;

enum { MSH_STDIN, MSH_STDOUT, MSH_STDERR, MSH_STDIO };

typedef struct msh_io_end {
    int fd;           /* -1 when `path` is used or there is no such stream */
    const char *path; /* an existing fifo; NULL when `fd` is used */
    uint32_t port;
    bool lossy; /* of an output: the program outlives its reader */
} msh_io_end;

typedef struct msh_io_report {
    uint64_t bytes[MSH_STDIO];   /* that reached their end */
    uint64_t dropped[MSH_STDIO]; /* thrown away for want of a reader: `lossy` */
    int error[MSH_STDIO]; /* errno that ended the stream or cost it its reader, 0 = it ended by itself */
    bool cut;             /* the deadline came before an output's end */
} msh_io_report;

typedef struct msh_io_want {
    const char *name; /* for messages; borrowed for the call */
    const char *dir;  /* folder of the sockets */
    bool tty;         /* then stderr is not used, whatever it says */
    bool resume;      /* the guest's agent dials again and knows the words of transport/tail.h */
    uint64_t away_ms; /* how long output that is due waits for a fifo's reader to come back; 0 = for ever */
    msh_io_end end[MSH_STDIO];
    /* Every port has its connection, or why that will not be. */
    void (*on_ready)(void *ctx, const msh_err *err);
    void (*on_drained)(void *ctx, const msh_io_report *report);
    void *ctx;
} msh_io_want;

/* Starts the thread. The loop stays alive while an io is open. */
msh_code msh_relay_new(uv_loop_t *loop, msh_relay **out, msh_err *err);
/* Takes it (NULL is fine): every io is closed, their handles are invalid from here on, and the thread is
 * joined. */
void msh_relay_close(msh_relay *r);

/* Opens the ends (never blocks on a fifo) and the sockets, all or nothing. */
msh_code msh_io_open(msh_relay *r, const msh_io_want *want, msh_io **out, msh_err *err);
/* The process has exited: what is there is drained until nothing has moved for `idle_ms`, and for at most `most_ms`; then
 * all is closed and on_drained runs. A second call may only shorten both. */
void msh_io_exited(msh_io *io, uint64_t idle_ms, uint64_t most_ms);
/* stdin ends after the bytes that are there: a descriptor is read until it would block, a fifo until its
 * writers have left. Nothing to do without stdin or the second time. */
void msh_io_close_stdin(msh_io *io);
/* The guest is gone, so nobody dials any more: what has arrived is moved on, then the streams end. Nobody waits for a
 * connection from here on, the first or another; the limits of msh_io_exited are needed at most for readers
 * on our side that are slow. */
void msh_io_gone(msh_io *io);
/* A fault, for tests: closes the socket of one stream over whatever is on its way, as a broken connection would. */
void msh_io_cut(msh_io *io, int stream);
/* A look at the counters, at any time. */
void msh_io_counts(const msh_io *io, uint64_t bytes[MSH_STDIO]);
/* Takes the io (NULL is fine); cuts what is not drained. */
void msh_io_close(msh_io *io);
#endif

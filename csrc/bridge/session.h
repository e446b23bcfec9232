/* bridge/session.h - the calls of one guest connection: match answers to calls, keep their deadlines.
 *
 * Layer      bridge: base/ and wire/. No socket, no clock, no Lua: bytes and `now` go in; bytes, events
 *            and the next deadline come out. A driver pumps it.
 * Words      call = a request that waits for its answer; abandoned = nobody waits any more, its answer
 *            will be dropped; late = an answer to a call that no longer waits; lost = the connection has
 *            ended.
 *
 *   OPEN --msh_session_lost / bad frame--> LOST --msh_session_close--> CLOSED
 *     `-----------------msh_session_close----------------------------> CLOSED
 *
 * Ownership  payloads given in are copied. A payload in an event is borrowed until the next
 *            msh_session_event_next or msh_session_feed. Fed bytes are borrowed until
 *            msh_session_event_next has said false.
 * Always     1. a call ends exactly once: answer, deadline, abandon, or loss. Abandon gives no event.
 *            2. an id is used once in a session's life, and never below `first_id`; so a late answer can
 *               never reach another call.
 *            3. late answers, unknown ids and odd types are counted and dropped; the connection lives on.
 *               Only a malformed frame or the end of the stream loses it.
 *            4. in LOST and CLOSED nothing is pending, nothing is sent, and a call is refused (unavailable).
 *            5. what waits for the peer is bounded: calls, bytes to send, and the frame being received.
 * See        bridge/session_test.c */
#ifndef MSH_BRIDGE_SESSION_H
#define MSH_BRIDGE_SESSION_H
#include "base/buf.h"
#include "base/err.h"
#include "base/time.h"

typedef struct msh_session msh_session;

/* Zero means the default everywhere. */
typedef struct msh_session_config {
    uint64_t first_id;  /* first id to use; a value above all ids used before, after an adoption */
    uint64_t max_frame; /* cap of one frame in each direction, in bytes (default 16 MiB; see msh_frame_cap) */
    size_t max_out;     /* most bytes queued for sending (default 64 MiB) */
    uint32_t max_pending; /* most calls waiting (default 65536) */
} msh_session_config;

typedef enum msh_session_state { MSH_SESSION_OPEN, MSH_SESSION_LOST, MSH_SESSION_CLOSED } msh_session_state;

typedef enum msh_session_kind {
    MSH_SESSION_ANSWER, /* id, tag, type, payload: the guest answered; the payload may still say "failed" */
    MSH_SESSION_FAILED, /* id, tag, err: deadline_exceeded or unavailable */
    MSH_SESSION_NOTIFY, /* type, payload */
    MSH_SESSION_ENDED   /* err: the cause of the loss (code protocol, unavailable, ...); once, after the calls
                           that it failed. Not after a close */
} msh_session_kind;

typedef struct msh_session_event {
    msh_session_kind kind;
    uint32_t type;
    uint64_t id;
    void *tag;         /* what the caller gave to msh_session_call; the session no longer knows it */
    msh_slice payload; /* borrowed; without the '\n' that some peers end it with */
    msh_err err;
} msh_session_event;

typedef struct msh_session_counts {
    uint64_t pending;  /* calls waiting now */
    uint64_t sent;     /* frames queued for sending so far */
    uint64_t received; /* whole frames received so far */
    uint64_t
        late; /* answers to ids that were used once and wait no longer: abandoned, expired, answered twice */
    uint64_t unknown;  /* answers to ids never used, and requests from the guest, which has none to make */
    uint64_t mismatch; /* answers whose type is not that of their request; delivered all the same */
    uint64_t expired;  /* calls ended by their deadline */
} msh_session_counts;

/* MSH_RESOURCE_EXHAUSTED without memory, MSH_INVALID_ARGUMENT for a first_id of 2^63 or more. */
msh_code msh_session_new(const msh_session_config *config, msh_session **out, msh_err *err);
/* Takes `s` (NULL is fine). Calls still waiting end without an event: close and drain first to hear of them.
 */
void msh_session_free(msh_session *s);

/* Queues a request and starts its deadline (an absolute time; MSH_NEVER for none). `type` must be of the
 * request class. The payload gets its '\n'. On success *id names the call until it ends. MSH_UNAVAILABLE when
 * not open; MSH_RESOURCE_EXHAUSTED when a bound is reached (nothing was queued, no id was used);
 * MSH_INVALID_ARGUMENT for a type that is no request. */
msh_code msh_session_call(msh_session *s, uint32_t type, msh_slice payload, msh_time deadline, void *tag,
                          uint64_t *id, msh_err *err);
/* Stops waiting for `id`. True when it was waiting: then there will be no event, and *tag (may be NULL) is
 * the caller's again. What the guest does with the request is not known. */
bool msh_session_abandon(msh_session *s, uint64_t id, void **tag);

/* Bytes from the peer; drain msh_session_event_next afterwards, before `in` is reused. A malformed frame is
 * not an error here: it loses the connection, as an event. MSH_FAILED_PRECONDITION when the last feed is not
 * drained; MSH_UNAVAILABLE when not open (the bytes are dropped). */
msh_code msh_session_feed(msh_session *s, msh_slice in, msh_err *err);
/* The stream has ended or broken; `why` (NULL: end of stream) goes into the text of every call it fails. All
 * of them fail with `unavailable`. Does nothing when not open. */
void msh_session_lost(msh_session *s, const msh_err *why);
/* As lost, but on our own wish: pending calls fail with `unavailable`, no ENDED event. Twice is fine. */
void msh_session_close(msh_session *s);
/* Ends the calls whose deadline is `now` or earlier. */
void msh_session_tick(msh_session *s, msh_time now);
/* When msh_session_tick has something to do; MSH_NEVER for never. */
msh_time msh_session_wake(const msh_session *s);
/* What happened, oldest first; false when nothing is left. */
bool msh_session_event_next(msh_session *s, msh_session_event *out);

/* Moves everything queued for sending into `batch`, so that a driver makes one write of it; false when
 * nothing is queued. `batch` must be empty (init or consumed); its memory becomes the next queue. The driver
 * keeps one batch in flight; calls made meanwhile gather in the queue. */
bool msh_session_out(msh_session *s, msh_buf *batch);

msh_session_state msh_session_state_of(const msh_session *s);
uint64_t msh_session_next_id(const msh_session *s); /* the id of the next call: the floor for an adoption */
msh_session_counts msh_session_count(const msh_session *s);
#endif

/* transport/driver.h - pumps the session of a guest connection over a stream: the loop, the clock and the
 *                      timer that csrc/bridge does without.
 *
 * Layer      transport, the one part of it that knows bridge.
 * Ownership  the driver owns stream and session. msh_driver_session lends the session, for everything but
 *            msh_session_call (calls go through msh_driver_call, or nothing is sent) and msh_session_free.
 * Always     1. events come from the loop, never from inside a call into the driver.
 *            2. one read and one write for all frames that are there: what is called within one turn of the
 *               loop leaves in one write, before the loop waits.
 *            3. while the peer does not read, calls gather in the session, whose bounds hold.
 * See        csrc/transport/driver_test.c */
#ifndef MSH_TRANSPORT_DRIVER_H
#define MSH_TRANSPORT_DRIVER_H
#include "bridge/session.h"
#include "transport/stream.h"

typedef struct msh_driver msh_driver;
/* `e` is borrowed for the call. May call anything here, msh_driver_free too. */
typedef void (*msh_driver_event)(void *ctx, const msh_session_event *e);

/* Takes `s` when it returns ok, and starts reading. `config` may be NULL. */
msh_code msh_driver_new(msh_stream *s, const msh_session_config *config, msh_driver_event on_event, void *ctx,
                        msh_driver **out, msh_err *err);
/* As msh_session_call. */
msh_code msh_driver_call(msh_driver *d, uint32_t type, msh_slice payload, msh_time deadline, void *tag,
                         uint64_t *id, msh_err *err);
msh_session *msh_driver_session(msh_driver *d);
msh_stream *msh_driver_stream(msh_driver *d); /* lent, for msh_stream_peer; NULL after msh_driver_end */
/* Ends the connection on our wish: the stream is closed, calls still waiting fail with `unavailable` from the loop. */
void msh_driver_end(msh_driver *d);
/* A fault, for tests: the connection breaks, whatever is on its way. All that a real loss brings comes from the loop. */
void msh_driver_cut(msh_driver *d);
/* Takes the driver (NULL is fine); no event after it. */
void msh_driver_free(msh_driver *d);
#endif

/* agent/streams.h - the data thread: bytes between the pipes of processes and the sockets of the host.
 *
 * Layer      agent; transport/pump.h moves the bytes.
 * Words      owner = a number for one process; its streams are ended together.
 *            input = host socket into the process; output = process into the host socket.
 * Ownership  msh_streams_add takes both descriptors, also when it fails.
 * Threads    any; nothing here waits for data, so a flood cannot delay a signal or an exit.
 * Half-close the end of an output is sent as a write shutdown, then the socket waits a bounded time for the host to close
 *            its side. The end of an input closes the process's pipe.
 * Terminal   the process's end is a duplicate of a pty's master (agent/console.h). Nobody being on the other side is its end
 *            only after the exit: a program may close its terminal and open it again. Then the socket closes at once.
 * Loss       with `words` (negotiated, transport/tail.h) a stream whose socket breaks dials its port again, and goes on without
 *            a lost or doubled byte; its end counts only when the host has confirmed it. Towards a host that does not know
 *            them the outputs of an init dial again and send once more what may have been on its way, as such hosts expect.
 *            Dialling goes on until the process is forgotten, for an exec until a while after its exit. */
#ifndef MSH_AGENT_STREAMS_H
#define MSH_AGENT_STREAMS_H
#include "base/buf.h"
#include "base/err.h"
#include <stdbool.h>

typedef struct msh_streams msh_streams;

typedef struct msh_stream {
    uint64_t owner;
    int from, to;
    bool input;
    bool terminal;
    const char *port; /* path of the host's socket, to dial again; NULL when there is none. Borrowed */
    bool words;
    bool init;
} msh_stream;

msh_code msh_streams_open(msh_streams **out, msh_err *err);
msh_code msh_streams_add(msh_streams *s, const msh_stream *stream, msh_err *err);
/* The process has exited: its input ends now; outputs go on for as long as somebody holds the pipe. */
void msh_streams_exited(msh_streams *s, uint64_t owner);
/* Ends what is left of it, and dials no more. */
void msh_streams_forget(msh_streams *s, uint64_t owner);
/* What there is and how it stands, as lines of text. Waits for the data thread, which is never busy for long; not for the
 * loop's thread. */
msh_code msh_streams_describe(msh_streams *s, msh_buf *out, msh_err *err);
#endif

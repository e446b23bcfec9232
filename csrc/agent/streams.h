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
 *            only after the exit: a program may close its terminal and open it again. Then the socket closes at once. */
#ifndef MSH_AGENT_STREAMS_H
#define MSH_AGENT_STREAMS_H
#include "base/err.h"
#include <stdbool.h>

typedef struct msh_streams msh_streams;

typedef struct msh_stream {
    uint64_t owner;
    int from, to;
    bool input;
    bool terminal;
    /* An output whose host went away: path of the socket to dial again every 100 ms, NULL = give up. Borrowed. */
    const char *redial;
} msh_stream;

msh_code msh_streams_open(msh_streams **out, msh_err *err);
msh_code msh_streams_add(msh_streams *s, const msh_stream *stream, msh_err *err);
/* The process has exited: its input ends now; outputs go on for as long as somebody holds the pipe. */
void msh_streams_exited(msh_streams *s, uint64_t owner);
/* Ends what is left of it, and dials no more. */
void msh_streams_forget(msh_streams *s, uint64_t owner);
#endif

/* transport/tail.h - what was sent on a stream and would be lost with its socket, and the few words that two ends of a
 * broken stream need to go on without a lost or doubled byte.
 *
 * Layer      transport. No loop and no thread; its user is the pump (pump.h), in "keep" mode.
 * Words      position = bytes since the stream began. taken = the position up to which the reader has read its socket.
 *            word = sixteen bytes against the direction of the stream, from the reader to the writer: GO_ON once after
 *            every connection but the first, NO_MORE when the reader wants nothing more (it has seen the end, or left).
 *            A writer whose socket ends without NO_MORE keeps its tail and waits for a new connection.
 * Always     1. the tail holds every byte between what the kernel says was read and what was sent, at most MSH_TAIL_MAX;
 *               nothing more is sent while it is full.
 *            2. bytes of a pipe are kept by reference (tee), others by copy; nothing is held while a stream is idle and
 *               its reader has read all.
 * Ownership  one thread; the kit is borrowed from the pump.
 * See        csrc/transport/tail_test.c; both ends of it: csrc/agent/streams.c, csrc/relay/flow.c */
#ifndef MSH_TRANSPORT_TAIL_H
#define MSH_TRANSPORT_TAIL_H
#include "base/buf.h"
#include "transport/pump.h"
#include <sys/types.h>

#define MSH_TAIL_MAX (1u << 20)

struct msh_tail {
    msh_pump_kit *kit;
    uint64_t end, sent, high; /* positions: of what is kept, of what the socket has, of what any socket had */
    msh_buf mem; /* the older part; what is in it may still be to be sent, once more or for the first time */
    int pipe[2]; /* the newer part, by reference; -1 while there is none */
    size_t piped;
};

void msh_tail_init(msh_tail *t, msh_pump_kit *kit);
void msh_tail_free(msh_tail *t);

/* Bytes that are in the tail and not in the socket: in memory, to be sent from there ... */
msh_slice msh_tail_unsent(const msh_tail *t);
/* ... or still in the pipe that they were copied from, to be moved from there. */
size_t msh_tail_ahead(const msh_tail *t);
/* The socket took `n` bytes of either; gives how many of them it had never had before. */
size_t msh_tail_sent(msh_tail *t, size_t n);

/* Copies what is in the pipe `in` by reference, without taking it. As tee: 0 = end, -1 = errno; EAGAIN also when the tail
 * is full, ENOMEM when there is no pipe to keep it in. Nothing may be unsent. */
ssize_t msh_tail_tee(msh_tail *t, int in);
/* Room for `n` bytes to be kept by copy, then msh_tail_commit; NULL when it is full or memory is short. */
char *msh_tail_reserve(msh_tail *t, size_t n);
void msh_tail_commit(msh_tail *t, size_t n);

/* Lets go of what the reader of `sock` has read. True when something went. */
bool msh_tail_trim(msh_tail *t, int sock);
/* On a new socket: go on after `taken`. Gives how many bytes before it are gone for good. */
uint64_t msh_tail_resume(msh_tail *t, uint64_t taken);
/* For a reader that cannot say what it has taken: the last `most` bytes once more, or what is kept of them. */
void msh_tail_replay(msh_tail *t, uint64_t most);

/* Words. */
enum { MSH_WORD_SIZE = 16 };
typedef enum msh_word { MSH_WORD_NONE, MSH_WORD_GO_ON, MSH_WORD_NO_MORE } msh_word;

/* Says it; true when the socket took it. */
bool msh_word_say(int sock, msh_word word, uint64_t taken);
/* Reads what was said. `got` (of MSH_WORD_SIZE bytes) and *n keep a part of one from call to call. NONE: nothing yet, or
 * with *over that nothing will come: the connection has ended or speaks something else. */
msh_word msh_word_hear(int sock, char *got, size_t *n, uint64_t *taken, bool *over);
/* Whether a stream that has just shown its end really ended (the writer shut its side down and waits), or broke. */
bool msh_word_broke(int sock);
#endif

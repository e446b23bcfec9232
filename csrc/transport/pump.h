/* transport/pump.h - moves bytes from one descriptor to another, by splice where the kernel can.
 *
 * Layer      transport. No loop and no thread: the owner says when to try.
 * Words      kit = what the pumps of one thread share: a scratch buffer and a pipe for the middle.
 * Ownership  the pump borrows both descriptors; the owner keeps them open until msh_pump_free.
 * Always     1. msh_pump_move never blocks on pipes, sockets and terminals and never changes the flags of a
 *               descriptor, so `in` and `out` may share their open file with other programs. Files and disks
 *               may take the time they take.
 *            2. at most MSH_PUMP_HELD bytes are held between the two ends; a pump that keeps (msh_pump_keep) has a
 *               tail besides (tail.h).
 * See        csrc/relay/relay.h, its main user; csrc/transport/tail_test.c */
#ifndef MSH_TRANSPORT_PUMP_H
#define MSH_TRANSPORT_PUMP_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

#define MSH_PUMP_HELD  (64u << 10)
#define MSH_PUMP_SPARE 4

typedef struct msh_tail msh_tail;

typedef struct msh_pump_kit {
    char *scratch;                         /* MSH_PUMP_HELD bytes, made when first needed */
    int mid[2];                            /* likewise */
    int null;                              /* likewise: what tails throw away goes there */
    int spare[MSH_PUMP_SPARE][2], n_spare; /* empty pipes of tails */
} msh_pump_kit;

void msh_pump_kit_init(msh_pump_kit *k);
void msh_pump_kit_free(msh_pump_kit *k);

typedef enum msh_pump_state {
    MSH_PUMP_MORE,  /* the budget is used up, more may be moved */
    MSH_PUMP_WAIT,  /* one end is not ready: try after the next readiness of either */
    MSH_PUMP_EOF,   /* `in` ended and every byte has left */
    MSH_PUMP_LOST,  /* nobody reads `out` any more */
    MSH_PUMP_FAILED /* see msh_pump.error */
} msh_pump_state;

typedef struct msh_pump {
    msh_pump_kit *kit;
    int in, out;
    int in_kind, out_kind, way;
    int own_in, own_out; /* re-opened terminals, -1 */
    char *held;          /* what was read and could not be written yet */
    size_t held_at, held_n;
    bool ended;               /* `in` gave its end */
    int error;                /* errno of MSH_PUMP_FAILED */
    bool in_polls, out_polls; /* false: always ready, and epoll refuses it (files) */
    msh_tail *tail;           /* NULL unless it keeps */
} msh_pump;

/* Looks at both ends and chooses the way. Borrows all. */
msh_code msh_pump_init(msh_pump *p, msh_pump_kit *kit, int in, int out, msh_err *err);
/* From now on what was sent is kept until the other side has read it. `out` must be a non-blocking socket, and nothing
 * was moved so far. */
msh_code msh_pump_keep(msh_pump *p, msh_err *err);
/* True when what was sent can be read once more instead of being kept: `in` is a file, and has to stay open to the end. */
bool msh_pump_rereads(const msh_pump *p);
/* A pump that keeps has a new socket, whose reader has taken so much of the stream: goes on after it. Gives how many bytes
 * are gone for good. */
uint64_t msh_pump_resume(msh_pump *p, uint64_t taken);
/* Another socket in the place of one that broke; borrowed. What is held or kept stays; of a pump that keeps,
 * msh_pump_resume or msh_tail_replay follows. */
void msh_pump_new_in(msh_pump *p, int in);
void msh_pump_new_out(msh_pump *p, int out);
/* The descriptors to wait on; not always those that were given. */
int msh_pump_in(const msh_pump *p);
int msh_pump_out(const msh_pump *p);
/* Moves up to about `budget` bytes; *moved grows by what reached `out`. */
msh_pump_state msh_pump_move(msh_pump *p, size_t budget, uint64_t *moved);
void msh_pump_free(msh_pump *p);
#endif

/* bridge/deadlines.h - the calls that have a deadline, soonest first. A binary heap whose members know their
 * place, so that a call which is answered leaves at once.
 *
 * Layer      bridge, inside only.
 * Ownership  borrows its members. */
#ifndef MSH_BRIDGE_DEADLINES_H
#define MSH_BRIDGE_DEADLINES_H
#include "base/time.h"
#include <stdbool.h>
#include <stddef.h>

typedef struct msh_deadline {
    msh_time at;
    size_t place; /* 1-based; 0: not in the heap */
} msh_deadline;

typedef struct msh_deadlines {
    msh_deadline **heap; /* [0] is the soonest */
    size_t n, cap;
} msh_deadlines;

bool msh_deadlines_add(msh_deadlines *h, msh_deadline *d);    /* false without memory */
void msh_deadlines_remove(msh_deadlines *h, msh_deadline *d); /* fine when not in the heap */
msh_deadline *msh_deadlines_first(const msh_deadlines *h);    /* NULL when empty */
void msh_deadlines_free(msh_deadlines *h);
#endif

/* base/idmap.h - from 64-bit ids to pointers.
 *
 * Layer      base.
 * Words      generation = the id itself: whoever hands out ids counts up and never starts again, so an id that was
 *            removed finds nothing for ever, also when the slot it lived in is in use again. msh_idmap_next counts
 *            for those who have no numbers of their own.
 * Ownership  the map owns its table and borrows what the pointers point to. Pointers are not NULL.
 * Always     an id is in the map at most once. Removing never allocates. Any 64-bit id is fine, 0 too. */
#ifndef MSH_BASE_IDMAP_H
#define MSH_BASE_IDMAP_H
#include "base/err.h"
#include <stddef.h>
#include <stdint.h>

typedef struct msh_idmap {
    struct msh_idmap_slot *slots;
    size_t cap, used; /* cap: a power of two, or 0 */
    uint64_t next;    /* msh_idmap_next: 1, 2, 3 ... */
} msh_idmap;

void msh_idmap_init(msh_idmap *m);
void msh_idmap_free(msh_idmap *m); /* the empty value is fine */
/* MSH_ALREADY_EXISTS; MSH_RESOURCE_EXHAUSTED without memory. Then nothing changed. */
msh_code msh_idmap_put(msh_idmap *m, uint64_t id, void *value);
void *msh_idmap_get(const msh_idmap *m, uint64_t id); /* NULL when absent */
void *msh_idmap_remove(msh_idmap *m, uint64_t id);    /* what it pointed to; NULL when absent */
uint64_t msh_idmap_next(msh_idmap *m);                /* an id that this map has not seen */
void msh_idmap_seen(msh_idmap *m, uint64_t id);       /* the next one will be above `id` */
/* In no order; *cursor = 0 to start; NULL at the end. The map must not change on the way. */
void *msh_idmap_each(const msh_idmap *m, size_t *cursor);
#endif

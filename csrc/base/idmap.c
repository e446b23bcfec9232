#include "base/idmap.h"
#include <stdlib.h>

/* Open addressing with linear probing; a removal moves the followers back, so there are no tombstones and a map
 * that lives for months stays as fast as a new one. */
struct msh_idmap_slot {
    uint64_t id;
    void *value; /* NULL: free */
};

static size_t home(const msh_idmap *m, uint64_t id)
{
    uint64_t h = id * UINT64_C(0x9e3779b97f4a7c15); /* counters spread well */
    return (size_t)(h >> 32) & (m->cap - 1);
}

void msh_idmap_init(msh_idmap *m)
{
    *m = (msh_idmap){.next = 1};
}

void msh_idmap_free(msh_idmap *m)
{
    free(m->slots);
    *m = (msh_idmap){.next = m->next};
}

/* The slot of `id`, or the free one where it would go. Needs a table with a free slot. */
static size_t probe(const msh_idmap *m, uint64_t id)
{
    size_t i = home(m, id);
    while (m->slots[i].value != NULL && m->slots[i].id != id)
        i = (i + 1) & (m->cap - 1);
    return i;
}

static bool grow(msh_idmap *m)
{
    msh_idmap bigger = *m;
    bigger.cap = m->cap == 0 ? 16 : m->cap * 2;
    bigger.slots = calloc(bigger.cap, sizeof *bigger.slots);
    if (bigger.slots == NULL)
        return false;
    for (size_t i = 0; i < m->cap; i++)
        if (m->slots[i].value != NULL)
            bigger.slots[probe(&bigger, m->slots[i].id)] = m->slots[i];
    free(m->slots);
    *m = bigger;
    return true;
}

msh_code msh_idmap_put(msh_idmap *m, uint64_t id, void *value)
{
    if (msh_idmap_get(m, id) != NULL)
        return MSH_ALREADY_EXISTS;
    if (m->used + 1 > m->cap / 4 * 3 && !grow(m))
        return MSH_RESOURCE_EXHAUSTED;
    m->slots[probe(m, id)] = (struct msh_idmap_slot){id, value};
    m->used++;
    return MSH_OK;
}

void *msh_idmap_get(const msh_idmap *m, uint64_t id)
{
    return m->cap == 0 ? NULL : m->slots[probe(m, id)].value;
}

void *msh_idmap_remove(msh_idmap *m, uint64_t id)
{
    if (m->cap == 0)
        return NULL;
    size_t hole = probe(m, id);
    void *value = m->slots[hole].value;
    if (value == NULL)
        return NULL;
    for (size_t i = (hole + 1) & (m->cap - 1); m->slots[i].value != NULL; i = (i + 1) & (m->cap - 1)) {
        size_t want = home(m, m->slots[i].id);
        /* It may move into the hole unless its home lies behind the hole, on its own side. */
        if (((i - want) & (m->cap - 1)) >= ((i - hole) & (m->cap - 1))) {
            m->slots[hole] = m->slots[i];
            hole = i;
        }
    }
    m->slots[hole].value = NULL;
    m->used--;
    return value;
}

uint64_t msh_idmap_next(msh_idmap *m)
{
    return m->next++;
}

void msh_idmap_seen(msh_idmap *m, uint64_t id)
{
    if (id >= m->next && id < UINT64_MAX)
        m->next = id + 1;
}

void *msh_idmap_each(const msh_idmap *m, size_t *cursor)
{
    while (*cursor < m->cap) {
        void *value = m->slots[(*cursor)++].value;
        if (value != NULL)
            return value;
    }
    return NULL;
}

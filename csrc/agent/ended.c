#include "agent/ended.h"
#include "agent/bridge.h"
#include <stdlib.h>

#define KEPT 1024u

typedef struct entry {
    uint64_t container; /* hash of the id; 0 for the UVM */
    pid_t pid;          /* 0: free */
    uint32_t code;
    uint64_t told; /* number of the connection */
} entry;

struct msh_ended {
    entry all[KEPT];
    size_t next;
};

static uint64_t hash(const char *container)
{
    return container == NULL ? 0 : msh_key_of("container", container, false).hash;
}

static entry *find(const msh_agent *a, uint64_t container, pid_t pid)
{
    for (size_t i = 0; a->ended != NULL && i < KEPT; i++) {
        entry *e = &a->ended->all[i];
        if (e->pid == pid && e->container == container)
            return e;
    }
    return NULL;
}

void msh_ended_keep(msh_agent *a, const char *container, pid_t pid, uint32_t code, uint64_t told)
{
    if (a->ended == NULL && (a->ended = calloc(1, sizeof *a->ended)) == NULL)
        return; /* without memory an exit that was missed is unknown */
    entry *e = find(a, hash(container), pid);
    if (e == NULL) {
        e = &a->ended->all[a->ended->next];
        a->ended->next = (a->ended->next + 1) % KEPT;
    }
    *e = (entry){hash(container), pid, code, told};
}

bool msh_ended_find(msh_agent *a, const char *container, pid_t pid, uint32_t *code)
{
    entry *e = find(a, hash(container), pid);
    if (e == NULL || pid == 0 || e->told == msh_bridge_connection(a->bridge))
        return false;
    *code = e->code;
    e->told = msh_bridge_connection(a->bridge);
    return true;
}

void msh_ended_forget(msh_agent *a, const char *container)
{
    uint64_t h = hash(container);
    for (size_t i = 0; a->ended != NULL && i < KEPT; i++)
        if (a->ended->all[i].container == h)
            a->ended->all[i] = (entry){0};
}

#include "device/machine.h"
#include <stdlib.h>

msh_code msh_resvs_new(const msh_resvs_config *config, msh_resvs **out, msh_err *err)
{
    if (config->controllers > MSH_SCSI_CTRLS || config->luns > MSH_SCSI_LUNS)
        return msh_fail(err, MSH_INVALID_ARGUMENT,
                        "%u controllers with %u LUNs, at most %u with %u are taken", config->controllers,
                        config->luns, MSH_SCSI_CTRLS, MSH_SCSI_LUNS);
    msh_resvs *t = calloc(1, sizeof *t);
    if (t == NULL)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory for the table of devices");
    t->config = *config;
    if (t->config.controllers == 0)
        t->config.controllers = MSH_SCSI_CTRLS;
    if (t->config.luns == 0)
        t->config.luns = MSH_SCSI_LUNS;
    msh_idmap_init(&t->claims);
    msh_idmap_init(&t->effects);
    msh_idmap_init(&t->index);
    msh_list_init(&t->by_number);
    msh_list_init(&t->parents);
    msh_list_init(&t->dirty);
    msh_list_init(&t->settled);
    *out = t;
    return MSH_OK;
}

static void free_claim(msh_claim *c)
{
    msh_list_remove(&c->all);
    free(c->why);
    free(c);
}

static void free_parent(msh_parent *p)
{
    free(p->memory);
    free(p);
}

static void free_mount(msh_mount *m)
{
    free(m->memory);
    free(m);
}

void msh_resvs_free(msh_resvs *t)
{
    if (t == NULL)
        return;
    for (msh_node *n; (n = msh_list_shift(&t->settled)) != NULL;)
        if (MSH_LIST_OF(n, msh_claim, node)->mount == NULL)
            free_claim(MSH_LIST_OF(n, msh_claim, node));
    for (msh_node *n; (n = msh_list_shift(&t->by_number)) != NULL;)
        free_claim(MSH_LIST_OF(n, msh_claim, all));
    for (msh_node *n; (n = msh_list_shift(&t->parents)) != NULL;) {
        msh_parent *p = MSH_LIST_OF(n, msh_parent, all);
        for (msh_node *k; (k = msh_list_shift(&p->mounts)) != NULL;)
            free_mount(MSH_LIST_OF(k, msh_mount, node));
        free_parent(p);
    }
    msh_idmap_free(&t->claims);
    msh_idmap_free(&t->effects);
    msh_idmap_free(&t->index);
    free(t);
}

static msh_parent *find_parent(const msh_resvs *t, const msh_bus_ops *bus, const msh_want *want)
{
    msh_parent *p = msh_idmap_get(&t->index, msh_path_hash(want->path, t->config.fold_case));
    while (p != NULL && !(p->bus == bus && bus->same(t, p, want)))
        p = p->same_hash;
    return p;
}

static msh_code index_parent(msh_resvs *t, msh_parent *p)
{
    p->key = msh_path_hash(p->want.path, t->config.fold_case);
    msh_parent *first = msh_idmap_get(&t->index, p->key);
    if (first == NULL)
        return msh_idmap_put(&t->index, p->key, p);
    p->same_hash = first->same_hash;
    first->same_hash = p;
    return MSH_OK;
}

static void unindex_parent(msh_resvs *t, msh_parent *p)
{
    msh_parent *first = msh_idmap_get(&t->index, p->key);
    if (first == p) {
        msh_idmap_remove(&t->index, p->key);
        if (p->same_hash != NULL) /* cannot fail: the slot was just freed */
            msh_idmap_put(&t->index, p->key, p->same_hash);
        return;
    }
    while (first != NULL && first->same_hash != p)
        first = first->same_hash;
    if (first != NULL)
        first->same_hash = p->same_hash;
}

static msh_code new_parent(msh_resvs *t, const msh_bus_ops *bus, const msh_want *want, const msh_facts *facts,
                           msh_parent **out, msh_err *err)
{
    msh_parent *p = calloc(1, sizeof *p);
    if (p == NULL || !msh_want_copy(want, want->path, &p->want, &p->memory)) {
        free(p);
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory for a device");
    }
    p->bus = bus;
    msh_code rc = bus->place(t, p, facts, err);
    if (rc == MSH_OK && index_parent(t, p) != MSH_OK) {
        bus->unplace(t, p);
        rc = msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory for a device");
    }
    if (rc != MSH_OK) {
        free_parent(p);
        return rc;
    }
    msh_list_push(&t->parents, &p->all);
    msh_list_init(&p->mounts);
    msh_list_init(&p->pending);
    t->counts.parents++;
    t->counts.slots_used += bus == &msh_scsi;
    *out = p;
    return MSH_OK;
}

void msh_forget_unknown(msh_resvs *t, msh_object *o)
{
    if (o->unknown != 0)
        msh_idmap_remove(&t->effects, o->unknown);
    o->unknown = 0;
}

static void drop_parent(msh_resvs *t, msh_parent *p)
{
    msh_forget_unknown(t, &p->o);
    unindex_parent(t, p);
    p->bus->unplace(t, p);
    msh_list_remove(&p->all);
    msh_list_remove(&p->dirty);
    t->counts.parents--;
    t->counts.slots_used -= p->bus == &msh_scsi;
    free_parent(p);
}

static msh_mount *find_mount(const msh_parent *p, uint32_t partition)
{
    for (msh_node *n = p->mounts.next; n != &p->mounts; n = n->next)
        if (MSH_LIST_OF(n, msh_mount, node)->partition == partition)
            return MSH_LIST_OF(n, msh_mount, node);
    return NULL;
}

static msh_mount *new_mount(msh_resvs *t, msh_parent *p, const msh_want *want)
{
    msh_mount *m = calloc(1, sizeof *m);
    if (m == NULL || !msh_mount_copy(&want->mount, &m->config, &m->memory)) {
        free(m);
        return NULL;
    }
    m->o.parent = p;
    m->partition = want->partition;
    msh_list_push(&p->mounts, &m->node);
    t->counts.mounts++;
    return m;
}

msh_code msh_mount_take(msh_resvs *t, const msh_want *want, const msh_facts *facts, msh_mount **out,
                        msh_err *err)
{
    char path[MSH_RESV_PATH + 1];
    msh_want w = *want;
    const msh_bus_ops *bus = want->bus == MSH_BUS_SCSI    ? &msh_scsi
                             : want->bus == MSH_BUS_PLAN9 ? &msh_plan9
                             : want->bus == MSH_BUS_VPCI  ? &msh_vpci
                                                          : NULL;
    if (bus == NULL)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "no such bus");
    msh_code rc = msh_want_check(want, err);
    if (rc == MSH_OK)
        rc = bus->check(t, want, err);
    if (rc == MSH_OK)
        rc = msh_path_clean(want->path, t->config.fold_case, path, err);
    if (rc != MSH_OK)
        return rc;
    w.path = path;
    msh_parent *p = find_parent(t, bus, &w);
    bool fresh = p == NULL;
    rc = fresh ? new_parent(t, bus, &w, facts, &p, err) : bus->agrees(p, &w, err);
    if (rc != MSH_OK)
        return rc;
    msh_mount *m = find_mount(p, w.partition);
    if (m != NULL && !msh_mount_same(&m->config, &w.mount))
        return msh_fail(err, MSH_FAILED_PRECONDITION,
                        "partition %u of %.120s is in use with other mount settings", w.partition, path);
    if (m == NULL && (m = new_mount(t, p, &w)) == NULL) {
        if (fresh)
            drop_parent(t, p);
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory for a mount");
    }
    p->o.users++;
    m->o.users++;
    *out = m;
    return MSH_OK;
}

void msh_mount_drop(msh_resvs *t, msh_mount *m)
{
    msh_parent *p = m->o.parent;
    p->o.users--;
    if (--m->o.users == 0) {
        msh_forget_unknown(t, &m->o);
        msh_list_remove(&m->node);
        t->counts.mounts--;
        free_mount(m);
    }
    if (p->o.users == 0)
        drop_parent(t, p);
}

msh_code msh_claim_add(msh_resvs *t, msh_resv id, msh_mount *m, msh_claim **out, msh_err *err)
{
    msh_claim *c = calloc(1, sizeof *c);
    if (c == NULL || msh_idmap_put(&t->claims, id, c) != MSH_OK) {
        free(c);
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory for a reservation");
    }
    c->id = id;
    c->mount = m;
    msh_node *after = t->by_number.prev; /* restored ones come mostly in order, new ones always */
    while (after != &t->by_number && MSH_LIST_OF(after, msh_claim, all)->id > id)
        after = after->prev;
    msh_list_push(after->next, &c->all);
    *out = c;
    return MSH_OK;
}

msh_code msh_resv_make(msh_resvs *t, const msh_want *want, msh_resv *out, msh_err *err)
{
    msh_mount *m = NULL;
    msh_claim *c = NULL;
    if (t->claims.used >= MSH_RESV_MAX)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "%zu device reservations are too many", t->claims.used);
    msh_code rc = msh_mount_take(t, want, NULL, &m, err);
    if (rc != MSH_OK)
        return rc;
    rc = msh_claim_add(t, msh_idmap_next(&t->claims), m, &c, err);
    if (rc != MSH_OK) {
        msh_mount_drop(t, m);
        return rc;
    }
    *out = c->id;
    msh_parent_settle(t, m->o.parent); /* who is leaving it is no longer the last */
    return MSH_OK;
}

msh_code msh_resvs_boot_disk(msh_resvs *t, uint32_t controller, uint32_t lun, const char *path, msh_err *err)
{
    char clean[MSH_RESV_PATH + 1] = "";
    msh_want want = {.bus = MSH_BUS_SCSI, .path = clean};
    msh_facts at = {.controller = controller, .lun = lun};
    if (controller >= t->config.controllers || lun >= t->config.luns)
        return msh_fail(err, MSH_OUT_OF_RANGE, "slot %u:%u is outside of %u controllers with %u LUNs",
                        controller, lun, t->config.controllers, t->config.luns);
    if (t->slots[controller * MSH_SCSI_LUNS + lun] != NULL)
        return msh_fail(err, MSH_ALREADY_EXISTS, "slot %u:%u is taken", controller, lun);
    if (path != NULL) {
        msh_code rc = msh_path_clean(path, t->config.fold_case, clean, err);
        if (rc != MSH_OK)
            return rc;
        if (find_parent(t, &msh_scsi, &want) != NULL)
            return msh_fail(err, MSH_ALREADY_EXISTS, "disk %.120s has a slot already", clean);
    }
    msh_parent *p = NULL;
    msh_code rc = new_parent(t, &msh_scsi, &want, &at, &p, err); /* without a path it is found by nobody */
    if (rc != MSH_OK)
        return rc;
    p->boot = true;
    t->counts.parents--;
    t->counts.slots_used--;
    t->counts.slots_boot++;
    return MSH_OK;
}

msh_code msh_resvs_boot_device(msh_resvs *t, const char *path, uint32_t vf, const char *instance,
                               msh_err *err)
{
    char clean[MSH_RESV_PATH + 1];
    msh_want want = {.bus = MSH_BUS_VPCI, .path = clean, .vf = vf, .instance = instance};
    msh_mount *m = NULL;
    msh_code rc = msh_path_clean(path, t->config.fold_case, clean, err);
    if (rc == MSH_OK && find_parent(t, &msh_vpci, &want) != NULL)
        return msh_fail(err, MSH_ALREADY_EXISTS, "device %.120s is known already", clean);
    if (rc == MSH_OK)
        rc = msh_mount_take(t, &want, NULL, &m, err); /* the count that is taken here is never given back */
    if (rc != MSH_OK)
        return rc;
    msh_parent *p = m->o.parent;
    p->boot = true;
    p->o.usable = m->o.usable = true;
    p->o.down_left = msh_ways_down(t, &p->o);
    t->counts.parents--;
    t->counts.mounts--;
    return MSH_OK;
}

msh_resvs_counts msh_resvs_count(const msh_resvs *t)
{
    msh_resvs_counts c = t->counts;
    c.reservations = t->claims.used;
    return c;
}

/* Facts: out of the table for receipts and effects, and back into it after a crash. */
#include "device/machine.h"
#include <string.h>

void msh_facts_of(const msh_parent *p, const msh_mount *m, msh_facts *out)
{
    *out = (msh_facts){.want = p->want, .controller = p->controller, .lun = p->lun, .share = p->share};
    out->port = p->bus == &msh_plan9 ? MSH_PLAN9_PORT : 0;
    out->held = p->o.usable && (m == NULL || m->o.usable) ? MSH_HELD_MAPPED : MSH_HELD_INTENDED;
    if (m == NULL)
        return;
    out->want.partition = m->partition;
    out->want.mount = m->config;
    p->bus->guest_path(m, out->guest_path, sizeof out->guest_path);
}

/* The objects were found by their key; they must also be where the facts say. */
static msh_code same_place(const msh_mount *m, const msh_facts *f, msh_err *err)
{
    char path[sizeof f->guest_path];
    const msh_parent *p = m->o.parent;
    if (p->controller != f->controller || p->lun != f->lun || p->share != f->share ||
        (p->bus == &msh_vpci && !msh_text_same(p->want.instance, f->want.instance, false)))
        return msh_fail(err, MSH_FAILED_PRECONDITION, "%.120s is at another place already", p->want.path);
    p->bus->guest_path(m, path, sizeof path);
    if (f->guest_path[0] != '\0' && strncmp(path, f->guest_path, sizeof path) != 0)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "guest path %.55s does not fit the slot of %s",
                        f->guest_path, path);
    if (m->o.running != 0 || p->o.running != 0)
        return msh_fail(err, MSH_FAILED_PRECONDITION, "an effect runs on %.120s", p->want.path);
    return MSH_OK;
}

static void assume(msh_resvs *t, msh_object *o, bool up)
{
    if (up) {
        o->usable = true;
        msh_forget_unknown(t, o); /* whoever restores knows better than a late answer */
    }
    if (o->usable || o->down_left == 0)
        o->down_left = msh_ways_down(t, o);
}

msh_code msh_resv_restore(msh_resvs *t, msh_resv r, const msh_facts *f, msh_err *err)
{
    if (r == 0 || r == UINT64_MAX)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "%llu is no number of a reservation",
                        (unsigned long long)r);
    if (msh_idmap_get(&t->claims, r) != NULL)
        return msh_fail(err, MSH_ALREADY_EXISTS, "reservation %llu is there already", (unsigned long long)r);
    if (t->claims.used >= MSH_RESV_MAX)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "%zu device reservations are too many", t->claims.used);
    bool scsi = f->want.bus == MSH_BUS_SCSI, plan9 = f->want.bus == MSH_BUS_PLAN9;
    if ((!scsi && (f->controller != 0 || f->lun != 0)) || (!plan9 && f->share != 0) ||
        f->port != (plan9 ? MSH_PLAN9_PORT : 0))
        return msh_fail(err, MSH_INVALID_ARGUMENT, "the facts belong to another bus");
    msh_mount *m = NULL;
    msh_claim *c = NULL;
    msh_code rc = msh_mount_take(t, &f->want, f, &m, err);
    if (rc != MSH_OK)
        return rc;
    rc = same_place(m, f, err);
    if (rc == MSH_OK)
        rc = msh_claim_add(t, r, m, &c, err);
    if (rc != MSH_OK) {
        msh_mount_drop(t, m);
        return rc;
    }
    msh_idmap_seen(&t->claims, r);
    assume(t, &m->o.parent->o, f->held == MSH_HELD_MAPPED);
    assume(t, &m->o, f->held == MSH_HELD_MAPPED);
    msh_parent_settle(t, m->o.parent);
    return MSH_OK;
}

msh_code msh_resv_facts(const msh_resvs *t, msh_resv r, msh_facts *out)
{
    const msh_claim *c = msh_idmap_get(&t->claims, r);
    if (c == NULL)
        return MSH_NOT_FOUND;
    msh_facts_of(c->mount->o.parent, c->mount, out);
    return MSH_OK;
}

static msh_object_state state_of(const msh_resvs *t, const msh_object *o)
{
    if (o->usable)
        return MSH_OBJ_UP;
    if (o->down_left == 0)
        return MSH_OBJ_ABSENT;
    if (o->unknown == 0 && o->down_left < msh_ways_down(t, o))
        return MSH_OBJ_HALF;
    return MSH_OBJ_TAINTED;
}

bool msh_resv_next(const msh_resvs *t, msh_resv *cursor, msh_resv_info *out)
{
    const msh_claim *here = msh_idmap_get(&t->claims, *cursor);
    const msh_node *n = here != NULL ? here->all.next : t->by_number.next;
    while (here == NULL && n != &t->by_number && MSH_LIST_OF(n, msh_claim, all)->id <= *cursor)
        n = n->next;
    if (n == &t->by_number)
        return false;
    const msh_claim *c = MSH_LIST_OF(n, msh_claim, all);
    const msh_object *chain[] = {&c->mount->o.parent->o, &c->mount->o};
    *out = (msh_resv_info){.resv = c->id, .aim = c->aim, .pending = c->pending};
    msh_facts_of(c->mount->o.parent, c->mount, &out->facts);
    for (size_t i = 0; i < 2; i++) {
        out->users[i] = chain[i]->users;
        out->state[i] = state_of(t, chain[i]);
        out->running[i] = chain[i]->running != 0 ? (int)chain[i]->op : -1;
    }
    *cursor = c->id;
    return true;
}

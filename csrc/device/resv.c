/* The machine itself: what each reservation waits for, which effect is due, and what an outcome means. */
#include "device/machine.h"
#include <stdlib.h>

const char *msh_op_text(msh_op op)
{
    static const char *const texts[] = {"attach", "add",    "mount",  "unmount", "eject",
                                        "detach", "remove", "assign", "wait"};
    return (unsigned)op < sizeof texts / sizeof texts[0] ? texts[op] : "unknown";
}

static msh_parent *parent_of(msh_object *o)
{
    return o->parent != NULL ? o->parent : (msh_parent *)o;
}

static bool going_up(msh_op op)
{
    return op == MSH_OP_ATTACH || op == MSH_OP_ADD || op == MSH_OP_MOUNT || op == MSH_OP_ASSIGN ||
           op == MSH_OP_WAIT;
}

static msh_op next_up(msh_object *o)
{
    return o->parent != NULL ? o->parent->bus->mount_up : parent_of(o)->bus->up;
}

static msh_op next_down(msh_object *o)
{
    return o->parent != NULL ? MSH_OP_UNMOUNT : parent_of(o)->bus->down(o->down_left);
}

/* ---- settling ---- */

static void settle(msh_resvs *t, msh_claim *c, msh_code code, const msh_err *why)
{
    msh_list_remove(&c->node);
    c->pending = false;
    c->code = code;
    if (why != NULL && (c->why = malloc(sizeof *c->why)) != NULL)
        *c->why = *why;
    msh_list_push(&t->settled, &c->node);
}

static void released(msh_resvs *t, msh_claim *c)
{
    msh_mount *m = c->mount;
    settle(t, c, MSH_OK, NULL);
    msh_idmap_remove(&t->claims, c->id);
    msh_list_remove(&c->all);
    c->mount = NULL;
    msh_mount_drop(t, m);
}

bool msh_resv_settled(msh_resvs *t, msh_resv *r, msh_code *code)
{
    msh_node *n = msh_list_shift(&t->settled);
    if (n == NULL)
        return false;
    msh_claim *c = MSH_LIST_OF(n, msh_claim, node);
    t->last = (msh_settlement){.resv = c->id, .aim = c->aim, .err = {.code = c->code}};
    if (c->why != NULL)
        t->last.err = *c->why;
    free(c->why);
    c->why = NULL;
    *r = c->id;
    *code = c->code;
    if (c->mount == NULL)
        free(c);
    return true;
}

const msh_settlement *msh_resv_settlement(const msh_resvs *t)
{
    return &t->last;
}

/* ---- what a reservation needs next ---- */

typedef enum step { STEP_THERE, STEP_WAIT, STEP_EFFECT, STEP_REFUSED } step; /* EFFECT: on *due */

/* The way down of `o`. A parent goes only after its mounts. */
static step take_down(msh_object *o, msh_object **due)
{
    bool wait = false;
    msh_parent *p = o->parent == NULL ? parent_of(o) : NULL;
    for (msh_node *n = p != NULL ? p->mounts.next : NULL; p != NULL && n != &p->mounts; n = n->next) {
        msh_object *m = &MSH_LIST_OF(n, msh_mount, node)->o;
        if (m->running != 0) {
            wait = true;
        } else if (m->down_left > 0) {
            *due = m;
            return STEP_EFFECT;
        }
    }
    *due = o;
    return wait ? STEP_WAIT : STEP_EFFECT;
}

static step towards_mapped(msh_claim *c, msh_object **due)
{
    msh_object *chain[] = {&c->mount->o.parent->o, &c->mount->o};
    for (size_t i = 0; i < 2; i++) {
        msh_object *o = chain[i];
        if (o->running != 0)
            return STEP_WAIT;
        if (o->usable)
            continue;
        if (o->down_left > 0) /* half or tainted: nobody uses it before it was all the way down */
            return c->mount->o.parent->bus->spoils ? STEP_REFUSED : take_down(o, due);
        *due = o;
        return STEP_EFFECT;
    }
    return STEP_THERE;
}

static step towards_released(msh_claim *c, msh_object **due)
{
    msh_object *chain[] = {&c->mount->o, &c->mount->o.parent->o};
    for (size_t i = 0; i < 2; i++) {
        msh_object *o = chain[i];
        if (o->users > 1)
            return STEP_THERE; /* the others hold it, and what is above */
        if (o->running != 0)
            return STEP_WAIT;
        if (o->down_left > 0)
            return take_down(o, due);
    }
    return STEP_THERE;
}

static step towards_aim(msh_claim *c, msh_object **due)
{
    return c->aim == MSH_AIM_MAPPED ? towards_mapped(c, due) : towards_released(c, due);
}

static void refuse(msh_resvs *t, msh_claim *c)
{
    msh_err why;
    msh_fail(&why, MSH_FAILED_PRECONDITION,
             "device %.120s failed while it was assigned or removed: release it first",
             c->mount->o.parent->want.path);
    settle(t, c, why.code, &why);
}

void msh_parent_settle(msh_resvs *t, msh_parent *p)
{
    bool due_here = false;
    msh_node *next;
    for (msh_node *n = p->pending.next; n != &p->pending; n = next) {
        next = n->next;
        bool last = next == &p->pending;
        msh_claim *c = MSH_LIST_OF(n, msh_claim, node);
        msh_object *due;
        step s = towards_aim(c, &due);
        due_here = due_here || s == STEP_EFFECT;
        if (s == STEP_REFUSED)
            refuse(t, c);
        else if (s != STEP_THERE)
            continue;
        else if (c->aim == MSH_AIM_MAPPED) {
            settle(t, c, MSH_OK, NULL);
        } else {
            bool gone = p->o.users == 1;
            released(t, c);
            if (gone)
                return; /* and so is `p` */
        }
        if (last)
            break;
    }
    msh_list_remove(&p->dirty);
    if (due_here)
        msh_list_push(&t->dirty, &p->dirty);
}

msh_code msh_resv_aim(msh_resvs *t, msh_resv r, msh_goal goal)
{
    msh_claim *c = msh_idmap_get(&t->claims, r);
    if (c == NULL)
        return MSH_NOT_FOUND;
    if (goal != MSH_AIM_MAPPED && goal != MSH_AIM_RELEASED)
        return MSH_INVALID_ARGUMENT;
    c->aim = goal;
    if (!c->pending) {
        msh_list_remove(&c->node); /* a settlement that was not collected is void */
        free(c->why);
        c->why = NULL;
        c->pending = true;
        msh_list_push(&c->mount->o.parent->pending, &c->node);
    }
    msh_parent_settle(t, c->mount->o.parent);
    return MSH_OK;
}

/* ---- effects ---- */

static bool start(msh_resvs *t, msh_object *o, msh_effect *out)
{
    msh_effect_id id = t->counts.effects + 1;
    if (msh_idmap_put(&t->effects, id, o) != MSH_OK)
        return false;
    msh_forget_unknown(t, o);
    o->running = id;
    o->op = o->down_left > 0 ? next_down(o) : next_up(o);
    o->was_usable = o->usable;
    t->counts.effects = id;
    t->counts.running++;
    out->id = id;
    out->op = o->op;
    msh_facts_of(parent_of(o), o->parent != NULL ? (msh_mount *)o : NULL, &out->facts);
    return true;
}

bool msh_resv_effect(msh_resvs *t, msh_effect *out)
{
    while (!msh_list_empty(&t->dirty)) {
        msh_parent *p = MSH_LIST_OF(t->dirty.next, msh_parent, dirty);
        for (msh_node *n = p->pending.next, *next; n != &p->pending; n = next) {
            next = n->next;
            msh_claim *c = MSH_LIST_OF(n, msh_claim, node);
            msh_object *due;
            if (towards_aim(c, &due) != STEP_EFFECT)
                continue;
            if (start(t, due, out))
                return true;
            msh_err e;
            msh_fail(&e, MSH_RESOURCE_EXHAUSTED, "no memory to %s a device",
                     msh_op_text(due->down_left > 0 ? next_down(due) : next_up(due)));
            settle(t, c, e.code, &e);
        }
        msh_list_remove(&p->dirty);
    }
    return false;
}

/* ---- outcomes ---- */

/* What is seen of a device goes with it, and nobody gets it any more before it is down. */
static void spoil(msh_parent *p)
{
    p->o.usable = false;
    for (msh_node *n = p->mounts.next; n != &p->mounts; n = n->next)
        MSH_LIST_OF(n, msh_mount, node)->o.usable = false;
}

/* True when those who wait for `o` have to be told that it failed. */
static bool apply(msh_resvs *t, msh_object *o, msh_outcome outcome)
{
    msh_parent *p = parent_of(o);
    bool well = outcome == MSH_DONE_OK && going_up(o->op);
    if (p->bus->spoils && !well)
        spoil(p);
    if (going_up(o->op)) {
        o->usable = outcome == MSH_DONE_OK;
        o->down_left = outcome == MSH_DONE_OK || outcome == MSH_DONE_UNKNOWN ? msh_ways_down(t, o) : 0;
        return outcome != MSH_DONE_OK;
    }
    switch (outcome) {
    case MSH_DONE_OK:
    case MSH_DONE_GONE:
        o->usable = false;
        o->down_left--;
        return false;
    case MSH_DONE_FAILED:
        o->usable = o->was_usable && !p->bus->spoils; /* it is as it was */
        return true;
    default:
        o->usable = false;
        return true;
    }
}

static bool waits_for(const msh_claim *c, const msh_object *o)
{
    bool above = o->parent == NULL || c->mount == (const msh_mount *)o;
    if (c->aim == MSH_AIM_RELEASED)
        return !going_up(o->op) && above; /* a way up that failed is no trouble for who leaves */
    if (o->usable)
        return false;                     /* it stayed up: good for who wants it */
    return above || !o->parent->o.usable; /* a mount that keeps a tainted parent from going down */
}

static void fail_waiters(msh_resvs *t, msh_object *o, const msh_err *why)
{
    msh_parent *p = parent_of(o);
    for (msh_node *n = p->pending.next, *next; n != &p->pending; n = next) {
        next = n->next;
        msh_claim *c = MSH_LIST_OF(n, msh_claim, node);
        if (waits_for(c, o))
            settle(t, c, why->code, why);
    }
}

static void explain(const msh_object *o, msh_outcome outcome, const msh_err *why, msh_err *out)
{
    if (why != NULL && why->code != MSH_OK) {
        *out = *why;
        return;
    }
    const char *op = msh_op_text(o->op);
    if (outcome == MSH_DONE_GONE)
        msh_fail(out, MSH_GONE, "%s: what it needs is gone", op);
    else if (outcome == MSH_DONE_FAILED)
        msh_fail(out, MSH_INTERNAL, "%s failed", op);
    else
        msh_fail(out, MSH_UNKNOWN, "%s: nobody knows whether it took place", op);
    msh_err_from(out, MSH_SHIM, op);
}

void msh_resv_done_why(msh_resvs *t, msh_effect_id e, msh_outcome outcome, const msh_err *why)
{
    msh_object *o = msh_idmap_get(&t->effects, e);
    bool late = o == NULL || o->running != e;
    if (o == NULL || (late && outcome == MSH_DONE_UNKNOWN)) {
        t->counts.late++;
        return;
    }
    bool bad = apply(t, o, outcome);
    o->running = 0;
    /* Of a wait nothing is left that an answer could tell: the device is spoiled by now. */
    if (outcome == MSH_DONE_UNKNOWN && !(o->parent != NULL && msh_ways_down(t, o) == 0)) {
        o->unknown = e;
    } else {
        o->unknown = 0;
        msh_idmap_remove(&t->effects, e);
    }
    if (!late) {
        t->counts.running--;
        if (bad) {
            msh_err reason;
            explain(o, outcome, why, &reason);
            fail_waiters(t, o, &reason);
        }
    }
    msh_parent_settle(t, parent_of(o));
}

void msh_resv_done(msh_resvs *t, msh_effect_id e, msh_outcome outcome)
{
    msh_resv_done_why(t, e, outcome, NULL);
}

/* What is checked of the reservation machine.
 *
 * Clients make, aim and re-aim reservations in every order while every effect ends in every way (ok, gone, failed,
 * unknown and yet done, unknown and not done) at every moment, and late answers come in. Beside the machine
 * stands the world as it really is, and after every act it is checked that
 *   - nothing is attached where something is, mounted where nothing is attached, ejected below a mount, or detached
 *     before it was ejected (no double attach, right order);
 *   - nobody's mount is taken away while they hold it, and who is told "mapped" has it;
 *   - counts follow reservations (S1, P1), a slot or share lives while it is named (S2, P2) and when it is given
 *     back nothing is left of it in the world; one path has one slot (S3); the boot disk stays (S4); no share is
 *     writable under the policy (P3);
 *   - from here everything can be released, and then the table and the world are empty. */
#include "device/model.h"

act model_path[256];
int model_path_len;

_Noreturn void model_broken(const world *w, const char *what, int line)
{
    static const char *const acts[] = {"make",
                                       "map",
                                       "release",
                                       "take",
                                       "ok",
                                       "gone",
                                       "failed",
                                       "unknown, took place",
                                       "unknown, did not",
                                       "late answer"};
    print_message("world '%s', line %d: not true: %s\n", w->s->name, line, what);
    for (int i = 0; i < model_path_len; i++)
        print_message("  %s %u\n", acts[model_path[i].what], model_path[i].whom);
    fail();
    abort(); /* fail() does not return, and does not say so */
}

static int place_of(const world *w, const msh_facts *f)
{
    if (f->want.bus == MSH_BUS_SCSI)
        return (int)f->lun;
    for (int i = 0; i < w->s->clients; i++) /* share numbers grow for ever: the first client with this want */
        if (strcmp(w->s->wants[i].path, f->want.path) == 0 && w->s->wants[i].read_only == f->want.read_only &&
            w->s->wants[i].vf == f->want.vf)
            return i;
    return -1;
}

static bool held(const world *w, int at, int part)
{
    for (int i = 0; i < w->s->clients; i++) {
        msh_facts f;
        if (!w->holds[i])
            continue;
        CHECK(msh_resv_facts(w->t, w->r[i], &f) == MSH_OK);
        if (place_of(w, &f) == at && (part < 0 || (int)f.want.partition == part))
            return true;
    }
    return false;
}

/* What the machine asks for must be right in the world as it is. */
static void judge(const world *w, const flight *f)
{
    const place *p = &w->places[f->place];
    for (int i = 0; i < w->nflights; i++)
        if (!w->flights[i].landed && w->flights[i].place == f->place)
            CHECK(w->flights[i].part >= 0 && f->part >= 0 && w->flights[i].part != f->part);
    bool mounted = false;
    for (int i = 0; i < PARTS; i++)
        mounted = mounted || p->mounted[i];
    switch (f->op) {
    case MSH_OP_ATTACH:
    case MSH_OP_ADD:
    case MSH_OP_ASSIGN:
        CHECK(!p->attached && !mounted);
        break;
    case MSH_OP_MOUNT:
    case MSH_OP_WAIT:
        CHECK(p->attached && !p->ejected && !p->mounted[f->part]);
        break;
    case MSH_OP_UNMOUNT:
        CHECK(!held(w, f->place, f->part));
        break;
    case MSH_OP_EJECT:
        CHECK(!mounted && !held(w, f->place, -1));
        break;
    case MSH_OP_DETACH:
        CHECK(!p->attached || p->ejected || w->s->config.no_eject);
        CHECK(!mounted && !held(w, f->place, -1));
        break;
    case MSH_OP_REMOVE: /* what the guest sees of a device goes with it */
        CHECK((!mounted || w->s->wants[0].bus == MSH_BUS_VPCI) && !held(w, f->place, -1));
        break;
    }
}

static void come_true(world *w, const flight *f)
{
    place *p = &w->places[f->place];
    switch (f->op) {
    case MSH_OP_ATTACH:
    case MSH_OP_ADD:
    case MSH_OP_ASSIGN:
        p->attached = true;
        p->ejected = false;
        break;
    case MSH_OP_MOUNT:
    case MSH_OP_WAIT:
        p->mounted[f->part] = true;
        break;
    case MSH_OP_UNMOUNT:
        p->mounted[f->part] = false;
        break;
    case MSH_OP_EJECT:
        p->ejected = true;
        break;
    case MSH_OP_DETACH:
    case MSH_OP_REMOVE:
        p->attached = p->ejected = false;
        if (w->s->wants[0].bus == MSH_BUS_VPCI)
            p->mounted[0] = false;
        break;
    }
}

static bool up(msh_op op)
{
    return op == MSH_OP_ATTACH || op == MSH_OP_ADD || op == MSH_OP_MOUNT || op == MSH_OP_ASSIGN ||
           op == MSH_OP_WAIT;
}

static bool take_effect(world *w)
{
    msh_effect e;
    if (!msh_resv_effect(w->t, &e))
        return false;
    bool of_mount = e.op == MSH_OP_MOUNT || e.op == MSH_OP_UNMOUNT || e.op == MSH_OP_WAIT;
    flight f = {.id = e.id,
                .op = e.op,
                .place = place_of(w, &e.facts),
                .part = of_mount ? (int)e.facts.want.partition : -1};
    CHECK(w->nflights < FLIGHT && f.place >= 0);
    CHECK(!w->s->config.no_writable || e.facts.want.read_only);
    if (!w->replaying)
        judge(w, &f);
    w->flights[w->nflights++] = f;
    return true;
}

static void forget(world *w, int i)
{
    memmove(&w->flights[i], &w->flights[i + 1], (size_t)(w->nflights - i - 1) * sizeof w->flights[0]);
    w->nflights--;
}

static void settle_all(world *w)
{
    msh_resv r;
    msh_code code;
    while (msh_resv_settled(w->t, &r, &code)) {
        const msh_settlement *s = msh_resv_settlement(w->t);
        int i = 0;
        while (i < w->s->clients && w->r[i] != r)
            i++;
        CHECK(i < w->s->clients);
        CHECK(s->resv == r && s->err.code == code);
        if (s->aim == MSH_AIM_RELEASED && code == MSH_OK) {
            msh_facts gone;
            CHECK(msh_resv_facts(w->t, r, &gone) == MSH_NOT_FOUND);
            w->r[i] = 0;
        }
        w->holds[i] = s->aim == MSH_AIM_MAPPED && code == MSH_OK;
    }
}

static void check_all(world *w)
{
    int users[PLACES] = {0}, parts[PLACES][PARTS] = {{0}};
    bool named[PLACES] = {0};
    msh_resv_info info;
    for (int i = 0; i < w->s->clients; i++) {
        msh_facts f;
        if (w->r[i] == 0)
            continue;
        CHECK(msh_resv_facts(w->t, w->r[i], &f) == MSH_OK);
        int at = place_of(w, &f);
        CHECK(!(w->s->boot && at == 0)); /* S4 */
        for (int k = 0; k < i; k++) {    /* S3: one path, one slot; one slot, one path */
            msh_facts g;
            if (f.want.bus == MSH_BUS_SCSI && w->r[k] != 0 && msh_resv_facts(w->t, w->r[k], &g) == MSH_OK)
                CHECK((strcmp(f.want.path, g.want.path) == 0) == (place_of(w, &g) == at));
        }
        users[at]++;
        parts[at][f.want.partition]++;
        named[at] = true;
        if (w->holds[i]) {
            CHECK(w->places[at].attached && !w->places[at].ejected &&
                  w->places[at].mounted[f.want.partition]);
            CHECK(f.held == MSH_HELD_MAPPED);
        }
    }
    for (msh_resv cursor = 0; msh_resv_next(w->t, &cursor, &info);) { /* S1, P1 */
        int at = place_of(w, &info.facts);
        CHECK((int)info.users[0] == users[at] && (int)info.users[1] == parts[at][info.facts.want.partition]);
    }
    for (int at = 0; at < PLACES;
         at++) { /* S2, P2: what nobody names is really empty, and nothing runs on it */
        if (named[at])
            continue;
        CHECK(!w->places[at].attached && !w->places[at].ejected);
        for (int k = 0; k < PARTS; k++)
            CHECK(!w->places[at].mounted[k]);
        for (int i = 0; i < w->nflights; i++)
            CHECK(w->flights[i].landed || w->flights[i].place != at);
    }
    size_t running = 0;
    for (int i = 0; i < w->nflights; i++)
        running += !w->flights[i].landed;
    CHECK(msh_resvs_count(w->t).running == running);
}

static void land(world *w, int i, int how)
{
    flight *f = &w->flights[i];
    if (how == LATE) {
        flight old = *f;
        forget(w, i);
        msh_resv_done(w->t, old.id, old.happened ? MSH_DONE_OK : MSH_DONE_FAILED);
        return;
    }
    bool happens = how == DONE_OK || how == DONE_LOST || (how == DONE_GONE && !up(f->op));
    flight done = *f;
    if (happens)
        come_true(w, f);
    if ((how == DONE_LOST || how == DONE_NOT)) {
        f->landed = true;
        f->happened = happens;
        for (int k = 0; k < i;
             k++) /* only the newest answer of an object may still come: keeps the world finite */
            if (w->flights[k].landed && w->flights[k].place == f->place && w->flights[k].part == f->part) {
                forget(w, k);
                break;
            }
    } else {
        forget(w, i);
    }
    static const msh_outcome outcomes[] = {[DONE_OK] = MSH_DONE_OK,
                                           [DONE_GONE] = MSH_DONE_GONE,
                                           [DONE_FAILED] = MSH_DONE_FAILED,
                                           [DONE_LOST] = MSH_DONE_UNKNOWN,
                                           [DONE_NOT] = MSH_DONE_UNKNOWN};
    msh_resv_done(w->t, done.id, outcomes[how]);
}

/* An answer that comes too late to be believed changes nothing; it is given once, and then the world forgets it. */
static void drop_history(world *w)
{
    for (int i = w->nflights - 1; i >= 0; i--) {
        msh_effect_id id = w->flights[i].id;
        if (!w->flights[i].landed || msh_idmap_get(&w->t->effects, id) != NULL)
            continue;
        forget(w, i);
        if (w->replaying)
            continue;
        uint64_t before = model_print(w);
        msh_resv_done(w->t, id, MSH_DONE_OK);
        msh_resv_done(w->t, id, MSH_DONE_FAILED);
        CHECK(model_print(w) == before);
    }
}

bool model_perform(world *w, act a)
{
    switch (a.what) {
    case MAKE:
        if (a.whom >= w->s->clients || w->r[a.whom] != 0)
            return false;
        if (msh_resv_make(w->t, &w->s->wants[a.whom], &w->r[a.whom], NULL) != MSH_OK)
            return false;
        break;
    case MAP:
    case RELEASE:
        if (a.whom >= w->s->clients || w->r[a.whom] == 0)
            return false;
        w->holds[a.whom] = false;
        CHECK(msh_resv_aim(w->t, w->r[a.whom], a.what == MAP ? MSH_AIM_MAPPED : MSH_AIM_RELEASED) == MSH_OK);
        break;
    case TAKE:
        if (a.whom != 0 || w->s->eager || !take_effect(w))
            return false;
        break;
    default:
        if (a.whom >= w->nflights || w->flights[a.whom].landed != (a.what == LATE))
            return false;
        land(w, a.whom, a.what);
        break;
    }
    settle_all(w);
    while (w->s->eager && take_effect(w))
        ;
    settle_all(w);
    drop_history(w);
    if (!w->replaying)
        check_all(w);
    return true;
}

void model_begin(world *w, const setting *s)
{
    *w = (world){.s = s};
    assert_int_equal(msh_resvs_new(&s->config, &w->t, NULL), MSH_OK);
    if (s->boot)
        assert_int_equal(msh_resvs_boot_disk(w->t, 0, 0, "/boot", NULL), MSH_OK);
    if (!s->restored)
        return;
    w->places[0] = (place){s->attached, s->ejected, {s->mounted[0], s->mounted[1], s->mounted[2]}};
    for (int i = 0; i < s->clients; i++) {
        msh_facts f = {.want = s->wants[i], .held = s->held[i]};
        w->r[i] = (msh_resv)i + 1;
        assert_int_equal(msh_resv_restore(w->t, w->r[i], &f, NULL), MSH_OK);
    }
}

uint64_t model_print(const world *w)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
#define MIX(v) (h = (h ^ (uint64_t)(v)) * UINT64_C(0x100000001b3), h ^= h >> 29)
    for (int i = 0; i < w->s->clients; i++) {
        const msh_claim *c = w->r[i] != 0 ? msh_idmap_get(&w->t->claims, w->r[i]) : NULL;
        MIX(c != NULL);
        if (c == NULL)
            continue;
        const msh_object *chain[] = {&c->mount->o.parent->o, &c->mount->o};
        MIX(c->aim << 3 | c->pending << 2 | w->holds[i]);
        for (int k = 0; k < 2; k++)
            MIX(chain[k]->users << 20 | chain[k]->down_left << 16 | (unsigned)chain[k]->usable << 15 |
                (unsigned)chain[k]->was_usable << 14 | (unsigned)(chain[k]->running != 0) << 13 |
                (unsigned)(chain[k]->unknown != 0) << 12 | (unsigned)chain[k]->op);
        msh_facts f;
        msh_facts_of(c->mount->o.parent, c->mount, &f);
        MIX(place_of(w, &f));
        if (!w->s->eager) { /* the order in which effects will be given out */
            int before = 0;
            for (const msh_node *n = c->node.prev; c->pending && n != &c->mount->o.parent->pending;
                 n = n->prev)
                before++;
            MIX(before);
            before = 0;
            const msh_node *dirty = &c->mount->o.parent->dirty;
            for (const msh_node *n = dirty->prev; dirty->next != NULL && n != &w->t->dirty; n = n->prev)
                before++;
            MIX(dirty->next != NULL ? before + 1 : 0);
        }
    }
    for (int i = 0; i < PLACES; i++) {
        MIX(w->places[i].attached << 1 | w->places[i].ejected);
        for (int k = 0; k < PARTS; k++)
            MIX(w->places[i].mounted[k]);
    }
    uint64_t sum = 0; /* in any order */
    for (int i = 0; i < w->nflights; i++) {
        const flight *f = &w->flights[i];
        const msh_object *o = msh_idmap_get(&w->t->effects, f->id);
        uint64_t one = (uint64_t)f->op << 16 | (uint64_t)f->place << 12 | (uint64_t)(f->part + 1) << 8 |
                       (uint64_t)f->landed << 3 | (uint64_t)f->happened << 2 | (uint64_t)(o != NULL) << 1;
        sum += (one + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ one << 40;
    }
    MIX(sum);
    MIX(w->nflights);
#undef MIX
    return h != 0 ? h : 1;
}

void model_must_reach_empty(world *w)
{
    for (int i = 0; i < w->s->clients; i++)
        if (w->r[i] != 0)
            model_perform(w, (act){RELEASE, (uint8_t)i});
    for (int round = 0; round < 100; round++) {
        bool moved = !w->s->eager && model_perform(w, (act){TAKE, 0});
        for (int i = 0; i < w->nflights && !moved; i++)
            moved = !w->flights[i].landed && model_perform(w, (act){DONE_OK, (uint8_t)i});
        bool left = false;
        for (int i = 0; i < w->s->clients; i++) {
            left = left || w->r[i] != 0;
            if (w->r[i] != 0 && !moved) /* an old unknown effect failed it: again */
                model_perform(w, (act){RELEASE, (uint8_t)i});
        }
        if (!left)
            break;
    }
    msh_resvs_counts c = msh_resvs_count(w->t);
    CHECK(c.reservations == 0 && c.parents == 0 && c.mounts == 0 && c.slots_used == 0 && c.running == 0);
}

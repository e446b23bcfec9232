/* Exhaustive exploration of the reservation machine in small worlds.
 *
 * Clients make, aim and re-aim reservations in every order while every effect ends in every way (ok, gone, failed,
 * unknown and yet done, unknown and not done) at every moment, and late answers come in. Each state is reached by
 * replaying its path; a state is visited once. Beside the machine stands the world as it really is, and after every
 * act it is checked that
 *   - nothing is attached where something is, mounted where nothing is attached, ejected below a mount, or detached
 *     before it was ejected (no double attach, right order);
 *   - nobody's mount is taken away while they hold it, and who is told "mapped" has it;
 *   - counts follow reservations (S1, P1), a slot or share lives while it is named (S2, P2) and when it is given
 *     back nothing is left of it in the world; one path has one slot (S3); the boot disk stays (S4); no share is
 *     writable under the policy (P3);
 *   - from here everything can be released, and then the table and the world are empty. */
#include "device/machine.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CLIENTS = 8, PLACES = 8, PARTS = 3, FLIGHT = 16 };

typedef struct setting {
    const char *name;
    msh_resvs_config config;
    bool boot;  /* slot 0 is a boot disk */
    bool eager; /* effects are given out as soon as they are due, instead of at any later moment */
    int clients;
    msh_want wants[CLIENTS];
    bool restored; /* the clients were there before a crash, at slot 0, and this was the truth: */
    msh_held held[CLIENTS];
    bool attached, ejected, mounted[3];
} setting;

typedef struct place { /* the truth about one slot, or about one share */
    bool attached, ejected, mounted[PARTS];
} place;

typedef struct flight {
    msh_effect_id id;
    msh_op op;
    int place, part;       /* part -1: the parent */
    bool landed, happened; /* unknown outcome: what really was */
} flight;

typedef struct world {
    const setting *s;
    msh_resvs *t;
    msh_resv r[CLIENTS];
    bool holds[CLIENTS]; /* told "mapped", and did not aim elsewhere since */
    place places[PLACES];
    flight flights[FLIGHT];
    int nflights;
    bool replaying; /* these steps were checked when they were first taken */
} world;

/* An act: what, and on whom. */
enum { MAKE, MAP, RELEASE, TAKE, DONE_OK, DONE_GONE, DONE_FAILED, DONE_LOST, DONE_NOT, LATE, ACTS };
typedef struct act {
    uint8_t what, whom;
} act;

#define CHECK(cond)                                                                                          \
    do {                                                                                                     \
        if (!(cond))                                                                                         \
            broken(w, #cond, __LINE__);                                                                      \
    } while (0)

static act path[256]; /* how the state at hand was reached, for the report */
static int path_len;

static void broken(const world *w, const char *what, int line)
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
    for (int i = 0; i < path_len; i++)
        print_message("  %s %u\n", acts[path[i].what], path[i].whom);
    fail();
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

static uint64_t print_of(const world *w);

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
        uint64_t before = print_of(w);
        msh_resv_done(w->t, id, MSH_DONE_OK);
        msh_resv_done(w->t, id, MSH_DONE_FAILED);
        CHECK(print_of(w) == before);
    }
}

/* False when the act is not possible in this state; then nothing was done. */
static bool perform(world *w, act a)
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

static void begin(world *w, const setting *s)
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

/* Everything that can decide about the future, in a form that does not grow with time. */
static uint64_t print_of(const world *w)
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

typedef struct visited {
    uint32_t before; /* index of the state before */
    act by;
} visited;

typedef struct seen {
    uint64_t *prints;
    size_t cap, n;
} seen;

static bool see(seen *s, uint64_t print) /* true when it is new */
{
    if (s->n * 2 >= s->cap) {
        seen bigger = {calloc(s->cap ? s->cap * 2 : 1024, sizeof(uint64_t)), s->cap ? s->cap * 2 : 1024, 0};
        assert_non_null(bigger.prints);
        for (size_t i = 0; i < s->cap; i++)
            if (s->prints[i] != 0)
                see(&bigger, s->prints[i]);
        free(s->prints);
        *s = bigger;
    }
    size_t i = print & (s->cap - 1);
    while (s->prints[i] != 0 && s->prints[i] != print)
        i = (i + 1) & (s->cap - 1);
    if (s->prints[i] == print)
        return false;
    s->prints[i] = print;
    s->n++;
    return true;
}

static void replay(world *w, const setting *s, const visited *states, uint32_t at)
{
    path_len = 0;
    for (uint32_t i = at; i != 0; i = states[i].before)
        path_len++;
    assert_true(path_len < (int)(sizeof path / sizeof path[0]) - 1);
    int k = path_len;
    for (uint32_t i = at; i != 0; i = states[i].before)
        path[--k] = states[i].by;
    begin(w, s);
    w->replaying = true;
    for (int i = 0; i < path_len; i++)
        assert_true(perform(w, path[i]));
    w->replaying = false;
}

/* All aims on released and every effect ok: the end must be an empty table and an empty world. */
static void must_reach_empty(world *w)
{
    for (int i = 0; i < w->s->clients; i++)
        if (w->r[i] != 0)
            perform(w, (act){RELEASE, (uint8_t)i});
    for (int round = 0; round < 100; round++) {
        bool moved = !w->s->eager && perform(w, (act){TAKE, 0});
        for (int i = 0; i < w->nflights && !moved; i++)
            moved = !w->flights[i].landed && perform(w, (act){DONE_OK, (uint8_t)i});
        bool left = false;
        for (int i = 0; i < w->s->clients; i++) {
            left = left || w->r[i] != 0;
            if (w->r[i] != 0 && !moved) /* an old unknown effect failed it: again */
                perform(w, (act){RELEASE, (uint8_t)i});
        }
        if (!left)
            break;
    }
    msh_resvs_counts c = msh_resvs_count(w->t);
    CHECK(c.reservations == 0 && c.parents == 0 && c.mounts == 0 && c.slots_used == 0 && c.running == 0);
}

static void explore(const setting *s)
{
    seen known = {0};
    size_t cap = 1024;
    visited *states = malloc(cap * sizeof *states);
    uint32_t n = 1;
    uint64_t steps = 0;
    int deepest = 0;
    world w;
    begin(&w, s);
    see(&known, print_of(&w));
    states[0] = (visited){0, {0, 0}};
    msh_resvs_free(w.t);
    for (uint32_t at = 0; at < n; at++) {
        replay(&w, s, states, at);
        must_reach_empty(&w);
        msh_resvs_free(w.t);
        deepest = path_len > deepest ? path_len : deepest;
        bool fresh = false;
        for (int what = 0; what < ACTS; what++)
            for (int whom = 0; whom < FLIGHT; whom++) {
                if (!fresh)
                    replay(&w, s, states, at);
                fresh = true;
                path[path_len] = (act){(uint8_t)what, (uint8_t)whom};
                path_len++;
                bool done = perform(&w, path[path_len - 1]);
                path_len--;
                if (!done)
                    continue; /* nothing changed: go on from the same table */
                steps++;
                if (see(&known, print_of(&w))) {
                    if (n == cap)
                        states = realloc(states, (cap *= 2) * sizeof *states);
                    assert_non_null(states);
                    states[n++] = (visited){at, {(uint8_t)what, (uint8_t)whom}};
                }
                msh_resvs_free(w.t);
                fresh = false;
            }
        if (fresh)
            msh_resvs_free(w.t);
    }
    print_message("  %s: %u states, %llu steps, longest way %d\n", s->name, n, (unsigned long long)steps,
                  deepest);
    free(states);
    free(known.prints);
}

#define DISK(p, part)                                                                                        \
    {                                                                                                        \
        .bus = MSH_BUS_SCSI, .path = p, .read_only = true, .partition = part, .mount.read_only = true        \
    }
#define SHARE(p, ro)                                                                                         \
    {                                                                                                        \
        .bus = MSH_BUS_PLAN9, .path = p, .read_only = ro                                                     \
    }
#define DEVICE(p, i)                                                                                         \
    {                                                                                                        \
        .bus = MSH_BUS_VPCI, .path = p, .instance = "0000000" #i "-0000-4000-8000-000000000000"              \
    }

static void one_mount_shared_by_two(void **state)
{
    (void)state;
    explore(&(setting){.name = "one mount, two users, effects at any moment",
                       .config = {1, 1, .no_eject = false},
                       .clients = 2,
                       .wants = {DISK("/a", 0), DISK("/a", 0)}});
}

static void two_partitions_of_a_disk(void **state)
{
    (void)state;
    explore(&(setting){.name = "two partitions of one disk, effects at any moment",
                       .config = {1, 2, .no_eject = false},
                       .boot = true,
                       .clients = 2,
                       .wants = {DISK("/a", 1), DISK("/a", 2)}});
}

static void two_disks_and_one_slot(void **state)
{
    (void)state;
    explore(&(setting){.name = "two disks want one slot beside a boot disk",
                       .config = {1, 2, .no_eject = false},
                       .boot = true,
                       .clients = 2,
                       .wants = {DISK("/a", 0), DISK("/b", 0)}});
}

static void two_disks_three_users(void **state)
{
    (void)state;
    explore(&(setting){.name = "one disk used twice and another one, one slot",
                       .config = {1, 1, .no_eject = true},
                       .eager = true,
                       .clients = 3,
                       .wants = {DISK("/a", 0), DISK("/a", 0), DISK("/b", 0)}});
}

static void after_a_crash(void **state)
{
    (void)state;
    setting s = {.name = "two partitions after a crash, nobody knows what is there",
                 .config = {1, 1, .no_eject = false},
                 .clients = 2,
                 .wants = {DISK("/a", 1), DISK("/a", 2)},
                 .restored = true};
    s.attached = s.mounted[1] = s.mounted[2] = true;
    explore(&s);
    s.name = "two partitions after a crash, one is known to be mounted";
    s.held[0] = MSH_HELD_MAPPED;
    s.mounted[2] = false;
    explore(&s);
    s.name = "a half detached disk after a crash";
    s.held[0] = MSH_HELD_INTENDED;
    s.mounted[1] = false;
    s.ejected = true;
    explore(&s);
    s.name = "one mount of two users after a crash, one of them vouches for it";
    s.wants[0].partition = s.wants[1].partition = 0;
    s.ejected = false;
    s.mounted[0] = true;
    s.held[1] = MSH_HELD_MAPPED;
    explore(&s);
}

static void three_users_of_one_disk(void **state)
{
    (void)state;
    explore(&(setting){.name = "two partitions of one disk, one of them used twice",
                       .config = {1, 2, .no_eject = false},
                       .boot = true,
                       .eager = true,
                       .clients = 3,
                       .wants = {DISK("/a", 1), DISK("/a", 2), DISK("/a", 1)}});
    explore(&(setting){.name = "one mount used three times",
                       .config = {1, 1, .no_eject = false},
                       .eager = true,
                       .clients = 3,
                       .wants = {DISK("/a", 0), DISK("/a", 0), DISK("/a", 0)}});
}

static void shares(void **state)
{
    (void)state;
    explore(&(setting){.name = "a share used twice",
                       .config = {.no_writable = true},
                       .clients = 2,
                       .wants = {SHARE("/d", true), SHARE("/d", true)}});
}

static void devices(void **state)
{
    (void)state;
    setting s = {.name = "a device used twice", .clients = 2, .wants = {DEVICE("/a", 1), DEVICE("/a", 2)}};
    explore(&s);
    s.name = "a device and another one";
    s.eager = true;
    s.clients = 3;
    s.wants[2] = (msh_want)DEVICE("/b", 3);
    explore(&s);
    s.name = "a device after a crash, nobody knows whether it is there";
    s.eager = false;
    s.clients = 2;
    s.wants[1].instance = s.wants[0].instance;
    s.restored = s.attached = true;
    explore(&s);
    s.name = "a device after a crash, one of its two users vouches for it";
    s.held[1] = MSH_HELD_MAPPED;
    s.mounted[0] = true;
    explore(&s);
}

/* Bigger worlds than can be visited whole: ten thousand random acts, then the way to empty. */
static void walk(const setting *s, uint32_t seed)
{
    world w;
    int acts = 0;
    begin(&w, s);
    path_len = 0;
    for (int tries = 0; acts < 10000 && tries < 1000000; tries++) {
        seed = seed * 1664525u + 1013904223u;
        act a = {(uint8_t)((seed >> 8) % ACTS), (uint8_t)((seed >> 16) % FLIGHT)};
        int last = path_len < 255 ? path_len++ : 255;
        if (last == 255) /* the report shows the last acts */
            memmove(path, path + 1, 255 * sizeof path[0]);
        path[last] = a;
        if (w.nflights < FLIGHT && perform(&w, a))
            acts++;
        else if (w.nflights == FLIGHT)
            acts += perform(&w, (act){w.flights[0].landed ? LATE : DONE_OK, 0});
        else
            path_len = last;
    }
    assert_int_equal(acts, 10000);
    must_reach_empty(&w);
    msh_resvs_free(w.t);
}

static void ten_thousand_random_acts(void **state) /* [#277] */
{
    (void)state;
    setting disks = {.name = "five disks and partitions, eight clients, three slots",
                     .config = {1, 4, .no_eject = false},
                     .boot = true,
                     .clients = 8,
                     .wants = {DISK("/a", 0), DISK("/a", 0), DISK("/b", 1), DISK("/b", 2), DISK("/b", 1),
                               DISK("/c", 0), DISK("/d", 0), DISK("/e", 2)}};
    setting trees = {.name = "shares, eight clients",
                     .clients = 8,
                     .wants = {SHARE("/a", true), SHARE("/a", true), SHARE("/a", false), SHARE("/b", false),
                               SHARE("/b", false), SHARE("/b", false), SHARE("/c", true), SHARE("/d", true)}};
    setting cards = {.name = "devices, six clients",
                     .clients = 6,
                     .wants = {DEVICE("/a", 1), DEVICE("/a", 2), DEVICE("/a", 3), DEVICE("/b", 4),
                               DEVICE("/b", 5), DEVICE("/c", 6)}};
    for (uint32_t seed = 1; seed <= 8; seed++) {
        walk(&disks, seed);
        walk(&cards, seed);
        walk(&trees, seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_mount_shared_by_two),
        cmocka_unit_test(two_partitions_of_a_disk),
        cmocka_unit_test(two_disks_and_one_slot),
        cmocka_unit_test(two_disks_three_users),
        cmocka_unit_test(shares),
        cmocka_unit_test(devices),
        cmocka_unit_test(after_a_crash),
        cmocka_unit_test(three_users_of_one_disk),
        cmocka_unit_test(ten_thousand_random_acts),
    };
    return cmocka_run_group_tests_name("device exploration", tests, NULL, NULL);
}

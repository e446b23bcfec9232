/* Any order of make, aim, effect, outcome and restore: counts agree, one effect per object, and from everywhere the
 * table can be emptied. */
#include "device/resv.h"
#include "testing/fuzz.h"
#include <string.h>

enum { RESVS = 64, FLIGHT = 64 };

typedef struct book {
    msh_resvs *t;
    msh_resv r[RESVS];
    int nr;
    msh_effect_id flight[FLIGHT];
    int nflight;
} book;

static const char *const options[] = {"ro", "RO", "rshared", "noload", "a/b", ""};

static void take_want(msh_fuzz *in, msh_want *w, char path[32])
{
    static const char *const types[] = {NULL, "VirtualDisk", "PassThru", "ExtensibleVirtualDisk", "?"};
    uint8_t a = fuzz_byte(in), b = fuzz_byte(in);
    size_t n;
    char *odd = fuzz_bytes(in, a & 64 ? 8 : 1, &n);
    memcpy(path, "/d/", 3);
    memcpy(path + 3, odd, n);
    path[3 + n] = '\0';
    free(odd);
    *w = (msh_want){.bus = a & 1 ? MSH_BUS_PLAN9 : MSH_BUS_SCSI, .path = path, .read_only = (a & 2) != 0};
    if (w->bus == MSH_BUS_SCSI) {
        w->type = types[a & 32 ? b % 5 : 0];
        w->provider = a & 128 ? "p" : NULL;
        w->partition = a >> 2 & 3;
        w->mount.read_only = (a & 16) != 0;
        w->mount.options = (msh_texts){options + b % 5, b >> 6};
    } else if (a & 128) {
        static const char *const instances[] = {"00000000-0000-4000-8000-000000000001",
                                                "00000000-0000-4000-8000-000000000002",
                                                "00000000-0000-4000-8000-00000000000A", NULL};
        w->bus = MSH_BUS_VPCI;
        w->read_only = false;
        w->vf = a >> 2 & 3;
        w->instance = instances[b & 3];
    } else {
        w->restrict_names = (a & 16) != 0;
        w->names = (msh_texts){options + b % 5, a & 16 ? b >> 6 : 0};
    }
    if (b % 5 + (b >> 6) > 6)
        w->mount.options.n = w->names.n = 0;
}

static void add(book *b, msh_resv r)
{
    must(r != 0);
    if (b->nr < RESVS)
        b->r[b->nr++] = r;
}

static void take_effect(book *b)
{
    msh_effect e;
    if (b->nflight == FLIGHT || !msh_resv_effect(b->t, &e))
        return;
    must(e.id != 0 && e.facts.want.path[0] == '/');
    must((e.op == MSH_OP_MOUNT || e.op == MSH_OP_UNMOUNT) == (e.facts.guest_path[0] != '\0'));
    b->flight[b->nflight++] = e.id;
}

static void end_effect(book *b, int i, msh_outcome o)
{
    msh_effect_id id = b->flight[i];
    b->flight[i] = b->flight[--b->nflight];
    msh_resv_done(b->t, id, o);
}

static void collect(book *b)
{
    msh_resv r;
    msh_code code;
    while (msh_resv_settled(b->t, &r, &code)) {
        msh_facts f;
        bool left = msh_resv_settlement(b->t)->aim == MSH_AIM_RELEASED && code == MSH_OK;
        must((msh_resv_facts(b->t, r, &f) == MSH_NOT_FOUND) == left);
        if (msh_resv_settlement(b->t)->aim == MSH_AIM_MAPPED && code == MSH_OK)
            must(f.held == MSH_HELD_MAPPED);
    }
}

static void check(book *b)
{
    msh_resvs_counts c = msh_resvs_count(b->t);
    msh_resv_info info;
    size_t n = 0;
    for (msh_resv cursor = 0; msh_resv_next(b->t, &cursor, &info); n++) {
        must(info.users[0] >= info.users[1] && info.users[1] >= 1);
        must(info.state[1] != MSH_OBJ_UP || info.state[0] == MSH_OBJ_UP);
        must(info.state[0] != MSH_OBJ_ABSENT || info.state[1] == MSH_OBJ_ABSENT);
        must(info.running[0] < 0 || info.running[1] < 0);
    }
    must(n == c.reservations && (int)c.running == b->nflight && c.slots_used + c.slots_boot <= 3);
}

static void restore(book *b, msh_fuzz *in)
{
    char path[32];
    msh_facts f = {0};
    take_want(in, &f.want, path);
    f.lun = fuzz_byte(in) % 5;
    f.controller = f.lun == 4;
    if (f.want.bus == MSH_BUS_PLAN9) {
        f.share = f.lun;
        f.lun = f.controller = 0;
        f.port = MSH_PLAN9_PORT;
    } else if (f.want.bus == MSH_BUS_VPCI) {
        f.lun = f.controller = 0;
    }
    f.held = fuzz_byte(in) & 1 ? MSH_HELD_MAPPED : MSH_HELD_INTENDED;
    msh_resv r = fuzz_byte(in);
    collect(b); /* a number that was just released may come back */
    if (b->nr < RESVS && msh_resv_restore(b->t, r, &f, NULL) == MSH_OK)
        add(b, r);
}

static void empty(book *b)
{
    for (int round = 0; msh_resvs_count(b->t).reservations > 0; round++) {
        must(round < 1000);
        while (b->nflight > 0)
            end_effect(b, 0, MSH_DONE_OK);
        for (int i = 0; i < b->nr; i++)
            msh_resv_aim(b->t, b->r[i], MSH_AIM_RELEASED);
        take_effect(b);
        collect(b);
    }
    msh_resvs_counts c = msh_resvs_count(b->t);
    must(c.parents == 0 && c.mounts == 0 && c.slots_used == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    msh_fuzz in = {data, size};
    book b = {0};
    uint8_t how = fuzz_byte(&in);
    msh_resvs_config config = {1, 3, .no_eject = how & 1, .no_writable = how & 2, .fold_case = how & 4};
    must(msh_resvs_new(&config, &b.t, NULL) == MSH_OK);
    if (how & 8)
        must(msh_resvs_boot_disk(b.t, 0, 1, "/d/b", NULL) == MSH_OK);
    while (in.n > 0) {
        uint8_t op = fuzz_byte(&in) % 8;
        uint8_t at = op >= 2 ? fuzz_byte(&in) : 0;
        char path[32];
        msh_want w;
        msh_resv r;
        if (op == 0) {
            take_want(&in, &w, path);
            if (b.nr < RESVS && msh_resv_make(b.t, &w, &r, NULL) == MSH_OK)
                add(&b, r);
        } else if (op == 1) {
            restore(&b, &in);
        } else if (op <= 3 && b.nr > 0) {
            msh_resv_aim(b.t, b.r[at % b.nr], op == 2 ? MSH_AIM_MAPPED : MSH_AIM_RELEASED);
        } else if (op == 4) {
            take_effect(&b);
        } else if (op <= 6 && b.nflight > 0) {
            end_effect(&b, at % b.nflight, (msh_outcome)(at >> 6));
        } else if (op == 7) {
            msh_resv_done(b.t, at, MSH_DONE_OK); /* an id of any age */
            for (int i = 0; i < b.nflight; i++)
                if (b.flight[i] == at)
                    b.flight[i] = b.flight[--b.nflight];
        }
        if (at & 1)
            collect(&b);
        check(&b);
    }
    empty(&b);
    msh_resvs_free(b.t);
    return 0;
}

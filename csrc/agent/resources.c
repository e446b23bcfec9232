#include "agent/resources.h"
#include "agent/controllers.h"
#include "agent/json.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PERIOD_DEFAULT 100000
#define WRITES_MAX     12

/* ---- reading ---- */

static msh_bound one(msh_reader *r, const char *key, int64_t max)
{
    msh_bound l = {.set = msh_json_get(r->object, key) != NULL};
    l.value = msh_read_signed(r, key, -1, max);
    return l;
}

static bool cpu_list(const char *text)
{
    return strspn(text, "0123456789,-") == strlen(text) && strlen(text) < 256;
}

static msh_code check(const msh_resources *l, msh_err *err)
{
    if (l->memory.set && l->swap.set && l->swap.value > 0 && l->memory.value > l->swap.value)
        return msh_fail(err, MSH_INVALID_ARGUMENT,
                        "memory.swap %" PRId64
                        " counts memory and swap together, so it cannot be below memory.limit "
                        "%" PRId64,
                        l->swap.value, l->memory.value);
    if (l->memory.set && l->memory.value < 0 && l->swap.set && l->swap.value > 0)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "memory.swap %" PRId64 " limits a memory without limit",
                        l->swap.value);
    if (l->period.set && l->period.value != 0 && (l->period.value < 1000 || l->period.value > 1000000))
        return msh_fail(err, MSH_INVALID_ARGUMENT, "cpu.period %" PRId64 " is not between 1000 and 1000000",
                        l->period.value);
    if (l->quota.set && l->quota.value > 0 && l->quota.value < 1000)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "cpu.quota %" PRId64 " is below 1000", l->quota.value);
    if (!cpu_list(l->cpus) || !cpu_list(l->mems))
        return msh_fail(err, MSH_INVALID_ARGUMENT, "cpu.%s is not a list like 0-2,4",
                        cpu_list(l->cpus) ? "mems" : "cpus");
    return MSH_OK;
}

msh_code msh_resources_read(const json_t *resources, msh_resources *out, msh_err *err)
{
    msh_reader r = msh_read(resources);
    msh_reader memory = msh_read(msh_read_object(&r, "memory"));
    msh_reader cpu = msh_read(msh_read_object(&r, "cpu"));
    msh_reader pids = msh_read(msh_read_object(&r, "pids"));
    msh_resources l = {0};
    l.memory = one(&memory, "limit", INT64_MAX);
    l.swap = one(&memory, "swap", INT64_MAX);
    l.reservation = one(&memory, "reservation", INT64_MAX);
    l.shares = one(&cpu, "shares", INT64_MAX);
    l.quota = one(&cpu, "quota", INT64_MAX);
    l.period = one(&cpu, "period", INT64_MAX);
    l.pids = one(&pids, "limit", INT64_MAX);
    snprintf(l.cpus, sizeof l.cpus, "%s", msh_read_text(&cpu, "cpus"));
    snprintf(l.mems, sizeof l.mems, "%s", msh_read_text(&cpu, "mems"));
    if (r.bad != NULL || memory.bad != NULL || cpu.bad != NULL || pids.bad != NULL)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "resources: %s%s has a wrong type or value",
                        r.bad != NULL        ? ""
                        : memory.bad != NULL ? "memory."
                        : cpu.bad != NULL    ? "cpu."
                                             : "pids.",
                        r.bad != NULL        ? r.bad
                        : memory.bad != NULL ? memory.bad
                        : cpu.bad != NULL    ? cpu.bad
                                             : pids.bad);
    /* Hosts write 0 for what nobody set. */
    l.memory.set = l.memory.set && l.memory.value != 0;
    l.swap.set = l.swap.set && l.swap.value != 0;
    l.reservation.set = l.reservation.set && l.reservation.value != 0;
    l.shares.set = l.shares.set && l.shares.value > 0;
    l.quota.set = l.quota.set && l.quota.value != 0;
    l.period.set = l.period.set && l.period.value > 0;
    if (l.pids.set && l.pids.value == 0)
        l.pids.value = -1;
    msh_code rc = check(&l, err);
    if (rc != MSH_OK) {
        msh_err_note(err, "resources");
        return rc;
    }
    *out = l;
    return MSH_OK;
}

void msh_resources_tidy(json_t *resources)
{
    static const char *const fields[][2] = {
        {"memory", "limit"}, {"memory", "swap"}, {"memory", "reservation"}, {"cpu", "quota"},
        {"cpu", "shares"},   {"cpu", "period"},  {"pids", "limit"}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        json_t *group = msh_json_get(resources, fields[i][0]);
        json_t *v = msh_json_get(group, fields[i][1]);
        if (json_is_integer(v) && json_integer_value(v) <= 0)
            json_object_del(group, fields[i][1]);
    }
    if (json_object_size(msh_json_get(resources, "pids")) == 0)
        json_object_del(resources, "pids"); /* without its limit it is not a legal object */
}

const char *msh_resources_beyond(const json_t *resources)
{
    static const char *const known[] = {"memory", "cpu", "pids", "devices"};
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)resources, key, v)
    {
        bool ok = json_is_null(v) || (json_is_object(v) && json_object_size(v) == 0) ||
                  (json_is_array(v) && json_array_size(v) == 0);
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            ok = ok || strcmp(key, known[i]) == 0;
        if (!ok)
            return key;
    }
    return NULL;
}

/* ---- applying ---- */

typedef struct entry {
    const char *controller, *file;
    char text[300];
    char before[300];
    int64_t expect; /* -1: no limit, -2: text compares itself or not at all */
    int64_t grain;  /* the kernel rounds down to a multiple */
} entry;

typedef struct change {
    const msh_cg *cg;
    entry list[WRITES_MAX];
    size_t n;
} change;

static void add(change *c, const char *controller, const char *file, int64_t value, int64_t grain)
{
    entry *e = &c->list[c->n++];
    *e = (entry){.controller = controller, .file = file, .expect = value, .grain = grain};
    if (value < 0)
        snprintf(e->text, sizeof e->text, "%s", c->cg->v2 || strcmp(file, "pids.max") == 0 ? "max" : "-1");
    else
        snprintf(e->text, sizeof e->text, "%" PRId64, value);
}

static void add_text(change *c, const char *controller, const char *file, const char *text)
{
    entry *e = &c->list[c->n++];
    *e = (entry){.controller = controller, .file = file, .expect = -2};
    snprintf(e->text, sizeof e->text, "%s", text);
}

static bool agrees(const change *c, const entry *e)
{
    uint64_t v;
    if (e->expect == -2)
        return true;
    if (!msh_cg_number(c->cg, e->controller, e->file, &v)) {
        char text[64]; /* cpu.cfs_quota_us says -1 */
        return e->expect == -1 && msh_cg_read(c->cg, e->controller, e->file, text, sizeof text) &&
               strcmp(text, "-1") == 0;
    }
    if (e->expect == -1)
        return v == MSH_CG_UNLIMITED;
    return v == (uint64_t)(e->expect - e->expect % e->grain);
}

static void go_back(const change *c, size_t done)
{
    while (done-- > 0)
        msh_cg_write(c->cg, c->list[done].controller, c->list[done].file, c->list[done].before);
}

static msh_code carry_out(change *c, msh_err *err)
{
    for (size_t i = 0; i < c->n; i++) {
        entry *e = &c->list[i];
        if (!msh_cg_read(c->cg, e->controller, e->file, e->before, sizeof e->before))
            return msh_fail(err, MSH_FAILED_PRECONDITION, "%s: this UVM has no such control", e->file);
    }
    for (size_t i = 0; i < c->n; i++) {
        const entry *e = &c->list[i];
        uint64_t in_use = 0;
        if (msh_cg_write(c->cg, e->controller, e->file, e->text) != 0) {
            int saved = errno;
            go_back(c, i);
            if (saved == EBUSY && strcmp(e->controller, "memory") == 0 &&
                msh_cg_number(c->cg, "memory", c->cg->v2 ? "memory.current" : "memory.usage_in_bytes",
                              &in_use))
                return msh_fail(err, MSH_FAILED_PRECONDITION,
                                "%s: %s is below the %" PRIu64 " bytes that are in use", e->file, e->text,
                                in_use);
            return saved == EINVAL || saved == ERANGE
                       ? msh_fail(err, MSH_INVALID_ARGUMENT, "%s: the kernel refuses %s", e->file, e->text)
                       : msh_fail_errno(err, saved, "write %s to %s", e->text, e->file);
        }
        if (!agrees(c, e)) {
            go_back(c, i + 1);
            return msh_fail(err, MSH_FAILED_PRECONDITION, "%s: %s was written and did not stay", e->file,
                            e->text);
        }
    }
    return MSH_OK;
}

/* The two limits of v1 must stay in order at every moment: memory never above memory plus swap. */
static msh_code memory_v1(const msh_resources *l, change *c, msh_err *err)
{
    const int64_t page = sysconf(_SC_PAGESIZE);
    static const char limit[] = "memory.limit_in_bytes", both[] = "memory.memsw.limit_in_bytes";
    uint64_t now = 0, memory_now = 0;
    bool counts = msh_cg_number(c->cg, "memory", both, &now);
    msh_cg_number(c->cg, "memory", limit, &memory_now);
    bool swap = l->swap.set;
    if (swap && !counts) {
        if (l->swap.value >= 0)
            return msh_fail(err, MSH_FAILED_PRECONDITION,
                            "memory.swap: the kernel of this UVM does not count swap");
        swap = false; /* it cannot be limited, and it shall not be */
    }
    if (l->memory.set && !swap && counts &&
        (l->memory.value < 0 ? now != MSH_CG_UNLIMITED : (uint64_t)l->memory.value > now))
        return msh_fail(err, MSH_INVALID_ARGUMENT,
                        "memory.limit would be above memory.swap, which is %" PRIu64 " now: set both", now);
    if (swap && !l->memory.set && l->swap.value >= 0 && (uint64_t)l->swap.value < memory_now)
        return msh_fail(err, MSH_INVALID_ARGUMENT,
                        "memory.swap would be below memory.limit, which is %" PRIu64 " now: set both",
                        memory_now);
    bool up = swap && (l->swap.value < 0 || (uint64_t)l->swap.value > now);
    if (up)
        add(c, "memory", both, l->swap.value, page);
    if (l->memory.set)
        add(c, "memory", limit, l->memory.value, page);
    if (swap && !up)
        add(c, "memory", both, l->swap.value, page);
    if (l->reservation.set)
        add(c, "memory", "memory.soft_limit_in_bytes", l->reservation.value, page);
    return MSH_OK;
}

/* v2 kills to get below a new limit, v1 refuses. We refuse, unless the page cache alone makes the difference. */
static msh_code fits(const msh_cg *cg, int64_t limit, msh_err *err)
{
    char text[8192];
    uint64_t now, file = 0;
    if (limit < 0 || !msh_cg_number(cg, "memory", "memory.current", &now))
        return MSH_OK;
    if (msh_cg_read(cg, "memory", "memory.stat", text, sizeof text))
        msh_cg_key(text, "file", &file);
    now = file > now ? 0 : now - file;
    if (now > (uint64_t)limit)
        return msh_fail(err, MSH_FAILED_PRECONDITION,
                        "memory.max: %" PRId64 " is below the %" PRIu64 " bytes that are in use", limit, now);
    return MSH_OK;
}

static msh_code memory_v2(const msh_resources *l, change *c, msh_err *err)
{
    const int64_t page = sysconf(_SC_PAGESIZE);
    int64_t memory = l->memory.value;
    uint64_t now = MSH_CG_UNLIMITED;
    if (l->memory.set) {
        msh_code rc = fits(c->cg, l->memory.value, err);
        if (rc != MSH_OK)
            return rc;
        add(c, "memory", "memory.max", l->memory.value, page);
    } else if (l->swap.set && l->swap.value >= 0) {
        msh_cg_number(c->cg, "memory", "memory.max", &now);
        if (now == MSH_CG_UNLIMITED)
            return msh_fail(err, MSH_INVALID_ARGUMENT, "memory.swap limits a memory without limit: set both");
        if ((uint64_t)l->swap.value < now)
            return msh_fail(err, MSH_INVALID_ARGUMENT,
                            "memory.swap would be below memory.limit, which is %" PRIu64 " now: set both",
                            now);
        memory = (int64_t)now;
    }
    if (l->swap.set) /* here swap counts alone */
        add(c, "memory", "memory.swap.max", l->swap.value < 0 ? -1 : l->swap.value - memory, page);
    if (l->reservation.set)
        add(c, "memory", "memory.low", l->reservation.value < 0 ? 0 : l->reservation.value, page);
    return MSH_OK;
}

static int64_t clamp(int64_t v, int64_t least, int64_t most)
{
    return v < least ? least : v > most ? most : v;
}

/* A ratio above that of the parent is refused, so of period and quota the one that makes it smaller goes first. */
static void cpu_v1(const msh_resources *l, change *c)
{
    uint64_t period = PERIOD_DEFAULT;
    msh_cg_number(c->cg, "cpu", "cpu.cfs_period_us", &period);
    if (l->shares.set)
        add(c, "cpu", "cpu.shares", clamp(l->shares.value, 2, 262144), 1);
    bool later = l->period.set && (uint64_t)l->period.value < period;
    if (l->period.set && !later)
        add(c, "cpu", "cpu.cfs_period_us", l->period.value, 1);
    if (l->quota.set)
        add(c, "cpu", "cpu.cfs_quota_us", l->quota.value, 1);
    if (later)
        add(c, "cpu", "cpu.cfs_period_us", l->period.value, 1);
}

static void cpu_v2(const msh_resources *l, change *c)
{
    char now[64], text[64], quota[32] = "max";
    long long period = PERIOD_DEFAULT;
    if (l->shares.set)
        add(c, "cpu", "cpu.weight", 1 + (clamp(l->shares.value, 2, 262144) - 2) * 9999 / 262142, 1);
    if (!l->quota.set && !l->period.set)
        return;
    if (msh_cg_read(c->cg, "cpu", "cpu.max", now, sizeof now))
        sscanf(now, "%31s %lld", quota, &period);
    if (l->period.set)
        period = l->period.value;
    if (l->quota.set && l->quota.value < 0)
        snprintf(quota, sizeof quota, "max");
    else if (l->quota.set)
        snprintf(quota, sizeof quota, "%" PRId64, l->quota.value);
    snprintf(text, sizeof text, "%s %lld", quota, period);
    add_text(c, "cpu", "cpu.max", text);
}

msh_code msh_resources_apply(const msh_resources *l, const msh_cg *cg, msh_err *err)
{
    change c = {.cg = cg};
    msh_code rc = cg->v2 ? memory_v2(l, &c, err) : memory_v1(l, &c, err);
    if (rc != MSH_OK)
        return rc;
    if (cg->v2)
        cpu_v2(l, &c);
    else
        cpu_v1(l, &c);
    if (l->cpus[0] != '\0')
        add_text(&c, "cpuset", "cpuset.cpus", l->cpus);
    if (l->mems[0] != '\0')
        add_text(&c, "cpuset", "cpuset.mems", l->mems);
    if (l->pids.set)
        add(&c, "pids", "pids.max", l->pids.value, 1);
    return carry_out(&c, err);
}

msh_code msh_resources_possible(const json_t *resources, const msh_cg *top, msh_err *err)
{
    msh_resources l;
    msh_code rc = msh_resources_read(resources, &l, err);
    if (rc != MSH_OK)
        return rc;
    const struct {
        bool set;
        const char *name, *controller;
    } wanted[] = {{l.memory.set && l.memory.value >= 0, "memory.limit", "memory"},
                  {l.swap.set && l.swap.value >= 0, "memory.swap", "memory"},
                  {l.reservation.set && l.reservation.value >= 0, "memory.reservation", "memory"},
                  {l.shares.set, "cpu.shares", "cpu"},
                  {l.quota.set && l.quota.value >= 0, "cpu.quota", "cpu"},
                  {l.cpus[0] != '\0', "cpu.cpus", "cpuset"},
                  {l.mems[0] != '\0', "cpu.mems", "cpuset"},
                  {l.pids.set && l.pids.value >= 0, "pids.limit", "pids"}};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        char path[MSH_CG_PATH];
        const char *controller = wanted[i].controller;
        if (wanted[i].set && !(top->v2 ? msh_controllers_has(top->root, controller)
                                       : access(msh_cg_path(top, controller, "", path), F_OK) == 0))
            return msh_fail(err, MSH_FAILED_PRECONDITION,
                            "resources: %s cannot be set: the host gives this VM no cgroup controller \"%s\"",
                            wanted[i].name, controller);
    }
    return MSH_OK;
}

msh_code msh_resources_limit(const json_t *resources, const char *path, msh_err *err)
{
    msh_resources l;
    msh_cg cg = msh_cg_inner(path);
    msh_code rc = msh_resources_read(resources, &l, err);
    return rc != MSH_OK ? rc : msh_resources_apply(&l, &cg, err);
}

#include "agent/limits.h"
#include "agent/fs.h"
#include "agent/json.h"
#include <errno.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>

#define CGROUP_ROOT    "/sys/fs/cgroup"
#define DEFAULT_PERIOD 100000

static void put(msh_limits *l, bool v2, const char *tree, const char *file, const char *file2,
                const char *text)
{
    if (l->n == MSH_LIMITS_MAX)
        return; /* there are not that many kinds */
    msh_limit *x = &l->item[l->n++];
    *x = (msh_limit){.tree = v2 ? "" : tree, .file = v2 ? file2 : file};
    snprintf(x->text, sizeof x->text, "%s", text);
}

static void number(char *out, size_t size, int64_t n, bool v2)
{
    if (n < 0)
        snprintf(out, size, "%s", v2 ? "max" : "-1");
    else
        snprintf(out, size, "%" PRId64, n);
}

static void plan_cpu(msh_reader *cpu, bool v2, msh_limits *l)
{
    char text[64], quota_text[32];
    int64_t shares = msh_read_signed(cpu, "shares", 0, 262144),
            quota = msh_read_signed(cpu, "quota", -1, INT64_MAX);
    int64_t period = msh_read_signed(cpu, "period", 0, 1000000);
    const char *cpus = msh_read_text(cpu, "cpus"), *mems = msh_read_text(cpu, "mems");
    if (shares > 0) {
        int64_t s = shares < 2 ? 2 : shares;
        number(text, sizeof text, v2 ? 1 + (s - 2) * 9999 / 262142 : s, v2);
        put(l, v2, "cpu", "cpu.shares", "cpu.weight", text);
    }
    if (v2 && (quota != 0 || period != 0)) {
        number(quota_text, sizeof quota_text, quota == 0 ? -1 : quota, true);
        snprintf(text, sizeof text, "%s %" PRId64, quota_text, period == 0 ? DEFAULT_PERIOD : period);
        put(l, v2, "cpu", "", "cpu.max", text);
    } else if (!v2) { /* the period first: a quota is checked against it */
        number(text, sizeof text, period, v2);
        if (period > 0)
            put(l, v2, "cpu", "cpu.cfs_period_us", "", text);
        number(text, sizeof text, quota, v2);
        if (quota != 0)
            put(l, v2, "cpu", "cpu.cfs_quota_us", "", text);
    }
    if (cpus[0] != '\0' && strlen(cpus) < sizeof l->item[0].text)
        put(l, v2, "cpuset", "cpuset.cpus", "cpuset.cpus", cpus);
    if (mems[0] != '\0' && strlen(mems) < sizeof l->item[0].text)
        put(l, v2, "cpuset", "cpuset.mems", "cpuset.mems", mems);
}

msh_code msh_limits_plan(const json_t *resources, bool v2, msh_limits *out, msh_err *err)
{
    msh_limits l = {0};
    char text[64];
    msh_reader r = msh_read(resources);
    msh_reader memory = msh_read(msh_read_object(&r, "memory")), cpu = msh_read(msh_read_object(&r, "cpu"));
    msh_reader pids = msh_read(msh_read_object(&r, "pids"));
    int64_t limit = msh_read_signed(&memory, "limit", -1, INT64_MAX);
    if (limit != 0) {
        number(text, sizeof text, limit, v2);
        put(&l, v2, "memory", "memory.limit_in_bytes", "memory.max", text);
    }
    plan_cpu(&cpu, v2, &l);
    int64_t most = msh_read_signed(&pids, "limit", -1, INT64_MAX);
    if (most != 0) {
        number(text, sizeof text, most, true);
        put(&l, v2, "pids", "pids.max", "pids.max", text);
    }
    const char *bad = r.bad != NULL        ? r.bad
                      : memory.bad != NULL ? memory.bad
                      : cpu.bad != NULL    ? cpu.bad
                                           : pids.bad;
    if (bad != NULL)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "linux.resources: %s has a wrong type or value", bad);
    *out = l;
    return MSH_OK;
}

msh_code msh_limits_apply(const json_t *resources, const char *path, msh_err *err)
{
    struct statfs fs;
    msh_limits l = {0};
    bool v2 = statfs(CGROUP_ROOT, &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC;
    msh_code rc = msh_limits_plan(resources, v2, &l, err);
    for (size_t i = 0; rc == MSH_OK && i < l.n; i++) {
        char file[768];
        snprintf(file, sizeof file, "%s/%s%s/%s", CGROUP_ROOT, l.item[i].tree, path, l.item[i].file);
        if (msh_fs_poke(file, l.item[i].text) != 0)
            rc = msh_fail_errno(err, errno, "set %s of the pod to %s", l.item[i].file, l.item[i].text);
    }
    return rc;
}

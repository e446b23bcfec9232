#include "agent/stats.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* JSON numbers are signed here; "no limit" is the largest number that a v1 host expects for it. */
static json_t *big(uint64_t v)
{
    return json_integer(v > INT64_MAX ? INT64_MAX : (json_int_t)v);
}

static void put(json_t *o, const char *key, bool known, uint64_t v)
{
    if (known)
        json_object_set_new(o, key, big(v));
}

static void put_file(json_t *o, const char *key, const msh_cg *cg, const char *controller, const char *file)
{
    uint64_t v = 0;
    bool known = msh_cg_number(cg, controller, file, &v);
    put(o, key, known, v);
}

static void put_key(json_t *o, const char *key, const char *text, const char *name, uint64_t factor)
{
    uint64_t v = 0;
    bool known = msh_cg_key(text, name, &v);
    put(o, key, known, v > UINT64_MAX / factor ? v : v * factor);
}

/* Takes `part`; an empty one is left out. */
static void attach(json_t *o, const char *key, json_t *part)
{
    if (json_object_size(part) > 0)
        json_object_set(o, key, part);
    json_decref(part);
}

static json_t *pids(const msh_cg *cg)
{
    json_t *o = json_object();
    uint64_t limit = 0;
    put_file(o, "current", cg, "pids", "pids.current");
    /* Here 0 is what hosts read as "no limit". */
    if (msh_cg_number(cg, "pids", "pids.max", &limit))
        put(o, "limit", true, limit == MSH_CG_UNLIMITED ? 0 : limit);
    return o;
}

/* ---- v1 ---- */

static json_t *numbers(const char *text)
{
    json_t *list = json_array();
    for (const char *p = text; *p >= '0' && *p <= '9';) {
        char *end;
        json_array_append_new(list, big(strtoull(p, &end, 10)));
        p = end + strspn(end, " ");
    }
    return list;
}

static json_t *cpu_v1(const msh_cg *cg, char *text)
{
    json_t *o = json_object(), *usage = json_object(), *throttling = json_object();
    const long ticks = sysconf(_SC_CLK_TCK);
    put_file(usage, "total", cg, "cpuacct", "cpuacct.usage");
    uint64_t v = 0, w = 0;
    if (msh_cg_number(cg, "cpuacct", "cpuacct.usage_sys", &v) &&
        msh_cg_number(cg, "cpuacct", "cpuacct.usage_user", &w)) {
        put(usage, "kernel", true, v);
        put(usage, "user", true, w);
    } else if (ticks > 0 && msh_cg_read(cg, "cpuacct", "cpuacct.stat", text, MSH_CG_TEXT)) {
        put_key(usage, "kernel", text, "system", UINT64_C(1000000000) / (uint64_t)ticks);
        put_key(usage, "user", text, "user", UINT64_C(1000000000) / (uint64_t)ticks);
    }
    if (msh_cg_read(cg, "cpuacct", "cpuacct.usage_percpu", text, MSH_CG_TEXT)) {
        json_t *list = numbers(text);
        if (json_array_size(list) > 0)
            json_object_set(usage, "per_cpu", list);
        json_decref(list);
    }
    if (msh_cg_read(cg, "cpu", "cpu.stat", text, MSH_CG_TEXT)) {
        put_key(throttling, "periods", text, "nr_periods", 1);
        put_key(throttling, "throttled_periods", text, "nr_throttled", 1);
        put_key(throttling, "throttled_time", text, "throttled_time", 1);
    }
    attach(o, "usage", usage);
    attach(o, "throttling", throttling);
    return o;
}

static json_t *counter_v1(const msh_cg *cg, const char *prefix)
{
    static const char *const parts[][2] = {{"usage", "usage_in_bytes"},
                                           {"limit", "limit_in_bytes"},
                                           {"max", "max_usage_in_bytes"},
                                           {"failcnt", "failcnt"}};
    json_t *o = json_object();
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char file[64];
        snprintf(file, sizeof file, "memory.%s%s", prefix, parts[i][1]);
        put_file(o, parts[i][0], cg, "memory", file);
    }
    return o;
}

static json_t *memory_v1(const msh_cg *cg, char *text)
{
    static const char *const both[][2] = {{"cache", "cache"},
                                          {"rss", "rss"},
                                          {"rss_huge", "rss_huge"},
                                          {"mapped_file", "mapped_file"},
                                          {"dirty", "dirty"},
                                          {"writeback", "writeback"},
                                          {"pg_pg_in", "pgpgin"},
                                          {"pg_pg_out", "pgpgout"},
                                          {"pg_fault", "pgfault"},
                                          {"pg_maj_fault", "pgmajfault"},
                                          {"inactive_anon", "inactive_anon"},
                                          {"active_anon", "active_anon"},
                                          {"inactive_file", "inactive_file"},
                                          {"active_file", "active_file"},
                                          {"unevictable", "unevictable"}};
    json_t *o = json_object();
    if (msh_cg_read(cg, "memory", "memory.stat", text, MSH_CG_TEXT)) {
        for (size_t i = 0; i < sizeof both / sizeof *both; i++) {
            char key[40], name[40];
            put_key(o, both[i][0], text, both[i][1], 1);
            snprintf(key, sizeof key, "total_%s", both[i][0]);
            snprintf(name, sizeof name, "total_%s", both[i][1]);
            put_key(o, key, text, name, 1);
        }
        put_key(o, "hierarchical_memory_limit", text, "hierarchical_memory_limit", 1);
        put_key(o, "hierarchical_swap_limit", text, "hierarchical_memsw_limit", 1);
    }
    attach(o, "usage", counter_v1(cg, ""));
    attach(o, "swap", counter_v1(cg, "memsw."));
    attach(o, "kernel", counter_v1(cg, "kmem."));
    attach(o, "kernel_tcp", counter_v1(cg, "kmem.tcp."));
    return o;
}

static json_t *oom_v1(const msh_cg *cg, char *text)
{
    json_t *o = json_object();
    if (msh_cg_read(cg, "memory", "memory.oom_control", text, MSH_CG_TEXT)) {
        put_key(o, "oom_kill_disable", text, "oom_kill_disable", 1);
        put_key(o, "under_oom", text, "under_oom", 1);
        put_key(o, "oom_kill", text, "oom_kill", 1);
    }
    return o;
}

/* ---- v2 ---- */

static json_t *cpu_v2(const msh_cg *cg, char *text)
{
    json_t *o = json_object(), *usage = json_object(), *throttling = json_object();
    if (msh_cg_read(cg, "cpu", "cpu.stat", text, MSH_CG_TEXT)) {
        put_key(usage, "total", text, "usage_usec", 1000);
        put_key(usage, "kernel", text, "system_usec", 1000);
        put_key(usage, "user", text, "user_usec", 1000);
        put_key(throttling, "periods", text, "nr_periods", 1);
        put_key(throttling, "throttled_periods", text, "nr_throttled", 1);
        put_key(throttling, "throttled_time", text, "throttled_usec", 1000);
    }
    attach(o, "usage", usage);
    attach(o, "throttling", throttling);
    return o;
}

static json_t *memory_v2(const msh_cg *cg, char *text)
{
    static const char *const fields[][2] = {{"rss", "anon"},
                                            {"cache", "file"},
                                            {"mapped_file", "file_mapped"},
                                            {"dirty", "file_dirty"},
                                            {"writeback", "file_writeback"},
                                            {"pg_fault", "pgfault"},
                                            {"pg_maj_fault", "pgmajfault"},
                                            {"inactive_anon", "inactive_anon"},
                                            {"active_anon", "active_anon"},
                                            {"inactive_file", "inactive_file"},
                                            {"active_file", "active_file"},
                                            {"unevictable", "unevictable"}};
    json_t *o = json_object(), *usage = json_object(), *swap = json_object(), *kernel = json_object(),
           *tcp = json_object();
    if (msh_cg_read(cg, "memory", "memory.stat", text, MSH_CG_TEXT)) {
        for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
            put_key(o, fields[i][0], text, fields[i][1], 1);
        put_key(kernel, "usage", text, "kernel_stack", 1);
        put_key(tcp, "usage", text, "sock", 1);
    }
    put_file(usage, "usage", cg, "memory", "memory.current");
    put_file(usage, "limit", cg, "memory", "memory.max");
    put_file(usage, "max", cg, "memory", "memory.peak");
    put_file(swap, "usage", cg, "memory", "memory.swap.current");
    put_file(swap, "limit", cg, "memory", "memory.swap.max");
    put_file(swap, "max", cg, "memory", "memory.swap.peak");
    put_file(o, "hierarchical_memory_limit", cg, "memory", "memory.max");
    put_file(o, "hierarchical_swap_limit", cg, "memory", "memory.swap.max");
    attach(o, "usage", usage);
    attach(o, "swap", swap);
    attach(o, "kernel", kernel);
    attach(o, "kernel_tcp", tcp);
    return o;
}

static json_t *oom_v2(const msh_cg *cg, char *text)
{
    json_t *o = json_object();
    if (msh_cg_read(cg, "memory", "memory.events", text, MSH_CG_TEXT))
        put_key(o, "oom_kill", text, "oom_kill", 1);
    return o;
}

/* ---- huge pages: one set of files per page size, named after it ---- */

static json_t *hugetlb(const msh_cg *cg)
{
    char path[MSH_CG_PATH], file[80];
    const char *tail = cg->v2 ? ".current" : ".usage_in_bytes";
    json_t *list = json_array();
    msh_cg_path(cg, "hugetlb", "", path);
    DIR *d = opendir(path);
    if (d == NULL)
        return list;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        char size[32];
        size_t n = strlen(e->d_name), m = strlen(tail);
        if (strncmp(e->d_name, "hugetlb.", 8) != 0 || n <= 8 + m || n - 8 - m >= sizeof size ||
            strcmp(e->d_name + n - m, tail) != 0)
            continue;
        memcpy(size, e->d_name + 8, n - 8 - m);
        size[n - 8 - m] = '\0';
        if (strchr(size, '.') != NULL) /* "2MB.rsvd" */
            continue;
        json_t *o = json_object();
        put_file(o, "usage", cg, "hugetlb", e->d_name);
        snprintf(file, sizeof file, "hugetlb.%s.%s", size, cg->v2 ? "max" : "max_usage_in_bytes");
        put_file(o, "max", cg, "hugetlb", file);
        snprintf(file, sizeof file, "hugetlb.%s.failcnt", size);
        put_file(o, "failcnt", cg, "hugetlb", file);
        json_object_set_new(o, "pagesize", json_string(size));
        json_array_append_new(list, o);
    }
    closedir(d);
    return list;
}

json_t *msh_stats(const msh_cg *cg)
{
    json_t *o = json_object();
    char *text = malloc(MSH_CG_TEXT);
    if (text == NULL)
        return o;
    json_t *huge = hugetlb(cg);
    if (json_array_size(huge) > 0)
        json_object_set(o, "hugetlb", huge);
    json_decref(huge);
    attach(o, "pids", pids(cg));
    attach(o, "cpu", cg->v2 ? cpu_v2(cg, text) : cpu_v1(cg, text));
    attach(o, "memory", cg->v2 ? memory_v2(cg, text) : memory_v1(cg, text));
    attach(o, "memory_oom_control", cg->v2 ? oom_v2(cg, text) : oom_v1(cg, text));
    free(text);
    return o;
}

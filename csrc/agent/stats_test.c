#include "agent/cgroup_fixture.h"
#include "agent/stats.h"

static long long at(const json_t *o, const char *path)
{
    char names[128], *save = NULL;
    snprintf(names, sizeof names, "%s", path);
    for (char *s = strtok_r(names, ".", &save); s != NULL; s = strtok_r(NULL, ".", &save))
        o = json_object_get(o, s);
    return json_is_integer(o) ? json_integer_value(o) : -1;
}

static void v1_files_become_metrics(void **state)
{
    (void)state;
    tree t = new_tree(false, "pods/c");
    given(&t, "pids", "pids.current", "5");
    given(&t, "pids", "pids.max", "100");
    given(&t, "cpuacct", "cpuacct.usage", "3000000000");
    given(&t, "cpuacct", "cpuacct.usage_sys", "1000000000");
    given(&t, "cpuacct", "cpuacct.usage_user", "2000000000");
    given(&t, "cpuacct", "cpuacct.usage_percpu", "1400000000 1600000000 ");
    given(&t, "cpu", "cpu.stat", "nr_periods 10\nnr_throttled 3\nthrottled_time 777");
    given(&t, "memory", "memory.stat",
          "cache 10\nrss 20\npgpgin 3\npgfault 4\nhierarchical_memory_limit "
          "67108864\nhierarchical_memsw_limit 134217728\n"
          "total_cache 11\ntotal_rss 22\ntotal_inactive_file 7");
    given(&t, "memory", "memory.usage_in_bytes", "4096");
    given(&t, "memory", "memory.limit_in_bytes", "67108864");
    given(&t, "memory", "memory.max_usage_in_bytes", "8192");
    given(&t, "memory", "memory.failcnt", "2");
    given(&t, "memory", "memory.memsw.limit_in_bytes", "9223372036854771712");
    given(&t, "memory", "memory.kmem.usage_in_bytes", "512");
    given(&t, "memory", "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1");
    given(&t, "hugetlb", "hugetlb.2MB.usage_in_bytes", "2097152");
    given(&t, "hugetlb", "hugetlb.2MB.max_usage_in_bytes", "4194304");
    given(&t, "hugetlb", "hugetlb.2MB.failcnt", "0");
    given(&t, "hugetlb", "hugetlb.2MB.rsvd.usage_in_bytes", "0");
    json_t *o = msh_stats(&t.cg);
    assert_int_equal(at(o, "pids.current"), 5);
    assert_int_equal(at(o, "pids.limit"), 100);
    assert_int_equal(at(o, "cpu.usage.total"), 3000000000);
    assert_int_equal(at(o, "cpu.usage.kernel"), 1000000000);
    assert_int_equal(at(o, "cpu.usage.user"), 2000000000);
    assert_int_equal(
        json_array_size(json_object_get(json_object_get(json_object_get(o, "cpu"), "usage"), "per_cpu")), 2);
    assert_int_equal(at(o, "cpu.throttling.throttled_periods"), 3);
    assert_int_equal(at(o, "cpu.throttling.throttled_time"), 777);
    assert_int_equal(at(o, "memory.rss"), 20);
    assert_int_equal(at(o, "memory.pg_pg_in"), 3);
    assert_int_equal(at(o, "memory.total_rss"), 22);
    assert_int_equal(at(o, "memory.total_inactive_file"), 7);
    assert_int_equal(at(o, "memory.rss_huge"), -1);
    assert_int_equal(at(o, "memory.hierarchical_memory_limit"), 67108864);
    assert_int_equal(at(o, "memory.hierarchical_swap_limit"), 134217728);
    assert_int_equal(at(o, "memory.usage.usage"), 4096);
    assert_int_equal(at(o, "memory.usage.max"), 8192);
    assert_int_equal(at(o, "memory.usage.failcnt"), 2);
    assert_true(at(o, "memory.swap.limit") == INT64_MAX);
    assert_int_equal(at(o, "memory.kernel.usage"), 512);
    assert_null(json_object_get(json_object_get(o, "memory"), "kernel_tcp"));
    assert_int_equal(at(o, "memory_oom_control.oom_kill"), 1);
    const json_t *huge = json_object_get(o, "hugetlb");
    assert_int_equal(json_array_size(huge), 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(huge, 0), "pagesize")), "2MB");
    assert_int_equal(at(json_array_get(huge, 0), "max"), 4194304);
    json_decref(o);
    free_tree(&t);
}

static void v1_without_its_fine_counters_counts_ticks(void **state)
{
    (void)state;
    tree t = new_tree(false, "c");
    char text[64];
    snprintf(text, sizeof text, "user %ld\nsystem %ld", 2 * sysconf(_SC_CLK_TCK), sysconf(_SC_CLK_TCK) / 2);
    given(&t, "cpuacct", "cpuacct.stat", text);
    json_t *o = msh_stats(&t.cg);
    assert_int_equal(at(o, "cpu.usage.user"), 2000000000);
    assert_int_equal(at(o, "cpu.usage.kernel"), 500000000);
    assert_int_equal(at(o, "cpu.usage.total"), -1);
    json_decref(o);
    free_tree(&t);
}

static void v2_files_become_the_same_metrics(void **state)
{
    (void)state;
    tree t = new_tree(true, "pods/c");
    given(&t, "", "pids.current", "2");
    given(&t, "", "pids.max", "max");
    given(&t, "", "cpu.stat",
          "usage_usec 3000000\nuser_usec 2000000\nsystem_usec 1000000\nnr_periods 10\nnr_throttled "
          "3\nthrottled_usec 777");
    given(&t, "", "memory.stat",
          "anon 20\nfile 10\nkernel_stack 16384\nsock 99\nfile_mapped 5\nfile_dirty 6\nfile_writeback "
          "7\npgfault 4\nfoo 1");
    given(&t, "", "memory.current", "4096");
    given(&t, "", "memory.max", "67108864");
    given(&t, "", "memory.peak", "8192");
    given(&t, "", "memory.swap.current", "0");
    given(&t, "", "memory.swap.max", "max");
    given(&t, "", "memory.events", "low 0\nhigh 0\nmax 4\noom 1\noom_kill 1");
    given(&t, "", "hugetlb.1GB.current", "0");
    given(&t, "", "hugetlb.1GB.max", "1073741824");
    json_t *o = msh_stats(&t.cg);
    assert_int_equal(at(o, "pids.limit"), 0);
    assert_int_equal(at(o, "cpu.usage.total"), 3000000000);
    assert_int_equal(at(o, "cpu.usage.kernel"), 1000000000);
    assert_int_equal(at(o, "cpu.throttling.throttled_time"), 777000);
    assert_null(json_object_get(json_object_get(json_object_get(o, "cpu"), "usage"), "per_cpu"));
    assert_int_equal(at(o, "memory.rss"), 20);
    assert_int_equal(at(o, "memory.cache"), 10);
    assert_int_equal(at(o, "memory.mapped_file"), 5);
    assert_int_equal(at(o, "memory.dirty"), 6);
    assert_int_equal(at(o, "memory.writeback"), 7);
    assert_int_equal(at(o, "memory.usage.limit"), 67108864);
    assert_int_equal(at(o, "memory.usage.max"), 8192);
    assert_int_equal(at(o, "memory.swap.usage"), 0);
    assert_true(at(o, "memory.swap.limit") == INT64_MAX);
    assert_int_equal(at(o, "memory.kernel.usage"), 16384);
    assert_int_equal(at(o, "memory.kernel_tcp.usage"), 99);
    assert_int_equal(at(o, "memory.hierarchical_memory_limit"), 67108864);
    assert_int_equal(at(o, "memory.total_rss"), -1);
    assert_int_equal(at(o, "memory_oom_control.oom_kill"), 1);
    assert_int_equal(at(json_array_get(json_object_get(o, "hugetlb"), 0), "max"), 1073741824);
    json_decref(o);
    free_tree(&t);
}

static void absent_controllers_give_absent_fields(void **state)
{
    (void)state;
    for (int version = 1; version <= 2; version++) {
        tree t = new_tree(version == 2, "c");
        json_t *o = msh_stats(&t.cg);
        assert_int_equal(json_object_size(o), 0);
        json_decref(o);
        given(&t, "pids", "pids.current", "1");
        o = msh_stats(&t.cg);
        assert_int_equal(json_object_size(o), 1);
        assert_int_equal(at(o, "pids.current"), 1);
        assert_int_equal(at(o, "pids.limit"), -1);
        json_decref(o);
        free_tree(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(v1_files_become_metrics),
        cmocka_unit_test(v1_without_its_fine_counters_counts_ticks),
        cmocka_unit_test(v2_files_become_the_same_metrics),
        cmocka_unit_test(absent_controllers_give_absent_fields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "agent/cgroup_fixture.h"
#include "agent/controllers.h"

/* A folder does not do what the kernel does: what was written to cgroup.subtree_control stays there as it was, and the
 * controllers of the groups below are what the test says. */

static void group(const tree *t, const char *path, const char *controllers)
{
    msh_cg cg = msh_cg_at(t->root, true, path);
    tree at = {.cg = cg};
    given(&at, "", "cgroup.controllers", controllers);
    given(&at, "", "cgroup.subtree_control", "");
}

static void was_told(const tree *t, const char *path, const char *text)
{
    tree at = {.cg = msh_cg_at(t->root, true, path)};
    holds(&at, "", "cgroup.subtree_control", text);
}

static void every_parent_hands_down_what_is_used_and_the_group_itself_nothing(void **state)
{
    (void)state;
    char missing[128];
    tree t = new_tree(true, "");
    group(&t, "", "cpuset cpu io memory hugetlb pids rdma misc");
    group(&t, "moonshim", "cpuset cpu io memory hugetlb pids");
    group(&t, "moonshim/0123", "cpuset cpu io memory hugetlb pids");
    assert_true(msh_controllers_hand_down(t.root, "/moonshim/0123", missing, sizeof missing));
    assert_string_equal(missing, "");
    was_told(&t, "", "+cpuset +cpu +io +memory +hugetlb +pids");
    was_told(&t, "moonshim", "+cpuset +cpu +io +memory +hugetlb +pids");
    was_told(&t, "moonshim/0123", "");
    free_tree(&t);
}

static void a_parent_hands_down_only_what_it_has(void **state)
{
    (void)state;
    char missing[128];
    tree t = new_tree(true, "");
    group(&t, "", "memory pids");
    group(&t, "pods", "memory pids");
    group(&t, "pods/c1", "memory pids");
    assert_true(msh_controllers_hand_down(t.root, "pods/c1", missing, sizeof missing));
    was_told(&t, "pods", "+memory +pids");
    free_tree(&t);
}

static void what_did_not_arrive_is_named(void **state)
{
    (void)state;
    char missing[128];
    tree t = new_tree(true, "");
    group(&t, "", "cpuset cpu memory pids");
    group(&t, "moonshim", "memory pids");
    group(&t, "moonshim/0123", "pids");
    assert_false(msh_controllers_hand_down(t.root, "moonshim/0123", missing, sizeof missing));
    assert_string_equal(missing, "cpuset cpu memory");
    was_told(&t, "moonshim", "+memory +pids");
    free_tree(&t);
}

static void a_controller_is_known_by_its_whole_name(void **state)
{
    (void)state;
    tree t = new_tree(true, "");
    group(&t, "", "cpuset memory");
    assert_true(msh_controllers_has(t.root, "cpuset"));
    assert_true(msh_controllers_has(t.root, "memory"));
    assert_false(msh_controllers_has(t.root, "cpu"));
    assert_false(msh_controllers_has("/nowhere", "memory"));
    free_tree(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_parent_hands_down_what_is_used_and_the_group_itself_nothing),
        cmocka_unit_test(a_parent_hands_down_only_what_it_has),
        cmocka_unit_test(what_did_not_arrive_is_named),
        cmocka_unit_test(a_controller_is_known_by_its_whole_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

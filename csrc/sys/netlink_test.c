/* Each test has a network namespace of its own, in which links can be made; without the right to that, they are skipped. */
#include "sys/fd.h"
#include "sys/linux/netlink_socket.h"
#include "sys/sys_fixture.h"
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const msh_mac mac_a = {{2, 0, 0, 0, 0, 0xa}}, mac_b = {{2, 0, 0, 0, 0, 0xb}},
                     mac_br = {{2, 0, 0, 0, 0, 0xff}};

typedef struct place {
    int home, there; /* namespaces: the test's before, and the other end's */
    msh_netlink *nl;
} place;

static int set_up(void **state)
{
    place *p = calloc(1, sizeof *p);
    p->home = p->there = -1;
    *state = p;
    msh_err err;
    if (geteuid() != 0 || msh_netns_open("/proc/thread-self/ns/net", &p->home, &err) != MSH_OK ||
        unshare(CLONE_NEWNET) != 0 || msh_netns_open("/proc/thread-self/ns/net", &p->there, &err) != MSH_OK ||
        unshare(CLONE_NEWNET) != 0)
        return 0; /* skipped */
    return msh_netlink_open(-1, &p->nl, &err) == MSH_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    place *p = *state;
    msh_netlink_close(p->nl);
    if (p->home >= 0)
        setns(p->home, CLONE_NEWNET);
    msh_fd_close(&p->home);
    msh_fd_close(&p->there);
    free(p);
    return 0;
}

static msh_netlink *here(void **state)
{
    place *p = *state;
    if (p->nl == NULL)
        skip();
    return p->nl;
}

static unsigned index_of(msh_netlink *nl, const char *name)
{
    msh_link l = {0};
    return msh_netlink_by_name(nl, name, &l, NULL) == MSH_OK ? l.index : 0;
}

static msh_ip ip(const char *text)
{
    msh_ip out = {0};
    assert_int_equal(msh_ip_parse(text, &out, NULL), MSH_OK);
    return out;
}

static void addresses_are_read_and_written(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int family;
        unsigned prefix;
    } good[] = {{"10.1.2.3", 4, 32},
                {"10.1.0.0/16", 4, 16},
                {"0.0.0.0/0", 4, 0},
                {"fd00::1/64", 6, 64},
                {"::", 6, 128}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        msh_ip a = ip(good[i].text);
        char text[64];
        assert_int_equal(a.family, good[i].family);
        assert_int_equal(a.prefix, good[i].prefix);
        assert_memory_equal(msh_ip_text(&a, text), good[i].text, strcspn(good[i].text, "/"));
    }
    static const char *const bad[] = {"",       "10.1.2", "10.1.2.3/33",  "10.1.2.3/", "10.1.2.3/1x",
                                      "::/129", "host",   "10.1.2.3/0016"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        msh_ip a;
        assert_int_equal(msh_ip_parse(bad[i], &a, NULL), MSH_INVALID_ARGUMENT);
    }
    msh_mac m;
    char text[18];
    assert_int_equal(msh_mac_parse("02-AB-00-00-00-01", &m, NULL), MSH_OK);
    assert_string_equal(msh_mac_text(&m, text), "02:ab:00:00:00:01");
    static const char *const bad_mac[] = {"", "02:ab:00:00:00", "02:ab-00:00:00:01", "02:ab:00:00:00:0g",
                                          "02:ab:00:00:00:011"};
    for (size_t i = 0; i < sizeof bad_mac / sizeof *bad_mac; i++)
        assert_int_equal(msh_mac_parse(bad_mac[i], &m, NULL), MSH_INVALID_ARGUMENT);
}

static void a_path_must_lead_to_a_network_namespace(void **state)
{
    (void)state;
    int fd = -1;
    msh_err err;
    assert_int_equal(msh_netns_open("/proc/self/ns/mnt", &fd, &err), MSH_INVALID_ARGUMENT);
    assert_int_equal(msh_netns_open("/proc/self/status", &fd, &err), MSH_INVALID_ARGUMENT);
    assert_int_equal(msh_netns_open("/nonexistent", &fd, &err), MSH_NOT_FOUND);
    assert_int_equal(msh_netns_of(getpid(), 1, &fd, &err), MSH_GONE);
    assert_int_equal(fd, -1);
    assert_int_equal(msh_netns_of(getpid(), 0, &fd, &err), MSH_OK);
    msh_fd_close(&fd);
}

static void a_bridge_is_made_once(void **state)
{
    msh_netlink *nl = here(state);
    msh_err err = {0};
    assert_int_equal(msh_netlink_bridge_make(nl, "br", &mac_br, &err), MSH_OK);
    assert_int_equal(msh_netlink_bridge_make(nl, "br", &mac_br, &err), MSH_ALREADY_EXISTS);
    msh_link l;
    assert_int_equal(msh_netlink_by_name(nl, "br", &l, &err), MSH_OK);
    assert_string_equal(l.kind, "bridge");
    assert_memory_equal(&l.mac, &mac_br, sizeof l.mac);
    assert_false(l.up);
    msh_link_change up = MSH_LINK_AS_IT_IS;
    up.up = 1;
    assert_int_equal(msh_netlink_change(nl, l.index, &up, &err), MSH_OK);
    assert_int_equal(msh_netlink_by_name(nl, "br", &l, &err), MSH_OK);
    assert_true(l.up);
    assert_int_equal(msh_netlink_delete(nl, l.index, &err), MSH_OK);
    assert_int_equal(msh_netlink_delete(nl, l.index, &err), MSH_GONE);
    assert_int_equal(msh_netlink_by_name(nl, "br", &l, &err), MSH_NOT_FOUND);
    assert_int_equal(msh_netlink_bridge_make(nl, "a-name-of-16-byt", &mac_br, &err), MSH_INVALID_ARGUMENT);
}

static void a_failure_of_the_socket_is_not_the_refusal_before_it(void **state)
{
    msh_netlink *nl = here(state);
    msh_err err = {0};
    msh_link l;
    assert_int_equal(msh_netlink_by_name(nl, "none", &l, &err), MSH_NOT_FOUND);
    int other = open("/dev/null", O_RDWR | O_CLOEXEC), fd = nl_socket_get_fd(nl->sock);
    assert_int_equal(dup2(other, fd), fd); /* no socket any more: nobody is asked */
    msh_fd_close(&other);
    assert_int_not_equal(msh_netlink_delete(nl, 4242, &err), MSH_GONE);
    assert_int_not_equal(msh_netlink_by_name(nl, "lo", &l, &err), MSH_NOT_FOUND);
}

static void the_other_end_of_a_pair_is_born_elsewhere(void **state)
{
    msh_netlink *nl = here(state), *there = NULL;
    place *p = *state;
    msh_err err = {0};
    assert_int_equal(msh_netlink_bridge_make(nl, "br", &mac_br, &err), MSH_OK);
    msh_veth v = {.name = "a",
                  .peer_name = "b",
                  .mac = mac_a,
                  .peer_mac = mac_b,
                  .master = index_of(nl, "br"),
                  .mtu = 1400,
                  .peer_netns = p->there};
    assert_int_equal(msh_netlink_veth_make(nl, &v, &err), MSH_OK);
    assert_int_equal(msh_netlink_veth_make(nl, &v, &err), MSH_ALREADY_EXISTS);
    msh_link l;
    assert_int_equal(msh_netlink_by_mac(nl, &mac_a, "veth", &l, &err), MSH_OK);
    assert_string_equal(l.name, "a");
    assert_int_equal(l.master, v.master);
    assert_int_equal(l.mtu, 1400);
    assert_int_equal(msh_netlink_by_mac(nl, &mac_b, NULL, &l, &err), MSH_NOT_FOUND);
    assert_int_equal(msh_netlink_open(p->there, &there, &err), MSH_OK);
    assert_int_equal(msh_netlink_by_mac(there, &mac_b, NULL, &l, &err), MSH_OK);
    assert_string_equal(l.name, "b");
    assert_int_equal(l.mtu, 1400);
    assert_int_equal(msh_netlink_delete(nl, index_of(nl, "a"), &err), MSH_OK);
    assert_int_equal(msh_netlink_by_mac(there, &mac_b, NULL, &l, &err), MSH_NOT_FOUND);
    msh_netlink_close(there);
}

static void a_bridge_that_went_takes_no_port(void **state)
{
    msh_netlink *nl = here(state);
    msh_err err = {0};
    msh_veth v = {
        .name = "a", .peer_name = "b", .mac = mac_a, .peer_mac = mac_b, .master = 4242, .peer_netns = -1};
    assert_int_not_equal(msh_netlink_veth_make(nl, &v, &err), MSH_OK);
    assert_int_equal(index_of(nl, "a"), 0);
    assert_int_equal(index_of(nl, "b"), 0);
}

static void a_link_moves_and_gets_the_first_free_name(void **state)
{
    msh_netlink *nl = here(state), *there = NULL;
    place *p = *state;
    msh_err err = {0};
    msh_link l;
    msh_veth v = {.name = "a", .peer_name = "b", .mac = mac_a, .peer_mac = mac_b, .peer_netns = -1};
    assert_int_equal(msh_netlink_veth_make(nl, &v, &err), MSH_OK);
    msh_link_change c = MSH_LINK_AS_IT_IS;
    c.netns = p->there;
    assert_int_equal(msh_netlink_change(nl, index_of(nl, "b"), &c, &err), MSH_OK);
    assert_int_equal(index_of(nl, "b"), 0);
    assert_int_equal(msh_netlink_open(p->there, &there, &err), MSH_OK);
    c = MSH_LINK_AS_IT_IS;
    c.name = "eth%d";
    c.mtu = 1300;
    assert_int_equal(msh_netlink_change(there, index_of(there, "b"), &c, &err), MSH_OK);
    assert_int_equal(msh_netlink_by_name(there, "eth0", &l, &err), MSH_OK);
    assert_int_equal(l.mtu, 1300);
    msh_netlink_close(there);
}

static void addresses_routes_and_rules(void **state)
{
    msh_netlink *nl = here(state);
    msh_err err = {0};
    msh_veth v = {.name = "a", .peer_name = "b", .mac = mac_a, .peer_mac = mac_b, .peer_netns = -1};
    assert_int_equal(msh_netlink_veth_make(nl, &v, &err), MSH_OK);
    msh_link_change up = MSH_LINK_AS_IT_IS;
    up.up = 1;
    unsigned index = index_of(nl, "a");
    assert_int_equal(msh_netlink_change(nl, index, &up, &err), MSH_OK);
    assert_int_equal(msh_netlink_change(nl, index_of(nl, "b"), &up, &err), MSH_OK);
    msh_ip four = ip("10.9.0.2/24"), six = ip("fd09::2/64");
    assert_int_equal(msh_netlink_address_add(nl, index, &four, &err), MSH_OK);
    assert_int_equal(msh_netlink_address_add(nl, index, &four, &err), MSH_ALREADY_EXISTS);
    assert_int_equal(msh_netlink_address_add(nl, index, &six, &err), MSH_OK);
    msh_route r = {.index = index, .to = ip("0.0.0.0/0"), .via = ip("10.9.0.1"), .metric = 77};
    assert_int_equal(msh_netlink_route_add(nl, &r, &err), MSH_OK);
    assert_int_equal(msh_netlink_route_add(nl, &r, &err), MSH_ALREADY_EXISTS);
    msh_route far = {.index = index, .to = ip("10.77.0.0/16"), .via = ip("192.168.9.1")};
    assert_int_equal(msh_netlink_route_add(nl, &far, &err), MSH_UNAVAILABLE);
    msh_ip hop = ip("192.168.9.1/32");
    assert_int_equal(msh_netlink_address_add(nl, index, &hop, &err), MSH_OK);
    far.via = ip("fd77::1");
    far.to = ip("fd88::/64");
    assert_int_equal(msh_netlink_route_add(nl, &far, &err), MSH_UNAVAILABLE);
    far.via = ip("fd09::1");
    assert_int_equal(msh_netlink_route_add(nl, &far, &err), MSH_OK);
    r.table = 101;
    r.metric = 500;
    assert_int_equal(msh_netlink_route_add(nl, &r, &err), MSH_OK);
    assert_int_equal(msh_netlink_rule_add(nl, &four, 101, 5, &err), MSH_OK);
    assert_int_equal(msh_netlink_rule_add(nl, &four, 101, 5, &err), MSH_ALREADY_EXISTS);

    msh_address *addresses = NULL;
    msh_route *routes = NULL;
    size_t n = 0;
    bool found = false;
    assert_int_equal(msh_netlink_addresses(nl, &addresses, &n, &err), MSH_OK);
    for (size_t i = 0; i < n; i++)
        found = found || (addresses[i].index == index && addresses[i].ip.prefix == 24 &&
                          memcmp(addresses[i].ip.b, four.b, 4) == 0);
    assert_true(found);
    found = false;
    assert_int_equal(msh_netlink_routes(nl, &routes, &n, &err), MSH_OK);
    for (size_t i = 0; i < n; i++) {
        bool ours = routes[i].index == index && routes[i].to.family == 4 && routes[i].to.prefix == 0;
        assert_true(!ours || (routes[i].metric == 77 &&
                              memcmp(routes[i].via.b, r.via.b, 4) == 0)); /* table 101 is not shown */
        found = found || ours;
    }
    assert_true(found);
    free(addresses);
    free(routes);
}

int main(void)
{
#define IN_A_NAMESPACE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_read_and_written),
        cmocka_unit_test(a_path_must_lead_to_a_network_namespace),
        IN_A_NAMESPACE(a_bridge_is_made_once),
        IN_A_NAMESPACE(a_failure_of_the_socket_is_not_the_refusal_before_it),
        IN_A_NAMESPACE(the_other_end_of_a_pair_is_born_elsewhere),
        IN_A_NAMESPACE(a_bridge_that_went_takes_no_port),
        IN_A_NAMESPACE(a_link_moves_and_gets_the_first_free_name),
        IN_A_NAMESPACE(addresses_routes_and_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

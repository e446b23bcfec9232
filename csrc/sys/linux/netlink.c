/* What changes things. The socket, the lists and the texts are in netlink_read.c. */
#include "sys/linux/netlink_socket.h"
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <netlink/route/addr.h>
#include <netlink/route/link/bridge.h>
#include <netlink/route/link/veth.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>
#include <netlink/route/rule.h>
#include <string.h>
#include <sys/socket.h>

static msh_code no_memory(msh_err *err)
{
    return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory");
}

static bool name_ok(const char *name)
{
    return name[0] != '\0' && strlen(name) < MSH_IFNAME && strchr(name, '/') == NULL;
}

static bool set_mac(struct rtnl_link *link, const msh_mac *mac)
{
    struct nl_addr *a = nl_addr_build(AF_LLC, mac->b, sizeof mac->b);
    if (a == NULL)
        return false;
    rtnl_link_set_addr(link, a);
    nl_addr_put(a);
    return true;
}

/* An address with its length; NULL without memory. */
static struct nl_addr *address(const msh_ip *ip)
{
    bool four = ip->family == 4;
    struct nl_addr *a = nl_addr_build(four ? AF_INET : AF_INET6, ip->b, four ? 4 : 16);
    if (a != NULL)
        nl_addr_set_prefixlen(a, (int)ip->prefix);
    return a;
}

/* ---- links ---- */

msh_code msh_netlink_bridge_make(msh_netlink *nl, const char *name, const msh_mac *mac, msh_err *err)
{
    if (!name_ok(name))
        return msh_fail(err, MSH_INVALID_ARGUMENT, "\"%.40s\" cannot be the name of a link", name);
    struct rtnl_link *link = rtnl_link_bridge_alloc();
    if (link == NULL || !set_mac(link, mac)) {
        rtnl_link_put(link);
        return no_memory(err);
    }
    rtnl_link_set_name(link, name);
    int rc = rtnl_link_add(msh__nl_ask(nl), link, NLM_F_CREATE | NLM_F_EXCL);
    rtnl_link_put(link);
    return rc < 0 ? msh__nl_fail(nl, rc, err, "make the bridge %s", name) : MSH_OK;
}

msh_code msh_netlink_veth_make(msh_netlink *nl, const msh_veth *v, msh_err *err)
{
    if (!name_ok(v->name) || !name_ok(v->peer_name))
        return msh_fail(err, MSH_INVALID_ARGUMENT, "\"%.40s\", \"%.40s\": not both can be names of links",
                        v->name, v->peer_name);
    struct rtnl_link *link = rtnl_link_veth_alloc(), *peer = NULL;
    if (link == NULL)
        return no_memory(err);
    peer = rtnl_link_veth_get_peer(link);
    msh_code rc = MSH_OK;
    if (peer == NULL || !set_mac(link, &v->mac) || !set_mac(peer, &v->peer_mac)) {
        rc = no_memory(err);
        goto out;
    }
    rtnl_link_set_name(link, v->name);
    rtnl_link_set_name(peer, v->peer_name);
    if (v->master != 0)
        rtnl_link_set_master(link, (int)v->master);
    if (v->mtu != 0) {
        rtnl_link_set_mtu(link, v->mtu);
        rtnl_link_set_mtu(peer, v->mtu);
    }
    if (v->peer_netns >= 0)
        rtnl_link_set_ns_fd(peer, v->peer_netns);
    int n = rtnl_link_add(msh__nl_ask(nl), link, NLM_F_CREATE | NLM_F_EXCL);
    if (n < 0)
        rc = msh__nl_fail(nl, n, err, "make the link %s", v->name);
out:
    if (peer != NULL)
        rtnl_link_put(peer);
    rtnl_link_put(link);
    return rc;
}

msh_code msh_netlink_change(msh_netlink *nl, unsigned index, const msh_link_change *c, msh_err *err)
{
    if (c->name != NULL && !name_ok(c->name))
        return msh_fail(err, MSH_INVALID_ARGUMENT, "\"%.40s\" cannot be the name of a link", c->name);
    struct rtnl_link *link = rtnl_link_alloc(), *change = rtnl_link_alloc();
    msh_code rc = MSH_OK;
    if (link == NULL || change == NULL) {
        rc = no_memory(err);
        goto out;
    }
    rtnl_link_set_ifindex(link, (int)index);
    if (c->name != NULL)
        rtnl_link_set_name(change, c->name);
    if (c->up > 0)
        rtnl_link_set_flags(change, IFF_UP);
    if (c->up < 0)
        rtnl_link_unset_flags(change, IFF_UP);
    if (c->mtu != 0)
        rtnl_link_set_mtu(change, c->mtu);
    if (c->netns >= 0)
        rtnl_link_set_ns_fd(change, c->netns);
    int n = rtnl_link_change(msh__nl_ask(nl), link, change, 0);
    if (n < 0)
        rc = msh__nl_fail(nl, n, err, "change the link with index %u", index);
out:
    rtnl_link_put(change);
    rtnl_link_put(link);
    return rc;
}

msh_code msh_netlink_delete(msh_netlink *nl, unsigned index, msh_err *err)
{
    struct rtnl_link *link = rtnl_link_alloc();
    if (link == NULL)
        return no_memory(err);
    rtnl_link_set_ifindex(link, (int)index);
    int n = rtnl_link_delete(msh__nl_ask(nl), link);
    rtnl_link_put(link);
    if (n >= 0)
        return MSH_OK;
    if (nl->error == ENODEV)
        return msh_fail(err, MSH_GONE, "there is no link with index %u", index);
    return msh__nl_fail(nl, n, err, "remove the link with index %u", index);
}

/* ---- addresses, routes, rules ---- */

msh_code msh_netlink_address_add(msh_netlink *nl, unsigned index, const msh_ip *ip, msh_err *err)
{
    char text[64];
    struct nl_addr *local = address(ip);
    struct rtnl_addr *a = rtnl_addr_alloc();
    msh_code rc = MSH_OK;
    if (local == NULL || a == NULL) {
        rc = no_memory(err);
        goto out;
    }
    rtnl_addr_set_ifindex(a, (int)index);
    if (rtnl_addr_set_local(a, local) < 0) {
        rc = no_memory(err);
        goto out;
    }
    if (ip->family == 6)
        rtnl_addr_set_flags(a, IFA_F_NODAD);
    int n = rtnl_addr_add(msh__nl_ask(nl), a, NLM_F_EXCL);
    if (n < 0)
        rc = msh__nl_fail(nl, n, err, "add the address %s", msh_ip_text(ip, text));
out:
    rtnl_addr_put(a);
    nl_addr_put(local);
    return rc;
}

static msh_code fill_route(struct rtnl_route *route, const msh_route *r, msh_err *err)
{
    struct nl_addr *to = address(&r->to), *via = r->via.family != 0 ? address(&r->via) : NULL;
    struct rtnl_nexthop *hop = rtnl_route_nh_alloc();
    msh_code rc = MSH_OK;
    if (to == NULL || hop == NULL || (via == NULL && r->via.family != 0) ||
        rtnl_route_set_dst(route, to) < 0) {
        rtnl_route_nh_free(hop);
        rc = no_memory(err);
        goto out;
    }
    rtnl_route_set_family(route, r->to.family == 4 ? AF_INET : AF_INET6);
    rtnl_route_set_table(route, r->table != 0 ? r->table : RT_TABLE_MAIN);
    rtnl_route_set_scope(route, r->via.family != 0 || r->to.family == 6 ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK);
    if (r->metric != 0)
        rtnl_route_set_priority(route, r->metric);
    rtnl_route_nh_set_ifindex(hop, (int)r->index);
    if (via != NULL)
        rtnl_route_nh_set_gateway(hop, via);
    rtnl_route_add_nexthop(route, hop); /* the route's now */
out:
    nl_addr_put(to);
    nl_addr_put(via);
    return rc;
}

msh_code msh_netlink_route_add(msh_netlink *nl, const msh_route *r, msh_err *err)
{
    char text[64], hop[64];
    struct rtnl_route *route = rtnl_route_alloc();
    if (route == NULL)
        return no_memory(err);
    msh_code rc = fill_route(route, r, err);
    if (rc == MSH_OK) {
        int n = rtnl_route_add(msh__nl_ask(nl), route, NLM_F_EXCL);
        if (n < 0) {
            rc = msh__nl_fail(nl, n, err, "add the route to %s/%u%s%s", msh_ip_text(&r->to, text),
                              r->to.prefix, r->via.family != 0 ? " via " : "",
                              r->via.family != 0 ? msh_ip_text(&r->via, hop) : "");
            /* IPv6 says "no route to host" where IPv4 says "network is unreachable". */
            if ((nl->error == ENETUNREACH || nl->error == EHOSTUNREACH) && err != NULL)
                rc = err->code = MSH_UNAVAILABLE;
        }
    }
    rtnl_route_put(route);
    return rc;
}

msh_code msh_netlink_rule_add(msh_netlink *nl, const msh_ip *from, uint32_t table, uint32_t priority,
                              msh_err *err)
{
    char text[64];
    struct nl_addr *src = address(from);
    struct rtnl_rule *rule = rtnl_rule_alloc();
    msh_code rc = MSH_OK;
    if (src == NULL || rule == NULL) {
        rc = no_memory(err);
        goto out;
    }
    rtnl_rule_set_family(rule, from->family == 4 ? AF_INET : AF_INET6);
    rtnl_rule_set_action(rule, FR_ACT_TO_TBL);
    rtnl_rule_set_table(rule, table);
    rtnl_rule_set_prio(rule, priority);
    if (rtnl_rule_set_src(rule, src) < 0) {
        rc = no_memory(err);
        goto out;
    }
    int n = rtnl_rule_add(msh__nl_ask(nl), rule, NLM_F_EXCL);
    if (n < 0)
        rc = msh__nl_fail(nl, n, err, "add a rule for packets from %s", msh_ip_text(from, text));
out:
    rtnl_rule_put(rule);
    nl_addr_put(src);
    return rc;
}

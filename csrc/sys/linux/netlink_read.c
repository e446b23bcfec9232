/* The socket, the lists, and addresses as text. */
#include "sys/fd.h"
#include "sys/linux/netlink_socket.h"
#include "sys/process.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>

/* ---- texts ---- */

msh_code msh_ip_parse(const char *text, msh_ip *out, msh_err *err)
{
    char copy[64];
    msh_ip ip = {0};
    size_t n = strcspn(text, "/");
    if (n < sizeof copy) {
        memcpy(copy, text, n);
        copy[n] = '\0';
        if (inet_pton(AF_INET, copy, ip.b) == 1)
            ip.family = 4;
        else if (inet_pton(AF_INET6, copy, ip.b) == 1)
            ip.family = 6;
    }
    unsigned most = ip.family == 4 ? 32 : 128;
    ip.prefix = most;
    if (ip.family != 0 && text[n] == '/') {
        const char *digits = text + n + 1;
        size_t len = strlen(digits);
        ip.prefix = (unsigned)strtoul(digits, NULL, 10);
        if (len == 0 || len > 3 || strspn(digits, "0123456789") != len || ip.prefix > most)
            ip.family = 0;
    }
    if (ip.family == 0)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "\"%.60s\" is not an IP address", text);
    *out = ip;
    return MSH_OK;
}

const char *msh_ip_text(const msh_ip *ip, char *out)
{
    return inet_ntop(ip->family == 4 ? AF_INET : AF_INET6, ip->b, out, INET6_ADDRSTRLEN);
}

msh_code msh_mac_parse(const char *text, msh_mac *out, msh_err *err)
{
    msh_mac mac;
    char sep = text[0] != '\0' && text[1] != '\0' ? text[2] : '\0', digits[3] = "";
    bool ok = strlen(text) == 17 && (sep == ':' || sep == '-');
    for (size_t i = 0; ok && i < 6; i++) {
        memcpy(digits, text + 3 * i, 2);
        ok = strspn(digits, "0123456789abcdefABCDEF") == 2 && (i == 5 || text[3 * i + 2] == sep);
        mac.b[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    if (!ok)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "\"%.40s\" is not a hardware address", text);
    *out = mac;
    return MSH_OK;
}

const char *msh_mac_text(const msh_mac *mac, char *out)
{
    snprintf(out, 18, "%02x:%02x:%02x:%02x:%02x:%02x", mac->b[0], mac->b[1], mac->b[2], mac->b[3], mac->b[4],
             mac->b[5]);
    return out;
}

/* ---- namespaces ---- */

msh_code msh_netns_open(const char *path, int *fd, msh_err *err)
{
    int f = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (f < 0)
        return msh_fail_errno(err, errno, "open the network namespace %s", path);
    struct statfs fs;
    if (fstatfs(f, &fs) != 0 || fs.f_type != NSFS_MAGIC || ioctl(f, NS_GET_NSTYPE) != CLONE_NEWNET) {
        msh_fd_close(&f);
        return msh_fail(err, MSH_INVALID_ARGUMENT, "%s is not a network namespace", path);
    }
    *fd = f;
    return MSH_OK;
}

msh_code msh_netns_of(int pid, uint64_t start_time, int *fd, msh_err *err)
{
    char path[64];
    int f = -1;
    uint64_t started = 0;
    snprintf(path, sizeof path, "/proc/%d/ns/net", pid);
    msh_code rc = msh_netns_open(path, &f, err);
    if (rc == MSH_NOT_FOUND)
        return msh_fail(err, MSH_GONE, "process %d has ended", pid);
    if (rc != MSH_OK)
        return rc;
    /* Looked at after the opening: a pid that was given to another meanwhile is noticed. */
    if (start_time != 0 && (msh_process_start_time(pid, &started, NULL) != MSH_OK || started != start_time)) {
        msh_fd_close(&f);
        return msh_fail(err, MSH_GONE, "process %d has ended", pid);
    }
    *fd = f;
    return MSH_OK;
}

/* ---- the socket ---- */

static int on_refusal(struct sockaddr_nl *from, struct nlmsgerr *e, void *arg)
{
    (void)from;
    msh_netlink *nl = arg;
    nl->error = -e->error;
    return -NLE_FAILURE; /* any negative number ends the exchange */
}

msh_code msh__nl_fail(msh_netlink *nl, int rc, msh_err *err, const char *fmt, ...)
{
    char what[160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    int e = nl->error;
    /* Where the library asks for one object, it takes the refusal itself. */
    if (e == ENODEV || e == ESRCH || (e == 0 && (rc == -NLE_NODEV || rc == -NLE_OBJ_NOTFOUND)))
        return msh_fail(err, MSH_NOT_FOUND, "%s: it is not there", what);
    if (e != 0)
        return msh_fail_errno(err, e, "%s", what);
    return msh_fail(err, MSH_UNKNOWN, "%s: %s", what, nl_geterror(rc));
}

static msh_code connect_here(msh_netlink *nl, msh_err *err)
{
    int rc = nl_connect(nl->sock, NETLINK_ROUTE);
    return rc < 0 ? msh_fail(err, MSH_UNAVAILABLE, "open a netlink socket: %s", nl_geterror(rc)) : MSH_OK;
}

/* The socket is made by this thread while it is in the other namespace. */
static msh_code connect_in(msh_netlink *nl, int netns, msh_err *err)
{
    int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (own < 0)
        return msh_fail_errno(err, errno, "open the own network namespace");
    msh_code rc;
    if (setns(netns, CLONE_NEWNET) != 0) {
        rc = msh_fail_errno(err, errno, "enter the network namespace");
    } else {
        rc = connect_here(nl, err);
        if (setns(own, CLONE_NEWNET) != 0)
            abort(); /* this thread would do everybody's work in a pod's network */
    }
    msh_fd_close(&own);
    return rc;
}

msh_code msh_netlink_open(int netns, msh_netlink **out, msh_err *err)
{
    msh_netlink *nl = calloc(1, sizeof *nl);
    if (nl != NULL)
        nl->sock = nl_socket_alloc();
    if (nl == NULL || nl->sock == NULL) {
        free(nl);
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory");
    }
    nl_socket_modify_err_cb(nl->sock, NL_CB_CUSTOM, on_refusal, nl);
    msh_code rc = netns < 0 ? connect_here(nl, err) : connect_in(nl, netns, err);
    if (rc != MSH_OK) {
        msh_netlink_close(nl);
        return rc;
    }
    *out = nl;
    return MSH_OK;
}

void msh_netlink_close(msh_netlink *nl)
{
    if (nl == NULL)
        return;
    nl_socket_free(nl->sock);
    free(nl);
}

/* ---- lists ---- */

static void take_mac(struct nl_addr *a, msh_mac *out)
{
    if (a != NULL && nl_addr_get_len(a) == sizeof out->b)
        memcpy(out->b, nl_addr_get_binary_addr(a), sizeof out->b);
}

static bool take_ip(struct nl_addr *a, msh_ip *out)
{
    int family = a == NULL ? AF_UNSPEC : nl_addr_get_family(a);
    unsigned len = a == NULL ? 0 : nl_addr_get_len(a);
    if ((family != AF_INET && family != AF_INET6) || len > sizeof out->b)
        return false;
    *out = (msh_ip){.family = family == AF_INET ? 4 : 6, .prefix = nl_addr_get_prefixlen(a)};
    memcpy(out->b, nl_addr_get_binary_addr(a), len);
    return true;
}

static void take_link(struct rtnl_link *l, msh_link *out)
{
    const char *name = rtnl_link_get_name(l), *kind = rtnl_link_get_type(l);
    unsigned flags = rtnl_link_get_flags(l);
    int master = rtnl_link_get_master(l);
    *out = (msh_link){.index = (unsigned)rtnl_link_get_ifindex(l),
                      .master = master > 0 ? (unsigned)master : 0,
                      .mtu = rtnl_link_get_mtu(l),
                      .up = (flags & IFF_UP) != 0,
                      .loopback = (flags & IFF_LOOPBACK) != 0};
    snprintf(out->name, sizeof out->name, "%s", name != NULL ? name : "");
    snprintf(out->kind, sizeof out->kind, "%s", kind != NULL ? kind : "");
    take_mac(rtnl_link_get_addr(l), &out->mac);
}

/* A cache of the library as an array: each(object, slot) fills a slot or answers false. */
static msh_code list_of(msh_netlink *nl, int rc, struct nl_cache *cache, size_t size,
                        bool (*each)(struct nl_object *, void *), void **list, size_t *n, msh_err *err,
                        const char *what)
{
    if (rc < 0)
        return msh__nl_fail(nl, rc, err, "list the %s", what);
    size_t count = (size_t)nl_cache_nitems(cache), used = 0;
    char *items = calloc(count + 1, size);
    if (items == NULL) {
        nl_cache_free(cache);
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory");
    }
    for (struct nl_object *o = nl_cache_get_first(cache); o != NULL && used < count; o = nl_cache_get_next(o))
        used += each(o, items + used * size);
    nl_cache_free(cache);
    *list = items;
    *n = used;
    return MSH_OK;
}

static bool each_link(struct nl_object *o, void *slot)
{
    take_link((struct rtnl_link *)o, slot);
    return true;
}

msh_code msh_netlink_links(msh_netlink *nl, msh_link **list, size_t *n, msh_err *err)
{
    struct nl_cache *cache = NULL;
    int rc = rtnl_link_alloc_cache(msh__nl_ask(nl), AF_UNSPEC, &cache);
    return list_of(nl, rc, cache, sizeof **list, each_link, (void **)list, n, err, "links");
}

static bool each_address(struct nl_object *o, void *slot)
{
    struct rtnl_addr *a = (struct rtnl_addr *)o;
    msh_address *out = slot;
    out->index = (unsigned)rtnl_addr_get_ifindex(a);
    return take_ip(rtnl_addr_get_local(a), &out->ip);
}

msh_code msh_netlink_addresses(msh_netlink *nl, msh_address **list, size_t *n, msh_err *err)
{
    struct nl_cache *cache = NULL;
    int rc = rtnl_addr_alloc_cache(msh__nl_ask(nl), &cache);
    return list_of(nl, rc, cache, sizeof **list, each_address, (void **)list, n, err, "addresses");
}

static bool each_route(struct nl_object *o, void *slot)
{
    struct rtnl_route *r = (struct rtnl_route *)o;
    msh_route *out = slot;
    int family = rtnl_route_get_family(r);
    struct rtnl_nexthop *hop = rtnl_route_get_nnexthops(r) == 1 ? rtnl_route_nexthop_n(r, 0) : NULL;
    if (rtnl_route_get_type(r) != RTN_UNICAST || rtnl_route_get_table(r) != RT_TABLE_MAIN ||
        (family != AF_INET && family != AF_INET6))
        return false;
    *out = (msh_route){.table = RT_TABLE_MAIN, .metric = rtnl_route_get_priority(r)};
    /* The default route comes without an address, or with an empty one. */
    if (!take_ip(rtnl_route_get_dst(r), &out->to))
        out->to = (msh_ip){.family = family == AF_INET ? 4 : 6};
    if (hop != NULL) {
        out->index = (unsigned)rtnl_route_nh_get_ifindex(hop);
        take_ip(rtnl_route_nh_get_gateway(hop), &out->via);
    }
    return true;
}

msh_code msh_netlink_routes(msh_netlink *nl, msh_route **list, size_t *n, msh_err *err)
{
    struct nl_cache *cache = NULL;
    int rc = rtnl_route_alloc_cache(msh__nl_ask(nl), AF_UNSPEC, 0, &cache);
    return list_of(nl, rc, cache, sizeof **list, each_route, (void **)list, n, err, "routes");
}

msh_code msh_netlink_by_mac(msh_netlink *nl, const msh_mac *mac, const char *kind, msh_link *out,
                            msh_err *err)
{
    char text[18];
    msh_link *list = NULL;
    size_t n = 0;
    msh_code rc = msh_netlink_links(nl, &list, &n, err);
    if (rc != MSH_OK)
        return rc;
    rc = MSH_NOT_FOUND;
    for (size_t i = 0; i < n && rc != MSH_OK; i++)
        if (memcmp(&list[i].mac, mac, sizeof *mac) == 0 &&
            (kind == NULL || strcmp(list[i].kind, kind) == 0)) {
            *out = list[i];
            rc = MSH_OK;
        }
    free(list);
    return rc == MSH_OK ? rc : msh_fail(err, rc, "no link has the address %s", msh_mac_text(mac, text));
}

msh_code msh_netlink_by_name(msh_netlink *nl, const char *name, msh_link *out, msh_err *err)
{
    struct rtnl_link *l = NULL;
    int rc = rtnl_link_get_kernel(msh__nl_ask(nl), 0, name, &l);
    if (rc < 0)
        return msh__nl_fail(nl, rc, err, "look at the link %s", name);
    take_link(l, out);
    rtnl_link_put(l);
    return MSH_OK;
}

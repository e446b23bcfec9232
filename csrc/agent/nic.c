#include "agent/nic.h"
#include "agent/fs.h"
#include "agent/log.h"
#include "base/time.h"
#include "sys/fd.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FIND_WITHIN_MS 5000
#define POLL_MS        10
#define DHCP_WITHIN_MS 60000u
#define DHCP           "/sbin/udhcpc"
#define DHCP_SCRIPT    "/sbin/udhcpc_config.script"
/* Of a link on its way, when its name is taken where it goes; the kernel fills in a number. */
#define PASSING "msh%d"
/* Routes of a NIC that must not take the others' traffic. */
#define LOW_TABLE    101u
#define LOW_PRIORITY 5u
#define LOW_METRIC   500u

/* ---- what the host said ---- */

void msh_nic_free(msh_nic *nic)
{
    if (nic == NULL)
        return;
    free(nic->search);
    free(nic->servers);
    free(nic->address);
    free(nic->route);
    free(nic);
}

static msh_code read_address(const json_t *o, msh_ip *out, msh_err *err)
{
    msh_reader in = msh_read(o);
    const char *text = msh_read_text(&in, "IPAddress");
    unsigned prefix = (unsigned)msh_read_number(&in, "PrefixLength", 128);
    if (in.bad != NULL)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "IPConfigs: %s has a wrong type or value", in.bad);
    if (msh_ip_parse(text, out, err) != MSH_OK || strchr(text, '/') != NULL || prefix > out->prefix)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "IPConfigs: \"%.60s\"/%u is not an address", text, prefix);
    out->prefix = prefix;
    return MSH_OK;
}

static bool is_zero(const msh_ip *ip)
{
    static const uint8_t none[16];
    return memcmp(ip->b, none, sizeof none) == 0;
}

static msh_code read_route(const json_t *o, msh_route *out, msh_err *err)
{
    msh_reader in = msh_read(o);
    const char *to = msh_read_text(&in, "DestinationPrefix"), *via = msh_read_text(&in, "NextHop");
    *out = (msh_route){.metric = (uint32_t)msh_read_number(&in, "Metric", UINT16_MAX)};
    if (in.bad != NULL)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "Routes: %s has a wrong type or value", in.bad);
    if (msh_ip_parse(to, &out->to, err) != MSH_OK ||
        (via[0] != '\0' && msh_ip_parse(via, &out->via, err) != MSH_OK)) {
        msh_err_note(err, "Routes");
        return err->code;
    }
    if (via[0] != '\0' && out->via.family != out->to.family)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "Routes: \"%.60s\" cannot be reached via \"%.60s\"", to,
                        via);
    return MSH_OK;
}

static msh_code read_lists(const json_t *addresses, const json_t *routes, msh_nic *nic, msh_err *err)
{
    size_t n_addresses = json_array_size(addresses), n_routes = json_array_size(routes);
    if (n_addresses > MSH_NIC_ADDRESSES || n_routes > MSH_NIC_ROUTES)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "a NIC has at most %d addresses and %d routes",
                        MSH_NIC_ADDRESSES, MSH_NIC_ROUTES);
    nic->address = calloc(n_addresses + 1, sizeof *nic->address);
    nic->route = calloc(n_routes + 1, sizeof *nic->route);
    if (nic->address == NULL || nic->route == NULL)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory");
    msh_code rc = MSH_OK;
    for (size_t i = 0; rc == MSH_OK && i < n_addresses; i++)
        rc = read_address(json_array_get(addresses, i), &nic->address[nic->n_addresses++], err);
    for (size_t i = 0; rc == MSH_OK && i < n_routes; i++) {
        msh_route r;
        rc = read_route(json_array_get(routes, i), &r, err);
        /* A default route to nowhere stands for "none". */
        if (rc == MSH_OK && !(is_zero(&r.to) && r.to.prefix == 0 && r.via.family != 0 && is_zero(&r.via)))
            nic->route[nic->n_routes++] = r;
    }
    return rc;
}

msh_nic *msh_nic_read(const json_t *settings, const char *id, msh_err *err)
{
    msh_nic *nic = calloc(1, sizeof *nic);
    if (nic == NULL) {
        msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory");
        return NULL;
    }
    msh_reader in = msh_read(settings);
    const char *mac = msh_read_text(&in, "MacAddress");
    nic->search = strdup(msh_read_text(&in, "DNSSuffix"));
    nic->servers = strdup(msh_read_text(&in, "DNSServerList"));
    nic->overhead = (unsigned)msh_read_number(&in, "EncapOverhead", UINT16_MAX);
    nic->low_metric = msh_read_flag(&in, "EnableLowMetric");
    nic->policy_routing = msh_read_flag(&in, "PolicyBasedRouting");
    nic->in_place = msh_read_flag(&in, "InPlace"); /* an addition of ours */
    json_t *addresses = msh_read_array(&in, "IPConfigs"), *routes = msh_read_array(&in, "Routes");
    snprintf(nic->id, sizeof nic->id, "%s", id);
    msh_code rc = MSH_OK;
    if (in.bad != NULL) {
        rc = msh_fail(err, MSH_INVALID_ARGUMENT, "Network: %s has a wrong type or value", in.bad);
    } else if (nic->search == NULL || nic->servers == NULL) {
        rc = msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory");
    } else {
        rc = read_lists(addresses, routes, nic, err);
        /* No NIC has nothing but zeros, but every loopback. */
        static const msh_mac zero;
        nic->has_mac = mac[0] != '\0' && msh_mac_parse(mac, &nic->mac, NULL) == MSH_OK &&
                       memcmp(&nic->mac, &zero, sizeof zero) != 0;
    }
    if (rc == MSH_OK)
        return nic;
    msh_nic_free(nic);
    return NULL;
}

/* ---- finding ---- */

/* The one entry of the bus's folder of this device; not_found while it is not there. */
static msh_code name_on_bus(const char *id, char name[MSH_IFNAME], msh_err *err)
{
    char path[160];
    snprintf(path, sizeof path, "/sys/bus/vmbus/devices/%s/net", id);
    DIR *d = opendir(path);
    if (d == NULL)
        return msh_fail(err, MSH_NOT_FOUND, "there is no NIC %s", id);
    size_t n = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.' && strlen(e->d_name) < MSH_IFNAME && n++ == 0)
            memcpy(name, e->d_name, strlen(e->d_name) + 1);
    closedir(d);
    return n == 1 ? MSH_OK : msh_fail(err, MSH_NOT_FOUND, "NIC %s has %zu links", id, n);
}

static msh_code look(msh_nic *nic, msh_netlink *nl, msh_err *err)
{
    msh_link link;
    char name[MSH_IFNAME];
    if (name_on_bus(nic->id, name, err) == MSH_OK) {
        msh_code rc = msh_netlink_by_name(nl, name, &link, err);
        if (rc == MSH_OK) {
            nic->mac = link.mac; /* it keeps that on its way */
            nic->has_mac = true;
            nic->mtu = link.mtu;
        }
        return rc;
    }
    if (!nic->has_mac)
        return msh_fail(err, MSH_NOT_FOUND, "there is no NIC %s", nic->id);
    msh_code rc = msh_netlink_by_mac(nl, &nic->mac, NULL, &link, err);
    if (rc == MSH_OK)
        nic->mtu = link.mtu;
    return rc;
}

msh_code msh_nic_find(msh_nic *nic, msh_err *err)
{
    if (nic->in_place)
        return MSH_OK;
    msh_netlink *nl = NULL;
    msh_code rc = msh_netlink_open(-1, &nl, err);
    msh_time end = msh_now() + FIND_WITHIN_MS * MSH_MS;
    while (rc == MSH_OK && (rc = look(nic, nl, err)) == MSH_NOT_FOUND && msh_now() < end) {
        const struct timespec pause = {.tv_nsec = POLL_MS * 1000000};
        nanosleep(&pause, NULL);
        rc = MSH_OK;
    }
    if (rc == MSH_OK)
        *err = (msh_err){0}; /* the looks before */
    msh_netlink_close(nl);
    return rc;
}

/* ---- placing ---- */

/* Into another namespace, down, under another name where its own is taken. */
static msh_code carry(msh_netlink *nl, unsigned index, int netns, msh_err *err)
{
    msh_link_change down = MSH_LINK_AS_IT_IS, go = MSH_LINK_AS_IT_IS, name = MSH_LINK_AS_IT_IS;
    down.up = -1;
    go.netns = netns;
    name.name = PASSING;
    msh_code rc = msh_netlink_change(nl, index, &down, err);
    if (rc == MSH_OK)
        rc = msh_netlink_change(nl, index, &go, err);
    if (rc == MSH_ALREADY_EXISTS && (rc = msh_netlink_change(nl, index, &name, err)) == MSH_OK)
        rc = msh_netlink_change(nl, index, &go, err);
    return rc;
}

/* Into the namespace; gives the link as it is there. */
static msh_code move(const msh_nic *nic, int netns, msh_netlink *there, msh_link *out, msh_err *err)
{
    msh_netlink *here = NULL;
    msh_link link;
    if (msh_netlink_by_mac(there, &nic->mac, NULL, out, err) == MSH_OK)
        return MSH_OK;
    msh_code rc = msh_netlink_open(-1, &here, err);
    if (rc == MSH_OK)
        rc = msh_netlink_by_mac(here, &nic->mac, NULL, &link, err);
    if (rc == MSH_OK)
        rc = carry(here, link.index, netns, err);
    msh_netlink_close(here);
    return rc == MSH_OK ? msh_netlink_by_mac(there, &nic->mac, NULL, out, err) : rc;
}

/* What the host called the link says nothing to those who live there: they look for eth0. */
static msh_code dress(const msh_nic *nic, const msh_link *link, msh_netlink *nl, msh_err *err)
{
    msh_link_change c = MSH_LINK_AS_IT_IS;
    if (strncmp(link->name, "eth", 3) != 0)
        c.name = "eth%d";
    unsigned mtu = nic->mtu != 0 ? nic->mtu : link->mtu; /* it may have been taken off before */
    if (nic->overhead >= mtu)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "EncapOverhead %u leaves nothing of %u bytes",
                        nic->overhead, mtu);
    if (nic->overhead > 0 && link->mtu != mtu - nic->overhead)
        c.mtu = mtu - nic->overhead;
    msh_code rc = c.name != NULL || c.mtu != 0 ? msh_netlink_change(nl, link->index, &c, err) : MSH_OK;
    msh_link_change up = MSH_LINK_AS_IT_IS;
    up.up = 1;
    return rc == MSH_OK ? msh_netlink_change(nl, link->index, &up, err) : rc;
}

/* Done before, as after a failure further on. */
static msh_code unless_there(msh_code rc, msh_err *err)
{
    if (rc != MSH_ALREADY_EXISTS)
        return rc;
    *err = (msh_err){0};
    return MSH_OK;
}

static msh_code add_route(const msh_nic *nic, const msh_route *given, unsigned index, msh_netlink *nl,
                          msh_err *err)
{
    msh_route r = *given;
    r.index = index;
    if (nic->low_metric) {
        r.table = LOW_TABLE;
        if (r.metric == 0)
            r.metric = LOW_METRIC;
    }
    msh_code rc = msh_netlink_route_add(nl, &r, err);
    if (rc == MSH_UNAVAILABLE && r.via.family != 0) {
        /* The gateway lies outside of the link's networks: it is made reachable by itself. */
        msh_ip hop = r.via;
        hop.prefix = hop.family == 4 ? 32 : 128;
        rc = unless_there(msh_netlink_address_add(nl, index, &hop, err), err);
        if (rc == MSH_OK)
            rc = msh_netlink_route_add(nl, &r, err);
    }
    return unless_there(rc, err);
}

static msh_code addresses_and_routes(const msh_nic *nic, unsigned index, msh_netlink *nl, msh_err *err)
{
    msh_code rc = MSH_OK;
    for (size_t i = 0; rc == MSH_OK && i < nic->n_addresses; i++) {
        rc = unless_there(msh_netlink_address_add(nl, index, &nic->address[i], err), err);
        msh_ip from = nic->address[i];
        from.prefix = from.family == 4 ? 32 : 128;
        if (rc == MSH_OK && nic->low_metric)
            rc = unless_there(msh_netlink_rule_add(nl, &from, LOW_TABLE, LOW_PRIORITY, err), err);
    }
    for (size_t i = 0; rc == MSH_OK && i < nic->n_routes; i++)
        rc = add_route(nic, &nic->route[i], index, nl, err);
    return rc;
}

/* The program runs in the namespace, since a child starts where the thread is that made it. */
static msh_code ask_dhcp(const char *name, int netns, msh_reap *reap, msh_err *err)
{
    const char *const argv[] = {DHCP, "-q", "-i", name, "-s", DHCP_SCRIPT, NULL}, *const env[] = {NULL};
    msh_spawn s = {.path = DHCP,
                   .argv = argv,
                   .env = env,
                   .cwd = "/",
                   .fd = {MSH_SPAWN_NULL, MSH_SPAWN_NULL, MSH_SPAWN_NULL}};
    int status = 0, own = -1;
    if (access(DHCP, X_OK) != 0)
        return msh_fail(err, MSH_FAILED_PRECONDITION,
                        "%s has no addresses, and this UVM has no " DHCP " to ask for some", name);
    msh_code rc = msh_netns_open("/proc/thread-self/ns/net", &own, err);
    if (rc != MSH_OK)
        return rc;
    if (setns(netns, CLONE_NEWNET) != 0) {
        rc = msh_fail_errno(err, errno, "enter the network namespace");
    } else {
        rc = msh_reap_run(reap, &s, DHCP_WITHIN_MS, &status, err);
        if (setns(own, CLONE_NEWNET) != 0)
            abort(); /* this thread would do everybody's work in a pod's network */
    }
    msh_fd_close(&own);
    if (rc == MSH_OK && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
        rc = msh_fail(err, MSH_UNAVAILABLE, "nobody gave %s an address by DHCP", name);
    return rc;
}

/* A namespace that was made for the container has its loopback down. */
static void loopback_up(msh_netlink *nl)
{
    msh_link lo;
    msh_link_change up = MSH_LINK_AS_IT_IS;
    up.up = 1;
    if (msh_netlink_by_name(nl, "lo", &lo, NULL) == MSH_OK && !lo.up)
        msh_netlink_change(nl, lo.index, &up, NULL);
}

msh_code msh_nic_place(const msh_nic *nic, int netns, msh_reap *reap, msh_err *err)
{
    msh_netlink *nl = NULL;
    msh_link link;
    if (nic->in_place)
        return MSH_OK;
    msh_code rc = msh_netlink_open(netns, &nl, err);
    if (rc == MSH_OK)
        rc = move(nic, netns, nl, &link, err);
    if (rc == MSH_OK)
        rc = dress(nic, &link, nl, err);
    if (rc == MSH_OK) {
        loopback_up(nl);
        rc = msh_netlink_by_mac(nl, &nic->mac, NULL, &link, err);
    }
    if (rc == MSH_OK)
        rc = nic->n_addresses > 0 ? addresses_and_routes(nic, link.index, nl, err)
                                  : ask_dhcp(link.name, netns, reap, err);
    msh_netlink_close(nl);
    if (rc != MSH_OK)
        msh_err_note(err, "NIC %s", nic->id);
    else
        *err = (msh_err){0}; /* what was tried on the way */
    return rc;
}

void msh_nic_return(const msh_nic *nic, int netns)
{
    msh_netlink *nl = NULL;
    msh_link link;
    msh_link_change as_it_came = MSH_LINK_AS_IT_IS;
    msh_err err = {0};
    int own = -1;
    if (nic->in_place)
        return;
    as_it_came.mtu = nic->mtu;
    msh_code rc = msh_netns_open("/proc/thread-self/ns/net", &own, &err);
    if (rc == MSH_OK)
        rc = msh_netlink_open(netns, &nl, &err);
    if (rc == MSH_OK && msh_netlink_by_mac(nl, &nic->mac, NULL, &link, NULL) == MSH_OK) {
        if (nic->mtu != 0 && nic->mtu != link.mtu)
            rc = msh_netlink_change(nl, link.index, &as_it_came, &err);
        if (rc == MSH_OK)
            rc = carry(nl, link.index, own, &err);
    }
    if (rc != MSH_OK)
        msh_warn("NIC %s stays where it could not be set up: %s", nic->id, err.msg);
    msh_netlink_close(nl);
    msh_fd_close(&own);
}

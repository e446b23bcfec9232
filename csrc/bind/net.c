/* core.net: the machine's links, as lua/moonshim/net needs them. What asks the kernel runs on the pool of core.sys. */
#include "bind/bound.h"
#include "bind/fields.h"
#include "bind/job.h"
#include "sys/fd.h"
#include "sys/netlink.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define LOCK "moonshim.netlock"

typedef struct net_job net_job;
struct net_job {
    msh_l_job job;
    msh_code (*work)(net_job *j, msh_netlink *nl, msh_err *err); /* in `netns`, or in our own namespace */
    char *netns;
    /* arguments; names are copies */
    char name[MSH_IFNAME], bridge[MSH_IFNAME], peer_name[MSH_IFNAME], kind[MSH_IFNAME];
    msh_mac mac, peer_mac;
    msh_ip ip;
    unsigned mtu;
    int pid;
    uint64_t start_time;
    /* results */
    msh_link *links;
    msh_address *addresses;
    msh_route *routes;
    size_t n_links, n_addresses, n_routes;
    unsigned index;
};

static void free_job(msh_l_job *base)
{
    net_job *j = MSH_LIST_OF(base, net_job, job);
    free(j->netns);
    free(j->links);
    free(j->addresses);
    free(j->routes);
    free(j);
}

static void work(msh_l_job *base)
{
    net_job *j = MSH_LIST_OF(base, net_job, job);
    msh_netlink *nl = NULL;
    int netns = -1;
    if (j->netns != NULL)
        base->rc = msh_netns_open(j->netns, &netns, &base->err);
    if (base->rc == MSH_OK)
        base->rc = msh_netlink_open(netns, &nl, &base->err);
    if (base->rc == MSH_OK)
        base->rc = j->work(j, nl, &base->err);
    msh_netlink_close(nl);
    msh_fd_close(&netns);
}

/* Copies the arguments that were read into `args`; the callback is at `cb`, checked. `push`: of a good result, NULL: true. */
static int submit(lua_State *L, const net_job *args, msh_l_push push, const char *netns, int cb)
{
    net_job *j = malloc(sizeof *j);
    if (j != NULL) {
        *j = *args;
        j->job = (msh_l_job){.work = work, .push = push, .free = free_job};
        if (netns != NULL && (j->netns = strdup(netns)) == NULL) {
            free_job(&j->job);
            j = NULL;
        }
    }
    return msh_l_job_submit(L, j != NULL ? &j->job : NULL, cb);
}

/* ---- arguments ---- */

static void get_name(lua_State *L, int t, const char *key, bool required, char out[MSH_IFNAME])
{
    const char *s = msh_l_str(L, t, key, required);
    if (s == NULL)
        return;
    if (s[0] == '\0' || strlen(s) >= MSH_IFNAME)
        luaL_argerror(L, t, lua_pushfstring(L, "field '%s': not the name of a link", key));
    memcpy(out, s, strlen(s) + 1);
}

static void get_mac(lua_State *L, int t, const char *key, msh_mac *out)
{
    if (msh_mac_parse(msh_l_str(L, t, key, true), out, NULL) != MSH_OK)
        luaL_argerror(L, t, lua_pushfstring(L, "field '%s': not a hardware address", key));
}

/* ---- state ---- */

static msh_code work_state(net_job *j, msh_netlink *nl, msh_err *err)
{
    msh_code rc = msh_netlink_links(nl, &j->links, &j->n_links, err);
    if (rc == MSH_OK)
        rc = msh_netlink_addresses(nl, &j->addresses, &j->n_addresses, err);
    if (rc == MSH_OK)
        rc = msh_netlink_routes(nl, &j->routes, &j->n_routes, err);
    return rc;
}

static int push_state(lua_State *L, void *arg)
{
    const net_job *j = MSH_LIST_OF(arg, net_job, job);
    char text[64];
    lua_createtable(L, 0, 3);
    lua_createtable(L, (int)j->n_links, 0);
    for (size_t i = 0; i < j->n_links; i++) {
        const msh_link *l = &j->links[i];
        lua_createtable(L, 0, 8);
        msh_l_set_int(L, "index", l->index);
        msh_l_set_int(L, "master", l->master);
        msh_l_set_int(L, "mtu", l->mtu);
        msh_l_set_text(L, "name", l->name);
        msh_l_set_text(L, "kind", l->kind);
        msh_l_set_text(L, "mac", msh_mac_text(&l->mac, text));
        msh_l_set_bool(L, "up", l->up);
        msh_l_set_bool(L, "loopback", l->loopback);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "links");
    lua_createtable(L, (int)j->n_addresses, 0);
    for (size_t i = 0; i < j->n_addresses; i++) {
        const msh_address *a = &j->addresses[i];
        lua_createtable(L, 0, 4);
        msh_l_set_int(L, "index", a->index);
        msh_l_set_int(L, "family", a->ip.family);
        msh_l_set_text(L, "address", msh_ip_text(&a->ip, text));
        msh_l_set_int(L, "prefix", a->ip.prefix);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "addresses");
    lua_createtable(L, (int)j->n_routes, 0);
    for (size_t i = 0; i < j->n_routes; i++) {
        const msh_route *r = &j->routes[i];
        lua_createtable(L, 0, 6);
        msh_l_set_int(L, "index", r->index);
        msh_l_set_int(L, "family", r->to.family);
        msh_l_set_text(L, "to", msh_ip_text(&r->to, text));
        msh_l_set_int(L, "prefix", r->to.prefix);
        msh_l_set_int(L, "metric", r->metric);
        if (r->via.family != 0)
            msh_l_set_text(L, "via", msh_ip_text(&r->via, text));
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "routes");
    return 1;
}

/* net.state({netns=}, done) -> true | nil, err      done{links=, addresses=, routes=} [-0, +1..2, arg] */
static int l_state(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    const char *netns = msh_l_str(L, 1, "netns", false);
    net_job args = {.work = work_state};
    return submit(L, &args, push_state, netns, 2);
}

/* ---- making ---- */

static int push_index(lua_State *L, void *arg)
{
    lua_pushinteger(L, MSH_LIST_OF(arg, net_job, job)->index);
    return 1;
}

static msh_code work_bridge(net_job *j, msh_netlink *nl, msh_err *err)
{
    msh_link link;
    msh_link_change up = MSH_LINK_AS_IT_IS;
    up.up = 1;
    msh_code rc = msh_netlink_bridge_make(nl, j->name, &j->mac, err);
    if (rc != MSH_OK)
        return rc;
    rc = msh_netlink_by_name(nl, j->name, &link, err);
    if (rc != MSH_OK)
        return rc;
    rc = msh_netlink_address_add(nl, link.index, &j->ip, err);
    if (rc == MSH_OK)
        rc = msh_netlink_change(nl, link.index, &up, err);
    if (rc != MSH_OK)
        msh_netlink_delete(nl, link.index, NULL);
    j->index = link.index;
    return rc;
}

/* net.bridge({name=, mac=, address="10.1.0.1/16"}, done) -> true | nil, err      done(index); already_exists
 * [-0, +1..2, arg] */
static int l_bridge(lua_State *L)
{
    net_job args = {.work = work_bridge};
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    get_name(L, 1, "name", true, args.name);
    get_mac(L, 1, "mac", &args.mac);
    if (msh_ip_parse(msh_l_str(L, 1, "address", true), &args.ip, NULL) != MSH_OK)
        luaL_argerror(L, 1, "field 'address': not an IP address");
    return submit(L, &args, push_index, NULL, 2);
}

static msh_code work_veth(net_job *j, msh_netlink *nl, msh_err *err)
{
    msh_link bridge = {0}, link;
    int netns = -1;
    msh_code rc = MSH_OK;
    if (j->bridge[0] != '\0')
        rc = msh_netlink_by_name(nl, j->bridge, &bridge, err);
    if (rc == MSH_OK)
        rc = msh_netns_of(j->pid, j->start_time, &netns, err);
    if (rc != MSH_OK)
        return rc;
    msh_veth v = {.name = j->name,
                  .peer_name = j->peer_name,
                  .mac = j->mac,
                  .peer_mac = j->peer_mac,
                  .master = bridge.index,
                  .mtu = j->mtu,
                  .peer_netns = netns};
    rc = msh_netlink_veth_make(nl, &v, err);
    msh_fd_close(&netns);
    if (rc == MSH_OK)
        rc = msh_netlink_by_name(nl, j->name, &link, err);
    if (rc != MSH_OK)
        return rc;
    msh_link_change up = MSH_LINK_AS_IT_IS;
    up.up = 1;
    rc = msh_netlink_change(nl, link.index, &up, err);
    if (rc != MSH_OK)
        msh_netlink_delete(nl, link.index, NULL);
    j->index = link.index;
    return rc;
}

/* net.veth({name=, mac=, bridge=, mtu=, peer_name=, peer_mac=, pid=, start_time=}, done) -> true | nil, err
 * done(index); already_exists: the name is taken; gone: the process ended [-0, +1..2, arg] */
static int l_veth(lua_State *L)
{
    net_job args = {.work = work_veth};
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    get_name(L, 1, "name", true, args.name);
    get_name(L, 1, "bridge", false, args.bridge);
    get_name(L, 1, "peer_name", true, args.peer_name);
    get_mac(L, 1, "mac", &args.mac);
    get_mac(L, 1, "peer_mac", &args.peer_mac);
    args.mtu = (unsigned)msh_l_int(L, 1, "mtu", 0, 65535, 0);
    args.pid = (int)msh_l_int_needed(L, 1, "pid", 1, INT32_MAX);
    args.start_time = (uint64_t)msh_l_int(L, 1, "start_time", 0, LUA_MAXINTEGER, 0);
    return submit(L, &args, push_index, NULL, 2);
}

static msh_code work_remove(net_job *j, msh_netlink *nl, msh_err *err)
{
    msh_link link;
    msh_code rc = msh_netlink_by_mac(nl, &j->mac, j->kind, &link, err);
    if (rc == MSH_NOT_FOUND)
        return msh_fail(err, MSH_GONE, "there is no such link");
    return rc == MSH_OK ? msh_netlink_delete(nl, link.index, err) : rc;
}

/* net.remove({mac=, kind=}, done) -> true | nil, err      gone: there is none [-0, +1..2, arg] */
static int l_remove(lua_State *L)
{
    net_job args = {.work = work_remove};
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    get_mac(L, 1, "mac", &args.mac);
    get_name(L, 1, "kind", true, args.kind);
    return submit(L, &args, NULL, NULL, 2);
}

/* ---- namespaces ---- */

/* net.namespace(path) -> {dev=, ino=} | nil, err      invalid_argument: the path is of another kind [-0, +1..2, arg] */
static int l_namespace(lua_State *L)
{
    const char *path = msh_l_check_path(L, 1);
    msh_err err = {0};
    struct stat st;
    int fd = -1;
    if (msh_netns_open(path, &fd, &err) != MSH_OK)
        return msh_l_fail(L, &err);
    int rc = fstat(fd, &st);
    int e = errno;
    msh_fd_close(&fd);
    if (rc != 0) {
        msh_fail_errno(&err, e, "look at %s", path);
        return msh_l_fail(L, &err);
    }
    lua_createtable(L, 0, 2);
    msh_l_set_int(L, "dev", (lua_Integer)st.st_dev);
    msh_l_set_int(L, "ino", (lua_Integer)st.st_ino);
    return 1;
}

typedef struct l_netlock {
    msh_l_cx *cx;
    int fd;
    bool open;
} l_netlock;

static int l_netlock_close(lua_State *L)
{
    l_netlock *u = luaL_checkudata(L, 1, LOCK);
    if (!u->open)
        return 0;
    u->open = false;
    msh_fd_close(&u->fd);
    u->cx->objects--;
    return 0;
}

/* net.lock() -> lock | nil, err      failed_precondition: another holds it. Never waits [-0, +1..2, m]
 *
 * The file that is locked is the network namespace itself: the lock reaches exactly as far as the names of links do,
 * leaves nothing behind and ends with its process. */
static int l_lock(lua_State *L)
{
    l_netlock *u = msh_l_new(L, sizeof *u, LOCK);
    u->cx = msh_l_cx_of(L);
    u->fd = -1;
    msh_err err = {0};
    if (msh_netns_open("/proc/self/ns/net", &u->fd, &err) != MSH_OK)
        return msh_l_fail(L, &err);
    if (flock(u->fd, LOCK_EX | LOCK_NB) != 0) {
        int e = errno;
        msh_fd_close(&u->fd);
        if (e == EWOULDBLOCK || e == EINTR)
            msh_fail(&err, MSH_FAILED_PRECONDITION, "another process is changing the links");
        else
            msh_fail_errno(&err, e, "lock the network namespace");
        return msh_l_fail(L, &err);
    }
    u->open = true;
    u->cx->objects++;
    return 1;
}

void msh_l_open_net(lua_State *L)
{
    static const luaL_Reg none[] = {{NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"state", l_state}, {"bridge", l_bridge},       {"veth", l_veth}, {"remove", l_remove},
        {"lock", l_lock},   {"namespace", l_namespace}, {NULL, NULL}};
    msh_l_class(L, LOCK, none, l_netlock_close);
    luaL_newlib(L, functions);
}

/* core.relay: the data thread, and the stdio of a process as one object. */
#include "relay/relay.h"
#include "base/list.h"
#include "bind/bound.h"
#include "bind/fields.h"
#include <string.h>

#define RELAY "moonshim.relay"
#define IO    "moonshim.io"

#define MOST_MS (INT64_C(1) << 40)

typedef struct l_relay {
    msh_l_cx *cx;
    msh_relay *r; /* NULL: closed */
    msh_node ios; /* open ones */
} l_relay;

typedef struct l_io {
    msh_node node;
    msh_l_cx *cx;
    msh_io *io; /* NULL: closed */
    int on_ready, on_drained, self;
    uint64_t last[MSH_STDIO]; /* counters when it was closed */
} l_io;

static const char *const names[MSH_STDIO] = {"stdin", "stdout", "stderr"};

/* Lets go of everything but the native io. */
static void forget_io(l_io *u)
{
    u->io = NULL;
    msh_list_remove(&u->node);
    u->cx->objects--;
    msh_l_unref(u->cx, &u->on_ready);
    msh_l_unref(u->cx, &u->on_drained);
    msh_l_unref(u->cx, &u->self);
}

static int l_io_close(lua_State *L)
{
    l_io *u = luaL_checkudata(L, 1, IO);
    msh_io *io = u->io;
    if (io == NULL)
        return 0;
    msh_io_counts(io, u->last);
    forget_io(u);
    msh_io_close(io);
    return 0;
}

static int l_relay_close(lua_State *L)
{
    l_relay *u = luaL_checkudata(L, 1, RELAY);
    msh_relay *r = u->r;
    u->r = NULL;
    if (r == NULL)
        return 0;
    while (!msh_list_empty(&u->ios)) {
        l_io *io = MSH_LIST_OF(u->ios.next, l_io, node);
        msh_io_counts(io->io, io->last);
        forget_io(io); /* the relay closes the native ones */
    }
    msh_relay_close(r);
    u->cx->objects--;
    return 0;
}

/* core.relay() -> relay | nil, err      [-0, +1..2, m] */
static int l_relay_new(lua_State *L)
{
    l_relay *u = msh_l_new(L, sizeof *u, RELAY);
    u->cx = msh_l_cx_of(L);
    msh_list_init(&u->ios);
    msh_err err = {0};
    if (msh_relay_new(u->cx->loop, &u->r, &err) != MSH_OK)
        return msh_l_fail(L, &err);
    u->cx->objects++;
    return 1;
}

static int push_ready(lua_State *L, void *arg)
{
    const msh_err *e = arg;
    if (e->code == MSH_OK)
        lua_pushnil(L);
    else
        msh_l_push_err(L, e);
    return 1;
}

static void on_ready(void *ctx, const msh_err *err)
{
    l_io *u = ctx;
    msh_err e = {0};
    if (err != NULL)
        e = *err;
    msh_l_deliver(u->cx, &u->on_ready, push_ready, &e);
}

static void push_counts(lua_State *L, const uint64_t bytes[MSH_STDIO])
{
    lua_createtable(L, 0, 4);
    for (int i = 0; i < MSH_STDIO; i++) {
        msh_l_set_int(L, names[i], (lua_Integer)bytes[i]);
    }
}

static int push_report(lua_State *L, void *arg)
{
    const msh_io_report *r = arg;
    push_counts(L, r->bytes);
    msh_l_set_bool(L, "cut", r->cut);
    lua_createtable(L, 0, 1);
    for (int i = 0; i < MSH_STDIO; i++)
        if (r->dropped[i] != 0) {
            lua_pushinteger(L, (lua_Integer)r->dropped[i]);
            lua_setfield(L, -2, names[i]);
        }
    lua_setfield(L, -2, "dropped");
    lua_createtable(L, 0, 1);
    for (int i = 0; i < MSH_STDIO; i++)
        if (r->error[i] != 0) {
            msh_l_set_text(L, names[i], strerror(r->error[i]));
        }
    lua_setfield(L, -2, "errors");
    return 1;
}

static void on_drained(void *ctx, const msh_io_report *report)
{
    l_io *u = ctx;
    msh_l_cx *cx = u->cx;
    msh_io_report copy = *report;
    int ref = u->on_drained;
    u->on_drained = MSH_L_NOREF;
    msh_l_unref(cx, &u->self); /* nothing more will come; the io stays open as long as its object */
    msh_l_deliver(cx, &ref, push_report, &copy);
}

/* Reads one stream's end and port. Strings stay on the stack. */
static void get_end(lua_State *L, int t, int ports, const char *name, msh_io_end *end)
{
    *end = (msh_io_end){.fd = -1};
    int type = lua_getfield(L, t, name);
    if (type == LUA_TNIL)
        return;
    if (type != LUA_TTABLE)
        luaL_argerror(L, t,
                      lua_pushfstring(L, "field '%s': table expected, got %s", name, luaL_typename(L, -1)));
    int at = lua_gettop(L);
    end->path = msh_l_str(L, at, "path", false);
    end->fd = (int)msh_l_int(L, at, "fd", 0, INT32_MAX, -1);
    if ((end->path == NULL) == (end->fd < 0))
        luaL_argerror(L, t, lua_pushfstring(L, "field '%s': either fd or path expected", name));
    end->lossy = msh_l_bool(L, at, "lossy", false);
    end->port = (uint32_t)msh_l_int_needed(L, ports, name, 1, UINT32_MAX);
}

static void opt_function(lua_State *L, int t, const char *key)
{
    int type = lua_getfield(L, t, key);
    if (type != LUA_TNIL && type != LUA_TFUNCTION)
        luaL_argerror(L, t,
                      lua_pushfstring(L, "field '%s': function expected, got %s", key, luaL_typename(L, -1)));
}

/* relay:open{name=, dir=, tty=, resume=, away=, stdin=, stdout=, stderr=, ports=, on_ready=, on_drained=} -> io | nil, err
 * [-0, +1..2, arg] */
static int l_open(lua_State *L)
{
    l_relay *r = luaL_checkudata(L, 1, RELAY);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    opt_function(L, 2, "on_ready");   /* 3 */
    opt_function(L, 2, "on_drained"); /* 4 */
    msh_io_want want = {.on_ready = on_ready, .on_drained = on_drained};
    want.name = msh_l_str(L, 2, "name", true);
    want.dir = msh_l_str(L, 2, "dir", true);
    want.tty = msh_l_bool(L, 2, "tty", false);
    want.resume = msh_l_bool(L, 2, "resume", false);
    want.away_ms = (uint64_t)msh_l_int(L, 2, "away", 0, MOST_MS, 0);
    if (lua_getfield(L, 2, "ports") == LUA_TNIL)
        lua_newtable(L);
    int ports = lua_gettop(L);
    if (!lua_istable(L, ports))
        return luaL_argerror(L, 2, "field 'ports': table expected");
    for (int i = 0; i < MSH_STDIO; i++)
        get_end(L, 2, ports, names[i], &want.end[i]);
    if (r->r == NULL)
        return msh_l_closed(L, "the relay");

    l_io *u = lua_newuserdatauv(L, sizeof *u, 1);
    memset(u, 0, sizeof *u);
    u->cx = r->cx;
    u->on_ready = u->on_drained = u->self = MSH_L_NOREF;
    luaL_setmetatable(L, IO);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1); /* an io keeps its relay */
    u->on_ready = msh_l_ref_opt(u->cx, L, 3);
    u->on_drained = msh_l_ref_opt(u->cx, L, 4);
    u->self = msh_l_ref(u->cx, L, -1);
    want.ctx = u;
    msh_err err = {0};
    if (msh_io_open(r->r, &want, &u->io, &err) != MSH_OK) {
        msh_l_unref(u->cx, &u->on_ready);
        msh_l_unref(u->cx, &u->on_drained);
        msh_l_unref(u->cx, &u->self);
        return msh_l_fail(L, &err);
    }
    msh_list_push(&r->ios, &u->node);
    u->cx->objects++;
    return 1;
}

/* io:exited(idle_ms, most_ms) -> true | nil, err      [-0, +1..2, arg] */
static int l_exited(lua_State *L)
{
    l_io *u = luaL_checkudata(L, 1, IO);
    lua_Integer idle = msh_l_check_int(L, 2, 0, MOST_MS), most = msh_l_check_int(L, 3, 0, MOST_MS);
    if (u->io == NULL)
        return msh_l_closed(L, "the stdio");
    msh_io_exited(u->io, (uint64_t)idle, (uint64_t)most);
    lua_pushboolean(L, 1);
    return 1;
}

/* io:close_stdin() -> true | nil, err      [-0, +1..2, m] */
static int l_close_stdin(lua_State *L)
{
    l_io *u = luaL_checkudata(L, 1, IO);
    if (u->io == NULL)
        return msh_l_closed(L, "the stdio");
    msh_io_close_stdin(u->io);
    lua_pushboolean(L, 1);
    return 1;
}

/* io:gone() -> true | nil, err      the VM has ended: nobody dials any more      [-0, +1..2, m] */
static int l_gone(lua_State *L)
{
    l_io *u = luaL_checkudata(L, 1, IO);
    if (u->io == NULL)
        return msh_l_closed(L, "the stdio");
    msh_io_gone(u->io);
    lua_pushboolean(L, 1);
    return 1;
}

/* io:cut("stdin" | "stdout" | "stderr") -> true | nil, err      a fault for tests: the socket breaks [-0, +1..2, arg] */
static int l_cut(lua_State *L)
{
    static const char *const streams[] = {"stdin", "stdout", "stderr", NULL};
    l_io *u = luaL_checkudata(L, 1, IO);
    int stream = luaL_checkoption(L, 2, NULL, streams);
    if (u->io == NULL)
        return msh_l_closed(L, "the stdio");
    msh_io_cut(u->io, stream);
    lua_pushboolean(L, 1);
    return 1;
}

/* io:counts() -> {stdin=, stdout=, stderr=}      bytes so far; after a close what they were then [-0, +1, m] */
static int l_counts(lua_State *L)
{
    l_io *u = luaL_checkudata(L, 1, IO);
    if (u->io != NULL)
        msh_io_counts(u->io, u->last);
    push_counts(L, u->last);
    return 1;
}

void msh_l_open_relay(lua_State *L)
{
    static const luaL_Reg relay_methods[] = {{"open", l_open}, {NULL, NULL}};
    static const luaL_Reg io_methods[] = {{"exited", l_exited}, {"close_stdin", l_close_stdin},
                                          {"gone", l_gone},     {"cut", l_cut},
                                          {"counts", l_counts}, {NULL, NULL}};
    msh_l_class(L, RELAY, relay_methods, l_relay_close);
    msh_l_class(L, IO, io_methods, l_io_close);
    lua_pushcfunction(L, l_relay_new);
}

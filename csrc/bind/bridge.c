/* core.bridge: the calls of one guest connection, over a stream object. */
#include "base/list.h"
#include "base/time.h"
#include "bind/bound.h"
#include "bind/fields.h"
#include "transport/driver.h"
#include <stdlib.h>

#define CLASS "moonshim.bridge"

typedef struct l_bridge {
    msh_l_cx *cx;
    msh_driver *d; /* NULL: nothing was opened, or all is over */
    bool closed;   /* by its owner; calls may still be on their way to fail */
    int on_notify, on_lost, self;
    msh_node calls; /* l_call */
} l_bridge;

typedef struct l_call {
    msh_node node;
    int ref;
} l_call;

static l_bridge *check(lua_State *L)
{
    return luaL_checkudata(L, 1, CLASS);
}

/* The call is in no list any more. */
static void free_call(l_bridge *u, l_call *c)
{
    msh_l_unref(u->cx, &c->ref);
    free(c);
}

/* close(), __close, __gc. On close() the driver stays for the calls that have to fail; it goes with the object. */
static int l_gc(lua_State *L)
{
    l_bridge *u = check(L);
    msh_driver *d = u->d;
    u->d = NULL;
    if (d == NULL)
        return 0;
    msh_driver_free(d);
    if (!u->closed)
        u->cx->objects--;
    u->closed = true;
    msh_node *n;
    while ((n = msh_list_shift(&u->calls)) != NULL)
        free_call(u, MSH_LIST_OF(n, l_call, node));
    msh_l_unref(u->cx, &u->on_notify);
    msh_l_unref(u->cx, &u->on_lost);
    msh_l_unref(u->cx, &u->self);
    return 0;
}

static int l_close(lua_State *L)
{
    l_bridge *u = check(L);
    if (u->d == NULL || u->closed)
        return 0;
    if (u->cx->main == NULL) /* the state is closing: nothing is delivered any more */
        return l_gc(L);
    u->closed = true;
    u->cx->objects--;
    msh_l_unref(u->cx, &u->on_notify);
    msh_l_unref(u->cx, &u->on_lost);
    msh_driver_end(u->d);
    if (msh_list_empty(&u->calls))
        msh_l_unref(u->cx, &u->self);
    return 0;
}

static int push_payload(lua_State *L, void *arg)
{
    const msh_session_event *e = arg;
    lua_pushlstring(L, e->payload.p, e->payload.n);
    return 1;
}

static int push_notification(lua_State *L, void *arg)
{
    const msh_session_event *e = arg;
    lua_pushinteger(L, e->type);
    lua_pushlstring(L, e->payload.p, e->payload.n);
    return 2;
}

static int push_lost(lua_State *L, void *err)
{
    msh_l_push_err(L, err);
    return 1;
}

static void on_answer(l_bridge *u, const msh_session_event *e)
{
    msh_l_cx *cx = u->cx;
    l_call *c = e->tag;
    int ref = c->ref;
    msh_list_remove(&c->node);
    free(c); /* its reference is ours now */
    if (u->closed && msh_list_empty(&u->calls))
        msh_l_unref(cx, &u->self);
    msh_err err = e->err;
    if (e->kind == MSH_SESSION_FAILED)
        msh_l_deliver(cx, &ref, msh_l_push_failed, &err);
    else
        msh_l_deliver(cx, &ref, push_payload, (void *)e);
}

/* After a delivery `u` may be gone; nothing here looks at it then. */
static void on_event(void *ctx, const msh_session_event *e)
{
    l_bridge *u = ctx;
    msh_l_cx *cx = u->cx;
    switch (e->kind) {
    case MSH_SESSION_ANSWER:
    case MSH_SESSION_FAILED:
        on_answer(u, e);
        break;
    case MSH_SESSION_NOTIFY:
        msh_l_emit(cx, u->on_notify, push_notification, (void *)e);
        break;
    case MSH_SESSION_ENDED: {
        int ref = u->on_lost;
        u->on_lost = MSH_L_NOREF;
        msh_l_unref(cx, &u->on_notify);
        msh_l_unref(cx, &u->self);
        msh_err err = e->err;
        msh_l_deliver(cx, &ref, push_lost, &err);
        break;
    }
    }
}

static void opt_function(lua_State *L, int t, const char *key)
{
    int type = lua_getfield(L, t, key);
    if (type != LUA_TNIL && type != LUA_TFUNCTION)
        luaL_argerror(L, t,
                      lua_pushfstring(L, "field '%s': function expected, got %s", key, luaL_typename(L, -1)));
}

/* core.bridge(stream, {on_notify=, on_lost=, max_frame=, first_id=}) -> bridge | nil, err
 * Takes the stream: its object is closed afterwards.      [-0, +1..2, arg] */
static int l_bridge_new(lua_State *L)
{
    msh_stream *s = msh_l_stream_at(L, 1);
    if (lua_isnoneornil(L, 2)) {
        lua_settop(L, 1);
        lua_newtable(L);
    }
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    msh_session_config config = {
        .max_frame = (uint64_t)msh_l_int(L, 2, "max_frame", 64, UINT32_MAX, 0),
        .first_id = (uint64_t)msh_l_int(L, 2, "first_id", 0, LUA_MAXINTEGER, 0),
    };
    opt_function(L, 2, "on_notify"); /* 3 */
    opt_function(L, 2, "on_lost");   /* 4 */
    if (s == NULL)
        return msh_l_closed(L, "the stream");
    msh_err err = {0};
    if (msh_l_stream_busy(L, 1)) {
        msh_fail(&err, MSH_FAILED_PRECONDITION, "the stream still has writes on their way");
        return msh_l_fail(L, &err);
    }

    l_bridge *u = msh_l_new(L, sizeof *u, CLASS);
    u->cx = msh_l_cx_of(L);
    u->on_notify = u->on_lost = u->self = MSH_L_NOREF;
    msh_list_init(&u->calls);
    u->on_notify = msh_l_ref_opt(u->cx, L, 3);
    u->on_lost = msh_l_ref_opt(u->cx, L, 4);
    u->self = msh_l_ref(u->cx, L, 5);
    if (msh_driver_new(s, &config, on_event, u, &u->d, &err) != MSH_OK) {
        msh_l_unref(u->cx, &u->on_notify);
        msh_l_unref(u->cx, &u->on_lost);
        msh_l_unref(u->cx, &u->self);
        return msh_l_fail(L, &err);
    }
    u->cx->objects++;
    msh_l_stream_release(L, 1);
    return 1;
}

/* `unavailable`, not `gone`: a closed bridge proves nothing about what lives in the guest. */
static int closed(lua_State *L)
{
    msh_err err = {0};
    msh_fail(&err, MSH_UNAVAILABLE, "the bridge is closed");
    return msh_l_fail(L, &err);
}

/* bridge:call(type, payload, within_ms | nil, done) -> id | nil, err      done(payload) or done(nil, err)
 * [-0, +1..2, arg] */
static int l_call_(lua_State *L)
{
    l_bridge *u = check(L);
    uint32_t type = (uint32_t)msh_l_check_int(L, 2, 0, UINT32_MAX);
    msh_slice payload;
    payload.p = luaL_checklstring(L, 3, &payload.n);
    lua_Integer within = lua_isnil(L, 4) ? -1 : msh_l_check_int(L, 4, 0, INT64_C(1) << 40);
    luaL_checktype(L, 5, LUA_TFUNCTION);
    if (u->d == NULL || u->closed)
        return closed(L);

    msh_err err = {0};
    int ref = msh_l_ref(u->cx, L, 5);
    l_call *c = calloc(1, sizeof *c);
    uint64_t id = 0;
    if (c == NULL) {
        msh_fail(&err, MSH_RESOURCE_EXHAUSTED, "no memory for a call");
        msh_l_unref(u->cx, &ref);
        return msh_l_fail(L, &err);
    }
    c->ref = ref;
    msh_list_push(&u->calls, &c->node);
    msh_time deadline = within < 0 ? MSH_NEVER : msh_now() + (msh_time)within * MSH_MS;
    if (msh_driver_call(u->d, type, payload, deadline, c, &id, &err) != MSH_OK) {
        msh_list_remove(&c->node);
        free_call(u, c);
        return msh_l_fail(L, &err);
    }
    lua_pushinteger(L, (lua_Integer)id);
    return 1;
}

/* bridge:abandon(id) -> whether it was waiting      its callback never runs [-0, +1, arg] */
static int l_abandon(lua_State *L)
{
    l_bridge *u = check(L);
    lua_Integer id = msh_l_check_int(L, 2, 0, LUA_MAXINTEGER);
    void *tag = NULL;
    bool was = u->d != NULL && msh_session_abandon(msh_driver_session(u->d), (uint64_t)id, &tag);
    if (was) {
        l_call *c = tag;
        msh_list_remove(&c->node);
        free_call(u, c);
    }
    if (u->closed && msh_list_empty(&u->calls))
        msh_l_unref(u->cx, &u->self);
    lua_pushboolean(L, was);
    return 1;
}

/* bridge:next_id() -> integer | nil, err      [-0, +1..2, m] */
static int l_next_id(lua_State *L)
{
    l_bridge *u = check(L);
    if (u->d == NULL)
        return closed(L);
    lua_pushinteger(L, (lua_Integer)msh_session_next_id(msh_driver_session(u->d)));
    return 1;
}

/* bridge:counts() -> {pending=, sent=, received=, late=, unknown=, mismatch=, expired=} | nil, err   [-0, +1..2, m] */
static int l_counts(lua_State *L)
{
    l_bridge *u = check(L);
    if (u->d == NULL)
        return closed(L);
    msh_session_counts n = msh_session_count(msh_driver_session(u->d));
    const struct {
        const char *key;
        uint64_t value;
    } rows[] = {{"pending", n.pending}, {"sent", n.sent},         {"received", n.received}, {"late", n.late},
                {"unknown", n.unknown}, {"mismatch", n.mismatch}, {"expired", n.expired}};
    lua_createtable(L, 0, 7);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        msh_l_set_int(L, rows[i].key, (lua_Integer)rows[i].value);
    }
    return 1;
}

/* bridge:cut()      a fault for tests: the connection breaks [-0, +0, arg] */
static int l_cut(lua_State *L)
{
    l_bridge *u = check(L);
    if (u->d != NULL && !u->closed)
        msh_driver_cut(u->d);
    return 0;
}

/* bridge:state() -> "open" | "lost" | "closed"      [-0, +1, m] */
static int l_state(lua_State *L)
{
    l_bridge *u = check(L);
    const char *text = "closed";
    if (u->d != NULL && !u->closed)
        switch (msh_session_state_of(msh_driver_session(u->d))) {
        case MSH_SESSION_OPEN:
            text = "open";
            break;
        case MSH_SESSION_LOST:
            text = "lost";
            break;
        default:
            break;
        }
    lua_pushstring(L, text);
    return 1;
}

void msh_l_open_bridge(lua_State *L)
{
    static const luaL_Reg methods[] = {{"call", l_call_},    {"abandon", l_abandon}, {"next_id", l_next_id},
                                       {"counts", l_counts}, {"state", l_state},     {"cut", l_cut},
                                       {NULL, NULL}};
    msh_l_class(L, CLASS, methods, l_close);
    luaL_getmetatable(L, CLASS);
    lua_pushcfunction(L, l_gc); /* no event may reach a collected object, so here the driver goes at once */
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    lua_pushcfunction(L, l_bridge_new);
}

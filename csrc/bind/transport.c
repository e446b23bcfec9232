/* core.transport: streams, listeners and connection requests.
 *
 * An object with a callback out (a reader, a listener, a write on its way) is anchored in the registry, so that losing
 * the Lua handle loses no bytes and no events; close() lets go of it. */
#include "base/list.h"
#include "bind/bound.h"
#include "bind/fields.h"
#include "transport/mem.h"
#include "transport/unix.h"
#include <stdlib.h>

#define STREAM   "moonshim.stream"
#define LISTENER "moonshim.listener"
#define REQUEST  "moonshim.connect"

typedef struct l_stream {
    msh_l_cx *cx;
    msh_stream *s; /* NULL: closed */
    int on_data;
    int self;
    msh_node writes; /* l_done */
} l_stream;

/* One completion of a write, a shutdown or a descriptor. */
typedef struct l_done {
    msh_node node;
    l_stream *stream;
    int ref;
} l_done;

static void anchor(lua_State *L, l_stream *u, int idx)
{
    if (u->self == MSH_L_NOREF)
        u->self = msh_l_ref(u->cx, L, idx);
}

/* After this `u` may be collected at any moment. */
static void let_go_if_idle(l_stream *u)
{
    if (u->s == NULL || (u->on_data == MSH_L_NOREF && msh_list_empty(&u->writes)))
        msh_l_unref(u->cx, &u->self);
}

static l_stream *new_stream(lua_State *L)
{
    l_stream *u = msh_l_new(L, sizeof *u, STREAM);
    u->cx = msh_l_cx_of(L);
    u->on_data = u->self = MSH_L_NOREF;
    msh_list_init(&u->writes);
    return u;
}

static void open_stream(l_stream *u, msh_stream *s)
{
    u->s = s;
    u->cx->objects++;
}

static l_stream *check(lua_State *L)
{
    return luaL_checkudata(L, 1, STREAM);
}

/* Callbacks that can no longer come are answered `gone`, from the loop. */
static void drop_writes(l_stream *u)
{
    msh_err e = {0};
    msh_node *n;
    msh_fail(&e, MSH_GONE, "the stream was closed before this was sent");
    while ((n = msh_list_shift(&u->writes)) != NULL) {
        l_done *d = MSH_LIST_OF(n, l_done, node);
        msh_l_fail_later(u->cx, &d->ref, &e);
        free(d);
    }
}

static int l_stream_close(lua_State *L)
{
    l_stream *u = check(L);
    msh_stream *s = u->s;
    u->s = NULL;
    if (s == NULL)
        return 0;
    msh_stream_close(s);
    u->cx->objects--;
    msh_l_unref(u->cx, &u->on_data);
    drop_writes(u);
    msh_l_unref(u->cx, &u->self);
    return 0;
}

msh_stream *msh_l_stream_at(lua_State *L, int idx)
{
    return ((l_stream *)luaL_checkudata(L, idx, STREAM))->s;
}

bool msh_l_stream_busy(lua_State *L, int idx)
{
    return !msh_list_empty(&((l_stream *)luaL_checkudata(L, idx, STREAM))->writes);
}

void msh_l_stream_release(lua_State *L, int idx)
{
    l_stream *u = luaL_checkudata(L, idx, STREAM);
    if (u->s == NULL)
        return;
    u->s = NULL;
    u->cx->objects--;
    msh_l_unref(u->cx, &u->on_data);
    msh_l_unref(u->cx, &u->self);
}

/* ---- writing ---- */

static void on_done(void *ctx, const msh_err *err)
{
    l_done *d = ctx;
    msh_l_cx *cx = d->stream->cx;
    msh_list_remove(&d->node);
    let_go_if_idle(d->stream);
    msh_err e;
    if (err != NULL)
        e = *err;
    msh_l_deliver(cx, &d->ref, err != NULL ? msh_l_push_failed : msh_l_push_true, &e);
    free(d);
}

/* The completion for the optional callback at `cb`; NULL without memory. Whatever may jump has happened after it. */
static l_done *new_done(lua_State *L, l_stream *u, int cb, msh_err *err)
{
    anchor(L, u, 1);
    int ref = msh_l_ref_opt(u->cx, L, cb);
    l_done *d = calloc(1, sizeof *d);
    if (d == NULL) {
        msh_l_unref(u->cx, &ref);
        let_go_if_idle(u);
        msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory to write to a stream");
        return NULL;
    }
    d->stream = u;
    d->ref = ref;
    msh_list_push(&u->writes, &d->node);
    return d;
}

static int started(lua_State *L, l_done *d, msh_code rc, const msh_err *err)
{
    if (rc != MSH_OK && d != NULL) {
        l_stream *u = d->stream;
        msh_list_remove(&d->node);
        msh_l_unref(u->cx, &d->ref);
        free(d);
        let_go_if_idle(u);
    }
    return msh_l_result(L, rc, err);
}

/* stream:write(data, done?) -> true | nil, err      [-0, +1..2, arg] */
static int l_write(lua_State *L)
{
    l_stream *u = check(L);
    msh_slice data;
    data.p = luaL_checklstring(L, 2, &data.n);
    msh_l_check_fn_opt(L, 3);
    if (u->s == NULL)
        return msh_l_closed(L, "the stream");
    msh_err err = {0};
    l_done *d = new_done(L, u, 3, &err);
    if (d == NULL)
        return msh_l_fail(L, &err);
    return started(L, d, msh_stream_write(u->s, data, on_done, d, &err), &err);
}

/* stream:send_fd(fd, data, done?) -> true | nil, err      [-0, +1..2, arg] */
static int l_send_fd(lua_State *L)
{
    l_stream *u = check(L);
    int fd = (int)msh_l_check_int(L, 2, 0, INT32_MAX);
    msh_slice data;
    data.p = luaL_checklstring(L, 3, &data.n);
    luaL_argcheck(L, data.n > 0, 3, "at least one byte must go with a descriptor");
    msh_l_check_fn_opt(L, 4);
    if (u->s == NULL)
        return msh_l_closed(L, "the stream");
    msh_err err = {0};
    l_done *d = new_done(L, u, 4, &err);
    if (d == NULL)
        return msh_l_fail(L, &err);
    return started(L, d, msh_stream_send_fd(u->s, fd, data, on_done, d, &err), &err);
}

/* stream:shutdown(done?) -> true | nil, err      [-0, +1..2, arg] */
static int l_shutdown(lua_State *L)
{
    l_stream *u = check(L);
    msh_l_check_fn_opt(L, 2);
    if (u->s == NULL)
        return msh_l_closed(L, "the stream");
    msh_err err = {0};
    l_done *d = new_done(L, u, 2, &err);
    if (d == NULL)
        return msh_l_fail(L, &err);
    return started(L, d, msh_stream_shutdown(u->s, on_done, d, &err), &err);
}

/* ---- reading ---- */

static int push_bytes(lua_State *L, void *arg)
{
    const msh_slice *s = arg;
    lua_pushlstring(L, s->p, s->n);
    return 1;
}

static int push_eof(lua_State *L, void *unused)
{
    (void)unused;
    lua_pushnil(L);
    return 1;
}

static void on_data(void *ctx, msh_slice bytes, int fd)
{
    (void)fd; /* descriptors are not accepted: msh_stream_take_fds is off */
    l_stream *u = ctx;
    msh_l_emit(u->cx, u->on_data, push_bytes, &bytes);
}

static void on_end(void *ctx, const msh_err *err)
{
    l_stream *u = ctx;
    msh_l_cx *cx = u->cx;
    int ref = u->on_data;
    u->on_data = MSH_L_NOREF;
    let_go_if_idle(u);
    msh_err e;
    if (err != NULL)
        e = *err;
    msh_l_deliver(cx, &ref, err != NULL ? msh_l_push_failed : push_eof, &e);
}

/* stream:read(on_data) -> true | nil, err      on_data(bytes), at the end once on_data(nil) or on_data(nil, err)
 * [-0, +1..2, arg] */
static int l_read(lua_State *L)
{
    l_stream *u = check(L);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    if (u->s == NULL)
        return msh_l_closed(L, "the stream");
    msh_err err = {0};
    int old = u->on_data;
    anchor(L, u, 1);
    u->on_data = msh_l_ref(u->cx, L, 2);
    msh_reader r = {.data = on_data, .end = on_end, .ctx = u};
    msh_code rc = msh_stream_read(u->s, &r, &err);
    if (rc != MSH_OK) {
        msh_l_unref(u->cx, &u->on_data);
        u->on_data = old;
        let_go_if_idle(u);
    } else {
        msh_l_unref(u->cx, &old);
    }
    return msh_l_result(L, rc, &err);
}

/* stream:stop()      [-0, +0, arg] */
static int l_stop(lua_State *L)
{
    l_stream *u = check(L);
    if (u->s != NULL) {
        msh_stream_stop(u->s);
        msh_l_unref(u->cx, &u->on_data);
        let_go_if_idle(u);
    }
    return 0;
}

/* stream:peer() -> {pid=, uid=, gid=} | nil, err      [-0, +1..2, m] */
static int l_peer(lua_State *L)
{
    l_stream *u = check(L);
    if (u->s == NULL)
        return msh_l_closed(L, "the stream");
    msh_err err = {0};
    msh_peer p;
    if (msh_stream_peer(u->s, &p, &err) != MSH_OK)
        return msh_l_fail(L, &err);
    lua_createtable(L, 0, 3);
    msh_l_set_int(L, "pid", p.pid);
    msh_l_set_int(L, "uid", p.uid);
    msh_l_set_int(L, "gid", p.gid);
    return 1;
}

/* Moves *arg (a msh_stream **) into a new object. */
static int push_stream(lua_State *L, void *arg)
{
    msh_stream **s = arg;
    l_stream *u = new_stream(L);
    open_stream(u, *s);
    *s = NULL;
    return 1;
}

/* core.transport.pair() -> a, b | nil, err      [-0, +2, m] */
static int l_pair(lua_State *L)
{
    l_stream *a = new_stream(L), *b = new_stream(L);
    msh_stream *sa, *sb;
    msh_err err = {0};
    if (msh_mem_pair(a->cx->loop, &sa, &sb, &err) != MSH_OK)
        return msh_l_fail(L, &err);
    open_stream(a, sa);
    open_stream(b, sb);
    return 2;
}

/* ---- listening ---- */

typedef struct l_listener {
    msh_l_cx *cx;
    msh_listener *l;
    int on_accept, self;
} l_listener;

static int l_listener_close(lua_State *L)
{
    l_listener *u = luaL_checkudata(L, 1, LISTENER);
    msh_listener *l = u->l;
    u->l = NULL;
    if (l == NULL)
        return 0;
    msh_listener_close(l);
    u->cx->objects--;
    msh_l_unref(u->cx, &u->on_accept);
    msh_l_unref(u->cx, &u->self);
    return 0;
}

static void on_accept(void *ctx, msh_stream *s)
{
    l_listener *u = ctx;
    msh_l_emit(u->cx, u->on_accept, push_stream, &s);
    msh_stream_close(s); /* NULL when an object has it */
}

/* core.transport.listen_unix(path, {mode=}, on_accept) -> listener | nil, err      [-0, +1..2, arg] */
static int l_listen(lua_State *L)
{
    const char *path = msh_l_check_path(L, 1);
    lua_Integer mode = 0600;
    if (!lua_isnil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        mode = msh_l_int(L, 2, "mode", 0, 0777, 0600);
    }
    luaL_checktype(L, 3, LUA_TFUNCTION);

    l_listener *u = msh_l_new(L, sizeof *u, LISTENER);
    u->cx = msh_l_cx_of(L);
    u->on_accept = u->self = MSH_L_NOREF;
    u->on_accept = msh_l_ref(u->cx, L, 3);
    u->self = msh_l_ref(u->cx, L, -1);
    msh_err err = {0};
    if (msh_unix_listen(u->cx->loop, path, (unsigned)mode, on_accept, u, &u->l, &err) != MSH_OK) {
        msh_l_unref(u->cx, &u->on_accept);
        msh_l_unref(u->cx, &u->self);
        return msh_l_fail(L, &err);
    }
    u->cx->objects++;
    return 1;
}

/* ---- connecting ---- */

typedef struct l_request {
    msh_l_cx *cx;
    msh_connect *c;
    int done, self;
} l_request;

static int l_cancel(lua_State *L)
{
    l_request *u = luaL_checkudata(L, 1, REQUEST);
    msh_connect *c = u->c;
    u->c = NULL;
    if (c == NULL)
        return 0;
    msh_connect_cancel(c);
    u->cx->objects--;
    msh_l_unref(u->cx, &u->done);
    msh_l_unref(u->cx, &u->self);
    return 0;
}

static void on_connect(void *ctx, msh_stream *s, const msh_err *err)
{
    l_request *u = ctx;
    msh_l_cx *cx = u->cx;
    int ref = u->done;
    msh_err e;
    if (s == NULL)
        e = *err;
    u->c = NULL;
    u->done = MSH_L_NOREF;
    cx->objects--;
    msh_l_unref(cx, &u->self); /* from here on `u` may be collected */
    if (s == NULL) {
        msh_l_deliver(cx, &ref, msh_l_push_failed, &e);
    } else {
        msh_l_deliver(cx, &ref, push_stream, &s);
        msh_stream_close(s); /* NULL when an object has it */
    }
}

/* core.transport.connect_unix(path, done) -> request | nil, err      done(stream) or done(nil, err), not after
 * request:cancel() [-0, +1..2, arg] */
static int l_connect(lua_State *L)
{
    const char *path = msh_l_check_path(L, 1);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    l_request *u = msh_l_new(L, sizeof *u, REQUEST);
    u->cx = msh_l_cx_of(L);
    u->done = u->self = MSH_L_NOREF;
    u->done = msh_l_ref(u->cx, L, 2);
    u->self = msh_l_ref(u->cx, L, -1);
    msh_err err = {0};
    if (msh_unix_connect(u->cx->loop, path, on_connect, u, &u->c, &err) != MSH_OK) {
        msh_l_unref(u->cx, &u->done);
        msh_l_unref(u->cx, &u->self);
        return msh_l_fail(L, &err);
    }
    u->cx->objects++;
    return 1;
}

void msh_l_open_transport(lua_State *L)
{
    static const luaL_Reg stream_methods[] = {
        {"write", l_write}, {"read", l_read},       {"stop", l_stop}, {"shutdown", l_shutdown},
        {"peer", l_peer},   {"send_fd", l_send_fd}, {NULL, NULL}};
    static const luaL_Reg request_methods[] = {{"cancel", l_cancel}, {NULL, NULL}};
    static const luaL_Reg none[] = {{NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"pair", l_pair}, {"listen_unix", l_listen}, {"connect_unix", l_connect}, {NULL, NULL}};
    msh_l_class(L, STREAM, stream_methods, l_stream_close);
    msh_l_class(L, LISTENER, none, l_listener_close);
    msh_l_class(L, REQUEST, request_methods, l_cancel);
    luaL_newlib(L, functions);
}

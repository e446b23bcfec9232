#include "bind/call.h"
#include "base/list.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char cx_key; /* its address names the context in the registry */

typedef struct cx_box {
    msh_l_cx cx;
    void (*on_close[MSH_L_CLOSERS])(msh_l_cx *cx);
    int closers;
} cx_box;

/* Failures that wait for the next turn of the loop. */
struct msh_l_later {
    uv_idle_t idle; /* runs while something waits */
    msh_l_cx *cx;
    msh_node waiting;
};

typedef struct late_failure {
    msh_node node;
    int ref;
    msh_err err;
} late_failure;

static void free_later(uv_handle_t *h)
{
    free(h->data);
}

static void end_later(struct msh_l_later *l)
{
    if (l == NULL)
        return;
    msh_node *n;
    while ((n = msh_list_shift(&l->waiting)) != NULL)
        free(MSH_LIST_OF(n, late_failure, node));
    uv_close((uv_handle_t *)&l->idle, free_later);
}

static int cx_gc(lua_State *L)
{
    cx_box *box = lua_touserdata(L, 1);
    box->cx.main = NULL;
    end_later(box->cx.later);
    box->cx.later = NULL;
    while (box->closers > 0)
        box->on_close[--box->closers](&box->cx);
    return 0;
}

msh_l_cx *msh_l_cx_new(lua_State *L, uv_loop_t *loop)
{
    cx_box *box = lua_newuserdatauv(L, sizeof *box, 0);
    memset(box, 0, sizeof *box);
    box->cx.loop = loop;
    box->cx.on_error = MSH_L_NOREF;
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, cx_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &cx_key);

    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    box->cx.main = lua_tothread(L, -1);
    lua_pop(L, 1);
    return &box->cx;
}

msh_l_cx *msh_l_cx_of(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &cx_key);
    cx_box *box = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return box != NULL ? &box->cx : NULL;
}

void msh_l_cx_on_close(msh_l_cx *cx, void (*fn)(msh_l_cx *cx))
{
    cx_box *box = (cx_box *)cx;
    assert(box->closers < MSH_L_CLOSERS);
    box->on_close[box->closers++] = fn;
}

int msh_l_ref(msh_l_cx *cx, lua_State *L, int idx)
{
    lua_pushvalue(L, idx);
    int ref = luaL_ref(L, LUA_REGISTRYINDEX);
    cx->refs++;
    return ref;
}

void msh_l_unref(msh_l_cx *cx, int *ref)
{
    int old = *ref;
    *ref = MSH_L_NOREF;
    if (old == MSH_L_NOREF || cx->main == NULL) /* a closing state frees its registry itself */
        return;
    luaL_unref(cx->main, LUA_REGISTRYINDEX, old);
    cx->refs--;
}

void msh_l_check_fn_opt(lua_State *L, int idx)
{
    if (!lua_isnoneornil(L, idx))
        luaL_checktype(L, idx, LUA_TFUNCTION);
}

int msh_l_ref_opt(msh_l_cx *cx, lua_State *L, int idx)
{
    return lua_isnoneornil(L, idx) ? MSH_L_NOREF : msh_l_ref(cx, L, idx);
}

/* ---- deliveries ---- */

typedef struct delivery {
    msh_l_cx *cx;
    int *once;
    int ref;
    msh_l_push push;
    void *arg;
} delivery;

int msh_l_traceback(lua_State *L)
{
    const char *text = lua_tostring(L, 1);
    if (text == NULL)
        return 1; /* an error value says what it has to say */
    luaL_traceback(L, L, text, 1);
    return 1;
}

static int delivery_body(lua_State *L)
{
    delivery *d = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, d->ref);
    if (d->once != NULL)
        msh_l_unref(d->cx, d->once);
    int n = d->push != NULL ? d->push(L, d->arg) : 0;
    lua_call(L, n, 0);
    return 0;
}

static int hook_body(lua_State *L)
{
    msh_l_cx *cx = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, cx->on_error);
    lua_pushvalue(L, 2);
    lua_call(L, 1, 0);
    return 0;
}

static void to_stderr(lua_State *L, int idx)
{
    const char *text = lua_type(L, idx) == LUA_TSTRING ? lua_tostring(L, idx) : NULL;
    if (text != NULL) {
        fprintf(stderr, "moonshim: error in a callback: %s\n", text);
        return;
    }
    const char *code = "", *message = "";
    if (lua_istable(L, idx) && lua_checkstack(L, 4)) {
        /* Raw reads of constant keys that exist in every error value; nothing here calls Lua. */
        lua_pushnil(L);
        while (lua_next(L, idx) != 0) {
            if (lua_type(L, -2) == LUA_TSTRING && lua_type(L, -1) == LUA_TSTRING) {
                if (strcmp(lua_tostring(L, -2), "code") == 0)
                    code = lua_tostring(L, -1);
                else if (strcmp(lua_tostring(L, -2), "message") == 0)
                    message = lua_tostring(L, -1);
            }
            lua_pop(L, 1);
        }
    }
    fprintf(stderr, "moonshim: error in a callback: %s %s: %s\n", lua_typename(L, lua_type(L, idx)), code,
            message);
}

void msh_l_report(msh_l_cx *cx, lua_State *L)
{
    int at = lua_gettop(L);
    if (cx->on_error == MSH_L_NOREF || !lua_checkstack(L, 4)) {
        to_stderr(L, at);
    } else {
        lua_pushcfunction(L, hook_body);
        lua_pushlightuserdata(L, cx);
        lua_pushvalue(L, at);
        if (lua_pcall(L, 2, 0, 0) != LUA_OK) {
            to_stderr(L, at);
            to_stderr(L, lua_gettop(L)); /* and why the hook could not take it */
        }
    }
    lua_settop(L, at - 1);
}

static void run(delivery *d)
{
    lua_State *L = d->cx->main;
    if (L == NULL || d->ref == MSH_L_NOREF)
        return; /* late: dropped */
    if (!lua_checkstack(L, 8)) {
        fprintf(stderr, "moonshim: no stack for a callback\n");
        if (d->once != NULL)
            msh_l_unref(d->cx, d->once);
        return;
    }
    int at = lua_gettop(L) + 1;
    lua_pushcfunction(L, msh_l_traceback); /* none of these three allocates, so none can jump */
    lua_pushcfunction(L, delivery_body);
    lua_pushlightuserdata(L, d);
    if (lua_pcall(L, 1, 0, at) != LUA_OK)
        msh_l_report(d->cx, L);
    lua_settop(L, at - 1);
}

void msh_l_deliver(msh_l_cx *cx, int *ref, msh_l_push push, void *arg)
{
    delivery d = {.cx = cx, .once = ref, .ref = *ref, .push = push, .arg = arg};
    run(&d);
}

void msh_l_emit(msh_l_cx *cx, int ref, msh_l_push push, void *arg)
{
    delivery d = {.cx = cx, .ref = ref, .push = push, .arg = arg};
    run(&d);
}

static void run_later(uv_idle_t *idle)
{
    struct msh_l_later *l = idle->data;
    msh_l_cx *cx = l->cx;
    uv_idle_stop(idle); /* what is added meanwhile starts it again */
    msh_node now;
    msh_list_init(&now);
    msh_node *n;
    while ((n = msh_list_shift(&l->waiting)) != NULL)
        msh_list_push(&now, n);
    while ((n = msh_list_shift(&now)) != NULL) {
        late_failure *f = MSH_LIST_OF(n, late_failure, node);
        msh_l_deliver(cx, &f->ref, msh_l_push_failed, &f->err);
        free(f);
    }
}

static struct msh_l_later *later_of(msh_l_cx *cx)
{
    if (cx->later != NULL)
        return cx->later;
    struct msh_l_later *l = calloc(1, sizeof *l);
    if (l == NULL)
        return NULL;
    l->cx = cx;
    l->idle.data = l;
    msh_list_init(&l->waiting);
    uv_idle_init(cx->loop, &l->idle);
    return cx->later = l;
}

void msh_l_fail_later(msh_l_cx *cx, int *ref, const msh_err *e)
{
    if (*ref == MSH_L_NOREF || cx->main == NULL)
        return;
    struct msh_l_later *l = later_of(cx);
    late_failure *f = l != NULL ? calloc(1, sizeof *f) : NULL;
    if (f == NULL) {
        fprintf(stderr, "moonshim: no memory for a callback\n");
        msh_l_unref(cx, ref);
        return;
    }
    f->ref = *ref;
    f->err = *e;
    *ref = MSH_L_NOREF;
    msh_list_push(&l->waiting, &f->node);
    uv_idle_start(&l->idle, run_later);
}

int msh_l_push_failed(lua_State *L, void *err)
{
    return msh_l_fail(L, err);
}

int msh_l_push_true(lua_State *L, void *unused)
{
    (void)unused;
    lua_pushboolean(L, 1);
    return 1;
}

/* ---- errors ---- */

void msh_l_push_err(lua_State *L, const msh_err *e)
{
    lua_createtable(L, 0, 5);
    lua_pushstring(L, msh_code_text(e->code));
    lua_setfield(L, -2, "code");
    lua_pushstring(L, e->msg);
    lua_setfield(L, -2, "message");
    lua_pushstring(L, msh_origin_text(e->origin));
    lua_setfield(L, -2, "origin");
    if (e->hresult != 0) {
        lua_pushinteger(L, (lua_Integer)(uint32_t)e->hresult);
        lua_setfield(L, -2, "hresult");
    }
    if (e->op[0] != '\0') {
        lua_pushstring(L, e->op);
        lua_setfield(L, -2, "op");
    }
}

static msh_code code_of(const char *text)
{
    for (int code = 1; code < MSH_CODE_COUNT; code++)
        if (strcmp(msh_code_text((msh_code)code), text) == 0)
            return (msh_code)code;
    return MSH_UNKNOWN;
}

void msh_l_to_err(lua_State *L, int idx, msh_err *e)
{
    idx = lua_absindex(L, idx);
    msh_fail(e, MSH_UNKNOWN, "%s",
             lua_type(L, idx) == LUA_TSTRING ? lua_tostring(L, idx) : "no reason given");
    if (!lua_istable(L, idx) || !lua_checkstack(L, 4))
        return;
    for (lua_pushnil(L); lua_next(L, idx) != 0; lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            continue;
        const char *key = lua_tostring(L, -2),
                   *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
        if (text != NULL && strcmp(key, "code") == 0)
            e->code = code_of(text);
        else if (text != NULL && strcmp(key, "message") == 0)
            snprintf(e->msg, sizeof e->msg, "%s", text);
        else if (text != NULL && strcmp(key, "op") == 0)
            snprintf(e->op, sizeof e->op, "%s", text);
        else if (text != NULL && strcmp(key, "origin") == 0)
            e->origin = strcmp(text, "guest") == 0  ? MSH_GUEST
                        : strcmp(text, "host") == 0 ? MSH_HOST
                                                    : MSH_SHIM;
        else if (strcmp(key, "hresult") == 0 && lua_isinteger(L, -1))
            e->hresult = (int32_t)lua_tointeger(L, -1);
    }
}

int msh_l_fail(lua_State *L, const msh_err *e)
{
    lua_pushnil(L);
    msh_l_push_err(L, e);
    return 2;
}

int msh_l_closed(lua_State *L, const char *what)
{
    msh_err e = {0};
    msh_fail(&e, MSH_GONE, "%s is closed", what);
    return msh_l_fail(L, &e);
}

int msh_l_result(lua_State *L, msh_code rc, const msh_err *e)
{
    if (rc != MSH_OK)
        return msh_l_fail(L, e);
    lua_pushboolean(L, 1);
    return 1;
}

/* ---- classes ---- */

void msh_l_class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction close)
{
    luaL_newmetatable(L, name);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_pushcfunction(L, close);
    lua_setfield(L, -2, "close");
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, close);
    lua_setfield(L, -2, "__close");
    lua_pushcfunction(L, close);
    lua_setfield(L, -2, "__gc");
    lua_pushboolean(L,
                    0); /* getmetatable answers false: nobody takes __gc away or calls it on something else */
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

void *msh_l_new(lua_State *L, size_t size, const char *name)
{
    void *u = lua_newuserdatauv(L, size, 0);
    memset(u, 0, size);
    luaL_setmetatable(L, name);
    return u;
}

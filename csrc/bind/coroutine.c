/* Coroutines of a script. They are its own business, with two differences to the library's: a request to the engine
 * passes through any number of them, and what a budget killed is never run again, not even to close its variables. */
#include "bind/sandbox.h"
#include <lualib.h>

#define CREATE_COST 100 /* a new coroutine starts a new count */
/* lua_resetthread does not count its C calls: each of them may be 200 calls deep again, which is half a megabyte of stack. */
#define CLOSE_NESTING 4

static bool outermost(lua_State *L)
{
    msh_script *s = msh_script_of(L);
    return s->running != NULL && s->running->co == L;
}

int msh_sandbox_request(lua_State *L)
{
    luaL_checkany(L, 1);
    const char *what = luaL_optstring(L, 2, "this call");
    if (!lua_isyieldable(L))
        return luaL_error(
            L,
            "%s waits for the engine, which is not possible inside a comparator, a gsub callback or a "
            "metamethod; call it from the hook itself",
            what);
    msh_script_of(L)->asking = true;
    lua_settop(L, 1);
    return lua_yield(L, 1);
}

static int l_yield(lua_State *L)
{
    if (outermost(L))
        return luaL_error(L, "attempt to yield from outside a coroutine");
    return lua_yield(L, lua_gettop(L));
}

static int l_create(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    msh_script_charge(L, CREATE_COST);
    lua_State *co = lua_newthread(L); /* with the hook of L */
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 1);
    return 1;
}

/* Stack: the coroutine, what goes into it. Leaves the coroutine and what came out, and returns the status; a request
 * on its way through yields instead and comes back by `k`. */
static int step(lua_State *L, lua_KFunction k)
{
    lua_State *co = lua_tothread(L, 1);
    msh_script *s = msh_script_of(L);
    int nargs = lua_gettop(L) - 1, nres = 0;
    if (co == L || msh_script_poisoned(co) || !lua_checkstack(co, nargs)) {
        lua_settop(L, 1);
        lua_pushstring(L, co == L ? "cannot resume non-suspended coroutine" : "cannot resume dead coroutine");
        return LUA_ERRRUN;
    }
    if (lua_status(co) == LUA_OK && lua_gettop(co) == 0) {
        lua_settop(L, 1);
        lua_pushliteral(L, "cannot resume dead coroutine");
        return LUA_ERRRUN;
    }
    lua_xmove(L, co, nargs);
    int rc = lua_resume(co, L, nargs, &nres);
    if (rc == LUA_YIELD && s->asking) {
        if (!lua_isyieldable(L)) {
            s->asking = false;
            luaL_error(L,
                       "a coroutine waits for the engine, which is not possible inside a comparator, a gsub "
                       "callback or a metamethod");
        }
        lua_xmove(co, L, 1);
        lua_yieldk(L, 1, 0, k); /* does not come back */
    }
    if (rc != LUA_OK && rc != LUA_YIELD) {
        lua_xmove(co, L, 1);
        return rc;
    }
    luaL_checkstack(L, nres + 1, "results of a coroutine");
    lua_xmove(co, L, nres);
    return rc;
}

static int resume_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    int rc = step(L, resume_k);
    lua_pushboolean(L, rc == LUA_OK || rc == LUA_YIELD);
    lua_replace(L, 1);
    return lua_gettop(L);
}

static int l_resume(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTHREAD);
    msh_script_charge(L, 1);
    return resume_k(L, LUA_OK, 0);
}

/* Runs the __close of what is pending in `co`. Its error value, if any, is on top of co. */
static int shut(lua_State *L, lua_State *co)
{
    msh_script *s = msh_script_of(L);
    if (s->closing >= CLOSE_NESTING)
        return luaL_error(L, "coroutines are closed too deep inside each other");
    s->closing++;
    int rc = lua_resetthread(co);
    s->closing--;
    return rc;
}

static int wrap_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    lua_State *co = lua_tothread(L, 1);
    int rc = step(L, wrap_k);
    if (rc == LUA_OK || rc == LUA_YIELD)
        return lua_gettop(L) - 1;
    int st = lua_status(co);
    if (st != LUA_OK && st != LUA_YIELD && !msh_script_poisoned(co)) { /* it died just now */
        rc = shut(L, co); /* its __close may put another error in the place of this one */
        lua_pop(L, 1);
        lua_xmove(co, L, 1);
    }
    if (rc != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

static int l_wrapped(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    msh_script_charge(L, 1);
    return wrap_k(L, LUA_OK, 0);
}

static int l_wrap(lua_State *L)
{
    l_create(L);
    lua_pushcclosure(L, l_wrapped, 1);
    return 1;
}

static int l_close(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTHREAD);
    msh_script_charge(L, 1);
    lua_State *co = lua_tothread(L, 1);
    if (msh_script_poisoned(co)) {
        lua_pushboolean(L, 0);
        lua_pushliteral(L, "the budget of the script was used up");
        return 2;
    }
    lua_Debug ar;
    int st = lua_status(co);
    if (co == L || (st == LUA_OK && lua_getstack(co, 0, &ar)))
        return luaL_error(L, "cannot close a running coroutine");
    if (shut(L, co) == LUA_OK) {
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_pushboolean(L, 0);
    lua_xmove(co, L, 1);
    return 2;
}

void msh_sandbox_coroutines(lua_State *S)
{
    static const luaL_Reg functions[] = {{"close", l_close}, {"create", l_create}, {"resume", l_resume},
                                         {"wrap", l_wrap},   {"yield", l_yield},   {NULL, NULL}};
    luaL_newlib(S, functions);
    lua_pushcfunction(S, luaopen_coroutine);
    lua_call(S, 0, 1);
    lua_getfield(S, -1, "status");
    lua_setfield(S, -3, "status");
    lua_getfield(S, -1, "isyieldable");
    lua_setfield(S, -3, "isyieldable");
    lua_pop(S, 1);
}

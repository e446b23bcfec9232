/* What runs inside the state of a script, protected there: finding functions, taking arguments in, looking at results.
 * And the border itself: how the engine gets in without being jumped over. */
#include "bind/copy.h"
#include "bind/sandbox.h"
#include <stdio.h>
#include <string.h>

/* Addresses that name our tables in the registry of the script's state. */
static const char calls_key;                /* slot -> coroutine or false */
static const char functions_key;            /* id -> function */
static const char ids_key;                  /* function -> id */
const char *const msh_script_prelude = "p"; /* {n=, values...} that the prelude returned */
const char *const msh_script_result = "r";  /* likewise the script */

/* ---- inside the script's state ---- */

lua_Integer msh_script_known_function(msh_copy *c, int idx)
{
    lua_State *S = c->from;
    if (!lua_checkstack(S, 4))
        return 0;
    lua_rawgetp(S, LUA_REGISTRYINDEX, &ids_key);
    lua_pushvalue(S, idx);
    lua_rawget(S, -2);
    lua_Integer id = lua_tointeger(S, -1);
    lua_pop(S, 2);
    return id;
}

/* Runs protected in S: gives the function a number that the engine can call it by. */
static lua_Integer remember_function(msh_copy *c, int idx)
{
    lua_State *S = c->from;
    lua_Integer id = msh_script_known_function(c, idx);
    if (id != 0)
        return id;
    msh_script *s = msh_script_of(S);
    if (s->functions >= MSH_SCRIPT_FUNCTIONS)
        luaL_error(S, "the engine already knows %d functions of this script", s->functions);
    luaL_checkstack(S, 6, "functions");
    id = s->last_function + 1;
    lua_rawgetp(S, LUA_REGISTRYINDEX, &functions_key);
    lua_pushvalue(S, idx);
    lua_rawseti(S, -2, id);
    lua_rawgetp(S, LUA_REGISTRYINDEX, &ids_key);
    lua_pushvalue(S, idx);
    lua_pushinteger(S, id);
    lua_rawset(S, -3);
    lua_pop(S, 2);
    s->last_function = id;
    s->functions++;
    return id;
}

/* verbs.result() -> what the script returned, all of it; nothing before it has run */
static int verb_result(lua_State *S)
{
    if (lua_rawgetp(S, LUA_REGISTRYINDEX, msh_script_result) != LUA_TTABLE)
        return 0;
    lua_getfield(S, -1, "n");
    int n = (int)lua_tointeger(S, -1);
    luaL_checkstack(S, n, "results");
    for (int i = 1; i <= n; i++)
        lua_rawgeti(S, -1 - i, i);
    return n;
}

int msh_script_setup(lua_State *S)
{
    msh_sandbox_open(S);
    lua_createtable(S, MSH_SCRIPT_CALLS, 0);
    for (int i = 1; i <= MSH_SCRIPT_CALLS; i++) {
        lua_pushboolean(S, 0);
        lua_rawseti(S, -2, i);
    }
    lua_rawsetp(S, LUA_REGISTRYINDEX, &calls_key);
    lua_newtable(S);
    lua_rawsetp(S, LUA_REGISTRYINDEX, &functions_key);
    lua_newtable(S);
    lua_rawsetp(S, LUA_REGISTRYINDEX, &ids_key);
    return 0;
}

/* Pushes the function of that name of the first value kept under `key`; false (and nothing pushed) without one. */
static bool find_in(lua_State *S, const void *key, const char *name)
{
    int top = lua_gettop(S);
    if (lua_rawgetp(S, LUA_REGISTRYINDEX, key) == LUA_TTABLE && lua_rawgeti(S, -1, 1) == LUA_TTABLE) {
        lua_pushstring(S, name);
        if (lua_rawget(S, -2) == LUA_TFUNCTION) {
            lua_replace(S, top + 1);
            lua_settop(S, top + 1);
            return true;
        }
    }
    lua_settop(S, top);
    return false;
}

static bool find_function(lua_State *S, const msh_preparation *p)
{
    if (p->chunk != NULL) {
        if (luaL_loadbufferx(S, p->chunk, p->chunk_n, p->chunkname, "t") == LUA_OK)
            return true;
        msh_fail(p->err, MSH_INVALID_ARGUMENT, "%s", lua_tostring(S, -1));
        return false;
    }
    if (p->name != NULL) {
        if (find_in(S, msh_script_prelude, p->name) || find_in(S, msh_script_result, p->name))
            return true;
        if (strcmp(p->name, "main") == 0) { /* the file itself, which has run: its results */
            lua_pushcfunction(S, verb_result);
            return true;
        }
        msh_fail(p->err, MSH_NOT_FOUND, "the script has no function '%s'", p->name);
        return false;
    }
    lua_rawgetp(S, LUA_REGISTRYINDEX, &functions_key);
    if (lua_rawgeti(S, -1, p->id) == LUA_TFUNCTION) {
        lua_remove(S, -2);
        return true;
    }
    msh_fail(p->err, MSH_NOT_FOUND, "the script has no function number %lld", (long long)p->id);
    return false;
}

/* Protected: pushes copies of the arguments, or fills the error. */
static bool push_arguments(lua_State *S, msh_preparation *p)
{
    luaL_checkstack(S, p->last - p->first + 8, "arguments");
    msh_copy c = {.from = p->from, .to = S};
    for (int i = p->first; i <= p->last; i++) {
        if (!msh_copy_value(&c, i)) {
            char what[32];
            snprintf(what, sizeof what, "argument %d", i - p->first + 1);
            msh_copy_refusal(&c, what, p->err);
            return false;
        }
        p->nargs++;
    }
    return true;
}

static int push_verbs(lua_State *S)
{
    static const luaL_Reg verbs[] = {{"request", msh_sandbox_request}, {"result", verb_result}, {NULL, NULL}};
    luaL_newlib(S, verbs);
    return 1;
}

int msh_script_prepare_call(lua_State *S)
{
    msh_preparation *p = lua_touserdata(S, 1);
    lua_State *co = lua_newthread(S);
    lua_rawgetp(S, LUA_REGISTRYINDEX, &calls_key);
    lua_pushvalue(S, 2);
    lua_rawseti(S, -2, 1 + (p->call - p->s->calls));
    lua_settop(S, 2);
    if (!find_function(S, p))
        return 0;
    if (p->verbs)
        p->nargs = push_verbs(S);
    else if (p->from != NULL && !push_arguments(S, p))
        return 0;
    luaL_checkstack(co, p->nargs + 1, "arguments");
    lua_xmove(S, co, p->nargs + 1);
    p->call->co = co;
    return 0;
}

int msh_script_prepare_answer(lua_State *S)
{
    msh_preparation *p = lua_touserdata(S, 1);
    if (!push_arguments(S, p))
        return 0;
    luaL_checkstack(p->call->co, p->nargs, "arguments");
    lua_xmove(S, p->call->co, p->nargs);
    return 0;
}

/* Protected: may the values 2.. cross? Gives numbers to the functions in them. */
int msh_script_look_at_results(lua_State *S)
{
    msh_preparation *p = lua_touserdata(S, 1);
    msh_copy c = {.from = S, .function = remember_function};
    for (int i = 2; i <= lua_gettop(S); i++) {
        if (!msh_copy_value(&c, i)) {
            char what[32];
            snprintf(what, sizeof what, "%s %d", p->name, i - 1);
            msh_copy_refusal(&c, what, p->err);
            return 0;
        }
    }
    p->nargs = 1;
    return 0;
}

/* Protected: keeps the values 2.. under p->key. */
int msh_script_keep_results(lua_State *S)
{
    msh_preparation *p = lua_touserdata(S, 1);
    int n = lua_gettop(S) - 1;
    lua_createtable(S, n, 1);
    lua_pushinteger(S, n);
    lua_setfield(S, -2, "n");
    lua_insert(S, 2);
    for (int i = n; i >= 1; i--)
        lua_rawseti(S, 2, i);
    lua_rawsetp(S, LUA_REGISTRYINDEX, p->key);
    return 0;
}

/* ---- the border; nothing here jumps in the script's state ---- */

msh_code msh_script_protected(msh_script *s, lua_CFunction f, msh_preparation *p, int nvalues)
{
    lua_State *S = s->S;
    int at = lua_gettop(S) - nvalues;
    int from_top = p->from != NULL ? lua_gettop(p->from) : 0;
    p->err->code = MSH_OK;
    if (!lua_checkstack(S, 4)) {
        lua_settop(S, at);
        return msh_fail(p->err, MSH_RESOURCE_EXHAUSTED, "the script's memory limit (%zu bytes) is reached",
                        s->cap);
    }
    lua_pushcfunction(S, f);
    lua_insert(S, at + 1);
    lua_pushlightuserdata(S, p);
    lua_insert(S, at + 2);
    int rc = lua_pcall(S, nvalues + 1, 0, 0);
    if (p->from != NULL)
        lua_settop(p->from, from_top);
    if (rc == LUA_ERRMEM)
        msh_fail(p->err, MSH_RESOURCE_EXHAUSTED, "the script's memory limit (%zu bytes) is reached", s->cap);
    else if (rc != LUA_OK)
        msh_fail(p->err, MSH_RESOURCE_EXHAUSTED, "%s",
                 lua_type(S, -1) == LUA_TSTRING ? lua_tostring(S, -1) : "the script's state is full");
    lua_settop(S, at);
    return p->err->code;
}

msh_script_call *msh_script_free_call(msh_script *s)
{
    for (int i = 0; i < MSH_SCRIPT_CALLS; i++)
        if (s->calls[i].co == NULL)
            return &s->calls[i];
    return NULL;
}

void msh_script_end(msh_script *s, msh_script_call *c)
{
    c->co = NULL;
    if (!lua_checkstack(s->S, 4))
        return; /* then the next user of the slot lets go of it */
    lua_rawgetp(s->S, LUA_REGISTRYINDEX, &calls_key);
    lua_pushboolean(s->S, 0);
    lua_rawseti(s->S, -2, 1 + (c - s->calls)); /* the slot exists, so nothing is allocated */
    lua_pop(s->S, 1);
}

void msh_script_forget(msh_script *s, lua_Integer id)
{
    lua_State *S = s->S;
    lua_settop(S, 0);
    if (!lua_checkstack(S, 6))
        return;
    lua_rawgetp(S, LUA_REGISTRYINDEX, &ids_key);
    lua_rawgetp(S, LUA_REGISTRYINDEX, &functions_key);
    if (lua_rawgeti(S, 2, id) == LUA_TFUNCTION) {
        lua_pushnil(S); /* both keys exist, so nothing is allocated */
        lua_rawset(S, 1);
        lua_pushnil(S);
        lua_rawseti(S, 2, id);
        s->functions--;
    }
    lua_settop(S, 0);
}

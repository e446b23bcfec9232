/* The globals of a script: chosen by name, so that what a later Lua adds stays out. */
#include "bind/sandbox.h"
#include <lualib.h>
#include <math.h>
#include <string.h>

static const char *const base_names[] = {
    "assert", "error",  "getmetatable", "ipairs",   "next",     "pairs", "pcall",    "rawequal", "rawget",
    "rawlen", "rawset", "select",       "tonumber", "tostring", "type",  "_VERSION", NULL};
static const char *const string_names[] = {"byte",  "char",     "format",  "len", "lower",  "pack",
                                           "upper", "packsize", "reverse", "sub", "unpack", NULL};
static const char *const table_names[] = {"pack", NULL};
static const char *const math_names[] = {
    "abs",        "acos", "asin", "atan",       "ceil",      "cos",        "deg",  "exp", "floor", "fmod",
    "huge",       "log",  "max",  "maxinteger", "min",       "mininteger", "modf", "pi",  "rad",   "random",
    "randomseed", "sin",  "sqrt", "tan",        "tointeger", "type",       "ult",  NULL};
static const char *const utf8_names[] = {"char", "charpattern", "codepoint", "codes", "len", "offset", NULL};

static void choose(lua_State *S, int from, const char *const *names)
{
    for (; *names != NULL; names++) {
        lua_getfield(S, from, *names);
        lua_setfield(S, -2, *names);
    }
}

/* setmetatable without __gc: a finalizer runs with hooks off, so no budget could stop it. */
static int l_setmetatable(lua_State *L)
{
    if (lua_istable(L, 2)) {
        lua_pushliteral(L, "__gc");
        if (lua_rawget(L, 2) != LUA_TNIL)
            return luaL_error(L, "setmetatable: __gc is not available to scripts");
        lua_pop(L, 1);
    }
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

/* The handler of an xpcall would run with hooks off when it is the budget that raised; then the error passes by. */
int msh_sandbox_handler(lua_State *L)
{
    msh_script *s = msh_script_of(L);
    if (s->running != NULL && s->running->over != MSH_OVER_NOT)
        return 1;
    lua_settop(L, 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, 1, 1);
    return 1;
}

static int after_xpcall(lua_State *L, int status, lua_KContext k)
{
    (void)status;
    (void)k;
    return lua_gettop(L);
}

static int l_xpcall(lua_State *L)
{
    luaL_checkany(L, 1);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_pushvalue(L, 2);
    lua_pushcclosure(L, msh_sandbox_handler, 1);
    lua_replace(L, 2);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_callk(L, lua_gettop(L) - 1, LUA_MULTRET, 0, after_xpcall);
    return lua_gettop(L);
}

static void open_library(lua_State *S, int globals, const char *name, lua_CFunction open,
                         const char *const *names)
{
    lua_pushcfunction(S, open);
    lua_call(S, 0, 1);
    lua_newtable(S);
    choose(S, lua_gettop(S) - 1, names);
    lua_pushvalue(S, -2); /* the whole library, for msh_sandbox_bound to take from */
    lua_insert(S, -2);
    msh_sandbox_bound(S, name);
    lua_setfield(S, globals, name);
    lua_settop(S, globals);
}

int msh_sandbox_open(lua_State *S)
{
    lua_settop(S, 0);
    lua_newtable(S);

    lua_pushcfunction(S, luaopen_base);
    lua_call(S, 0, 1);
    lua_pushvalue(S, 1);
    choose(S, 2, base_names);
    lua_getfield(S, 2, "setmetatable");
    lua_pushcclosure(S, l_setmetatable, 1);
    lua_setfield(S, 1, "setmetatable");
    lua_getfield(S, 2, "xpcall");
    lua_pushcclosure(S, l_xpcall, 1);
    lua_setfield(S, 1, "xpcall");
    lua_settop(S, 1);

    open_library(S, 1, "string", luaopen_string, string_names);
    open_library(S, 1, "table", luaopen_table, table_names);
    open_library(S, 1, "math", luaopen_math, math_names);
    open_library(S, 1, "utf8", luaopen_utf8, utf8_names);
    msh_sandbox_coroutines(S);
    lua_setfield(S, 1, "coroutine");
    lua_pushvalue(S, 1);
    lua_setfield(S, 1, "_G");

    /* Strings find their methods in the chosen library; their metatable itself is out of reach. */
    lua_pushliteral(S, "");
    lua_getmetatable(S, -1);
    lua_getfield(S, 1, "string");
    lua_setfield(S, -2, "__index");
    lua_pushboolean(S, 0);
    lua_setfield(S, -2, "__metatable");
    lua_settop(S, 1);
    lua_rawseti(S, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS); /* the full ones go */
    return 0;
}

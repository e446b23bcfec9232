/* The state of the executable. Links luv and cjson, so nothing else may refer to this file. */
#include "bind/program.h"
#include "bind/module.h"
#include <lua-cjson.h>
#include <lualib.h>
#include <luv/luv.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define TEXT    "text:"
#define SCRIPTS "moonshim.scripts."

int luaopen_cjson_safe(lua_State *L); /* in the archive, not in its header */

/* ---- embedded Lua ---- */

static const msh_embedded *find(const msh_program *p, const char *name)
{
    unsigned low = 0, high = p->nembedded;
    while (low < high) {
        unsigned mid = low + (high - low) / 2;
        int c = strcmp(name, p->embedded[mid].name);
        if (c == 0)
            return &p->embedded[mid];
        if (c < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

static int search_embedded(lua_State *L)
{
    const msh_program *p = lua_touserdata(L, lua_upvalueindex(1));
    const char *name = luaL_checkstring(L, 1);
    const msh_embedded *m = strncmp(name, TEXT, strlen(TEXT)) != 0 ? find(p, name) : NULL;
    if (m == NULL) {
        lua_pushfstring(L, "no embedded module '%s'", name);
        return 1;
    }
    const char *chunkname = lua_pushfstring(L, "=%s", name);
    if (luaL_loadbufferx(L, (const char *)m->data, m->size, chunkname, "b") != LUA_OK)
        return lua_error(L);
    lua_pushliteral(L, ":embedded:");
    return 2;
}

/* moonshim.scripts: name -> text of a default policy, for those who want to read or copy it */
static int open_texts(lua_State *L)
{
    const msh_program *p = lua_touserdata(L, lua_upvalueindex(1));
    lua_newtable(L);
    for (unsigned i = 0; i < p->nembedded; i++) {
        const msh_embedded *m = &p->embedded[i];
        if (strncmp(m->name, TEXT, strlen(TEXT)) != 0)
            continue;
        lua_pushlstring(L, (const char *)m->data, m->size);
        lua_setfield(L, -2, m->name + strlen(TEXT));
    }
    return 1;
}

/* Puts the function on top into package.searchers at `at` (0: at the end). */
static void add_searcher(lua_State *L, lua_Integer at)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchers");
    lua_Integer n = (lua_Integer)lua_rawlen(L, -1);
    if (at == 0)
        at = n + 1;
    for (lua_Integer i = n; i >= at; i--) {
        lua_rawgeti(L, -1, i);
        lua_rawseti(L, -2, i + 1);
    }
    lua_pushvalue(L, -3);
    lua_rawseti(L, -2, at);
    lua_pop(L, 3);
}

/* ---- a source tree instead ---- */

/* The default policies of a source tree lie beside its lua/, under scripts/policy. */
static int search_policy(lua_State *L)
{
    const msh_program *p = lua_touserdata(L, lua_upvalueindex(1));
    const char *name = luaL_checkstring(L, 1);
    if (strncmp(name, SCRIPTS, strlen(SCRIPTS)) != 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    const char *path = lua_pushfstring(L, "%s/../scripts/policy/%s.lua", p->tree, name + strlen(SCRIPTS));
    if (luaL_loadfilex(L, path, "t") == LUA_OK) {
        lua_pushstring(L, path);
        return 2;
    }
    return 1; /* why not, for the message of require */
}

static void use_tree(lua_State *L, const char *tree)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "path");
    lua_pushfstring(L, "%s/?.lua;%s/?/init.lua;%s", tree, tree, lua_tostring(L, -1));
    lua_setfield(L, -3, "path");
    lua_pop(L, 2);
}

/* ---- the state ---- */

static void preload(lua_State *L, const char *name, lua_CFunction open)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, open);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

static void find_modules(lua_State *L, const msh_program *p)
{
    preload(L, "luv", luaopen_luv);
    preload(L, "cjson", luaopen_cjson);
    preload(L, "cjson.safe", luaopen_cjson_safe);
    preload(L, "moonshim.core", luaopen_moonshim_core);

    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushlightuserdata(L, (void *)p);
    lua_pushcclosure(L, open_texts, 1);
    lua_setfield(L, -2, "moonshim.scripts");
    lua_pop(L, 1);

    if (p->tree != NULL) {
        use_tree(L, p->tree);
        lua_pushlightuserdata(L, (void *)p);
        lua_pushcclosure(L, search_policy, 1);
        add_searcher(L, 0);
    }
    lua_pushlightuserdata(L, (void *)p);
    lua_pushcclosure(L, search_embedded, 1);
    add_searcher(L, p->tree == NULL ? 2 : 0); /* 1 is package.preload */
}

static int run(lua_State *L)
{
    const msh_program *p = lua_touserdata(L, 1);
    luaL_openlibs(L);
    luv_set_callback(L, msh_l_luv_pcall); /* before luv is opened; its own would exit the process */
    find_modules(L, p);

    lua_createtable(L, p->argc > 0 ? p->argc - 1 : 0, 1);
    for (int i = 0; i < p->argc; i++) {
        lua_pushstring(L, p->argv[i]);
        lua_rawseti(L, -2, i);
    }
    lua_pushvalue(L, -1);
    lua_setglobal(L, "arg");
    int arg = lua_gettop(L);

    lua_getglobal(L, "require");
    lua_pushstring(L, p->module);
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "main");
    lua_pushvalue(L, arg);
    lua_call(L, 1, 1);
    if (!lua_isinteger(L, -1))
        return luaL_error(L, "main returned %s, not an exit status", luaL_typename(L, -1));
    return 1;
}

static void complain(lua_State *L)
{
    msh_err e;
    msh_l_to_err(L, -1, &e); /* an error value, or a text */
    const char *text =
        lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : e.msg; /* a traceback is longer */
    fprintf(stderr, "moonshim: %s\n", text);
}

/* ---- the end ---- */

#define TURNS 1000 /* of the loop; what is closing is gone after one or two */

static int drop_call(lua_State *L, int nargs, int nresults, int flags)
{
    (void)nresults;
    (void)flags;
    lua_pop(L, nargs + 1);
    return 0;
}

static void note_closing(uv_handle_t *h, void *found)
{
    *(bool *)found |= uv_is_closing(h) != 0;
}

static bool any_closing(uv_loop_t *loop)
{
    bool found = false;
    uv_walk(loop, note_closing, &found);
    return found;
}

/* No Lua runs any more, and what Lua has closed goes from the loop: luv gives such a handle's memory back in a callback that
 * needs the state whole. The argument is a bool, which becomes true when the state can be closed. */
static int settle(lua_State *L)
{
    bool *settled = lua_touserdata(L, 1);
    msh_l_cx *cx = msh_l_cx_of(L);
    uv_loop_t *loop = luv_loop(L); /* NULL: luv was never asked for */
    luv_set_callback(L, drop_call);
    if (cx != NULL)
        cx->main = NULL;
    for (int i = 0; i < TURNS && loop != NULL && any_closing(loop); i++)
        uv_run(loop, UV_RUN_NOWAIT);
    *settled = loop == NULL || !any_closing(loop);
    return 0;
}

int msh_program_run(const msh_program *p)
{
    int status = p->failed;
    lua_State *L = luaL_newstate();
    if (L == NULL) {
        fprintf(stderr, "moonshim: not enough memory\n");
        return status;
    }
    lua_pushcfunction(L, msh_l_traceback);
    lua_pushcfunction(L, run);
    lua_pushlightuserdata(L, (void *)p);
    if (lua_pcall(L, 1, 1, 1) == LUA_OK)
        status = (int)lua_tointeger(L, -1);
    else
        complain(L);
    lua_settop(L, 0);
    bool settled = false;
    lua_pushcfunction(L, settle);
    lua_pushlightuserdata(L, &settled);
    if (lua_pcall(L, 1, 0, 0) == LUA_OK && settled)
        lua_close(L); /* otherwise the end of the process takes back what it holds */
    return status;
}

/* The executable: Lua, luv, cjson and our own Lua in one file. argv[0] chooses what it is.
 *
 * MOONSHIM_LUA=<dir> takes our Lua from that folder of a source tree instead, for development. */
#include "bind/module.h"
#include "shim/embedded.h"
#include <lua-cjson.h>
#include <lualib.h>
#include <luv/luv.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int luaopen_cjson_safe(lua_State *L); /* in the archive, not in its header */

#define FAILED 125 /* our own failure, as against the container's */

static const struct {
    const char *name; /* of the program, without its folder; the first row is the default */
    const char *module;
} faces[] = {
    {"moonshim", "moonshim.cli"},
};

static const char *face_of(const char *argv0)
{
    const char *slash = strrchr(argv0, '/');
    const char *name = slash != NULL ? slash + 1 : argv0;
    for (size_t i = 0; i < sizeof faces / sizeof *faces; i++)
        if (strcmp(faces[i].name, name) == 0)
            return faces[i].module;
    return faces[0].module;
}

static void preload(lua_State *L, const char *name, lua_CFunction open)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, open);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

#define SCRIPTS "moonshim.scripts."

/* The default policies of a source tree lie beside its lua/, under scripts/policy. */
static int search_policy(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    if (strncmp(name, SCRIPTS, strlen(SCRIPTS)) != 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    const char *path = lua_pushfstring(L, "%s/../scripts/policy/%s.lua", lua_tostring(L, lua_upvalueindex(1)),
                                       name + strlen(SCRIPTS));
    if (luaL_loadfilex(L, path, "t") == LUA_OK) {
        lua_pushstring(L, path);
        return 2;
    }
    return 1; /* why not, for the message of require */
}

/* Modules of a source tree: its lua/ in front, and its default policies. */
static void use_tree(lua_State *L, const char *dir)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "path");
    lua_pushfstring(L, "%s/?.lua;%s/?/init.lua;%s", dir, dir, lua_tostring(L, -1));
    lua_setfield(L, -3, "path");
    lua_pop(L, 1);
    lua_getfield(L, -1, "searchers");
    lua_pushstring(L, dir);
    lua_pushcclosure(L, search_policy, 1);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    lua_pop(L, 2);
}

static int start(lua_State *L)
{
    int argc = (int)lua_tointeger(L, 1);
    char **argv = lua_touserdata(L, 2);
    luaL_openlibs(L);
    preload(L, "luv", luaopen_luv);
    preload(L, "cjson", luaopen_cjson);
    preload(L, "cjson.safe", luaopen_cjson_safe);
    preload(L, "moonshim.core", luaopen_moonshim_core);
    luv_set_callback(L, msh_l_luv_pcall); /* before luv is opened; its own would exit the process */

    const char *tree = getenv("MOONSHIM_LUA");
    if (tree != NULL && tree[0] != '\0')
        use_tree(L, tree);
    msh_embedded_install(L, tree == NULL || tree[0] == '\0');

    lua_createtable(L, argc > 0 ? argc - 1 : 0, 1);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i);
    }
    lua_pushvalue(L, -1);
    lua_setglobal(L, "arg");

    lua_getglobal(L, "require");
    lua_pushstring(L, face_of(argc > 0 ? argv[0] : ""));
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "main");
    lua_pushvalue(L, -3);
    lua_call(L, 1, 1);
    if (!lua_isinteger(L, -1))
        return luaL_error(L, "main returned %s, not an exit status", luaL_typename(L, -1));
    return 1;
}

static void complain(lua_State *L)
{
    const char *text = lua_tostring(L, -1);
    if (text == NULL && lua_istable(L, -1) && lua_checkstack(L, 4)) { /* an error value */
        lua_getfield(L, -1, "message");
        text = lua_tostring(L, -1);
    }
    fprintf(stderr, "moonshim: %s\n", text != NULL ? text : "failed without a message");
}

int main(int argc, char **argv)
{
    int status = FAILED;
    signal(SIGPIPE, SIG_IGN); /* a closed reader is an error value, not the end of the process */
    lua_State *L = luaL_newstate();
    if (L == NULL) {
        fprintf(stderr, "moonshim: not enough memory\n");
        return FAILED;
    }
    lua_pushcfunction(L, msh_l_traceback);
    lua_pushcfunction(L, start);
    lua_pushinteger(L, argc);
    lua_pushlightuserdata(L, argv);
    if (lua_pcall(L, 2, 1, 1) == LUA_OK)
        status = (int)lua_tointeger(L, -1);
    else
        complain(L);
    lua_close(L);
    return status;
}

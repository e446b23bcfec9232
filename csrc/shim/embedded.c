#include "shim/embedded.h"
#include <lauxlib.h>
#include <string.h>

#define TEXT "text:"

const msh_embedded *msh_embedded_find(const char *name)
{
    unsigned low = 0, high = msh_embedded_count;
    while (low < high) {
        unsigned mid = low + (high - low) / 2;
        int c = strcmp(name, msh_embedded_modules[mid].name);
        if (c == 0)
            return &msh_embedded_modules[mid];
        if (c < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

static int search(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    const msh_embedded *m = strncmp(name, TEXT, strlen(TEXT)) != 0 ? msh_embedded_find(name) : NULL;
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
    lua_newtable(L);
    for (unsigned i = 0; i < msh_embedded_count; i++) {
        const msh_embedded *m = &msh_embedded_modules[i];
        if (strncmp(m->name, TEXT, strlen(TEXT)) != 0)
            continue;
        lua_pushlstring(L, (const char *)m->data, m->size);
        lua_setfield(L, -2, m->name + strlen(TEXT));
    }
    return 1;
}

void msh_embedded_install(lua_State *L, bool first)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    lua_pushcfunction(L, open_texts);
    lua_setfield(L, -2, "moonshim.scripts");
    lua_pop(L, 1);

    lua_getfield(L, -1, "searchers");
    lua_Integer n = (lua_Integer)lua_rawlen(L, -1), at = first ? 2 : n + 1;
    for (lua_Integer i = n; i >= at; i--) {
        lua_rawgeti(L, -1, i);
        lua_rawseti(L, -2, i + 1);
    }
    lua_pushcfunction(L, search);
    lua_rawseti(L, -2, at);
    lua_pop(L, 2);
}

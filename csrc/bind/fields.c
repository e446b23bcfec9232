#include "bind/fields.h"
#include <string.h>

static int bad_field(lua_State *L, int t, const char *key, const char *expected)
{
    return luaL_argerror(
        L, t, lua_pushfstring(L, "field '%s': %s expected, got %s", key, expected, luaL_typename(L, -1)));
}

const char *msh_l_bytes(lua_State *L, int t, const char *key, bool required, size_t *n)
{
    int type = lua_getfield(L, t, key);
    if (type == LUA_TNIL && !required)
        return NULL;
    if (type != LUA_TSTRING)
        bad_field(L, t, key, "string");
    return lua_tolstring(L, -1, n);
}

const char *msh_l_str(lua_State *L, int t, const char *key, bool required)
{
    size_t n;
    const char *s = msh_l_bytes(L, t, key, required, &n);
    if (s != NULL && strlen(s) != n)
        luaL_argerror(L, t, lua_pushfstring(L, "field '%s': contains a NUL byte", key));
    return s;
}

static bool get_int(lua_State *L, int t, const char *key, lua_Integer min, lua_Integer max, lua_Integer *out)
{
    int type = lua_getfield(L, t, key);
    if (type == LUA_TNIL) {
        lua_pop(L, 1);
        return false;
    }
    int isint = 0;
    lua_Integer v = type == LUA_TNUMBER ? lua_tointegerx(L, -1, &isint) : 0;
    if (!isint)
        bad_field(L, t, key, "integer");
    lua_pop(L, 1);
    if (v < min || v > max)
        luaL_argerror(L, t, lua_pushfstring(L, "field '%s': %I is not in %I..%I", key, v, min, max));
    *out = v;
    return true;
}

lua_Integer msh_l_int(lua_State *L, int t, const char *key, lua_Integer min, lua_Integer max,
                      lua_Integer otherwise)
{
    lua_Integer v = otherwise;
    get_int(L, t, key, min, max, &v);
    return v;
}

lua_Integer msh_l_int_needed(lua_State *L, int t, const char *key, lua_Integer min, lua_Integer max)
{
    lua_Integer v = 0;
    if (!get_int(L, t, key, min, max, &v))
        luaL_argerror(L, t, lua_pushfstring(L, "field '%s': integer expected, got nil", key));
    return v;
}

bool msh_l_bool(lua_State *L, int t, const char *key, bool otherwise)
{
    int type = lua_getfield(L, t, key);
    if (type != LUA_TNIL && type != LUA_TBOOLEAN)
        bad_field(L, t, key, "boolean");
    bool v = type == LUA_TNIL ? otherwise : lua_toboolean(L, -1);
    lua_pop(L, 1);
    return v;
}

const char *msh_l_check_path(lua_State *L, int idx)
{
    size_t n;
    const char *s = luaL_checklstring(L, idx, &n);
    if (strlen(s) != n)
        luaL_argerror(L, idx, "contains a NUL byte");
    return s;
}

lua_Integer msh_l_check_int(lua_State *L, int idx, lua_Integer min, lua_Integer max)
{
    luaL_checktype(L, idx, LUA_TNUMBER);
    lua_Integer v = luaL_checkinteger(L, idx);
    if (v < min || v > max)
        luaL_argerror(L, idx, lua_pushfstring(L, "%I is not in %I..%I", v, min, max));
    return v;
}

void msh_l_set_int(lua_State *L, const char *key, lua_Integer v)
{
    lua_pushinteger(L, v);
    lua_setfield(L, -2, key);
}

void msh_l_set_bool(lua_State *L, const char *key, bool v)
{
    lua_pushboolean(L, v);
    lua_setfield(L, -2, key);
}

void msh_l_set_text(lua_State *L, const char *key, const char *text)
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, key);
}

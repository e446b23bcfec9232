#include "bind/copy.h"
#include <math.h>

static bool refuse(msh_copy *c, msh_code code, const char *problem)
{
    c->code = code;
    c->problem = problem;
    return false;
}

static bool copy_key(msh_copy *c, int idx)
{
    if (lua_isinteger(c->from, idx)) {
        if (c->to != NULL)
            lua_pushinteger(c->to, lua_tointeger(c->from, idx));
        return true;
    }
    if (lua_type(c->from, idx) != LUA_TSTRING)
        return refuse(c, MSH_INVALID_ARGUMENT, "has a key that is neither a string nor an integer");
    size_t n;
    const char *s = lua_tolstring(c->from, idx, &n);
    c->bytes += n;
    if (c->bytes > MSH_COPY_BYTES)
        return refuse(c, MSH_RESOURCE_EXHAUSTED, "is too much text");
    if (c->to != NULL)
        lua_pushlstring(c->to, s, n);
    return true;
}

static void name_key(msh_copy *c, int idx)
{
    if (lua_isinteger(c->from, idx))
        msh_path_front_index(&c->path, lua_tointeger(c->from, idx));
    else if (lua_type(c->from, idx) == LUA_TSTRING)
        msh_path_front(&c->path, lua_tostring(c->from, idx));
}

static bool is_null(lua_State *L, int idx)
{
    return lua_type(L, idx) == LUA_TLIGHTUSERDATA && lua_touserdata(L, idx) == NULL;
}

static bool copy_table(msh_copy *c, int idx)
{
    const void *self = lua_topointer(c->from, idx);
    for (int i = 0; i < c->depth; i++)
        if (c->open[i] == self)
            return refuse(c, MSH_INVALID_ARGUMENT, "holds itself");
    if (c->depth == MSH_COPY_DEPTH)
        return refuse(c, MSH_RESOURCE_EXHAUSTED, "is nested too deep");
    if (!lua_checkstack(c->from, 4))
        return refuse(c, MSH_RESOURCE_EXHAUSTED, "needs more memory than there is");
    if (c->to != NULL) {
        luaL_checkstack(c->to, 4, "plain data");
        lua_newtable(
            c->to); /* no room beforehand: a few keys far apart make a length that nothing pays for */
    }
    c->open[c->depth++] = self;
    bool ok = true;
    for (lua_pushnil(c->from); ok && lua_next(c->from, idx) != 0; lua_pop(c->from, 1)) {
        int value = lua_gettop(c->from), key = value - 1;
        if (is_null(c->from, value))
            continue;
        ok = copy_key(c, key) && msh_copy_value(c, value);
        if (!ok) {
            name_key(c, key);
            lua_pop(c->from, 2);
            break;
        }
        if (c->to != NULL)
            lua_rawset(c->to, -3);
    }
    c->depth--;
    return ok;
}

static bool copy_function(msh_copy *c, int idx)
{
    lua_Integer id = c->function != NULL ? c->function(c, idx) : 0;
    if (id == 0)
        return refuse(c, MSH_INVALID_ARGUMENT, "is a function");
    if (c->to != NULL) {
        lua_createtable(c->to, 0, 1);
        lua_pushinteger(c->to, id);
        lua_setfield(c->to, -2, "function");
    }
    return true;
}

bool msh_copy_value(msh_copy *c, int idx)
{
    if (++c->values > MSH_COPY_VALUES)
        return refuse(c, MSH_RESOURCE_EXHAUSTED, "makes too many values");
    switch (lua_type(c->from, idx)) {
    case LUA_TNIL:
        if (c->to != NULL)
            lua_pushnil(c->to);
        return true;
    case LUA_TBOOLEAN:
        if (c->to != NULL)
            lua_pushboolean(c->to, lua_toboolean(c->from, idx));
        return true;
    case LUA_TNUMBER:
        if (lua_isinteger(c->from, idx)) {
            if (c->to != NULL)
                lua_pushinteger(c->to, lua_tointeger(c->from, idx));
            return true;
        }
        if (!isfinite(lua_tonumber(c->from, idx)))
            return refuse(c, MSH_INVALID_ARGUMENT, "is not a finite number");
        if (c->to != NULL)
            lua_pushnumber(c->to, lua_tonumber(c->from, idx));
        return true;
    case LUA_TSTRING:
        return copy_key(c, idx);
    case LUA_TTABLE:
        return copy_table(c, idx);
    case LUA_TFUNCTION:
        return copy_function(c, idx);
    case LUA_TLIGHTUSERDATA:
        if (!is_null(c->from, idx))
            return refuse(c, MSH_INVALID_ARGUMENT, "is a userdata");
        if (c->to != NULL)
            lua_pushnil(c->to);
        return true;
    case LUA_TTHREAD:
        return refuse(c, MSH_INVALID_ARGUMENT, "is a coroutine");
    default:
        return refuse(c, MSH_INVALID_ARGUMENT, "is a userdata");
    }
}

msh_code msh_copy_refusal(const msh_copy *c, const char *what, msh_err *err)
{
    const char *p = c->path.text;
    return msh_fail(err, c->code, "%s%s%s %s", what, p[0] != '\0' && p[0] != '[' ? "." : "", p, c->problem);
}

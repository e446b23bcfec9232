#include "bind/json.h"
#include "bind/call.h"
#include "bind/path.h"
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#define DOC   "moonshim.json"
#define EXACT 9007199254740992.0 /* 2^53: reals up to here hold every integer */

static const char array_key; /* names array_mt in the registry */

/* Owns what jansson made while Lua, which may jump, takes it over. */
typedef struct doc {
    json_t *value;
    char *text;
} doc;

static int doc_close(lua_State *L)
{
    doc *d = luaL_checkudata(L, 1, DOC);
    json_decref(d->value);
    free(d->text);
    d->value = NULL;
    d->text = NULL;
    return 0;
}

/* ---- text to Lua ---- */

/* Bounds depth and number of values before jansson builds anything: its values cost far more than their text.
 */
static msh_code look(const char *p, size_t n, msh_err *err)
{
    unsigned depth = 0, values = 1;
    bool string = false;
    for (size_t i = 0; i < n; i++) {
        char c = p[i];
        if (string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                string = false;
            continue;
        }
        if (c == '"')
            string = true;
        else if (c == '[' || c == '{')
            depth++, values++;
        else if ((c == ']' || c == '}') && depth > 0)
            depth--;
        else if (c == ',')
            values++;
        if (depth > MSH_JSON_DEPTH)
            return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "JSON nested deeper than %d at byte %zu",
                            MSH_JSON_DEPTH, i);
        if (values > MSH_JSON_VALUES)
            return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "JSON with more than %u values", MSH_JSON_VALUES);
    }
    return MSH_OK;
}

static void set_array_mt(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &array_key);
    lua_setmetatable(L, -2);
}

static void push_real(lua_State *L, double d)
{
    if (d == floor(d) && fabs(d) <= EXACT)
        lua_pushinteger(L, (lua_Integer)d);
    else
        lua_pushnumber(L, d);
}

/* Depth is bounded by look(), stack space is reserved by the caller. */
static void push_value(lua_State *L, json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT: {
        lua_createtable(L, 0, (int)json_object_size(v));
        for (void *it = json_object_iter(v); it != NULL; it = json_object_iter_next(v, it)) {
            lua_pushlstring(L, json_object_iter_key(it), json_object_iter_key_len(it));
            push_value(L, json_object_iter_value(it));
            lua_rawset(L, -3);
        }
        break;
    }
    case JSON_ARRAY: {
        size_t n = json_array_size(v);
        lua_createtable(L, (int)n, 0);
        for (size_t i = 0; i < n; i++) {
            push_value(L, json_array_get(v, i));
            lua_rawseti(L, -2, (lua_Integer)i + 1);
        }
        set_array_mt(L);
        break;
    }
    case JSON_STRING:
        lua_pushlstring(L, json_string_value(v), json_string_length(v));
        break;
    case JSON_INTEGER:
        lua_pushinteger(L, json_integer_value(v));
        break;
    case JSON_REAL:
        push_real(L, json_real_value(v));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        lua_pushboolean(L, json_typeof(v) == JSON_TRUE);
        break;
    default:
        lua_pushlightuserdata(L, NULL);
    }
}

/* core.json.decode(text) -> value | nil, err      [-0, +1..2, arg] */
static int l_decode(lua_State *L)
{
    size_t n;
    luaL_checktype(L, 1, LUA_TSTRING);
    const char *p = lua_tolstring(L, 1, &n);
    luaL_checkstack(L, 4 * MSH_JSON_DEPTH + 8, "JSON");

    msh_err err = {0};
    if (n > MSH_JSON_SIZE) {
        msh_fail(&err, MSH_RESOURCE_EXHAUSTED, "JSON of %zu bytes; the limit is %u", n, MSH_JSON_SIZE);
        return msh_l_fail(L, &err);
    }
    if (look(p, n, &err) != MSH_OK)
        return msh_l_fail(L, &err);

    doc *d = msh_l_new(L, sizeof *d, DOC);
    json_error_t why;
    d->value = json_loadb(p, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
    if (d->value == NULL) {
        msh_fail(&err, MSH_INVALID_ARGUMENT, "not JSON: %s (line %d, column %d, byte %d)", why.text, why.line,
                 why.column, why.position);
        return msh_l_fail(L, &err);
    }
    push_value(L, d->value);
    json_decref(d->value);
    d->value = NULL;
    return 1;
}

/* ---- Lua to text ---- */

typedef struct writing {
    lua_State *L;
    int mt; /* stack index of array_mt */
    msh_err *err;
    msh_path path;
    const char *problem;
    msh_code code;
    unsigned values;
    size_t bytes;
} writing;

static json_t *value_of(writing *w, int idx, int depth);

static json_t *refuse(writing *w, msh_code code, const char *problem)
{
    w->code = code;
    w->problem = problem;
    return NULL;
}

static json_t *string_of(writing *w, int idx)
{
    size_t n;
    const char *s = lua_tolstring(w->L, idx, &n);
    w->bytes += n;
    if (w->bytes > MSH_JSON_SIZE)
        return refuse(w, MSH_RESOURCE_EXHAUSTED, "is too much text");
    json_t *v = json_stringn(s, n);
    return v != NULL ? v : refuse(w, MSH_INVALID_ARGUMENT, "is not UTF-8");
}

static json_t *number_of(writing *w, int idx)
{
    if (lua_isinteger(w->L, idx))
        return json_integer(lua_tointeger(w->L, idx));
    double d = lua_tonumber(w->L, idx);
    if (!isfinite(d))
        return refuse(w, MSH_INVALID_ARGUMENT, "is not a finite number");
    if (d == floor(d) && fabs(d) <= EXACT)
        return json_integer((json_int_t)d);
    return json_real(d);
}

static json_t *array_of(writing *w, int idx, int depth)
{
    lua_State *L = w->L;
    lua_Integer n = (lua_Integer)lua_rawlen(L, idx), seen = 0;
    for (lua_pushnil(L); lua_next(L, idx) != 0; lua_pop(L, 1), seen++) {
        lua_Integer k = lua_isinteger(L, -2) ? lua_tointeger(L, -2) : 0;
        if (k < 1 || k > n) {
            lua_pop(L, 2);
            return refuse(w, MSH_INVALID_ARGUMENT, "mixes names with numbers, or is a list with holes");
        }
    }
    if (seen != n)
        return refuse(w, MSH_INVALID_ARGUMENT, "is a list with holes");
    json_t *a = json_array();
    for (lua_Integer i = 1; a != NULL && i <= n; i++) {
        lua_rawgeti(L, idx, i);
        json_t *v = value_of(w, lua_gettop(L), depth + 1);
        lua_pop(L, 1);
        if (v == NULL || json_array_append_new(a, v) != 0) {
            msh_path_front_index(&w->path, i);
            json_decref(a);
            return NULL;
        }
    }
    return a;
}

static json_t *object_of(writing *w, int idx, int depth)
{
    lua_State *L = w->L;
    json_t *o = json_object();
    for (lua_pushnil(L); o != NULL && lua_next(L, idx) != 0; lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING) {
            lua_pop(L, 2);
            json_decref(o);
            return refuse(w, MSH_INVALID_ARGUMENT, "mixes names with numbers, or is a list with holes");
        }
        size_t n;
        const char *key = lua_tolstring(L, -2, &n);
        json_t *v = NULL;
        w->bytes += n;
        if (memchr(key, '\0', n) != NULL)
            refuse(w, MSH_INVALID_ARGUMENT, "has a NUL byte in its name");
        else
            v = value_of(w, lua_gettop(L), depth + 1);
        if (v != NULL && json_object_setn_new(o, key, n, v) != 0)
            v = refuse(w, MSH_INVALID_ARGUMENT, "has a name that is not UTF-8");
        if (v == NULL) {
            msh_path_front(&w->path, key);
            lua_pop(L, 2);
            json_decref(o);
            return NULL;
        }
    }
    return o;
}

static json_t *table_of(writing *w, int idx, int depth)
{
    lua_State *L = w->L;
    if (depth >= MSH_JSON_DEPTH)
        return refuse(w, MSH_RESOURCE_EXHAUSTED, "is nested too deep (or holds itself)");
    bool array = false;
    if (lua_getmetatable(L, idx)) {
        array = lua_rawequal(L, -1, w->mt);
        lua_pop(L, 1);
    }
    if (!array) {
        lua_pushnil(L);
        if (lua_next(L, idx) != 0) {
            array = lua_type(L, -2) == LUA_TNUMBER;
            lua_pop(L, 2);
        }
    }
    return array ? array_of(w, idx, depth) : object_of(w, idx, depth);
}

static json_t *value_of(writing *w, int idx, int depth)
{
    if (++w->values > MSH_JSON_VALUES)
        return refuse(w, MSH_RESOURCE_EXHAUSTED, "makes too many values");
    switch (lua_type(w->L, idx)) {
    case LUA_TBOOLEAN:
        return json_boolean(lua_toboolean(w->L, idx));
    case LUA_TNUMBER:
        return number_of(w, idx);
    case LUA_TSTRING:
        return string_of(w, idx);
    case LUA_TTABLE:
        return table_of(w, idx, depth);
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(w->L, idx) == NULL)
            return json_null();
        return refuse(w, MSH_INVALID_ARGUMENT, "is a userdata");
    case LUA_TNIL:
        return refuse(w, MSH_INVALID_ARGUMENT, "is nil");
    case LUA_TFUNCTION:
        return refuse(w, MSH_INVALID_ARGUMENT, "is a function");
    default:
        return refuse(w, MSH_INVALID_ARGUMENT, "is a userdata or a thread");
    }
}

/* core.json.encode(value) -> text | nil, err      [-0, +1..2, arg]
 * Nothing between the first and the last json_ call can jump: reads of Lua values are raw, the stack is
 * reserved. */
static int l_encode(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_settop(L, 1);
    luaL_checkstack(L, 4 * MSH_JSON_DEPTH + 8, "JSON");
    lua_rawgetp(L, LUA_REGISTRYINDEX, &array_key);
    doc *d = msh_l_new(L, sizeof *d, DOC);

    msh_err err = {0};
    writing w = {
        .L = L, .mt = 2, .problem = "needs more memory than there is", .code = MSH_RESOURCE_EXHAUSTED};
    d->value = value_of(&w, 1, 0);
    if (d->value != NULL)
        d->text =
            json_dumps(d->value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS | JSON_REAL_PRECISION(17));
    json_decref(d->value);
    d->value = NULL;
    if (d->text == NULL) {
        msh_fail(&err, w.code, "cannot write JSON: %s %s", w.path.text[0] != '\0' ? w.path.text : "the value",
                 w.problem);
        return msh_l_fail(L, &err);
    }
    size_t n = strlen(d->text);
    if (n > MSH_JSON_SIZE) {
        msh_fail(&err, MSH_RESOURCE_EXHAUSTED, "JSON of %zu bytes; the limit is %u", n, MSH_JSON_SIZE);
        return msh_l_fail(L, &err);
    }
    lua_pushlstring(L, d->text, n);
    free(d->text);
    d->text = NULL;
    return 1;
}

/* core.json.array(t?) -> t, marked as an array      [-0, +1, arg] */
static int l_array(lua_State *L)
{
    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_newtable(L);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    set_array_mt(L);
    return 1;
}

void msh_l_open_json(lua_State *L)
{
    static const luaL_Reg none[] = {{NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"decode", l_decode}, {"encode", l_encode}, {"array", l_array}, {NULL, NULL}};
    msh_l_class(L, DOC, none, doc_close);
    luaL_newlib(L, functions);
    lua_newtable(L);
    lua_pushliteral(L, MSH_JSON_ARRAY);
    lua_setfield(L, -2, "__name");
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &array_key);
    lua_pushvalue(L, -1);
    lua_setfield(L, LUA_REGISTRYINDEX, MSH_JSON_ARRAY);
    lua_setfield(L, -2, "array_mt");
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
}

/* Library functions that could run very long inside one instruction, where no hook reaches: what they would do at
 * worst is computed first, and refused when it is too much. */
#include "bind/sandbox.h"
#include <math.h>
#include <string.h>

#define STEPS_MAX 2e8        /* worst case of one pattern match: a few seconds on a slow machine */
#define PLAIN_MAX 1e10       /* of one search for a text, whose bytes are compared many at a time */
#define REP_BYTES (16 << 20) /* longest result of string.rep */
#define MOVE_MAX  1000000    /* most elements that one call of the table library goes through */

static int call_original(lua_State *L)
{
    return lua_tocfunction(L, lua_upvalueindex(1))(L); /* same frame, so messages name the function */
}

/* How often the parts of a pattern can be shared out over a text of `n` bytes: with k repetitions there are
 * binomial(n + k, k) ways, and a matcher that backtracks tries them all when nothing fits. Each of them compares the rest,
 * and a byte that is no member of a set has been compared with every byte of it. `anchors`: whether a first ^ ties the
 * pattern to the start of the text (for gmatch it is a byte like others). */
static double worst_case(const char *p, size_t np, size_t n, bool anchors)
{
    double steps = 1, len = (double)n + 1, plain = 0, sets = 0;
    unsigned k = 0;
    bool anchored = anchors && np > 0 && p[0] == '^';
    size_t i = anchored ? 1 : 0;
    if (!anchored)
        k++; /* where it starts */
    while (i < np) {
        char c = p[i++];
        if (c == '(' || c == ')')
            continue;
        if (c == '%' && i < np) {
            char d = p[i++];
            if (d == 'b') {
                steps *= len; /* a balanced pair is searched for over the rest of the text */
                i += 2;
                continue;
            }
            if (d == 'f')
                continue; /* the set that follows is read as one */
            if (d >= '0' && d <= '9')
                steps *= 2 + len / 128; /* compares a capture, many bytes at a time */
        } else if (c == '[') {
            size_t from = i;
            if (i < np && p[i] == '^')
                i++;
            if (i < np && p[i] == ']')
                i++; /* a first ] is a member */
            while (i < np && p[i] != ']')
                i += p[i] == '%' && i + 1 < np ? 2 : 1;
            sets += (double)(i - from);
            i++;
        }
        if (i < np && (p[i] == '*' || p[i] == '+' || p[i] == '-')) {
            k++;
            i++;
        } else if (i < np && p[i] == '?') {
            steps *= 2;
            i++;
        } else {
            plain++;
        }
    }
    /* Most comparisons end at the first byte; a text made for it lets all of them go on. */
    steps *= 1 + plain / 3 + sets / 4;
    for (unsigned j = 1; j <= k && steps < 1e18; j++)
        steps *= ((double)n + j) / j;
    return steps;
}

static int pattern(lua_State *L, bool anchors)
{
    size_t n = 0, np = 0;
    const char *s = lua_isstring(L, 1) ? lua_tolstring(L, 1, &n) : NULL;
    const char *p = lua_isstring(L, 2) ? lua_tolstring(L, 2, &np) : NULL;
    if (s != NULL && p != NULL && worst_case(p, np, n, anchors) > STEPS_MAX)
        return luaL_error(
            L,
            "this pattern could take far too long on a string of %I bytes; use fewer repetitions or "
            "a shorter string",
            (lua_Integer)n);
    msh_script_charge(L, 1 + n / 16);
    return call_original(L);
}

static int l_pattern(lua_State *L)
{
    return pattern(L, true);
}

static int l_gmatch(lua_State *L)
{
    return pattern(L, false);
}

static int l_find(lua_State *L)
{
    if (!lua_toboolean(L, 4))
        return l_pattern(L);
    size_t n = lua_isstring(L, 1) ? lua_rawlen(L, 1) : 0, m = lua_isstring(L, 2) ? lua_rawlen(L, 2) : 0;
    if ((double)n * (double)m > PLAIN_MAX)
        return luaL_error(
            L, "this search could take far too long on a string of %I bytes; look for a shorter text",
            (lua_Integer)n);
    msh_script_charge(L, 1 + n / 16);
    return call_original(L);
}

static int l_rep(lua_State *L)
{
    size_t n, nsep = 0;
    luaL_checklstring(L, 1, &n);
    lua_Integer times = luaL_checkinteger(L, 2);
    luaL_optlstring(L, 3, "", &nsep);
    double bytes = (double)(n + nsep) * (double)times;
    if (times > REP_BYTES || bytes > REP_BYTES)
        return luaL_error(L, "string.rep: the result would have more than %d bytes", REP_BYTES);
    msh_script_charge(L, 1 + (times > 0 ? (uint64_t)times : 0) / 8);
    return call_original(L);
}

/* A table that tells its own length could tell an endless one. */
static void own_length(lua_State *L)
{
    if (luaL_getmetafield(L, 1, "__len") != LUA_TNIL)
        luaL_error(L, "a table with __len is not accepted here");
}

/* Pays for elements `from` to `to` of the table at 1, also where there are none: a few keys far apart make a length, and a
 * metamethod makes elements. */
static void pay(lua_State *L, const char *name, lua_Integer from, lua_Integer to)
{
    if (to < from)
        to = from;
    lua_Unsigned n = (lua_Unsigned)to - (lua_Unsigned)from;
    if (n >= MOVE_MAX)
        luaL_error(L, "table.%s: more than %d elements", name, MOVE_MAX);
    msh_script_charge(L, 1 + n / 4);
}

static lua_Integer length(lua_State *L)
{
    own_length(L);
    return (lua_Integer)lua_rawlen(L, 1);
}

static int l_insert(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Integer n = length(L);
    pay(L, "insert", lua_gettop(L) > 2 ? luaL_checkinteger(L, 2) : n, n); /* at the end nothing moves */
    return call_original(L);
}

static int l_remove(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Integer n = length(L);
    pay(L, "remove", luaL_optinteger(L, 2, n), n);
    return call_original(L);
}

static int l_concat(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    pay(L, "concat", luaL_optinteger(L, 3, 1), lua_isnoneornil(L, 4) ? length(L) : luaL_checkinteger(L, 4));
    return call_original(L);
}

static int l_unpack(lua_State *L)
{
    luaL_checkany(L, 1);
    pay(L, "unpack", luaL_optinteger(L, 2, 1), lua_isnoneornil(L, 3) ? length(L) : luaL_checkinteger(L, 3));
    return call_original(L);
}

static int l_sort(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    own_length(L);
    double n = (double)lua_rawlen(L, 1);
    msh_script_charge(L, 1 + (uint64_t)(n * log2(n + 1)));
    return call_original(L);
}

static int l_move(lua_State *L)
{
    pay(L, "move", luaL_checkinteger(L, 2), luaL_checkinteger(L, 3));
    return call_original(L);
}

void msh_sandbox_bound(lua_State *S, const char *library)
{
    static const luaL_Reg strings[] = {{"find", l_find},    {"match", l_pattern}, {"gmatch", l_gmatch},
                                       {"gsub", l_pattern}, {"rep", l_rep},       {NULL, NULL}};
    static const luaL_Reg tables[] = {{"insert", l_insert}, {"remove", l_remove}, {"concat", l_concat},
                                      {"unpack", l_unpack}, {"sort", l_sort},     {"move", l_move},
                                      {NULL, NULL}};
    const luaL_Reg *r = strcmp(library, "string") == 0  ? strings
                        : strcmp(library, "table") == 0 ? tables
                                                        : NULL;
    for (; r != NULL && r->name != NULL; r++) {
        lua_getfield(S, -2, r->name);
        lua_pushcclosure(S, r->func, 1);
        lua_setfield(S, -2, r->name);
    }
}

/* An operator's script made of any bytes: whatever it does, it ends within its budgets, what crosses is plain and small, its
 * memory stays below its limit, and nothing of it is left when it is closed. */
#include "base/buf.h"
#include "bind/script.h"
#include "testing/fuzz.h"
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>

enum { DEPTH = 6, SOURCE = 1 << 16 };

/* ---- bytes to a script that has no syntax error ---- */

typedef struct writer {
    msh_fuzz in;
    msh_buf out;
} writer;

static void put(writer *w, const char *text)
{
    if (msh_buf_size(&w->out) < SOURCE)
        must(msh_buf_append(&w->out, msh_slice_of(text)) == MSH_OK);
}

#define PICK(w, list) ((list)[fuzz_byte(&(w)->in) % (sizeof(list) / sizeof *(list))])

static void expression(writer *w, int depth);

static void block(writer *w, int depth);

static void function(writer *w, int depth)
{
    put(w, "function(a, b, ...) ");
    block(w, depth);
    put(w, " end");
}

static void table(writer *w, int depth)
{
    static const char *const keys[] = {
        "",        "k=",           "code=",       "message=", "[1<<22]=", "[a]=",  "__index=",  "__newindex=",
        "__call=", "__close=",     "__tostring=", "__len=",   "__lt=",    "__eq=", "__concat=", "__pairs=",
        "__name=", "__metatable=", "__gc=",       "__mode=",  "__add="};
    put(w, "{");
    for (int n = fuzz_byte(&w->in) % 4; n > 0; n--) {
        put(w, PICK(w, keys));
        expression(w, depth);
        put(w, ",");
    }
    put(w, "}");
}

static void call(writer *w, int depth)
{
    static const char *const callees[] = {
        "a",
        "b",
        "c",
        "d",
        "ask",
        "pcall",
        "xpcall",
        "select",
        "tostring",
        "tonumber",
        "next",
        "pairs",
        "ipairs",
        "rawget",
        "rawset",
        "rawlen",
        "rawequal",
        "type",
        "error",
        "assert",
        "getmetatable",
        "setmetatable",
        "string.find",
        "string.match",
        "string.gmatch",
        "string.gsub",
        "string.rep",
        "string.format",
        "string.byte",
        "string.char",
        "string.pack",
        "string.unpack",
        "string.packsize",
        "string.sub",
        "string.reverse",
        "utf8.len",
        "utf8.codepoint",
        "utf8.char",
        "utf8.offset",
        "table.insert",
        "table.remove",
        "table.concat",
        "table.unpack",
        "table.sort",
        "table.move",
        "table.pack",
        "math.random",
        "math.tointeger",
        "coroutine.create",
        "coroutine.wrap",
        "coroutine.resume",
        "coroutine.close",
        "coroutine.status",
        "coroutine.yield",
        "coroutine.isyieldable",
    };
    put(w, PICK(w, callees));
    put(w, "(");
    for (int n = fuzz_byte(&w->in) % 4; n > 0; n--) {
        expression(w, depth);
        put(w, n > 1 ? "," : "");
    }
    put(w, ")");
}

static void expression(writer *w, int depth)
{
    static const char *const leaves[] = {"a",
                                         "b",
                                         "c",
                                         "d",
                                         "nil",
                                         "true",
                                         "0",
                                         "-1",
                                         "7",
                                         "1<<62",
                                         "0/0",
                                         "1e308",
                                         "''",
                                         "'x'",
                                         "('a'):rep(999)",
                                         "'%s%d'",
                                         "'[^%]a]-()%1*'",
                                         "'(a*)(%w-)%f[%a]%b()$'",
                                         "'<!4i8s2z'",
                                         "...",
                                         "_G",
                                         "string",
                                         "coroutine"};
    static const char *const operators[] = {"+", "-", "*", "//", "%", "..", "<", "==", " and ", " or ", "|"};
    uint8_t kind = depth <= 0 ? 0 : fuzz_byte(&w->in) % 9;
    switch (kind) {
    case 1:
        table(w, depth - 1);
        break;
    case 2:
        function(w, depth - 1);
        break;
    case 3:
        put(w, "setmetatable(");
        table(w, depth - 1);
        put(w, ",");
        table(w, depth - 1);
        put(w, ")");
        break;
    case 4:
    case 5:
        call(w, depth - 1);
        break;
    case 6:
        put(w, "(");
        expression(w, depth - 1);
        put(w, PICK(w, operators));
        expression(w, depth - 1);
        put(w, ")");
        break;
    case 7:
        put(w, "coroutine.create(");
        function(w, depth - 1);
        put(w, ")");
        break;
    default:
        put(w, PICK(w, leaves));
        break;
    }
}

static void statement(writer *w, int depth)
{
    static const char *const places[] = {"a=", "b=", "c=", "d=", "a.k=", "string.rep=", "_G.a=", "local _="};
    switch (fuzz_byte(&w->in) % 8) {
    case 0:
    case 1:
        put(w, PICK(w, places));
        expression(w, depth);
        break;
    case 2:
        put(w, "do local x <close> = ");
        expression(w, depth);
        put(w, " ");
        block(w, depth - 1);
        put(w, " end");
        break;
    case 3:
        put(w, "for _ = 1, 50 do ");
        block(w, depth - 1);
        put(w, " end");
        break;
    case 4:
        put(w, "for k, v in ");
        expression(w, depth);
        put(w, " do ");
        block(w, depth - 1);
        put(w, " end");
        break;
    case 5:
        put(w, "while ");
        expression(w, depth);
        put(w, " do ");
        block(w, depth - 1);
        put(w, " end");
        break;
    case 6:
        put(w, "do return ");
        expression(w, depth);
        put(w, ",");
        expression(w, depth);
        put(w, " end");
        break;
    default:
        put(w, "local _=");
        call(w, depth);
        break;
    }
    put(w, "; ");
}

static void block(writer *w, int depth)
{
    for (int n = depth <= 0 ? 0 : fuzz_byte(&w->in) % 5; n > 0; n--)
        statement(w, depth - 1);
}

/* ---- the engine's side ---- */

static const char engine[] =
    "local new, source, data = ...\n"
    "local MEMORY = 1 << 20\n"
    "local prelude = [[local verbs = ...\n"
    "  return { run = function(...) return verbs.result().f(function(...) return verbs.request(...) end, "
    "...) end }]]\n"
    "local values = 0\n"
    "local function plain(v, depth)\n"
    "  values = values + 1\n"
    "  local t = type(v)\n"
    "  assert(depth <= 33 and values <= 400000)\n"
    "  assert(t == 'nil' or t == 'boolean' or t == 'string' or t == 'table' or (t == 'number' and v == v), "
    "t)\n"
    "  if t ~= 'table' then return end\n"
    "  assert(getmetatable(v) == nil)\n"
    "  for k, x in next, v do\n"
    "    assert(type(k) == 'string' or math.type(k) == 'integer')\n"
    "    plain(x, depth + 1)\n"
    "  end\n"
    "end\n"
    "local function look(s, how, ...)\n"
    "  values = 0\n"
    "  if how == nil then\n"
    "    local e = ...\n"
    "    assert(type(e.code) == 'string' and type(e.message) == 'string' and e.message ~= '')\n"
    "  else\n"
    "    assert(how == 'return' or how == 'yield')\n"
    "    assert(select('#', ...) <= 33)\n"
    "    for i = 1, select('#', ...) do plain((select(i, ...)), 1) end\n"
    "  end\n"
    "  if s then\n"
    "    local counts = s:counts()\n"
    "    assert(counts.memory <= MEMORY and counts.functions <= 10000 and counts.waiting <= 64)\n"
    "  end\n"
    "  return how, ...\n"
    "end\n"
    "local s, e = new { source = source, chunkname = '@fuzz.lua', prelude = prelude, memory = MEMORY,\n"
    "  instructions = 4000, cpu_ms = 1000 }\n"
    "if not s then look(nil, nil, e) return end\n"
    "for _ = 1, 3 do\n"
    "  local how, _, id = look(s, s:call('run', data, { data, k = { #data, 0.5 } }))\n"
    "  for answer = 1, 4 do\n"
    "    if how ~= 'yield' then break end\n"
    "    if answer == 4 then s:abandon(id) break end\n"
    "    how, _, id = look(s, s:resume(true, { k = data, [answer] = answer }))\n"
    "  end\n"
    "end\n"
    "for id = 1, 3 do look(s, s:call(id, data)) s:forget(id) end\n"
    "s:close()\n";

static int on_panic(lua_State *L)
{
    fprintf(stderr, "panic: %s\n", lua_tostring(L, -1));
    abort();
}

static lua_State *engine_state(void)
{
    lua_State *L = luaL_newstate();
    must(L != NULL);
    lua_atpanic(L, on_panic);
    luaL_openlibs(L);
    msh_l_cx_new(L, uv_default_loop());
    must(luaL_loadbufferx(L, engine, sizeof engine - 1, "=engine", "t") == LUA_OK);
    msh_l_open_script(L); /* 2: core.script */
    return L;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    writer w = {.in = {data, size}};
    lua_State *L = engine_state();
    msh_buf_init(&w.out, 2 * SOURCE);
    put(&w, "local a, b, c, d return { f = function(ask, ...) a, b = ... ");
    block(&w, DEPTH);
    put(&w, " end, k = ");
    expression(&w, 2 + fuzz_byte(&w.in) % 2);
    put(&w, " }");
    msh_slice source = msh_buf_slice(&w.out);
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 2);
    lua_pushlstring(L, source.p, source.n);
    lua_pushlstring(L, (const char *)data, size);
    if (lua_pcall(L, 3, 0, 0) != LUA_OK) {
        fprintf(stderr, "%s\nof %.*s\n", lua_tostring(L, -1), (int)source.n, source.p);
        abort();
    }
    must(msh_l_cx_of(L)->objects == 0);
    must(lua_gettop(L) == 2);
    lua_close(L);
    msh_buf_free(&w.out);
    return 0;
}

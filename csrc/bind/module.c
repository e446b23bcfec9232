#include "bind/module.h"
#include "base/crc.h"
#include "base/time.h"
#include "bind/bound.h"
#include "bind/fields.h"
#include "bind/json.h"
#include "bind/script.h"
#include <luv/luv.h>
#include <signal.h>

/* core.now() -> integer      milliseconds of the monotonic clock [-0, +1, -] */
static int l_now(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)(msh_now() / MSH_MS));
    return 1;
}

/* core.crc32(bytes) -> integer      the checksum of journal records [-0, +1, arg] */
static int l_crc32(lua_State *L)
{
    size_t n;
    const char *p = luaL_checklstring(L, 1, &n);
    lua_pushinteger(L, msh_crc32((msh_slice){p, n}));
    return 1;
}

/* core.on_error(hook | nil)      hook(error) gets what a callback raised: a string with its traceback or an
 * error value; nil = standard error again [-0, +0, arg] */
static int l_on_error(lua_State *L)
{
    msh_l_check_fn_opt(L, 1);
    msh_l_cx *cx = msh_l_cx_of(L);
    int hook = msh_l_ref_opt(cx, L, 1);
    if (cx->on_error != MSH_L_NOREF)
        msh_l_unref(cx, &cx->on_error);
    cx->on_error = hook;
    return 0;
}

/* core.stats() -> {refs=, objects=}      what is alive, for leak checks [-0, +1, m] */
static int l_stats(lua_State *L)
{
    msh_l_cx *cx = msh_l_cx_of(L);
    lua_createtable(L, 0, 2);
    msh_l_set_int(L, "refs", cx->refs - (cx->on_error != MSH_L_NOREF));
    msh_l_set_int(L, "objects", cx->objects);
    return 1;
}

int msh_l_luv_pcall(lua_State *L, int nargs, int nresults, int flags)
{
    (void)flags;
    msh_l_cx *cx = msh_l_cx_of(L);
    int at = lua_gettop(L) - nargs;
    if (!lua_checkstack(L, 4)) {
        lua_settop(L, at - 1);
        return -LUA_ERRMEM;
    }
    lua_pushcfunction(L, msh_l_traceback);
    lua_insert(L, at);
    int rc = lua_pcall(L, nargs, nresults, at);
    lua_remove(L, at);
    if (rc == LUA_OK)
        return lua_gettop(L) - at + 1;
    if (cx != NULL)
        msh_l_report(cx, L);
    else
        lua_pop(L, 1);
    return -rc;
}

/* A peer that went away is an error value of the write, never the end of the program that loaded us: libuv writes
 * without MSG_NOSIGNAL. A handler or a wish of the program's own stays. Programs that are spawned get the default. */
static void survive_sigpipe(void)
{
    struct sigaction now;
    if (sigaction(SIGPIPE, NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) == 0 && now.sa_handler == SIG_DFL)
        signal(SIGPIPE, SIG_IGN);
}

LUALIB_API int luaopen_moonshim_core(lua_State *L)
{
    survive_sigpipe();
    lua_getglobal(L, "require");
    lua_pushliteral(L, "luv");
    lua_call(L, 1, 0);
    if (msh_l_cx_of(L) == NULL) /* a second load (a cleared package.loaded) shares the context */
        msh_l_cx_new(L, luv_loop(L));

    static const luaL_Reg functions[] = {
        {"now", l_now}, {"crc32", l_crc32}, {"on_error", l_on_error}, {"stats", l_stats}, {NULL, NULL}};
    luaL_newlib(L, functions);
    lua_pushliteral(L, MSH_VERSION);
    lua_setfield(L, -2, "version");
    lua_createtable(L, MSH_CODE_COUNT, 0);
    for (int code = 0; code < MSH_CODE_COUNT; code++) {
        lua_pushstring(L, msh_code_text((msh_code)code));
        lua_rawseti(L, -2, code + 1);
    }
    lua_setfield(L, -2, "codes");
    static const struct {
        const char *name;
        void (*open)(lua_State *L);
    } parts[] = {
        {"json", msh_l_open_json},     {"script", msh_l_open_script},   {"transport", msh_l_open_transport},
        {"bridge", msh_l_open_bridge}, {"devices", msh_l_open_devices}, {"sys", msh_l_open_sys},
        {"relay", msh_l_open_relay},   {"net", msh_l_open_net},         {"terminal", msh_l_open_terminal}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        parts[i].open(L);
        lua_setfield(L, -2, parts[i].name);
    }
    return 1;
}

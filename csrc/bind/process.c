/* core.sys, second part: processes by pid and start time, locks, and what the boot says. */
#include "sys/process.h"
#include "bind/bound.h"
#include "bind/fields.h"
#include "sys/lock.h"
#include "sys/system.h"

#define WATCH "moonshim.watch"
#define LOCK  "moonshim.lock"

/* ---- watching ---- */

typedef struct l_watch {
    msh_l_cx *cx;
    msh_watch *w;
    int done, self;
} l_watch;

static int l_watch_close(lua_State *L)
{
    l_watch *u = luaL_checkudata(L, 1, WATCH);
    msh_watch *w = u->w;
    u->w = NULL;
    if (w == NULL)
        return 0;
    msh_watch_close(w);
    u->cx->objects--;
    msh_l_unref(u->cx, &u->done);
    msh_l_unref(u->cx, &u->self);
    return 0;
}

static int push_exit(lua_State *L, void *arg)
{
    const msh_exit *how = arg;
    lua_createtable(L, 0, 2);
    if (how->gone) {
        msh_l_set_bool(L, "gone", true);
        return 1;
    }
    msh_l_set_int(L, "code", how->code);
    msh_l_set_int(L, "signal", how->signal);
    return 1;
}

static void on_exit_(void *ctx, const msh_exit *how)
{
    l_watch *u = ctx;
    msh_l_cx *cx = u->cx;
    msh_exit copy = *how;
    int ref = u->done;
    msh_watch *w = u->w;
    u->done = MSH_L_NOREF;
    u->w = NULL;
    cx->objects--;
    msh_watch_close(w);
    msh_l_unref(cx, &u->self); /* from here on `u` may be collected */
    msh_l_deliver(cx, &ref, push_exit, &copy);
}

/* sys.watch_process({pid=, start_time=}, done) -> watch | nil, err      done{code=, signal=} or done{gone=true}; not
 * after watch:close() [-0, +1..2, arg] */
static int l_watch_process(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    pid_t pid = (pid_t)msh_l_int_needed(L, 1, "pid", 1, INT32_MAX);
    lua_Integer start = msh_l_int(L, 1, "start_time", 0, LUA_MAXINTEGER, 0);
    luaL_checktype(L, 2, LUA_TFUNCTION);

    l_watch *u = msh_l_new(L, sizeof *u, WATCH);
    u->cx = msh_l_cx_of(L);
    u->done = u->self = MSH_L_NOREF;
    u->done = msh_l_ref(u->cx, L, 2);
    u->self = msh_l_ref(u->cx, L, -1);
    msh_err err = {0};
    if (msh_watch_start(u->cx->loop, pid, (uint64_t)start, on_exit_, u, &u->w, &err) != MSH_OK) {
        msh_l_unref(u->cx, &u->done);
        msh_l_unref(u->cx, &u->self);
        return msh_l_fail(L, &err);
    }
    u->cx->objects++;
    return 1;
}

/* sys.kill_process{pid=, start_time=, signal=} -> true | nil, err      gone when it ended [-0, +1..2, arg] */
static int l_kill_process(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    pid_t pid = (pid_t)msh_l_int_needed(L, 1, "pid", 1, INT32_MAX);
    lua_Integer start = msh_l_int(L, 1, "start_time", 0, LUA_MAXINTEGER, 0);
    int signal = (int)msh_l_int_needed(L, 1, "signal", 0, 64);
    msh_err err = {0};
    return msh_l_result(L, msh_process_kill(pid, (uint64_t)start, signal, &err), &err);
}

/* sys.start_time(pid) -> ticks since boot | nil, err      [-0, +1..2, arg] */
static int l_start_time(lua_State *L)
{
    pid_t pid = (pid_t)msh_l_check_int(L, 1, 1, INT32_MAX);
    msh_err err = {0};
    uint64_t ticks;
    if (msh_process_start_time(pid, &ticks, &err) != MSH_OK)
        return msh_l_fail(L, &err);
    lua_pushinteger(L, (lua_Integer)ticks);
    return 1;
}

/* sys.boot_id() -> text | nil, err      [-0, +1..2, m] */
static int l_boot_id(lua_State *L)
{
    char id[MSH_BOOT_ID];
    msh_err err = {0};
    if (msh_boot_id(id, &err) != MSH_OK)
        return msh_l_fail(L, &err);
    lua_pushstring(L, id);
    return 1;
}

/* sys.random_hex(bytes) -> text of twice as many digits | nil, err      [-0, +1..2, arg] */
static int l_random_hex(lua_State *L)
{
    size_t n = (size_t)msh_l_check_int(L, 1, 1, 256);
    char text[513];
    msh_err err = {0};
    if (msh_random_hex(text, n, &err) != MSH_OK)
        return msh_l_fail(L, &err);
    lua_pushstring(L, text);
    return 1;
}

/* ---- locks ---- */

typedef struct l_lock {
    msh_l_cx *cx;
    int fd;
    bool open;
} l_lock;

static int l_lock_close(lua_State *L)
{
    l_lock *u = luaL_checkudata(L, 1, LOCK);
    if (!u->open)
        return 0;
    u->open = false;
    msh_lock_release(&u->fd);
    u->cx->objects--;
    return 0;
}

/* sys.lock_file(path, {create=true, mode=}) -> lock | nil, err      err.holder: the pid that has it [-0, +1..2, arg] */
static int l_lock_file(lua_State *L)
{
    const char *path = msh_l_check_path(L, 1);
    bool create = true;
    lua_Integer mode = 0600;
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        create = msh_l_bool(L, 2, "create", true);
        mode = msh_l_int(L, 2, "mode", 0, 0777, 0600);
    }
    l_lock *u = msh_l_new(L, sizeof *u, LOCK);
    u->cx = msh_l_cx_of(L);
    u->fd = -1;
    msh_err err = {0};
    pid_t holder = 0;
    if (msh_lock_take(path, create, (unsigned)mode, &u->fd, &holder, &err) != MSH_OK) {
        msh_l_fail(L, &err);
        if (holder > 0) {
            msh_l_set_int(L, "holder", holder);
        }
        return 2;
    }
    u->open = true;
    u->cx->objects++;
    return 1;
}

/* lock:fd() -> integer | nil, err      lent: the lock closes it [-0, +1..2, m] */
static int l_lock_fd(lua_State *L)
{
    l_lock *u = luaL_checkudata(L, 1, LOCK);
    if (!u->open)
        return msh_l_closed(L, "the lock");
    lua_pushinteger(L, u->fd);
    return 1;
}

void msh_l_open_process(lua_State *L)
{
    static const luaL_Reg lock_methods[] = {{"fd", l_lock_fd}, {NULL, NULL}};
    static const luaL_Reg none[] = {{NULL, NULL}};
    static const luaL_Reg functions[] = {{"watch_process", l_watch_process},
                                         {"kill_process", l_kill_process},
                                         {"start_time", l_start_time},
                                         {"boot_id", l_boot_id},
                                         {"random_hex", l_random_hex},
                                         {"lock_file", l_lock_file},
                                         {NULL, NULL}};
    msh_l_class(L, WATCH, none, l_watch_close);
    msh_l_class(L, LOCK, lock_methods, l_lock_close);
    luaL_setfuncs(L, functions, 0);
}

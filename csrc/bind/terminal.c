/* core.terminal: the user's terminal, and pseudo terminals. */
#include "sys/terminal.h"
#include "bind/bound.h"
#include "bind/fields.h"
#include "sys/fd.h"

static int check_fd(lua_State *L, int idx)
{
    return (int)msh_l_check_int(L, idx, 0, INT32_MAX);
}

/* core.terminal.is(fd) -> boolean      [-0, +1, arg] */
static int l_is(lua_State *L)
{
    lua_pushboolean(L, msh_terminal_is(check_fd(L, 1)));
    return 1;
}

/* core.terminal.size(fd) -> rows, columns | nil, err      [-0, +2, arg] */
static int l_size(lua_State *L)
{
    msh_err err = {0};
    msh_terminal_size size;
    if (msh_terminal_get_size(check_fd(L, 1), &size, &err) != MSH_OK)
        return msh_l_fail(L, &err);
    lua_pushinteger(L, size.rows);
    lua_pushinteger(L, size.columns);
    return 2;
}

/* core.terminal.resize(fd, rows, columns) -> true | nil, err      [-0, +1..2, arg] */
static int l_resize(lua_State *L)
{
    msh_err err = {0};
    int fd = check_fd(L, 1);
    msh_terminal_size size = {(uint16_t)msh_l_check_int(L, 2, 0, UINT16_MAX),
                              (uint16_t)msh_l_check_int(L, 3, 0, UINT16_MAX)};
    return msh_l_result(L, msh_terminal_set_size(fd, size, &err), &err);
}

/* core.terminal.raw(fd) -> true | nil, err      until core.terminal.restore or the end of the process [-0, +1..2, arg] */
static int l_raw(lua_State *L)
{
    msh_err err = {0};
    return msh_l_result(L, msh_terminal_raw(check_fd(L, 1), &err), &err);
}

/* core.terminal.restore()      [-0, +0, -] */
static int l_restore(lua_State *L)
{
    (void)L;
    msh_terminal_restore();
    return 0;
}

/* core.terminal.open() -> master, slave | nil, err      the caller closes both by core.sys.close [-0, +2, m] */
static int l_open(lua_State *L)
{
    msh_err err = {0};
    int master, slave;
    if (msh_terminal_open(&master, &slave, &err) != MSH_OK)
        return msh_l_fail(L, &err);
    lua_pushinteger(L, master); /* integers need no memory: nothing can jump now */
    lua_pushinteger(L, slave);
    return 2;
}

void msh_l_open_terminal(lua_State *L)
{
    static const luaL_Reg functions[] = {{"is", l_is},   {"size", l_size},       {"resize", l_resize},
                                         {"raw", l_raw}, {"restore", l_restore}, {"open", l_open},
                                         {NULL, NULL}};
    luaL_newlib(L, functions);
}

/* bind/module.h - the module moonshim.core.
 *
 * Layer      bind.
 * Always     luv is loaded first: our objects use its loop, and since they are made after it, a closing state
 * ends them before it ends the loop. */
#ifndef MSH_BIND_MODULE_H
#define MSH_BIND_MODULE_H
#include "bind/call.h"

/* For require and for package.preload of the executable. Requires "luv". [-?, +1, e] */
LUALIB_API int luaopen_moonshim_core(lua_State *L);

/* luv's own callbacks through our rules instead of its default, which exits the process: for luv_set_callback
 * before luv is opened, in a state that is ours alone. */
int msh_l_luv_pcall(lua_State *L, int nargs, int nresults, int flags);
#endif

/* bind/bound.h - the bound types: what each file of this folder adds to the module.
 *
 * Layer      bind. Each function pushes its part of moonshim.core; the Lua side is described in
 *            lua/moonshim/_meta, in a file of the same name. */
#ifndef MSH_BIND_BOUND_H
#define MSH_BIND_BOUND_H
#include "bind/call.h"
#include "transport/stream.h"

void msh_l_open_transport(lua_State *L); /* table core.transport */
void msh_l_open_bridge(lua_State *L);    /* function core.bridge */
void msh_l_open_devices(lua_State *L);   /* function core.devices */
void msh_l_open_sys(lua_State *L);       /* table core.sys */
void msh_l_open_loop(lua_State *L);      /* adds to the table core.sys on top of the stack */
void msh_l_open_process(lua_State *L);   /* adds to the table core.sys on top of the stack */
void msh_l_open_relay(lua_State *L);     /* function core.relay */
void msh_l_open_net(lua_State *L);       /* table core.net */
void msh_l_open_terminal(lua_State *L);  /* table core.terminal */

/* The native stream of the stream object at `idx`, which stays its owner; NULL when it is closed. Raises for another
 * type. */
msh_stream *msh_l_stream_at(lua_State *L, int idx);
/* True when writes are out, so that the stream cannot change hands. */
bool msh_l_stream_busy(lua_State *L, int idx);
/* Empties the object, whose native stream now belongs to the caller. */
void msh_l_stream_release(lua_State *L, int idx);
#endif

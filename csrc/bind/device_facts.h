/* bind/device_facts.h - what a reservation wants and what is known of it, as the flat tables that Lua and the journal have.
 *
 * Layer      bind, over device/resv.
 * Words      want, facts: device/resv.h. id = the number of a reservation as decimal text, so that it passes through JSON
 *            whole.
 * Ownership  what is read borrows its strings from the Lua stack: they stay there, and are good until the function
 *            returns.
 * See        lua/moonshim/_meta/devices.lua for the fields */
#ifndef MSH_BIND_DEVICE_FACTS_H
#define MSH_BIND_DEVICE_FACTS_H
#include "bind/call.h"
#include "device/resv.h"

/* Room for the lists of a want. */
typedef struct msh_l_want_texts {
    const char *options[MSH_RESV_LIST], *names[MSH_RESV_LIST];
} msh_l_want_texts;

/* [-0, +1, m] */
void msh_l_push_resv(lua_State *L, msh_resv r);
/* [-0, +0, arg] */
msh_resv msh_l_check_resv(lua_State *L, int idx);
/* Reads a want (or the want in facts) from the value at `t`. [-0, +strings, arg] */
void msh_l_get_want(lua_State *L, int t, msh_want *w, msh_l_want_texts *room);
/* Adds the facts to the table on top. [-0, +0, m] */
void msh_l_set_facts(lua_State *L, const msh_facts *f);
#endif

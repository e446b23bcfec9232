/* bind/json.h - core.json: documents that only pass through us, without losing anything.
 *
 * Layer      bind, over jansson.
 * Shapes     object = a plain table; array = a table with the metatable core.json.array_mt, so that [] stays
 * []; null = core.json.null (a light userdata, the same as cjson.null). Integers are exact to 64 bits and
 * beyond that an error; a real without a fraction up to 2^53 (1.0, 1e3) becomes an integer, and is written as
 * one, so that an exit code never reads 1.0. Limits     MSH_JSON_SIZE bytes, MSH_JSON_DEPTH levels,
 * MSH_JSON_VALUES values, both ways. */
#ifndef MSH_BIND_JSON_H
#define MSH_BIND_JSON_H
#include <lua.h>

#define MSH_JSON_SIZE   (16u << 20)
#define MSH_JSON_DEPTH  128
#define MSH_JSON_VALUES (1u << 20)

#define MSH_JSON_ARRAY "moonshim.json.array" /* the registry's name of array_mt, for luaL_setmetatable */

/* Pushes the table core.json. [-0, +1, m] */
void msh_l_open_json(lua_State *L);
#endif

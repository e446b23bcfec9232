/* bind/fields.h - plain values across the door: fields of tables and arguments, checked on the way in.
 *
 * Layer      bind.
 * Always     a wrong type or range raises an argument error that names the field, before anything is acquired. */
#ifndef MSH_BIND_FIELDS_H
#define MSH_BIND_FIELDS_H
#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>

/* Fields of the table at `t`, which is a table already. A string stays on the stack, so that the pointer is good until the
 * function returns. [-0, +1 (strings), arg] */
const char *msh_l_str(lua_State *L, int t, const char *key, bool required);              /* no NUL inside */
const char *msh_l_bytes(lua_State *L, int t, const char *key, bool required, size_t *n); /* any bytes */
lua_Integer msh_l_int(lua_State *L, int t, const char *key, lua_Integer min, lua_Integer max, /* in range */
                      lua_Integer otherwise);
lua_Integer msh_l_int_needed(lua_State *L, int t, const char *key, lua_Integer min, lua_Integer max);
bool msh_l_bool(lua_State *L, int t, const char *key, bool otherwise);
/* A string argument without NUL bytes, such as a path. */
const char *msh_l_check_path(lua_State *L, int idx);
lua_Integer msh_l_check_int(lua_State *L, int idx, lua_Integer min, lua_Integer max);

/* Sets a field of the table on top; the text is copied. [-0, +0, m] */
void msh_l_set_int(lua_State *L, const char *key, lua_Integer v);
void msh_l_set_bool(lua_State *L, const char *key, bool v);
void msh_l_set_text(lua_State *L, const char *key, const char *text);
#endif

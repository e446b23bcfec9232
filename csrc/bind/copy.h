/* bind/copy.h - plain data from one Lua state into another.
 *
 * Layer      bind.
 * Words      plain data = nil, booleans, integers, finite numbers, strings (any bytes), and tables of these under
 *            string and integer keys. Metatables do not cross; null (core.json.null) becomes nil.
 * Always     1. `from` is only read, by calls that cannot jump; `to` may run out of memory and jump, so the caller
 *               has whatever protects `to` on the way, and nothing to free.
 *            2. shared tables arrive as copies; a table inside itself is refused.
 *            3. depth, number of values and bytes are bounded, the latter two over all that one msh_copy is used for.
 *            4. a refusal names the place: "argument 2.steps[3].run is a function". */
#ifndef MSH_BIND_COPY_H
#define MSH_BIND_COPY_H
#include "bind/call.h"
#include "bind/path.h"

#define MSH_COPY_DEPTH  32
#define MSH_COPY_VALUES 200000u
#define MSH_COPY_BYTES  (8u << 20)

typedef struct msh_copy {
    lua_State *from;
    lua_State *to; /* NULL: only look whether it could be copied */
    /* What a function at stack index `idx` of `from` becomes: {["function"] = id}; 0 refuses it. NULL refuses all. */
    lua_Integer (*function)(struct msh_copy *c, int idx);
    const char *problem; /* after a refusal */
    msh_code code;
    msh_path path;
    const void *open[MSH_COPY_DEPTH]; /* the tables around the value at hand */
    int depth;
    unsigned values;
    size_t bytes;
} msh_copy;

/* Copies the value at absolute index `idx` of `from` onto the top of `to`. False: refused; then `to` may have some
 * values more on its stack. [from: -0, +0, -] [to: -0, +1, m] */
bool msh_copy_value(msh_copy *c, int idx);
/* Fills *err after a refusal; `what` is the name of the whole. */
msh_code msh_copy_refusal(const msh_copy *c, const char *what, msh_err *err);
#endif

/* bind/call.h - the one door between Lua and C: references, deliveries, errors, classes.
 *
 * Layer      bind: everything below it, and the only folder that includes lua.h.
 * Words      cx = our context in one Lua state; ref = a counted registry reference; deliver = run a Lua function from the
 *            loop; object = a userdata of one of our classes.
 * Ownership  cx lives in the registry and dies with the state, after every object of ours and before luv's loop. A ref
 *            has one owner, an int that is MSH_L_NOREF when empty.
 * Always     1. Lua functions run on the main state, from the loop, under a protected call with a traceback; what they
 *               raise goes to the on_error hook. We never exit and never keep silent.
 *            2. one-shot: msh_l_deliver empties the ref before the call, so a second delivery does nothing.
 *            3. an object is born closed with its metatable set; close(), __close and __gc are one idempotent
 *               function, which never calls Lua.
 *            4. a binding checks all its arguments before it acquires anything: luaL_check* jump.
 * See        csrc/bind/README.md, spec/unit/bind */
#ifndef MSH_BIND_CALL_H
#define MSH_BIND_CALL_H
#include "base/buf.h"
#include "base/err.h"
#include <lauxlib.h>
#include <lua.h>
#include <uv.h>

#define MSH_L_NOREF LUA_NOREF

struct msh_l_later;
struct msh_l_loops;
struct msh_pool;

typedef struct msh_l_cx {
    lua_State *main; /* NULL once the state is closing: nothing is delivered any more */
    uv_loop_t *loop;
    struct msh_l_later *later; /* of call.c, made when first needed */
    struct msh_pool *pool;     /* of job.c, likewise */
    struct msh_l_loops *loops; /* of loop.c, likewise */
    int on_error;              /* ref of the hook, or MSH_L_NOREF: standard error */
    int refs;                  /* live references, the hook's not counted */
    int objects;               /* open objects */
} msh_l_cx;

/* Makes the context of a state on `loop`; once per state. [-0, +0, m] */
msh_l_cx *msh_l_cx_new(lua_State *L, uv_loop_t *loop);
/* The context, or NULL in a state without one. [-0, +0, -] */
msh_l_cx *msh_l_cx_of(lua_State *L);
/* `fn` closes something that the context holds, when the state closes; call.c need not know what. At most
 * MSH_L_CLOSERS; the newest runs first. */
#define MSH_L_CLOSERS 2
void msh_l_cx_on_close(msh_l_cx *cx, void (*fn)(msh_l_cx *cx));

/* A reference to the value at `idx`, which stays. [-0, +0, m] */
int msh_l_ref(msh_l_cx *cx, lua_State *L, int idx);
/* Gives it back and empties it; the empty one is fine. [-0, +0, -] */
void msh_l_unref(msh_l_cx *cx, int *ref);
/* As msh_l_ref for an optional function argument: nil or none is MSH_L_NOREF. The check comes apart from the
 * taking, since it may jump. [-0, +0, arg] and [-0, +0, m] */
void msh_l_check_fn_opt(lua_State *L, int idx);
int msh_l_ref_opt(msh_l_cx *cx, lua_State *L, int idx);

/* Pushes the arguments of a delivery and returns their number; runs protected, may raise. */
typedef int (*msh_l_push)(lua_State *L, void *arg);
/* Calls *ref once with what `push` pushes (NULL: nothing). Loop thread, never inside a call that Lua made.
 * Whatever happens *ref is empty afterwards. The objects that `push` makes own themselves; if `arg` holds
 * native things, `push` moves them into objects and empties `arg`, and the caller frees what is left. */
void msh_l_deliver(msh_l_cx *cx, int *ref, msh_l_push push, void *arg);
/* The same for a function that is called many times; `ref` stays. */
void msh_l_emit(msh_l_cx *cx, int ref, msh_l_push push, void *arg);
/* Takes *ref and delivers (nil, err) to it from the loop: for completions whose work was dropped by a close. Without
 * memory the callback is dropped, which is said on standard error. */
void msh_l_fail_later(msh_l_cx *cx, int *ref, const msh_err *e);
/* Ready-made pushes: `arg` is a msh_err (nil, err) or nothing but true. */
int msh_l_push_failed(lua_State *L, void *err);
int msh_l_push_true(lua_State *L, void *unused);
/* Reports an error value on top of the stack as a delivery does. [-1, +0, -] */
void msh_l_report(msh_l_cx *cx, lua_State *L);
/* Message handler: puts a traceback behind strings, leaves error values alone. */
int msh_l_traceback(lua_State *L);

/* {code=, message=, origin=, hresult=, op=}; hresult (unsigned) and op only when there is one. [-0, +1, m] */
void msh_l_push_err(lua_State *L, const msh_err *e);
/* What a binding returns on failure: nil and the error value. [-0, +2, m] */
int msh_l_fail(lua_State *L, const msh_err *e);
/* Likewise from a class name: "<what> is closed", code gone. */
int msh_l_closed(lua_State *L, const char *what);
/* The way back: the error value at `idx`, or a string; anything else is "unknown". Cannot jump. [-0, +0, -] */
void msh_l_to_err(lua_State *L, int idx, msh_err *e);
/* true, or nil and the error value when `rc` is not ok. */
int msh_l_result(lua_State *L, msh_code rc, const msh_err *e);

/* Makes the class `name` ("moonshim.stream") with its methods; `close` is close(), __close and __gc. [-0, +0,
 * m] */
void msh_l_class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction close);
/* A zeroed object of a class, born closed. [-0, +1, m] */
void *msh_l_new(lua_State *L, size_t size, const char *name);
#endif

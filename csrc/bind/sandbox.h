/* bind/sandbox.h - inside of core.script: what a script's state is made of.
 *
 * Layer      bind; for script*.c, sandbox.c, bounded.c, coroutine.c and budget.c alone.
 * Always     functions that take the script's own lua_State run protected in it (or cannot jump where they say so);
 *            the engine's state is not touched here. */
#ifndef MSH_BIND_SANDBOX_H
#define MSH_BIND_SANDBOX_H
#include "bind/script.h"
#include <stdint.h>

struct msh_copy;

typedef enum msh_over { MSH_OVER_NOT, MSH_OVER_STEPS, MSH_OVER_TIME } msh_over;

typedef struct msh_script_call {
    lua_State *co; /* NULL: free. Anchored in the state's table of calls */
    uint64_t id;
    uint64_t steps; /* instructions left */
    uint64_t cpu;   /* nanoseconds used */
    msh_over over;
    char over_at[80]; /* file:line where it was noticed */
} msh_script_call;

typedef struct msh_script {
    lua_State *S; /* NULL: closed */
    size_t used, cap;
    uint64_t instructions, cpu_budget;
    msh_script_call calls[MSH_SCRIPT_CALLS];
    msh_script_call *running; /* while the script runs */
    uint64_t slice, coarse;   /* processor time when it started; last look at the cheap clock */
    uint64_t last_id;         /* of a call */
    lua_Integer last_function;
    int functions; /* known to the engine */
    int closing;   /* nesting of coroutine.close */
    bool asking;   /* the yield on its way is a request */
} msh_script;

/* lua_Alloc with the limit. */
void *msh_script_alloc(void *script, void *p, size_t osize, size_t nsize);
msh_script *msh_script_of(lua_State *S);

/* Budgets. start/stop frame every run of script code; neither jumps. */
void msh_script_start(msh_script *s, msh_script_call *c);
void msh_script_stop(msh_script *s);
/* Counts `n` instructions more; raises when the budget is used up, and for ever after. */
void msh_script_charge(lua_State *L, uint64_t n);
/* True for a coroutine that a budget has killed: nothing of it may run again, not even its __close. */
bool msh_script_poisoned(lua_State *co);

/* What a new call shall run: a chunk, a function by name, or one by number. */
typedef struct msh_preparation {
    msh_script *s;
    msh_script_call *call;
    const char *chunk, *chunkname, *name;
    const void *key; /* where the results of the chunk are kept */
    size_t chunk_n;
    lua_Integer id;
    bool verbs;      /* the chunk is the prelude */
    lua_State *from; /* arguments: first..last of it */
    int first, last;
    msh_err *err;
    int nargs; /* out: on the new coroutine, above the function */
} msh_preparation;

/* Keys of the registry of the state (lua_rawgetp). */
extern const char *const msh_script_prelude, *const msh_script_result;

/* lua_CFunctions that run protected in the state; argument 1 is a msh_preparation. */
int msh_script_setup(lua_State *S);
int msh_script_prepare_call(lua_State *S);
int msh_script_prepare_answer(lua_State *S);
int msh_script_look_at_results(lua_State *S); /* values 2.. may cross; functions among them get numbers */
int msh_script_keep_results(lua_State *S);    /* values 2.. go under p->key */
/* msh_copy.function for what was looked at. */
lua_Integer msh_script_known_function(struct msh_copy *c, int idx);
/* Runs one of them with the `nvalues` on top of the state's stack; fills *p->err. */
msh_code msh_script_protected(msh_script *s, lua_CFunction f, msh_preparation *p, int nvalues);
msh_script_call *msh_script_free_call(msh_script *s); /* NULL when too many wait */
void msh_script_end(msh_script *s, msh_script_call *c);
void msh_script_forget(msh_script *s, lua_Integer id);

typedef struct msh_failure {
    msh_err err;
    char traceback[1024];
} msh_failure;

/* Fills *f from a call that has just stopped with the status `rc`. */
void msh_script_why(msh_script *s, msh_script_call *c, int rc, msh_failure *f);
/* nil and the error value, with .traceback. [-0, +2, m] */
int msh_script_push_failure(lua_State *L, const msh_failure *f);

/* The lua_CFunction that stands between an error and the handler of an xpcall; it passes by what a budget raised. */
int msh_sandbox_handler(lua_State *L);
/* lua_CFunction: makes the globals of the state. */
int msh_sandbox_open(lua_State *S);
/* Push the coroutine library, and the functions that are bounded beforehand into the library on top of the stack. */
void msh_sandbox_coroutines(lua_State *S);
void msh_sandbox_bound(lua_State *S, const char *library);
/* Request to the engine: yields its first argument; the second names it in messages. */
int msh_sandbox_request(lua_State *L);
#endif

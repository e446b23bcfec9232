/* core.script: the object and its calls. */
#include "bind/copy.h"
#include "bind/fields.h"
#include "bind/sandbox.h"
#include <stdio.h>

#define CLASS "moonshim.script"

/* ---- running ---- */

typedef enum outcome { RETURNED, ASKED, FAILED } outcome;

/* Runs the call until it returns, asks or fails. The results (or the request) are on top of the script's main
 * stack, checked, functions numbered; *n of them. */
static outcome run(msh_script *s, msh_script_call *c, int nargs, int *n, msh_failure *f)
{
    lua_State *S = s->S;
    int nres = 0;
    msh_script_start(s, c);
    int rc = lua_resume(c->co, S, nargs, &nres);
    bool asked = rc == LUA_YIELD && s->asking;
    if (c->over != MSH_OVER_NOT || (rc != LUA_OK && rc != LUA_YIELD)) {
        msh_script_why(s, c, rc, f);
        if (c->over == MSH_OVER_NOT && rc != LUA_YIELD)
            lua_resetthread(c->co); /* its pending __close, under what is left of the budget */
        msh_script_stop(s);
        msh_script_end(s, c);
        if (rc == LUA_ERRMEM)
            lua_gc(S, LUA_GCCOLLECT); /* there are no finalizers, so this runs no code of the script */
        return FAILED;
    }
    msh_script_stop(s);
    msh_preparation p = {.s = s, .call = c, .name = asked ? "request" : "result", .err = &f->err};
    if (nres > MSH_SCRIPT_VALUES)
        msh_fail(&f->err, MSH_INVALID_ARGUMENT, "the script returned %d values; at most %d can cross", nres,
                 MSH_SCRIPT_VALUES);
    else if (!lua_checkstack(S, 2 * nres + 4))
        msh_fail(&f->err, MSH_RESOURCE_EXHAUSTED, "the script's memory limit (%zu bytes) is reached", s->cap);
    else {
        lua_xmove(c->co, S, nres);
        for (int i = 0; i < nres; i++)
            lua_pushvalue(S, -nres);
        if (msh_script_protected(s, msh_script_look_at_results, &p, nres) == MSH_OK) {
            *n = nres;
            return asked ? ASKED : RETURNED;
        }
    }
    msh_err_from(&f->err, MSH_SHIM, "script");
    msh_script_end(s, c);
    return FAILED;
}

/* Pushes what `run` left: "return", values... or "yield", request, call id. */
static int give(lua_State *L, msh_script *s, msh_script_call *c, outcome o, int n)
{
    lua_State *S = s->S;
    int first = lua_gettop(S) - n + 1;
    uint64_t id = c->id;
    if (o == RETURNED)
        msh_script_end(s, c);
    luaL_checkstack(L, n + 8, "results of a script");
    lua_pushstring(L, o == RETURNED ? "return" : "yield");
    msh_copy copy = {.from = S, .to = L, .function = msh_script_known_function};
    for (int i = 0; i < n; i++)
        if (!msh_copy_value(&copy, first + i)) /* looked at before: only memory can be missing */
            return luaL_error(L, "not enough memory for the results of a script");
    lua_settop(S, first - 1);
    if (o == ASKED) {
        lua_pushinteger(L, (lua_Integer)id);
        n++;
    }
    return n + 1;
}

static int begin(lua_State *L, msh_script *s, msh_preparation p)
{
    msh_failure f = {0};
    int n = 0;
    lua_settop(s->S, 0); /* a jump out of the engine's state may have left something */
    p.s = s;
    p.err = &f.err;
    p.call = msh_script_free_call(s);
    if (p.call == NULL) {
        msh_fail(&f.err, MSH_RESOURCE_EXHAUSTED, "%d calls of the script are waiting", MSH_SCRIPT_CALLS);
        return msh_l_fail(L, &f.err);
    }
    msh_script_call *c = p.call;
    if (msh_script_protected(s, msh_script_prepare_call, &p, 0) != MSH_OK) {
        msh_err_from(&f.err, MSH_SHIM, "script");
        msh_script_end(s, c);
        return msh_l_fail(L, &f.err);
    }
    c->id = ++s->last_id;
    c->steps = s->instructions;
    c->cpu = 0;
    c->over = MSH_OVER_NOT;
    outcome o = run(s, c, p.nargs, &n, &f);
    return o == FAILED ? msh_script_push_failure(L, &f) : give(L, s, c, o, n);
}

/* ---- the object ---- */

static msh_script *check(lua_State *L)
{
    return luaL_checkudata(L, 1, CLASS);
}

static int l_close(lua_State *L)
{
    msh_script *s = check(L);
    lua_State *S = s->S;
    s->S = NULL;
    if (S != NULL) {
        lua_close(S); /* no finalizers, no __close: nothing of the script runs */
        msh_l_cx_of(L)->objects--;
    }
    return 0;
}

/* s:call(name | id, ...) -> "return", values... | "yield", request, call | nil, err      [-0, +1..n, arg]
 * A name is looked up in what the prelude returned, then in what the script returned; "main" of neither is the script
 * itself, which has run already: it returns its results again. */
static int l_call(lua_State *L)
{
    msh_script *s = check(L);
    msh_preparation p = {.from = L, .first = 3, .last = lua_gettop(L)};
    if (lua_type(L, 2) == LUA_TSTRING)
        p.name = msh_l_check_path(L, 2);
    else
        p.id = msh_l_check_int(L, 2, 1, LUA_MAXINTEGER);
    luaL_argcheck(L, p.last - 2 <= MSH_SCRIPT_VALUES, 3, "too many arguments");
    if (s->S == NULL)
        return msh_l_closed(L, "the script");
    return begin(L, s, p);
}

static msh_script_call *waiting(msh_script *s, uint64_t id)
{
    msh_script_call *newest = NULL;
    for (int i = 0; i < MSH_SCRIPT_CALLS; i++) {
        msh_script_call *c = &s->calls[i];
        if (c->co == NULL)
            continue;
        if (c->id == id)
            return c;
        if (id == 0 && (newest == NULL || c->id > newest->id))
            newest = c;
    }
    return newest;
}

static int resume(lua_State *L, msh_script *s, uint64_t id, int first)
{
    msh_failure f = {0};
    int n = 0;
    luaL_argcheck(L, lua_gettop(L) - first < MSH_SCRIPT_VALUES, first, "too many arguments");
    if (s->S == NULL)
        return msh_l_closed(L, "the script");
    lua_settop(s->S, 0);
    msh_script_call *c = waiting(s, id);
    if (c == NULL) {
        msh_fail(&f.err, MSH_FAILED_PRECONDITION, "no call of the script is waiting for an answer");
        return msh_l_fail(L, &f.err);
    }
    msh_preparation p = {.s = s, .call = c, .from = L, .first = first, .last = lua_gettop(L), .err = &f.err};
    if (msh_script_protected(s, msh_script_prepare_answer, &p, 0) !=
        MSH_OK) /* the call still waits: for a better answer */
        return msh_l_fail(L, &f.err);
    outcome o = run(s, c, p.nargs, &n, &f);
    return o == FAILED ? msh_script_push_failure(L, &f) : give(L, s, c, o, n);
}

/* s:resume(...)      answers the call that asked last; results as those of call */
static int l_resume(lua_State *L)
{
    return resume(L, check(L), 0, 2);
}

/* s:resume_call(call, ...)      answers that call, when several wait */
static int l_resume_call(lua_State *L)
{
    msh_script *s = check(L);
    return resume(L, s, (uint64_t)msh_l_check_int(L, 2, 1, LUA_MAXINTEGER), 3);
}

/* s:abandon(call?)      drops a waiting call (the newest), which never goes on      [-0, +1, arg] */
static int l_abandon(lua_State *L)
{
    msh_script *s = check(L);
    uint64_t id = lua_isnoneornil(L, 2) ? 0 : (uint64_t)msh_l_check_int(L, 2, 1, LUA_MAXINTEGER);
    msh_script_call *c = s->S != NULL ? waiting(s, id) : NULL;
    if (c != NULL)
        msh_script_end(s, c);
    lua_pushboolean(L, c != NULL);
    return 1;
}

/* s:forget(id)      the engine will not call that function any more      [-0, +0, arg] */
static int l_forget(lua_State *L)
{
    msh_script *s = check(L);
    lua_Integer id = msh_l_check_int(L, 2, 1, LUA_MAXINTEGER);
    if (s->S != NULL)
        msh_script_forget(s, id);
    return 0;
}

/* s:counts() -> {memory=, functions=, waiting=}      bytes in use, functions known, calls that wait */
static int l_counts(lua_State *L)
{
    msh_script *s = check(L);
    int n = 0;
    for (int i = 0; i < MSH_SCRIPT_CALLS; i++)
        n += s->S != NULL && s->calls[i].co != NULL;
    lua_createtable(L, 0, 3);
    msh_l_set_int(L, "memory", (lua_Integer)s->used);
    msh_l_set_int(L, "functions", s->S != NULL ? s->functions : 0);
    msh_l_set_int(L, "waiting", n);
    return 1;
}

/* Runs a chunk and keeps its results. True, or the failure is pushed. */
static bool load(lua_State *L, msh_script *s, msh_preparation p, const char *what)
{
    msh_failure f = {0};
    int n = 0;
    p.s = s;
    p.err = &f.err;
    p.call = &s->calls[0];
    msh_script_call *c = p.call;
    if (msh_script_protected(s, msh_script_prepare_call, &p, 0) == MSH_OK) {
        c->id = ++s->last_id;
        c->steps = s->instructions;
        c->cpu = 0;
        c->over = MSH_OVER_NOT;
        msh_script_start(s, c);
        int rc = lua_resume(c->co, s->S, p.nargs, &n);
        if (rc == LUA_YIELD)
            msh_fail(&f.err, MSH_FAILED_PRECONDITION, "%s asks the engine for something while it is loaded",
                     what);
        else if (rc != LUA_OK || c->over != MSH_OVER_NOT)
            msh_script_why(s, c, rc, &f);
        msh_script_stop(s);
        if (f.err.code == MSH_OK && n > MSH_SCRIPT_VALUES)
            msh_fail(&f.err, MSH_INVALID_ARGUMENT, "%s returned %d values; at most %d are kept", what, n,
                     MSH_SCRIPT_VALUES);
        if (f.err.code == MSH_OK && !lua_checkstack(s->S, n + 4))
            msh_fail(&f.err, MSH_RESOURCE_EXHAUSTED, "the script's memory limit (%zu bytes) is reached",
                     s->cap);
        if (f.err.code == MSH_OK) {
            lua_xmove(c->co, s->S, n);
            if (msh_script_protected(s, msh_script_keep_results, &p, n) == MSH_OK) {
                msh_script_end(s, c);
                return true;
            }
        }
    }
    msh_err_from(&f.err, MSH_SHIM, "script");
    msh_script_end(s, c);
    msh_script_push_failure(L, &f);
    return false;
}

/* core.script{source=, chunkname=, prelude=, memory=, instructions=, cpu_ms=} -> script | nil, err
 * Runs the prelude, then the source.      [-0, +1..2, arg] */
static int l_script(lua_State *L)
{
    msh_preparation source = {.key = msh_script_result};
    msh_preparation prelude = {.key = msh_script_prelude, .chunkname = "=prelude", .verbs = true};
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    source.chunk = msh_l_bytes(L, 1, "source", true, &source.chunk_n);
    source.chunkname = msh_l_str(L, 1, "chunkname", false);
    prelude.chunk = msh_l_bytes(L, 1, "prelude", false, &prelude.chunk_n);
    size_t cap = (size_t)msh_l_int(L, 1, "memory", 128 << 10, (lua_Integer)4 << 30, MSH_SCRIPT_MEMORY);
    lua_Integer steps = msh_l_int(L, 1, "instructions", 1000, (lua_Integer)1 << 50, MSH_SCRIPT_INSTRUCTIONS);
    lua_Integer cpu_ms = msh_l_int(L, 1, "cpu_ms", 1, 3600000, MSH_SCRIPT_CPU_MS);
    if (source.chunkname == NULL)
        source.chunkname = "=script";

    msh_script *s = msh_l_new(L, sizeof *s, CLASS);
    int self = lua_gettop(L);
    msh_err err = {0};
    msh_preparation p = {.s = s, .err = &err};
    s->cap = cap;
    s->instructions = (uint64_t)steps;
    s->cpu_budget = (uint64_t)cpu_ms * 1000000u;
    s->S = lua_newstate(msh_script_alloc, s);
    if (s->S == NULL) {
        msh_fail(&err, MSH_RESOURCE_EXHAUSTED, "no memory for the state of a script");
        return msh_l_fail(L, &err);
    }
    msh_l_cx_of(L)->objects++;
    *(msh_script **)lua_getextraspace(s->S) = s;
    if (msh_script_protected(s, msh_script_setup, &p, 0) != MSH_OK) {
        lua_replace(L, 1); /* the object, which l_close expects there */
        l_close(L);
        return msh_l_fail(L, &err);
    }
    if ((prelude.chunk != NULL && !load(L, s, prelude, "the prelude")) || !load(L, s, source, "the script")) {
        lua_pushvalue(L, self); /* closed now, not when the collector comes by */
        lua_replace(L, 1);
        l_close(L);
        return 2;
    }
    lua_settop(L, self);
    return 1;
}

void msh_l_open_script(lua_State *L)
{
    static const luaL_Reg methods[] = {{"call", l_call},
                                       {"resume", l_resume},
                                       {"resume_call", l_resume_call},
                                       {"abandon", l_abandon},
                                       {"forget", l_forget},
                                       {"counts", l_counts},
                                       {NULL, NULL}};
    msh_l_class(L, CLASS, methods, l_close);
    lua_pushcfunction(L, l_script);
}

/* core.script: the object, its calls, and what crosses. */
#include "bind/copy.h"
#include "bind/sandbox.h"
#include <stdlib.h>
#include <string.h>

#define CLASS "moonshim.script"
#define DEPTH 10 /* lines of a traceback */

/* Addresses that name our tables in the registry of the script's state. */
static const char calls_key;     /* slot -> coroutine or false */
static const char functions_key; /* id -> function */
static const char ids_key;       /* function -> id */
static const char prelude_key;   /* {n=, values...} that the prelude returned */
static const char result_key;    /* likewise the script */

/* ---- inside the script's state ---- */

static lua_Integer known_function(msh_copy *c, int idx)
{
    lua_State *S = c->from;
    if (!lua_checkstack(S, 4))
        return 0;
    lua_rawgetp(S, LUA_REGISTRYINDEX, &ids_key);
    lua_pushvalue(S, idx);
    lua_rawget(S, -2);
    lua_Integer id = lua_tointeger(S, -1);
    lua_pop(S, 2);
    return id;
}

/* Runs protected in S: gives the function a number that the engine can call it by. */
static lua_Integer remember_function(msh_copy *c, int idx)
{
    lua_State *S = c->from;
    lua_Integer id = known_function(c, idx);
    if (id != 0)
        return id;
    msh_script *s = msh_script_of(S);
    if (s->functions >= MSH_SCRIPT_FUNCTIONS)
        luaL_error(S, "the engine already knows %d functions of this script", s->functions);
    luaL_checkstack(S, 6, "functions");
    id = s->last_function + 1;
    lua_rawgetp(S, LUA_REGISTRYINDEX, &functions_key);
    lua_pushvalue(S, idx);
    lua_rawseti(S, -2, id);
    lua_rawgetp(S, LUA_REGISTRYINDEX, &ids_key);
    lua_pushvalue(S, idx);
    lua_pushinteger(S, id);
    lua_rawset(S, -3);
    lua_pop(S, 2);
    s->last_function = id;
    s->functions++;
    return id;
}

/* verbs.result() -> what the script returned, all of it; nothing before it has run */
static int verb_result(lua_State *S)
{
    if (lua_rawgetp(S, LUA_REGISTRYINDEX, &result_key) != LUA_TTABLE)
        return 0;
    lua_getfield(S, -1, "n");
    int n = (int)lua_tointeger(S, -1);
    luaL_checkstack(S, n, "results");
    for (int i = 1; i <= n; i++)
        lua_rawgeti(S, -1 - i, i);
    return n;
}

static int setup(lua_State *S)
{
    msh_sandbox_open(S);
    lua_createtable(S, MSH_SCRIPT_CALLS, 0);
    for (int i = 1; i <= MSH_SCRIPT_CALLS; i++) {
        lua_pushboolean(S, 0);
        lua_rawseti(S, -2, i);
    }
    lua_rawsetp(S, LUA_REGISTRYINDEX, &calls_key);
    lua_newtable(S);
    lua_rawsetp(S, LUA_REGISTRYINDEX, &functions_key);
    lua_newtable(S);
    lua_rawsetp(S, LUA_REGISTRYINDEX, &ids_key);
    return 0;
}

/* What a new call shall run: a chunk, a function by name, or one by number. */
typedef struct preparation {
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
} preparation;

/* Pushes the function of that name of the first value kept under `key`; false (and nothing pushed) without one. */
static bool find_in(lua_State *S, const void *key, const char *name)
{
    int top = lua_gettop(S);
    if (lua_rawgetp(S, LUA_REGISTRYINDEX, key) == LUA_TTABLE && lua_rawgeti(S, -1, 1) == LUA_TTABLE) {
        lua_pushstring(S, name);
        if (lua_rawget(S, -2) == LUA_TFUNCTION) {
            lua_replace(S, top + 1);
            lua_settop(S, top + 1);
            return true;
        }
    }
    lua_settop(S, top);
    return false;
}

static bool find_function(lua_State *S, const preparation *p)
{
    if (p->chunk != NULL) {
        if (luaL_loadbufferx(S, p->chunk, p->chunk_n, p->chunkname, "t") == LUA_OK)
            return true;
        msh_fail(p->err, MSH_INVALID_ARGUMENT, "%s", lua_tostring(S, -1));
        return false;
    }
    if (p->name != NULL) {
        if (find_in(S, &prelude_key, p->name) || find_in(S, &result_key, p->name))
            return true;
        if (strcmp(p->name, "main") == 0) { /* the file itself, which has run: its results */
            lua_pushcfunction(S, verb_result);
            return true;
        }
        msh_fail(p->err, MSH_NOT_FOUND, "the script has no function '%s'", p->name);
        return false;
    }
    lua_rawgetp(S, LUA_REGISTRYINDEX, &functions_key);
    if (lua_rawgeti(S, -1, p->id) == LUA_TFUNCTION) {
        lua_remove(S, -2);
        return true;
    }
    msh_fail(p->err, MSH_NOT_FOUND, "the script has no function number %lld", (long long)p->id);
    return false;
}

/* Protected: pushes copies of the arguments, or fills the error. */
static bool push_arguments(lua_State *S, preparation *p)
{
    luaL_checkstack(S, p->last - p->first + 8, "arguments");
    for (int i = p->first; i <= p->last; i++) {
        msh_copy c = {.from = p->from, .to = S};
        if (!msh_copy_value(&c, i)) {
            char what[32];
            snprintf(what, sizeof what, "argument %d", i - p->first + 1);
            msh_copy_refusal(&c, what, p->err);
            return false;
        }
        p->nargs++;
    }
    return true;
}

static int push_verbs(lua_State *S)
{
    static const luaL_Reg verbs[] = {{"request", msh_sandbox_request}, {"result", verb_result}, {NULL, NULL}};
    luaL_newlib(S, verbs);
    return 1;
}

static int prepare_call(lua_State *S)
{
    preparation *p = lua_touserdata(S, 1);
    lua_State *co = lua_newthread(S);
    lua_rawgetp(S, LUA_REGISTRYINDEX, &calls_key);
    lua_pushvalue(S, 2);
    lua_rawseti(S, -2, 1 + (p->call - p->s->calls));
    lua_settop(S, 2);
    if (!find_function(S, p))
        return 0;
    if (p->verbs)
        p->nargs = push_verbs(S);
    else if (p->from != NULL && !push_arguments(S, p))
        return 0;
    luaL_checkstack(co, p->nargs + 1, "arguments");
    lua_xmove(S, co, p->nargs + 1);
    p->call->co = co;
    return 0;
}

static int prepare_answer(lua_State *S)
{
    preparation *p = lua_touserdata(S, 1);
    if (!push_arguments(S, p))
        return 0;
    luaL_checkstack(p->call->co, p->nargs, "arguments");
    lua_xmove(S, p->call->co, p->nargs);
    return 0;
}

/* Protected: may the values 2.. cross? Gives numbers to the functions in them. */
static int look_at_results(lua_State *S)
{
    preparation *p = lua_touserdata(S, 1);
    for (int i = 2; i <= lua_gettop(S); i++) {
        msh_copy c = {.from = S, .function = remember_function};
        if (!msh_copy_value(&c, i)) {
            char what[32];
            snprintf(what, sizeof what, "%s %d", p->name, i - 1);
            msh_copy_refusal(&c, what, p->err);
            return 0;
        }
    }
    p->nargs = 1;
    return 0;
}

/* Protected: keeps the values 2.. under p->key. */
static int keep_results(lua_State *S)
{
    preparation *p = lua_touserdata(S, 1);
    int n = lua_gettop(S) - 1;
    lua_createtable(S, n, 1);
    lua_pushinteger(S, n);
    lua_setfield(S, -2, "n");
    lua_insert(S, 2);
    for (int i = n; i >= 1; i--)
        lua_rawseti(S, 2, i);
    lua_rawsetp(S, LUA_REGISTRYINDEX, p->key);
    return 0;
}

/* ---- on the border; nothing here jumps in the script's state ---- */

static msh_code protected_call(msh_script *s, lua_CFunction f, preparation *p, int nvalues)
{
    lua_State *S = s->S;
    int at = lua_gettop(S) - nvalues;
    int from_top = p->from != NULL ? lua_gettop(p->from) : 0;
    p->err->code = MSH_OK;
    if (!lua_checkstack(S, 4)) {
        lua_settop(S, at);
        return msh_fail(p->err, MSH_RESOURCE_EXHAUSTED, "the script's memory limit (%zu bytes) is reached",
                        s->cap);
    }
    lua_pushcfunction(S, f);
    lua_insert(S, at + 1);
    lua_pushlightuserdata(S, p);
    lua_insert(S, at + 2);
    int rc = lua_pcall(S, nvalues + 1, 0, 0);
    if (p->from != NULL)
        lua_settop(p->from, from_top);
    if (rc == LUA_ERRMEM)
        msh_fail(p->err, MSH_RESOURCE_EXHAUSTED, "the script's memory limit (%zu bytes) is reached", s->cap);
    else if (rc != LUA_OK)
        msh_fail(p->err, MSH_RESOURCE_EXHAUSTED, "%s",
                 lua_type(S, -1) == LUA_TSTRING ? lua_tostring(S, -1) : "the script's state is full");
    lua_settop(S, at);
    return p->err->code;
}

static msh_script_call *free_call(msh_script *s)
{
    for (int i = 0; i < MSH_SCRIPT_CALLS; i++)
        if (s->calls[i].co == NULL)
            return &s->calls[i];
    return NULL;
}

static void end_call(msh_script *s, msh_script_call *c)
{
    c->co = NULL;
    if (!lua_checkstack(s->S, 4))
        return; /* then the next user of the slot lets go of it */
    lua_rawgetp(s->S, LUA_REGISTRYINDEX, &calls_key);
    lua_pushboolean(s->S, 0);
    lua_rawseti(s->S, -2, 1 + (c - s->calls)); /* the slot exists, so nothing is allocated */
    lua_pop(s->S, 1);
}

/* ---- failures of a script ---- */

typedef struct failure {
    msh_err err;
    char traceback[1024];
} failure;

/* First frame with a line: where it happened. */
static void where(lua_State *co, char *out, size_t n)
{
    lua_Debug ar;
    out[0] = '\0';
    for (int level = 0; level < 20 && lua_getstack(co, level, &ar); level++)
        if (lua_getinfo(co, "Sl", &ar) && ar.currentline > 0) {
            snprintf(out, n, "%s:%d", ar.short_src, ar.currentline);
            return;
        }
}

static void trace(lua_State *co, failure *f)
{
    lua_Debug ar;
    size_t at = 0;
    for (int level = 0; level < DEPTH && lua_getstack(co, level, &ar); level++) {
        char line[16] = "";
        lua_getinfo(co, "Sln", &ar);
        if (ar.currentline > 0)
            snprintf(line, sizeof line, ":%d", ar.currentline);
        int n = snprintf(f->traceback + at, sizeof f->traceback - at, "%s%s%s%s%.40s", at > 0 ? "\n" : "",
                         ar.short_src, line, ar.name != NULL ? ": in " : "", ar.name != NULL ? ar.name : "");
        if (n < 0 || (size_t)n >= sizeof f->traceback - at)
            break;
        at += (size_t)n;
    }
}

/* Does a message already say where: "name:12: ..."? */
static bool placed(const char *text)
{
    for (const char *p = strchr(text, ':'); p != NULL && p - text < LUA_IDSIZE; p = strchr(p + 1, ':')) {
        size_t digits = strspn(p + 1, "0123456789");
        if (digits > 0 && p[1 + digits] == ':')
            return true;
    }
    return false;
}

static msh_code code_of_text(const char *text)
{
    for (int code = 1; code < MSH_CODE_COUNT; code++)
        if (strcmp(msh_code_text((msh_code)code), text) == 0)
            return (msh_code)code;
    return MSH_ABORTED;
}

/* A raised table with code and message keeps them; reads raw, so no code of the script runs. */
static void from_table(lua_State *co, failure *f, const char *at)
{
    const char *code = "", *message = NULL;
    if (!lua_checkstack(co, 4))
        return;
    int idx = lua_gettop(co);
    for (lua_pushnil(co); lua_next(co, idx) != 0; lua_pop(co, 1)) {
        if (lua_type(co, -2) != LUA_TSTRING || lua_type(co, -1) != LUA_TSTRING)
            continue;
        if (strcmp(lua_tostring(co, -2), "code") == 0)
            code = lua_tostring(co, -1);
        else if (strcmp(lua_tostring(co, -2), "message") == 0)
            message = lua_tostring(co, -1);
    }
    msh_fail(&f->err, code_of_text(code), "%s%s%s", at, at[0] != '\0' ? ": " : "",
             message != NULL ? message : "the script raised a table without a message");
}

static void why(msh_script *s, msh_script_call *c, int rc, failure *f)
{
    char at[LUA_IDSIZE + 16];
    where(c->co, at, sizeof at);
    trace(c->co, f);
    const char *colon = at[0] != '\0' ? ": " : "";
    const char *text = rc != LUA_OK && lua_type(c->co, -1) == LUA_TSTRING ? lua_tostring(c->co, -1) : NULL;
    if (rc == LUA_ERRMEM)
        msh_fail(&f->err, MSH_RESOURCE_EXHAUSTED, "%s%sthe script's memory limit (%zu bytes) is reached", at,
                 colon, s->cap);
    else if (c->over == MSH_OVER_STEPS)
        msh_fail(&f->err, MSH_RESOURCE_EXHAUSTED,
                 "%s: the script has used up its budget of %llu instructions", c->over_at,
                 (unsigned long long)s->instructions);
    else if (c->over == MSH_OVER_TIME)
        msh_fail(&f->err, MSH_RESOURCE_EXHAUSTED,
                 "%s: the script has used up its budget of %llu ms of processor time", c->over_at,
                 (unsigned long long)(s->cpu_budget / 1000000u));
    else if (text != NULL)
        msh_fail(&f->err, MSH_ABORTED, "%s%s%s", placed(text) ? "" : at, placed(text) ? "" : colon, text);
    else if (lua_istable(c->co, -1))
        from_table(c->co, f, at);
    else
        msh_fail(&f->err, MSH_ABORTED, "%s%sthe script raised %s", at, colon,
                 lua_isnil(c->co, -1) ? "nil" : luaL_typename(c->co, -1));
    msh_err_from(&f->err, MSH_SHIM, "script");
}

static int push_failure(lua_State *L, const failure *f)
{
    msh_l_fail(L, &f->err);
    if (f->traceback[0] != '\0') {
        lua_pushstring(L, f->traceback);
        lua_setfield(L, -2, "traceback");
    }
    return 2;
}

/* ---- running ---- */

typedef enum outcome { RETURNED, ASKED, FAILED } outcome;

/* Runs the call until it returns, asks or fails. The results (or the request) are on top of the script's main
 * stack, checked, functions numbered; *n of them. */
static outcome run(msh_script *s, msh_script_call *c, int nargs, int *n, failure *f)
{
    lua_State *S = s->S;
    int nres = 0;
    msh_script_start(s, c);
    int rc = lua_resume(c->co, S, nargs, &nres);
    bool asked = rc == LUA_YIELD && s->asking;
    if (c->over != MSH_OVER_NOT || (rc != LUA_OK && rc != LUA_YIELD)) {
        why(s, c, rc, f);
        if (c->over == MSH_OVER_NOT && rc != LUA_YIELD)
            lua_resetthread(c->co); /* its pending __close, under what is left of the budget */
        msh_script_stop(s);
        end_call(s, c);
        if (rc == LUA_ERRMEM)
            lua_gc(S, LUA_GCCOLLECT); /* there are no finalizers, so this runs no code of the script */
        return FAILED;
    }
    msh_script_stop(s);
    preparation p = {.s = s, .call = c, .name = asked ? "request" : "result", .err = &f->err};
    if (nres > MSH_SCRIPT_VALUES)
        msh_fail(&f->err, MSH_INVALID_ARGUMENT, "the script returned %d values; at most %d can cross", nres,
                 MSH_SCRIPT_VALUES);
    else if (!lua_checkstack(S, 2 * nres + 4))
        msh_fail(&f->err, MSH_RESOURCE_EXHAUSTED, "the script's memory limit (%zu bytes) is reached", s->cap);
    else {
        lua_xmove(c->co, S, nres);
        for (int i = 0; i < nres; i++)
            lua_pushvalue(S, -nres);
        if (protected_call(s, look_at_results, &p, nres) == MSH_OK) {
            *n = nres;
            return asked ? ASKED : RETURNED;
        }
    }
    msh_err_from(&f->err, MSH_SHIM, "script");
    end_call(s, c);
    return FAILED;
}

/* Pushes what `run` left: "return", values... or "yield", request, call id. */
static int give(lua_State *L, msh_script *s, msh_script_call *c, outcome o, int n)
{
    lua_State *S = s->S;
    int first = lua_gettop(S) - n + 1;
    uint64_t id = c->id;
    if (o == RETURNED)
        end_call(s, c);
    luaL_checkstack(L, n + 8, "results of a script");
    lua_pushstring(L, o == RETURNED ? "return" : "yield");
    for (int i = 0; i < n; i++) {
        msh_copy copy = {.from = S, .to = L, .function = known_function};
        if (!msh_copy_value(&copy, first + i)) /* looked at before: only memory can be missing */
            return luaL_error(L, "not enough memory for the results of a script");
    }
    lua_settop(S, first - 1);
    if (o == ASKED) {
        lua_pushinteger(L, (lua_Integer)id);
        n++;
    }
    return n + 1;
}

static int begin(lua_State *L, msh_script *s, preparation *p)
{
    failure f = {0};
    int n = 0;
    lua_settop(s->S, 0); /* a jump out of the engine's state may have left something */
    p->s = s;
    p->err = &f.err;
    p->call = free_call(s);
    if (p->call == NULL) {
        msh_fail(&f.err, MSH_RESOURCE_EXHAUSTED, "%d calls of the script are waiting", MSH_SCRIPT_CALLS);
        return msh_l_fail(L, &f.err);
    }
    msh_script_call *c = p->call;
    if (protected_call(s, prepare_call, p, 0) != MSH_OK) {
        msh_err_from(&f.err, MSH_SHIM, "script");
        end_call(s, c);
        return msh_l_fail(L, &f.err);
    }
    c->id = ++s->last_id;
    c->steps = s->instructions;
    c->cpu = 0;
    c->over = MSH_OVER_NOT;
    outcome o = run(s, c, p->nargs, &n, &f);
    return o == FAILED ? push_failure(L, &f) : give(L, s, c, o, n);
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
    preparation p = {.from = L, .first = 3, .last = lua_gettop(L)};
    if (lua_type(L, 2) == LUA_TSTRING)
        p.name = msh_l_check_path(L, 2);
    else
        p.id = msh_l_check_int(L, 2, 1, LUA_MAXINTEGER);
    luaL_argcheck(L, p.last - 2 <= MSH_SCRIPT_VALUES, 3, "too many arguments");
    if (s->S == NULL)
        return msh_l_closed(L, "the script");
    return begin(L, s, &p);
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
    failure f = {0};
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
    preparation p = {.s = s, .call = c, .from = L, .first = first, .last = lua_gettop(L), .err = &f.err};
    if (protected_call(s, prepare_answer, &p, 0) != MSH_OK) /* the call still waits: for a better answer */
        return msh_l_fail(L, &f.err);
    outcome o = run(s, c, p.nargs, &n, &f);
    return o == FAILED ? push_failure(L, &f) : give(L, s, c, o, n);
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
        end_call(s, c);
    lua_pushboolean(L, c != NULL);
    return 1;
}

/* s:forget(id)      the engine will not call that function any more      [-0, +0, arg] */
static int l_forget(lua_State *L)
{
    msh_script *s = check(L);
    lua_Integer id = msh_l_check_int(L, 2, 1, LUA_MAXINTEGER);
    lua_State *S = s->S;
    if (S == NULL || !lua_checkstack(S, 6))
        return 0;
    lua_settop(S, 0);
    lua_rawgetp(S, LUA_REGISTRYINDEX, &ids_key);
    lua_rawgetp(S, LUA_REGISTRYINDEX, &functions_key);
    if (lua_rawgeti(S, 2, id) == LUA_TFUNCTION) {
        lua_pushnil(S); /* both keys exist, so nothing is allocated */
        lua_rawset(S, 1);
        lua_pushnil(S);
        lua_rawseti(S, 2, id);
        s->functions--;
    }
    lua_settop(S, 0);
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
    lua_pushinteger(L, (lua_Integer)s->used);
    lua_setfield(L, -2, "memory");
    lua_pushinteger(L, s->S != NULL ? s->functions : 0);
    lua_setfield(L, -2, "functions");
    lua_pushinteger(L, n);
    lua_setfield(L, -2, "waiting");
    return 1;
}

/* Runs a chunk and keeps its results. True, or the failure is pushed. */
static bool load(lua_State *L, msh_script *s, preparation *p, const char *what)
{
    failure f = {0};
    int n = 0;
    p->s = s;
    p->err = &f.err;
    p->call = &s->calls[0];
    msh_script_call *c = p->call;
    if (protected_call(s, prepare_call, p, 0) == MSH_OK) {
        c->id = ++s->last_id;
        c->steps = s->instructions;
        c->cpu = 0;
        c->over = MSH_OVER_NOT;
        msh_script_start(s, c);
        int rc = lua_resume(c->co, s->S, p->nargs, &n);
        if (rc == LUA_YIELD)
            msh_fail(&f.err, MSH_FAILED_PRECONDITION, "%s asks the engine for something while it is loaded",
                     what);
        else if (rc != LUA_OK || c->over != MSH_OVER_NOT)
            why(s, c, rc, &f);
        msh_script_stop(s);
        if (f.err.code == MSH_OK && n > MSH_SCRIPT_VALUES)
            msh_fail(&f.err, MSH_INVALID_ARGUMENT, "%s returned %d values; at most %d are kept", what, n,
                     MSH_SCRIPT_VALUES);
        if (f.err.code == MSH_OK && !lua_checkstack(s->S, n + 4))
            msh_fail(&f.err, MSH_RESOURCE_EXHAUSTED, "the script's memory limit (%zu bytes) is reached",
                     s->cap);
        if (f.err.code == MSH_OK) {
            lua_xmove(c->co, s->S, n);
            if (protected_call(s, keep_results, p, n) == MSH_OK) {
                end_call(s, c);
                return true;
            }
        }
    }
    msh_err_from(&f.err, MSH_SHIM, "script");
    end_call(s, c);
    push_failure(L, &f);
    return false;
}

/* core.script{source=, chunkname=, prelude=, memory=, instructions=, cpu_ms=} -> script | nil, err
 * Runs the prelude, then the source.      [-0, +1..2, arg] */
static int l_script(lua_State *L)
{
    preparation source = {.key = &result_key};
    preparation prelude = {.key = &prelude_key, .chunkname = "=prelude", .verbs = true};
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
    preparation p = {.s = s, .err = &err};
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
    if (protected_call(s, setup, &p, 0) != MSH_OK) {
        lua_replace(L, 1); /* the object, which l_close expects there */
        l_close(L);
        return msh_l_fail(L, &err);
    }
    if ((prelude.chunk != NULL && !load(L, s, &prelude, "the prelude")) ||
        !load(L, s, &source, "the script")) {
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

/* The budgets of a script: memory through the allocator, instructions and processor time through a hook. It runs every few
 * instructions, and at every call: a library function that calls another one (sort, gsub, a metamethod) runs none. */
#include "bind/sandbox.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define QUANTUM 100 /* instructions between two looks */

void *msh_script_alloc(void *script, void *p, size_t osize, size_t nsize)
{
    msh_script *s = script;
    if (p == NULL)
        osize = 0; /* then it is a kind of object */
    if (nsize == 0) {
        free(p);
        s->used -= osize;
        return NULL;
    }
    if (nsize > osize && (s->used > s->cap || nsize - osize > s->cap - s->used))
        return NULL;
    void *q = realloc(p, nsize);
    if (q == NULL)
        return nsize <= osize ? p : NULL; /* Lua relies on it that shrinking cannot fail */
    s->used = s->used - osize + nsize;
    return q;
}

msh_script *msh_script_of(lua_State *S)
{
    return *(msh_script **)lua_getextraspace(S); /* every thread has a copy of its main thread's */
}

static uint64_t clock_ns(clockid_t which)
{
    struct timespec t = {0};
    clock_gettime(which, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Raises for ever. The text is for the script's own eyes; the engine makes its message from the call. */
static void hook_over(lua_State *L, lua_Debug *ar)
{
    if (ar != NULL && ar->event == LUA_HOOKCALL && lua_getinfo(L, "f", ar)) {
        bool handler =
            lua_tocfunction(L, -1) == msh_sandbox_handler; /* raised again it would be called again */
        lua_pop(L, 1);
        if (handler)
            return;
    }
    lua_pushliteral(L, "the script has used up its budget");
    lua_error(L);
}

/* The innermost frame that has lines. */
static void note_place(lua_State *L, msh_script_call *c)
{
    lua_Debug ar;
    c->over_at[0] = '\0';
    for (int level = 0; level < 20 && c->over_at[0] == '\0' && lua_getstack(L, level, &ar); level++)
        if (lua_getinfo(L, "Sl", &ar) && ar.currentline > 0)
            snprintf(c->over_at, sizeof c->over_at, "%s:%d", ar.short_src, ar.currentline);
}

/* The cheap clock moves every few milliseconds; only then is the real question worth a system call. */
static bool out_of_time(msh_script *s)
{
    uint64_t coarse = clock_ns(CLOCK_MONOTONIC_COARSE);
    if (coarse == s->coarse)
        return false;
    s->coarse = coarse;
    return s->running->cpu + clock_ns(CLOCK_THREAD_CPUTIME_ID) - s->slice > s->cpu_budget;
}

static void count(lua_State *L, uint64_t n, lua_Debug *ar)
{
    msh_script *s = msh_script_of(L);
    msh_script_call *c = s->running;
    if (c == NULL)
        return;
    if (c->over == MSH_OVER_NOT) {
        if (c->steps <= n)
            c->over = MSH_OVER_STEPS;
        else if (out_of_time(s))
            c->over = MSH_OVER_TIME;
        else
            c->steps -= n;
        if (c->over != MSH_OVER_NOT)
            note_place(L, c);
    }
    if (c->over != MSH_OVER_NOT) {
        /* From here on every instruction and every call raises, so a pcall around this one gets nowhere. */
        lua_sethook(L, hook_over, LUA_MASKCOUNT | LUA_MASKCALL, 1);
        hook_over(L, ar);
    }
}

static void hook(lua_State *L, lua_Debug *ar)
{
    count(L, ar->event == LUA_HOOKCOUNT ? QUANTUM : 1, ar);
}

void msh_script_charge(lua_State *L, uint64_t n)
{
    count(L, n, NULL);
}

bool msh_script_poisoned(lua_State *co)
{
    return lua_gethook(co) == hook_over;
}

void msh_script_start(msh_script *s, msh_script_call *c)
{
    s->running = c;
    s->asking = false;
    s->coarse = 0;
    s->slice = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    lua_sethook(c->co, c->over == MSH_OVER_NOT ? hook : hook_over, LUA_MASKCOUNT | LUA_MASKCALL,
                c->over == MSH_OVER_NOT ? QUANTUM : 1);
}

void msh_script_stop(msh_script *s)
{
    if (s->running != NULL)
        s->running->cpu += clock_ns(CLOCK_THREAD_CPUTIME_ID) - s->slice;
    s->running = NULL;
}

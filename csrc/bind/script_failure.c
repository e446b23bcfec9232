/* Why a script failed: file and line, code, a short traceback. Reads the dead coroutine, runs nothing of it. */
#include "bind/sandbox.h"
#include <stdio.h>
#include <string.h>

#define DEPTH 10 /* lines of a traceback */

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

static void trace(lua_State *co, msh_failure *f)
{
    lua_Debug ar;
    size_t at = 0;
    for (int level = 0; level < DEPTH && lua_getstack(co, level, &ar); level++) {
        char line[16] = "";
        lua_getinfo(co, "Sln", &ar);
        if (ar.currentline > 0)
            snprintf(line, sizeof line, ":%d", ar.currentline);
        char name[41] = "";
        snprintf(name, sizeof name, "%s", ar.name != NULL ? ar.name : "");
        for (char *c = name; *c != '\0'; c++) /* a field may have any name */
            if ((unsigned char)*c < ' ' || *c == 0x7f)
                *c = '?';
        int n = snprintf(f->traceback + at, sizeof f->traceback - at, "%s%s%s%s%s", at > 0 ? "\n" : "",
                         ar.short_src, line, name[0] != '\0' ? ": in " : "", name);
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
static void from_table(lua_State *co, msh_failure *f, const char *at)
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

void msh_script_why(msh_script *s, msh_script_call *c, int rc, msh_failure *f)
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

int msh_script_push_failure(lua_State *L, const msh_failure *f)
{
    msh_l_fail(L, &f->err);
    if (f->traceback[0] != '\0') {
        lua_pushstring(L, f->traceback);
        lua_setfield(L, -2, "traceback");
    }
    return 2;
}

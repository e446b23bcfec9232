/* core.sys, second part: loop devices. What this process attached is kept by a descriptor that the context holds. */
#include "sys/loop.h"
#include "base/list.h"
#include "bind/bound.h"
#include "bind/fields.h"
#include "bind/job.h"
#include "sys/fd.h"
#include <stdlib.h>
#include <string.h>

/* A loop device that this process attached: the descriptor keeps it. */
typedef struct held_loop {
    msh_node node;
    msh_loop loop;
    int fd;
} held_loop;

struct msh_l_loops {
    msh_node held;
};

static void free_held(held_loop *h)
{
    if (h == NULL)
        return;
    msh_fd_close(&h->fd); /* autoclear: an idle device clears itself, a mounted one with its last user */
    free(h);
}

static void close_loops(msh_l_cx *cx)
{
    msh_node *n;
    while ((n = msh_list_shift(&cx->loops->held)) != NULL)
        free_held(MSH_LIST_OF(n, held_loop, node));
    free(cx->loops);
    cx->loops = NULL;
}

/* The list of the state, made when first needed; NULL: no memory. */
static struct msh_l_loops *loops_of(msh_l_cx *cx)
{
    if (cx->loops == NULL && (cx->loops = calloc(1, sizeof *cx->loops)) != NULL) {
        msh_list_init(&cx->loops->held);
        msh_l_cx_on_close(cx, close_loops);
    }
    return cx->loops;
}

static held_loop *take_held(msh_l_cx *cx, const msh_loop *l)
{
    if (cx->loops == NULL)
        return NULL;
    msh_node *list = &cx->loops->held;
    for (msh_node *n = list->next; n != list; n = n->next) {
        held_loop *h = MSH_LIST_OF(n, held_loop, node);
        if (h->loop.index == l->index && h->loop.dev == l->dev && h->loop.ino == l->ino &&
            strcmp(h->loop.tag, l->tag) == 0) {
            msh_list_remove(n);
            return h;
        }
    }
    return NULL;
}

typedef struct loop_job {
    msh_l_job job;
    char *path, *tag; /* attach */
    msh_loop_want want;
    msh_loop loop;   /* detach, verify */
    held_loop *held; /* attach: to be filled; detach: ours, or NULL */
} loop_job;

static loop_job *of(msh_l_job *base)
{
    return MSH_LIST_OF(base, loop_job, job);
}

static void free_job(msh_l_job *base)
{
    loop_job *j = of(base);
    free_held(j->held);
    free(j->path);
    free(j->tag);
    free(j);
}

static loop_job *new_job(void (*work)(msh_l_job *j), msh_l_push push)
{
    loop_job *j = calloc(1, sizeof *j);
    if (j != NULL)
        j->job = (msh_l_job){.work = work, .push = push, .free = free_job};
    return j;
}

static void work_attach(msh_l_job *base)
{
    loop_job *j = of(base);
    base->rc = msh_loop_attach(&j->want, &j->held->loop, &j->held->fd, &base->err);
}

static int push_loop(lua_State *L, void *arg)
{
    msh_l_job *base = arg;
    loop_job *j = of(base);
    const msh_loop *l = &j->held->loop;
    lua_createtable(L, 0, 6);
    msh_l_set_int(L, "index", l->index);
    msh_l_set_int(L, "major", l->major);
    msh_l_set_int(L, "minor", l->minor);
    msh_l_set_int(L, "dev", (lua_Integer)l->dev);
    msh_l_set_int(L, "ino", (lua_Integer)l->ino);
    msh_l_set_text(L, "tag", l->tag);
    msh_list_push(&base->cx->loops->held, &j->held->node); /* from now on the context holds it */
    j->held = NULL;
    return 1;
}

/* sys.loop_attach({path=, read_only=, size=, tag=}, done) -> true | nil, err      [-0, +1..2, arg] */
static int l_attach(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    const char *path = msh_l_str(L, 1, "path", true), *tag = msh_l_str(L, 1, "tag", true);
    bool read_only = msh_l_bool(L, 1, "read_only", false);
    lua_Integer size = msh_l_int(L, 1, "size", 0, LUA_MAXINTEGER, 0);

    loop_job *j = loops_of(msh_l_cx_of(L)) != NULL ? new_job(work_attach, push_loop) : NULL;
    if (j != NULL) {
        j->path = strdup(path);
        j->tag = strdup(tag);
        j->held = calloc(1, sizeof *j->held);
        if (j->held != NULL)
            j->held->fd = -1;
        if (j->path == NULL || j->tag == NULL || j->held == NULL) {
            free_job(&j->job);
            j = NULL;
        } else {
            j->want = (msh_loop_want){
                .path = j->path, .read_only = read_only, .size = (uint64_t)size, .tag = j->tag};
        }
    }
    return msh_l_job_submit(L, j != NULL ? &j->job : NULL, 2);
}

static void get_loop(lua_State *L, int t, msh_loop *out)
{
    luaL_checktype(L, t, LUA_TTABLE);
    memset(out, 0, sizeof *out);
    const char *tag = msh_l_str(L, t, "tag", true);
    if (strlen(tag) >= sizeof out->tag)
        luaL_argerror(L, t, "field 'tag': too long");
    memcpy(out->tag, tag, strlen(tag) + 1);
    out->index = (uint32_t)msh_l_int_needed(L, t, "index", 0, UINT32_MAX);
    out->dev = (uint64_t)msh_l_int_needed(L, t, "dev", LUA_MININTEGER, LUA_MAXINTEGER);
    out->ino = (uint64_t)msh_l_int_needed(L, t, "ino", LUA_MININTEGER, LUA_MAXINTEGER);
    out->major = (uint32_t)msh_l_int(L, t, "major", 0, UINT32_MAX, 7);
    out->minor = (uint32_t)msh_l_int(L, t, "minor", 0, UINT32_MAX, 0);
}

static void work_detach(msh_l_job *base)
{
    loop_job *j = of(base);
    int none = -1;
    base->rc = msh_loop_detach(&j->loop, j->held != NULL ? &j->held->fd : &none, &base->err);
}

/* sys.loop_detach({index=, dev=, ino=, tag=}, done) -> true | nil, err      gone: another file, or none, behind it
 * [-0, +1..2, arg] */
static int l_detach(lua_State *L)
{
    msh_loop l;
    get_loop(L, 1, &l);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    loop_job *j = new_job(work_detach, NULL);
    if (j != NULL) {
        j->loop = l;
        j->held = take_held(msh_l_cx_of(L), &l);
    }
    return msh_l_job_submit(L, j != NULL ? &j->job : NULL, 2);
}

static void work_verify(msh_l_job *base)
{
    base->rc = msh_loop_verify(&of(base)->loop, &base->err);
}

/* sys.loop_verify({index=, dev=, ino=, tag=}, done) -> true | nil, err      done(true), or gone [-0, +1..2, arg] */
static int l_verify(lua_State *L)
{
    msh_loop l;
    get_loop(L, 1, &l);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    loop_job *j = new_job(work_verify, NULL);
    if (j != NULL)
        j->loop = l;
    return msh_l_job_submit(L, j != NULL ? &j->job : NULL, 2);
}

void msh_l_open_loop(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"loop_attach", l_attach}, {"loop_detach", l_detach}, {"loop_verify", l_verify}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}

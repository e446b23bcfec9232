/* core.sys: what blocks runs on the pool and answers from the loop; the quick calls answer at once. */
#include "base/list.h"
#include "bind/bound.h"
#include "sys/cgroup.h"
#include "sys/fd.h"
#include "sys/image.h"
#include "sys/loop.h"
#include "sys/mounts.h"
#include "sys/pool.h"
#include "sys/tree.h"
#include <stdlib.h>
#include <string.h>

#define THREADS 6
#define QUEUE   4096 /* jobs that may wait */

/* A loop device that this process attached: the descriptor keeps it. */
typedef struct held_loop {
    msh_node node;
    msh_loop loop;
    int fd;
} held_loop;

struct msh_l_sys {
    msh_pool *pool;
    msh_node loops;
};

static void close_sys(msh_l_cx *cx)
{
    struct msh_l_sys *s = cx->sys;
    cx->sys = NULL;
    msh_pool_close(s->pool);
    msh_node *n;
    while ((n = msh_list_shift(&s->loops)) != NULL) {
        held_loop *h = MSH_LIST_OF(n, held_loop, node);
        msh_fd_close(&h->fd); /* autoclear: an idle device clears itself, a mounted one with its last user */
        free(h);
    }
    free(s);
}

/* NULL and *err when it cannot be made. */
static struct msh_l_sys *sys_of(msh_l_cx *cx, msh_err *err)
{
    if (cx->sys != NULL)
        return cx->sys;
    struct msh_l_sys *s = calloc(1, sizeof *s);
    if (s == NULL) {
        msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory");
        return NULL;
    }
    if (msh_pool_new(cx->loop, THREADS, QUEUE, &s->pool, err) != MSH_OK) {
        free(s);
        return NULL;
    }
    msh_list_init(&s->loops);
    msh_l_cx_on_close(cx, close_sys);
    return cx->sys = s;
}

struct msh_pool *msh_l_pool(msh_l_cx *cx, msh_err *err)
{
    struct msh_l_sys *s = sys_of(cx, err);
    return s == NULL ? NULL : s->pool;
}

/* ---- jobs ---- */

typedef struct job job;
struct job {
    msh_job base;
    msh_l_cx *cx;
    int ref; /* the callback; not given back by `drop`, since then the state is closing */
    msh_code rc;
    msh_err err;
    void (*work)(job *j);
    msh_l_push push; /* of a good result; NULL: true */
    held_loop *held; /* loop_attach and loop_detach */
    int fd;          /* open_tree; owned */
    char *path, *path2;
    char **list;
    size_t n;
    uint64_t number;
    int flags;
    msh_tree_want tree;
    msh_loop_want want;
    msh_loop loop;
    msh_image image;
};

static void free_job(job *j)
{
    msh_fd_close(&j->fd);
    if (j->held != NULL) {
        msh_fd_close(&j->held->fd);
        free(j->held);
    }
    for (size_t i = 0; i < j->n; i++)
        free(j->list[i]);
    free(j->list);
    free(j->path);
    free(j->path2);
    free(j);
}

static void job_work(msh_job *base)
{
    job *j = MSH_LIST_OF(base, job, base);
    j->work(j);
}

static void job_done(msh_job *base)
{
    job *j = MSH_LIST_OF(base, job, base);
    if (j->rc != MSH_OK)
        msh_l_deliver(j->cx, &j->ref, msh_l_push_failed, &j->err);
    else
        msh_l_deliver(j->cx, &j->ref, j->push != NULL ? j->push : msh_l_push_true, j);
    free_job(j);
}

static void job_drop(msh_job *base)
{
    free_job(MSH_LIST_OF(base, job, base));
}

static job *new_job(const char *path, void (*work)(job *j), msh_l_push push)
{
    job *j = calloc(1, sizeof *j);
    if (j == NULL)
        return NULL;
    j->fd = -1;
    j->ref = MSH_L_NOREF;
    j->work = work;
    j->push = push;
    j->base = (msh_job){.work = job_work, .done = job_done, .drop = job_drop};
    if (path != NULL && (j->path = strdup(path)) == NULL) {
        free_job(j);
        return NULL;
    }
    return j;
}

/* Takes the job (NULL: there was no memory for it); the callback is at `cb`, checked. Returns what the binding
 * returns. The reference is the only thing here that may jump, and then the job leaks with a dying state. */
static int submit(lua_State *L, job *j, int cb)
{
    msh_err err = {0};
    msh_l_cx *cx = msh_l_cx_of(L);
    if (j == NULL) {
        msh_fail(&err, MSH_RESOURCE_EXHAUSTED, "no memory");
        return msh_l_fail(L, &err);
    }
    j->cx = cx;
    struct msh_l_sys *s = sys_of(cx, &err);
    if (s == NULL) {
        free_job(j);
        return msh_l_fail(L, &err);
    }
    j->ref = msh_l_ref(cx, L, cb);
    if (msh_pool_submit(s->pool, &j->base, &err) != MSH_OK) {
        msh_l_unref(cx, &j->ref);
        free_job(j);
        return msh_l_fail(L, &err);
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* ---- loop devices ---- */

static void set_int(lua_State *L, const char *key, uint64_t v)
{
    lua_pushinteger(L, (lua_Integer)v);
    lua_setfield(L, -2, key);
}

static void work_attach(job *j)
{
    j->want.path = j->path;
    j->want.tag = j->path2;
    j->rc = msh_loop_attach(&j->want, &j->held->loop, &j->held->fd, &j->err);
}

static int push_loop(lua_State *L, void *arg)
{
    job *j = arg;
    const msh_loop *l = &j->held->loop;
    lua_createtable(L, 0, 6);
    set_int(L, "index", l->index);
    set_int(L, "major", l->major);
    set_int(L, "minor", l->minor);
    set_int(L, "dev", l->dev);
    set_int(L, "ino", l->ino);
    lua_pushstring(L, l->tag);
    lua_setfield(L, -2, "tag");
    msh_list_push(&j->cx->sys->loops, &j->held->node); /* from now on the context holds it */
    j->held = NULL;
    return 1;
}

/* sys.loop_attach({path=, read_only=, size=, tag=}, done) -> true | nil, err      [-0, +1..2, arg] */
static int l_loop_attach(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    const char *path = msh_l_str(L, 1, "path", true), *tag = msh_l_str(L, 1, "tag", true);
    bool read_only = msh_l_bool(L, 1, "read_only", false);
    lua_Integer size = msh_l_int(L, 1, "size", 0, LUA_MAXINTEGER, 0);

    job *j = new_job(path, work_attach, push_loop);
    if (j != NULL) {
        j->want.read_only = read_only;
        j->want.size = (uint64_t)size;
        j->path2 = strdup(tag);
        j->held = calloc(1, sizeof *j->held);
        if (j->held != NULL)
            j->held->fd = -1;
        if (j->path2 == NULL || j->held == NULL) {
            free_job(j);
            j = NULL;
        }
    }
    return submit(L, j, 2);
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

static held_loop *take_held(msh_l_cx *cx, const msh_loop *l)
{
    if (cx->sys == NULL)
        return NULL;
    for (msh_node *n = cx->sys->loops.next; n != &cx->sys->loops; n = n->next) {
        held_loop *h = MSH_LIST_OF(n, held_loop, node);
        if (h->loop.index == l->index && h->loop.dev == l->dev && h->loop.ino == l->ino &&
            strcmp(h->loop.tag, l->tag) == 0) {
            msh_list_remove(n);
            return h;
        }
    }
    return NULL;
}

static void work_detach(job *j)
{
    int none = -1;
    j->rc = msh_loop_detach(&j->loop, j->held != NULL ? &j->held->fd : &none, &j->err);
}

/* sys.loop_detach({index=, dev=, ino=, tag=}, done) -> true | nil, err      gone: another file, or none, behind it
 * [-0, +1..2, arg] */
static int l_loop_detach(lua_State *L)
{
    msh_loop l;
    get_loop(L, 1, &l);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    job *j = new_job(NULL, work_detach, NULL);
    if (j != NULL) {
        j->loop = l;
        j->held = take_held(msh_l_cx_of(L), &l);
    }
    return submit(L, j, 2);
}

static void work_verify(job *j)
{
    j->rc = msh_loop_verify(&j->loop, &j->err);
}

/* sys.loop_verify({index=, dev=, ino=, tag=}, done) -> true | nil, err      done(true), or gone [-0, +1..2, arg] */
static int l_loop_verify(lua_State *L)
{
    msh_loop l;
    get_loop(L, 1, &l);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    job *j = new_job(NULL, work_verify, NULL);
    if (j != NULL)
        j->loop = l;
    return submit(L, j, 2);
}

/* ---- trees and mounts ---- */

static void work_open_tree(job *j)
{
    j->tree.path = j->path;
    j->rc = msh_tree_open(&j->tree, &j->fd, &j->err);
}

static int push_fd(lua_State *L, void *arg)
{
    job *j = arg;
    lua_pushinteger(L, j->fd);
    j->fd = -1; /* the callback's now: sys.close */
    return 1;
}

/* sys.open_tree({path=, read_only=, recursive=, file=}, done) -> true | nil, err      done(fd), which the caller
 * closes by sys.close [-0, +1..2, arg] */
static int l_open_tree(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    const char *path = msh_l_str(L, 1, "path", true);
    msh_tree_want want = {.read_only = msh_l_bool(L, 1, "read_only", false),
                          .recursive = msh_l_bool(L, 1, "recursive", false),
                          .file = msh_l_bool(L, 1, "file", false)};
    job *j = new_job(path, work_open_tree, push_fd);
    if (j != NULL)
        j->tree = want;
    return submit(L, j, 2);
}

static void work_umount(job *j)
{
    j->rc = msh_umount(j->path, j->flags, &j->err);
}

/* sys.umount(path, flags | nil, done) -> true | nil, err      flags as umount2's; see sys.umount_flags
 * [-0, +1..2, arg] */
static int l_umount(lua_State *L)
{
    const char *path = msh_l_check_path(L, 1);
    int flags = lua_isnil(L, 2) ? 0 : (int)msh_l_check_int(L, 2, 0, 15);
    luaL_checktype(L, 3, LUA_TFUNCTION);
    job *j = new_job(path, work_umount, NULL);
    if (j != NULL)
        j->flags = flags;
    return submit(L, j, 3);
}

static void work_remove_tree(job *j)
{
    j->rc = msh_remove_tree(j->path, &j->err);
}

/* sys.remove_tree(path, done) -> true | nil, err      [-0, +1..2, arg] */
static int l_remove_tree(lua_State *L)
{
    const char *path = msh_l_check_path(L, 1);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    return submit(L, new_job(path, work_remove_tree, NULL), 2);
}

static void work_make_sparse(job *j)
{
    j->rc = msh_make_sparse(j->path, j->number, &j->err);
}

/* sys.make_sparse(path, bytes, done) -> true | nil, err      [-0, +1..2, arg] */
static int l_make_sparse(lua_State *L)
{
    const char *path = msh_l_check_path(L, 1);
    lua_Integer bytes = msh_l_check_int(L, 2, 0, LUA_MAXINTEGER);
    luaL_checktype(L, 3, LUA_TFUNCTION);
    job *j = new_job(path, work_make_sparse, NULL);
    if (j != NULL)
        j->number = (uint64_t)bytes;
    return submit(L, j, 3);
}

static void work_detect(job *j)
{
    j->rc = msh_image_detect(j->path, &j->image, &j->err);
}

static int push_image(lua_State *L, void *arg)
{
    job *j = arg;
    lua_createtable(L, 0, 3);
    lua_pushstring(L, msh_image_text(j->image.format));
    lua_setfield(L, -2, "format");
    lua_pushstring(L, msh_image_text(j->image.inner));
    lua_setfield(L, -2, "inner");
    set_int(L, "size", j->image.size);
    return 1;
}

/* sys.detect_image(path, done) -> true | nil, err      done{format=, inner=, size=} [-0, +1..2, arg] */
static int l_detect_image(lua_State *L)
{
    const char *path = msh_l_check_path(L, 1);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    return submit(L, new_job(path, work_detect, push_image), 2);
}

/* ---- control groups ---- */

#define WITHIN_MS 2000

static void work_cgroup_remove(job *j)
{
    for (size_t i = 0; i < j->n; i++) { /* all of them; the first failure is told */
        msh_err err;
        msh_code rc = msh_cgroup_remove(j->list[i], (unsigned)j->number, &err);
        if (rc != MSH_OK && j->rc == MSH_OK) {
            j->rc = rc;
            j->err = err;
        }
    }
}

/* sys.cgroup_remove(name | {names, within=ms}, done) -> true | nil, err      [-0, +1..2, arg] */
static int l_cgroup_remove(lua_State *L)
{
    lua_Integer within = WITHIN_MS;
    if (lua_type(L, 1) == LUA_TSTRING) {
        lua_createtable(L, 1, 0);
        lua_pushvalue(L, 1);
        lua_rawseti(L, -2, 1);
        lua_replace(L, 1);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    within = msh_l_int(L, 1, "within", 0, 600000, WITHIN_MS);
    lua_Integer n = (lua_Integer)lua_rawlen(L, 1);
    luaL_argcheck(L, n <= 256, 1, "more than 256 names");
    for (lua_Integer i = 1; i <= n; i++) {
        if (lua_rawgeti(L, 1, i) != LUA_TSTRING || strlen(lua_tostring(L, -1)) != lua_rawlen(L, -1))
            return luaL_argerror(L, 1, "list of names expected");
        lua_pop(L, 1);
    }

    job *j = new_job(NULL, work_cgroup_remove, NULL);
    if (j != NULL) {
        j->number = (uint64_t)within;
        j->list = calloc((size_t)n + 1, sizeof *j->list);
        for (lua_Integer i = 1; j->list != NULL && i <= n; i++) {
            lua_rawgeti(L, 1, i);
            j->list[i - 1] = strdup(lua_tostring(L, -1));
            lua_pop(L, 1);
            if (j->list[i - 1] == NULL)
                break;
            j->n++;
        }
        if (j->n < (size_t)n) {
            free_job(j);
            j = NULL;
        }
    }
    return submit(L, j, 2);
}

/* ---- quick calls ---- */

/* sys.mknod_block(path, major, minor, mode) -> true | nil, err      [-0, +1..2, arg] */
static int l_mknod_block(lua_State *L)
{
    const char *path = msh_l_check_path(L, 1);
    uint32_t major = (uint32_t)msh_l_check_int(L, 2, 0, UINT32_MAX);
    uint32_t minor = (uint32_t)msh_l_check_int(L, 3, 0, UINT32_MAX);
    unsigned mode = lua_isnoneornil(L, 4) ? 0600 : (unsigned)msh_l_check_int(L, 4, 0, 0777);
    msh_err err = {0};
    return msh_l_result(L, msh_mknod_block(path, major, minor, mode, &err), &err);
}

/* sys.mknod_like(path, like) -> {block=, major=, minor=} | nil, err      [-0, +1..2, arg] */
static int l_mknod_like(lua_State *L)
{
    const char *path = msh_l_check_path(L, 1), *like = msh_l_check_path(L, 2);
    msh_err err = {0};
    msh_device_id id;
    if (msh_mknod_like(path, like, &id, &err) != MSH_OK)
        return msh_l_fail(L, &err);
    lua_createtable(L, 0, 3);
    lua_pushboolean(L, id.block);
    lua_setfield(L, -2, "block");
    set_int(L, "major", id.major);
    set_int(L, "minor", id.minor);
    return 1;
}

/* sys.mkdir_p(path, mode?) -> true | nil, err      [-0, +1..2, arg] */
static int l_mkdir_p(lua_State *L)
{
    const char *path = msh_l_check_path(L, 1);
    unsigned mode = lua_isnoneornil(L, 2) ? 0700 : (unsigned)msh_l_check_int(L, 2, 0, 07777);
    msh_err err = {0};
    return msh_l_result(L, msh_mkdir_p(path, mode, &err), &err);
}

/* sys.close(fd)      [-0, +0, arg] */
static int l_close(lua_State *L)
{
    int fd = (int)msh_l_check_int(L, 1, 3, INT32_MAX); /* the standard three are the process's own */
    msh_fd_close(&fd);
    return 0;
}

/* sys.pipe() -> read end, write end | nil, err      close-on-exec; the caller closes both [-0, +2, m] */
static int l_pipe(lua_State *L)
{
    int r, w;
    msh_err err = {0};
    if (msh_fd_pipe(&r, &w, &err) != MSH_OK)
        return msh_l_fail(L, &err);
    lua_pushinteger(L, r);
    lua_pushinteger(L, w);
    return 2;
}

void msh_l_open_sys(lua_State *L)
{
    static const luaL_Reg functions[] = {{"loop_attach", l_loop_attach},
                                         {"loop_detach", l_loop_detach},
                                         {"loop_verify", l_loop_verify},
                                         {"mknod_block", l_mknod_block},
                                         {"mknod_like", l_mknod_like},
                                         {"open_tree", l_open_tree},
                                         {"umount", l_umount},
                                         {"remove_tree", l_remove_tree},
                                         {"make_sparse", l_make_sparse},
                                         {"mkdir_p", l_mkdir_p},
                                         {"cgroup_remove", l_cgroup_remove},
                                         {"detect_image", l_detect_image},
                                         {"close", l_close},
                                         {"pipe", l_pipe},
                                         {NULL, NULL}};
    luaL_newlib(L, functions);
    lua_createtable(L, 0, 4);
    set_int(L, "force", 1); /* MNT_FORCE, MNT_DETACH, UMOUNT_NOFOLLOW */
    set_int(L, "detach", 2);
    set_int(L, "nofollow", 8);
    lua_setfield(L, -2, "umount_flags");
    msh_l_open_process(L);
}

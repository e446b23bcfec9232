/* core.sys: what blocks runs on the pool and answers from the loop; the quick calls answer at once. Loop devices are in
 * loop.c, processes in process.c. */
#include "bind/bound.h"
#include "bind/fields.h"
#include "bind/job.h"
#include "sys/cgroup.h"
#include "sys/fd.h"
#include "sys/image.h"
#include "sys/mounts.h"
#include "sys/tree.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#define UMOUNT_FLAGS (MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW)

typedef struct sys_job {
    msh_l_job job;
    char *path;
    char **list;
    size_t n;
    uint64_t number;
    int flags;
    msh_tree_want tree;
    int fd; /* open_tree; owned */
    msh_image image;
} sys_job;

static sys_job *of(msh_l_job *base)
{
    return MSH_LIST_OF(base, sys_job, job);
}

static void free_job(msh_l_job *base)
{
    sys_job *j = of(base);
    msh_fd_close(&j->fd);
    for (size_t i = 0; i < j->n; i++)
        free(j->list[i]);
    free(j->list);
    free(j->path);
    free(j);
}

static sys_job *new_job(const char *path, void (*work)(msh_l_job *j), msh_l_push push)
{
    sys_job *j = calloc(1, sizeof *j);
    if (j == NULL)
        return NULL;
    j->job = (msh_l_job){.work = work, .push = push, .free = free_job};
    j->fd = -1;
    if (path != NULL && (j->path = strdup(path)) == NULL) {
        free_job(&j->job);
        return NULL;
    }
    return j;
}

static int submit(lua_State *L, sys_job *j, int cb)
{
    return msh_l_job_submit(L, j != NULL ? &j->job : NULL, cb);
}

/* ---- trees and mounts ---- */

static void work_open_tree(msh_l_job *base)
{
    sys_job *j = of(base);
    j->tree.path = j->path;
    base->rc = msh_tree_open(&j->tree, &j->fd, &base->err);
}

static int push_fd(lua_State *L, void *arg)
{
    sys_job *j = of(arg);
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
    sys_job *j = new_job(path, work_open_tree, push_fd);
    if (j != NULL)
        j->tree = want;
    return submit(L, j, 2);
}

static void work_umount(msh_l_job *base)
{
    sys_job *j = of(base);
    base->rc = msh_umount(j->path, j->flags, &base->err);
}

/* sys.umount(path, flags | nil, done) -> true | nil, err      flags: of sys.umount_flags
 * [-0, +1..2, arg] */
static int l_umount(lua_State *L)
{
    const char *path = msh_l_check_path(L, 1);
    int flags = lua_isnil(L, 2) ? 0 : (int)msh_l_check_int(L, 2, 0, UMOUNT_FLAGS);
    /* With others the kernel says EINVAL also of what is mounted, which would be taken for "gone". */
    luaL_argcheck(L, (flags & ~UMOUNT_FLAGS) == 0, 2, "flags are those of sys.umount_flags");
    luaL_checktype(L, 3, LUA_TFUNCTION);
    sys_job *j = new_job(path, work_umount, NULL);
    if (j != NULL)
        j->flags = flags;
    return submit(L, j, 3);
}

static void work_remove_tree(msh_l_job *base)
{
    sys_job *j = of(base);
    base->rc = msh_remove_tree(j->path, &base->err);
}

/* sys.remove_tree(path, done) -> true | nil, err      [-0, +1..2, arg] */
static int l_remove_tree(lua_State *L)
{
    const char *path = msh_l_check_path(L, 1);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    return submit(L, new_job(path, work_remove_tree, NULL), 2);
}

static void work_make_sparse(msh_l_job *base)
{
    sys_job *j = of(base);
    base->rc = msh_make_sparse(j->path, j->number, &base->err);
}

/* sys.make_sparse(path, bytes, done) -> true | nil, err      [-0, +1..2, arg] */
static int l_make_sparse(lua_State *L)
{
    const char *path = msh_l_check_path(L, 1);
    lua_Integer bytes = msh_l_check_int(L, 2, 0, LUA_MAXINTEGER);
    luaL_checktype(L, 3, LUA_TFUNCTION);
    sys_job *j = new_job(path, work_make_sparse, NULL);
    if (j != NULL)
        j->number = (uint64_t)bytes;
    return submit(L, j, 3);
}

static void work_detect(msh_l_job *base)
{
    sys_job *j = of(base);
    base->rc = msh_image_detect(j->path, &j->image, &base->err);
}

static int push_image(lua_State *L, void *arg)
{
    sys_job *j = of(arg);
    lua_createtable(L, 0, 3);
    msh_l_set_text(L, "format", msh_image_text(j->image.format));
    msh_l_set_text(L, "inner", msh_image_text(j->image.inner));
    msh_l_set_int(L, "size", (lua_Integer)j->image.size);
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

static void work_cgroup_remove(msh_l_job *base)
{
    sys_job *j = of(base);
    for (size_t i = 0; i < j->n; i++) { /* all of them; the first failure is told */
        msh_err err;
        msh_code rc = msh_cgroup_remove(j->list[i], (unsigned)j->number, &err);
        if (rc != MSH_OK && base->rc == MSH_OK) {
            base->rc = rc;
            base->err = err;
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

    sys_job *j = new_job(NULL, work_cgroup_remove, NULL);
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
            free_job(&j->job);
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
    msh_l_set_bool(L, "block", id.block);
    msh_l_set_int(L, "major", id.major);
    msh_l_set_int(L, "minor", id.minor);
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
    static const luaL_Reg functions[] = {{"mknod_block", l_mknod_block},
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
    msh_l_set_int(L, "force", MNT_FORCE);
    msh_l_set_int(L, "detach", MNT_DETACH);
    msh_l_set_int(L, "nofollow", UMOUNT_NOFOLLOW);
    lua_setfield(L, -2, "umount_flags");
    msh_l_open_loop(L);
    msh_l_open_process(L);
}

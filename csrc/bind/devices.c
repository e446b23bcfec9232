/* core.devices: the reservation machine, driven from Lua. Facts are flat tables on this side. */
#include "bind/bound.h"
#include "bind/device_facts.h"
#include "bind/fields.h"
#include "device/resv.h"
#include <stdlib.h>
#include <string.h>

#define CLASS "moonshim.devices"

typedef struct l_devices {
    msh_l_cx *cx;
    msh_resvs *t; /* NULL: closed */
} l_devices;

static l_devices *check(lua_State *L)
{
    return luaL_checkudata(L, 1, CLASS);
}

static int l_close(lua_State *L)
{
    l_devices *u = check(L);
    msh_resvs *t = u->t;
    u->t = NULL;
    if (t != NULL) {
        msh_resvs_free(t);
        u->cx->objects--;
    }
    return 0;
}

/* ---- methods ---- */

/* t:make(want) -> id, facts | nil, err      [-0, +2, arg] */
static int l_make(lua_State *L)
{
    l_devices *u = check(L);
    msh_want w;
    msh_l_want_texts room;
    msh_l_get_want(L, 2, &w, &room);
    if (u->t == NULL)
        return msh_l_closed(L, "the device table");
    msh_err err = {0};
    msh_resv id = 0;
    msh_facts f;
    if (msh_resv_make(u->t, &w, &id, &err) != MSH_OK)
        return msh_l_fail(L, &err);
    if (msh_resv_facts(u->t, id, &f) != MSH_OK)
        return luaL_error(L, "a reservation without facts");
    msh_l_push_resv(L, id);
    lua_createtable(L, 0, 12);
    msh_l_set_facts(L, &f);
    return 2;
}

/* t:aim(id, "mapped" | "released") -> true | nil, err      [-0, +1..2, arg] */
static int l_aim(lua_State *L)
{
    static const char *const goals[] = {"mapped", "released", NULL};
    l_devices *u = check(L);
    msh_resv id = msh_l_check_resv(L, 2);
    int goal = luaL_checkoption(L, 3, NULL, goals);
    if (u->t == NULL)
        return msh_l_closed(L, "the device table");
    msh_err err = {0};
    msh_code rc = msh_resv_aim(u->t, id, goal == 0 ? MSH_AIM_MAPPED : MSH_AIM_RELEASED);
    if (rc != MSH_OK)
        msh_fail(&err, rc, "no reservation '%s'", lua_tostring(L, 2));
    return msh_l_result(L, rc, &err);
}

/* t:effect() -> {id=, op=, ...facts} | nil      what may start now, each once; t:done is owed [-0, +1, m] */
static int l_effect(lua_State *L)
{
    l_devices *u = check(L);
    msh_effect e;
    lua_createtable(L, 0, 14); /* before the effect is taken out, so that no lack of memory loses it */
    if (u->t == NULL || !msh_resv_effect(u->t, &e)) {
        lua_pushnil(L);
        return 1;
    }
    msh_l_set_int(L, "id", e.id);
    msh_l_set_text(L, "op", msh_op_text(e.op));
    msh_l_set_facts(L, &e.facts);
    return 1;
}

/* t:done(effect, "ok" | "gone" | "failed" | "unknown", reason?) -> true | nil, err      [-0, +1..2, arg] */
static int l_done(lua_State *L)
{
    static const char *const outcomes[] = {"ok", "gone", "failed", "unknown", NULL};
    l_devices *u = check(L);
    lua_Integer id = msh_l_check_int(L, 2, 1, LUA_MAXINTEGER);
    int outcome = luaL_checkoption(L, 3, NULL, outcomes);
    bool reason = !lua_isnoneornil(L, 4);
    if (u->t == NULL)
        return msh_l_closed(L, "the device table");
    msh_err why;
    if (reason)
        msh_l_to_err(L, 4, &why);
    msh_resv_done_why(u->t, (msh_effect_id)id, (msh_outcome)outcome, reason ? &why : NULL);
    lua_pushboolean(L, 1);
    return 1;
}

static const char *aim_text(msh_goal aim)
{
    return aim == MSH_AIM_MAPPED ? "mapped" : aim == MSH_AIM_RELEASED ? "released" : "none";
}

/* t:settled() -> id, aim, code | nil, message | nil, err | nil; or nil when nothing has      [-0, +1..5, m] */
static int l_settled(lua_State *L)
{
    l_devices *u = check(L);
    msh_resv r;
    msh_code code;
    if (u->t == NULL || !msh_resv_settled(u->t, &r, &code)) {
        lua_pushnil(L);
        return 1;
    }
    const msh_settlement *s = msh_resv_settlement(u->t);
    msh_l_push_resv(L, r);
    lua_pushstring(L, aim_text(s->aim));
    if (code == MSH_OK)
        return 2;
    lua_pushstring(L, msh_code_text(code));
    lua_pushstring(L, s->err.msg);
    msh_l_push_err(L, &s->err);
    return 5;
}

/* t:restore(id, facts, "mapped" | "intended") -> true | nil, err      [-0, +1..2, arg] */
static int l_restore(lua_State *L)
{
    static const char *const held[] = {"mapped", "intended", NULL};
    l_devices *u = check(L);
    msh_facts f = {0};
    msh_l_want_texts room;
    msh_resv id = msh_l_check_resv(L, 2);
    f.held = luaL_checkoption(L, 4, NULL, held) == 0 ? MSH_HELD_MAPPED : MSH_HELD_INTENDED;
    msh_l_get_want(L, 3, &f.want, &room);
    const char *guest = msh_l_str(L, 3, "guest_path", f.want.bus != MSH_BUS_VPCI);
    if (guest == NULL)
        guest = "";
    if (strlen(guest) >= sizeof f.guest_path)
        return luaL_argerror(L, 3, "field 'guest_path': too long");
    memcpy(f.guest_path, guest, strlen(guest) + 1);
    if (f.want.bus == MSH_BUS_SCSI) {
        f.controller = (uint32_t)msh_l_int_needed(L, 3, "controller", 0, MSH_SCSI_CTRLS - 1);
        f.lun = (uint32_t)msh_l_int_needed(L, 3, "lun", 0, MSH_SCSI_LUNS - 1);
    } else if (f.want.bus == MSH_BUS_PLAN9) {
        lua_getfield(L, 3, "share");
        f.share = msh_l_check_resv(L, lua_gettop(L));
        f.port = (uint32_t)msh_l_int(L, 3, "port", 0, UINT32_MAX, MSH_PLAN9_PORT);
    }
    if (u->t == NULL)
        return msh_l_closed(L, "the device table");
    msh_err err = {0};
    return msh_l_result(L, msh_resv_restore(u->t, id, &f, &err), &err);
}

static const char *state_text(msh_object_state s)
{
    static const char *const texts[] = {"absent", "up", "half", "tainted"};
    return (unsigned)s < 4 ? texts[s] : "tainted";
}

/* t:dump() -> list of {id=, aim=, pending=, facts=, parent={users=, state=, running=}, mount=...}   [-0, +1, m] */
static int l_dump(lua_State *L)
{
    l_devices *u = check(L);
    static const char *const names[] = {"parent", "mount"};
    msh_resv cursor = 0;
    msh_resv_info info;
    lua_newtable(L);
    for (lua_Integer n = 1; u->t != NULL && msh_resv_next(u->t, &cursor, &info); n++) {
        lua_createtable(L, 0, 6);
        msh_l_push_resv(L, info.resv);
        lua_setfield(L, -2, "id");
        msh_l_set_text(L, "aim", aim_text(info.aim));
        msh_l_set_bool(L, "pending", info.pending);
        lua_createtable(L, 0, 12);
        msh_l_set_facts(L, &info.facts);
        lua_setfield(L, -2, "facts");
        for (int i = 0; i < 2; i++) {
            lua_createtable(L, 0, 3);
            msh_l_set_int(L, "users", info.users[i]);
            msh_l_set_text(L, "state", state_text(info.state[i]));
            if (info.running[i] >= 0)
                msh_l_set_text(L, "running", msh_op_text((msh_op)info.running[i]));
            lua_setfield(L, -2, names[i]);
        }
        lua_rawseti(L, -2, n);
    }
    return 1;
}

/* t:counts() -> {reservations=, parents=, mounts=, running=, slots_used=, slots_boot=, effects=, late=} [-0, +1, m] */
static int l_counts(lua_State *L)
{
    l_devices *u = check(L);
    msh_resvs_counts n = {0};
    if (u->t != NULL)
        n = msh_resvs_count(u->t);
    lua_createtable(L, 0, 8);
    msh_l_set_int(L, "reservations", n.reservations);
    msh_l_set_int(L, "parents", n.parents);
    msh_l_set_int(L, "mounts", n.mounts);
    msh_l_set_int(L, "running", n.running);
    msh_l_set_int(L, "slots_used", n.slots_used);
    msh_l_set_int(L, "slots_boot", n.slots_boot);
    msh_l_set_int(L, "effects", n.effects);
    msh_l_set_int(L, "late", n.late);
    return 1;
}

/* ---- making one ---- */

typedef struct boot_disk {
    uint32_t controller, lun;
    const char *path;
} boot_disk;

static boot_disk get_boot(lua_State *L, int list, lua_Integer i)
{
    boot_disk b;
    if (lua_rawgeti(L, list, i) != LUA_TTABLE)
        luaL_argerror(L, 1, lua_pushfstring(L, "field 'scsi.boot': table expected at %I", i));
    int isint[2];
    lua_rawgeti(L, -1, 1);
    lua_Integer controller = lua_tointegerx(L, -1, &isint[0]);
    lua_rawgeti(L, -2, 2);
    lua_Integer lun = lua_tointegerx(L, -1, &isint[1]);
    if (!isint[0] || !isint[1] || controller < 0 || lun < 0 || controller > 255 || lun > 255)
        luaL_argerror(L, 1,
                      lua_pushfstring(L, "field 'scsi.boot': {controller, lun, path} expected at %I", i));
    int type = lua_rawgeti(L, -3, 3);
    if (type != LUA_TNIL && type != LUA_TSTRING)
        luaL_argerror(L, 1, lua_pushfstring(L, "field 'scsi.boot': path expected at %I", i));
    b.controller = (uint32_t)controller;
    b.lun = (uint32_t)lun;
    b.path = lua_tostring(L, -1);
    lua_replace(L, -4); /* the path stays, the rest goes */
    lua_pop(L, 2);
    return b;
}

typedef struct boot_device {
    const char *path, *instance;
    uint32_t vf;
} boot_device;

/* The strings stay on the stack. */
static boot_device get_boot_device(lua_State *L, int list, lua_Integer i)
{
    if (lua_rawgeti(L, list, i) != LUA_TTABLE)
        luaL_argerror(L, 1, lua_pushfstring(L, "field 'vpci.boot': table expected at %I", i));
    int at = lua_gettop(L);
    return (boot_device){.path = msh_l_str(L, at, "path", true),
                         .instance = msh_l_str(L, at, "instance", true),
                         .vf = (uint32_t)msh_l_int(L, at, "vf", 0, MSH_VPCI_VFS, 0)};
}

static int sub_table(lua_State *L, int t, const char *key)
{
    int type = lua_getfield(L, t, key);
    if (type == LUA_TNIL) {
        lua_pop(L, 1);
        lua_newtable(L);
    } else if (type != LUA_TTABLE) {
        luaL_argerror(L, 1,
                      lua_pushfstring(L, "field '%s': table expected, got %s", key, luaL_typename(L, -1)));
    }
    return lua_gettop(L);
}

/* core.devices{scsi={controllers=, luns=, boot=}, plan9={no_writable=}, vpci={boot=}, no_eject=, fold_case=} -> t | nil, err
 * [-0, +1..2, arg] */
static int l_devices_new(lua_State *L)
{
    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_newtable(L);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    boot_disk boot[16];
    boot_device card[16];
    int scsi = sub_table(L, 1, "scsi"), plan9 = sub_table(L, 1, "plan9");
    msh_resvs_config config = {
        .controllers = (uint32_t)msh_l_int(L, scsi, "controllers", 1, MSH_SCSI_CTRLS, MSH_SCSI_CTRLS),
        .luns = (uint32_t)msh_l_int(L, scsi, "luns", 1, MSH_SCSI_LUNS, MSH_SCSI_LUNS),
        .no_eject = msh_l_bool(L, 1, "no_eject", false),
        .no_writable = msh_l_bool(L, plan9, "no_writable", false),
        .fold_case = msh_l_bool(L, 1, "fold_case", false),
    };
    int list = sub_table(L, scsi, "boot");
    lua_Integer nboot = (lua_Integer)lua_rawlen(L, list);
    luaL_argcheck(L, nboot <= 16, 1, "field 'scsi.boot': more than 16 disks");
    luaL_checkstack(L, 128, "what the document holds");
    for (lua_Integer i = 0; i < nboot; i++)
        boot[i] = get_boot(L, list, i + 1);
    list = sub_table(L, sub_table(L, 1, "vpci"), "boot");
    lua_Integer ncards = (lua_Integer)lua_rawlen(L, list);
    luaL_argcheck(L, ncards <= 16, 1, "field 'vpci.boot': more than 16 devices");
    for (lua_Integer i = 0; i < ncards; i++)
        card[i] = get_boot_device(L, list, i + 1);

    l_devices *u = msh_l_new(L, sizeof *u, CLASS);
    msh_err err = {0};
    u->cx = msh_l_cx_of(L);
    if (msh_resvs_new(&config, &u->t, &err) != MSH_OK)
        return msh_l_fail(L, &err);
    u->cx->objects++;
    msh_code rc = MSH_OK;
    for (lua_Integer i = 0; i < nboot && rc == MSH_OK; i++)
        rc = msh_resvs_boot_disk(u->t, boot[i].controller, boot[i].lun, boot[i].path, &err);
    for (lua_Integer i = 0; i < ncards && rc == MSH_OK; i++)
        rc = msh_resvs_boot_device(u->t, card[i].path, card[i].vf, card[i].instance, &err);
    if (rc != MSH_OK) {
        lua_replace(L, 1);
        l_close(L);
        return msh_l_fail(L, &err);
    }
    return 1;
}

void msh_l_open_devices(lua_State *L)
{
    static const luaL_Reg methods[] = {{"make", l_make}, {"aim", l_aim},         {"effect", l_effect},
                                       {"done", l_done}, {"settled", l_settled}, {"restore", l_restore},
                                       {"dump", l_dump}, {"counts", l_counts},   {NULL, NULL}};
    msh_l_class(L, CLASS, methods, l_close);
    lua_pushcfunction(L, l_devices_new);
}

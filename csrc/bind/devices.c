/* core.devices: the reservation machine, driven from Lua. Facts are flat tables on this side. */
#include "bind/bound.h"
#include "bind/json.h"
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

/* ---- ids: decimal text, so that they pass through JSON whole ---- */

static void push_id(lua_State *L, msh_resv r)
{
    lua_pushfstring(L, "%I", (LUAI_UACINT)r);
}

static msh_resv check_id(lua_State *L, int idx)
{
    size_t n;
    luaL_checktype(L, idx, LUA_TSTRING);
    const char *s = lua_tolstring(L, idx, &n);
    msh_resv r = 0;
    luaL_argcheck(L, n > 0 && n <= 18 && strspn(s, "0123456789") == n, idx, "not the id of a reservation");
    for (size_t i = 0; i < n; i++)
        r = r * 10 + (msh_resv)(s[i] - '0');
    return r;
}

/* ---- wants and facts ---- */

typedef struct reading {
    const char *texts[2][MSH_RESV_LIST];
} reading;

/* A list of strings under `key`; they stay on the stack. */
static msh_texts get_texts(lua_State *L, int t, const char *key, const char **items)
{
    msh_texts out = {.items = items};
    int type = lua_getfield(L, t, key);
    if (type == LUA_TNIL)
        return out;
    if (type != LUA_TTABLE)
        luaL_argerror(L, t,
                      lua_pushfstring(L, "field '%s': list expected, got %s", key, luaL_typename(L, -1)));
    int list = lua_gettop(L);
    lua_Unsigned n = lua_rawlen(L, list);
    if (n > MSH_RESV_LIST)
        luaL_argerror(L, t, lua_pushfstring(L, "field '%s': more than %d entries", key, (int)MSH_RESV_LIST));
    luaL_checkstack(L, (int)n + 4, key);
    for (lua_Unsigned i = 1; i <= n; i++) {
        size_t len;
        if (lua_rawgeti(L, list, (lua_Integer)i) != LUA_TSTRING)
            luaL_argerror(L, t,
                          lua_pushfstring(L, "field '%s': string expected at %d, got %s", key, (int)i,
                                          luaL_typename(L, -1)));
        items[i - 1] = lua_tolstring(L, -1, &len);
        if (strlen(items[i - 1]) != len)
            luaL_argerror(L, t, lua_pushfstring(L, "field '%s': NUL byte at %d", key, (int)i));
    }
    out.n = (size_t)n;
    return out;
}

static void get_mount(lua_State *L, int t, msh_mount_config *m, const char **items)
{
    int type = lua_getfield(L, t, "mount");
    if (type == LUA_TNIL)
        return;
    if (type != LUA_TTABLE)
        luaL_argerror(L, t,
                      lua_pushfstring(L, "field 'mount': table expected, got %s", luaL_typename(L, -1)));
    int at = lua_gettop(L);
    m->read_only = msh_l_bool(L, at, "read_only", false);
    m->encrypted = msh_l_bool(L, at, "encrypted", false);
    m->ensure_filesystem = msh_l_bool(L, at, "ensure_filesystem", false);
    m->block_dev = msh_l_bool(L, at, "block_dev", false);
    m->filesystem = msh_l_str(L, at, "filesystem", false);
    m->options = get_texts(L, at, "options", items);
}

#define MSH_BUSES 3
static const char *const buses[MSH_BUSES] = {
    [MSH_BUS_SCSI] = "scsi", [MSH_BUS_PLAN9] = "plan9", [MSH_BUS_VPCI] = "vpci"};

/* Reads a want (or the want in facts) from the table at `t`. May raise; everything stays on the stack. */
static void get_want(lua_State *L, int t, msh_want *w, reading *r)
{
    luaL_checktype(L, t, LUA_TTABLE);
    memset(w, 0, sizeof *w);
    const char *bus = msh_l_str(L, t, "bus", true);
    while (w->bus < MSH_BUSES && strcmp(bus, buses[w->bus]) != 0)
        w->bus++;
    if (w->bus == MSH_BUSES)
        luaL_argerror(L, t,
                      lua_pushfstring(L, "field 'bus': 'scsi', 'plan9' or 'vpci' expected, got '%s'", bus));
    w->path = msh_l_str(L, t, "path", true);
    w->read_only = msh_l_bool(L, t, "read_only", false);
    if (w->bus == MSH_BUS_VPCI) {
        w->vf = (uint32_t)msh_l_int(L, t, "vf", 0, MSH_VPCI_VFS, 0);
        w->instance = msh_l_str(L, t, "instance", true);
    } else if (w->bus == MSH_BUS_SCSI) {
        w->type = msh_l_str(L, t, "type", false);
        w->provider = msh_l_str(L, t, "provider", false);
        w->partition = (uint32_t)msh_l_int(L, t, "partition", 0, MSH_SCSI_PARTS, 0);
        get_mount(L, t, &w->mount, r->texts[0]);
    } else {
        w->restrict_names = msh_l_bool(L, t, "restrict", false);
        w->names = get_texts(L, t, "names", r->texts[1]);
    }
}

static void set_text(lua_State *L, const char *key, const char *text)
{
    if (text == NULL || text[0] == '\0')
        return;
    lua_pushstring(L, text);
    lua_setfield(L, -2, key);
}

static void set_int(lua_State *L, const char *key, uint64_t v)
{
    lua_pushinteger(L, (lua_Integer)v);
    lua_setfield(L, -2, key);
}

static void set_bool(lua_State *L, const char *key, bool v)
{
    lua_pushboolean(L, v);
    lua_setfield(L, -2, key);
}

static void set_texts(lua_State *L, const char *key, const msh_texts *texts)
{
    lua_createtable(L, (int)texts->n, 0);
    for (size_t i = 0; i < texts->n; i++) {
        lua_pushstring(L, texts->items[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    luaL_setmetatable(L, MSH_JSON_ARRAY); /* so that [] stays [] in the journal */
    lua_setfield(L, -2, key);
}

/* Adds the facts to the table on top. */
static void set_facts(lua_State *L, const msh_facts *f)
{
    lua_pushstring(L, buses[f->want.bus]);
    lua_setfield(L, -2, "bus");
    set_text(L, "path", f->want.path);
    set_bool(L, "read_only", f->want.read_only);
    set_text(L, "guest_path", f->guest_path);
    if (f->want.bus == MSH_BUS_VPCI) {
        set_text(L, "instance", f->want.instance);
        set_int(L, "vf", f->want.vf);
        return;
    }
    if (f->want.bus == MSH_BUS_PLAN9) {
        lua_pushfstring(L, "%I", (LUAI_UACINT)f->share);
        lua_setfield(L, -2, "share");
        set_int(L, "port", f->port);
        set_bool(L, "restrict", f->want.restrict_names);
        set_texts(L, "names", &f->want.names);
        return;
    }
    const msh_mount_config *m = &f->want.mount;
    set_int(L, "controller", f->controller);
    set_int(L, "lun", f->lun);
    set_int(L, "partition", f->want.partition);
    lua_pushstring(L, f->want.type != NULL && f->want.type[0] != '\0' ? f->want.type : "VirtualDisk");
    lua_setfield(L, -2, "type");
    set_text(L, "provider", f->want.provider);
    lua_createtable(L, 0, 6);
    set_bool(L, "read_only", m->read_only);
    set_bool(L, "encrypted", m->encrypted);
    set_bool(L, "ensure_filesystem", m->ensure_filesystem);
    set_bool(L, "block_dev", m->block_dev);
    set_text(L, "filesystem", m->filesystem);
    set_texts(L, "options", &m->options);
    lua_setfield(L, -2, "mount");
}

/* ---- methods ---- */

/* t:make(want) -> id, facts | nil, err      [-0, +2, arg] */
static int l_make(lua_State *L)
{
    l_devices *u = check(L);
    msh_want w;
    reading r;
    get_want(L, 2, &w, &r);
    if (u->t == NULL)
        return msh_l_closed(L, "the device table");
    msh_err err = {0};
    msh_resv id = 0;
    msh_facts f;
    if (msh_resv_make(u->t, &w, &id, &err) != MSH_OK)
        return msh_l_fail(L, &err);
    if (msh_resv_facts(u->t, id, &f) != MSH_OK)
        return luaL_error(L, "a reservation without facts");
    push_id(L, id);
    lua_createtable(L, 0, 12);
    set_facts(L, &f);
    return 2;
}

/* t:aim(id, "mapped" | "released") -> true | nil, err      [-0, +1..2, arg] */
static int l_aim(lua_State *L)
{
    static const char *const goals[] = {"mapped", "released", NULL};
    l_devices *u = check(L);
    msh_resv id = check_id(L, 2);
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
    set_int(L, "id", e.id);
    lua_pushstring(L, msh_op_text(e.op));
    lua_setfield(L, -2, "op");
    set_facts(L, &e.facts);
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
    push_id(L, r);
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
    reading r;
    msh_resv id = check_id(L, 2);
    f.held = luaL_checkoption(L, 4, NULL, held) == 0 ? MSH_HELD_MAPPED : MSH_HELD_INTENDED;
    get_want(L, 3, &f.want, &r);
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
        f.share = check_id(L, lua_gettop(L));
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
        push_id(L, info.resv);
        lua_setfield(L, -2, "id");
        set_text(L, "aim", aim_text(info.aim));
        set_bool(L, "pending", info.pending);
        lua_createtable(L, 0, 12);
        set_facts(L, &info.facts);
        lua_setfield(L, -2, "facts");
        for (int i = 0; i < 2; i++) {
            lua_createtable(L, 0, 3);
            set_int(L, "users", info.users[i]);
            set_text(L, "state", state_text(info.state[i]));
            if (info.running[i] >= 0)
                set_text(L, "running", msh_op_text((msh_op)info.running[i]));
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
    set_int(L, "reservations", n.reservations);
    set_int(L, "parents", n.parents);
    set_int(L, "mounts", n.mounts);
    set_int(L, "running", n.running);
    set_int(L, "slots_used", n.slots_used);
    set_int(L, "slots_boot", n.slots_boot);
    set_int(L, "effects", n.effects);
    set_int(L, "late", n.late);
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

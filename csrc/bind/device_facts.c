#include "bind/device_facts.h"
#include "bind/fields.h"
#include "bind/json.h"
#include <string.h>

void msh_l_push_resv(lua_State *L, msh_resv r)
{
    lua_pushfstring(L, "%I", (LUAI_UACINT)r);
}

msh_resv msh_l_check_resv(lua_State *L, int idx)
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

void msh_l_get_want(lua_State *L, int t, msh_want *w, msh_l_want_texts *room)
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
        get_mount(L, t, &w->mount, room->options);
    } else {
        w->restrict_names = msh_l_bool(L, t, "restrict", false);
        w->names = get_texts(L, t, "names", room->names);
    }
}

/* Nothing for what is not there. */
static void set_text(lua_State *L, const char *key, const char *text)
{
    if (text != NULL && text[0] != '\0')
        msh_l_set_text(L, key, text);
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

void msh_l_set_facts(lua_State *L, const msh_facts *f)
{
    msh_l_set_text(L, "bus", buses[f->want.bus]);
    set_text(L, "path", f->want.path);
    msh_l_set_bool(L, "read_only", f->want.read_only);
    set_text(L, "guest_path", f->guest_path);
    if (f->want.bus == MSH_BUS_VPCI) {
        set_text(L, "instance", f->want.instance);
        msh_l_set_int(L, "vf", f->want.vf);
        return;
    }
    if (f->want.bus == MSH_BUS_PLAN9) {
        msh_l_push_resv(L, f->share);
        lua_setfield(L, -2, "share");
        msh_l_set_int(L, "port", f->port);
        msh_l_set_bool(L, "restrict", f->want.restrict_names);
        set_texts(L, "names", &f->want.names);
        return;
    }
    const msh_mount_config *m = &f->want.mount;
    msh_l_set_int(L, "controller", f->controller);
    msh_l_set_int(L, "lun", f->lun);
    msh_l_set_int(L, "partition", f->want.partition);
    msh_l_set_text(L, "type", f->want.type != NULL && f->want.type[0] != '\0' ? f->want.type : "VirtualDisk");
    set_text(L, "provider", f->want.provider);
    lua_createtable(L, 0, 6);
    msh_l_set_bool(L, "read_only", m->read_only);
    msh_l_set_bool(L, "encrypted", m->encrypted);
    msh_l_set_bool(L, "ensure_filesystem", m->ensure_filesystem);
    msh_l_set_bool(L, "block_dev", m->block_dev);
    set_text(L, "filesystem", m->filesystem);
    set_texts(L, "options", &m->options);
    lua_setfield(L, -2, "mount");
}

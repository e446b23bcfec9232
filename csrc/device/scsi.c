/* SCSI: a disk's key is its host path, its slot a controller and a LUN. */
#include "device/machine.h"
#include <stdio.h>

static const char *const types[] = {"VirtualDisk", "PassThru", "ExtensibleVirtualDisk"};

static const char *type_of(const msh_want *want)
{
    return want->type != NULL && want->type[0] != '\0' ? want->type : types[0];
}

static bool same(const msh_resvs *t, const msh_parent *p, const msh_want *want)
{
    return msh_text_same(p->want.path, want->path, t->config.fold_case);
}

static msh_code agrees(const msh_parent *p, const msh_want *want, msh_err *err)
{
    if (p->boot)
        return msh_fail(err, MSH_FAILED_PRECONDITION, "disk %.120s is a boot disk of this VM", want->path);
    if (p->want.read_only != want->read_only)
        return msh_fail(err, MSH_FAILED_PRECONDITION,
                        "disk %.120s is in use %s in this VM and cannot be %s at the same time", want->path,
                        p->want.read_only ? "read-only" : "writable",
                        want->read_only ? "read-only" : "writable");
    if (!msh_text_same(type_of(&p->want), type_of(want), false) ||
        !msh_text_same(p->want.provider, want->provider, false))
        return msh_fail(err, MSH_FAILED_PRECONDITION, "disk %.120s is in use as %s %s", want->path,
                        type_of(&p->want), p->want.provider);
    return MSH_OK;
}

static msh_code check(const msh_resvs *t, const msh_want *want, msh_err *err)
{
    (void)t;
    bool known = false;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        known = known || msh_text_same(type_of(want), types[i], false);
    if (!known)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "disk type %s is not known", want->type);
    bool extensible = msh_text_same(type_of(want), types[2], false);
    if (extensible != (want->provider != NULL && want->provider[0] != '\0'))
        return msh_fail(err, MSH_INVALID_ARGUMENT, "a provider goes with type %s, and with no other",
                        types[2]);
    if (want->partition > MSH_SCSI_PARTS)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "partition %u is out of range", want->partition);
    if (want->names.n > 0 || want->restrict_names)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "names are for shares, not for disks");
    return MSH_OK;
}

static uint32_t slot_of(const msh_parent *p)
{
    return p->controller * MSH_SCSI_LUNS + p->lun;
}

static msh_code place(msh_resvs *t, msh_parent *p, const msh_facts *facts, msh_err *err)
{
    if (facts != NULL) {
        if (facts->controller >= t->config.controllers || facts->lun >= t->config.luns)
            return msh_fail(err, MSH_OUT_OF_RANGE, "slot %u:%u is outside of %u controllers with %u LUNs",
                            facts->controller, facts->lun, t->config.controllers, t->config.luns);
        p->controller = facts->controller;
        p->lun = facts->lun;
        if (t->slots[slot_of(p)] != NULL)
            return msh_fail(err, MSH_FAILED_PRECONDITION, "slot %u:%u is taken by %s", p->controller, p->lun,
                            t->slots[slot_of(p)]->boot ? "a boot disk" : "another disk");
        t->slots[slot_of(p)] = p;
        return MSH_OK;
    }
    for (p->controller = 0; p->controller < t->config.controllers; p->controller++)
        for (p->lun = 0; p->lun < t->config.luns; p->lun++)
            if (t->slots[slot_of(p)] == NULL) {
                t->slots[slot_of(p)] = p;
                return MSH_OK;
            }
    return msh_fail(err, MSH_RESOURCE_EXHAUSTED,
                    "no free SCSI slot: all %u of %u controllers are taken, %u of them by boot disks",
                    t->config.controllers * t->config.luns, t->config.controllers, t->counts.slots_boot);
}

static void unplace(msh_resvs *t, msh_parent *p)
{
    t->slots[slot_of(p)] = NULL;
}

static void guest_path(const msh_mount *m, char *out, size_t n)
{
    const msh_parent *p = m->o.parent;
    snprintf(out, n, "/run/mounts/scsi/%u_%u_%u", p->controller, p->lun, m->partition);
}

static uint8_t ways_down(const msh_resvs *t)
{
    return t->config.no_eject ? 1 : 2;
}

static msh_op down(uint8_t left)
{
    return left == 2 ? MSH_OP_EJECT : MSH_OP_DETACH;
}

const msh_bus_ops msh_scsi = {.bus = MSH_BUS_SCSI,
                              .up = MSH_OP_ATTACH,
                              .same = same,
                              .agrees = agrees,
                              .check = check,
                              .place = place,
                              .unplace = unplace,
                              .guest_path = guest_path,
                              .ways_down = ways_down,
                              .down = down,
                              .mount_up = MSH_OP_MOUNT,
                              .mount_ways_down = 1};

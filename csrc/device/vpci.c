/* vPCI: a device's key is its host path and its virtual function, its place in the VM an instance GUID. The guest is told to
 * wait for it, and nothing when it goes: a removal that asks the guest can hang, and was tried by others. */
#include "base/guid.h"
#include "device/machine.h"
#include <string.h>

static bool same(const msh_resvs *t, const msh_parent *p, const msh_want *want)
{
    return p->want.vf == want->vf && msh_text_same(p->want.path, want->path, t->config.fold_case);
}

static msh_code agrees(const msh_parent *p, const msh_want *want, msh_err *err)
{
    (void)p; /* everything is in the key; a device of the VM's document is shared like any other */
    (void)want;
    (void)err;
    return MSH_OK;
}

static msh_code check(const msh_resvs *t, const msh_want *want, msh_err *err)
{
    (void)t;
    msh_guid g;
    char text[MSH_GUID_TEXT];
    if (want->instance == NULL || !msh_guid_parse(want->instance, &g))
        return msh_fail(err, MSH_INVALID_ARGUMENT, "a device needs a GUID as its instance");
    msh_guid_format(&g, text);
    if (strcmp(text, want->instance) != 0)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "the instance %s is not in lower case", want->instance);
    if (want->vf > MSH_VPCI_VFS)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "virtual function %u is out of range", want->vf);
    if (want->partition != 0 || (want->type != NULL && want->type[0] != '\0') || want->names.n > 0 ||
        want->restrict_names || want->read_only)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "partition, type, names and rights are not for devices");
    static const msh_mount_config none;
    if (!msh_mount_same(&want->mount, &none))
        return msh_fail(err, MSH_INVALID_ARGUMENT, "a device has no mount settings");
    return MSH_OK;
}

static msh_code place(msh_resvs *t, msh_parent *p, const msh_facts *facts, msh_err *err)
{
    (void)facts; /* the instance of a want and of saved facts is the same field */
    for (msh_node *n = t->parents.next; n != &t->parents; n = n->next) {
        const msh_parent *other = MSH_LIST_OF(n, msh_parent, all);
        if (other->bus == &msh_vpci && strcmp(other->want.instance, p->want.instance) == 0)
            return msh_fail(err, MSH_FAILED_PRECONDITION, "instance %s is another device", p->want.instance);
    }
    return MSH_OK;
}

static void unplace(msh_resvs *t, msh_parent *p)
{
    (void)t;
    (void)p;
}

static void guest_path(const msh_mount *m, char *out, size_t n)
{
    (void)m; /* where its nodes are is the guest's business */
    if (n > 0)
        out[0] = '\0';
}

static uint8_t ways_down(const msh_resvs *t)
{
    (void)t;
    return 1;
}

static msh_op down(uint8_t left)
{
    (void)left;
    return MSH_OP_REMOVE;
}

const msh_bus_ops msh_vpci = {.bus = MSH_BUS_VPCI,
                              .up = MSH_OP_ASSIGN,
                              .same = same,
                              .agrees = agrees,
                              .check = check,
                              .place = place,
                              .unplace = unplace,
                              .guest_path = guest_path,
                              .ways_down = ways_down,
                              .down = down,
                              .mount_up = MSH_OP_WAIT,
                              .mount_ways_down = 0,
                              .spoils = true};

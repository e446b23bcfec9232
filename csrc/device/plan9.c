/* Plan9: a share's key is its host path with its rights, its name a number that is never used twice. */
#include "device/machine.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bool same(const msh_resvs *t, const msh_parent *p, const msh_want *want)
{
    bool fold = t->config.fold_case;
    return p->want.read_only == want->read_only && p->want.restrict_names == want->restrict_names &&
           msh_text_same(p->want.path, want->path, fold) && msh_texts_same(p->want.names, want->names, fold);
}

static msh_code agrees(const msh_parent *p, const msh_want *want, msh_err *err)
{
    (void)p; /* everything is in the key */
    (void)want;
    (void)err;
    return MSH_OK;
}

static msh_code check(const msh_resvs *t, const msh_want *want, msh_err *err)
{
    if (t->config.no_writable && !want->read_only)
        return msh_fail(err, MSH_PERMISSION_DENIED, "writable shares are denied by policy: %.120s",
                        want->path);
    if (want->restrict_names != (want->names.n > 0))
        return msh_fail(err, MSH_INVALID_ARGUMENT, "a restricted share has names, and only that");
    for (size_t i = 0; i < want->names.n; i++) {
        const char *name = want->names.items[i];
        if (strchr(name, '/') != NULL || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            return msh_fail(err, MSH_INVALID_ARGUMENT, "%.60s is not the name of a file", name);
    }
    if (want->partition != 0 || (want->type != NULL && want->type[0] != '\0'))
        return msh_fail(err, MSH_INVALID_ARGUMENT, "partition and type are for disks, not for shares");
    static const msh_mount_config none;
    if (!msh_mount_same(&want->mount, &none))
        return msh_fail(err, MSH_INVALID_ARGUMENT, "a share has no mount settings of its own");
    return MSH_OK;
}

static msh_code place(msh_resvs *t, msh_parent *p, const msh_facts *facts, msh_err *err)
{
    if (facts == NULL) {
        p->share = t->next_share++;
        return MSH_OK;
    }
    if (facts->share == UINT64_MAX)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "the number of the share is out of range");
    for (msh_node *n = t->parents.next; n != &t->parents; n = n->next) {
        const msh_parent *other = MSH_LIST_OF(n, msh_parent, all);
        if (other->bus == &msh_plan9 && other->share == facts->share)
            return msh_fail(err, MSH_FAILED_PRECONDITION, "share %" PRIu64 " is another one", facts->share);
    }
    p->share = facts->share;
    if (t->next_share <= p->share)
        t->next_share = p->share + 1;
    return MSH_OK;
}

static void unplace(msh_resvs *t, msh_parent *p)
{
    (void)t; /* a name is never given back */
    (void)p;
}

static void guest_path(const msh_mount *m, char *out, size_t n)
{
    snprintf(out, n, "/run/mounts/plan9/%" PRIu64, m->o.parent->share);
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

const msh_bus_ops msh_plan9 = {.bus = MSH_BUS_PLAN9,
                               .up = MSH_OP_ADD,
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

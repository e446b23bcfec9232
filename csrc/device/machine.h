/* device/machine.h - what the files of this layer share: objects, reservations, and what a bus supplies.
 *
 * Layer      device, inside only. See resv.h for the words and rules. */
#ifndef MSH_DEVICE_MACHINE_H
#define MSH_DEVICE_MACHINE_H
#include "base/idmap.h"
#include "base/list.h"
#include "device/resv.h"

#define MSH_SLOTS (MSH_SCSI_CTRLS * MSH_SCSI_LUNS)

/* The life of a parent or a mount.
 *   absent   down_left == 0
 *   up       usable, down_left == all of its effects down (none of a mount that goes with its parent)
 *   half     not usable, some effects down are done
 *   tainted  not usable, down_left > 0
 * Always: a parent that is not usable has no usable mount; an absent one has only absent mounts. */
typedef struct msh_object {
    struct msh_parent *parent; /* of a mount; NULL on a parent */
    uint32_t users;            /* reservations */
    uint8_t down_left;         /* effects that are owed on the way down */
    bool usable;
    bool was_usable; /* when the running or unknown effect began */
    msh_op op;       /* of the running or unknown effect */
    msh_effect_id running;
    msh_effect_id unknown; /* ended as unknown, and nothing was done since; never set beside `running` */
} msh_object;

typedef struct msh_parent { /* a disk, a share or a device */
    msh_object o;
    const struct msh_bus_ops *bus;
    msh_want want; /* owned copy; mount and partition are empty */
    void *memory;  /* what `want` points to */
    bool boot;     /* a boot disk: occupies its slot, has no reservations; a boot device: held for ever */
    uint32_t controller, lun;
    uint64_t share;
    uint64_t key;                 /* hash of the path */
    struct msh_parent *same_hash; /* the next one in the index */
    msh_node all;                 /* in msh_resvs.parents */
    msh_node dirty;               /* in msh_resvs.dirty: an effect may be due */
    msh_node mounts;
    msh_node pending; /* reservations under way */
} msh_parent;

typedef struct msh_mount {
    msh_object o;
    uint32_t partition;
    msh_mount_config config; /* owned copy */
    void *memory;
    msh_node node; /* in msh_parent.mounts */
} msh_mount;

typedef struct msh_claim { /* a reservation */
    msh_resv id;
    msh_mount *mount; /* NULL once released */
    msh_goal aim;
    bool pending; /* in msh_parent.pending; else it rests or is in msh_resvs.settled */
    msh_code code;
    msh_err *why;  /* owned; NULL when there is none, or no memory for it */
    msh_node node; /* in msh_parent.pending or msh_resvs.settled */
    msh_node all;  /* in msh_resvs.claims, by number */
} msh_claim;

struct msh_resvs {
    msh_resvs_config config;
    msh_idmap claims;  /* by number */
    msh_idmap effects; /* object by running or unknown effect */
    msh_idmap index;   /* first parent by hash of its path */
    msh_node by_number, parents, dirty, settled;
    msh_parent *slots[MSH_SLOTS];
    uint64_t next_share;
    msh_settlement last;
    msh_resvs_counts counts;
};

/* What a kind of device supplies: its key, its slot, its guest path and its effects. */
typedef struct msh_bus_ops {
    msh_bus bus;
    msh_op up;
    /* The wants of the parent are the same object / can share it. */
    bool (*same)(const msh_resvs *t, const msh_parent *p, const msh_want *want);
    msh_code (*agrees)(const msh_parent *p, const msh_want *want, msh_err *err);
    msh_code (*check)(const msh_resvs *t, const msh_want *want, msh_err *err);
    /* Chooses the slot or the share's name, or takes the one of `facts` when it is not NULL. */
    msh_code (*place)(msh_resvs *t, msh_parent *p, const msh_facts *facts, msh_err *err);
    void (*unplace)(msh_resvs *t, msh_parent *p);
    void (*guest_path)(const msh_mount *m, char *out, size_t n);
    uint8_t (*ways_down)(const msh_resvs *t);
    msh_op (*down)(uint8_t left);
    msh_op mount_up;
    uint8_t mount_ways_down; /* 0: a mount goes with its parent, without an effect of its own */
    bool spoils;             /* what went wrong half way is not used again before it is down */
} msh_bus_ops;
extern const msh_bus_ops msh_scsi, msh_plan9, msh_vpci;

/* want.c */
msh_code msh_want_check(const msh_want *want, msh_err *err);
/* Cleans `path` into out[MSH_RESV_PATH + 1]. invalid_argument: empty, too long or (unless `fold`) not absolute. */
msh_code msh_path_clean(const char *path, bool fold, char *out, msh_err *err);
uint64_t msh_path_hash(const char *path, bool fold);
bool msh_text_same(const char *a, const char *b, bool fold); /* NULL is "" */
bool msh_texts_same(msh_texts a, msh_texts b, bool fold);    /* as sets */
bool msh_mount_same(const msh_mount_config *a, const msh_mount_config *b);
/* Copies in one allocation, given in *memory; false without memory. */
bool msh_want_copy(const msh_want *want, const char *path, msh_want *out, void **memory);
bool msh_mount_copy(const msh_mount_config *config, msh_mount_config *out, void **memory);

/* table.c */
/* Finds or makes the objects of `want` and counts one user on them. `facts`: restoring. */
msh_code msh_mount_take(msh_resvs *t, const msh_want *want, const msh_facts *facts, msh_mount **out,
                        msh_err *err);
void msh_mount_drop(msh_resvs *t, msh_mount *m);      /* one user less; frees what nobody uses */
void msh_forget_unknown(msh_resvs *t, msh_object *o); /* its late answer will be dropped */
msh_code msh_claim_add(msh_resvs *t, msh_resv id, msh_mount *m, msh_claim **out, msh_err *err);
void msh_facts_of(const msh_parent *p, const msh_mount *m, msh_facts *out); /* m: NULL for the parent alone */

/* resv.c */
void msh_parent_settle(msh_resvs *t, msh_parent *p); /* settles what needs no effect; an effect may be due */
static inline uint8_t msh_ways_down(const msh_resvs *t, const msh_object *o)
{
    return o->parent != NULL ? o->parent->bus->mount_ways_down : ((const msh_parent *)o)->bus->ways_down(t);
}
#endif

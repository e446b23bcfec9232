/* device/resv.h - the reservation machine: who may use which shared device object, and what must happen next.
 *
 * Layer      device: base/ only. No host, no guest, no clock, no Lua: it names effects, a driver performs
 *            them and tells how they ended.
 * Words      reservation = one claim on a mount; object = what claims share: a mount, and its parent, a
 *            disk or a share; effect = one host or guest call; aim = where the owner of a reservation
 *            wants it; settled = it is there, or the reason why not; tainted = nobody knows whether the
 *            effect took place; vf = virtual function of a PCI device.
 *
 *   disk    absent --attach--> attached --eject--> ejected --detach--> absent
 *   share   absent --add-----> added --remove--> absent
 *   device  absent --assign--> assigned --remove--> absent
 *   mount   absent --mount---> mounted --unmount--> absent      (its parent is up the whole time)
 *   view    absent --wait----> seen by the guest; goes with its device, and nothing is sent for that
 *
 *   outcome   up                                        down
 *   ok        the object is up                          the next effect down, or absent
 *   gone      absent; those who wait fail with `gone`   as ok: of this effect only, the next still happens
 *   failed    absent; those who wait fail               as before; those who wait fail
 *   unknown   tainted; those who wait fail              tainted; those who wait fail
 *
 * Nothing is tried again by itself: a new aim is the retry, and it resumes where the object stands.
 * A device whose wait or removal failed, or whose outcome is unknown, is spoiled: only its removal is left, and who
 * wants it meanwhile is refused with failed_precondition.
 *
 * Ownership  everything given in is copied. Facts given out are borrowed: those of an effect until it is
 *            done, those of a reservation until the next call that changes the table.
 * Always     1. effects belong to objects. A reservation is counted once, on its mount, from make to the
 *               end of its release; so a retry cannot take another holder's mount away.
 *            2. an object goes up once for all that wait for it, and down when its last reservation
 *               leaves; what others hold is left to them, and the leaver is done.
 *            3. a tainted object goes all the way down before anyone uses it; its slot is free only then.
 *            4. a host path has one slot; a slot has one disk, and is free only when nothing is left of
 *               it and no reservation names it. Slots of boot disks are never given away. Share names are
 *               never reused. A function of a device is assigned once, under one instance.
 *            5. at most one effect runs per object; objects do not wait for each other, except a mount
 *               for its parent on the way up and a parent for its mounts on the way down.
 *            6. the table is an index: it can be rebuilt from facts by msh_resv_restore, and is never saved.
 * See        scsi_test.c, plan9_test.c, vpci_test.c (scenarios), explore_test.c (every state of small worlds), README.md */
#ifndef MSH_DEVICE_RESV_H
#define MSH_DEVICE_RESV_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct msh_resvs msh_resvs;
typedef uint64_t msh_resv;      /* grows per table and is never reused; 0 is none */
typedef uint64_t msh_effect_id; /* likewise */

typedef enum msh_bus { MSH_BUS_SCSI, MSH_BUS_PLAN9, MSH_BUS_VPCI } msh_bus;
typedef enum msh_goal { MSH_AIM_NONE, MSH_AIM_MAPPED, MSH_AIM_RELEASED } msh_goal;
typedef enum msh_outcome { MSH_DONE_OK, MSH_DONE_GONE, MSH_DONE_FAILED, MSH_DONE_UNKNOWN } msh_outcome;
typedef enum msh_op {
    MSH_OP_ATTACH,  /* host: put the disk into its slot */
    MSH_OP_ADD,     /* host: add the share */
    MSH_OP_MOUNT,   /* guest */
    MSH_OP_UNMOUNT, /* guest; carries every field of the mount */
    MSH_OP_EJECT,   /* guest: forget the device */
    MSH_OP_DETACH,  /* host */
    MSH_OP_REMOVE,  /* host: the share, or the device */
    MSH_OP_ASSIGN,  /* host: give the device to the VM */
    MSH_OP_WAIT     /* guest: until it sees the device */
} msh_op;

#define MSH_RESV_PATH  4095u  /* longest host path */
#define MSH_RESV_LIST  64u    /* most options, most names */
#define MSH_RESV_TEXT  255u   /* longest option or name */
#define MSH_RESV_WORD  31u    /* longest disk type, provider, file system */
#define MSH_RESV_MAX   65536u /* most reservations in a table */
#define MSH_SCSI_LUNS  64u    /* per controller */
#define MSH_SCSI_CTRLS 4u
#define MSH_SCSI_PARTS 65535u /* highest partition; 0 is the whole disk */
#define MSH_PLAN9_PORT 564u
#define MSH_VPCI_VFS   65535u /* highest virtual function; 0 is also the device itself */

typedef struct msh_texts { /* a borrowed list */
    const char *const *items;
    size_t n;
} msh_texts;

typedef struct msh_mount_config {
    bool read_only, encrypted, ensure_filesystem, block_dev;
    const char *filesystem; /* NULL or "": detect */
    msh_texts options;
} msh_mount_config;

/* What is asked for. Two wants share an object when they are equal in all that the object consists of:
 *   disk    key: path; must agree: read_only, type, provider (else failed_precondition)
 *   mount   key: disk, partition; must agree: the mount config, options as a set without letter case
 *   share   key: path, read_only, restrict_names, names as a set
 *   device  key: path, vf; `instance` is only taken when the device is a new one */
typedef struct msh_want {
    msh_bus bus;
    const char
        *path; /* absolute, symbolic links already followed; cleaned here: a//b, a/./b, a/c/../b are a/b */
    bool read_only;
    /* scsi */
    const char *type;     /* VirtualDisk (also NULL), PassThru, ExtensibleVirtualDisk */
    const char *provider; /* of an ExtensibleVirtualDisk; else NULL or "" */
    uint32_t partition;
    msh_mount_config mount;
    /* plan9 */
    bool restrict_names; /* only `names` are visible; then there is at least one name, else there is none */
    msh_texts names;
    /* vpci */
    uint32_t vf;
    const char *instance; /* a fresh GUID, lower case; in facts the one under which the device is assigned */
} msh_want;

/* How sure the holder of saved facts is. */
typedef enum msh_held { MSH_HELD_INTENDED, MSH_HELD_MAPPED } msh_held;

/* Everything that is chosen here, and what it was chosen for. Of an effect on a disk, `want.mount` and
 * `partition` are empty and so is guest_path; an effect on a mount carries all. */
typedef struct msh_facts {
    msh_want want;            /* path cleaned */
    uint32_t controller, lun; /* scsi */
    uint64_t share;           /* plan9: the name is this number in decimal */
    uint32_t port;            /* plan9 */
    char guest_path[56];      /* /run/mounts/scsi/<c>_<l>_<p>, /run/mounts/plan9/<share>; "" of a device */
    msh_held held;            /* for msh_resv_restore */
} msh_facts;

typedef struct msh_effect {
    msh_effect_id id;
    msh_op op;
    msh_facts facts;
} msh_effect;

typedef struct msh_resvs_config {
    uint32_t controllers, luns; /* the SCSI topology; 0 is 4 and 64; 1..4, 1..64 */
    bool no_eject;              /* the guest needs no eject before a detach (Windows guests) */
    bool no_writable;           /* plan9: refuse shares that are not read-only */
    bool fold_case; /* the host's paths and names have no letter case (Windows hosts); ASCII letters */
} msh_resvs_config;

msh_code msh_resvs_new(const msh_resvs_config *config, msh_resvs **out, msh_err *err);
void msh_resvs_free(msh_resvs *t); /* NULL is fine */
/* Marks a slot as taken by the VM's document, for ever. `path` (may be NULL) is then refused to reservations.
 * out_of_range outside the topology; already_exists for a taken slot or a known path. */
msh_code msh_resvs_boot_disk(msh_resvs *t, uint32_t controller, uint32_t lun, const char *path, msh_err *err);
/* Marks a device as assigned by the VM's document: it is up, reservations share it, and nothing ever removes it.
 * already_exists for a known device or instance. */
msh_code msh_resvs_boot_device(msh_resvs *t, const char *path, uint32_t vf, const char *instance,
                               msh_err *err);

/* Names it, chooses slot and guest path; no effect. On failure nothing changed.
 * invalid_argument: a malformed want. permission_denied: no_writable. resource_exhausted: no free slot, too
 * many reservations, no memory. failed_precondition: in use with another configuration, or a boot disk. */
msh_code msh_resv_make(msh_resvs *t, const msh_want *want, msh_resv *out, msh_err *err);
/* Sets the aim, also again after an error and also while effects run. One settlement follows each aim; a new
 * aim takes the place of one that has not settled or whose settlement was not collected. After a release has
 * settled ok the reservation is forgotten. not_found: no such reservation (for a release that means: done).
 */
msh_code msh_resv_aim(msh_resvs *t, msh_resv r, msh_goal goal);
/* The next effect that may start now; each is given out once and must be reported by msh_resv_done. */
bool msh_resv_effect(msh_resvs *t, msh_effect *out);
/* Ends an effect. An id that is not running is a late answer: it is believed when the effect ended as unknown
 * and nothing has been done to its object since, else dropped and counted. */
void msh_resv_done(msh_resvs *t, msh_effect_id e, msh_outcome o);
/* As msh_resv_done, with the reason that those who wait will get. An unknown outcome without a reason fails
 * them with `unknown`, a failed one with `internal`, a gone one with `gone`. */
void msh_resv_done_why(msh_resvs *t, msh_effect_id e, msh_outcome o, const msh_err *why);
/* The next reservation that reached its aim (MSH_OK) or could not, oldest first. */
bool msh_resv_settled(msh_resvs *t, msh_resv *r, msh_code *code);
/* More about what msh_resv_settled gave last: the aim, and the reason when it failed. Borrowed until the next
 * call of msh_resv_settled. */
typedef struct msh_settlement {
    msh_resv resv;
    msh_goal aim;
    msh_err err; /* .code is MSH_OK when it was reached */
} msh_settlement;
const msh_settlement *msh_resv_settlement(const msh_resvs *t);

/* Puts a reservation of an earlier table back, under its old number. Facts held as MAPPED are up; INTENDED
 * ones may be anything, so their objects are tainted unless another restored reservation vouches for them.
 * already_exists: the number is taken. invalid_argument, permission_denied, out_of_range: facts that make() would
 * not produce.
 * failed_precondition: they contradict what is here (slot of another disk, another configuration, an effect
 * is running). */
msh_code msh_resv_restore(msh_resvs *t, msh_resv r, const msh_facts *f, msh_err *err);

/* Facts of a live reservation; not_found otherwise. `held` is MAPPED when its whole chain is up. */
msh_code msh_resv_facts(const msh_resvs *t, msh_resv r, msh_facts *out);

/* What is here, for `dump` and diagnostics; in order of number. Start with *cursor = 0. */
typedef enum msh_object_state {
    MSH_OBJ_ABSENT,
    MSH_OBJ_UP,
    MSH_OBJ_HALF,   /* a disk that was ejected and not detached */
    MSH_OBJ_TAINTED /* nobody knows */
} msh_object_state;
typedef struct msh_resv_info {
    msh_resv resv;
    msh_goal aim;
    bool pending; /* not settled */
    msh_facts facts;
    uint32_t users[2];         /* reservations on the parent, on the mount */
    msh_object_state state[2]; /* likewise */
    int running[2];            /* msh_op that runs on it, -1 for none */
} msh_resv_info;
bool msh_resv_next(const msh_resvs *t, msh_resv *cursor, msh_resv_info *out);

typedef struct msh_resvs_counts {
    size_t reservations, parents, mounts, running;
    uint32_t slots_used, slots_boot; /* used: without boot */
    uint64_t effects, late;          /* effects given out so far; late answers dropped */
} msh_resvs_counts;
msh_resvs_counts msh_resvs_count(const msh_resvs *t);

const char *msh_op_text(msh_op op); /* "attach", "add", ... */
#endif
